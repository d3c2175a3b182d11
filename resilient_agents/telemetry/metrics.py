"""The instruments of one meter, into which the recorders of calls record. A meter that is asked twice gives the same.

A meter may refuse an instrument; then that one stays silent and the others work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, NoOpMeter, Observation

from resilient_agents.base import instances
from resilient_agents.telemetry import metric_table, names
from resilient_agents.telemetry.faults import Faults

__all__ = ["Instruments"]

_noop = NoOpMeter(names.SCOPE)


class Instruments:
    """All instruments of one meter. Gauges look at live components when they are collected, and keep none alive."""

    __slots__ = (
        "attempts",
        "duration",
        "faults",
        "first_item",
        "gap",
        "health_checks",
        "inner_retries",
        "rejections",
        "retry_delay",
        "transitions",
        "waits",
    )

    def __init__(self, meter: Meter, faults: Faults) -> None:
        self.faults = faults
        self.duration = self._histogram(meter, metric_table.POLICY_DURATION)
        self.attempts = self._counter(meter, metric_table.ATTEMPTS)
        self.rejections = self._counter(meter, metric_table.REJECTIONS)
        self.retry_delay = self._histogram(meter, metric_table.RETRY_DELAY)
        self.transitions = self._counter(meter, metric_table.CIRCUIT_BREAKER_TRANSITIONS)
        self.waits = {
            "rate_limit": self._histogram(meter, metric_table.RATE_LIMIT_WAIT),
            "bulkhead": self._histogram(meter, metric_table.BULKHEAD_WAIT),
        }
        self.first_item = self._histogram(meter, metric_table.STREAM_FIRST_ITEM)
        self.gap = self._histogram(meter, metric_table.STREAM_GAP)
        self.inner_retries = self._counter(meter, metric_table.INNER_RETRIES)
        self.health_checks = self._histogram(meter, metric_table.HEALTH_CHECK_DURATION)
        self._gauge(meter, metric_table.CIRCUIT_BREAKER_STATE, _states)
        self._gauge(meter, metric_table.BULKHEAD_IN_USE, _total("in_use"))
        self._gauge(meter, metric_table.BULKHEAD_QUEUED, _total("queued"))
        self._gauge(meter, metric_table.BULKHEAD_LIMIT, _total("limit"))
        self._gauge(meter, metric_table.HEALTH_CHECK_STATUS, _statuses)

    def _counter(self, meter: Meter, metric: metric_table.Metric) -> Counter:
        try:
            return meter.create_counter(metric.name, metric.unit, metric.description)
        except Exception:
            self._refused(metric)
            return _noop.create_counter(metric.name)

    def _histogram(self, meter: Meter, metric: metric_table.Metric) -> Histogram:
        try:
            return meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.boundaries
            )
        except Exception:
            self._refused(metric)
            return _noop.create_histogram(metric.name)

    def _gauge(self, meter: Meter, metric: metric_table.Metric, read: Callable[[], Iterable[Observation]]) -> None:
        def observe(options: CallbackOptions) -> Sequence[Observation]:
            try:
                return list(read())
            except Exception:
                self.faults.log(f"reading {metric.name}", "it has no value this time")
                return []

        try:
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)
        except Exception:
            self._refused(metric)

    def _refused(self, metric: metric_table.Metric) -> None:
        self.faults.log(f"making the instrument {metric.name}", "it will be missing")


def _states() -> Iterable[Observation]:
    """Breakers of one name are one series: a state is 1 if any of them is in it."""
    states: dict[tuple[str, bool], set[str]] = {}
    for breaker in [*instances.each("circuit_breaker"), *instances.each("native_circuit_breaker")]:
        key = (breaker.name or names.UNNAMED, bool(getattr(breaker, "shadow", False)))
        states.setdefault(key, set()).add(breaker.state)
    for (name, shadow), found in states.items():
        for state in names.STATES:
            attributes: dict[str, Any] = {names.CIRCUIT_BREAKER: name, names.STATE: state}
            if shadow:
                attributes[names.SHADOW] = True
            yield Observation(int(state in found), attributes)


def _statuses() -> Iterable[Observation]:
    """Checks of one name in several monitors are one series: a status is 1 if any of them has it."""
    found: dict[str, set[str]] = {}
    for monitor in instances.each("health_monitor"):
        for name, status in monitor.statuses().items():
            found.setdefault(name, set()).add(status.value)
    for name, statuses in found.items():
        for status in names.STATUSES:
            yield Observation(int(status in statuses), {names.HEALTH_CHECK: name, names.STATUS: status})


def _total(field: str) -> Callable[[], Iterable[Observation]]:
    """Bulkheads of one name are one series: their sum."""

    def read() -> Iterable[Observation]:
        totals: dict[str, int] = {}
        for bulkhead in instances.each("bulkhead"):
            name = getattr(bulkhead, "name", None) or names.UNNAMED
            totals[name] = totals.get(name, 0) + getattr(bulkhead, field)
        return [Observation(total, {names.BULKHEAD: name}) for name, total in totals.items()]

    return read
