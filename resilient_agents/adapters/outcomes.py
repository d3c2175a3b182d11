"""What became of the calls through one circuit: the one store that its rules decide by and its `metrics()` show.

It is told `now` and never reads the monotonic clock. The lock of the circuit guards it, with two exceptions: a success
that changes nothing is only counted, and noted if it was timed; and so is a refusal by an open circuit.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from resilient_agents.adapters.counts import Counts, Verdict, share
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure

if TYPE_CHECKING:
    from resilient_agents.adapters.circuit_states import Rules

__all__ = ["SPARSE", "CountWindow", "Outcomes", "TimeWindow", "is_slow"]

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


class Window:
    """What happened lately: `calls` of which `failures` failed and `slow` were slow (a failure may be slow too).

    It lies on an axis, of time or of numbers, and keeps what happened by places there: [place, calls, failures, slow],
    each `_width` wide. `_here`: where it is by now; what is `_reach` places behind is forgotten.
    """

    __slots__ = ("_here", "_places", "_reach", "_width", "calls", "failures", "slow")

    def __init__(self, width: float, reach: int) -> None:
        self._width, self._reach = width, reach
        self._places: deque[list[int]] | None = None
        self._here = self.calls = self.failures = self.slow = 0

    def following(self, old: Window | None) -> Self:
        """This new window with what the old one knows: as far as it reaches, and if it is of the same kind."""
        if isinstance(old, type(self)):
            narrower = old._width / self._width  # noqa: SLF001
            for place, *counts in old._places or ():  # noqa: SLF001 - the same class
                self._here = int(place * narrower)
                self._add(*counts)
            self._move(int(old._here * narrower))  # noqa: SLF001
        return self

    def _add(self, calls: int, failures: int, slow: int) -> None:
        """So many more, here."""
        places = self._places
        if places is None:
            places = self._places = deque()
        if not places or places[-1][0] < self._here:
            places.append([self._here, 0, 0, 0])
        self._count(places[-1], calls, failures, slow)

    def _move(self, here: int) -> None:
        self._here = here
        places = self._places
        while places and places[0][0] <= here - self._reach:
            gone = places.popleft()
            self._count(gone, *(-count for count in gone[1:]))

    def _count(self, at: list[int], calls: int, failures: int, slow: int) -> None:
        at[1] += calls
        at[2] += failures
        at[3] += slow
        self.calls += calls
        self.failures += failures
        self.slow += slow


class CountWindow(Window):
    """The last `size` calls. Places are their numbers, and only what failed or was slow is kept there."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        super().__init__(1.0, size)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        self.add_good(1)
        if failed or slow:
            self._add(0, failed, slow)

    def add_good(self, calls: int) -> None:
        self._move(self._here + calls)
        self.calls = min(self.calls + calls, self._reach)

    def age(self, now: float) -> None:
        """Calls age by number, whatever the time."""

    def fresh_until(self) -> float:
        return math.inf

    def following(self, old: Window | None) -> Self:
        if isinstance(old, CountWindow):
            self.calls = min(old.calls, self._reach)
        return super().following(old)


class TimeWindow(Window):
    """The last `seconds`. Places are tenths of it: what is older than the window is forgotten a tenth at a time."""

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        super().__init__(max(seconds / BUCKETS, NARROWEST), BUCKETS)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """One more outcome."""
        self.age(now)
        self._add(1, failed, slow)

    def add_good(self, calls: int) -> None:
        """So many good ones since the last look, before the moment that `fresh_until` named."""
        self._add(calls, 0, 0)

    def age(self, now: float) -> None:
        """Forget what is older than the window."""
        self._move(int(now / self._width))

    def fresh_until(self) -> float:
        """Until when the present figures hold if nothing more happens."""
        return (self._here + 1) * self._width


class Outcomes(Counts):
    """How many calls ended how, what the rules look at (`window`, None for a circuit that keeps none), the newest
    failures, and of the newest calls that were timed how long they took.

    Where slow calls matter all are timed. Else, where it is `busy` because there are more than 1,000 a second, one in
    31 is, because reading the clock costs more than all else here. Which ones must not depend on how they end.
    """

    __slots__ = (
        *("_durations", "_known", "_recent", "busy", "failures", "neutral", "rejections"),
        *("successes", "transitions", "window"),
    )

    busy: bool
    _durations: deque[tuple[float, float, bool]] | None

    def __init__(self) -> None:
        self.successes = self.failures = self.neutral = self.rejections = self.transitions = 0
        self._known = 0  # successes that the window knows of
        self.window: TimeWindow | CountWindow | None = None
        self._recent: deque[tuple[float, str, int | None]] | None = None
        self._forget_durations()
        super().__init__()

    def _now(self) -> tuple[int, ...]:
        return self.successes, self.failures, self.neutral, self.rejections, self.transitions

    def reset(self) -> None:
        """Count from zero again; the window, by which the circuit decides, stays."""
        super().reset()
        self._recent = None
        self._forget_durations()

    def begin(self, window: TimeWindow | CountWindow | None) -> None:
        """The circuit closed: what is looked at is from now on."""
        self.window = None
        self.reconfigure(window)
        self._forget_durations()

    def reconfigure(self, window: TimeWindow | CountWindow | None) -> None:
        """The rules look at another window, which follows the one that there is; or at none, as long as the circuit is
        not closed."""
        self._settle()
        self.window = None if window is None else window.following(self.window)

    def record(self, verdict: Verdict, failure: Failure | None) -> None:
        """One more outcome; `failure` says what kind of failure it was."""
        self._settle()
        if verdict == "success":
            self.successes += 1
            self._known += 1
        elif verdict == "neutral":
            self.neutral += 1
        else:
            self.failures += 1
            if self._recent is None:
                self._recent = deque(maxlen=RECENT_FAILURES)
            kind, status = ("unknown", None) if failure is None else (failure.kind, failure.status)
            self._recent.append((clock.wall(), kind, status))

    def keep(self, era: Any, rules: Rules, ended: float, seconds: float | None, *, failed: bool) -> None:
        """How long a call took that was admitted in `era`, if it was timed; where all are, of one in many where it is
        busy. From it follows how many of the next calls are not timed."""
        if seconds is None or (self.busy and rules.slow_call and (self.successes + self.failures) % SPARSE):
            return
        durations = self._durations  # another one after `begin`, so what is counted on here stays what it is
        if durations is None:
            durations = self._durations = deque(maxlen=DURATIONS)
        durations.append((ended, seconds, failed))
        sparse = SPARSE if self.busy else 1
        self.busy = len(durations) == DURATIONS and ended - durations[0][0] < sparse
        if era.closed:
            era.untimed = SPARSE - 1 if self.busy and rules.slow_call is None else 0  # in one step

    def counts(self) -> dict[str, int]:
        successes, failures, neutral, rejections, transitions = self._since()
        return {
            "calls": successes + failures + neutral,
            "successes": successes,
            "failures": failures,
            "neutral": neutral,
            "rejections": rejections,
            "transitions": transitions,
        }

    def figures(self, now: float, rules: Rules) -> dict[str, Any]:
        """The window, and shares of failures and of slow calls, average and 99th percentile (nearest rank) of seconds:
        of as many outcomes as the rules look at; None of nothing."""
        outcomes = list(self._durations or ())
        if rules.window_calls is not None:
            outcomes = outcomes[-rules.window_calls :]
        else:
            outcomes = [outcome for outcome in outcomes if outcome[0] > now - rules.window]
        durations = sorted(seconds for _, seconds, _ in outcomes)
        timed = calls = len(durations)
        failures = sum(failed for _, _, failed in outcomes)
        slow = sum(is_slow(seconds, rules.slow_call) for seconds in durations)
        window = self.window
        self._settle()
        if window is not None:
            window.age(now)
            if window.calls:  # what the circuit decides by, of all calls rather than of those that were timed
                calls, failures, slow = window.calls, window.failures, window.slow
        return {
            "window": None
            if window is None
            else {"calls": window.calls, "failures": window.failures, "slow": window.slow},
            "failure_rate": share(failures, calls),
            "slow_rate": None if rules.slow_call is None else share(slow, calls),
            "average_duration": share(sum(durations), timed),
            "p99_duration": durations[math.ceil(0.99 * timed) - 1] if timed else None,
            "recent_failures": list(self._recent or ()),
        }

    def _settle(self) -> None:
        """Tell the window of the successes that nothing followed from, since the last look."""
        new, self._known = self.successes - self._known, self.successes  # in one step
        if new and self.window is not None:
            self.window.add_good(new)

    def _forget_durations(self) -> None:
        self._durations = None
        self.busy = False
