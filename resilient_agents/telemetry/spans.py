"""Follows one call and makes its spans and measurements.

What is current, and where: the operation span from the call's beginning to its end, so that a fallback's handler or a
hook nests under it; the attempt span during the attempt, so that the user's own spans do; neither across a `yield`.
Contexts are put back by attaching the one that was there, never by a token: a token may only be used where it was made,
while a stream can be closed from another task and a call can begin in one context and end in another. Where the current
context is not ours any more, it is left alone.

Measurements are given the context of their span, so that exemplars point to it.

Times are those of the policy's own clock, counted from the wall clock's time at the beginning of the operation: a wall
clock that is set meanwhile makes no span longer, and none that ends before it starts. A wait is told when it is over,
so its span is made afterwards: nothing is open that a cancellation could leave behind.

What a recorder is told never raises: each method logs what comes out of its two parts, measuring and recording, and
does the rest of its work when a step of it fails, in nested `finally`s.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, set_span_in_context

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.telemetry import names
from resilient_agents.telemetry.current import AttemptSpan, put_back
from resilient_agents.telemetry.ending import say_what_failed
from resilient_agents.telemetry.facts import add_sums, facts, of_state
from resilient_agents.telemetry.measures import retried_inside, stream_ended, with_extra
from resilient_agents.telemetry.names import (
    ATTEMPT,
    ATTEMPT_SPANS,
    CLOCK,
    CONFIGURATION,
    FUNCTION_BEGAN,
    OUTCOME,
    SEQUENCE,
)

if TYPE_CHECKING:
    from resilient_agents.classify import Failure
    from resilient_agents.events.recorder import Course, Operation, Setup
    from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["MEASURING", "MOST_SPANS", "RECORDING", "SpanRecorder"]

MOST_SPANS: Final = 200  # of attempts and waits that one operation makes; what comes after is counted

_LAST_NAME: Final = len(names.ATTEMPT_SPANS) - 1
MEASURING: Final = ("measuring a call", "measurements are missing")
RECORDING: Final = ("recording a call", "spans are missing")
_counting = itertools.count(1)


class SpanRecorder:
    """The recorder of one call, but for what few calls go through. `_span` is None where no span is made, `_recording`
    False where a sampler dropped it.

    `_outer` is the context that was current before the call, `_inner` the one in which the operation span is; between
    `suspend` and `resume` `_held` is the one that was current inside. `_since`: nanoseconds from 1970 to the zero of
    the policy's clock.
    """

    # What differs from call to call is stored, what is rare has its default here.
    _span: Span | None = None
    _recording = False
    _held: Context | None = None
    _extra: Attributes | None = None
    _common: Attributes | None = None
    _ended_by: str | None = None
    _spans_left = 0  # less than none are left where some were left out
    _inner: Any = None
    _since: int
    _start: int
    _stands_in: str | None = None
    _told: dict[str, Any]
    _setup: Setup
    _waited_for: str | None = None

    def __init__(self, sink: Sink, outer: Context | None) -> None:
        """`outer`: None makes no spans."""
        self._sink = sink
        self._outer: Any = outer
        self._attempts: dict[int, AttemptSpan] = {}

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

    def _at(self, seconds: float, earliest: int) -> int:
        """A time of the policy's clock as a span has it, in nanoseconds from 1970."""
        at = self._since + int(seconds * 1e9)
        return at if at > earliest else earliest  # noqa: FURB136 - `max` takes four times as long

    # -------------------------------------------------------------------------------------------------------- operation

    def begin(self, at: float, setup: Setup, deadline: float | None, called: str | None) -> bool:
        """Start the operation, which is current from `resume` on. False when neither a span nor a metric wants to know
        more: then only `end` follows, or nothing of what does is recorded."""
        sink, outer = self._sink, self._outer
        try:
            extra = None if sink.extra is None else sink.extra(sink.policy)
            if outer is None:
                self._told = {}
            else:
                self._setup = setup
                self._told = told = {SEQUENCE: next(_counting), CLOCK: at, CONFIGURATION: setup.configuration}
                if deadline is not None:
                    told[names.DEADLINE] = deadline
                if called is not None:
                    told[names.CALLED] = called
                state = setup.state()
                if state is not None:
                    told.update(of_state(*state))
                attributes = sink.start
                common = sink.common(extra)
                if common:
                    self._common = common
                    attributes = {**common, **attributes}
                self._start = start = int(clock.wall() * 1e9)
                self._since = start - int(at * 1e9)
                span = sink.tracer.start_span(sink.span_name, outer, attributes=attributes, start_time=start)
                if span.is_recording():
                    self._recording = True
                    if sink.attempt_spans:
                        self._spans_left = MOST_SPANS
                # One that is not recorded is current all the same: the user's spans inherit the decision from it.
                self._inner = self._held = set_span_in_context(span, outer)
                self._span = span
            self._extra = extra
        except Exception:
            sink.faults.log(*RECORDING)
        return self._recording or sink.instruments is not None

    def end(self) -> None:
        """The end of a call of which nothing is recorded, or no more: nothing of ours stays current."""
        self._span = None
        if self._inner is not None:
            for attempt in list(self._attempts.values()):
                put_back(attempt.inner, attempt.outer)
            put_back(self._inner, self._outer)

    def call_ended(
        self, operation: Operation, outcome: events.Outcome, duration: float, failure: Failure | None
    ) -> None:
        sink, span, extra = self._sink, self._span, self._extra
        instruments = sink.instruments
        try:
            if instruments is not None:
                measured = sink.for_duration[outcome, operation.attempts > 1]
                instruments.duration.record(
                    duration, measured if extra is None else with_extra(extra, measured), self._inner
                )
                if operation.pace is not None:
                    stream_ended(sink, instruments, extra, operation.pace)
        except Exception:
            sink.faults.log(*MEASURING)
        if span is None:
            return
        self._span = None
        now = self._start + (int(duration * 1e9) if duration > 0 else 0)
        try:
            try:
                if self._recording:
                    self._say_all(span, operation, outcome, failure)
                    if self._attempts:
                        self._end_attempts(now)
            finally:
                try:
                    span.end(now)
                finally:
                    put_back(self._inner, self._outer)
        except Exception:
            self.end()
            sink.faults.log(*RECORDING)

    def _say_all(self, span: Span, operation: Operation, outcome: str, failure: Failure | None) -> None:
        told = self._told
        told[OUTCOME] = outcome
        add_sums(told, operation)
        if self._spans_left < 0 and self._sink.attempt_spans:
            told[names.LEFT_OUT] = -self._spans_left
        around = self._setup.around
        if around:
            stopped_by = None if operation.attempts else self._ended_by or self._waited_for or outcome
            told.update(self._sink.for_passage[around, stopped_by])
        if failure is None:
            span.set_attributes(told)
        else:
            say_what_failed(span, told, failure, self._ended_by, operation.failed)

    def _end_attempts(self, now: int) -> None:
        """Of those that nobody ended: their task was lost, or their race in a thread."""
        for number in list(self._attempts):
            attempt = self._attempts.pop(number, None)
            if attempt is None:
                continue
            if attempt.span.is_recording():
                attempt.told[OUTCOME] = "cancelled"
                if attempt.course.began is not None:
                    attempt.told[FUNCTION_BEGAN] = attempt.course.began - attempt.at
                attempt.span.set_attributes(attempt.told)
                attempt.span.end(max(now, attempt.start))
            put_back(attempt.inner, attempt.outer)

    # ----------------------------------------------------------------------------------------------- attempts and waits

    def attempt_started(self, attempt: int, hedge: int, at: float, course: Course) -> None:
        self._spans_left = left = self._spans_left - 1  # ten thousand attempts must not be ten thousand spans
        if left < 0:
            return
        self._ended_by = None
        try:
            outer = get_current()
            start = self._since + int(at * 1e9)
            if start < self._start:
                start = self._start
            name = ATTEMPT_SPANS[min(_LAST_NAME, attempt)]
            span = self._sink.tracer.start_span(name, self._inner, attributes=self._common, start_time=start)
            inner = set_span_in_context(span, outer)
            # Said at its end, with all the rest: a second batch of attributes costs more than what is in it.
            told: dict[str, Any] = {ATTEMPT: attempt}
            if hedge:
                told[names.HEDGE_NUMBER] = hedge
            if self._stands_in is not None:
                told[names.FALLBACK_BY] = self._stands_in
            self._attempts[attempt] = AttemptSpan(span, inner, outer, start, told, at, course)
            attach(inner)
        except Exception:
            self._sink.faults.log(*RECORDING)

    def attempt_flows(self, attempt: int, seconds: float) -> None:
        ours = self._attempts.get(attempt)
        if ours is not None:
            ours.told[names.FIRST_ITEM] = seconds

    def attempt_ended(
        self,
        attempt: int,
        at: float,
        outcome: events.Outcome,
        duration: float,
        failure: Failure | None,
        retries: int | None,
        lead: float | None,
    ) -> None:
        sink, extra = self._sink, self._extra
        instruments = sink.instruments
        ours = self._attempts.get(attempt)
        self._stands_in = None
        try:
            if instruments is not None:
                measured = sink.for_attempt[outcome, None if failure is None else failure.kind]
                context = self._inner if ours is None else ours.inner
                instruments.attempts.add(1, measured if extra is None else with_extra(extra, measured), context)
                if retries:
                    retried_inside(sink, instruments, extra, retries)
        except Exception:
            sink.faults.log(*MEASURING)
        try:
            if ours is not None:
                span = ours.span
                try:
                    try:
                        told = ours.told
                        told[OUTCOME] = outcome
                        if retries:
                            told[names.INNER_RETRIES] = retries
                        setup = self._setup
                        if lead is not None:
                            told[FUNCTION_BEGAN] = lead
                            if setup.said is None:
                                setup.said = sink.for_passage[setup.inside, None]
                            told.update(setup.said)
                        else:
                            stopped_by = ours.ended_by or ours.waited_for or outcome
                            told.update(sink.for_passage[setup.inside, stopped_by])
                        if failure is None:
                            span.set_attributes(told)
                        else:
                            say_what_failed(span, told, failure, ours.ended_by)
                    finally:
                        end, start = self._since + int(at * 1e9), ours.start
                        span.end(max(start, end))
                finally:
                    put_back(ours.inner, ours.outer)
                    self._attempts.pop(attempt, None)
            elif self._recording and not sink.attempt_spans:
                event = events.AttemptEnded(sink.policy, attempt, outcome, duration, failure, retries)
                self._add_event(names.ATTEMPT_EVENT, facts(event))
        except Exception:
            if ours is not None:
                put_back(ours.inner, ours.outer)
            sink.faults.log(*RECORDING)

    def _add_event(self, name: str, attributes: Attributes) -> None:
        span = self._span
        if self._recording and span is not None:
            span.add_event(name, attributes, self._at(clock.monotonic(), self._start))
