"""Follows one call and makes its spans and measurements.

What is current, and where: the operation span from the call's beginning to its end, so that a fallback's handler or a
hook nests under it; the attempt span during the attempt, so that the user's own spans do; neither across a `yield`.
Contexts are put back by attaching the one that was there, never by a token: a token may only be used where it was made,
while a stream can be closed from another task and a call can begin in one context and end in another. Where the current
context is not ours any more, it is left alone.

Measurements are recorded while their span is current, so that exemplars point to it.

Each handler does the rest of its work when one part of it fails, in nested `finally`s; `record` logs what comes out of
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, StatusCode, Tracer, get_current_span, set_span_in_context

from resilient_agents.classify import Failure
from resilient_agents.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CallStarted,
    CircuitChanged,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Event,
    FallbackUsed,
    GaveUp,
    HedgeStarted,
    LateResult,
    RetryScheduled,
    TimeoutExpired,
    Waited,
)
from resilient_agents.telemetry import names
from resilient_agents.telemetry.faults import Faults
from resilient_agents.telemetry.metrics import Attributes, Instruments, transition

__all__ = ["CallRecorder", "Sink"]


class Sink:
    """Where the recorders of one policy send things, and the attributes that they need over and over.

    `extra`: asks the user's hook for more attributes, None when there is no hook.
    """

    __slots__ = (
        "_for_attempt",
        "_for_duration",
        "attempt_spans",
        "extra",
        "faults",
        "instruments",
        "policy",
        "span_name",
        "start",
        "tracer",
    )

    def __init__(
        self,
        policy: str,
        tracer: Tracer | None,
        instruments: Instruments | None,
        faults: Faults,
        *,
        attempt_spans: bool,
        extra: Callable[[str], Attributes] | None,
    ) -> None:
        self.policy = policy
        self.tracer = tracer
        self.instruments = instruments
        self.faults = faults
        self.attempt_spans = attempt_spans
        self.extra = extra
        self.span_name = names.OPERATION_PREFIX + policy
        self.start: Attributes = {names.POLICY: policy}
        self._for_duration: dict[tuple[str, bool], Attributes] = {}
        self._for_attempt: dict[tuple[str, str | None], Attributes] = {}

    def for_duration(self, outcome: str, retried: bool) -> Attributes:
        key = (outcome, retried)
        found = self._for_duration.get(key)
        if found is None:
            found = self._for_duration[key] = {
                names.POLICY: self.policy,
                names.OUTCOME: outcome,
                names.RETRIED: retried,
            }
        return found

    def for_attempt(self, outcome: str, kind: str | None) -> Attributes:
        key = (outcome, kind)
        found = self._for_attempt.get(key)
        if found is None:
            found = {names.POLICY: self.policy, names.OUTCOME: outcome}
            if kind is not None:
                found[names.ERROR_TYPE] = kind
            self._for_attempt[key] = found
        return found


class _Attempt:
    """An attempt span, the context that it is current in, and the one to put back."""

    __slots__ = ("inner", "outer", "span", "waited")

    def __init__(self, span: Span, inner: Context, outer: Context) -> None:
        self.span = span
        self.inner = inner
        self.outer = outer
        self.waited = 0.0


class CallRecorder:
    """The recorder of one call. `_span` is None where no span is made, `_recording` False where a sampler dropped it.

    `_outer` is the context that was current before the call, `_inner` the one in which the operation span is; between
    `suspend` and `resume` `_held` is the one that was current inside.
    """

    __slots__ = (
        "_attempts",
        "_begun",
        "_extra",
        "_gave_up",
        "_held",
        "_inner",
        "_last",
        "_outer",
        "_recording",
        "_sink",
        "_span",
        "_tracer",
        "_waited",
    )

    _inner: Context
    _outer: Context

    def __init__(self, sink: Sink, *, traced: bool) -> None:
        self._sink = sink
        self._tracer = sink.tracer if traced else None
        self._span: Span | None = None
        self._begun = False
        self._recording = False
        self._held: Context | None = None
        self._extra: Attributes | None = None
        self._attempts: dict[int, _Attempt] = {}
        self._last = 0
        self._gave_up: str | None = None
        self._waited = 0.0

    def record(self, event: Event) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            try:
                handler(self, event)
            except Exception:
                self._sink.faults.log("recording a call", "spans or measurements are missing")

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

    # -------------------------------------------------------------------------------------------------------- operation

    def begin(self) -> bool:
        """Start the operation. False when neither a span nor a metric wants to know more: then only `end` follows."""
        self._begun = True
        sink = self._sink
        try:
            if sink.extra is not None:
                self._extra = sink.extra(sink.policy)
            if self._tracer is not None:
                self._start(self._tracer)
        except Exception:
            sink.faults.log("recording a call", "spans or measurements are missing")
        return self._recording or sink.instruments is not None

    def _start(self, tracer: Tracer) -> None:
        self._outer = outer = get_current()
        span = tracer.start_span(self._sink.span_name, outer, attributes=self._with_extra(self._sink.start))
        self._recording = span.is_recording()
        # One that is not recorded is current all the same: the user's spans inherit the sampler's decision from it.
        self._inner = inner = set_span_in_context(span, outer)
        attach(inner)
        self._span = span

    def end(self) -> None:
        """The end of a call of which nothing is recorded."""
        if self._span is not None:
            self._span = None
            _put_back(self._inner, self._outer)

    def call_started(self, event: CallStarted) -> None:
        if not self._begun:
            self.begin()

    def call_ended(self, event: CallEnded) -> None:
        sink = self._sink
        retried = event.attempts > 1
        try:
            if sink.instruments is not None:
                sink.instruments.duration.record(
                    event.duration, self._with_extra(sink.for_duration(event.outcome, retried))
                )
        finally:
            span = self._span
            if span is not None:
                self._span = None
                try:
                    self._end_operation(span, event)
                finally:
                    _put_back(self._inner, self._outer)

    def _end_operation(self, span: Span, event: CallEnded) -> None:
        try:
            if self._recording:
                attributes: dict[str, Any] = {names.ATTEMPT_COUNT: event.attempts, names.OUTCOME: event.outcome}
                if self._gave_up is not None:
                    attributes[names.GAVE_UP] = self._gave_up
                if self._waited:
                    attributes[names.WAITED] = self._waited
                _say_failure(span, attributes, event.failure)
                for number in list(self._attempts):  # one that nobody ended: its task was lost, or its race in a thread
                    attempt = self._attempts.pop(number, None)
                    if attempt is not None:
                        attempt.span.set_attribute(names.OUTCOME, "cancelled")
                        attempt.span.end()
        finally:
            span.end()

    # --------------------------------------------------------------------------------------------------------- attempts

    def attempt_started(self, event: AttemptStarted) -> None:
        self._last = event.attempt
        if not self._recording or not self._sink.attempt_spans or self._tracer is None:
            return
        outer = get_current()
        attributes: dict[str, Any] = {names.ATTEMPT: event.attempt}
        if self._extra is not None:
            attributes = {**self._extra, **attributes}
        span = self._tracer.start_span(names.ATTEMPT_SPAN, self._inner, attributes=attributes)
        inner = set_span_in_context(span, outer)
        attach(inner)
        self._attempts[event.attempt] = _Attempt(span, inner, outer)

    def attempt_ended(self, event: AttemptEnded) -> None:
        sink = self._sink
        failure = event.failure
        try:
            if sink.instruments is not None:
                kind = None if failure is None else failure.kind
                sink.instruments.attempts.add(1, self._with_extra(sink.for_attempt(event.outcome, kind)))
        finally:
            attempt = self._attempts.pop(event.attempt, None)
            if attempt is not None:
                try:
                    _end_attempt(attempt, event)
                finally:
                    _put_back(attempt.inner, attempt.outer)
            elif self._recording and not sink.attempt_spans:
                attributes: dict[str, Any] = {
                    names.ATTEMPT: event.attempt,
                    names.OUTCOME: event.outcome,
                    names.DURATION: event.duration,
                }
                self._add_event(names.ATTEMPT_EVENT, {**attributes, **_facts(failure)})

    # ------------------------------------------------------------------------------------------------ events in between

    def retry_scheduled(self, event: RetryScheduled) -> None:
        try:
            if self._recording:
                attributes: dict[str, Any] = {
                    names.DELAY: event.delay,
                    names.ATTEMPT: event.attempt,
                    names.REASON: event.reason,
                }
                self._add_event(names.RETRY_SCHEDULED, {**attributes, **_kind(event.failure)})
        finally:
            if self._sink.instruments is not None:
                self._sink.instruments.retry_delay.record(event.delay, self._with_extra(self._sink.start))

    def gave_up_retrying(self, event: GaveUp) -> None:
        self._gave_up = event.reason
        if event.reason == "budget":
            self._reject({names.STRATEGY: "retry_budget"}, {})

    def rejected(self, event: CallRejected) -> None:
        bounded: dict[str, Any] = {names.STRATEGY: event.strategy}
        if event.shadow:
            bounded[names.SHADOW] = True
        details: dict[str, Any] = {}
        if event.retry_after is not None:
            details[names.RETRY_AFTER] = event.retry_after
        if event.name is not None and event.strategy in names.NAMED_STRATEGIES:
            details[names.NAMED_STRATEGIES[event.strategy]] = event.name
        self._reject(bounded, details)

    def _reject(self, bounded: dict[str, Any], details: dict[str, Any]) -> None:
        try:
            if self._recording:
                self._add_event(names.REJECTED, {**bounded, **details})
        finally:
            if self._sink.instruments is not None:
                self._sink.instruments.rejections.add(1, self._with_extra({**self._sink.start, **bounded}))

    def waited_for(self, event: Waited) -> None:
        if event.reason is not None:
            return
        self._waited += event.seconds
        attempt = self._attempt()
        if attempt is not None:
            attempt.waited += event.seconds
        if event.strategy == "rate_limit" and self._sink.instruments is not None:
            self._sink.instruments.rate_limit_wait.record(event.seconds, self._with_extra(self._sink.start))

    def _attempt(self) -> _Attempt | None:
        """The attempt that is current here, else the newest: those of a hedged call run at the same time."""
        attempts = dict(self._attempts)
        inner = get_current()
        for attempt in attempts.values():
            if attempt.inner is inner:
                return attempt
        return attempts[max(attempts)] if attempts else None

    def timed_out(self, event: TimeoutExpired) -> None:
        self._add_event(names.TIMEOUT, {names.STRATEGY: event.strategy, names.LIMIT: event.limit})

    def came_late(self, event: LateResult) -> None:
        self._add_event(names.TIMEOUT, {names.STRATEGY: "timeout", names.LIMIT: event.limit, names.LATE: event.late})

    def fell_back(self, event: FallbackUsed) -> None:
        self._add_event(names.FALLBACK, _kind(event.failure))

    def hedged(self, event: HedgeStarted) -> None:
        self._add_event(names.HEDGE, {names.DELAY: event.after, names.ATTEMPT: self._last + 1})

    def circuit_changed(self, event: CircuitChanged) -> None:
        attributes = transition(event)
        try:
            self._add_event(names.STATE_CHANGE, attributes)
        finally:
            if self._sink.instruments is not None:
                self._sink.instruments.transitions.add(1, attributes)

    def _add_event(self, name: str, attributes: Attributes) -> None:
        span = self._span
        if self._recording and span is not None:
            span.add_event(name, attributes)

    def _with_extra(self, attributes: Attributes) -> Attributes:
        return attributes if self._extra is None else {**self._extra, **attributes}


def _end_attempt(attempt: _Attempt, event: AttemptEnded) -> None:
    span = attempt.span
    try:
        attributes: dict[str, Any] = {names.OUTCOME: event.outcome}
        if attempt.waited:
            attributes[names.WAITED] = attempt.waited
        _say_failure(span, attributes, event.failure)
    finally:
        span.end()


def _say_failure(span: Span, attributes: dict[str, Any], failure: Failure | None) -> None:
    """The final attributes of a span, and its status: ERROR, and no description of it, for what went wrong."""
    if failure is None:
        span.set_attributes(attributes)
    else:
        span.set_attributes({**attributes, **_facts(failure)})
        span.set_status(StatusCode.ERROR)


def _kind(failure: Failure | None) -> dict[str, Any]:
    return {} if failure is None else {names.ERROR_TYPE: failure.kind}


def _facts(failure: Failure | None) -> dict[str, Any]:
    facts = _kind(failure)
    if failure is not None and failure.status is not None:
        facts[names.STATUS_CODE] = failure.status
    return facts


def _put_back(inner: Context, outer: Context) -> None:
    """Make `outer` current again where `inner` is.

    What the user's code attached meanwhile and left (baggage, for the rest of a request) stays, as it does without a
    policy; only our span goes. Another span means that this is not the context we came from, or that the user's own
    span is still current: left alone.
    """
    current = get_current()
    if current is inner:
        attach(outer)
    elif get_current_span(current) is get_current_span(inner):
        attach(set_span_in_context(get_current_span(outer), current))


_HANDLERS: dict[type[Event], Callable[[CallRecorder, Any], None]] = {
    CallStarted: CallRecorder.call_started,
    CallEnded: CallRecorder.call_ended,
    AttemptStarted: CallRecorder.attempt_started,
    AttemptEnded: CallRecorder.attempt_ended,
    RetryScheduled: CallRecorder.retry_scheduled,
    GaveUp: CallRecorder.gave_up_retrying,
    CallRejected: CallRecorder.rejected,
    Waited: CallRecorder.waited_for,
    TimeoutExpired: CallRecorder.timed_out,
    LateResult: CallRecorder.came_late,
    FallbackUsed: CallRecorder.fell_back,
    HedgeStarted: CallRecorder.hedged,
    CircuitOpened: CallRecorder.circuit_changed,
    CircuitHalfOpened: CallRecorder.circuit_changed,
    CircuitClosed: CallRecorder.circuit_changed,
}
