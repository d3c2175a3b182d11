"""`HealthMonitor`: runs checks, each on its own interval, and reports.

One scheduler on an event loop serves every way of running it: in a task group, as a context manager, or in a thread of
its own for blocking programs. A monitor that is not running is refreshed when somebody asks.
"""

from __future__ import annotations

import contextvars
import functools
import math
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import anyio
import anyio.abc

from resilient_agents.base import instances
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import positive_int
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.runtime import ASYNC
from resilient_agents.core.threads import Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.health.builtin import experiments, names_of, open_circuits, saturated_bulkheads
from resilient_agents.health.check import CheckResult, HealthCheck, HealthStatus
from resilient_agents.health.entry import Entry, Room
from resilient_agents.health.report import HealthReport, overall, ready, report

__all__ = ["HealthMonitor", "get_health_monitor"]

STOPPING_TAKES: Final = 5.0  # seconds that `stop` waits at most for the monitor's thread


class _Session:
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


class HealthMonitor(Spelled):
    """Checks on their own intervals, a bounded history of each, and one report over all.

    It is told of checks by `checks` and `add`. Unless `builtin=False`, it also looks at the circuit breakers and
    bulkheads of this process; what is wrong with them degrades, and only those named in `critical` can make the
    service unhealthy. `history`: results kept of each check (default 50). `workers`: sync checks that run at a time
    (default 8), in daemon threads; one that takes longer than 0.25 s, or hangs, keeps its one thread, and neither a
    place among these nor a second thread. `show_errors=True` puts the messages of exceptions that checks raise into
    the report, which otherwise names only their types.

    Run it with `async with monitor`, `task_group.start_soon(monitor.run)`, or, in a blocking program, `with monitor`
    or `monitor.start()`. Where it does not run, `refresh` and `arefresh` run what is due. A forked child starts with a
    monitor that does not run and knows nothing.

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
        self._session: _Session | None = None
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

    # ---------------------------------------------------------------------------------------------------------- running

    async def run(self) -> None:
        """Run the checks until cancelled or stopped: `task_group.start_soon(monitor.run)`, on asyncio or trio.

        Raises RuntimeError if the monitor runs already in this process.
        """
        await self._run(self._begin())

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("this health monitor runs already, or was stopped in an `async with` that goes on")
        session = self._begin()
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(self._run, session)
        self._tasks = tasks
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)  # an error of the block goes on as itself, not in a group

    def __enter__(self) -> Self:
        self._start(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Run the checks in a daemon thread with an event loop of its own, for blocking programs.

        Does nothing if the monitor runs already in this process, so that every worker of a server may call it.
        """
        with self._lock:
            if self._session is not None:
                return
            session = self._begin()
        self._start(session)

    def stop(self) -> None:
        """Stop running, from any thread and however it was started; does nothing if it does not run.

        Waits for the monitor's own thread, if it has one, at most 5 s: an async check may ignore its cancellation. Sync
        checks that run are not waited for. The monitor may be started again at once.
        """
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        session.stopping = True
        session.wake()
        thread = session.thread
        if thread is not None and thread is not threading.current_thread():
            session.began.wait(STOPPING_TAKES)  # who started it may be about to start the thread
            if session.thread is not None:
                thread.join(STOPPING_TAKES)

    def _start(self, session: _Session) -> None:
        session.thread = threading.Thread(
            target=self._serve, args=(session,), name="resilient-agents-health", daemon=True
        )
        try:
            session.thread.start()
        except BaseException:
            session.thread = None
            self._end(session)
            raise
        # The loop's first turn imports modules. A process that forked meanwhile would hand down their import locks.
        session.began.wait()

    def _serve(self, session: _Session) -> None:
        try:
            anyio.run(self._run, session)
        finally:
            self._end(session)  # no event loop could be made: `_run` never began

    def _begin(self) -> _Session:
        with self._lock:
            if self._session is not None:
                raise RuntimeError("this health monitor runs already in this process")
            self._session = _Session()
            return self._session

    async def _run(self, session: _Session) -> None:
        try:
            room = self._room()
            async with anyio.create_task_group() as tasks:
                while True:
                    # Made before looking, so that what changes after the look wakes it.
                    waiter = session.waiter = ASYNC.waiter()
                    if session.stopping:
                        break
                    for entry in self._claim(session):
                        tasks.start_soon(self._perform, entry, room, session)
                    session.began.set()
                    await waiter.wait(self._until_due())
                tasks.cancel_scope.cancel()
        finally:
            self._end(session)

    def _end(self, session: _Session) -> None:
        session.began.set()
        with self._lock:
            if self._session is session:
                self._session = None
        self._release(session, self._entries.values(), again=True)

    # -------------------------------------------------------------------------------------------------------- on demand

    async def arefresh(self, *, force: bool = False) -> HealthReport:
        """Run the checks that are due, unless the monitor runs them in the background anyway; then report.

        `force=True` runs all of them now, whether due or not, also while the monitor runs, and their intervals begin
        anew. Checks that somebody else is just running are waited for, not run twice.
        """
        if force or self._session is None:
            session, room = _Session(), self._room()
            others = [entry for entry in self._entries.values() if entry.session is not None]
            claimed = self._claim(session, force=force)
            try:
                async with anyio.create_task_group() as tasks:
                    for entry in claimed:
                        tasks.start_soon(self._perform, entry, room, session)
                    for entry in others:
                        tasks.start_soon(self._share, entry, room, session)
            finally:
                self._release(session, self._entries.values(), again=True)
        return self.report()

    def refresh(self, *, force: bool = False) -> HealthReport:
        """The same for blocking code. Raises RuntimeError on an event loop's own thread: `await arefresh()` there."""
        if self._session is not None and not force:
            return self.report()
        if on_event_loop():
            raise RuntimeError("refresh() would block the event loop of this thread; use `await monitor.arefresh()`")
        # In a context of its own: one that was copied into this thread may say that an event loop runs here.
        return contextvars.Context().run(anyio.run, functools.partial(self.arefresh, force=force))

    async def _share(self, entry: Entry, room: Room, session: _Session) -> None:
        """Wait for whoever runs this check; run it here if that run was cut off."""
        while True:
            waiter = ASYNC.waiter()
            with self._lock:
                if self._claim(session, [entry]):
                    break
                if entry.session is None:
                    return
                entry.waiting.append(waiter)
            if not await waiter.wait(entry.check.timeout):
                return
        await self._perform(entry, room, session)

    # -------------------------------------------------------------------------------------------------------- one check

    def _room(self) -> Room:
        return Room(self._workers, self._limit, show_errors=self._show_errors)

    def _claim(self, session: _Session, among: Iterable[Entry] | None = None, *, force: bool = False) -> list[Entry]:
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

    def _release(self, session: _Session, entries: Iterable[Entry], *, again: bool) -> None:
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

    async def _perform(self, entry: Entry, room: Room, session: _Session) -> None:
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


_making = Lock()


@functools.cache
def _default() -> HealthMonitor:
    return HealthMonitor()


def get_health_monitor() -> HealthMonitor:
    """The monitor of this process, made at the first call; not started."""
    with _making:
        return _default()
