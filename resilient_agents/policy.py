"""`Policy`: strategies composed once, around any callable."""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, cast, overload

from resilient_agents.adapters import adapt
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.core import watch
from resilient_agents.core.call import Audience, Boxed, Call, Plan, Proceed, Rechecks, Strategy, name_of
from resilient_agents.core.guard import guard, methods_of
from resilient_agents.core.invoke import invoke_any, refuse_unrun, runs_later
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.runtime import ASYNC, BLOCKING, EXPIRED, discard, drive
from resilient_agents.core.streams import Stream
from resilient_agents.deadline import Deadline, current, enter, in_force, leave
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.events import Event, Observer, Recorder, Subscription, TimeoutExpired
from resilient_agents.telemetry import active as recording
from resilient_agents.telemetry import recorder as record

__all__ = ["Policy"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")

_changing = Lock()
"""Held while chains are built and exchanged, never while one runs or is entered."""


def _ignore(event: Event) -> None:
    """Nobody listens; there is something to do before the call."""


_UNBOUND = Subscription(_ignore)
"""Among the watchers while a policy, or one inside it, is still to be found: a watched call looks twice, so that an
ordinary one need not."""


class Policy:
    """Strategies around a callable, outermost first: `Policy(A, B, C)` runs `A(B(C(fn)))`.

    A strategy is one of ours (`Retry(3)`), a native tenacity, pybreaker, anyio or aiolimiter object, another `Policy`,
    or anything with an `execute(proceed, call)` method. A policy is itself a strategy, is made once and shared: by many
    functions, threads and event loops.

    `name` shows in errors, events and telemetry; by default it is the guarded function's `module.qualname`.
    Raises TypeError, when built, for an object that cannot be a strategy.
    """

    def __init__(self, *strategies: Any, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name must be a non-empty string or None, got {name!r}")
        self.name = name
        self._find: Callable[[], Policy] | None = None
        self._own: tuple[Strategy, ...] = tuple(adapt(strategy) for strategy in strategies)
        self._stand_ins: tuple[Policy, ...] = ()
        self._composed: dict[Proceed, _Composed] = {}
        self._observers: tuple[Subscription, ...] = ()
        self._parents: weakref.WeakSet[Policy] = weakref.WeakSet()
        self.watchers: tuple[Subscription, ...] = ()
        self.strategies: tuple[Strategy, ...] = ()
        self.layers: tuple[Strategy, ...] = ()
        self._plan = Plan(name)
        self.revised = False
        with _changing:
            self._consist_of(self._own)

    @classmethod
    def late(cls, find: Callable[[], Policy], *, name: str) -> Policy:
        """A policy that is `find()`, asked for at its first call. Raises then what `find` raises, and asks again at the
        next."""
        policy = cls(name=name)
        with _changing:
            policy._find = find
            policy._gather_watchers()
        return policy

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
        call = Call(self._plan, BLOCKING, fn, args, kwargs)
        result: T = drive(self.composed(invoke_any).enter(call)(call), _refuse_awaitable(call))
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
        call = Call(self._plan, ASYNC, fn, args, kwargs)
        try:
            result = await self.composed(invoke_any).enter(call)(call)
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
        return Stream(self.composed(invoke_stream).enter, Call(self._plan, BLOCKING, fn, args, kwargs))

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Run as a strategy inside another composition."""
        self.bind()
        return _chain(self.layers, proceed)(call)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call `observer(event)` for each event of every call that passes through this policy. Returns what undoes it.

        The observer is called where the event happens and must not block. What it raises is logged once and changes
        nothing.
        """
        subscription = Subscription(observer)
        with _changing:
            self._observers = (*self._observers, subscription)
            self._gather_watchers()

        def undo() -> None:
            with _changing:
                self._observers = tuple(s for s in self._observers if s is not subscription)
                self._gather_watchers()

        return undo

    def become(self, other: Policy) -> None:
        """New calls run the strategies of `other`, also through functions that are guarded already; calls in flight
        finish under the old ones.

        What is in both policies stays as it is. A circuit breaker (of the same name), a bulkhead or a rate limit of
        this policy stays too and takes over the numbers of its counterpart in `other`, the first of a kind for the
        first; a retry's budget likewise. So circuits, windows, slots and spent budgets are kept. `other` is made for
        this and not used otherwise. Name and observers of this policy do not change. Raises ValueError if `other`
        contains this policy.
        """
        self._refuse_itself(other)
        with _changing:
            self._own = _successors(self._own, other.strategies)
            if not self._stand_ins:
                self._consist_of(self._own)

    @contextlib.contextmanager
    def replaced(self, other: Policy) -> Generator[None, None, None]:
        """Until the block ends, new calls everywhere in the process run `other` as it is, also through functions that
        are guarded already: for tests. Blocks may overlap; the one entered last counts. Raises ValueError if `other`
        contains this policy."""
        self._refuse_itself(other)
        nested = Policy(other)  # an object of its own: the same policy may replace this one twice
        with _changing:
            self._stand_ins = (*self._stand_ins, nested)
            self._consist_of((nested,))
        try:
            yield
        finally:
            with _changing:
                self._stand_ins = tuple(policy for policy in self._stand_ins if policy is not nested)
                self._consist_of(self._stand_ins[-1:] or self._own)

    def describe(self) -> dict[str, Any]:
        """The policy as plain data that `json.dumps` takes: name, strategies in order, their options and live state."""
        return {
            "strategy": "policy",
            "name": self.name,
            "strategies": [_describe(strategy) for strategy in self.strategies],
        }

    def __repr__(self) -> str:
        parts = [repr(strategy) for strategy in self.strategies]
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        return f"Policy({', '.join(parts)})"

    def __reduce__(self) -> Any:
        self.bind()
        return _rebuild, (self._own, self.name)

    def composed(self, innermost: Proceed) -> _Composed:
        """The composition around one innermost step, made once."""
        found = self._composed.get(innermost)
        if found is None:
            with _changing:
                found = self._composed.setdefault(innermost, _Composed(self, innermost))
        return found

    def plan_for(self, fn: Callable[..., Any]) -> Plan:
        return self._plan.named(name_of(fn))

    @property
    def rechecks(self) -> Rechecks:
        """Which layers want a second look at a call that waited in which, as of now."""
        return self._plan.rechecks

    def bind(self) -> None:
        """Find what is still to be found, in this policy and those inside. Does nothing after the first time."""
        find = self._find
        if find is not None:
            found = find()  # with no lock held: it may take others
            with _changing:
                if self._find is not None:
                    self._own = (found,)
                    self._find = None
                    if not self._stand_ins:
                        self._consist_of(self._own)
                    else:
                        self._gather_watchers()
        for strategy in self.strategies:
            if isinstance(strategy, Policy):
                strategy.bind()

    def _refuse_itself(self, other: Policy) -> None:
        if other is self or any(self is inner for inner in _nested(other)):
            raise ValueError(f"a policy cannot stand inside itself, got {other!r}")

    def _consist_of(self, strategies: tuple[Strategy, ...]) -> None:
        for strategy in self.strategies:
            if isinstance(strategy, Policy) and strategy not in strategies:
                strategy._parents.discard(self)  # noqa: SLF001  # the same class
        self.strategies = strategies
        for strategy in strategies:
            if isinstance(strategy, Policy):
                strategy._parents.add(self)  # noqa: SLF001  # the same class
        self._compose()
        self._gather_watchers()

    def _compose(self) -> None:
        """Build all chains anew. One read of one attribute decides which chain a call takes, the old or the new one."""
        layers, self.layers = self.layers, tuple(_flatten(self.strategies))
        plan = Plan(self.name, self.layers)
        if not layers and not self.revised:  # no call of before can have waited: its plan serves on
            self._plan.rechecks.update(plan.rechecks)
        else:
            self._plan = plan
            self.revised = True
        for composed in list(self._composed.values()):
            composed.compose()
        for parent in list(self._parents):
            parent._compose()  # noqa: SLF001  # the same class

    def _gather_watchers(self) -> None:
        inner = (strategy.watchers for strategy in self.strategies if isinstance(strategy, Policy))
        unbound = () if self._find is None else (_UNBOUND,)
        self.watchers = tuple(dict.fromkeys((*self._observers, *(s for watchers in inner for s in watchers), *unbound)))
        for parent in list(self._parents):
            parent._gather_watchers()  # noqa: SLF001  # the same class


class _Composed:
    """One policy around one innermost step: the quiet chain, and on demand the watched one."""

    def __init__(self, policy: Policy, innermost: Proceed) -> None:
        self._policy = policy
        self._innermost = innermost
        self.compose()

    def compose(self) -> None:
        """The chains for calls from now on."""
        self.quiet = self._current(_chain(self._policy.layers, self._innermost))
        self._watched: Proceed | None = None

    def enter(self, call: Call) -> Proceed:
        """The chain for this call: the quiet one unless somebody watches or the caller has a deadline."""
        if not recording() and not self._policy.watchers and in_force() is None:
            return self.quiet
        return self._enter(call)

    def _enter(self, call: Call) -> Proceed:
        watchers = self._policy.watchers
        if watchers and _UNBOUND in watchers:
            self._policy.bind()
            return self.enter(call)
        limit = current()
        chain = self.quiet
        dropped: Recorder | None = None
        if watchers or recording():
            name = call.name
            recorder = record(name) if recording() else None
            if recorder is not None and not watchers and call.closers is None and not recorder.begin():
                dropped = recorder
            elif watchers or recorder is not None:
                call.audience = Audience(name, watchers, recorder)
                chain = self._watched or self._watch()
        if limit is not None and (call.runtime.blocking or limit.owner != call.runtime.owner()):
            chain = functools.partial(_bounded, chain, limit)
        if dropped is not None:
            return functools.partial(watch.unrecorded, chain, dropped)
        return chain if call.audience is None else functools.partial(watch.operation, chain)

    def _watch(self) -> Proceed:
        with _changing:
            layers = self._policy.layers
            split = 1 + max((i for i, layer in enumerate(layers) if getattr(layer, "owns_attempts", False)), default=-1)
            last = next((layer for layer in reversed(layers[:split]) if not getattr(layer, "races", False)), None)
            judge: watch.Judge | None = getattr(last, "failed", None)
            if not split:  # without a retry the whole policy is the attempt, but for what stands in when it fails
                split = sum(1 for _ in itertools.takewhile(lambda layer: getattr(layer, "stands_in", False), layers))
            owners = [layer for layer in layers if getattr(layer, "owns_attempts", False)]
            retried = not all(getattr(layer, "races", False) for layer in owners)
            attempt = functools.partial(watch.attempt, _chain(layers[split:], self._innermost), judge, retried)
            self._watched = watched = self._current(_chain(layers[:split], attempt))
            return watched

    def _current(self, chain: Proceed) -> Proceed:
        """`chain`, which brings its own rechecks along once the policy is not what it was when calls were planned."""
        return functools.partial(_under, self._policy.rechecks, chain) if self._policy.revised else chain


def _under(rechecks: Rechecks, proceed: Proceed, call: Call) -> Awaitable[Any]:
    call.rechecks = rechecks
    return proceed(call)


async def _bounded(proceed: Proceed, outer: Deadline, call: Call) -> Any:
    """Hold a call to the deadline that its caller set."""
    limit = Deadline(outer.at, outer.seconds, outer, own=False)
    result: Any = EXPIRED
    try:
        enter(limit)
        if outer.at > clock.monotonic():
            result = await call.runtime.within(limit, proceed, call)
        if result is EXPIRED:
            if call.audience is not None:
                call.audience.tell(TimeoutExpired(call.audience.policy, "deadline", outer.seconds))
            raise DeadlineExceeded(
                f"{call.name!r} ran into its caller's deadline of {outer.seconds:g} s",
                policy=call.name,
                strategy="deadline",
                limit=outer.seconds,
            ) from call.error
        return result
    finally:
        limit.active = False  # first, and without a call: an exception from outside may keep `leave` from beginning
        call.error = None
        leave(limit)


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
        return Policy(*_successors(old.strategies, new.strategies), name=new.name)
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


def _rebuild(strategies: tuple[Strategy, ...], name: str | None) -> Policy:
    return Policy(*strategies, name=name)


def _check_callable(fn: object, method: str) -> None:
    if not callable(fn):
        discard(fn)  # a coroutine that would never be awaited
        raise TypeError(
            f"policy.{method} takes a function and its arguments, `policy.{method}(fn, 1, 2)`, "
            f"got {type(fn).__name__}{methods_of(fn) or ': was the function called already?'}"
        )


def _refuse_awaitable(call: Call) -> Callable[[Any], Any]:
    def refuse(chain: Any) -> Any:
        discard(chain)
        raise TypeError(
            f"{name_of(call.fn)} returned an awaitable: use `await policy.acall(...)` or decorate it with the policy"
        )

    return refuse
