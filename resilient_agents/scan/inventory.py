"""The records of a file: its external calls, and what is true of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from resilient_agents.scan.limits import Limits
from resilient_agents.scan.protection import Protection, protection
from resilient_agents.scan.records import Call, Limit
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting, sightings
from resilient_agents.scan.tree import SourceFile

__all__ = ["Found", "inventory"]


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and what it was made from."""

    call: Call
    seen: Sighting
    choices: tuple[Sighting, ...]
    """All that it may be, by branches of the code; `seen` stands for them."""

    @property
    def repeated(self) -> bool:
        """Whether a loop makes it again and again, which it does not with what its head asks for once."""
        return self.call.in_loop and self.seen.spot.within.repeats(self.seen.site.block)


def inventory(resolver: Resolver, limits: Limits, file: SourceFile) -> Iterator[Found]:
    """The external calls of a file in the order of their lines."""
    found = [_record(resolver, limits, choices) for choices in sightings(resolver, file)]
    yield from sorted(found, key=lambda each: (each.call.line, each.call.column, each.call.callee))


def _record(resolver: Resolver, limits: Limits, choices: list[Sighting]) -> Found:
    seen = _cautious(choices)
    guard = protection(resolver, seen)
    limit = limits.of(seen, guard)
    if len(choices) > 1:
        limit = _of_all([limit, *(limits.of(other, protection(resolver, other)) for other in choices[1:])])
    return Found(_call(seen, limit, guard), seen, tuple(choices))


def _of_all(each: list[Limit]) -> Limit:
    """What a call in several branches has in all of them; where a limit is set for all, some of them need none."""
    said = {limit.value: limit for limit in each}
    if said.keys() == {"explicit", "never_waits"}:
        return said["explicit"]
    return each[0] if len(said) == 1 else Limit("unknown", "differs by branch", "unknown")


def _cautious(choices: list[Sighting]) -> Sighting:
    """The first, which may be done twice only if all of them may."""
    seen = choices[0]
    answers = {each.operation.idempotent for each in choices}
    if len(answers) == 1:
        return seen
    return replace(seen, operation=replace(seen.operation, idempotent=False if False in answers else None))


def _call(seen: Sighting, limit: Limit, guard: Protection | None) -> Call:
    spot, site = seen.spot, seen.site
    form, scope = spot.file.form, spot.within
    function = scope if scope.kind == "function" else form.function(spot.scope)
    around = {block.kind for block in scope.inside(site.block)} if site.block else ()
    return Call(
        path=spot.file.path,
        line=site.line,
        column=site.column + 1,
        kind=seen.client.kind,
        callee=seen.callee,
        dependency=seen.client.library.name,
        function=function.name if function is not None else None,
        is_async=function is not None and function.is_async,
        in_try="try" in around,
        in_loop="loop" in around,
        limit=limit.value,
        limit_source=limit.source,
        protected_by=guard.source if guard is not None else None,
        confidence=limit.confidence,
        scope=form.qualified(spot.scope),
        end_line=site.end_line,
    )
