"""The files of a tree by the names in them, and of these the ones that count for a file: its group's, the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_agents.scan.groups import Groups
from resilient_agents.scan.index import Names

if TYPE_CHECKING:
    from resilient_agents.scan.tree import SourceFile, Tree

__all__ = ["ByName", "parts_in_common"]

MOST_FILES = 40
"""Files that are searched for callers of one function, and for heirs of one class."""


class ByName:
    """Made once for all files."""

    def __init__(self, tree: Tree) -> None:
        self._files: dict[str, dict[str, list[SourceFile]]] = {what: {} for what in Names._fields if what != "imported"}
        self.groups = Groups(tree)
        for file in tree.files:
            names = file.make_names()
            self.groups.add(file, names.imported)
            for what, index in self._files.items():
                for each in getattr(names, what):
                    index.setdefault(each, []).append(file)
        self.forget()

    def forget(self) -> None:
        """What was found for the files that asked."""
        self._by_group: dict[tuple[str, str], dict[SourceFile, list[SourceFile]]] = {}
        self._in_common: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}

    def files(self, what: str, name: str) -> list[SourceFile]:
        """All that have the name among what is meant: a field of Names."""
        return self._files[what].get(name, [])

    def near(self, what: str, name: str, near: SourceFile) -> tuple[list[SourceFile], SourceFile]:
        """Those of the group of a file, of many the nearest; and for whom they are these: the file or its group."""
        of = self.groups.of
        by_group = self._by_group.get((what, name))
        if by_group is None:
            by_group = self._by_group[what, name] = {}
            for file in self.files(what, name):
                by_group.setdefault(of(file), []).append(file)
        group = of(near)
        found = by_group.get(group, [])
        return (found, group) if len(found) <= MOST_FILES else (self.nearest(found, near), near)

    def nearest(self, files: list[SourceFile], near: SourceFile) -> list[SourceFile]:
        if len(files) <= MOST_FILES:
            return files
        ours, in_common = near.parts, self._in_common.setdefault(near.parts, {})
        ranks = []
        for file in files:
            package = file.package
            same = in_common.get(package)
            if same is None:
                same = in_common[package] = parts_in_common(package, ours)
            if same == len(package):
                same = parts_in_common(file.parts, ours)
            ranks.append(-same)
        order = sorted(range(len(files)), key=ranks.__getitem__)
        return [files[number] for number in order[:MOST_FILES]]


def parts_in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts two names have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(one), len(other)))
