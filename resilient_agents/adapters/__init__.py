"""One module = one established library = one strategy; the only room that imports that library."""

from __future__ import annotations

from typing import Any, cast

from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Strategy

__all__ = ["adapt"]


def adapt(thing: Any) -> Strategy:
    """`thing` as a strategy: itself if it is one, an adapter if it belongs to a library we know. Raises TypeError
    otherwise."""
    if not isinstance(thing, type):
        adapted = None if isinstance(thing, Spelled) else _adapted_native(thing)
        if adapted is not None:
            return adapted
        if callable(getattr(thing, "execute", None)):
            return cast(Strategy, thing)
    raise TypeError(
        f"a strategy must be one of ours (Retry, CircuitBreaker, Gate, RateLimit, Bulkhead, Timeout, StreamTimeout, "
        f"Resume, Fallback, Hedge, Chaos, Policy), a tenacity Retrying or AsyncRetrying, a pybreaker CircuitBreaker, "
        f"an anyio CapacityLimiter, an aiolimiter AsyncLimiter, or an object with `execute(proceed, call)`; "
        f"got {_described(thing)}"
    )


def _adapted_native(thing: Any) -> Strategy | None:
    from resilient_agents.adapters.native import bulkhead, circuit_breaker, rate_limit, retry  # few policies need them

    for room in (retry, circuit_breaker, bulkhead, rate_limit):
        adapted: Strategy | None = room.adapt_native(thing)
        if adapted is not None:
            return adapted
    return None


def _described(thing: Any) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}, not an instance"
    if isinstance(thing, str):
        return (
            f"the name {thing!r}: get_policy({thing!r}) is the registry's policy of that name, "
            f"resilient_agents.presets.preset({thing!r}) a ready-made one"
        )
    return type(thing).__name__
