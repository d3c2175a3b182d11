"""`@resilient`: sugar that finds or builds a `Policy` and guards a function with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

import aiolimiter
import anyio
import pybreaker
import tenacity

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker, shared_breaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.policy import Policy
from resilient_agents.strategies.fallback import Fallback

__all__ = ["resilient"]

F = TypeVar("F", bound=Callable[..., Any])

_FORMS = """resilient takes one of
    @resilient(policy)                                  a Policy
    @resilient(Retry(3), Timeout(10))                   strategies, outermost first
    @resilient(retry=3, timeout=30, attempt_timeout=10, breaker="openai", bulkhead=8, rate_limit="60/min",
    fallback=handler)"""


@overload
def resilient(policy: Policy, /) -> Callable[[F], F]: ...
@overload
def resilient(strategy: Any, /, *strategies: Any, name: str | None = None) -> Callable[[F], F]: ...
@overload
def resilient(
    *,
    fallback: Any = ...,
    timeout: float | timedelta | Timeout | None = None,
    retry: int | Retry | tenacity.BaseRetrying | None = None,
    breaker: str | bool | CircuitBreaker | pybreaker.CircuitBreaker | None = None,
    rate_limit: str | float | RateLimit | aiolimiter.AsyncLimiter | None = None,
    bulkhead: int | Bulkhead | anyio.CapacityLimiter | None = None,
    attempt_timeout: float | timedelta | Timeout | None = None,
    name: str | None = None,
) -> Callable[[F], F]: ...
def resilient(*strategies: Any, name: str | None = None, **options: Any) -> Callable[[F], F]:
    """Guard the decorated function, whatever kind it is.

    With a Policy: by that policy. With strategies: by a new policy of them, outermost first. With options: by a new
    policy in canonical order, whatever order they are written in:

    - `fallback`: a handler, called with the error and the call's arguments, or any other value to return instead
    - `timeout`: seconds for the whole call, retries and waits included
    - `retry`: how many attempts
    - `breaker`: the name of a circuit breaker; functions that use the same name share it, also with a
      `CircuitBreaker` of that name made elsewhere. True: one of its own
    - `rate_limit`: "60/min", or a number of calls a second
    - `bulkhead`: how many calls at a time
    - `attempt_timeout`: seconds for each attempt

    Each option also takes the strategy itself, ours or native (`retry=Retry(5, wait=fixed(1))`). None leaves a strategy
    out.
    `name` is the policy's name in errors and telemetry; by default the function's `module.qualname`.
    Raises TypeError that lists these forms for anything else, and what the strategies raise for bad values.
    """
    if not strategies and not options:
        raise TypeError(f"resilient needs something to guard with: {_FORMS}")
    unknown = sorted(options.keys() - _BUILD.keys())
    if unknown or (strategies and options):
        reason = f"does not know {', '.join(unknown)}" if unknown else "takes strategies or options, not both"
        raise TypeError(f"resilient {reason}: {_FORMS}")
    if len(strategies) == 1 and isinstance(strategies[0], Policy) and name is None:
        return strategies[0]
    for strategy in strategies:
        if isinstance(strategy, str | bytes) or inspect.isroutine(strategy):
            bare = " (was it used without parentheses?)" if inspect.isroutine(strategy) else ""
            raise TypeError(f"resilient cannot guard with {strategy!r}{bare}: {_FORMS}")
    if not strategies:
        given = {option: value for option, value in options.items() if value is not None}
        strategies = tuple(build(given[option]) for option, build in _BUILD.items() if option in given)
    return Policy(*strategies, name=name)


def _fallback(value: Any) -> Any:
    if isinstance(value, Fallback):
        return value
    return Fallback(value) if callable(value) else Fallback(value=value)


def _timeout(value: Any) -> Any:
    return value if isinstance(value, Timeout) else Timeout(value)


def _retry(value: Any) -> Any:
    return value if isinstance(value, Retry | tenacity.BaseRetrying) else Retry(value)


def _breaker(value: Any) -> Any:
    if isinstance(value, CircuitBreaker | pybreaker.CircuitBreaker):
        return value
    if value is True:
        return CircuitBreaker()
    if not isinstance(value, str):
        raise TypeError(f"breaker must be a name, a CircuitBreaker, True or None, got {value!r}")
    return shared_breaker(value)


def _rate_limit(value: Any) -> Any:
    return value if isinstance(value, RateLimit | aiolimiter.AsyncLimiter) else RateLimit(value)


def _bulkhead(value: Any) -> Any:
    return value if isinstance(value, Bulkhead | anyio.CapacityLimiter) else Bulkhead(value)


# the canonical order, outermost first
_BUILD: dict[str, Callable[[Any], Any]] = {
    "fallback": _fallback,
    "timeout": _timeout,
    "retry": _retry,
    "breaker": _breaker,
    "rate_limit": _rate_limit,
    "bulkhead": _bulkhead,
    "attempt_timeout": _timeout,
}
