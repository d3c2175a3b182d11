"""`@resilient`, and a decorator for each strategy: sugar that finds or builds a `Policy` and guards with it."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeGuard, TypeVar, cast, overload

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.spelling import nearest
from resilient_agents.base.told import Fields
from resilient_agents.core.guard import guard
from resilient_agents.policy import Policy

if TYPE_CHECKING:
    import aiolimiter
    import anyio

    from resilient_agents.adapters.native.circuit_breaker import NativeBreaker
    from resilient_agents.adapters.native.retry import NativeRetry
    from resilient_agents.registry import Keyed, Registry
    from resilient_agents.strategies.gate import Gate
    from resilient_agents.strategies.resume import Resume
    from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["bulkhead", "circuit_breaker", "rate_limit", "resilient", "retry", "timeout"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

_FORMS = """resilient takes one of
    @resilient(policy)                                  a Policy
    @resilient("openai")                                one from the registry, looked up at first call
    @resilient(Retry(3), Timeout(10))                   strategies, outermost first
    @resilient(retry=3, timeout=30, attempt_timeout=10, breaker="openai", bulkhead=8, rate_limit="60/min",
    fallback=handler)"""


@overload
def resilient(policy: Policy | Keyed | str, /) -> Callable[[F], F]: ...
@overload
def resilient(
    strategy: Any,
    /,
    *strategies: Any,
    name: str | None = None,
    idempotent: bool | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...
@overload
def resilient(
    *,
    fallback: Any = ...,
    timeout: float | timedelta | Timeout | None = None,
    resume: Callable[..., Any] | Resume | None = None,
    retry: int | Retry | NativeRetry | None = None,
    breaker: str | bool | CircuitBreaker | NativeBreaker | None = None,
    gate: str | bool | float | timedelta | Gate | None = None,
    rate_limit: str | float | RateLimit | aiolimiter.AsyncLimiter | None = None,
    bulkhead: int | Bulkhead | anyio.CapacityLimiter | None = None,
    attempt_timeout: float | timedelta | Timeout | None = None,
    stream_timeout: float | timedelta | StreamTimeout | None = None,
    name: str | None = None,
    idempotent: bool | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Callable[[F], F]: ...
def resilient(
    *strategies: Any,
    name: str | None = None,
    idempotent: bool | None = None,
    reconcile: Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[[F], F]:
    """Guard the decorated function, whatever kind it is.

    With a Policy: by that policy. With a name: by the registry's policy of that name, looked up at the first call. With
    strategies: by a new policy of them, outermost first. With options: by a new policy in canonical order, whatever
    order they are written in:

    - `fallback`: a handler, called with the error and the call's arguments; a list of functions and (function, policy)
      pairs, called with the call's arguments until one answers; or any other value to return instead
    - `timeout`: seconds for the whole call, retries and waits included
    - `resume`: what a stream that broke off goes on with, a function of the items so far and the call's arguments
    - `retry`: how many attempts
    - `breaker`: the name of a circuit breaker of the registry; functions that use the same name share it, also with a
      `CircuitBreaker` of that name made elsewhere. True: one of its own
    - `gate`: the name of a gate of the registry; functions that use the same name share it. True: one of its own, and a
      number: one whose calls wait so many seconds at most
    - `rate_limit`: "60/min", or a number of calls a second
    - `bulkhead`: how many calls at a time
    - `attempt_timeout`: seconds for each attempt
    - `stream_timeout`: seconds that a stream may stall between two items

    Each option also takes the strategy itself, ours or native (`retry=Retry(5, wait=fixed(1))`). None leaves a strategy
    out.
    `name` is the policy's name in errors and telemetry; by default the function's `module.qualname`. `idempotent` and
    `reconcile` say what may be repeated of a function that writes, as those of a `Policy` do.

    Stacked on a function, new policies without a name are one policy, the topmost outermost: one operation in traces.
    A Policy, and one with a name, stays an operation of its own.

    Raises TypeError that lists these forms for anything else, and what the strategies raise for bad values.
    """
    told = idempotent is not None or reconcile is not None
    _refuse_unclear(strategies, options, told=told)
    if len(strategies) == 1 and name is None and not told:
        if isinstance(strategies[0], Policy) or _is_keyed(strategies[0]):
            found: Policy | Keyed = strategies[0]
            return found
        if isinstance(strategies[0], str) and strategies[0]:
            return _registry().late(strategies[0])
    for strategy in strategies:
        if isinstance(strategy, str | bytes) or inspect.isroutine(strategy):
            bare = " (was it used without parentheses?)" if inspect.isroutine(strategy) else ""
            raise TypeError(f"resilient cannot guard with {strategy!r}{bare}: {_FORMS}")
    if options:
        from resilient_agents.canonical import in_order  # with all strategies that there are

        strategies = tuple(in_order(options))
    return _Layers(*strategies, name=name, idempotent=idempotent, reconcile=reconcile)


def _is_keyed(thing: Any) -> TypeGuard[Keyed]:
    if hasattr(thing, "execute"):
        return False
    from resilient_agents.registry import Keyed

    return isinstance(thing, Keyed)


def _registry() -> Registry:
    from resilient_agents.registry import registry

    return registry


def _refuse_unclear(strategies: tuple[Any, ...], options: Mapping[str, Any], *, told: bool) -> None:
    if not strategies and not options and not told:
        raise TypeError(f"resilient needs something to guard with: {_FORMS}")
    if options:
        _refuse_unknown(options)
    if strategies and options:
        raise TypeError(f"resilient takes strategies or options, not both: {_FORMS}")


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    from resilient_agents.canonical import OPTIONS

    unknown = sorted(options.keys() - OPTIONS.keys())
    if unknown:
        known = nearest(unknown[0], (*OPTIONS, "idempotent", "reconcile", "name"))
        raise TypeError(f"resilient does not know {', '.join(unknown)}; {known}: {_FORMS}")


class _Layers(Policy):
    """What the sugar makes. Around a function that is guarded by another such policy it becomes one policy with it."""

    parts: tuple[_Layers, ...] = ()
    """Those that it was put together from, the topmost first."""

    def __call__(self, fn: F) -> F:
        if isinstance(fn, staticmethod | classmethod):
            descriptor: Any = type(fn)
            return cast(F, descriptor(self(fn.__func__)))
        policy = self
        inside: Callable[..., Any] = fn
        inner = _guarding(fn)
        if inner is not None and self.name is None:
            parts = (self, *(inner.policy.parts or (inner.policy,)))
            policy, inside = _Layers(*parts), inner.fn
            policy.parts = parts
        wrapper = guard(policy, inside)
        if policy.name is None:
            wrapper.__dict__[_MARK] = _Guarded(policy, inside, weakref.ref(wrapper))
        else:
            wrapper.__dict__.pop(_MARK, None)
        return cast(F, wrapper)


class _Guarded(Fields):
    """What a wrapper carries. `wrapper` tells it from one that `functools.wraps` copied to another wrapper around."""

    policy: _Layers
    fn: Callable[..., Any]
    wrapper: weakref.ref[Callable[..., Any]]

    def __reduce__(self) -> Any:
        return _unmarked, ()  # in a wrapper that is pickled by value: it guards there, too, but is no more stacked upon


def _unmarked() -> None:
    return None


_MARK = "__resilient__"


def _guarding(fn: object) -> _Guarded | None:
    mark = getattr(fn, _MARK, None)
    return mark if isinstance(mark, _Guarded) and mark.wrapper() is fn else None


def _means(strategy: Callable[P, Any]) -> Callable[[Callable[..., Any]], Callable[P, Policy]]:
    """Makes a decorator that takes what `strategy` takes, and means `@resilient(strategy(...))`."""

    def typed(make: Callable[..., Any]) -> Callable[P, Policy]:
        @functools.wraps(make)
        def decorator(*args: P.args, **kwargs: P.kwargs) -> Policy:
            if len(args) == 1 and not kwargs and inspect.isroutine(args[0]):
                raise TypeError(f"write @{make.__name__}(...), with parentheses, got the function itself")
            return cast(Policy, resilient(make(*args, **kwargs)))

        return decorator

    return typed


@_means(CircuitBreaker)
def circuit_breaker(name: str | None = None, **options: Any) -> Any:
    """`@resilient(CircuitBreaker(...))`. With a name: the registry's breaker of that name, one circuit for all
    functions."""
    return CircuitBreaker(**options) if name is None else _registry().circuit_breaker(name, **options)


@_means(Retry)
def retry(*args: Any, **options: Any) -> Any:
    """`@resilient(Retry(...))`."""
    return Retry(*args, **options)


@_means(Timeout)
def timeout(*args: Any, **options: Any) -> Any:
    """`@resilient(Timeout(...))`."""
    return Timeout(*args, **options)


def _bulkhead_of(
    limit: int | None = None,
    *,
    name: str | None = None,
    queue: int | None = None,
    max_wait: float | timedelta | None = None,
    isolation: Literal["caller", "thread"] = "caller",
) -> Any: ...


@_means(_bulkhead_of)
def bulkhead(limit: int | None = None, *, name: str | None = None, **options: Any) -> Any:
    """`@resilient(Bulkhead(...))`. With a name: the registry's bulkhead of that name, one limit for all functions."""
    return Bulkhead(cast(int, limit), **options) if name is None else _registry().bulkhead(name, limit, **options)


def _rate_limit_of(
    rate: float | str | None = None,
    per: float | timedelta | None = None,
    *,
    name: str | None = None,
    burst: float | None = None,
    max_wait: float | timedelta | None = None,
    cost: float | Callable[..., float] = 1,
    settle: Callable[[Any], float | None] | None = None,
) -> Any: ...


@_means(_rate_limit_of)
def rate_limit(
    rate: float | str | None = None, per: float | timedelta | None = None, *, name: str | None = None, **options: Any
) -> Any:
    """`@resilient(RateLimit(...))`. With a name: the registry's rate limit of that name, one rate for all functions."""
    if per is not None:
        options["per"] = per
    return RateLimit(cast(float, rate), **options) if name is None else _registry().rate_limit(name, rate, **options)
