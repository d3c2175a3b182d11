"""Which words may be a call to the outside, by what is imported: a call by another word need not be followed."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from typing import TYPE_CHECKING

from resilient_agents.scan.groups import Groups
from resilient_agents.scan.known import Known
from resilient_agents.scan.libraries import Client

if TYPE_CHECKING:
    from resilient_agents.scan.tree import SourceFile

__all__ = ["Words"]


class Words:
    """Of one table; what each module makes callable is found once."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._clients: dict[str, list[str]] = {}
        """The clients that a top-level module is imported for."""
        for name, roots in known.roots.items():
            for root in roots:
                self._clients.setdefault(root, []).append(name)
        for path, handlers in known.handlers.items():
            gives = [name for each in handlers for name in (*each.gives, *each.by_name.values())]
            here = self._clients.setdefault(_top(path), [])
            here += [known.canonical.get(name, name) for name in gives]
        meant = [(_top(name), self._clients.get(_top(known.original(name)), [])) for name in known.stand_ins]
        for module, names in meant:
            self._clients[module] = [*self._clients.get(module, []), *names]
        tops = [(_top(pattern), _top(name)) for pattern, name in known.patterns]
        self._families = [(top[:-1], root) for top, root in tops if top.endswith("*")]
        """How the names of modules begin that only a pattern names, `alibabacloud_`, and what each counts as."""
        self._runners = frozenset(name.rpartition(".")[2] for name in known.runners)
        self._by_module: dict[str, frozenset[str] | None] = {}
        self._by_modules: dict[frozenset[str], frozenset[str] | None] = {}
        self._by_group: dict[SourceFile, frozenset[str] | None] = {}
        self.python = frozenset(n for n in dir(builtins) if f"builtins.{n}" not in known.functions) - self._runners
        """What Python itself has that is no such call, nor runs what it is given."""

    def clients(self, module: str) -> list[Client]:
        """The clients that there may be where it is imported."""
        left = [*self._clients.get(module, ())]
        found: dict[str, Client] = {}
        while left:
            name = left.pop()
            if name in self._known.clients and name not in found:
                client = found[name] = self._known.clients[name]
                left += [client.enters, client.items]
                left += [*client.makes.values(), *client.attributes.values(), *client.variants.values()]
        return list(found.values())

    def callable_in(self, file: SourceFile, groups: Groups) -> frozenset[str] | None:
        """Those of a file: what its group imports counts."""
        group = groups.of(file)
        if group not in self._by_group:
            self._by_group[group] = self.callable(groups.imported(group))
        return self._by_group[group]

    def callable(self, imported: Collection[str]) -> frozenset[str] | None:
        """Last words of all that may be a call there, or that calls what it is given; None if any word may be.

        `*` among them: any word that stands behind an attribute of something may be.
        """
        of_families = [root for start, root in self._families if any(name.startswith(start) for name in imported)]
        modules = frozenset(["builtins", *of_families, *self._clients.keys() & imported])
        if modules not in self._by_modules:
            found = [self._of_module(module) for module in modules]
            words = [each for each in found if each is not None]
            self._by_modules[modules] = self._runners.union(*words) if len(words) == len(found) else None
        return self._by_modules[modules]

    def _of_module(self, module: str) -> frozenset[str] | None:
        if module not in self._by_module:
            names = [name for client in self.clients(module) for name in client.operations]
            words = frozenset(name.rpartition(".")[2] for name in names)
            self._by_module[module] = None if "*" in names or "" in names else words
        return self._by_module[module]


def _top(path: str) -> str:
    return path.partition(".")[0]
