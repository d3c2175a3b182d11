"""One check of a monitor: when it is due, who runs it now, and what came of it."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import Any, Final

import anyio

from resilient_agents import events
from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.guard import declares
from resilient_agents.core.runtime import ASYNC
from resilient_agents.core.threads import Worker, Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.health.check import CheckResult, HealthCheck, HealthStatus, Verdict, failed, judge
from resilient_agents.health.report import CheckReport

__all__ = ["Entry", "Room", "within"]

PATIENCE: Final = 2.0  # intervals without a result, after which the last one says nothing any more
PLACE: Final = 0.25  # seconds that a sync check keeps its place: others do not wait for a slow one to be a hung one


within: ContextVar[tuple[object, ...]] = ContextVar("resilient_agents_health_checks", default=())
"""The runs of checks that this context is inside of."""


class Room:
    """Where one session runs its sync checks: `slots` (of the session's own event loop) bounds how many do so; one that
    takes longer than `PLACE` has given its slot back, and keeps no more than the one thread that it runs in."""

    __slots__ = ("show_errors", "slots", "workers")

    def __init__(self, workers: Workers, limit: int, *, show_errors: bool) -> None:
        self.workers = workers
        self.slots = anyio.Semaphore(limit)
        self.show_errors = show_errors


class Entry:
    """The state of one check. `session` is whoever runs it now: it is claimed and released under the monitor's lock.

    `due` and `known_at`: moments of the monotonic clock. `running`: when the run that goes on began, by both clocks.
    `hung`: the thread of an earlier run that has not ended.
    """

    __slots__ = ("check", "due", "hung", "known_at", "results", "running", "session", "waiting")

    def __init__(self, check: HealthCheck, history: int) -> None:
        self.check = check
        self.results: deque[CheckResult] = deque(maxlen=min(history, sys.maxsize))
        self.due = clock.monotonic()
        self.known_at = 0.0
        self.session: object | None = None
        self.waiting: list[Waiter] = []
        self.running: tuple[datetime, float] | None = None
        self.hung: tuple[Worker, float] | None = None

    @property
    def last(self) -> CheckResult | None:
        """The last result, unless it is too old to mean anything; that of a run which ignores that its time is up."""
        now, running = clock.monotonic(), self.running
        if running is not None and now - running[1] > self.check.timeout:
            return CheckResult(*self._no_answer(), running[0], now - running[1])
        age = now - self.known_at
        return self.newest if age <= PATIENCE * self.check.interval + self.check.timeout else None

    @property
    def newest(self) -> CheckResult | None:
        """The last result, however old."""
        try:
            return self.results[-1]
        except IndexError:
            return None

    @property
    def status(self) -> HealthStatus:
        last = self.last
        return HealthStatus.UNKNOWN if last is None else last.status

    def report(self) -> CheckReport:
        """What is known of the check, as plain data."""
        last, newest = self.last, self.newest
        if last is not None:
            return _report(last.status, last.at, last.message, last.duration, self.check)
        if newest is not None:
            return _report(HealthStatus.UNKNOWN, newest.at, "has not run for too long", newest.duration, self.check)
        return _report(HealthStatus.UNKNOWN, None, "has not run yet", None, self.check)

    def is_around(self) -> bool:
        """Does the run that goes on have whoever asks inside it?"""
        return self.running is not None and any(run is self.running for run in within.get())

    async def perform(self, room: Room) -> None:
        """Run the check once and keep what came of it. Raises nothing but cancellation and interrupts, and then keeps
        nothing."""
        check = self.check
        if self.hung is not None and not self.hung[0].done:
            at, began = clock.now(), clock.monotonic()
            seconds = began - self.hung[1]
            verdict: Verdict = (HealthStatus.UNHEALTHY, f"has been running for {seconds:.0f} s and does not end")
            self._keep(verdict, at, seconds)
            return
        self.hung = None
        if declares(inspect.iscoroutinefunction, check.check):
            await self._timed(check.check, room)
        else:
            with ExitStack() as place:
                await room.slots.acquire()  # waiting for it is not the check's own time
                place.callback(room.slots.release)
                await self._timed(partial(self._in_thread, room, place), room)

    async def _timed(self, run: Callable[[], Any], room: Room) -> None:
        at, began = self.running = clock.now(), clock.monotonic()
        within.set((*within.get(), self.running))
        answer: Verdict | None = None
        try:
            with timers.scope(self.check.timeout):
                answer = judge(await run())
        except BaseException as error:  # a SystemExit too: no check ends the monitor
            if _from_outside(error):
                raise
            verdict = failed(error, show=room.show_errors)
        else:
            late = clock.monotonic() - began > self.check.timeout  # the check may have ignored that it was cancelled
            verdict = self._no_answer() if answer is None or late else answer
        finally:
            self.running = None
        self._keep(verdict, at, clock.monotonic() - began)

    async def _in_thread(self, room: Room, place: ExitStack) -> Any:
        worker = room.workers.start(partial(_answer, self.check, room.show_errors), "health")
        began = clock.monotonic()
        try:
            for patience in (PLACE, None):
                waiter = ASYNC.waiter()
                worker.on_done(waiter.wake)
                if await waiter.wait(patience):
                    break
                place.close()
        except BaseException:
            if not worker.done:
                self.hung = (worker, began)
            worker.on_done(partial(_drop, worker))
            raise
        answer = worker.take()
        if not is_awaitable(answer):
            return answer
        place.close()  # the rest is done on the event loop
        return await answer

    def _no_answer(self) -> Verdict:
        return HealthStatus.UNHEALTHY, f"no answer within {self.check.timeout:g} s"

    def _keep(self, verdict: Verdict, at: datetime, duration: float) -> None:
        status, message = verdict
        previous = self.status
        self.results.append(CheckResult(status, message, at, duration))
        self.known_at = clock.monotonic()
        events.publish(
            events.HealthChecked("", self.check.name, status.value, previous.value, duration, self.check.critical)
        )


def _answer(check: HealthCheck, show_errors: bool) -> Any:
    """The answer of a sync check, on its thread. What it raises is judged here, and kept nowhere."""
    try:
        return check.check()
    except BaseException as error:  # a SystemExit too: it would only end this thread
        return failed(error, show=show_errors)


def _from_outside(error: BaseException) -> bool:
    """Is it no doing of the check's own: an interrupt, or the cancellation of whoever runs it?"""
    kinds: tuple[type[BaseException], ...] = (KeyboardInterrupt, GeneratorExit)
    cancelled = anyio.get_cancelled_exc_class()
    task = asyncio.current_task() if cancelled is asyncio.CancelledError else None
    if task is None or task.cancelling():  # else the check awaited something that was cancelled
        kinds += (cancelled,)
    return isinstance(error, kinds) or (isinstance(error, BaseExceptionGroup) and error.subgroup(kinds) is not None)


def _drop(worker: Worker) -> None:
    """Nobody waits for the answer of this worker any more."""
    answer = worker.take()
    if is_awaitable(answer):
        discard(answer)


def _report(
    status: HealthStatus, at: datetime | None, message: str, duration: float | None, check: HealthCheck
) -> CheckReport:
    return {
        "status": status.value,
        "last_check": None if at is None else at.isoformat(timespec="milliseconds"),
        "message": message,
        "duration": duration,
        "critical": check.critical,
    }
