"""The two colours: how a call sleeps, is limited in time and waits for others, blocking or async (asyncio and trio
through anyio).

Everything else in the package is written once, as coroutines over these objects. A blocking runtime sleeps in the
thread and never suspends, with one exception: `SWITCH`, by which a chain that began blocking goes on as an awaitable.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, Protocol

import anyio

from resilient_agents.base.clock import clock
from resilient_agents.core.call import Boxed, Call, Proceed
from resilient_agents.core.loops import running_trio
from resilient_agents.core.waiters import TaskWaiter, ThreadWaiter, TrioWaiter, Waiter
from resilient_agents.deadline import Deadline, resume, suspend

__all__ = [
    "ASYNC",
    "BLOCKING",
    "EXPIRED",
    "SWITCH",
    "Begun",
    "Expired",
    "Runtime",
    "discard",
    "drive",
    "go_on",
    "idle",
    "is_awaitable",
    "new_driver",
    "settle",
    "unfinished",
]


class _Expired:
    __slots__ = ()


EXPIRED: Final = _Expired()


class Expired(BaseException):
    """Unwinds a blocking call whose worker thread ran out of time, as a cancellation does in async code: no strategy
    catches it but the `Timeout` that set `limit`."""

    def __init__(self, limit: Deadline) -> None:
        super().__init__()
        self.limit = limit


class Runtime(Protocol):
    """What differs between blocking and async code."""

    blocking: bool

    async def sleep(self, seconds: float) -> None:
        """Sleep in this colour."""
        ...

    async def within(self, limit: Deadline, proceed: Proceed, call: Call) -> Any:
        """`proceed(call)`, cut off at `limit`; `EXPIRED` when it was. A TimeoutError of the user's passes through."""
        ...

    def waiter(self) -> Waiter:
        """A waiter for the current thread or task."""
        ...

    def owner(self) -> int:
        """Identity of the current thread or task."""
        ...


def _asyncio_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class Blocking:
    blocking = True

    def __reduce__(self) -> str:
        return "BLOCKING"

    async def sleep(self, seconds: float) -> None:
        clock.sleep(seconds)

    async def within(self, limit: Deadline, proceed: Proceed, call: Call) -> Any:
        """Cooperative: whoever waits looks at the deadline; only a worker thread can be left behind, by `Expired`.

        A chain that turns out to be an awaitable is held to its limit from there on, like any other.
        """
        limit.owner = threading.get_ident()
        chain: Coroutine[Any, Any, Any] = proceed(call)  # type: ignore[assignment]  # chains are coroutines
        try:
            signal = chain.send(None)
        except StopIteration as done:
            return done.value
        except Expired as expired:
            if expired.limit is not limit:
                raise
            return EXPIRED
        if signal is not SWITCH:
            chain.close()
            raise RuntimeError(_SUSPENDED)
        return await _within_from_here(limit, chain, call)

    def waiter(self) -> Waiter:
        return ThreadWaiter()

    def owner(self) -> int:
        return threading.get_ident()


class _Alarm:
    """Cancels a task when its time is up, and remembers that."""

    __slots__ = ("rung", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.rung = False

    def ring(self) -> None:
        self.rung = True
        self.task.cancel()

    def fired(self) -> bool:
        return self.rung


def _has_fired(scope: anyio.CancelScope, limit: Deadline) -> bool:
    try:
        return scope.cancel_called
    except RuntimeError:  # trio looks at its clock, which it has in its own thread only
        return clock.monotonic() >= limit.at


class Async:
    blocking = False

    def __reduce__(self) -> str:
        return "ASYNC"

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def within(self, limit: Deadline, proceed: Proceed, call: Call) -> Any:
        """On asyncio by a timer that cancels the task, elsewhere by an anyio scope.

        The timer does what `asyncio.timeout` does at half of its 3.4 us (an anyio scope costs 5.5), and turns nothing
        into a TimeoutError that would have to be told from the user's. The expiry is a native cancellation:
        `asyncio.shield` holds against it, an anyio shield does not.
        """
        seconds = limit.at - clock.monotonic()
        task = _asyncio_task()
        if task is None:
            limit.owner = self.owner()
            with anyio.move_on_after(seconds) as scope:
                limit.fired = lambda: _has_fired(scope, limit)
                return await proceed(call)
            return EXPIRED
        limit.owner = id(task)
        alarm = _Alarm(task)
        limit.fired = alarm.fired
        requests = task.cancelling()
        timer = task.get_loop().call_later(max(0.0, seconds), alarm.ring)
        try:
            result = await proceed(call)
        except BaseException as error:
            # A cancellation from outside stands even in the tick of ours; so does any error the callee made of it.
            if alarm.rung and task.uncancel() <= requests and isinstance(error, asyncio.CancelledError):
                return EXPIRED
            raise
        finally:
            timer.cancel()
        if alarm.rung:
            task.uncancel()
        return result

    def waiter(self) -> Waiter:
        task = _asyncio_task()
        return TrioWaiter(running_trio()) if task is None else TaskWaiter(task.get_loop())

    def owner(self) -> int:
        task = _asyncio_task()
        return anyio.get_current_task().id if task is None else id(task)


BLOCKING: Final[Runtime] = Blocking()
ASYNC: Final[Runtime] = Async()


class _Switch:
    """Suspends a blocking chain once, to tell its driver that the rest of it is an awaitable; then the call is
    async."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield self


SWITCH: Final = _Switch()


def is_awaitable(result: object) -> bool:
    return hasattr(type(result), "__await__")


async def settle(call: Call, result: Any) -> Any:
    """The value of what a user's function returned: awaited if it is awaitable, after leaving the blocking colour where
    necessary."""
    if not is_awaitable(result):
        return result
    awaitable: Awaitable[Any] = result
    if call.runtime.blocking:
        probes = () if call.probes is None else tuple(call.probes.values())
        for probe in probes:  # the context of the caller, who goes on too, is none of theirs
            probe.suspend()
        try:
            await SWITCH
        except GeneratorExit:
            discard(awaitable)
            raise
        for probe in probes:
            probe.resume()
        call.runtime = ASYNC
    return await awaitable


def discard(awaitable: object) -> None:
    """Drop an awaitable that nobody will await, without the warning that it never was."""
    close = getattr(awaitable, "close", None) or getattr(awaitable, "cancel", None)
    if callable(close):
        close()


async def _within_from_here(limit: Deadline, chain: Coroutine[Any, Any, Any], call: Call) -> Any:
    """The rest of a chain that asked to go on as an awaitable. The caller's context, which goes on first, is freed of
    the limit."""
    left = clock.monotonic()
    suspend(limit)
    try:
        await SWITCH
    except BaseException:
        chain.close()
        raise
    resume(limit, clock.monotonic() - left)
    return await ASYNC.within(limit, lambda _: _Begun(chain), call)


_SUSPENDED = "a strategy suspended in a blocking call: it may wait through call.runtime only"


Switched = Callable[[Any], Any]


@types.coroutine
def _driver() -> Generator[Any, Any, None]:
    chain = yield
    while True:
        chain = yield (yield from chain)


def new_driver() -> Any:
    driver: Any = _driver()
    driver.send(None)
    return driver


class _Idle(list[Any]):
    """It pickles by name."""

    def __reduce__(self) -> Any:
        return "idle"


idle: Final = _Idle()
"""Generators that run blocking chains, one after another: `driver.send(chain)` returns what the chain returns. (A
chain's own `send(None)` raises a StopIteration for that, at twice the cost.) Each is taken out while it runs, and put
back after a chain that returned: `driver.gi_yieldfrom` is then None, while it is the chain that suspended otherwise."""


def drive(chain: Awaitable[Any], switched: Switched) -> Any:
    """Run a blocking chain to its end in one step. `switched(begun)` answers for one that goes on as an awaitable."""
    driver = idle.pop() if idle else new_driver()
    try:
        result = driver.send(chain)
    except Boxed as boxed:
        error = boxed.error
    else:
        if driver.gi_yieldfrom is None:
            idle.append(driver)
            return result
        return unfinished(Begun(driver), result, switched)
    try:
        raise error
    finally:
        del error  # no cycle through the traceback


def unfinished(begun: Any, signal: object, switched: Switched) -> Any:
    """A blocking chain suspended: it asks to go on as an awaitable, or a strategy in it is wrong."""
    if signal is SWITCH:
        return switched(begun)
    begun.close()
    raise RuntimeError(_SUSPENDED)


async def go_on(begun: Awaitable[Any]) -> Any:
    """The awaitable that a chain which began blocking goes on as."""
    try:
        return await begun
    except Boxed as boxed:
        error = boxed.error
    try:
        raise error  # which Python makes a RuntimeError, as in every coroutine
    finally:
        del error


class Begun:
    """What is left of a chain that a driver has started: it can be awaited, or closed."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._driver.gi_yieldfrom.__await__())

    def close(self) -> None:
        self._driver.close()


class _Begun:
    """Lets a coroutine that has already been started be awaited."""

    __slots__ = ("_chain",)

    def __init__(self, chain: Coroutine[Any, Any, Any]) -> None:
        self._chain = chain

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._chain.__await__()
