"""A policy changes: which of its strategies follow which, and keep the state.

A strategy that has state says how it goes on, by one of three methods, all optional:

- `reconfigure(new)`: it stays, and takes over the options of `new`
- `take_over(old)`: of the new one, which goes on with what `old` had
- `renewed(new)`: the one to use from now on, made of both
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resilient_agents.core.call import Strategy

__all__ = ["successors"]


def successors(old: Iterable[Strategy], new: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The strategies `new`, with state and all from those of `old` that they follow."""
    had, wanted = tuple(old), tuple(new)
    left = [strategy for strategy in had if not any(strategy is kept for kept in wanted)]
    # A list first: while a tuple is filled from a generator, code that looks at all objects can make that fail.
    return tuple([each if any(each is kept for kept in had) else _successor(left, each) for each in wanted])


def _successor(left: list[Strategy], new: Strategy) -> Strategy:
    name = getattr(new, "name", None)
    for old in left:
        if type(old) is type(new) and (name is None or getattr(old, "name", None) == name):
            break
    else:
        return new
    left.remove(old)
    renewed: Callable[[Strategy], Strategy] | None = getattr(old, "renewed", None)
    if renewed is not None:
        return renewed(new)
    reconfigure: Callable[[Strategy], None] | None = getattr(old, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(new)
        return old
    take_over: Callable[[Strategy], None] | None = getattr(new, "take_over", None)
    if take_over is not None:
        take_over(old)
    return new
