"""An asyncio event loop in virtual time: when nothing is ready, its clock jumps to the next timer.

It has a queue of callbacks and a heap of timers, and no selector, which is most of what a standard loop costs when
nothing ever waits for a socket. Its turns are asyncio's own: all timers that are due form one batch, and then the
callbacks that were ready at that moment run. One timer a turn would be simpler and would change the order in which
tasks meet.
"""

# ruff: noqa: SLF001 - a loop looks into asyncio's handles, which have no public way to say that they were cancelled

from __future__ import annotations

import asyncio
import contextvars
import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVarTuple

__all__ = ["SimulatedLoop"]

Ts = TypeVarTuple("Ts")

_RESOLUTION = 1e-9
"""Seconds between two timers that are due at once: the resolution of the standard loop's clock on Linux."""

_OVERDUE = 100
"""Turns at one moment that nothing but a timer for it, or an earlier one, has made. From then on time passes: whoever
sets such timers again and again waits for a sum of floats to come out, which takes a moment of real time."""

_FEW = 100
"""Cancelled timers that are not worth a sweep, as in asyncio."""


class _Timer(asyncio.TimerHandle):
    """One of asyncio's, made without the frames and questions that only its debug mode needs."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._scheduled = True
        self._cancelled = False
        self._repr = self._source_traceback = None


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks in virtual time. `time()` begins at `start` (default 0.0 seconds).

    It has no sockets, pipes or subprocesses. Worker threads may wake it; while there is neither a callback nor a
    timer, it waits for one of them in real time.
    """

    _default_executor: ThreadPoolExecutor | None

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._now = start
        self._ready: deque[Any] = deque()
        self._timers: list[tuple[float, Any]] = []
        self._cancelled = self._overdue = 0
        self._stopping = False
        self._woken = threading.Event()

    def time(self) -> float:
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        timer = _Timer(when, callback, args, self, contextvars.copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def after(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """As `call_later`, for what belongs to the simulation itself: in no context, and an error ends the run."""
        when = self._now + delay
        timer = _Timer(when, callback, args, self, None)
        heapq.heappush(self._timers, (when, timer))
        return timer

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._cancelled += handle._scheduled

    def _write_to_self(self) -> None:
        self._woken.set()

    def _process_events(self, event_list: list[Any]) -> None:
        """There is nothing that could make any."""

    def _run_once(self) -> None:
        """Turn after turn until the loop is to stop: one a call, as asyncio does it, would cost a frame for each."""
        ready, timers, pop = self._ready, self._timers, heapq.heappop
        while True:
            if self._cancelled:
                self._sweep()
            if not ready and not self._stopping:
                if not timers:
                    self._woken.wait()
                    self._woken.clear()  # whoever wakes it has put something in the queue before
                elif timers[0][0] > self._now:
                    self._now = timers[0][0]
                    self._overdue = 0
                else:
                    self._overdue += 1
                    if self._overdue > _OVERDUE:
                        self._now += _RESOLUTION
            due = self._now + _RESOLUTION
            while timers and timers[0][0] < due:
                timer = pop(timers)[1]
                timer._scheduled = False
                if timer._cancelled:
                    self._cancelled -= 1
                else:
                    ready.append(timer)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                if handle._context is None:
                    handle._callback(*handle._args)
                else:
                    handle._run()
            if self._stopping:
                return

    def _sweep(self) -> None:
        """Forget cancelled timers at the head, and all of them once they are the majority: a limit of 10 s at 1,000
        calls a second would leave 10,000 of them."""
        timers = self._timers
        if self._cancelled > _FEW and self._cancelled * 2 > len(timers):
            for _, timer in timers:
                if timer._cancelled:
                    timer._scheduled = False
            timers[:] = [entry for entry in timers if not entry[1]._cancelled]
            heapq.heapify(timers)
            self._cancelled = 0
        while timers and timers[0][1]._cancelled:
            heapq.heappop(timers)[1]._scheduled = False
            self._cancelled -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the worker threads in real time: a limit in virtual time would be over at once."""
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            self._default_executor.shutdown(wait=True)

    def close(self) -> None:
        self._timers.clear()
        super().close()
