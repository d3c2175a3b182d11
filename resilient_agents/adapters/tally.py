"""What components count, for whoever wants to look at it. Nothing is decided by it.

Every number is exact under threads. A call on the happy path counts itself by taking a tick, which the interpreter does
in one step and without a lock; what is rarer is counted under one. Sums are made when somebody looks, so that in each
snapshot they are sums of what stands beside them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.classify import Failure

__all__ = ["SPARSE", "BreakerTally", "LimitTally", "RetryTally", "Ticks", "Verdict", "rates_and_durations"]

Verdict: TypeAlias = Literal["failure", "success", "neutral"]

RECENT_FAILURES = 50
DURATIONS = 1_000
SPARSE = 31
"""Of so many calls through a busy circuit one is timed. A prime: calls that come in turn, such as two that alternate,
would else have their turn always or never."""


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

    def reset(self) -> None:
        self._apart = next(self) + 1


class BreakerTally:
    """Outcomes of the calls through one circuit, under the lock of that circuit.

    Without it, a call that succeeds in a healthy circuit takes a tick, and `timed` may be called.

    `busy`: there are more than 1,000 calls a second, of which only one in 31 is to be timed, because reading the clock
    costs more than all else here. Whether it is a call's turn must not depend on how that call ends.
    `durations`: of the newest outcomes that were timed, the neutral ones apart: when it ended, how long it took
    (monotonic seconds), and whether it failed. `recent`: of the newest failures, when (Unix time), kind and status.
    """

    __slots__ = (
        "_failures",
        "_neutral",
        "_successes",
        "busy",
        "durations",
        "recent",
        "rejections",
        "ticks",
        "transitions",
    )

    def __init__(self) -> None:
        self.ticks = Ticks()
        self.recent: deque[tuple[float, str, int | None]] = deque(maxlen=RECENT_FAILURES)
        self.reset()

    def reset(self) -> None:
        self.ticks.reset()
        self.forget_durations()
        self.recent.clear()
        self._successes = self._failures = self._neutral = self.rejections = self.transitions = 0

    def forget_durations(self) -> None:
        # Another one, as whoever is in `timed` meanwhile counts on what it found there.
        self.durations: deque[tuple[float, float, bool]] = deque(maxlen=DURATIONS)
        self.busy = False

    def timed(self, ended: float, seconds: float, *, failed: bool) -> bool:
        """How long a call took. Is the next one to be timed, too?"""
        durations = self.durations
        durations.append((ended, seconds, failed))
        sparse = SPARSE if self.busy else 1
        self.busy = len(durations) == DURATIONS and ended - durations[0][0] < sparse
        return not self.busy

    def record(self, verdict: Verdict, failure: Failure | None) -> None:
        """One more outcome; `failure` says what kind of failure it was."""
        if verdict == "neutral":
            self._neutral += 1
        elif verdict == "success":
            self._successes += 1
        else:
            self._failures += 1
            kind, status = ("unknown", None) if failure is None else (failure.kind, failure.status)
            self.recent.append((time.time(), kind, status))

    def one_in_many(self) -> bool:
        """Of those recorded here, is it the turn of this one?"""
        return not (self._successes + self._failures) % SPARSE

    def within(self, since: float, at_most: int | None) -> list[tuple[float, bool]]:
        """How long outcomes took and whether they failed: the last `at_most`, or all that ended after `since`."""
        newest = list(self.durations)
        if at_most is not None:
            newest = newest[-at_most:]
        else:
            newest = [entry for entry in newest if entry[0] > since]
        return [(seconds, failed) for _, seconds, failed in newest]

    def counts(self) -> dict[str, int]:
        successes = self._successes + self.ticks.taken()
        return {
            "calls": successes + self._failures + self._neutral,
            "successes": successes,
            "failures": self._failures,
            "neutral": self._neutral,
            "rejections": self.rejections,
            "transitions": self.transitions,
        }


class RetryTally:
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
            "saved_rate": _share(saved, calls),
        }

    def __reduce__(self) -> Any:
        return RetryTally, ()


class LimitTally:
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
                "average_wait": _share(self._seconds, self._timed),
            }


def rates_and_durations(outcomes: Iterable[tuple[float, bool]], slow_call: float | None) -> dict[str, float | None]:
    """Share of failures and of slow ones, average and 99th percentile (nearest rank) of seconds; None of nothing."""
    durations, failures = [], 0
    for seconds, failed in outcomes:
        durations.append(seconds)
        failures += failed
    durations.sort()
    total = len(durations)
    slow = sum(seconds >= slow_call for seconds in durations) if slow_call is not None else 0
    return {
        "failure_rate": _share(failures, total),
        "slow_rate": None if slow_call is None else _share(slow, total),
        "average_duration": _share(sum(durations), total),
        "p99_duration": durations[math.ceil(0.99 * total) - 1] if durations else None,
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
