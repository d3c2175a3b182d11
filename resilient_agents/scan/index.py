"""What a form says about names: in one text, so that an index of a tree needs no forms, and where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from resilient_agents.scan.form import Form, Outline, last_name

__all__ = ["HANDING_ON", "MAPPING", "PACKED", "Names", "names_of", "outline_of", "top_level"]

MAPPING = frozenset({"map", "imap", "imap_unordered", "map_async"})
"""Callees that are given a function, and many arguments for it within another one."""
PACKED = frozenset({"Timer", "apply_async", "start_new_thread", "start_new"})
"""Callees that are given a function, and its arguments as one: `start_new_thread(greet, (guest,))`."""
HANDING_ON = (
    MAPPING
    | PACKED
    | {
        *("Thread", "Process", "submit", "to_thread", "run_in_executor", "run_sync", "partial", "run_in_threadpool"),
        *("Greenlet", "spawn", "spawn_n", "spawn_later", "spawn_after", "start_soon"),
        *("call_soon", "call_soon_threadsafe", "call_later"),
    }
)
"""Callees that are given a function to call."""


def top_level(imported: Iterable[str]) -> set[str]:
    """The modules outside of a package that these imports begin with."""
    return {each.partition(":")[0].partition(".")[0] for each in imported} - {""}


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
    bases = {last_name(base) for scope in form.scopes for base in scope.bases}
    shared = {path.rpartition(".")[2] for scope in form.scopes for path in scope.bindings if ".state." in path}
    called = frozenset(outline_of(form).calls)
    return Names(called - {""}, frozenset(bases - {""}), form.imported, frozenset(shared))


def outline_of(form: Form) -> Outline:
    if form.outline is None:
        form.outline = _outline(form)
    return form.outline


def _outline(form: Form) -> Outline:
    calls: dict[str, list[tuple[int, int]]] = {}
    given: set[str] = set()
    handed: set[str] = set()
    for number, scope in enumerate(form.scopes):
        for index, site in enumerate(scope.calls):
            name, place = last_name(site.callee), (number, index)
            calls.setdefault(name, []).append(place)
            arguments = [*site.arguments, *site.keywords.values()] if site.keywords else site.arguments
            words = [word for each in arguments if each is not None and (word := last_name(each))]
            handed.update(words)
            if name in HANDING_ON:
                for word in dict.fromkeys(words):
                    calls.setdefault(f"{word}()", []).append(place)
        for path, bindings in scope.bindings.items():
            _, dot, name = path.rpartition(".")
            if dot:
                given.add(name)
                if not path.startswith("self."):
                    given.add(path)
                if name.startswith("on_"):
                    handed.update([last_name(each.value) for each in bindings])
    return Outline(calls, frozenset(given), frozenset(handed))
