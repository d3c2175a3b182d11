"""What a form says about names in one text, so that an index of a tree needs no forms."""

from __future__ import annotations

from typing import NamedTuple

from resilient_agents.scan.form import Form, last_name

__all__ = ["HANDING_ON", "MAPPING", "Names", "names_of"]

MAPPING = frozenset({"map", "imap", "imap_unordered", "map_async", "apply_async"})
"""Callees that are given a function, and its arguments within another one."""
HANDING_ON = MAPPING | {
    *("Thread", "Timer", "Process", "submit", "to_thread", "run_in_executor", "run_sync", "partial"),
    "run_in_threadpool",
}
"""Callees that are given a function to call."""


class Names(NamedTuple):
    """Last words of what a file calls (`name()` for what it hands on to be called) and of bases, what it imports, and
    what it puts into a `state`.
    """

    called: frozenset[str]
    bases: frozenset[str]
    imported: frozenset[str]
    shared: frozenset[str]

    def as_text(self) -> str:
        return "|".join(" ".join(sorted(each)) for each in self)

    @classmethod
    def from_text(cls, text: str) -> Names:
        return cls(*(frozenset(part.split()) for part in text.split("|")))


def names_of(form: Form) -> Names:
    called: set[str] = set()
    bases: set[str] = set()
    shared: set[str] = set()
    for scope in form.scopes:
        for site in scope.calls:
            name = last_name(site.callee)
            called.add(name)
            if name in HANDING_ON:
                called.update(f"{last_name(each)}()" for each in (*site.arguments, *site.keywords.values()))
        shared.update(path.rpartition(".")[2] for path in scope.bindings if ".state." in path)
        bases.update(last_name(base) for base in scope.bases)
    return Names(frozenset(called - {""}), frozenset(bases - {""}), form.imported, frozenset(shared))
