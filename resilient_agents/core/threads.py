"""Daemon worker threads in which a blocking function can be left behind.

A thread cannot be stopped. So a caller that runs out of time leaves its worker running and goes on; the pool counts
those it was left with and refuses new work at its cap, rather than gather threads without end. Daemon threads do not
hold up the interpreter's exit, which is why `concurrent.futures` will not do.

There is no lock here. A signal handler, a finalizer or a hook may call through the pool whose code it interrupted, and
wait for one of its threads: with a lock, a reentrant one too, that thread would wait for the interrupted one. So what
is shared changes in single steps of the interpreter (a dict's, a deque's, a queue's), and whoever might miss another
one puts in first and looks afterwards. An exception from outside between two steps leaves the caller's own worker
behind, cancelled if it has not begun, and nothing else.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.core.call import Call
from resilient_agents.core.runtime import Expired
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected
from resilient_agents.events import CallRejected, logger

__all__ = ["THREAD_NAME", "Ended", "Threads", "Worker", "Workers", "run_in_worker"]

IDLE_SECONDS = 10.0
THREAD_NAME = "resilient-agents-worker"

_RUNS, _CANCELLED = True, False


class Ended:
    """How work ended: its `result`, or its `outcome`, which is an error."""

    if TYPE_CHECKING:
        result: Any
        outcome: BaseException | None
    else:
        __slots__ = ()

    def take(self) -> Any:
        """The result or the error, once: neither is kept."""
        result, error = self.result, self.outcome
        self.result = self.outcome = None
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error  # no cycle through the traceback

    def drop(self) -> Any:
        """Keep nothing of the user's. Returns the result that somebody must close, None where there is none."""
        result, self.result, self.outcome = self.result, None, None
        return result


class Worker(Ended):
    """One piece of work on a thread of its own: what it runs, how it ended, who wants to know.

    `done`: it has ended, or it never runs.
    """

    __slots__ = ("_callbacks", "_fate", "_work", "context", "done", "outcome", "result")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work: Callable[[], Any] | None = work
        self._fate: dict[None, bool] = {}  # whoever is first says whether it runs
        self._callbacks: deque[Callable[[], object]] = deque()
        self.context = contextvars.copy_context()
        self.done = False
        self.result: Any = None
        self.outcome: BaseException | None = None

    def on_done(self, callback: Callable[[], object]) -> None:
        """Run `callback` on the worker's thread when it ends, or now if it has."""
        self._callbacks.append(callback)
        if self.done:
            self.tell()

    def cancel(self) -> bool:
        """From now on it is certain that the work does not begin. False if it has begun."""
        if self._fate.setdefault(None, _CANCELLED):
            return False
        self._work = None
        return True

    def run(self) -> None:
        """Do the work, on its thread, unless it was cancelled."""
        work, self._work = self._work, None
        if work is None or not self._fate.setdefault(None, _RUNS):
            return
        try:
            self.result = self.context.run(work)
        except BaseException as error:  # carried to the thread that waits for it
            self.outcome = error

    def tell(self) -> None:
        """Tell those who want to know that the work is done, each once, until one raises."""
        while True:
            try:
                callback = self._callbacks.popleft()
            except IndexError:
                return
            callback()


class Threads(Protocol):
    """Where the blocking functions of a call run."""

    strategy: str

    def prepare(self, work: Callable[[], Any]) -> Worker: ...
    def begin(self, worker: Worker, policy: str) -> None: ...
    def leave(self, worker: Worker) -> None: ...


class Workers:
    """Threads made when needed and kept for `IDLE_SECONDS`: at most `limit` busy, `max_abandoned` of them left behind.

    `_busy`: workers that run or wait in `_queue` for a thread; `serving`: the threads that are there for them;
    `_left`: the workers that nobody waits for. A thread counts as serving when the callbacks of its last work have run,
    so that work in the queue never waits for these. Whoever brings work puts it into the queue and then looks whether
    enough threads serve; a thread that goes stops serving and then looks into the queue.
    """

    def __init__(self, limit: int, max_abandoned: int, strategy: str) -> None:
        self.limit = limit
        self.max_abandoned = max_abandoned
        self.strategy = strategy
        self.after_fork()
        reset_after_fork(self)
        instances.add("workers", self)

    def after_fork(self) -> None:
        self._queue: SimpleQueue[Worker] = SimpleQueue()
        self._busy: dict[Worker, None] = {}
        self._left: dict[Worker, None] = {}
        self.serving: dict[threading.Thread, None] = {}

    def caps(self) -> tuple[int, int]:
        """How many threads may be busy now, and how many left behind."""
        return self.limit, self.max_abandoned

    @property
    def busy(self) -> int:
        """Workers that run, or are about to."""
        return len(self._busy)

    @property
    def abandoned(self) -> int:
        """Workers that still run a call which nobody waits for."""
        return len(self._left)

    def start(self, work: Callable[[], Any], policy: str) -> Worker:
        """Run `work` on a thread with a copy of the caller's context. Raises Rejected at the caps, and where no thread
        can be had."""
        worker = self.prepare(work)
        self.begin(worker, policy)
        return worker

    def prepare(self, work: Callable[[], Any]) -> Worker:
        """The worker that is to do this. From here on `leave` tells it, at any time, that nobody waits for it."""
        until = current()
        while until is not None:
            until.in_thread = True
            until = until.outer
        return Worker(work)

    def begin(self, worker: Worker, policy: str) -> None:
        """Start a worker that was prepared. Raises Rejected as `start` does."""
        try:
            self._busy[worker] = None
            limit, max_abandoned = self.caps()
            busy = list(self._busy)  # in which they came: of those that come at the same time, the first get threads
            if len(self._left) >= max_abandoned or (len(busy) > limit and busy.index(worker) >= limit):
                raise Rejected(
                    f"{policy!r} has {len(busy) - 1} worker threads busy, {len(self._left)} of them with calls that "
                    f"outran their time limit (at most {limit} and {max_abandoned}); wait for them to end",
                    policy=policy,
                    strategy=self.strategy,
                )
            self._queue.put(worker)
            if len(self._busy) > len(self.serving):
                self._add_thread(worker, policy)
        except BaseException:
            if worker.cancel():
                worker.done = True
                self._busy.pop(worker, None)
            raise

    def leave(self, worker: Worker) -> None:
        """Nobody waits for this worker any more."""
        if worker.cancel():
            worker.done = True
            self._busy.pop(worker, None)
            worker.tell()
        else:
            self._left[worker] = None
            if worker.done:
                self._left.pop(worker, None)

    def _add_thread(self, worker: Worker, policy: str) -> None:
        try:
            threading.Thread(target=self._serve, name=THREAD_NAME, daemon=True).start()
        except RuntimeError as error:  # no thread, or the interpreter is about to exit
            if worker.cancel():
                raise Rejected(
                    f"no worker thread could be started for {policy!r} ({error})",
                    policy=policy,
                    strategy=self.strategy,
                ) from error

    def _serve(self) -> None:
        """What a thread of the pool does. All is looked up late: the work may fork, and go on in the child."""
        thread = threading.current_thread()
        while True:
            self.serving[thread] = None
            try:
                worker = clock.get(self._queue, IDLE_SECONDS)
            except Empty:
                self.serving.pop(thread, None)
                try:
                    worker = self._queue.get_nowait()  # it was put in before its caller looked who serves
                except Empty:
                    return
            worker.run()
            self.serving.pop(thread, None)
            self._busy.pop(worker, None)
            worker.done = True
            self._left.pop(worker, None)
            self._tell(worker)
            del worker

    def _tell(self, worker: Worker) -> None:
        while True:
            try:
                return worker.tell()
            except Exception:  # the thread must live on
                logger.exception("a callback of a worker thread failed")


async def run_in_worker(
    call: Call, threads: Threads, work: Callable[[], Any], unwanted: Callable[[Any], object] | None = None
) -> Any:
    """The result of `work`, run on one of `threads` while the caller waits in its own colour.

    A caller that is cancelled or runs out of time leaves the worker behind and says so on the call (`call.abandoned`),
    so that whoever holds a slot for it gives the slot back only when the worker ends; `unwanted(result)` then gets what
    comes too late, or None. Raises Expired (blocking) when the limit passes, which is then one of this very call: a
    policy called from blocking code under a limit always sets one of its own. So Expired never travels through the
    user's code.
    """
    worker = threads.prepare(work)
    rare = call.own_rare()
    before = rare.abandoned
    try:
        # Before it begins, and out when it has ended: an exception from outside may keep `finally` from beginning.
        rare.abandoned = (*before, worker)
        try:
            threads.begin(worker, call.name)
        except Rejected:
            call.tell(CallRejected, threads.strategy)
            raise
        waiter = call.runtime.waiter()
        worker.on_done(waiter.wake)
        limit = current() if call.runtime.blocking else None
        done = await waiter.wait(None if limit is None else limit.at - clock.monotonic())
        if not done and limit is not None and not worker.done:
            limit.rung = True
            raise Expired(limit)
        return worker.take()
    finally:
        if worker.done:
            rare.abandoned = before
        else:
            threads.leave(worker)
        worker.on_done(partial(_drop, worker, unwanted))  # which is nothing where it was taken


def _drop(worker: Worker, unwanted: Callable[[Any], object] | None) -> None:
    result = worker.drop()
    if unwanted is not None:
        unwanted(result)
