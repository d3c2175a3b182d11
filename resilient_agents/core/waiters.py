"""One caller that waits to be woken: a lock for a thread, a future or an event for a task."""

from __future__ import annotations

import asyncio
from _asyncio import Future
from collections.abc import Awaitable
from typing import Any, Protocol

from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.core.loops import Loop, running_loop, task_on

__all__ = ["TaskWaiter", "ThreadWaiter", "TrioWaiter", "Waiter"]


class Waiter(Protocol):
    """One caller in a queue. It lives on one thread or event loop and can be woken from any."""

    @property
    def loop(self) -> Loop | None:
        """The asyncio loop whose end would strand it, None where there is none."""
        ...

    def wake(self) -> bool:
        """Wake it, from any thread. False when its event loop is closed: nobody will ever come."""
        ...

    def wait(self, seconds: float | None) -> Awaitable[bool]:
        """Wait to be woken, at most `seconds`; False when the time ran out, and then it may be waited for again."""
        ...


class ThreadWaiter:
    __slots__ = ("_lock",)

    loop: Loop | None = None

    def __init__(self) -> None:
        self._lock = clock.lock()
        self._lock.acquire()

    def wake(self) -> bool:
        try:
            self._lock.release()
        except RuntimeError:  # woken before
            pass
        return True

    async def wait(self, seconds: float | None) -> bool:
        return clock.acquire(self._lock, seconds)


class _Woken(Future[bool]):
    """What a task waits for. It never says that it is done: anyio asks, and leaves a task alone that was woken and has
    not run yet, so that what it was woken for would be begun, and not be left to the next in line. asyncio cancels it
    all the same, where its task is cancelled. (It is a future in C also where nest_asyncio has put those in Python in
    their place, as these ask themselves.)"""

    __slots__ = ()

    def done(self) -> bool:
        return False


class TaskWaiter:
    """One on asyncio: a bare future, and an alarm only where there is a limit. (A cancel scope would keep what waits in
    it alive after its loop was closed.)"""

    __slots__ = ("_future", "_woken", "entry", "loop")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.entry = 0
        self._future = _Woken(loop=loop)
        self._woken = False

    def wake(self) -> bool:
        loop = self.loop
        self._woken = True
        try:
            if running_loop() is loop and task_on(loop) is not None:
                self.ring()  # in the midst of a task the loop looks by itself what is to be done next
            else:  # on another thread, or in a signal handler while the loop waits for its sockets
                loop.call_soon_threadsafe(self.ring)
        except RuntimeError:  # "Event loop is closed"
            return False
        return True

    def ring(self) -> None:
        """The future is over: it was woken, or its time is up."""
        try:
            self._future.set_result(True)
        except asyncio.InvalidStateError:  # it was before
            pass

    def wait(self, seconds: float | None) -> Awaitable[bool]:
        return self._future if seconds is None else self._within(seconds)

    async def _within(self, seconds: float) -> bool:
        timers.set_alarm(self.loop, seconds, self)
        try:
            await self._future
        finally:
            self.entry = 0
        if not self._woken:
            self._future = _Woken(loop=self.loop)
        return self._woken


class TrioWaiter:
    """One on trio."""

    __slots__ = ("_event", "_token")

    loop: Loop | None = None

    def __init__(self, trio: Any) -> None:
        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def wake(self) -> bool:
        try:
            self._token.run_sync_soon(self._event.set)
        except RuntimeError:  # trio.RunFinishedError
            return False
        return True

    async def wait(self, seconds: float | None) -> bool:
        if seconds is None:
            await self._event.wait()
        else:
            with timers.scope(seconds):
                await self._event.wait()
        woken: bool = self._event.is_set()
        return woken
