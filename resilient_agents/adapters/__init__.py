"""One module = one established library = one strategy; the only room that imports that library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_agents.adapters.native import bulkhead, circuit_breaker, rate_limit, retry
from resilient_agents.core.call import Strategy

__all__ = ["adapt"]

_ADAPTERS: tuple[Callable[[Any], Strategy | None], ...] = (
    retry.adapt_native,
    circuit_breaker.adapt_native,
    bulkhead.adapt_native,
    rate_limit.adapt_native,
)


def adapt(thing: Any) -> Strategy:
    """`thing` as a strategy: itself if it is one, an adapter if it belongs to a library we know. Raises TypeError
    otherwise."""
    if not isinstance(thing, type):
        for adapter in _ADAPTERS:
            adapted = adapter(thing)
            if adapted is not None:
                return adapted
        if callable(getattr(thing, "execute", None)):
            strategy: Strategy = thing
            return strategy
    described = f"the class {thing.__name__}, not an instance" if isinstance(thing, type) else f"{type(thing).__name__}"
    raise TypeError(
        f"a strategy must be one of ours (Retry, CircuitBreaker, Bulkhead, RateLimit, Timeout, Fallback, Hedge, "
        f"Policy), a tenacity Retrying or AsyncRetrying, a pybreaker CircuitBreaker, an anyio CapacityLimiter, "
        f"an aiolimiter AsyncLimiter, or an object with `execute(proceed, call)`; got {described}"
    )
