"""`FakeClock`: virtual time in which nothing waits, in blocking code, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal, Self, TypeVar

from resilient_agents.base import instances
from resilient_agents.base.clock import Lock, clock
from resilient_agents.base.timers import shift_alarms
from resilient_agents.core.loops import on_event_loop, running_loop, running_trio
from resilient_agents.core.threads import THREAD_NAME

__all__ = ["FakeClock"]

T = TypeVar("T")

_GRACE = 0.01
"""Real seconds in which others may act before time jumps. They are waited for only where there are any."""

_PATIENCE = 0.25
"""The same for worker threads of the package that are at work, as they may be about to wait, or to end; and for whoever
handed work to one that waits."""

_OVERDUE = 100
"""Turns of a loop at one moment that nothing but a timer for it, or an earlier one, has made. From then on time passes:
whoever sets such timers again and again waits for a sum of floats to come out, which takes a moment of real time."""

_ORIGIN = 1000.0
"""What the virtual clock shows at first: not 0, which may be taken for "never"."""


class FakeClock:
    """Virtual time for everything in resilient_agents, and for event loops that run meanwhile, while its block lasts.

    Nothing waits: where all would wait, time jumps to the next moment at which something happens. Circuits half-open,
    rates refill, retries wait, limits and deadlines expire and health checks come due by it, to the second.

    - Blocking code: a wait moves the clock. Threads that wait come to their turn in the order of their times.
    - asyncio: a loop that runs inside the block goes by this clock, `asyncio.sleep` and all. uvloop cannot.
    - trio: `run(fn, backend="trio")`, or any trio under `trio.testing.MockClock`, such as pytest-trio's fixture
      `autojump_clock` sets.

    Threads that are at work, and connections that are open, have some real milliseconds before time jumps (worker
    threads of the package a quarter of a second). Circuits, rates, budgets, health checks and the deadlines in force
    that were there before the block move or forget their times. Raises RuntimeError, when entered, inside another one,
    or where the event loop cannot be driven.
    """

    def __init__(self) -> None:
        self._time = _Time()
        self.waits = self._time.waits
        """How long each wait of blocking code was by sleeping, in seconds."""
        self._block: contextlib.AbstractContextManager[None] | None = None

    @property
    def now(self) -> float:
        """Seconds since the clock began."""
        return self._time.monotonic() - _ORIGIN

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once. Raises ValueError if they are negative."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        self._time.advance(seconds)

    def run(self, fn: Callable[..., Awaitable[T]], *args: Any, backend: Literal["asyncio", "trio"] = "asyncio") -> T:
        """Run an async function to its end, in an event loop of its own that goes by this clock, and return its result.
        Enters the block where that has not been done. Raises RuntimeError inside of a running event loop, ValueError
        for another backend."""
        if backend not in ("asyncio", "trio"):
            raise ValueError(f"backend must be 'asyncio' or 'trio', got {backend!r}")
        if on_event_loop():
            raise RuntimeError(
                "run() makes an event loop of its own, and one runs here: await the function inside of "
                "`with FakeClock():`"
            )
        with contextlib.nullcontext() if _Time.active is self._time else self:
            if backend == "trio":
                return self._time.run_trio(fn, *args)

            async def main() -> T:
                return await fn(*args)

            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return runner.run(main())

    def __enter__(self) -> Self:
        if _Time.active is not None:
            raise RuntimeError("a FakeClock is in place already, and there is one time for the whole process")
        self._block = block = self._time.in_force()
        block.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        block = self._block
        assert block is not None
        self._block = None
        block.__exit__(None, None, None)


class _Time:
    """The time of a `FakeClock`. Nothing in it knows the clock itself, which only its block holds: where
    an exception from outside keeps `__exit__` from beginning, the block ends when the clock is collected."""

    active: _Time | None = None

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._elapsed = 0.0
        self._trio_clock: Any = None
        self._dues: list[float] = []
        self._resting = {True: 0, False: 0}  # worker threads of the package, and all others
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def in_force(self) -> Generator[None, None, None]:
        """Until the block ends, everything goes by it."""
        wall = clock.wall() - _ORIGIN
        loop, trio = running_loop(), running_trio()
        if trio is not None:
            self._trio_clock = _mock_clock(trio)
        with (
            self._driving_all() if loop is None else self._driving(loop),
            clock.replaced(
                monotonic=self.monotonic,
                wall=lambda: wall + self.monotonic(),
                sleep=self._sleep,
                acquire=self._acquire,
            ),
        ):
            try:
                _Time.active = self
                yield
            finally:
                _Time.active = None

    def monotonic(self) -> float:
        if self._trio_clock is None:
            trio = running_trio()
            if trio is None:
                return _ORIGIN + self._elapsed
            self._trio_clock = _mock_clock(trio)
        return _ORIGIN + float(self._trio_clock.current_time())

    def advance(self, seconds: float) -> None:
        if self._trio_clock is not None:
            self._trio_clock.jump(seconds)
        else:
            self._move_to(self._elapsed + seconds)

    def run_trio(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        import trio.testing

        mocked = trio.testing.MockClock(autojump_threshold=0)
        mocked.jump(self._elapsed)
        try:
            result: T = trio.run(fn, *args, clock=mocked)
            return result
        finally:
            self._elapsed = mocked.current_time()
            self._trio_clock = None

    # -------------------------------------------------------------------------------------------------- event loops

    @contextlib.contextmanager
    def _driving_all(self) -> Generator[None, None, None]:
        """Drive each loop of asyncio as long as it runs."""
        loops: Any = asyncio.BaseEventLoop
        run_forever = loops.run_forever

        def run(loop: Any) -> None:
            with self._driving(loop):
                run_forever(loop)

        try:
            loops.run_forever = run
            yield
        finally:
            loops.run_forever = run_forever

    @contextlib.contextmanager
    def _driving(self, loop: Any) -> Generator[None, None, None]:
        """Let the loop go by this clock; its timers keep what is left of each."""
        real, own_time = getattr(loop, "_selector", None), loop.time
        if real is None:
            raise RuntimeError(f"a FakeClock cannot drive a {type(loop).__module__} loop: use clock.run(fn)")
        _shift(loop, self._loop_time() - own_time())
        loop.time = self._loop_time
        loop._selector = _Jumping(real, self, loop)
        try:
            yield
        finally:
            del loop.time
            loop._selector = real
            _shift(loop, own_time() - self._loop_time())

    def _loop_time(self) -> float:
        return _ORIGIN + self._elapsed

    # ------------------------------------------------------------------------------------------------------- threads

    def _move_to(self, elapsed: float) -> None:
        with self._changed:
            self._elapsed = max(self._elapsed, elapsed)
            self._changed.notify_all()

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.wait_until(self._elapsed + seconds, self._pause)

    def _pause(self, patience: float) -> None:
        with self._changed:
            self._changed.wait(patience)

    def _acquire(self, lock: Lock, seconds: float | None) -> bool:
        if seconds is None:
            with self.resting(_is_worker()):
                return lock.acquire()
        return bool(
            lock.acquire(blocking=False)
            or self.wait_until(self._elapsed + max(0.0, seconds), lambda patience: lock.acquire(timeout=patience))
        )

    def wait_until(self, due: float, look: Callable[[float], Any], *, busy: bool = False) -> Any:
        """Wait in this thread until `look(patience)` answers with something, or until time is `due`. Of all who wait,
        the one that is due first moves the clock, after a moment for others that are at work."""
        worker = _is_worker()
        give_up = time.monotonic() + _PATIENCE
        with self.resting(worker, due):
            while True:
                came = look(_GRACE if busy or threading.active_count() > 1 else 0.0)
                if came:
                    return came
                with self._changed:
                    if self._elapsed >= due:
                        return came
                    if due <= min(self._dues) and (time.monotonic() >= give_up or not self._works(worker)):
                        self._move_to(due)

    @contextlib.contextmanager
    def resting(self, worker: bool, *due: float) -> Generator[None, None, None]:
        """This thread waits until the block ends, or until time is `due`."""
        with self._changed:
            self._dues += due
            self._resting[worker] += 1
        try:
            yield
        finally:
            with self._changed:
                for moment in due:
                    self._dues.remove(moment)
                self._resting[worker] -= 1

    def _works(self, worker: bool) -> bool:
        """Is a worker thread of the package at work, rather than waiting by this clock? Or, where a worker asks, the
        thread that handed it its work: it is about to wait for that."""
        if worker and not self._resting[False] and self._trio_clock is None:
            return True
        busy: int = sum(workers.busy for workers in instances.each("workers"))
        return busy > self._resting[True]

    def in_seconds(self, seconds: float) -> float:
        """The moment for `wait_until`."""
        return self._elapsed + seconds


def _is_worker() -> bool:
    return threading.current_thread().name == THREAD_NAME


def _mock_clock(trio: Any) -> Any:
    found = trio.lowlevel.current_clock()
    if not hasattr(found, "jump"):
        raise RuntimeError(
            "a FakeClock follows trio.testing.MockClock, and this trio goes by real time: use clock.run(fn, "
            "backend='trio'), or run the test under trio.testing.MockClock(autojump_threshold=0)"
        )
    return found


def _shift(loop: Any, seconds: float) -> None:
    """Move all timers of a loop."""
    for timer in loop._scheduled:
        timer._when += seconds
    shift_alarms(loop, seconds)


class _Jumping:
    """The selector of an event loop that, rather than wait for a timer, moves the clock to it."""

    def __init__(self, real: Any, time: _Time, loop: Any) -> None:
        self._real = real
        self._time = time
        self._loop = loop
        self._overdue = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            with self._time.resting(worker=_is_worker()):
                return self._real.select(None)
        if timeout <= 0:
            if not self._loop._ready and self._loop._scheduled:
                self._overdue += 1
                if self._overdue > _OVERDUE:
                    self._time.advance(1e-9)
            return self._real.select(timeout)
        self._overdue = 0
        # A loop that ends joins its threads in one named so; it gives them 300 s, from Python 3.12 on, of real time.
        if any(each.name.endswith("(_do_shutdown)") for each in threading.enumerate()):
            return self._real.select(_GRACE)
        connected = len(self._real.get_map() or ()) > 1  # more than the loop's own
        return self._time.wait_until(self._time.in_seconds(timeout), self._real.select, busy=connected)
