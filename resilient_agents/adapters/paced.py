"""Limits that tell each call when it may start, and how it waits for that (see gcra.py)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable
from typing import Any

from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.gcra import ROUNDING, Gcra, Reservation
from resilient_agents.adapters.limit import ON_LOOP, Limit, Queueing, blocks_a_loop
from resilient_agents.base import instances
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.core.call import Call, Proceed
from resilient_agents.deadline import Deadline
from resilient_agents.errors import Rejected

__all__ = ["Paced"]


class Paced(Limit):
    """Base of such limits.

    Locking: `_gcra` is read and changed under `_lock`, as is the clock, and nobody is woken under it. The lock is
    reentrant because the garbage collector may run the `finally` of a waiter whose loop was closed at any point. What
    starts at once, while nobody waits, needs none: see `Gcra`.
    """

    _gcra: Gcra

    def _begin(self, counts: LimitCounts) -> None:
        """What follows when the options are known."""
        self._counts = counts
        self._lock = Lock()
        self.after_fork()
        reset_after_fork(self)
        follow_clock(self)
        instances.add(self.strategy, self)

    @abstractmethod
    def after_fork(self) -> None:
        """Start anew, with nobody waiting."""

    def clock_changed(self, shift: float) -> None:
        """Start anew."""
        self.after_fork()

    @abstractmethod
    def execute(self, proceed: Proceed, call: Call, /) -> Awaitable[Any]:
        """Run the rest of the call once it may start."""

    @abstractmethod
    def _limited(self, call: Call, delay: float, reason: str) -> Rejected:
        """The error of a call that would start in `delay` seconds and may not wait so long."""

    @property
    def queued(self) -> int:
        """Calls that wait their turn now."""
        with self._lock:
            self._gcra.forget_stranded()
            return self._gcra.waiting

    async def _turn(self, call: Call, cost: float = 1.0) -> Reservation:
        """Wait until it is this call's turn."""
        turn = Reservation(cost, call.runtime.waiter())
        gcra = self._gcra
        try:
            with self._lock:
                turn.cost = min(cost, gcra.burst)  # which may have changed since it was priced
                began = clock.monotonic()
                until, deadline = self._patience(began)
                reason = ON_LOOP if blocks_a_loop(call) else self._no_longer(began, deadline)
                delay = gcra.delay(began, turn.cost)
                in_time = began + delay <= until + ROUNDING and reason is not ON_LOOP
                if in_time:
                    gcra.reserve(turn, began)
            if not in_time:
                raise self._limited(call, delay, reason)
            with Queueing(call, self.strategy):
                now = began
                while turn.waits:
                    if turn.due > until + ROUNDING and not self.shadow:
                        raise self._limited(call, turn.due - now, reason)
                    now = await self._come(call, turn, now, gcra)
        finally:
            if turn.waits:
                try:
                    self._leave(turn, gcra)
                except BaseException:  # from outside, in the midst of it: the first may have an earlier time by now
                    self._leave(turn, gcra)
                    for other in gcra.in_line():
                        other.waiter.wake()
                    raise
        self._counts.made_wait(now - began)
        return turn

    async def _come(self, call: Call, turn: Reservation, now: float, gcra: Gcra) -> float:
        """Come when it is due and ask whether it may start. When that was; if it still waits, it has another time."""
        asleep = now
        await self._sleep(call, turn, now)
        with self._lock:
            gcra.come_back(turn, clock.monotonic())
        if not call.runtime.blocking:
            await call.runtime.sleep(0)  # a loop wakes its tasks in no certain order: let all be back, then ask
        call.recheck(self, clock.monotonic() - asleep)
        with self._lock:
            now = clock.monotonic()
            if self.shadow:  # by now
                gcra.correct(now, turn.cost)
                gcra.cancel(turn)
            elif gcra.start(turn, now):
                self._started(turn, now)
        self._tell_next(gcra)
        return now

    def _started(self, turn: Reservation, now: float) -> None:
        """Called under the lock for each that waited and starts."""

    def _leave(self, turn: Reservation, gcra: Gcra) -> None:
        with self._lock:
            gcra.cancel(turn)
        self._tell_next(gcra)

    async def _sleep(self, call: Call, turn: Reservation, now: float) -> None:
        """Sleep until `turn` is due, which others may change to an earlier time."""
        while turn.due > now + ROUNDING:
            await turn.waiter.wait(turn.due - now)
            turn.waiter = call.runtime.waiter()  # before `due` is looked at again: who changes it wakes this one
            now = clock.monotonic()

    def _tell_next(self, gcra: Gcra) -> None:
        """Wake the first in line, if its time has come nearer."""
        while gcra.waiting:
            with self._lock:
                turn = gcra.moved_up(clock.monotonic())
            if turn is None or turn.waiter.wake():
                return
            with self._lock:
                gcra.cancel(turn)  # its loop was closed

    def _no_longer(self, now: float, deadline: Deadline | None) -> str:
        if deadline is not None:
            return f"the deadline leaves {max(0.0, deadline.at - now):.3g} s"
        return f"max_wait={self.max_wait} lets no call wait longer"
