"""Groups of files that import each other, directly or through others: no value passes from one group to another.

So nobody need ask in one group who calls a function of another, nor for clients that none of its files imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.form import SERVED
from resilient_agents.scan.index import top_level

if TYPE_CHECKING:
    from resilient_agents.scan.tree import SourceFile, Tree

__all__ = ["Groups"]


class Groups:
    """Of all files of a tree; each is known by one of its files."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._above = {file: file for file in tree.files}
        """A file of the same group that stands for it; one that stands for itself stands for its group."""
        self._imported: dict[SourceFile, set[str]] = {}
        """Top-level modules by what stands for a group."""
        self._served: SourceFile | None = None

    def add(self, file: SourceFile, imported: frozenset[str]) -> None:
        """What a file imports."""
        self._imported.setdefault(self.of(file), set()).update(top_level(imported))
        if SERVED in imported:  # who takes it may have been found by a server
            self._served = self._served or file
            self._join(file, self._served)
        for other in _linked(self._tree, file, imported):
            if other is not None:
                self._join(file, other)

    def of(self, file: SourceFile) -> SourceFile:
        above = self._above
        while above[file] is not file:
            above[file] = file = above[above[file]]
        return file

    def imported(self, file: SourceFile) -> set[str]:
        """The top-level modules that the files of its group import."""
        return self._imported[self.of(file)]

    def _join(self, one: SourceFile, other: SourceFile) -> None:
        one, other = self.of(one), self.of(other)
        if one is not other:
            self._above[one] = other
            self._imported.setdefault(other, set()).update(self._imported.pop(one, ()))


def _linked(tree: Tree, file: SourceFile, imported: frozenset[str]) -> Iterator[SourceFile | None]:
    """The package that a file stands in, and what its imports mean."""
    yield tree.exact(file.package)
    found: set[str] = set()
    for each in imported:
        module, _, name = each.partition(":")
        if module in found:  # by another name that is imported from there
            continue
        below = module.lstrip(".")
        dots = len(module) - len(below)
        other = tree.relative(dots, below, file) if dots else tree.module(below, file)
        if other is not None:
            found.add(module)
            yield other
        elif dots:
            yield tree.relative(dots, f"{below}.{name}" if below else name, file)
        else:
            yield tree.module(f"{below}.{name}" if name else below.partition(".")[0], file)
