"""One module = one established library = one strategy; the only room that imports that library."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Strategy

__all__ = ["adapted"]


def adapted(things: Iterable[Any]) -> tuple[Strategy, ...]:
    """Each as a strategy: itself if it is one, an adapter if it belongs to a library we know.

    Raises TypeError for anything else, and ValueError where something stands inside of what must be innermost.
    """
    strategies = tuple(map(_adapted, things))
    for outer, inner in pairwise(strategies):
        last = _innermost(outer)
        if last is not None and _innermost(inner) is None:
            raise ValueError(
                f"{type(last).__name__} must be the innermost strategy, as it stands in the place of the dependency: "
                f"put it last, got {type(inner).__name__} after it"
            )
    return strategies


def _innermost(strategy: Any) -> Any:
    """Inside of what nothing may stand: it, or one of those that it, a policy, consists of; None if that is none."""
    inside = getattr(strategy, "strategies", None)
    if type(inside) is tuple:
        return next((last for last in map(_innermost, inside) if last is not None), None)
    return strategy if getattr(strategy, "innermost", False) is True else None


def _adapted(thing: Any) -> Strategy:
    if not isinstance(thing, type):
        native = None if isinstance(thing, Spelled) else _adapted_native(thing)
        if native is not None:
            return native
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
        native: Strategy | None = room.adapt_native(thing)
        if native is not None:
            return native
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
