"""`Policy`: strategies composed once, around any callable."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from resilient_agents.adapters import adapted
from resilient_agents.base.fork import Lock
from resilient_agents.base.now import changed, now
from resilient_agents.base.spelling import Spelled
from resilient_agents.base.told import Fields
from resilient_agents.base.trial import trial
from resilient_agents.core.call import STOPPED, Boxed, Call, Plan, Proceed, Strategy, call_of, name_of
from resilient_agents.core.composition import Composed, chain_of
from resilient_agents.core.driver import drive
from resilient_agents.core.guard import check_callable, guard
from resilient_agents.core.invoke import checked, invoke_any, refuse_awaitable
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.runtime import ASYNC, BLOCKING
from resilient_agents.core.streams import Stream
from resilient_agents.core.successors import successors
from resilient_agents.core.way_in import WayIn
from resilient_agents.events import Observer, Subscription

if TYPE_CHECKING:
    from resilient_agents.idempotency import Writes

__all__ = ["Policy"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")

_changing = Lock()
"""Held while what a policy consists of is exchanged, never while a chain is composed or runs."""


class _StandIn(Fields):
    """A policy in the place of another one; the same may stand there twice."""

    policy: Policy
    over: bool = False


class Policy(Spelled):
    """Strategies around a callable, outermost first: `Policy(A, B, C)` runs `A(B(C(fn)))`.

    A strategy is one of ours (`Retry(3)`), a native tenacity, pybreaker, anyio or aiolimiter object, another `Policy`,
    or anything with an `execute(proceed, call)` method. A policy is itself a strategy, is made once and shared: by many
    functions, threads and event loops.

    `name` shows in errors, events and telemetry; by default it is the guarded function's `module.qualname`.

    What is guarded may write. `idempotent=False`: it must not be done twice, so it is repeated only where nothing was
    sent, or where the function has asked for its `idempotency_key()`; otherwise the error comes out, with
    `unknown_outcome=True` in its note. True: it may be done twice. None (default): nothing is known, and all is
    repeated. `reconcile(*args, **kwargs)`, sync or async, is called before a repetition and finds out what became of
    the tries before: None means that none took effect, anything else is the result of the call. It means
    `idempotent=False`. What a policy inside was told counts where this one is told nothing.

    Raises TypeError or ValueError, when built, for an object that cannot be a strategy, for a `Chaos` that is not
    innermost, and for options of a wrong type or value.
    """

    _stand_ins: tuple[_StandIn, ...] = ()
    _observers: tuple[Subscription, ...] = ()
    _plans: tuple[tuple[Proceed, Plan], ...] = ()
    idempotent: bool | None = None
    reconcile: Callable[..., Any] | None = None

    def __init__(
        self,
        *strategies: Any,
        name: str | None = None,
        idempotent: bool | None = None,
        reconcile: Callable[..., Any] | None = None,
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name must be a non-empty string or None, got {name!r}")
        self.name = name
        self._own = adapted(strategies)
        if idempotent is not None or reconcile is not None:
            self.idempotent, self.reconcile = idempotent, reconcile
            _told(self)

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """What new calls run through, outermost first."""
        return self._standing_in() or self._own

    @property
    def layers(self) -> tuple[Strategy, ...]:
        """The same, with what policies inside consist of in their place, and what an experiment puts inside."""
        found: list[Strategy] = []
        for strategy in self.strategies:
            is_policy = getattr(type(strategy), "execute", None) is Policy.execute
            found += cast(Policy, strategy).layers if is_policy else (strategy,)
        return (*found, *trial.inside.get(self.name or "", ()))

    @property
    def writes(self) -> Writes | None:
        """What new calls go by of writes: what it was told, and policies inside where it was not; None for nothing."""
        told = None if self._standing_in() else _told(self)
        for strategy in self.strategies:
            inner = strategy.writes if isinstance(strategy, Policy) else None
            told = inner if told is None else told.over(inner)
        return told

    def __call__(self, fn: F) -> F:
        """Guard `fn`: a function, coroutine function, generator function, async generator function, or any other
        callable.

        The result has the same signature, types and kind, and is called the same way.
        """
        return cast(F, guard(self, fn))

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function under this policy. Raises TypeError when `fn` turns out to be async: see `acall`."""
        check_callable(fn, "call")
        plan = self.plan(None, invoke_any)
        call = call_of(plan, BLOCKING, fn, args, kwargs)
        result: T = drive(plan.enter(call)(call), functools.partial(refuse_awaitable, fn))
        return checked(fn, result)

    @overload
    async def acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def acall(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a coroutine function, any callable that returns an awaitable, or a plain one, under this policy."""
        check_callable(fn, "acall")
        plan = self.plan(None, invoke_any)
        call = call_of(plan, ASYNC, fn, args, kwargs)
        try:
            result = await plan.enter(call)(call)
        except Boxed as boxed:
            raise RuntimeError(STOPPED) from boxed.error
        return checked(fn, result)

    @overload
    def stream(self, fn: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...
    @overload
    def stream(self, fn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...
    @overload
    def stream(
        self, fn: Callable[P, Awaitable[AsyncIterable[T]]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...
    @overload
    def stream(self, fn: Callable[P, Awaitable[Iterable[T]]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...
    @overload
    def stream(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any]: ...
    def stream(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Iterate what `fn` yields or returns under this policy, as one call.

        `for` over it where `fn` is blocking, `async for` where it (or what it returns) is async; inside `with` or
        `async with` it is closed at the end of the block. It is retried or replaced only before its first item; slots
        are held until it closes; closing it early is neutral.
        """
        check_callable(fn, "stream")
        from resilient_agents.strategies.stream_text import text_in  # it knows all SDKs

        return Stream(WayIn(self, fn, invoke_stream).call, self.name or name_of(fn), text_in, args, kwargs)

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Run as a strategy inside another composition."""
        return chain_of(self.bind(), proceed)(call)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer(event)` for each event of every call that passes through this policy. Returns what undoes it.

        It is called where the event happens and must not block; what it raises is logged once and changes nothing.
        """
        subscription = Subscription(observer)
        with _changing:
            self._observers = (*self._observers, subscription)
        changed()

        def undo() -> None:
            with _changing:
                self._observers = tuple(s for s in self._observers if s is not subscription)
            changed()

        return undo

    def become(self, other: Policy) -> None:
        """New calls run the strategies of `other`, also through functions that are guarded already; calls in flight
        finish under the old ones.

        What is in both policies stays as it is. A circuit breaker (of the same name), a bulkhead or a rate limit of
        this policy stays too and takes over the numbers of its counterpart in `other`, the first of a kind for the
        first; a retry's budget likewise. So circuits, windows, slots and spent budgets are kept. `other` is made for
        this and not used otherwise; what it was told of writes counts from now on. Name and observers of this policy do
        not change. Raises ValueError if `other` contains this policy.
        """
        self._refuse_itself(other)
        with _changing:
            self._own = successors(self._own, other.strategies)
            self.idempotent, self.reconcile = other.idempotent, other.reconcile
        changed()

    @contextlib.contextmanager
    def replaced(self, other: Policy) -> Generator[None, None, None]:
        """Until the block ends, new calls everywhere in the process run `other` as it is, also through functions that
        are guarded already: for tests. Blocks may overlap; the one entered last counts. Raises ValueError if `other`
        contains this policy."""
        self._refuse_itself(other)
        nested = _StandIn(Policy(other))
        afterwards = object()
        try:
            with _changing:
                self._stand_ins = (*self._stand_ins, nested)
            changed()
            yield
        finally:
            # Nothing is called here, so no exception from outside lands before it is over and plans are stale.
            nested.over = True
            now.edition = afterwards
            with _changing:
                self._stand_ins = tuple(each for each in self._stand_ins if not each.over)

    def _standing_in(self) -> tuple[Policy, ...]:
        stand_ins = self._stand_ins
        return tuple([each.policy for each in stand_ins if not each.over])[-1:] if stand_ins else ()

    def describe(self) -> dict[str, Any]:
        """The policy as plain data that `json.dumps` takes: name, strategies in order, their options and live state."""
        return {
            "strategy": "policy",
            "name": self.name,
            **self._options(),
            "strategies": [_describe(strategy) for strategy in self.strategies],
        }

    def __repr__(self) -> str:
        parts = [repr(strategy) for strategy in self.strategies]
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        parts += [f"{option}={value}" for option, value in self._options().items() if value is not None]
        return f"Policy({', '.join(parts)})"

    def __reduce__(self) -> Any:
        return self._like(), self._own

    def _like(self) -> Callable[..., Policy]:
        """Makes a policy of the strategies it is given that has all else from this one."""
        return functools.partial(Policy, name=self.name, idempotent=self.idempotent, reconcile=self.reconcile)

    def _options(self) -> dict[str, Any]:
        told = _told(self)
        return {"idempotent": None, "reconcile": None} if told is None else told.describe()

    def plan(self, fn: Callable[..., Any] | None, innermost: Proceed) -> Plan:
        """How calls of `fn` go from now on, until a policy changes. Finds what is still to be found, in this policy and
        those inside, and raises what that raises."""
        for step, plan in self._plans:
            if step is innermost and plan.edition is now.edition:
                break
        else:
            plan = Composed(self, innermost)
            self._plans = (*(known for known in self._plans if known[0] is not innermost), (innermost, plan))
        return plan if fn is None or plan.name is not None else plan.named(name_of(fn))

    def bind(self) -> tuple[Strategy, ...]:
        """The layers, with all found that was still to be found: in this policy and in those inside."""
        inner = _policies_in(self)
        for policy in inner:
            policy.bind()
        return self.layers if inner or trial.inside else self.strategies

    @property
    def watchers(self) -> tuple[Subscription, ...]:
        """Who observes this policy and those inside, each once."""
        inner = [subscription for policy in _policies_in(self) for subscription in policy.watchers]
        return tuple(dict.fromkeys((*self._observers, *inner))) if inner else self._observers

    def renewed(self, new: Policy) -> Policy:
        """A policy that is like `new`, with the state that the strategies of this one have."""
        return new._like()(*successors(self.strategies, new.strategies))

    def _refuse_itself(self, other: Policy) -> None:
        inside = [other]
        for policy in inside:
            if policy is self:
                raise ValueError(f"a policy cannot stand inside itself, got {other!r}")
            inside += _policies_in(policy)


def _policies_in(policy: Policy) -> list[Policy]:
    return [strategy for strategy in policy.strategies if isinstance(strategy, Policy)]


def _describe(strategy: Strategy) -> dict[str, Any]:
    describe: Callable[[], dict[str, Any]] | None = getattr(strategy, "describe", None)
    return describe() if describe is not None else {"strategy": type(strategy).__name__}


def _told(policy: Policy) -> Writes | None:
    """What this one was told of writes. Raises TypeError or ValueError for a wrong type or value."""
    if policy.idempotent is None and policy.reconcile is None:
        return None
    from resilient_agents.idempotency import Writes  # few policies need it

    return Writes(policy.idempotent, policy.reconcile)
