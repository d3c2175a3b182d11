"""What is true of a call beside its record: whether it may be made twice, who repeats it, what holds it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resilient_agents.scan.advice.threads import Threads
from resilient_agents.scan.effects import repeatable, serves
from resilient_agents.scan.habits import asks, renewed
from resilient_agents.scan.handlers import REPLACED
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.protection import patterns_around
from resilient_agents.scan.repeating import Again, tried_again
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.rules import blocks_the_loop
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import Opaque

__all__ = ["Facts", "facts"]

BOUNDS = frozenset(["Semaphore", "BoundedSemaphore", "CapacityLimiter", "Lock", "Bulkhead"])
"""Classes of what lets only so many in."""


@dataclass(slots=True)
class Facts:
    """What is true of one call."""

    repeatable: bool | None
    """Whether it may be made twice; None where the code does not say."""
    serves: bool
    """Whether it waits for what comes by itself, or talks to one who came."""
    bounded: bool
    """Whether a semaphore or the like holds it within a number."""
    holds: bool
    """Whether it holds up an event loop."""
    threaded: bool
    """Whether threads may make several of it at once."""
    replaced: bool
    """Whether the code has something to go on with when it fails."""
    retrying: Again | None
    """The client that makes it again by itself."""
    through_request: bool | None
    """Whether the REQ socket that it goes through is there before; None for other calls.

    Such a socket takes a request only when it has the answer to the last.
    """
    patterns: frozenset[str]
    """The patterns that stand around it in the code."""


def facts(resolver: Resolver, threads: Threads, found: Sequence[Found]) -> dict[int, Facts]:
    """By `id`. What stands in one line, as `producer.send(...).get()`, is made twice together."""
    known = {id(each): _facts(resolver, threads, each) for each in found}
    refused = {(each.call.path, each.call.line) for each in found if known[id(each)].repeatable is False}
    for each in found if refused else ():
        if (each.call.path, each.call.line) in refused:
            known[id(each)].repeatable = False
    return known


def _facts(resolver: Resolver, threads: Threads, found: Found) -> Facts:
    seen = found.seen
    request = _through_request(seen, resolver)
    return Facts(
        repeatable=False if request else repeatable(seen, resolver),
        serves=serves(seen, resolver),
        bounded=found.call.is_async and _bounded(resolver, seen),
        holds=blocks_the_loop(found, resolver) is not None,
        threaded=threads.make(found),
        replaced=found.call.in_try and _replaced(seen),
        retrying=tried_again(resolver, seen),
        through_request=request,
        patterns=patterns_around(resolver, seen) if found.call.protected_by is not None else frozenset(),
    )


def _bounded(resolver: Resolver, seen: Sighting) -> bool:
    for block in seen.spot.within.inside(seen.site.block):
        values = resolver.evaluate(block.about, seen.spot) if block.kind == "with" else ()
        if any(isinstance(value, Opaque) and value.path.rpartition(".")[2] in BOUNDS for value in values):
            return True
    return False


def _through_request(seen: Sighting, resolver: Resolver) -> bool | None:
    """Whether it goes through a REQ socket that is there before its function runs, and stays; None for other calls."""
    owner = seen.owner
    if owner is None or seen.client.kind != "socket" or not asks(seen, resolver):
        return None
    if any(made is not None and made.spot[:2] == seen.spot[:2] for made in (owner.made, owner.through)):
        return False
    return None if renewed(seen, resolver) else True


def _replaced(seen: Sighting) -> bool:
    around = seen.spot.within.inside(seen.site.block)
    return any(block.kind == "try" and block.about == ("const", REPLACED) for block in around)
