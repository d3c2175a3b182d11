"""Which instruments what happens to a call goes to, and with which attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from resilient_agents import events
from resilient_agents.telemetry import names
from resilient_agents.telemetry.facts import facts

if TYPE_CHECKING:
    from resilient_agents.telemetry.metrics import Instruments
    from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["MEASURES", "retried_inside", "stream_ended", "waited_for", "with_extra"]

Measure = Callable[["Sink", "Instruments", "Attributes | None", Any], None]


def with_extra(extra: Attributes | None, attributes: Attributes) -> Attributes:
    return attributes if extra is None else {**extra, **attributes}


def stream_ended(sink: Sink, instruments: Instruments, extra: Attributes | None, pace: Any) -> None:
    if pace.first_item is not None:
        instruments.first_item.record(pace.first_item, with_extra(extra, sink.start))
    if pace.longest_gap is not None:
        instruments.gap.record(pace.longest_gap, with_extra(extra, sink.start))


def retried_inside(sink: Sink, instruments: Instruments, extra: Attributes | None, times: int) -> None:
    instruments.inner_retries.add(times, with_extra(extra, sink.start))


def _retry_scheduled(
    sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.RetryScheduled
) -> None:
    instruments.retry_delay.record(event.delay, with_extra(extra, sink.start))


def _gave_up(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.GaveUp) -> None:
    if event.reason == "budget":
        instruments.rejections.add(1, with_extra(extra, {**sink.start, names.STRATEGY: "retry_budget"}))


def _rejected(sink: Sink, instruments: Instruments, extra: Attributes | None, event: events.CallRejected) -> None:
    bounded = {**sink.start, names.STRATEGY: event.strategy}
    if event.shadow:
        bounded[names.SHADOW] = True
    instruments.rejections.add(1, with_extra(extra, bounded))


def waited_for(sink: Sink, instruments: Instruments, extra: Attributes | None, strategy: str, seconds: float) -> None:
    waits = instruments.waits.get(strategy)
    if waits is not None:
        waits.record(seconds, with_extra(extra, sink.start))


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
