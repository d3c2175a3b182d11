"""Daemon worker threads in which a blocking function can be left behind.

A thread cannot be stopped. So a caller that runs out of time leaves its worker running and goes on; the pool counts
those it was left with and refuses new work at its cap, rather than gather threads without end. Daemon threads do not
hold up the interpreter's exit, which is why `concurrent.futures` will not do.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from resilient_agents.base.clock import clock
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.core.call import Call
from resilient_agents.core.runtime import Expired
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected
from resilient_agents.events import CallRejected, logger

__all__ = ["Worker", "Workers", "run_in_worker"]

IDLE_SECONDS = 10.0


class Worker:
    """One piece of work on a thread of its own: what it runs, how it ended, who wants to know."""

    __slots__ = ("_callbacks", "_lock", "context", "done", "error", "result", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work: Callable[[], Any] | None = work
        self.context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def on_done(self, callback: Callable[[], object]) -> None:
        """Run `callback` on the worker's thread when it ends, or now if it has."""
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback()

    def take(self) -> Any:
        """The result or the error of work that is done, once: the worker keeps neither."""
        result, error = self.result, self.error
        self.result = self.error = None
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error  # no cycle through the traceback

    def run(self, free: Callable[[], object]) -> None:
        """Do the work; `free()` marks the thread as free before anybody hears that the work is done."""
        work, self.work = self.work, None
        assert work is not None
        try:
            self.result = self.context.run(work)
        except BaseException as error:  # carried to the thread that waits for it
            self.error = error
        del work
        free()
        with self._lock:
            self.done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the thread is marked as free: it must live on
                logger.exception("a callback of a worker thread failed")


class Workers:
    """Threads made when needed and kept for `IDLE_SECONDS`: at most `limit` busy, `max_abandoned` of them left behind.

    Locking: `_lock` guards `_idle`, `_busy` and `_abandoned`; it is never held while work or a callback runs.
    """

    def __init__(self, limit: int, max_abandoned: int, strategy: str) -> None:
        self.limit = limit
        self.max_abandoned = max_abandoned
        self.strategy = strategy
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []
        self._busy = 0
        self._abandoned = 0

    def caps(self) -> tuple[int, int]:
        """How many threads may be busy now, and how many left behind. Called under the lock."""
        return self.limit, self.max_abandoned

    @property
    def abandoned(self) -> int:
        """Workers that still run a call which nobody waits for."""
        return self._abandoned

    def start(self, work: Callable[[], Any], policy: str) -> Worker:
        """Run `work` on a thread with a copy of the caller's context. Raises Rejected at the caps."""
        worker = Worker(work)
        until = current()
        while until is not None:
            until.in_thread = True
            until = until.outer
        with self._lock:
            limit, max_abandoned = self.caps()
            if self._abandoned >= max_abandoned or self._busy >= limit:
                raise Rejected(
                    f"{policy!r} has {self._busy} worker threads busy, {self._abandoned} of them with calls that "
                    f"outran their time limit (at most {limit} and {max_abandoned}); wait for them to end",
                    policy=policy,
                    strategy=self.strategy,
                )
            self._busy += 1
            thread = self._idle.pop() if self._idle else None
        if thread is not None:
            thread.hand(worker)
            return worker
        try:
            _Thread(self, worker).start()
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise
        return worker

    def abandon(self, worker: Worker) -> None:
        """Nobody waits for `worker` any more."""
        with self._lock:
            self._abandoned += 1
        worker.on_done(self._came_back)

    def _came_back(self) -> None:
        with self._lock:
            self._abandoned = max(0, self._abandoned - 1)  # after a fork inside the work, nothing is counted

    def rest(self, thread: _Thread) -> None:
        """The work of this thread is done."""
        with self._lock:
            self._busy = max(0, self._busy - 1)
            self._idle.append(thread)

    def retire(self, thread: _Thread) -> bool:
        """May this idle thread end? Not if work is just being handed to it."""
        with self._lock:
            if thread in self._idle:
                self._idle.remove(thread)
                return True
            return False


class _Thread(threading.Thread):
    def __init__(self, workers: Workers, worker: Worker) -> None:
        super().__init__(name="resilient-agents-worker", daemon=True)
        self._workers = workers
        self._worker: Worker | None = worker
        self._wake = threading.Lock()
        self._wake.acquire()

    def hand(self, worker: Worker) -> None:
        self._worker = worker
        self._wake.release()

    def run(self) -> None:
        while True:
            worker, self._worker = self._worker, None
            assert worker is not None
            worker.run(lambda: self._workers.rest(self))
            del worker
            if not self._wake.acquire(timeout=IDLE_SECONDS):
                if self._workers.retire(self):
                    return
                self._wake.acquire()


def _fired() -> bool:
    return True


async def run_in_worker(call: Call, workers: Workers, work: Callable[[], Any]) -> Any:
    """The result of `work`, run on a thread of `workers` while the caller waits in its own colour.

    A caller that is cancelled or runs out of time leaves the worker behind and says so on the call (`call.abandoned`),
    so that whoever holds a slot for it gives the slot back only when the worker ends. Raises Expired (blocking) when
    the limit passes, which is then one of this very call: a policy called from blocking code under a limit always sets
    one of its own. So Expired never travels through the user's code.
    """
    try:
        worker = workers.start(work, call.name)
    except Rejected:
        if call.audience is not None:
            call.audience.tell(CallRejected(call.audience.policy, workers.strategy))
        raise
    waiter = call.runtime.waiter()
    worker.on_done(waiter.wake)
    limit = current() if call.runtime.blocking else None
    try:
        done = await waiter.wait(None if limit is None else limit.at - clock.monotonic())
        if not done and limit is not None and not worker.done:
            limit.fired = _fired
            raise Expired(limit)
        return worker.take()
    finally:
        if not worker.done:
            workers.abandon(worker)
            call.abandoned += (worker,)
