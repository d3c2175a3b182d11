"""The two colours: how a call sleeps, is limited in time and waits for others, blocking or async (asyncio and trio
through anyio).

Everything else in the package is written once, as coroutines over these objects. A blocking runtime sleeps in the
thread and never suspends, with one exception: `SWITCH`, by which a chain that began blocking goes on as an awaitable.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Final, Protocol

import anyio

from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.base.now import now
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.driver import SUSPENDED, SWITCH, discard, is_awaitable
from resilient_agents.core.loops import running_loop, running_trio, task_on
from resilient_agents.core.waiters import TaskWaiter, ThreadWaiter, TrioWaiter, Waiter
from resilient_agents.deadline import Deadline, resume, suspend

__all__ = [
    "ASYNC",
    "BLOCKING",
    "EXPIRED",
    "Expired",
    "Runtime",
    "settle",
]


EXPIRED: Final = object()
"""What came of a call whose time ran out."""


class Expired(BaseException):
    """Unwinds a blocking call whose worker thread ran out of time, as a cancellation does in async code: no strategy
    catches it but the `Timeout` that set `limit`."""

    def __init__(self, limit: Deadline) -> None:
        self.limit = limit


class Runtime(Protocol):
    """What differs between blocking and async code."""

    blocking: bool

    def sleep(self, seconds: float) -> Awaitable[None]:
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


class Blocking:
    def __init__(self) -> None:
        self.blocking = True

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
            raise RuntimeError(SUSPENDED)
        return await _within_from_here(limit, chain, call)

    def waiter(self) -> Waiter:
        return ThreadWaiter()

    def owner(self) -> int:
        return threading.get_ident()


class Async:
    def __init__(self) -> None:
        self.blocking = False  # on the object, where it is read fastest

    def __reduce__(self) -> str:
        return "ASYNC"

    sleep = staticmethod(timers.sleep)

    async def within(self, limit: Deadline, proceed: Proceed, call: Call) -> Any:
        """On asyncio by an alarm that cancels the task, elsewhere by an anyio scope.

        It does what `asyncio.timeout` does at a quarter of its 3.4 us (an anyio scope costs 5.5), and turns nothing
        into a TimeoutError that would have to be told from the user's. The expiry is a native cancellation:
        `asyncio.shield` holds against it, an anyio shield does not.
        """
        seconds = limit.at - clock.monotonic()
        loop = running_loop()
        task = None if loop is None else task_on(loop)
        if loop is None or task is None:
            limit.owner = self.owner()
            with timers.scope(seconds) as limit.scope:
                return await proceed(call)
            return EXPIRED
        limit.owner = id(task)
        limit.task = task
        requests = task.cancelling()
        try:
            timers.set_alarm(loop, seconds, limit)
            result = await proceed(call)
        except BaseException as error:
            # A cancellation from outside stands even in the tick of ours; so does any error the callee made of it.
            if limit.rung and task.uncancel() <= requests and isinstance(error, asyncio.CancelledError):
                return EXPIRED
            raise
        finally:
            limit.entry = 0
            limit.task = None
        if limit.rung:
            task.uncancel()
        return result

    def waiter(self) -> Waiter:
        loop = running_loop()
        return TaskWaiter(loop) if loop is not None else TrioWaiter(running_trio())

    def owner(self) -> int:
        loop = running_loop()
        task = None if loop is None else task_on(loop)
        return anyio.get_current_task().id if task is None else id(task)


BLOCKING: Final[Runtime] = Blocking()
ASYNC: Final[Runtime] = Async()


async def settle(call: Call, result: Any) -> Any:
    """The value of what a user's function returned: awaited if it is awaitable, after leaving the blocking colour where
    necessary."""
    if not is_awaitable(result):
        return result
    awaitable: Awaitable[Any] = result
    if call.runtime.blocking:
        recorders = () if call.audience is None else (call.audience.recorder,)
        marks = (*(call.marks or {}).values(), *now.charge(call), *recorders)
        for mark in marks:  # the context of the caller, who goes on too, is none of theirs
            mark.suspend()
        try:
            await SWITCH
        except GeneratorExit:
            discard(awaitable)
            raise
        for mark in marks:
            mark.resume()
        call.runtime = ASYNC
    return await awaitable


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
    return await ASYNC.within(limit, lambda _: _rest_of(chain), call)


@types.coroutine
def _rest_of(chain: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """A coroutine that has already been started: it cannot be awaited itself."""
    return (yield from chain.__await__())
