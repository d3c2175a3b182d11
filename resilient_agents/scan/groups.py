"""Groups of files that import each other, directly or through others: no value passes from one group to another.

So nobody need ask in one group who calls a function of another, nor for clients that none of its files imports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from resilient_agents.scan.form import SERVED
from resilient_agents.scan.index import top_level

if TYPE_CHECKING:
    from resilient_agents.scan.tree import SourceFile, Tree

__all__ = ["Groups"]


class Groups:
    """Of all files of a tree; each is known by one of its files."""

    def __init__(self, tree: Tree, imports: Mapping[SourceFile, frozenset[str]]) -> None:
        self._above = {file: file for file in tree.files}
        """A file of the same group that stands for it; one that stands for itself stands for its group."""
        served: SourceFile | None = None
        for file, imported in imports.items():
            if SERVED in imported:  # who takes it may have been found by a server
                served = served or file
                self._join(file, served)
            for other in _linked(tree, file, imported):
                if other is not None:
                    self._join(file, other)
        self._imported: dict[SourceFile, set[str]] = {}
        for file, imported in imports.items():
            self._imported.setdefault(self.of(file), set()).update(top_level(imported))

    def of(self, file: SourceFile) -> SourceFile:
        above = self._above
        while above[file] is not file:
            above[file] = file = above[above[file]]
        return file

    def imported(self, file: SourceFile) -> set[str]:
        """The top-level modules that the files of its group import."""
        return self._imported[self.of(file)]

    def _join(self, one: SourceFile, other: SourceFile) -> None:
        self._above[self.of(one)] = self.of(other)


def _linked(tree: Tree, file: SourceFile, imported: frozenset[str]) -> Iterator[SourceFile | None]:
    """The package that a file stands in, and what its imports mean."""
    yield tree.exact(file.package)
    for each in imported:
        module, _, name = each.partition(":")
        below = module.lstrip(".")
        if dots := len(module) - len(below):
            inside = f"{below}.{name}" if below else name
            yield tree.relative(dots, below, file) or tree.relative(dots, inside, file)
        elif below:
            inside = f"{below}.{name}" if name else below.partition(".")[0]
            yield tree.module(below, file) or tree.module(inside, file)
