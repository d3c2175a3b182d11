"""Follows one call and makes its spans and measurements.

What is current, and where: the operation span from the call's beginning to its end, so that a fallback's handler or a
hook nests under it; the attempt span during the attempt, so that the user's own spans do; neither across a `yield`.
Contexts are put back by attaching the one that was there, never by a token: a token may only be used where it was made,
while a stream can be closed from another task and a call can begin in one context and end in another. Where the current
context is not ours any more, it is left alone.

Measurements are recorded first, while their span is current, so that exemplars point to it.

Times are those of the policy's own clock, counted from the wall clock's time at the beginning of the operation: a wall
clock that is set meanwhile makes no span longer, and none that ends before it starts. A wait is told when it is over,
so its span is made afterwards: nothing is open that a cancellation could leave behind.

Each handler does the rest of its work when one part of it fails, in nested `finally`s; `record` logs what comes out of
it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, Tracer, set_span_in_context

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.telemetry import names
from resilient_agents.telemetry.current import AttemptSpan, put_back
from resilient_agents.telemetry.ending import say_how_it_ended
from resilient_agents.telemetry.facts import SPAN_EVENTS, facts, of_operation
from resilient_agents.telemetry.measures import MEASURES

if TYPE_CHECKING:
    from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["CallRecorder"]

MOST_SPANS: Final = 200  # of attempts and waits that one operation makes; what comes after is counted
SHORTEST_WAIT: Final = 0.001  # seconds from which on a wait has a span

_LAST_NAME: Final = len(names.ATTEMPT_SPANS) - 1
_counting = itertools.count(1)


class CallRecorder:
    """The recorder of one call. `_span` is None where no span is made, `_recording` False where a sampler dropped it.

    `_outer` is the context that was current before the call, `_inner` the one in which the operation span is; between
    `suspend` and `resume` `_held` is the one that was current inside. `_since`: nanoseconds from 1970 to the zero of
    the policy's clock.
    """

    # What differs from call to call is stored, what is rare has its default here.
    _span: Span | None = None
    _begun = False
    _recording = False
    _held: Context | None = None
    _extra: Attributes | None = None
    _common: Attributes | None = None
    _ended_by: str | None = None
    _spans = 0
    _left_out = 0
    _inner: Context
    _outer: Context
    _since: int
    _start: int

    def __init__(self, sink: Sink, *, traced: bool) -> None:
        self._sink = sink
        self._tracer = sink.tracer if traced else None
        self._attempts: dict[int, AttemptSpan] = {}
        self._told: dict[str, Any] = {}

    def record(self, event: events.Event) -> None:
        found = _HANDLERS.get(type(event))
        if found is None:
            return
        measure, handler = found
        sink = self._sink
        if measure is not None and sink.instruments is not None:
            try:
                measure(sink, sink.instruments, self._extra, event)
            except Exception:
                sink.faults.log("measuring a call", "measurements are missing")
        try:
            handler(self, event)
        except Exception:
            sink.faults.log("recording a call", "spans are missing")

    def suspend(self) -> None:
        """The user's generator hands out an item: nothing of ours stays current."""
        if self._span is not None and self._held is None:
            self._held = get_current()
            attach(self._outer)

    def resume(self) -> None:
        """The consumer comes back, perhaps from another task or thread."""
        if self._held is not None:
            self._outer = get_current()
            attach(self._held)
            self._held = None

    def _now(self, earliest: int = 0) -> int:
        now = self._since + int(clock.monotonic() * 1e9)
        return now if now > earliest else earliest  # noqa: FURB136 - `max` takes four times as long

    # -------------------------------------------------------------------------------------------------------- operation

    def begin(self) -> bool:
        """Start the operation. False when neither a span nor a metric wants to know more: then only `end` follows."""
        self._begun = True
        sink = self._sink
        try:
            if sink.extra is not None:
                self._extra = sink.extra(sink.policy)
            if self._tracer is not None:
                self._start_operation(self._tracer)
        except Exception:
            sink.faults.log("recording a call", "spans are missing")
        return self._recording or sink.instruments is not None

    def _start_operation(self, tracer: Tracer) -> None:
        self._outer = outer = get_current()
        self._told[names.SEQUENCE] = next(_counting)
        sink = self._sink
        kind = sink.kind()
        self._common = common = self._extra if kind is None else {**(self._extra or {}), **kind}
        attributes = sink.start if common is None else {**common, **sink.start}
        self._start = start = int(clock.wall() * 1e9)
        self._since = start - int(clock.monotonic() * 1e9)
        span = tracer.start_span(sink.span_name, outer, attributes=attributes, start_time=start)
        self._recording = span.is_recording()
        # One that is not recorded is current all the same: the user's spans inherit the sampler's decision from it.
        self._inner = inner = set_span_in_context(span, outer)
        attach(inner)
        self._span = span

    def end(self) -> None:
        """The end of a call of which nothing is recorded."""
        if self._span is not None:
            self._span = None
            put_back(self._inner, self._outer)

    def call_started(self, event: events.CallStarted) -> None:
        if not self._begun:
            self.begin()
        self._told[names.CONFIGURATION] = event.configuration
        if event.deadline is not None:
            self._told[names.DEADLINE] = event.deadline

    def call_ended(self, event: events.CallEnded) -> None:
        span = self._span
        if span is not None:
            self._span = None
            try:
                self._end_operation(span, event)
            finally:
                put_back(self._inner, self._outer)

    def _end_operation(self, span: Span, event: events.CallEnded) -> None:
        now = self._now(self._start)
        try:
            if self._recording:
                attributes = {**self._told, **of_operation(event)}
                if self._left_out:
                    attributes[names.LEFT_OUT] = self._left_out
                say_how_it_ended(span, attributes, event.failure, self._ended_by, event.failed)
                for number in list(self._attempts):  # one that nobody ended: its task was lost, or its race in a thread
                    attempt = self._attempts.pop(number, None)
                    if attempt is not None:
                        attempt.span.set_attribute(names.OUTCOME, "cancelled")
                        attempt.span.end(max(now, attempt.start))
        finally:
            span.end(now)

    # ----------------------------------------------------------------------------------------------- attempts and waits

    def _room(self) -> bool:
        """May there be a further span below the operation? Ten thousand attempts must not be ten thousand spans."""
        if not self._recording or not self._sink.attempt_spans:
            return False
        if self._spans < MOST_SPANS:
            self._spans += 1
            return True
        self._left_out += 1
        return False

    def attempt_started(self, event: events.AttemptStarted) -> None:
        if not self._room() or self._tracer is None:
            return
        self._ended_by = None
        outer = get_current()
        attributes: dict[str, Any] = {names.ATTEMPT: event.attempt}
        if event.hedge:
            attributes[names.HEDGE_NUMBER] = event.hedge
        if self._common is not None:
            attributes = {**self._common, **attributes}
        start = self._now()
        number = min(_LAST_NAME, event.attempt)
        span = self._tracer.start_span(
            names.ATTEMPT_SPANS[number], self._inner, attributes=attributes, start_time=start
        )
        inner = set_span_in_context(span, outer)
        attach(inner)
        self._attempts[event.attempt] = AttemptSpan(span, inner, outer, start)

    def attempt_ended(self, event: events.AttemptEnded) -> None:
        attempt = self._attempts.pop(event.attempt, None)
        if attempt is not None:
            try:
                self._end_attempt(attempt, event)
            finally:
                put_back(attempt.inner, attempt.outer)
        elif self._recording and not self._sink.attempt_spans:
            self._add_event(names.ATTEMPT_EVENT, facts(event))

    def _end_attempt(self, attempt: AttemptSpan, event: events.AttemptEnded) -> None:
        span = attempt.span
        try:
            if attempt.waited:
                span.set_attribute(names.WAITED, attempt.waited)
            if event.inner_retries:
                span.set_attribute(names.INNER_RETRIES, event.inner_retries)
            if event.failure is None:
                span.set_attribute(names.OUTCOME, event.outcome)
            else:
                say_how_it_ended(span, {names.OUTCOME: event.outcome}, event.failure, attempt.ended_by)
        finally:
            span.end(self._now(attempt.start))

    def waited_for(self, event: events.Waited) -> None:
        attempt = self._attempt() if event.reason is None else None
        if attempt is not None:
            attempt.waited += event.seconds
        if event.seconds < SHORTEST_WAIT or not self._room() or self._tracer is None:
            return
        within, earliest = (self._inner, self._start) if attempt is None else (attempt.inner, attempt.start)
        now = self._now(earliest)
        start = max(now - int(event.seconds * 1e9), earliest)
        name = names.WAIT_PREFIX + (event.reason or event.strategy)
        self._tracer.start_span(name, within, attributes=self._common, start_time=start).end(now)

    def _attempt(self) -> AttemptSpan | None:
        """The attempt that is current here, else the newest: those of a hedged call run at the same time."""
        attempts = dict(self._attempts)
        inner = get_current()
        for attempt in attempts.values():
            if attempt.inner is inner:
                return attempt
        return attempts[max(attempts)] if attempts else None

    # ------------------------------------------------------------------------------------------------ events in between

    def happened(self, event: events.Event) -> None:
        """What is an event on the operation, and nothing else."""
        self._add_event(SPAN_EVENTS[type(event)], facts(event))

    def gave_up_retrying(self, event: events.GaveUp) -> None:
        self._told[names.GAVE_UP] = event.reason
        if event.reason == "budget":
            self._add_event(names.REJECTED, {names.STRATEGY: "retry_budget"})

    def rejected(self, event: events.CallRejected) -> None:
        if not event.shadow:
            self._ends(event.strategy)
        self.happened(event)

    def timed_out(self, event: events.TimeoutExpired) -> None:
        self._ends(event.strategy)
        self.happened(event)

    def _ends(self, strategy: str) -> None:
        """A strategy refused or cut off the present attempt, or the operation where there is none."""
        self._ended_by = strategy
        attempt = self._attempt()
        if attempt is not None:
            attempt.ended_by = strategy

    def disturbed(self, event: events.ChaosInjected) -> None:
        attempt = self._attempt()
        span = self._span if attempt is None else attempt.span
        if self._recording and span is not None:
            span.set_attribute(names.CHAOS, event.what)

    def came_late(self, event: events.LateResult) -> None:
        self._add_event(names.TIMEOUT, {names.STRATEGY: "timeout", **facts(event)})

    def _add_event(self, name: str, attributes: Attributes) -> None:
        span = self._span
        if self._recording and span is not None:
            span.add_event(name, attributes, self._now())


_SPANS: Final[dict[type[events.Event], Callable[[CallRecorder, Any], None]]] = {
    events.CallStarted: CallRecorder.call_started,
    events.CallEnded: CallRecorder.call_ended,
    events.AttemptStarted: CallRecorder.attempt_started,
    events.AttemptEnded: CallRecorder.attempt_ended,
    events.RetryScheduled: CallRecorder.happened,
    events.GaveUp: CallRecorder.gave_up_retrying,
    events.CallRejected: CallRecorder.rejected,
    events.Waited: CallRecorder.waited_for,
    events.TimeoutExpired: CallRecorder.timed_out,
    events.LateResult: CallRecorder.came_late,
    events.FallbackUsed: CallRecorder.happened,
    events.HedgeStarted: CallRecorder.happened,
    events.ChaosInjected: CallRecorder.disturbed,
    events.CircuitOpened: CallRecorder.happened,
    events.CircuitHalfOpened: CallRecorder.happened,
    events.CircuitClosed: CallRecorder.happened,
}
_HANDLERS: Final = {kind: (MEASURES.get(kind), handler) for kind, handler in _SPANS.items()}
