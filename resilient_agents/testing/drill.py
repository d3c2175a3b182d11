"""What a policy does when that fails which it guards, played through in virtual time."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import MagicMock

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.core.loops import running_loop
from resilient_agents.deadline import deadline
from resilient_agents.errors import BulkheadFullError, CircuitOpenError, PolicyTimeoutError
from resilient_agents.policy import Policy
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.testing.clock import FakeClock

__all__ = ["Outage", "drill", "stand_in"]

MOST = 500
"""Calls until a circuit has to be open, and until it has to be closed again."""
ROUNDING = 0.001
"""Seconds beyond the time of a circuit: two floats that add up to it may come to a little less."""
ENOUGH = 1.0
"""Seconds after which a call that is still not let in is held back: less than presets give those that are inside."""
PATIENCE = 60.0
"""Real seconds until all calls of a crowd have to be under way, and until one that is held answers all the same."""


class Pending:
    """An answer that is still to come: clients let one await it, or enter it."""

    def __init__(self, outage: Outage, meant: bool) -> None:
        self._outage, self._meant = outage, meant

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._outage.later(self._meant).__await__()

    async def __aenter__(self) -> Any:
        return await (await self).__aenter__()

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


class Outage:
    """A function that fails when it is told to, and answers with its one `MagicMock` otherwise.

    Args:
        error: The kind of its failures, as for `Chaos`: "connection", "overload", ...
        to: Of the calls only those fail and wait that have this text among their arguments: a host, where others are
            called by the same function. Default: all of them.

    The object itself is a plain function, `coroutine` one for async code.
    """

    def __init__(self, error: str = "connection", *, to: str = "") -> None:
        self._to = to
        self._failure = self._sent = Chaos(error=error)
        self._left = 0
        self._held: threading.Event | None = None
        self.answer: Any = MagicMock()  # one for all: to make one takes longer than the call
        """What it gives."""
        self.calls = 0
        """How often it was called."""
        self._ways: set[bool] = set()

    def fail(self, times: int, *, sent: bool = True) -> None:
        """Let its next calls fail; 0: answer again. `sent=False`: before anything is sent."""
        self._left = times
        self._failure = self._sent if sent else Chaos(error=ConnectionRefusedError)

    def hold(self) -> None:
        """Let calls wait until `release`."""
        self._held = threading.Event()

    def release(self) -> None:
        if self._held is not None:
            self._held.set()
        self._held = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._meant(args, kwargs):
            return self.answer
        if self._held is not None and running_loop() is None:  # a loop that is held up runs nothing else
            self._held.wait(PATIENCE)
        self._ways.add(False)
        return self._answer()

    def coroutine(self, *args: Any, **kwargs: Any) -> Pending:
        """The same for async code: what it returns may be awaited, or entered by `async with`."""
        return Pending(self, self._meant(args, kwargs))

    async def later(self, meant: bool = True) -> Any:
        """Its answer, as soon as it is not held."""
        if not meant:
            return self.answer
        while self._held is not None:  # noqa: ASYNC110 - an event belongs to one loop
            await asyncio.sleep(1)
        self._ways.add(True)
        return self._answer()

    @property
    def awaited(self) -> bool:
        """Whether all calls so far were awaited, so that a time limit can end them."""
        return self._ways == {True}

    def _meant(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        return any(self._to in str(each) for each in (*args, *kwargs.values())) if self._to else True

    def _answer(self) -> Any:
        self.calls += 1
        if self._left > 0:
            self._left -= 1
            raise self._failure.made()
        return self.answer


def stand_in(calls: Mapping[str, Any]) -> Any:
    """An object in place of a client or a module: each of these calls, by its path as for `unittest.mock`, is what is
    given for it, and anything else a `MagicMock`. With the path "" the object itself is called.

    Calls may stand behind what an `Outage` gives: `find` and `find.return_value.click`."""
    if "" in calls:
        return calls[""]
    behind = {path: other for path in calls for other in calls if path.startswith(f"{other}.return_value.")}
    for path, other in behind.items():
        outage = getattr(calls[other], "__self__", calls[other])  # `coroutine` is one of its methods
        outage.answer.configure_mock(**{path.removeprefix(f"{other}.return_value."): calls[path]})
    return MagicMock(**{path: call for path, call in calls.items() if path not in behind})


def drill(
    call: Callable[[], Any], outage: Outage, policy: Policy, *, health: Callable[[], object] | None = None
) -> Iterator[str]:
    """Let `outage` fail, and say in a line each what retry, circuit breaker, bulkhead and health check did.

    Args:
        call: A call through the policy that ends at the outage; it may return an awaitable (of asyncio).
        health: The health check of what fails: its answer has to change with the circuit.

    Raises AssertionError where one of them does not do its work.
    """
    strategies = list(policy.strategies)
    with FakeClock() as clock:
        one = _One(call, clock)
        one()
        seen = (Retry, CircuitBreaker, Bulkhead, Timeout) if outage.awaited else (Retry, CircuitBreaker, Bulkhead)
        if health is None and not any(isinstance(each, seen) for each in strategies):
            yield "answered; no retry, circuit breaker, bulkhead or health check to show"
        if any(isinstance(each, Retry) for each in strategies):
            yield from _once(one, outage) if policy.idempotent is False else _retried(one, outage)
        if health is not None:
            yield f"health check: {health()}"
        for breaker in strategies:
            if isinstance(breaker, CircuitBreaker):
                yield from _opened(one, outage, breaker, health)
                yield from _closed(one, outage, breaker, clock, health)
        if health is not None and not any(isinstance(each, CircuitBreaker) for each in strategies):
            yield from _noticed(one, outage, health)
        for bulkhead in strategies:
            if isinstance(bulkhead, Bulkhead):
                yield _filled(one, outage, bulkhead)
        if outage.awaited and any(isinstance(each, Timeout) for each in strategies):
            yield _ended(one, outage)


class _One:
    """A call, whichever colour it has."""

    def __init__(self, call: Callable[[], Any], clock: FakeClock) -> None:
        self.call, self.clock = call, clock
        self.is_async = self.blocks_loop = False

    def __call__(self) -> None:
        made = self.call()
        if inspect.isawaitable(made):
            self.is_async = True
            self.clock.run(_awaited, made)

    def fails_with(self) -> Exception | None:
        try:
            self()
        except Exception as error:
            return error
        return None


def _holds(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made


def _retried(one: _One, outage: Outage) -> Iterator[str]:
    before = outage.calls
    one()
    each = outage.calls - before
    outage.fail(1)
    one()
    outage.fail(0)
    _holds(outage.calls - before > 2 * each, "a failure was not tried again")
    yield "retry: the first attempt failed, and the call was answered"


def _once(one: _One, outage: Outage) -> Iterator[str]:
    outage.fail(1)
    _holds(one.fails_with() is not None, "what may not be made twice was made again")
    outage.fail(1, sent=False)
    answered = one.fails_with() is None
    outage.fail(0)
    yield "retry: what may have taken effect was not done again"
    if answered:
        yield "retry: the first attempt sent nothing, and the call was answered"


def _opened(one: _One, outage: Outage, breaker: CircuitBreaker, health: Callable[[], object] | None) -> Iterator[str]:
    before = health() if health is not None else None
    outage.fail(1_000_000)
    calls = 0
    while breaker.state != "open" and calls < MOST:
        one.fails_with()
        calls += 1
    _holds(isinstance(one.fails_with(), CircuitOpenError), "the circuit did not open")
    yield f"circuit breaker: open after {calls} calls, the next one was refused at once"
    if health is not None:
        now = health()
        _holds(now != before, "the health check did not turn")
        yield f"health check: {now}"


def _closed(
    one: _One, outage: Outage, breaker: CircuitBreaker, clock: FakeClock, health: Callable[[], object] | None
) -> Iterator[str]:
    outage.fail(0)
    clock.advance((breaker.retry_after or 0.0) + ROUNDING)
    calls = 0
    while breaker.state != "closed" and calls < MOST:
        one.fails_with()
        calls += 1
    _holds(breaker.state == "closed", "the circuit did not close again")
    yield f"circuit breaker: closed again by {calls} call{'' if calls == 1 else 's'} when its time was up"
    if health is not None:
        yield f"health check: {health()}"


def _noticed(one: _One, outage: Outage, health: Callable[[], object]) -> Iterator[str]:
    before = health()
    outage.fail(1_000_000)
    one.fails_with()
    now = health()
    _holds(now != before, "the health check did not turn")
    yield f"health check: {now}"
    outage.fail(0)
    one()
    yield f"health check: {health()}"


def _filled(one: _One, outage: Outage, bulkhead: Bulkhead) -> str:
    outage.hold()
    refused = one.clock.run(_crowd, one, outage, bulkhead) if one.is_async else _threads(one, outage, bulkhead)
    if one.blocks_loop:
        return "bulkhead: never full, because these calls hold up the event loop: one ends before the next begins"
    _holds(
        isinstance(refused, (BulkheadFullError, PolicyTimeoutError)),
        f"the bulkhead let a call too many in: {refused!r}",
    )
    return f"bulkhead: beyond {bulkhead.limit} calls at once the next one was not let in"


def _ended(one: _One, outage: Outage) -> str:
    outage.hold()
    began = one.clock.now
    error = one.fails_with()
    outage.release()
    _holds(isinstance(error, (TimeoutError, CircuitOpenError)), f"no time limit ended a call: {error!r}")
    return f"time limit: a call that hangs ends after {one.clock.now - began:.3g} s"


async def _crowd(one: _One, outage: Outage, bulkhead: Bulkhead) -> Exception | None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(bulkhead.limit + 1))  # for calls in threads
    tasks = [asyncio.ensure_future(one.call()) for _ in range(bulkhead.limit)]
    until = time.monotonic() + PATIENCE  # some come from threads
    while bulkhead.in_use < bulkhead.limit and time.monotonic() < until and not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        time.sleep(0.0002)  # noqa: ASYNC251 - threads get on while this one rests
    one.blocks_loop = bulkhead.in_use < bulkhead.limit
    try:
        with deadline(ENOUGH):
            await one.call()
    except Exception as error:
        return error
    finally:
        outage.release()
        await asyncio.gather(*tasks, return_exceptions=True)
    return None


def _threads(one: _One, outage: Outage, bulkhead: Bulkhead) -> Exception | None:
    with ThreadPoolExecutor(bulkhead.limit) as threads:
        try:
            for _ in range(bulkhead.limit):
                threads.submit(one.fails_with)
            until = time.monotonic() + PATIENCE
            while bulkhead.in_use < bulkhead.limit and time.monotonic() < until:
                time.sleep(0.001)
            with deadline(ENOUGH):
                return one.fails_with()
        finally:
            outage.release()
