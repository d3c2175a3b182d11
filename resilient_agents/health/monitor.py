"""`HealthMonitor`: runs checks, each on its own interval, and reports.

One scheduler on an event loop serves every way of running it: in a task group, as a context manager, or in a thread of
its own for blocking programs. A monitor that is not running is refreshed when somebody asks.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from types import TracebackType
from typing import Final, Self

import anyio

from resilient_agents.base.fork import Lock
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.runtime import ASYNC
from resilient_agents.health.checks import Checks, Session
from resilient_agents.health.entry import Entry, Room, within
from resilient_agents.health.report import HealthReport

__all__ = ["HealthMonitor", "get_health_monitor"]

STOPPING_TAKES: Final = 5.0  # seconds that `stop` waits at most for the monitor's thread


class HealthMonitor(Checks):
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

    def _start(self, session: Session) -> None:
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

    def _serve(self, session: Session) -> None:
        try:
            anyio.run(self._run, session)
        finally:
            self._end(session)  # no event loop could be made: `_run` never began

    def _begin(self) -> Session:
        with self._lock:
            if self._session is not None:
                raise RuntimeError("this health monitor runs already in this process")
            self._session = Session()
            return self._session

    async def _run(self, session: Session) -> None:
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

    def _end(self, session: Session) -> None:
        session.began.set()
        with self._lock:
            if self._session is session:
                self._session = None
        self._release(session, self._entries.values(), again=True)

    # -------------------------------------------------------------------------------------------------------- on demand

    async def arefresh(self, *, force: bool = False) -> HealthReport:
        """Run the checks that are due, unless the monitor runs them in the background anyway; then report.

        `force=True` runs all of them now, whether due or not, also while the monitor runs, and their intervals begin
        anew. Checks that somebody else is just running are waited for, not run twice. Where a check itself asks, no
        other is waited for, as that might be waiting for this one.
        """
        if force or self._session is None:
            session, room = Session(), self._room()
            others = [entry for entry in self._entries.values() if entry.session is not None]
            if any(entry.is_around() for entry in others):
                others = []
            try:
                claimed = self._claim(session, force=force)
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
        context = contextvars.Context()
        context.run(within.set, within.get())
        return context.run(anyio.run, functools.partial(self.arefresh, force=force))

    async def _share(self, entry: Entry, room: Room, session: Session) -> None:
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


_making = Lock()


@functools.cache
def _default() -> HealthMonitor:
    return HealthMonitor()


def get_health_monitor() -> HealthMonitor:
    """The monitor of this process, made at the first call; not started."""
    with _making:
        return _default()
