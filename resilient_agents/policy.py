"""`Policy`: strategies composed once, around any callable."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from resilient_agents.adapters import adapt
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.base.now import changed, now
from resilient_agents.base.spelling import Spelled
from resilient_agents.base.trial import trial
from resilient_agents.core import attempts
from resilient_agents.core.audience import Audience
from resilient_agents.core.bounds import bounded
from resilient_agents.core.call import (
    Boxed,
    Call,
    Plan,
    Proceed,
    Strategy,
    call_of,
    name_of,
    rechecks_of,
)
from resilient_agents.core.driver import discard, drive
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.core.guard import guard, methods_of
from resilient_agents.core.invoke import invoke_any, refuse_unrun, runs_later
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.runtime import ASYNC, BLOCKING
from resilient_agents.core.streams import Stream
from resilient_agents.core.way_in import WayIn
from resilient_agents.deadline import Deadline, current, in_force
from resilient_agents.events import Observer, Subscription
from resilient_agents.strategies.stream_text import text_in
from resilient_agents.telemetry.bridge import in_force as recording

if TYPE_CHECKING:
    from resilient_agents.idempotency import Writes
    from resilient_agents.telemetry.connected import Connected

__all__ = ["Policy"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")

_changing = Lock()
"""Held while what a policy consists of is exchanged, never while a chain is composed or runs."""


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

    Raises TypeError or ValueError, when built, for an object that cannot be a strategy and for options of a wrong type
    or value.
    """

    _find: Callable[[], Policy] | None = None
    _found_by: Callable[[], Policy] | None = None
    _stand_ins: tuple[Policy, ...] = ()
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
        self._own: tuple[Strategy, ...] = tuple(adapt(strategy) for strategy in strategies)
        if idempotent is not None or reconcile is not None:
            self.idempotent, self.reconcile = idempotent, reconcile
            _told(self)

    @classmethod
    def late(cls, find: Callable[[], Policy], *, name: str) -> Policy:
        """A policy that is `find()`, asked for at its first call. Raises then what `find` raises, and asks again at the
        next. It pickles if `find` does, which is asked again in the other process."""
        policy = cls(name=name)
        policy._find = policy._found_by = find
        return policy

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """What new calls run through, outermost first."""
        return self._stand_ins[-1:] or self._own

    @property
    def layers(self) -> tuple[Strategy, ...]:
        """The same, with what policies inside consist of in their place, and what an experiment puts inside."""
        return (*_flatten(self.strategies), *trial.inside.get(self.name or "", ()))

    @property
    def writes(self) -> Writes | None:
        """What new calls go by of writes: what it was told, and policies inside where it was not; None for nothing."""
        told = None if self._stand_ins else _told(self)
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
        """Call a blocking function under this policy. Raises TypeError when `fn` turns out to be async: `await
        policy.acall(...)` then."""
        _check_callable(fn, "call")
        plan = self.plan(None, invoke_any)
        call = call_of(plan, BLOCKING, fn, args, kwargs)
        result: T = drive(plan.enter(call)(call), functools.partial(_refuse_awaitable, fn))
        if runs_later(type(result)):
            refuse_unrun(fn, result)
        return result

    @overload
    async def acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def acall(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a coroutine function, any callable that returns an awaitable, or a plain one, under this policy."""
        _check_callable(fn, "acall")
        plan = self.plan(None, invoke_any)
        call = call_of(plan, ASYNC, fn, args, kwargs)
        try:
            result = await plan.enter(call)(call)
        except Boxed as boxed:
            stopped = boxed.error
        else:
            if runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        try:
            raise stopped  # which Python makes a RuntimeError, as in every coroutine
        finally:
            del stopped

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
        _check_callable(fn, "stream")
        return Stream(WayIn(self, fn, invoke_stream).call, self.name or name_of(fn), text_in, args, kwargs)

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Run as a strategy inside another composition."""
        return _chain(_bound_layers(self), proceed)(call)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer(event)` for each event of every call that passes through this policy. Returns what undoes it.

        The observer is called where the event happens and must not block. What it raises is logged once and changes
        nothing.
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
            self._own = _successors(self._own, other.strategies)
            self.idempotent, self.reconcile = other.idempotent, other.reconcile
        changed()

    @contextlib.contextmanager
    def replaced(self, other: Policy) -> Generator[None, None, None]:
        """Until the block ends, new calls everywhere in the process run `other` as it is, also through functions that
        are guarded already: for tests. Blocks may overlap; the one entered last counts. Raises ValueError if `other`
        contains this policy."""
        self._refuse_itself(other)
        nested = Policy(other)  # an object of its own: the same policy may replace this one twice
        try:
            with _changing:
                self._stand_ins = (*self._stand_ins, nested)
            changed()
            yield
        finally:
            with _changing:
                self._stand_ins = tuple(policy for policy in self._stand_ins if policy is not nested)
            changed()

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
        if self._found_by is not None:
            return _rebuild_late, (self._found_by, self.name)
        return _rebuild, (self._own, self.name, self.idempotent, self.reconcile)

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
            plan = _Composed(self, innermost)
            self._plans = (*(known for known in self._plans if known[0] is not innermost), (innermost, plan))
        return plan if fn is None or plan.name is not None else plan.named(name_of(fn))

    @property
    def is_one_retry(self) -> bool:
        """Is it, as it is now, a retry alone, of which a wrapper may make the first attempt itself?"""
        return self.writes is None and _is_one_retry(self.layers)

    def bind(self) -> None:
        """Find what is still to be found of this policy. Does nothing after the first time."""
        find = self._find
        if find is not None and not self._stand_ins:
            found = find()  # with no lock held: it may take others
            with _changing:
                if self._find is not None:
                    self._own = (found,)
                    self._find = None
            changed()

    def _refuse_itself(self, other: Policy) -> None:
        if other is self or any(self is inner for inner in _nested(other)):
            raise ValueError(f"a policy cannot stand inside itself, got {other!r}")

    @property
    def watchers(self) -> tuple[Subscription, ...]:
        """Who observes this policy and those inside, each once."""
        inner = (s for strategy in self.strategies if isinstance(strategy, Policy) for s in strategy.watchers)
        return tuple(dict.fromkeys((*self._observers, *inner)))


class _Composed(Plan):
    """One policy around one innermost step, as it is in one edition: the quiet chain, and on demand the watched one."""

    __slots__ = ("_configuration", "_innermost", "_operation", "_special", "_watchers", "_writes")

    def __init__(self, policy: Policy, innermost: Proceed) -> None:
        edition = now.edition  # first: a change in the midst of this makes it out of date
        self._innermost = innermost
        layers = _bound_layers(policy)
        self._writes = policy.writes
        self._watchers = (*policy.watchers, *trial.observers)
        self._special: dict[Any, Proceed] = {}
        self._configuration = ""
        self._operation: Proceed | None = None
        super().__init__(policy.name, rechecks_of(layers), edition)
        self.layers = layers
        self.chain = _chain(layers, innermost) if self._writes is None else self._composed(None, watched=False)
        if self._watchers:
            self.quiet = None
        if self._writes is None and _is_one_retry(layers):
            self.alone = layers[0]

    def enter(self, call: Call) -> Proceed:
        """The chain for this call: the quiet one unless somebody watches or the caller has a deadline."""
        records = recording()
        limit = charged = None
        if now.deadline() is not None:
            limit = current()
            charged = None if now.budget() is None else now.charged
        if records is not None or self._watchers:
            return self._watched(call, records, limit, charged)
        chain = self.chain if charged is None else self._around_attempts(charged, watched=False)
        return chain if limit is None else _bounded(chain, call, limit)

    def _watched(self, call: Call, records: Connected | None, limit: Deadline | None, charged: Any) -> Proceed:
        """The same where somebody may want to know of the call."""
        watchers, name, began = self._watchers, call.name, clock.monotonic()
        self._configuration = configuration = self._configuration or self._fingerprint()
        left = None if limit is None else limit.at - began
        recorder = None if records is None else records.recorder(name)
        wanted = recorder is not None and recorder.begin(began, configuration, left)
        if wanted or watchers or (recorder is not None and call.closers is not None):
            call.own_rare().audience = Audience(name, watchers, recorder, began, configuration, left)
            if limit is None and charged is None:
                return self._operation or self._as_operation()
            chain = self._around_attempts(charged, watched=True)
            return functools.partial(attempts.operation, chain if limit is None else _bounded(chain, call, limit))
        chain = self.chain if charged is None else self._around_attempts(charged, watched=False)
        if limit is not None:
            chain = _bounded(chain, call, limit)
        return chain if recorder is None else functools.partial(attempts.unrecorded, chain, recorder)

    def _as_operation(self) -> Proceed:
        self._operation = operation = functools.partial(attempts.operation, self._around_attempts(None, watched=True))
        return operation

    def paid(self) -> Proceed | None:
        """What a call runs that is ordinary but for the budget of a run; None where it has a deadline, too."""
        return None if in_force() is not None else self._around_attempts(now.charged, watched=False)

    def _around_attempts(self, charged: Any, *, watched: bool) -> Proceed:
        """The chain with what is put around each attempt: its watch, and what charges it to the budget of a run."""
        key = (charged, True) if watched else charged
        chain = self._special.get(key)
        if chain is None:
            chain = self._special[key] = self._composed(charged, watched=watched)
        return chain

    def _composed(self, charged: Any, *, watched: bool) -> Proceed:
        layers = self.layers
        split = 1 + max((i for i, layer in enumerate(layers) if getattr(layer, "owns_attempts", False)), default=-1)
        last = next((layer for layer in reversed(layers[:split]) if not getattr(layer, "races", False)), None)
        judge: attempts.Judge | None = getattr(last, "failed", None) if getattr(last, "judges_results", True) else None
        if not split:  # without a retry the whole policy is the attempt, but for what stands in when it fails
            split = sum(1 for _ in itertools.takewhile(lambda layer: getattr(layer, "stands_in", False), layers))
        owners = [layer for layer in layers if getattr(layer, "owns_attempts", False)]
        retried = not all(getattr(layer, "races", False) for layer in owners)
        attempt = _chain(layers[split:], self._innermost)
        if watched:
            attempt = functools.partial(attempts.attempt, attempt, judge, retried)
        if charged is not None:
            attempt = functools.partial(charged, attempt)
        if self._writes is None:
            return _chain(layers[:split], attempt)
        return functools.partial(
            self._writes.whole, _chain(layers[:split], functools.partial(self._writes.attempt, attempt))
        )

    def _fingerprint(self) -> str:
        told = () if self._writes is None else (self._writes,)
        return fingerprint((*self.layers, *told))


def _bounded(chain: Proceed, call: Call, limit: Deadline) -> Proceed:
    """The chain within the caller's deadline, where nobody else of this task sees to it."""
    if call.runtime.blocking or limit.owner != call.runtime.owner():
        return functools.partial(bounded, chain, limit)
    return chain


def _chain(layers: Iterable[Strategy], innermost: Proceed) -> Proceed:
    proceed = innermost
    for layer in reversed(tuple(layers)):
        proceed = functools.partial(layer.execute, proceed)
    return proceed


def _flatten(strategies: Iterable[Strategy]) -> Iterator[Strategy]:
    for strategy in strategies:
        if getattr(type(strategy), "execute", None) is Policy.execute:
            yield from cast(Policy, strategy).layers
        else:
            yield strategy


def _is_one_retry(layers: tuple[Strategy, ...]) -> bool:
    return len(layers) == 1 and getattr(layers[0], "alone", False)


def _bound_layers(policy: Policy) -> tuple[Strategy, ...]:
    """The layers of a policy that is about to run, with all found that was still to be found."""
    policy.bind()
    for strategy in policy.strategies:
        if isinstance(strategy, Policy):
            _bound_layers(strategy)
    return policy.layers


def _nested(policy: Policy) -> Iterator[Policy]:
    for strategy in policy.strategies:
        if isinstance(strategy, Policy):
            yield strategy
            yield from _nested(strategy)


def _successors(old: Iterable[Strategy], new: Iterable[Strategy]) -> tuple[Strategy, ...]:
    """The strategies `new`, with state and all from those of `old` that they follow."""
    wanted = tuple(new)
    left = [strategy for strategy in old if not any(strategy is kept for kept in wanted)]
    kept = [strategy for strategy in old if any(strategy is same for same in wanted)]
    # A list first: while a tuple is filled from a generator, code that looks at all objects can make that fail.
    return tuple([strategy if any(strategy is k for k in kept) else _successor(left, strategy) for strategy in wanted])


def _successor(left: list[Strategy], new: Strategy) -> Strategy:
    name = getattr(new, "name", None)
    for old in left:
        if type(old) is type(new) and (name is None or getattr(old, "name", None) == name):
            break
    else:
        return new
    left.remove(old)
    if isinstance(old, Policy) and isinstance(new, Policy):
        return _rebuild(_successors(old.strategies, new.strategies), new.name, new.idempotent, new.reconcile)
    reconfigure: Callable[[Strategy], None] | None = getattr(old, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(new)
        return old
    take_over: Callable[[Strategy], None] | None = getattr(new, "take_over", None)
    if take_over is not None:
        take_over(old)
    return new


def _describe(strategy: Strategy) -> dict[str, Any]:
    describe: Callable[[], dict[str, Any]] | None = getattr(strategy, "describe", None)
    return describe() if describe is not None else {"strategy": type(strategy).__name__}


def _told(policy: Policy) -> Writes | None:
    """What this one was told of writes. Raises TypeError or ValueError for a wrong type or value."""
    if policy.idempotent is None and policy.reconcile is None:
        return None
    from resilient_agents.idempotency import Writes  # few policies need it

    return Writes(policy.idempotent, policy.reconcile)


def _rebuild(
    strategies: tuple[Strategy, ...],
    name: str | None,
    idempotent: bool | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> Policy:
    return Policy(*strategies, name=name, idempotent=idempotent, reconcile=reconcile)


def _rebuild_late(find: Callable[[], Policy], name: str) -> Policy:
    return Policy.late(find, name=name)


def _check_callable(fn: object, method: str) -> None:
    if not callable(fn):
        discard(fn)  # a coroutine that would never be awaited
        raise TypeError(
            f"policy.{method} takes a function and its arguments, `policy.{method}(fn, 1, 2)`, "
            f"got {type(fn).__name__}{methods_of(fn) or ': was the function called already?'}"
        )


def _refuse_awaitable(fn: Callable[..., Any], begun: Any) -> Any:
    discard(begun)
    raise TypeError(
        f"{name_of(fn)} returned an awaitable: use `await policy.acall(...)` or decorate it with the policy"
    )
