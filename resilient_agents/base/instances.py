"""The components that are alive in this process, for whoever wants to look at them: gauges, health checks.

Held weakly: being here keeps nothing alive. Free of locks, so that it may be used from any thread, from a garbage
collection and after a fork: adding, dropping and copying the values of a dict are each one atomic step.
"""

from __future__ import annotations

import itertools
import weakref
from functools import partial
from typing import Any

__all__ = ["add", "each"]

live: dict[str, dict[int, weakref.ref[Any]]] = {}
_numbers = itertools.count()


def add(kind: str, thing: object) -> None:
    """Remember `thing` for as long as it lives. `kind`: "circuit_breaker", "bulkhead" ..."""
    things = live.setdefault(kind, {})
    number = next(_numbers)
    things[number] = weakref.ref(thing, partial(things.pop, number))  # called with the reference: `pop`'s default


def each(kind: str) -> list[Any]:
    """What is alive of this kind, in the order in which it was added."""
    alive = (reference() for reference in list(live.get(kind, {}).values()))
    return [thing for thing in alive if thing is not None]
