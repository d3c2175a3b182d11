"""A policy changes: which of its strategies follow which, and keep the state.

A strategy that has state says how it goes on, by one of three methods, all optional:

- `reconfigure(new)`: it stays, and takes over the options of `new`
- `take_over(old)`: of the new one, which goes on with what `old` had
- `renewed(new)`: the one to use from now on, made of both
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from resilient_agents.core.call import Strategy

__all__ = ["successors"]


def successors(old: Iterable[Strategy], new: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The strategies `new`, with state and all from those of `old` that they follow."""
    had, wanted = tuple(old), tuple(new)
    left: list[Any] = [strategy for strategy in had if not any(strategy is kept for kept in wanted)]
    found = list(wanted)
    # Those with a name first: none without one takes what they mean.
    for at in sorted(range(len(wanted)), key=lambda at: _name(wanted[at]) is None):
        if not any(wanted[at] is kept for kept in had):
            found[at] = _successor(left, wanted[at])
    return tuple(found)


def _name(strategy: Any) -> Any:
    return getattr(strategy, "name", None)


def _successor(left: list[Any], new: Any) -> Any:
    name = _name(new)
    alike = (old for old in left if type(old) is type(new) and (name is None or _name(old) == name))
    old = next(alike, None)
    if old is None:
        return new
    left.remove(old)
    if hasattr(old, "renewed"):
        return old.renewed(new)
    if hasattr(old, "reconfigure"):
        old.reconfigure(new)
        return old
    if hasattr(new, "take_over"):
        new.take_over(old)
    return new
