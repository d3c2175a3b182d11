"""What components count, for whoever wants to look at it. Nothing is decided by it.

Every number is exact under threads, without a lock: a call on the happy path counts itself by taking a tick, what is
rarer adds to a number. Each is one step, as the interpreter changes threads, and runs signal handlers, at calls only.
Sums are made when somebody looks, so that in each snapshot they are sums of what stands beside them.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from resilient_agents.base.fork import Lock, reset_after_fork

__all__ = ["LimitCounts", "RetryCounts", "Ticks", "Verdict", "counting", "share"]

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
        """How many were ever taken. To look takes one, which is not counted: it is noted first, in one step with that,
        as the handler of a signal may look when it is taken."""
        looks = self._looks
        self._looks = looks + 1
        return next(self) - looks

    def taken(self) -> int:
        """How many were taken since the last reset or drain."""
        return self.total() - self._before

    def drain(self) -> int:
        """The same, and begin anew."""
        total = self.total()
        before, self._before = self._before, total
        return total - before


counting = Lock()
"""Held while somebody looks, or begins anew: a moment, and one for all costs each of them nothing."""


class _Counts:
    """Numbers to look at. `ticks`: what is counted on the happy path.

    Locking: to count needs none; to look, and to begin anew, is done under `counting`.
    """

    __slots__ = ("__weakref__", "ticks")

    def __init__(self, ticks: Ticks | None = None) -> None:
        self.ticks = Ticks() if ticks is None else ticks
        self._forget()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child nothing has happened yet."""
        self.reset()

    def reset(self) -> None:
        with counting:
            self.ticks.drain()
            self._forget()

    @abstractmethod
    def _forget(self) -> None:
        """Begin anew with what is counted under the lock."""


class RetryCounts(_Counts):
    """How the operations of one retry ended. `ticks`: those whose first attempt was good; `_retries`: the attempts of
    the others that were not the first."""

    __slots__ = ("_failures", "_neutral", "_retries", "_saved")

    def _forget(self) -> None:
        self._failures = self._neutral = self._retries = self._saved = 0

    def record(self, ending: Verdict, attempts: int) -> None:
        """A call ended so, after so many attempts. In one step, but for the tick at its end."""
        self._retries += attempts - 1
        if ending == "failure":
            self._failures += 1
        elif ending == "neutral":
            self._neutral += 1
        elif attempts > 1:
            self._saved += 1
        else:
            next(self.ticks)

    def metrics(self) -> dict[str, Any]:
        with counting:
            at_once = self.ticks.taken()
            saved, failures, neutral, retries = self._saved, self._failures, self._neutral, self._retries  # in one step
        successes = at_once + saved
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


class LimitCounts(_Counts):
    """How calls fared at a limit. `ticks`: those that it let through at once; waits need no lock either."""

    __slots__ = ("_others", "_rejections", "_seconds", "_untimed", "_waits")

    def _forget(self) -> None:
        self._others = self._rejections = self._untimed = self._waits = 0
        self._seconds = 0.0

    def ticked(self) -> int:
        """How many ticks were ever taken, whatever was reset."""
        with counting:
            return self.ticks.total()

    def let_in(self) -> None:
        """A call was let through, and takes no tick."""
        self._others += 1

    def not_at_once(self) -> None:
        """A call that took a tick was not let through at once after all."""
        self._others -= 1

    def made_wait(self, seconds: float | None) -> None:
        """A call was let through after waiting, or would have waited; None if nobody knows how long."""
        self._waits += 1
        if seconds is None:
            self._untimed += 1
        else:
            self._seconds += seconds

    def reject(self) -> None:
        self._rejections += 1

    def metrics(self) -> dict[str, Any]:
        with counting:
            waits, timed, seconds = self._waits, self._waits - self._untimed, self._seconds  # in one step
            return {
                "calls": max(0, self.ticks.taken() + waits + self._others),  # a reset may come before `not_at_once`
                "rejections": self._rejections,
                "waits": waits,
                "average_wait": share(seconds, timed),
            }


def share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
