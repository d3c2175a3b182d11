"""Which instruments what happens to a call goes to, and with which attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from resilient_agents import events
from resilient_agents.telemetry import names
from resilient_agents.telemetry.facts import facts

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from resilient_agents.classify import Failure
    from resilient_agents.events.recorder import Operation
    from resilient_agents.telemetry.metrics import Instruments
    from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["MEASURES", "attempt_ended", "call_ended", "waited_for"]

Measure = Callable[["Sink", "Instruments", "Attributes | None", Any], None]


def _with(extra: Attributes | None, attributes: Attributes) -> Attributes:
    return attributes if extra is None else {**extra, **attributes}


def call_ended(
    sink: Sink,
    instruments: Instruments,
    extra: Attributes | None,
    operation: Operation,
    outcome: str,
    duration: float,
    context: Context | None,
) -> None:
    attributes = sink.for_duration[outcome, operation.attempts > 1]
    instruments.duration.record(duration, attributes if extra is None else _with(extra, attributes), context)
    pace = operation.pace
    if pace is not None:
        if pace.first_item is not None:
            instruments.first_item.record(pace.first_item, _with(extra, sink.start))
        if pace.longest_gap is not None:
            instruments.gap.record(pace.longest_gap, _with(extra, sink.start))


def attempt_ended(
    sink: Sink,
    instruments: Instruments,
    extra: Attributes | None,
    outcome: str,
    failure: Failure | None,
    inner_retries: int | None,
    context: Context | None,
) -> None:
    attributes = sink.for_attempt[outcome, None if failure is None else failure.kind]
    instruments.attempts.add(1, attributes if extra is None else _with(extra, attributes), context)
    if inner_retries:
        instruments.inner_retries.add(inner_retries, _with(extra, sink.start))


def _retry_scheduled(
    sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.RetryScheduled
) -> None:
    instruments.retry_delay.record(event.delay, _with(extra, sink.start))


def _gave_up(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.GaveUp) -> None:
    if event.reason == "budget":
        instruments.rejections.add(1, _with(extra, {**sink.start, names.STRATEGY: "retry_budget"}))


def _rejected(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.CallRejected) -> None:
    bounded = {**sink.start, names.STRATEGY: event.strategy}
    if event.shadow:
        bounded[names.SHADOW] = True
    instruments.rejections.add(1, _with(extra, bounded))


def waited_for(sink: Sink, instruments: Instruments, extra: Attributes | None, strategy: str, seconds: float) -> None:
    waits = instruments.waits.get(strategy)
    if waits is not None:
        waits.record(seconds, _with(extra, sink.start))


def _circuit_changed(
    sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.CircuitChanged
) -> None:
    instruments.transitions.add(1, facts(event))  # of the circuit, whoever shares it


MEASURES: Final[Mapping[type[events.Event], Measure]] = {
    events.RetryScheduled: _retry_scheduled,
    events.GaveUp: _gave_up,
    events.CallRejected: _rejected,
    events.CircuitOpened: _circuit_changed,
    events.CircuitHalfOpened: _circuit_changed,
    events.CircuitClosed: _circuit_changed,
}
