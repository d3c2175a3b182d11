"""What components count, for whoever wants to look at it. Nothing is decided by it.

Every number is exact under threads. A call on the happy path counts itself by taking a tick, which the interpreter does
in one step and without a lock; what is rarer is counted under one. Sums are made when somebody looks, so that in each
snapshot they are sums of what stands beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from resilient_agents.base.fork import Lock, reset_after_fork

__all__ = ["LimitCounts", "RetryCounts", "Ticks", "Verdict", "share"]

Verdict: TypeAlias = Literal["failure", "success", "neutral"]


if TYPE_CHECKING:

    class _Count(Iterator[int]):  # in typeshed, what a subclass makes is a plain `count` again
        def __next__(self) -> int: ...

else:
    _Count = itertools.count


class Ticks(_Count):
    """`next(ticks)` counts one. Any number of threads may do so at once; the rest is for the holder of a lock."""

    __slots__ = ("_apart",)

    def __init__(self) -> None:
        self._apart = 0

    def taken(self) -> int:
        """How many were taken since the last reset. To look takes one, which is not counted."""
        taken = next(self) - self._apart
        self._apart += 1
        return taken

    def drain(self) -> int:
        """How many were taken since the last reset or drain."""
        now = next(self)
        before, self._apart = self._apart, now + 1
        return now - before

    def reset(self) -> None:
        self.drain()


class RetryCounts:
    """How the operations of one retry ended: each is some attempts and one ending. `ticks`: those whose first attempt
    was good.

    Locking: counting needs none, as all of it is ticks; looking does.
    """

    __slots__ = ("__weakref__", "_failures", "_lock", "_neutral", "_retries", "_saved", "ticks")

    def __init__(self) -> None:
        self._lock = Lock()
        self.ticks = Ticks()
        self._saved = Ticks()
        self._failures = Ticks()
        self._neutral = Ticks()
        self._retries = Ticks()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child nothing has happened yet."""
        self.reset()

    def reset(self) -> None:
        with self._lock:
            for ticks in (self.ticks, self._saved, self._failures, self._neutral, self._retries):
                ticks.reset()

    def record(self, ending: Verdict, attempts: int) -> None:
        for _ in range(attempts - 1):  # before the ending, so that no snapshot has a call saved without a retry
            next(self._retries)
        if ending == "failure":
            next(self._failures)
        elif ending == "neutral":
            next(self._neutral)
        else:
            next(self._saved if attempts > 1 else self.ticks)

    def metrics(self) -> dict[str, Any]:
        with self._lock:
            saved, failures, neutral, retries = (
                ticks.taken() for ticks in (self._saved, self._failures, self._neutral, self._retries)
            )
            successes = self.ticks.taken() + saved
        calls = successes + failures + neutral
        return {
            "calls": calls,
            "successes": successes,
            "failures": failures,
            "neutral": neutral,
            "attempts": calls + retries,
            "retries": retries,
            "saved": saved,
            "saved_rate": share(saved, calls),
        }

    def __reduce__(self) -> Any:
        return RetryCounts, ()


class LimitCounts:
    """How calls fared at a limit. `ticks`: those that it let through at once."""

    __slots__ = ("__weakref__", "_let_in", "_lock", "_rejections", "_seconds", "_timed", "_waits", "ticks")

    def __init__(self, ticks: Ticks) -> None:
        self._lock = Lock()
        self.ticks = ticks
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child nothing has happened yet."""
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.ticks.reset()
            self._let_in = self._rejections = self._waits = self._timed = 0
            self._seconds = 0.0

    def let_in(self) -> None:
        """A call was let through, in shadow: it would have been rejected."""
        with self._lock:
            self._let_in += 1

    def not_at_once(self) -> None:
        """A call that took a tick was not let through at once after all."""
        with self._lock:
            self._let_in -= 1

    def made_wait(self, seconds: float | None) -> None:
        """A call was let through after waiting, or would have waited; None if nobody knows how long."""
        with self._lock:
            self._let_in += 1
            self._waits += 1
            if seconds is not None:
                self._timed += 1
                self._seconds += seconds

    def reject(self) -> None:
        with self._lock:
            self._rejections += 1

    def metrics(self) -> dict[str, Any]:
        with self._lock:
            return {
                "calls": max(0, self._let_in + self.ticks.taken()),  # a reset may come before `not_at_once`
                "rejections": self._rejections,
                "waits": self._waits,
                "average_wait": share(self._seconds, self._timed),
            }


def share(part: float, whole: int) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
