"""What came out of a simulation, gathered in memory that does not grow with the number of calls."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Histogram", "Result", "Series"]

_GROWTH = 1.01
_SMALLEST = 1e-6
_BUCKETS = 1 / math.log(_GROWTH)  # from one second to e seconds
_FIRST = -math.log(_SMALLEST) * _BUCKETS


class Histogram:
    """Durations in buckets that grow by one per cent, so that a percentile is off by at most that."""

    __slots__ = ("_buckets", "total")

    def __init__(self) -> None:
        self._buckets: defaultdict[int, int] = defaultdict(int)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self._buckets[-1 if seconds < _SMALLEST else int(math.log(seconds) * _BUCKETS + _FIRST)] += 1

    @property
    def count(self) -> int:
        return sum(self._buckets.values())

    def percentile(self, share: float) -> float:
        """The duration that `share` of all stay below; NaN where there are none."""
        left = math.ceil(share * self.count)
        if not left:
            return math.nan
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return 0.0 if bucket < 0 else _SMALLEST * _GROWTH ** (bucket + 0.5)
        raise AssertionError("the buckets hold `count` durations")


class Series:
    """What happened in each step of time, and how things stood at its end."""

    COUNTED = ("offered", "sent", "errors", "succeeded", "failed", "refused")
    SAMPLED = ("open", "in_use", "waiting", "busy")

    def __init__(self, step: float, steps: int) -> None:
        self.step = step
        self.offered = array("q", bytes(8 * steps))
        self.sent = array("q", bytes(8 * steps))
        self.errors = array("q", bytes(8 * steps))
        self.succeeded = array("q", bytes(8 * steps))
        self.failed = array("q", bytes(8 * steps))
        self.refused = array("q", bytes(8 * steps))
        self.open = array("d", bytes(8 * steps))
        """The share of processes whose circuit lets no ordinary call through."""
        self.in_use = array("q", bytes(8 * steps))
        """Slots of bulkheads, in all processes."""
        self.waiting = array("q", bytes(8 * steps))
        """Requests in the dependency's queue."""
        self.busy = array("q", bytes(8 * steps))
        """Requests that the dependency serves."""

    def __len__(self) -> int:
        return len(self.offered)

    def success(self) -> list[float]:
        """In each step the share of the calls that ended which succeeded; NaN where none ended."""
        return [_share(self, step, step + 1) for step in range(len(self))]

    def as_dict(self) -> dict[str, Any]:
        """Lists by name, and `step` in seconds."""
        return {"step": self.step} | {name: list(getattr(self, name)) for name in (*self.COUNTED, *self.SAMPLED)}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of the calls of one simulation. Durations are seconds.

    Attributes:
        calls: Calls that ended, in whatever way.
        success_rate: The share of calls that got the dependency's answer.
        fallbacks: Calls that got something in its place.
        mean: How long a call took on average, in whatever way it ended.
        p50, p95, p99: How long calls took, as callers see it, in whatever way they ended (within 1 %).
        attempts: Requests per call.
        sent: Requests that arrived at the dependency.
        errors: Requests that it answered with an error, or never.
        refused: Calls that the policy ended by a refusal of its own.
        wasted: Services for callers who had gone.
        unfinished: Calls that were still under way when the simulation ended.
        cost: Of all requests.
        opened_after: From the beginning of the trouble until the next circuit opened; None where none did, or in a
            scenario without phases.
        recovered_after: From the end of the trouble until calls succeed again as before it, for ten seconds at a
            time; None where they never do.
        series: The course over time.
        interrupted: The simulation was ended before its time.
    """

    calls: int
    success_rate: float
    fallbacks: int
    mean: float
    p50: float
    p95: float
    p99: float
    attempts: float
    sent: int
    errors: int
    refused: int
    wasted: int
    unfinished: int
    cost: float
    opened_after: float | None
    recovered_after: float | None
    series: Series
    interrupted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes; a number that is not known is None."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["series"] = self.series.as_dict()
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in plain.items()
        }


_STEADY = 10.0
"""Seconds of good calls that count as having recovered."""

_LEVEL = 0.99
"""Which share of the success rate before the trouble is as good as before."""


def recovered_after(series: Series, start: float, end: float) -> float | None:
    """Seconds from `end` on until calls succeed as before `start` for ten seconds at a time."""
    before = _share(series, 0, int(start / series.step))
    level = _LEVEL * (1.0 if math.isnan(before) else before)
    steady = max(1, round(_STEADY / series.step))
    first = math.ceil(end / series.step - 1e-9)
    good = 0
    for step, share in enumerate(series.success()[first:], first):
        good = 0 if share < level else good + 1  # a step without calls is no bad one
        if good >= steady and _anything_ends(series, step + 1 - steady, step + 1):
            return max(0.0, (step + 1 - steady) * series.step - end)
    return None


def _anything_ends(series: Series, first: int, last: int) -> bool:
    """Where calls are made, some must end."""
    return not any(series.offered[first:last]) or not math.isnan(_share(series, first, last))


def _share(series: Series, first: int, last: int) -> float:
    good = sum(series.succeeded[first:last])
    ended = good + sum(series.failed[first:last]) + sum(series.refused[first:last])
    return good / ended if ended else math.nan
