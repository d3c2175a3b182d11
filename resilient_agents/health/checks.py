"""The checks of a monitor: which there are, what is known of them, and who runs which."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

import anyio
import anyio.abc

from resilient_agents.base import instances
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import positive_int
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.threads import Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.health.builtin import experiments, names_of, open_circuits, saturated_bulkheads
from resilient_agents.health.check import CheckResult, HealthCheck, HealthStatus
from resilient_agents.health.entry import Entry, Room
from resilient_agents.health.report import HealthReport, overall, ready, report

__all__ = ["Checks", "Session"]


class Session:
    """One stretch of running checks: from start to stop, or one refresh. `waiter` wakes its scheduler."""

    __slots__ = ("began", "stopping", "thread", "waiter")

    def __init__(self) -> None:
        self.began = threading.Event()
        self.stopping = False
        self.thread: threading.Thread | None = None
        self.waiter: Waiter | None = None

    def wake(self) -> None:
        if self.waiter is not None:
            self.waiter.wake()


class Checks(Spelled):
    """What a `HealthMonitor` knows, whether it runs or not.

    Locking: `_lock` guards `_entries`, `_session` and who runs which entry; it is never held while a check runs.
    """

    def __init__(
        self,
        checks: Iterable[HealthCheck] = (),
        *,
        builtin: bool = True,
        critical: Iterable[str] = (),
        history: int = 50,
        workers: int = 8,
        show_errors: bool = False,
    ) -> None:
        names = names_of(critical)
        if names and not builtin:
            raise ValueError("critical names dependencies for the built-in checks, which builtin=False leaves out")
        self._history = positive_int(history, "history")
        self._limit = positive_int(workers, "workers")
        self._show_errors = bool(show_errors)
        # Without a bound of its own: `Room` bounds those that run, and `Entry` has at most one that hangs.
        self._workers = Workers(sys.maxsize, sys.maxsize, "health")
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._session: Session | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        looks = (open_circuits(critical=names), saturated_bulkheads(critical=names)) if builtin else ()
        self._builtin = builtin
        for check in (*checks, *looks):
            self.add(check)
        instances.add("health_monitor", self)
        if instances.each("chaos"):
            self.chaos_is_on()
        reset_after_fork(self)
        follow_clock(self)

    def chaos_is_on(self) -> None:
        """There is a `Chaos` in this process: from now on a built-in check shows as much."""
        if self._builtin and "chaos" not in self._entries:
            self.add(experiments())

    def clock_changed(self, shift: float) -> None:
        """What is known stays as old as it is, and what is due stays due."""
        for entry in self._entries.values():
            entry.due += shift
            entry.known_at += shift

    def after_fork(self) -> None:
        """Nothing runs here, and what the parent found out is the parent's."""
        self._lock = threading.RLock()
        self._entries = {name: Entry(entry.check, self._history) for name, entry in self._entries.items()}
        self._session = None
        self._tasks = None

    # ----------------------------------------------------------------------------------------------------------- checks

    def add(self, check: HealthCheck) -> None:
        """Also run this check; if the monitor runs, at once. Raises ValueError if there is one of that name."""
        if not isinstance(check, HealthCheck):
            raise TypeError(f"a monitor runs HealthCheck objects, got {type(check).__name__}")
        with self._lock:
            if check.name in self._entries:
                raise ValueError(f"there is a health check {check.name!r} already; remove it first")
            self._entries = {**self._entries, check.name: Entry(check, self._history)}
            session = self._session
        if session is not None:
            session.wake()

    def remove(self, name: str) -> None:
        """Forget the check of this name. Raises LookupError if there is none."""
        with self._lock:
            self._entry(name)
            self._entries = {other: entry for other, entry in self._entries.items() if other != name}

    # ---------------------------------------------------------------------------------------------------- what is known

    @property
    def running(self) -> bool:
        """Does it run in this process?"""
        return self._session is not None

    @property
    def overall_status(self) -> HealthStatus:
        """One status for all checks."""
        return overall(self._standings())

    @property
    def ready(self) -> bool:
        """Should this process get traffic? Not while a critical check fails, or has not said anything yet."""
        return ready(self._standings())

    @property
    def next_check_in(self) -> float | None:
        """Seconds until the next check runs; None when the monitor does not run or has no checks."""
        dues = [entry.due for entry in self._entries.values()]
        return max(0.0, min(dues) - clock.monotonic()) if self.running and dues else None

    def statuses(self) -> dict[str, HealthStatus]:
        """The status of each check by name."""
        return {name: entry.status for name, entry in self._entries.items()}

    def report(self) -> HealthReport:
        """What is known now, as plain data; runs nothing."""
        return report({name: entry.report() for name, entry in self._entries.items()})

    def history(self, name: str) -> tuple[CheckResult, ...]:
        """The last results of this check, the newest last. Raises LookupError if there is none of that name."""
        return tuple(self._entry(name).results)

    def describe(self) -> dict[str, Any]:
        """Options and checks as plain data."""
        return {
            "running": self.running,
            "history": self._history,
            "workers": self._limit,
            "show_errors": self._show_errors,
            "checks": [
                {
                    "name": entry.check.name,
                    "timeout": entry.check.timeout,
                    "interval": entry.check.interval,
                    "critical": entry.check.critical,
                    "description": entry.check.description,
                }
                for entry in self._entries.values()
            ],
        }

    def _standings(self) -> list[tuple[HealthStatus, bool]]:
        return [(entry.status, entry.check.critical) for entry in self._entries.values()]

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise LookupError(f"there is no health check {name!r}") from None

    # -------------------------------------------------------------------------------------------------------- one check

    def _room(self) -> Room:
        return Room(self._workers, self._limit, show_errors=self._show_errors)

    def _claim(self, session: Session, among: Iterable[Entry] | None = None, *, force: bool = False) -> list[Entry]:
        """The checks that are due (or `force`) and that nobody runs, of all or of those `among`: they are this
        session's now."""
        with self._lock:
            now = clock.monotonic()
            entries = self._entries.values() if among is None else among
            due = [entry for entry in entries if entry.session is None and (force or entry.due <= now)]
            for entry in due:
                entry.session = session
                entry.due = now + entry.check.interval
        return due

    def _release(self, session: Session, entries: Iterable[Entry], *, again: bool) -> None:
        """This session does not run these checks any more, as far as it did; `again`: they did not get to their end."""
        waiting: list[Waiter] = []
        now = clock.monotonic()
        with self._lock:
            for entry in entries:
                if entry.session is session:
                    entry.session = None
                    entry.due = now if again else _beat_after(now, entry)
                    waiting += entry.waiting
                    entry.waiting = []
            scheduler = self._session
        for waiter in waiting:
            waiter.wake()
        if scheduler is not None:
            scheduler.wake()

    async def _perform(self, entry: Entry, room: Room, session: Session) -> None:
        finished = False
        try:
            await entry.perform(room)
            finished = True
        finally:
            self._release(session, [entry], again=not finished)

    def _until_due(self) -> float | None:
        """Seconds until the next check that nobody runs is due; None if there is none: the end of a run wakes us."""
        with self._lock:
            dues = [entry.due for entry in self._entries.values() if entry.session is None]
        return max(0.0, min(dues) - clock.monotonic()) if dues else None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a HealthMonitor holds live state and cannot be pickled: make one in each process")

    def __repr__(self) -> str:
        return f"HealthMonitor({', '.join(map(repr, self._entries))}) <{self.overall_status.value}>"


def _beat_after(now: float, entry: Entry) -> float:
    """When a check that has just ended is due. Beats that passed while it ran are left out, not made up for."""
    interval = entry.check.interval
    return entry.due if entry.due > now else entry.due + interval * (math.floor((now - entry.due) / interval) + 1)
