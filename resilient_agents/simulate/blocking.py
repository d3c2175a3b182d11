"""Blocking calls in virtual time: each on a thread of its own, of which one runs at a time.

A thread that would wait (asleep, for a slot, for an answer) hands over to the loop of the simulation and is resumed by
it, at the moment and in the turn in which a task would be. So the policy's blocking code runs as it is, thousands of
calls at once take turns in an order that is always the same, and nothing sleeps. Worker threads of the package, which
limits with `thread=True` and hedges use, take their turns like the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from resilient_agents.base import instances
from resilient_agents.base.clock import Lock, clock
from resilient_agents.deadline import current
from resilient_agents.simulate.moment import Moment

__all__ = ["MOST_THREADS", "BlockingCalls", "TooManyCalls"]

MOST_THREADS: Final = 8_000
"""Blocking calls at a time: no process has more threads than that."""

_LOOK: Final = 0.05
"""Real seconds after which it is looked again whether a worker thread that is about to come has ended instead."""

_LEAVING: Final = 1.0
"""Real seconds that a worker thread may take to leave at the end."""

_call: contextvars.ContextVar[asyncio.Future[Any]] = contextvars.ContextVar("resilient_agents.simulate.call")
"""Done when the call is whose thread or worker this is."""


class TooManyCalls(RuntimeError):
    """More calls block at once than there are threads for."""

    def __init__(self) -> None:
        super().__init__(
            f"more blocking calls at once than a process has threads for (at most {MOST_THREADS:,}): those who call a "
            f"policy that blocks are bounded by a Bulkhead, or by closed arrivals with so many clients"
        )


class _Over(BaseException):
    """Unwinds a call that is still under way when the simulation ends."""


class _Turn:
    """A thread of the simulation. It runs when `go` is released. `queue`: where a worker that is idle gets its work."""

    __slots__ = ("go", "queue", "worker")

    def __init__(self, *, worker: bool) -> None:
        self.go = threading.Lock()
        self.go.acquire()
        self.worker = worker
        self.queue: SimpleQueue[Any] | None = None


class _Signal:
    """What a thread waits for, in place of a lock."""

    __slots__ = ("_calls", "_free", "_waiting")

    def __init__(self, calls: BlockingCalls) -> None:
        self._calls = calls
        self._free = True
        self._waiting: _Turn | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return self._taken() or (blocking and self.wait(None if timeout < 0 else timeout))

    def _taken(self) -> bool:
        was_free, self._free = self._free, False
        return was_free

    def wait(self, seconds: float | None) -> bool:
        if self._taken():
            return True
        calls = self._calls
        self._waiting = turn = calls.this_turn()
        timer = None if seconds is None else calls.loop.call_later(max(0.0, seconds), self._end_of_time)
        try:
            calls.park(turn)
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()
        return self._taken()

    def _end_of_time(self) -> None:
        turn, self._waiting = self._waiting, None
        if turn is not None:
            self._calls.resume(turn)

    def release(self) -> None:
        if self._free:
            raise RuntimeError("release unlocked lock")
        self._free = True
        turn, self._waiting = self._waiting, None
        if turn is not None:
            self._calls.loop.call_soon_threadsafe(self._calls.resume, turn)


class BlockingCalls:
    """Blocking functions that wait in the time of `loop`, within the block of `running`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._here = threading.local()
        self._back = threading.Lock()
        self._back.acquire()
        self._work: dict[_Turn, Callable[[], None]] = {}
        self._threads: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []
        self._free: list[_Turn] = []
        self._parked: dict[_Turn, None] = {}
        self._coming: SimpleQueue[_Turn] = SimpleQueue()
        self._idle: deque[_Turn] = deque()
        self._at_work = 0
        self._before = _busy()
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Generator[None, None, None]:
        """Waits of threads are those of the loop; at the end, calls that are under way are unwound."""
        with clock.replaced(sleep=self.sleep, acquire=self._acquire, lock=lambda: _Signal(self), get=self._get):
            try:
                yield
            finally:
                self._end()

    def called(self, fn: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
        """`fn` as a coroutine function: each call of it on a thread."""

        async def call() -> Any:
            done = self.loop.create_future()
            self._start(fn, done)
            return await done

        return call

    @staticmethod
    def wanted() -> Callable[[], bool]:
        """A function that says whether somebody still waits for what this thread begins now."""
        call, limit = _call.get(None), current()
        return lambda: not (call is not None and call.done()) and (limit is None or limit.active)

    def wait_for(self, awaitable: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine over moments of the loop, in this thread."""
        turn = self.this_turn()
        send: Callable[[], Moment] = partial(awaitable.send, None)
        go_on = send
        while True:
            try:
                moment = go_on()
            except StopIteration as stop:
                return stop.value
            moment.add_done_callback(lambda _: self.resume(turn))
            try:
                self.park(turn)
            except _Over:
                awaitable.close()
                raise
            go_on = send if moment.error is None else partial(awaitable.throw, moment.error)

    # -------------------------------------------------------------------------------------------- the loop's side

    def _start(self, fn: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        turn = self._free.pop() if self._free else self._new_thread()
        context = contextvars.copy_context()
        context.run(_call.set, done)

        def work() -> None:
            try:
                result = context.run(fn)
            except BaseException as error:  # carried to the task that waits for it
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        self._work[turn] = work
        self.resume(turn)

    def _new_thread(self) -> _Turn:
        if len(self._threads) >= MOST_THREADS:
            raise TooManyCalls
        turn = _Turn(worker=False)
        thread = threading.Thread(target=self._serve, args=(turn,), name="simulated call", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise TooManyCalls from error
        self._threads.append(thread)
        return turn

    def resume(self, turn: _Turn) -> None:
        """Let a thread go on until it waits again or has ended, with the worker threads that it gave work to."""
        self._step(turn)
        while True:
            given = next((each for each in self._idle if each.queue is not None and not each.queue.empty()), None)
            if given is not None:
                self._idle.remove(given)
                self._step(given)
            elif _busy() - self._before <= self._at_work:
                return
            else:
                self._let_in()

    def _let_in(self) -> None:
        """A worker thread that has just begun, or had begun before the simulation."""
        try:
            turn = self._coming.get(timeout=_LOOK)
        except Empty:
            return
        if turn.queue is None:
            self._step(turn)
        else:
            self._idle.append(turn)

    def _step(self, turn: _Turn) -> None:
        if self._over.is_set():
            return
        turn.go.release()
        try:
            self._back.acquire()
        except BaseException:  # Ctrl-C; the thread runs yet
            self._back.acquire()
            raise

    def _end(self) -> None:
        self._over.set()
        for turn in {*self._parked, *self._free, *self._idle}:
            turn.go.release()
        for thread in self._threads:
            thread.join()
        for thread in self._workers:  # which would idle in real time once the clock is the old one
            thread.join(_LEAVING)

    # ------------------------------------------------------------------------------------------ the threads' side

    def _serve(self, turn: _Turn) -> None:
        self._here.turn = turn
        while True:
            turn.go.acquire()
            if self._over.is_set():
                return
            self._work.pop(turn)()
            if self._over.is_set():
                return
            self._free.append(turn)
            self._back.release()

    def this_turn(self) -> _Turn:
        """That of the thread which calls; one that has not been here waits for it first."""
        turn: _Turn | None = getattr(self._here, "turn", None)
        if turn is None:
            turn = self._come(None)
        return turn

    def _come(self, queue: SimpleQueue[Any] | None) -> _Turn:
        turn = self._here.turn = _Turn(worker=True)
        turn.queue = queue
        self._workers.append(threading.current_thread())
        self._coming.put(turn)
        while not turn.go.acquire(timeout=_LOOK):
            if self._over.is_set():
                break
        return turn

    def park(self, turn: _Turn) -> None:
        """Wait to be resumed. Raises when the simulation is over."""
        if self._over.is_set():
            raise _Over
        self._parked[turn] = None
        self._at_work += turn.worker and turn.queue is None
        self._back.release()
        turn.go.acquire()
        if self._over.is_set():
            raise _Over
        self._at_work -= turn.worker and turn.queue is None
        del self._parked[turn]

    def sleep(self, seconds: float) -> None:
        turn = self.this_turn()
        self.loop.call_later(max(0.0, seconds), self.resume, turn)
        self.park(turn)

    @staticmethod
    def _acquire(lock: Lock, seconds: float | None) -> bool:
        return lock.acquire() if seconds is None else lock.acquire(timeout=max(0.0, seconds))

    def _get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        turn: _Turn | None = getattr(self._here, "turn", None)
        if self._over.is_set():
            raise Empty
        if turn is None:
            turn = self._come(queue)
        else:
            turn.queue = queue
            self._idle.append(turn)
            with contextlib.suppress(_Over):
                self.park(turn)
        turn.queue = None
        return queue.get_nowait()


def _busy() -> int:
    """Pieces of work that worker threads of the package have, or are about to get."""
    return sum(workers.busy for workers in instances.each("workers"))
