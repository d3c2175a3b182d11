"""What the options of `@resilient` mean: each a strategy, in canonical order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiolimiter
import anyio

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.native.circuit_breaker import NativeBreaker
from resilient_agents.adapters.native.retry import NativeRetry
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.registry import registry
from resilient_agents.strategies.fallback import Fallback
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.resume import Resume
from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["OPTIONS", "in_order"]


def in_order(options: Mapping[str, Any]) -> list[Any]:
    """The strategies of these options, outermost first; None leaves one out."""
    return [
        value if isinstance(value, kinds) else make(value)
        for option, (kinds, make) in OPTIONS.items()
        if (value := options.get(option)) is not None
    ]


def _fallback(value: Any) -> Fallback:
    if isinstance(value, list) and value and all(map(_stands_in, value)):
        return Fallback(to=value)
    return Fallback(value) if callable(value) else Fallback(value=value)


def _stands_in(part: Any) -> bool:
    """Is it a function, or a function with a policy? Lists of anything else are values."""
    return callable(part) or (isinstance(part, tuple) and len(part) == 2 and callable(part[0]) and callable(part[1]))


def _breaker(value: Any) -> CircuitBreaker:
    if value is True:
        return CircuitBreaker()
    if not isinstance(value, str):
        raise TypeError(f"breaker must be a name, a CircuitBreaker, True or None, got {value!r}")
    return registry.circuit_breaker(value)


def _gate(value: Any) -> Gate:
    if value is True:
        return Gate()
    return registry.gate(value) if isinstance(value, str) else Gate(max_wait=value)


def _stream_timeout(value: Any) -> StreamTimeout:
    return StreamTimeout(idle=value)


OPTIONS: dict[str, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    "fallback": ((Fallback,), _fallback),
    "timeout": ((Timeout,), Timeout),
    "resume": ((Resume,), Resume),
    "retry": ((Retry, NativeRetry), Retry),
    "breaker": ((CircuitBreaker, NativeBreaker), _breaker),
    "gate": ((Gate,), _gate),
    "rate_limit": ((RateLimit, aiolimiter.AsyncLimiter), RateLimit),
    "bulkhead": ((Bulkhead, anyio.CapacityLimiter), Bulkhead),
    "attempt_timeout": ((Timeout,), Timeout),
    "stream_timeout": ((StreamTimeout,), _stream_timeout),
}
"""Outermost first: what an option takes as it is, and what makes a strategy of anything else."""
