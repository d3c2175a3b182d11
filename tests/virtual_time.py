"""Event loops whose clock jumps to the next timer when nothing else is to be done.

`RESILIENT_AGENTS_TEST_LOOP` chooses the asyncio loop of the whole suite: `uvloop`, `eager` (eager tasks, Python 3.12),
`simulated` (the simulator's own), or the standard one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import selectors
from collections.abc import Callable
from typing import Any

from resilient_agents.simulate.loop import SimulatedLoop

__all__ = ["CHOSEN", "new_loop"]

START = 1000.0
CHOSEN = os.environ.get("RESILIENT_AGENTS_TEST_LOOP", "")


def new_loop() -> asyncio.AbstractEventLoop:
    """An asyncio loop in virtual time, of the chosen kind."""
    if CHOSEN == "uvloop":
        return virtual_uvloop()
    if CHOSEN == "simulated":
        return _Simulated(START)
    loop = VirtualLoop()
    if CHOSEN == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # Python 3.12
    elif CHOSEN:
        raise ValueError(f"RESILIENT_AGENTS_TEST_LOOP must be uvloop, eager or simulated, got {CHOSEN}")
    return loop


class _JumpingSelector(selectors.DefaultSelector):
    """Turns the time an event loop would wait into virtual time."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        self.elapsed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The standard loop."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return START + self._jumping.elapsed

    def jump(self, seconds: float) -> None:
        self._jumping.elapsed += seconds


class _Simulated(SimulatedLoop):
    """The simulator's own, which a test can let stand still."""

    def jump(self, seconds: float) -> None:
        self._now += seconds


def virtual_uvloop() -> asyncio.AbstractEventLoop:
    """uvloop, whose timers are kept here: a pump runs after everything else, and when nothing happened since its last
    turn, it jumps."""
    import uvloop

    class VirtualUvloop(uvloop.Loop):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self._now = START
            self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
            self._order = itertools.count()
            self._activity = 0
            self._pumping = False

        def time(self) -> float:
            return self._now

        def jump(self, seconds: float) -> None:
            self._now += seconds

        def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            self._activity += 1
            return super().call_soon(callback, *args, context=context)

        def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            self._activity += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

        def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            return self.call_at(self._now + delay, callback, *args, context=context)

        def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            heapq.heappush(self._timers, (when, next(self._order), timer))
            if not self._pumping:
                self._pumping = True
                super().call_soon(self._pump, -1)
            return timer

        def _timer_handle_cancelled(self, handle: Any) -> None:
            pass

        def _pump(self, seen: int) -> None:
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            if not self._timers:
                self._pumping = False
                return
            if self._activity == seen:
                self._now = max(self._now, self._timers[0][0])
                while self._timers and self._timers[0][0] <= self._now:
                    timer = heapq.heappop(self._timers)[2]
                    if not timer.cancelled():
                        self._activity += 1
                        timer._run()
            super().call_soon(self._pump, self._activity)

    return VirtualUvloop()
