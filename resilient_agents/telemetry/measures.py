"""Which instruments an event of a call goes to, and with which attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from resilient_agents import events
from resilient_agents.telemetry import names
from resilient_agents.telemetry.facts import facts

if TYPE_CHECKING:
    from resilient_agents.telemetry.metrics import Instruments
    from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["MEASURES"]

Measure = Callable[["Sink", "Instruments", "Attributes | None", Any], None]


def _with(extra: Attributes | None, attributes: Attributes) -> Attributes:
    return attributes if extra is None else {**extra, **attributes}


def _call_ended(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.CallEnded) -> None:
    attributes = sink.for_duration(event.outcome, event.attempts > 1)
    instruments.duration.record(event.duration, _with(extra, attributes))
    if event.first_item is not None:
        instruments.first_item.record(event.first_item, _with(extra, sink.start))
    if event.longest_gap is not None:
        instruments.gap.record(event.longest_gap, _with(extra, sink.start))


def _attempt_ended(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.AttemptEnded) -> None:
    kind = None if event.failure is None else event.failure.kind
    instruments.attempts.add(1, _with(extra, sink.for_attempt(event.outcome, kind)))
    if event.inner_retries:
        instruments.inner_retries.add(event.inner_retries, _with(extra, sink.start))


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


def _waited(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.Waited) -> None:
    waits = instruments.waits.get(event.strategy)
    if waits is not None:
        waits.record(event.seconds, _with(extra, sink.start))


def _circuit_changed(
    sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.CircuitChanged
) -> None:
    instruments.transitions.add(1, facts(event))  # of the circuit, whoever shares it


MEASURES: Final[Mapping[type[events.Event], Measure]] = {
    events.CallEnded: _call_ended,
    events.AttemptEnded: _attempt_ended,
    events.RetryScheduled: _retry_scheduled,
    events.GaveUp: _gave_up,
    events.CallRejected: _rejected,
    events.Waited: _waited,
    events.CircuitOpened: _circuit_changed,
    events.CircuitHalfOpened: _circuit_changed,
    events.CircuitClosed: _circuit_changed,
}
