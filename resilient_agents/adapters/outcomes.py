"""What became of the calls through one circuit: the one store that its rules decide by and its `metrics()` show.

It is told `now` and never reads the monotonic clock. The lock of the circuit guards it, with two exceptions: a success
that changes nothing takes a tick, and notes how long it took if it was timed; whoever looks adds the ticks.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from resilient_agents.adapters.counts import Ticks, Verdict, share
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure

__all__ = ["SPARSE", "CountWindow", "Outcomes", "TimeWindow", "Window", "is_slow"]

RECENT_FAILURES = 50
DURATIONS = 1_000
SPARSE = 31
"""Of so many calls through a busy circuit one is timed. A prime: calls that come in turn, such as two that alternate,
would else have their turn always or never."""
BUCKETS = 10
NARROWEST = 1e-9  # seconds: no clock tells less apart, and a number of such places is one that fits


def is_slow(seconds: float | None, slow_call: float | None) -> bool:
    """Did it take that long? The billionth is for what clocks lose where their readings are subtracted."""
    return slow_call is not None and seconds is not None and seconds >= slow_call * (1 - 1e-9)


class Window(ABC):
    """What happened lately: `calls` of which `failures` failed and `slow` were slow (a failure may be slow too).

    It lies on an axis, of time or of numbers, and keeps what happened by places there: [place, calls, failures, slow].
    """

    __slots__ = ("_places", "calls", "failures", "slow")

    def __init__(self) -> None:
        self._places: deque[list[int]] | None = None
        self.calls = self.failures = self.slow = 0

    @abstractmethod
    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """One more outcome."""

    @abstractmethod
    def add_good(self, calls: int) -> None:
        """So many good ones since the last `record`, before the moment that `fresh_until` named."""

    @abstractmethod
    def fresh_until(self) -> float:
        """Until when the present figures hold if nothing more happens."""

    @abstractmethod
    def age(self, now: float) -> None:
        """Forget what is older than the window."""

    @abstractmethod
    def following(self, old: Window | None) -> Window:
        """This new window with what the old one knows: as far as it reaches, and if it is of the same kind."""

    def _add(self, place: int, calls: int, failures: int, slow: int) -> None:
        places = self._places
        if places is None:
            places = self._places = deque()
        if not places or places[-1][0] < place:
            places.append([place, 0, 0, 0])
        self._count(places[-1], calls, failures, slow)

    def _count(self, at: list[int], calls: int, failures: int, slow: int) -> None:
        at[1] += calls
        at[2] += failures
        at[3] += slow
        self.calls += calls
        self.failures += failures
        self.slow += slow

    def _forget(self, last: int) -> None:
        places = self._places
        while places and places[0][0] <= last:
            gone = places.popleft()
            self._count(gone, *(-count for count in gone[1:]))


class CountWindow(Window):
    """The last `size` calls. Places are their numbers, and only what failed or was slow is kept there."""

    __slots__ = ("_total", "size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._total = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        self._total += 1
        if failed or slow:
            self._add(self._total, 0, failed, slow)
        self.age(now)

    def add_good(self, calls: int) -> None:
        self._total += calls
        self.age(0.0)

    def fresh_until(self) -> float:
        return math.inf

    def age(self, now: float) -> None:
        """Calls age by number, whatever the time."""
        self.calls = min(self._total, self.size)
        self._forget(self._total - self.size)

    def following(self, old: Window | None) -> Window:
        if isinstance(old, CountWindow):
            self._total = old.calls
            for number, *counts in old._places or ():  # noqa: SLF001 - the same class
                self._add(number - old._total + old.calls, *counts)  # noqa: SLF001
            self.age(0.0)
        return self


class TimeWindow(Window):
    """The last `seconds`. Places are tenths of it: what is older than the window is forgotten a tenth at a time."""

    __slots__ = ("_width",)

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._width = max(seconds / BUCKETS, NARROWEST)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        self.age(now)
        self._add(int(now / self._width), 1, failed, slow)

    def add_good(self, calls: int) -> None:
        if self._places:
            self._count(self._places[-1], calls, 0, 0)

    def fresh_until(self) -> float:
        return (self._places[-1][0] + 1) * self._width if self._places else -1.0

    def age(self, now: float) -> None:
        self._forget(int(now / self._width) - BUCKETS)

    def following(self, old: Window | None) -> Window:
        if isinstance(old, TimeWindow):
            for place, *counts in old._places or ():  # noqa: SLF001 - the same class
                self._add(int(place * old._width / self._width), *counts)  # noqa: SLF001
            if self._places:
                self._forget(self._places[-1][0] - BUCKETS)
        return self


class Outcomes:
    """How many calls ended how, what the rules look at (`window`, None for a circuit that keeps none), the newest
    failures, and of the newest calls that were timed how long they took.

    `ticks`: successes that changed nothing; `refused`: refusals by an open circuit. `busy`: there are more than 1,000
    calls a second, of which only one in 31 is to be noted, because reading the clock costs more than all else here.
    Whether it is a call's turn must not depend on how that call ends.
    """

    __slots__ = (
        "_counted",
        "_durations",
        "_recent",
        "busy",
        "refused",
        "rejections",
        "ticks",
        "transitions",
        "window",
    )

    def __init__(self) -> None:
        self.ticks = Ticks()
        self.refused = Ticks()
        self.window: Window | None = None
        self.busy = False
        self._durations: deque[tuple[float, float, bool]] | None = None
        self.reset()

    def reset(self) -> None:
        """Count from zero again; the window, by which the circuit decides, stays."""
        self._settle()
        self._recent: deque[tuple[float, str, int | None]] | None = None
        self._counted: dict[Verdict, int] = {"success": 0, "failure": 0, "neutral": 0}
        self.rejections = self.transitions = 0
        self.refused.drain()
        self._forget_durations()

    def begin(self, window: Window | None) -> None:
        """The circuit closed: what is looked at is from now on."""
        self._settle()
        self.window = window
        self._forget_durations()

    def reconfigure(self, window: Window | None) -> None:
        """The rules look at another window, which follows the one that there is; or at none, as long as the circuit is
        not closed."""
        self._settle()
        self.window = None if window is None else window.following(self.window)

    def record(self, verdict: Verdict, failure: Failure | None) -> None:
        """One more outcome; `failure` says what kind of failure it was."""
        self._settle()
        self._counted[verdict] += 1
        if verdict == "failure":
            if self._recent is None:
                self._recent = deque(maxlen=RECENT_FAILURES)
            kind, status = ("unknown", None) if failure is None else (failure.kind, failure.status)
            self._recent.append((clock.wall(), kind, status))

    def is_turn(self) -> bool:
        """Of those recorded here, is it this one's turn to be noted?"""
        return not (self._counted["success"] + self._counted["failure"]) % SPARSE

    def keep(self, era: Any, ended: float, seconds: float | None, failed: bool, turn: bool) -> None:
        """How long a call took that was admitted in `era`: of one in many where it is busy, for which it is its `turn`.
        Where slow calls matter all are timed."""
        timed = turn or era.timed
        if seconds is not None and (turn or not self.busy or (era.closed and not era.always)):
            durations = self._durations  # another one after `begin`, so what is counted on here stays what it is
            if durations is None:
                durations = self._durations = deque(maxlen=DURATIONS)
            durations.append((ended, seconds, failed))
            sparse = SPARSE if self.busy else 1
            self.busy = len(durations) == DURATIONS and ended - durations[0][0] < sparse
            timed = not self.busy
        if era.closed:
            era.timed = era.always or timed  # a reload may have brought that rule to a busy circuit

    def counts(self) -> dict[str, int]:
        self._settle()
        self.rejections += self.refused.drain()
        counted = self._counted
        return {
            "calls": sum(counted.values()),
            "successes": counted["success"],
            "failures": counted["failure"],
            "neutral": counted["neutral"],
            "rejections": self.rejections,
            "transitions": self.transitions,
        }

    def figures(self, now: float, reach: float, at_most: int | None, slow_call: float | None) -> dict[str, Any]:
        """The window, and shares of failures and of slow calls, average and 99th percentile (nearest rank) of seconds:
        of the last `at_most` outcomes, or of all that ended in the last `reach` seconds; None of nothing."""
        outcomes = list(self._durations or ())
        if at_most is not None:
            outcomes = outcomes[-at_most:]
        else:
            outcomes = [outcome for outcome in outcomes if outcome[0] > now - reach]
        durations = sorted(seconds for _, seconds, _ in outcomes)
        timed = calls = len(durations)
        failures = sum(failed for _, _, failed in outcomes)
        slow = sum(is_slow(seconds, slow_call) for seconds in durations)
        window = self.window
        if window is not None:
            window.age(now)
            if window.calls:  # what the circuit decides by, of all calls rather than of those that were timed
                calls, failures, slow = window.calls, window.failures, window.slow
        return {
            "window": None
            if window is None
            else {"calls": window.calls, "failures": window.failures, "slow": window.slow},
            "failure_rate": share(failures, calls),
            "slow_rate": None if slow_call is None else share(slow, calls),
            "average_duration": share(sum(durations), timed),
            "p99_duration": durations[math.ceil(0.99 * timed) - 1] if timed else None,
            "recent_failures": list(self._recent or ()),
        }

    def _settle(self) -> None:
        """Add the ticks since the last look."""
        ticked = self.ticks.drain()
        if ticked:
            self._counted["success"] += ticked
            if self.window is not None:
                self.window.add_good(ticked)

    def _forget_durations(self) -> None:
        self._durations = None
        self.busy = False
