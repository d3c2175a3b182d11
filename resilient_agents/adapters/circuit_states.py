"""The states of a circuit, each with what exists only while it lasts, and the rules by which one follows another.

An *era* is the time between two changes of state. Each is an object of its own, so a call that remembers the era in
which it was admitted can tell whether its outcome still means anything.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Any, Final

from resilient_agents.adapters.outcomes import CountWindow, TimeWindow
from resilient_agents.base.told import Fields, Told
from resilient_agents.events import CircuitState

FOREVER: Final = math.inf

__all__ = [
    "CLOSE",
    "Closed",
    "Era",
    "HalfOpen",
    "Open",
    "Opens",
    "Outcome",
    "Probe",
    "Refusal",
    "Rules",
    "decide",
    "new_window",
    "seconds_open",
    "shown",
]


class _Lasting:
    """What is so in any state but the one that calls flow in."""

    __slots__ = ()
    closed: bool = False
    calm_until: float = -1.0
    untimed: int = 0


class Closed(_Lasting):
    """Calls flow. `calm_until`: until this moment a success that is not slow changes nothing, so that it is only
    counted. `untimed`: so many of the next calls are not timed."""

    __slots__ = ("calm_until", "untimed")
    closed = True
    name: Final = "closed"

    def __init__(self) -> None:
        self.calm_until = -1.0
        self.untimed = 0


class Open(Fields, _Lasting):
    """Calls are refused `until` a moment of the monotonic clock. `reason`: "open after 5 failures". `hint`: the seconds
    to wait that the answer that tripped it named."""

    __slots__ = ("hint", "reason", "until")
    name = "open"

    until: float
    reason: str
    hint: float | None

    def shift(self, seconds: float) -> None:
        """Another clock took the place of the one that it was measured by."""
        self.until += seconds


class Probe(Fields):
    """The permit of one call in a half-open circuit, and the mark in the context by which the calls inside know that
    they are part of a probe: an agent and its tool may share a breaker, and the tool's call must not be refused for
    want of the permit that the agent's holds.

    `era`: None for a call that was refused when it was looked at again. `until`: when the permit is forfeited, so that
    a probe that hangs blocks nobody for ever. `over`: the call has ended. Setting it takes back the permit, and the
    mark in every context that has copied it, in one step that no exception from outside can divide.
    """

    era: HalfOpen | None
    until: float = 0.0
    over: bool = False

    def resume(self) -> None:
        """Mark this context, in which the call goes on."""
        marks = _probing.get()
        if not self.over and self not in marks:
            _probing.set((*(mark for mark in marks if not mark.over), self))

    def suspend(self) -> None:
        """Take the mark out of this context, in which the call does not go on for now, or any more."""
        marks = _probing.get()
        if self in marks:
            _probing.set(tuple(mark for mark in marks if mark is not self))


class Refusal(Told):
    """No admission: why, and after how many seconds it is worth asking again."""

    reason: str
    retry_after: float


class HalfOpen(_Lasting):
    """A few calls probe."""

    __slots__ = ("probes",)
    name: Final = "half-open"

    def __init__(self) -> None:
        self.probes: list[Probe] = []

    def out(self, now: float) -> list[Probe]:
        """The probes that hold a permit."""
        self.probes = [probe for probe in self.probes if not probe.over and probe.until > now]
        return self.probes

    def shift(self, seconds: float) -> None:
        for probe in self.probes:
            probe.until += seconds

    def permit(self, probe: Probe | None, at_most: int, now: float) -> Probe | Refusal | None:
        """A permit for a caller that has `probe` or none, to be lent to it: the one that it has, or another; None where
        a call around it decides."""
        out = self.out(now)
        if probe is not None and probe in out:
            return probe
        if probe is None and self.covers_caller():
            return None
        if len(out) >= at_most:
            return Refusal("half-open and all its probes are taken", min(taken.until for taken in out) - now)
        return probe if probe is not None and probe.era is self else Probe(self)

    def lend(self, probe: Probe, until: float) -> None:
        """Let it probe until then at most, and mark the context."""
        probe.until = until
        if probe not in self.probes:
            self.probes.append(probe)
        probe.resume()

    def covers_caller(self) -> bool:
        """Is this asked from inside of a probe?"""
        return any(mark.era is self and not mark.over for mark in _probing.get())


Era = Closed | Open | HalfOpen


def shown(era: Era, now: float) -> tuple[CircuitState, float | None]:
    """The state as it is to be seen, and the seconds until an open circuit lets the next probe through: one whose time
    is up is half-open."""
    if not isinstance(era, Open):
        return era.name, None
    left = era.until - now
    return ("open", left) if left > 0 else ("half-open", None)


_probing: ContextVar[tuple[Probe, ...]] = ContextVar("resilient_agents_probing", default=())


class Rules:
    """When a circuit changes its state; None switches a rule off. `failures` and `successes`: so many in a row.
    `failure_rate`, `slow_rate`: a share of at least `minimum_calls` in the window; with `slow_call` they are told to be
    slow."""

    failures: int | None = None
    failure_rate: float | None = None
    slow_call: float | None = None
    slow_rate: float = 1.0
    minimum_calls: int = 1
    window: float = 30.0
    window_calls: int | None = None
    reset_timeout: float = 30.0
    max_reset_timeout: float | None = None
    half_open_calls: int = 1
    successes: int = 1
    open_for: str | None = None

    def __init__(self, **rules: Any) -> None:
        vars(self).update(rules)


def new_window(rules: Rules) -> TimeWindow | CountWindow | None:
    """What they look at; None where they look at none."""
    if rules.failure_rate is None and rules.slow_call is None:
        return None
    return TimeWindow(rules.window) if rules.window_calls is None else CountWindow(rules.window_calls)


def seconds_open(rules: Rules, openings: int, hint: float | None = None) -> float:
    """For how long, at the so manyth opening in a row, by an answer that said how long to wait. One that names no
    time to come says nothing: a circuit that opens for no time would not be open."""
    maximum = rules.max_reset_timeout
    if hint and rules.open_for == "retry_after":
        return hint if maximum is None else min(maximum, hint)
    if maximum is None:
        return rules.reset_timeout
    return min(maximum, rules.reset_timeout * 2.0 ** max(0, min(openings - 1, 64)))


class Outcome(Told):
    """How a call ended, what that makes of failures in a row and of good probes, and the window."""

    failed: bool
    slow: bool
    in_row: int
    good: int
    window: TimeWindow | CountWindow | None


class Opens(Told):
    """It does, for this reason, because of an answer that named these seconds to wait."""

    reason: str
    hint: float | None = None


CLOSE: Final = "close"


def decide(era: Era, outcome: Outcome, rules: Rules) -> Opens | str | None:
    """What becomes of `era` after this outcome: it opens, it closes (`CLOSE`), or nothing changes."""
    failed, slow, window = outcome.failed, outcome.slow, outcome.window
    match era:
        case HalfOpen():
            if failed or slow:
                return Opens("a failed probe")
            return CLOSE if outcome.good >= rules.successes else None
        case Closed():
            if failed and rules.failures is not None and outcome.in_row >= rules.failures:
                return Opens(f"{outcome.in_row} failures")
            if window is not None and window.calls >= rules.minimum_calls:
                if _reached(window.failures, window.calls, rules.failure_rate):
                    return Opens(f"{window.failures} of {window.calls} calls failed")
                if rules.slow_call is not None and _reached(window.slow, window.calls, rules.slow_rate):
                    return Opens(f"{window.slow} of {window.calls} calls were slow")
            return None
        case Open():
            return None


def calm_until(outcome: Outcome, rules: Rules) -> float:
    """Until when further successes that are not slow cannot lead to another decision: they lower the share of failures
    in the window, and can only bring it to its minimum of calls or, as it ages, forget other successes."""
    window = outcome.window
    if outcome.in_row:  # the next one ends the row
        return -1.0
    if window is None:
        return FOREVER
    if window.calls >= rules.minimum_calls or not (window.failures or window.slow):
        return window.fresh_until()
    return -1.0


def _reached(part: int, calls: int, rate: float | None) -> bool:
    """Is it at least that share? Quotients are compared, as rates are quotients: 7 of 25 is the same number as 0.28,
    but 25 times 0.28 is more than 7. The billionth is for rates that were computed, such as 0.1 + 0.2."""
    return rate is not None and part / calls >= rate * (1 - 1e-9)
