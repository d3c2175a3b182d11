"""The one place that knows what time it is, and how to wait in a thread.

Every module reads `clock.monotonic()` late, so that a test or a simulation can put another clock in place.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

__all__ = ["Clock", "ClockAware", "Lock", "clock", "follow_clock"]

_AT_ONCE: Final = 1e6
"""Seconds that every platform can sleep at once."""


T = TypeVar("T")


class ClockAware(Protocol):
    def clock_changed(self, shift: float) -> None:
        """Another clock has taken the place of the old one, and is `shift` seconds ahead of it. What was measured by
        the old one is moved or forgotten."""
        ...


_aware: weakref.WeakSet[ClockAware] = weakref.WeakSet()


def follow_clock(thing: ClockAware) -> None:
    """Call `thing.clock_changed(shift)` whenever the clock is replaced, for as long as `thing` lives."""
    _aware.add(thing)


class Lock(Protocol):
    """What a thread waits for: whoever wakes it releases it."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...

    def release(self) -> None: ...


def _sleep(seconds: float) -> None:
    while seconds > _AT_ONCE:
        time.sleep(_AT_ONCE)
        seconds -= _AT_ONCE
    time.sleep(seconds)  # looked up late: who patches `time.sleep` in a test means this one, too


def _wall() -> float:
    return time.time()  # looked up late, too


def _acquire(lock: Lock, seconds: float | None) -> bool:
    if seconds is None:
        return lock.acquire()
    return lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


def _get(queue: SimpleQueue[T], seconds: float) -> T:
    return queue.get(timeout=seconds)


class Clock:
    """Time as everything in the package knows it.

    `monotonic()`: seconds that never go back; `wall()`: seconds since 1970; `sleep(seconds)`: in the calling thread;
    `acquire(lock, seconds)`: wait in the calling thread for a lock, at most so long (None: for ever), and say whether
    it came; `lock()`: one that a thread waits for like this; `get(queue, seconds)`: what an idle thread is given to do,
    or queue.Empty.

    Event loops have clocks of their own: whoever replaces this one sees to it that they agree.
    """

    __slots__ = ("acquire", "get", "lock", "monotonic", "sleep", "wall")

    def __reduce__(self) -> str:
        return "clock"  # by name: that of the other process

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = _wall
        self.sleep: Callable[[float], None] = _sleep
        self.acquire: Callable[[Lock, float | None], bool] = _acquire
        self.lock: Callable[[], Lock] = threading.Lock
        self.get: Callable[[SimpleQueue[Any], float], Any] = _get

    def now(self) -> datetime:
        """The wall clock's time, in UTC."""
        return datetime.fromtimestamp(self.wall(), UTC)

    @contextlib.contextmanager
    def replaced(
        self,
        *,
        monotonic: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
        acquire: Callable[[Lock, float | None], bool] | None = None,
        lock: Callable[[], Lock] | None = None,
        get: Callable[[SimpleQueue[Any], float], Any] | None = None,
    ) -> Generator[None, None, None]:
        """Until the block ends, the whole process goes by these; what is not given stays.

        What keeps times (circuits, rates, budgets, health checks, the deadlines of this context) is told at both ends,
        so that nothing is stuck for the difference of two clocks. Deadlines of other tasks and threads are not: let
        them end first.
        """
        before = self.monotonic, self.wall, self.sleep, self.acquire, self.lock, self.get
        given = monotonic, wall, sleep, acquire, lock, get
        try:
            self.go_by(tuple(new or old for new, old in zip(given, before, strict=True)))
            yield
        finally:
            try:
                self.go_by(before)
            except BaseException:  # from outside, in the midst of it
                self.go_by(before)
                raise

    def go_by(self, functions: tuple[Any, ...]) -> None:
        then = self.monotonic()
        self.monotonic, self.wall, self.sleep, self.acquire, self.lock, self.get = functions
        shift = self.monotonic() - then
        for thing in list(_aware):
            thing.clock_changed(shift)


clock = Clock()
