"""The sliding windows that stand beside pybreaker, which counts consecutive failures only.

pybreaker's storage can trip on a failure but not on a success, and keeps no rate. A window is plain bookkeeping: it is
told `now`, never reads a clock, and is guarded by the lock of the breaker that owns it.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = ["CountWindow", "TimeWindow", "Window"]

BUCKETS = 10


class Window(Protocol):
    """What happened lately: `calls` of which `failures` failed and `slow` were slow (a failure may be slow too)."""

    calls: int
    failures: int
    slow: int

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """One more outcome."""
        ...

    def age(self, now: float) -> None:
        """Forget what is older than the window."""
        ...

    def following(self, old: Window | None) -> Window:
        """This new window with what the old one knows: as far as it reaches, and if it is of the same kind."""
        ...


class CountWindow:
    """The last `size` calls."""

    __slots__ = ("_outcomes", "calls", "failures", "size", "slow")

    def __init__(self, size: int) -> None:
        self.size = size
        self._outcomes: deque[tuple[bool, bool]] = deque()
        self.calls = self.failures = self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        if self.calls == self.size:
            old_failed, old_slow = self._outcomes.popleft()
            self.failures -= old_failed
            self.slow -= old_slow
        else:
            self.calls += 1
        self._outcomes.append((failed, slow))
        self.failures += failed
        self.slow += slow

    def age(self, now: float) -> None:
        """Calls do not age by time."""

    def following(self, old: Window | None) -> Window:
        if isinstance(old, CountWindow):
            for failed, slow in old._outcomes:  # noqa: SLF001  # the same class
                self.record(0.0, failed=failed, slow=slow)
        return self


class TimeWindow:
    """The last `seconds`, in ten buckets: what is older than the window is forgotten a tenth at a time."""

    __slots__ = ("_buckets", "_width", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._buckets: deque[list[int]] = deque()  # each: its number on the time axis, calls, failures, slow
        self.calls = self.failures = self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        number = int(now / self._width)
        buckets = self._buckets
        if not buckets or buckets[-1][0] < number:
            self._forget(number)
            buckets.append([number, 0, 0, 0])
        bucket = buckets[-1]
        bucket[1] += 1
        self.calls += 1
        if failed:
            bucket[2] += 1
            self.failures += 1
        if slow:
            bucket[3] += 1
            self.slow += 1

    def age(self, now: float) -> None:
        self._forget(int(now / self._width))

    def following(self, old: Window | None) -> Window:
        if isinstance(old, TimeWindow):
            if old._width == self._width:  # noqa: SLF001  # the same class
                return old
            for number, *counts in old._buckets:  # noqa: SLF001  # the same class
                self._add(int(number * old._width / self._width), counts)  # noqa: SLF001  # the same class
            if self._buckets:  # the next outcome may fall into the last bucket, and looks at none before it
                self._forget(self._buckets[-1][0])
        return self

    def _add(self, number: int, counts: list[int]) -> None:
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append([number, 0, 0, 0])
        for position, count in enumerate(counts, 1):
            self._buckets[-1][position] += count
        self.calls += counts[0]
        self.failures += counts[1]
        self.slow += counts[2]

    def _forget(self, number: int) -> None:
        buckets = self._buckets
        while buckets and buckets[0][0] <= number - BUCKETS:
            _, calls, failures, slow = buckets.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow
