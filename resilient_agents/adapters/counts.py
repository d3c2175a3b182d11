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

    __slots__ = ("_before", "_looks")

    def __init__(self) -> None:
        self._looks = self._before = 0

    def total(self) -> int:
        """How many were ever taken. To look takes one, which is not counted."""
        total = next(self) - self._looks
        self._looks += 1
        return total

    def taken(self) -> int:
        """How many were taken since the last reset or drain."""
        return self.total() - self._before

    def drain(self) -> int:
        """The same, and begin anew."""
        total = self.total()
        before, self._before = self._before, total
        return total - before

    def reset(self) -> None:
        self.drain()


class _Counts:
    """Numbers by name. `ticks`: what is counted on the happy path.

    Locking: a tick needs none; the rest is done under `_lock`, which is free in a forked child.
    """

    __slots__ = ("__weakref__", "_lock", "_numbers", "ticks")
    _names: tuple[str, ...]

    def __init__(self, ticks: Ticks | None = None) -> None:
        self._lock = Lock()
        self.ticks = Ticks() if ticks is None else ticks
        self.reset()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child nothing has happened yet."""
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.ticks.reset()
            self._numbers: dict[str, float] = dict.fromkeys(self._names, 0)

    def _add(self, **numbers: float) -> None:
        with self._lock:
            for name, number in numbers.items():
                self._numbers[name] += number


class RetryCounts(_Counts):
    """How the operations of one retry ended: each is some attempts and one ending. `ticks`: those whose first attempt
    was good."""

    __slots__ = ()
    _names = ("success", "failure", "neutral", "retries")

    def record(self, ending: Verdict, attempts: int) -> None:
        if ending == "success" and attempts == 1:
            next(self.ticks)
            return
        with self._lock:
            self._numbers[ending] += 1
            self._numbers["retries"] += attempts - 1

    def metrics(self) -> dict[str, Any]:
        with self._lock:
            saved, failures, neutral, retries = self._numbers.values()
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


class LimitCounts(_Counts):
    """How calls fared at a limit. `ticks`: those that it let through at once."""

    __slots__ = ()
    _names = ("calls", "rejections", "waits", "timed", "seconds")

    def ticked(self) -> int:
        """How many ticks were ever taken, whatever was reset."""
        with self._lock:
            return self.ticks.total()

    def let_in(self) -> None:
        """A call was let through, and takes no tick."""
        self._add(calls=1)

    def not_at_once(self) -> None:
        """A call that took a tick was not let through at once after all."""
        self._add(calls=-1)

    def made_wait(self, seconds: float | None) -> None:
        """A call was let through after waiting, or would have waited; None if nobody knows how long."""
        timed = {} if seconds is None else {"timed": 1, "seconds": seconds}
        self._add(calls=1, waits=1, **timed)

    def reject(self) -> None:
        self._add(rejections=1)

    def metrics(self) -> dict[str, Any]:
        with self._lock:
            calls, rejections, waits, timed, seconds = self._numbers.values()
            return {
                "calls": max(0, calls + self.ticks.taken()),  # a reset may come before `not_at_once`
                "rejections": rejections,
                "waits": waits,
                "average_wait": share(seconds, timed),
            }


def share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
