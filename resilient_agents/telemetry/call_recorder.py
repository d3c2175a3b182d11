"""The recorder of one call: its spans, and what few calls go through, which are events on the operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import get_current

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.telemetry import names
from resilient_agents.telemetry.current import AttemptSpan
from resilient_agents.telemetry.ending import whole
from resilient_agents.telemetry.facts import SPAN_EVENTS, facts
from resilient_agents.telemetry.measures import MEASURES, waited_for
from resilient_agents.telemetry.spans import MEASURING, MOST_SPANS, RECORDING, SpanRecorder

__all__ = ["CallRecorder"]

SHORTEST_WAIT: Final = 0.001  # seconds from which on a wait has a span


class CallRecorder(SpanRecorder):
    """All that is recorded of one call."""

    def record(self, event: events.Event) -> None:
        """What few calls go through."""
        found = _HANDLERS.get(type(event))
        if found is None:
            return
        measure, handler = found
        sink = self._sink
        if measure is not None and sink.instruments is not None:
            try:
                measure(sink, sink.instruments, self._extra, event)
            except Exception:
                sink.faults.log(*MEASURING)
        try:
            handler(self, event)
        except Exception:
            sink.faults.log(*RECORDING)

    def happened(self, event: events.Event) -> None:
        """What is an event on the operation, and nothing else."""
        self._add_event(SPAN_EVENTS[type(event)], facts(event))

    def fell_back(self, event: events.FallbackUsed) -> None:
        self._stands_in = event.by
        told = {} if event.failure is None else whole(event.failure)
        self._add_event(names.FALLBACK, {**facts(event), **told})

    def retried(self, event: events.RetryScheduled) -> None:
        self._told.pop(names.GAVE_UP, None)  # a retry inside of this one did
        self.happened(event)

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

    def costs(self, amount: float, *, settled: bool) -> None:
        try:
            attempt = self._attempt()
            told = self._told if attempt is None else attempt.told
            told[names.SETTLED if settled else names.COST] = amount
        except Exception:
            self._sink.faults.log(*RECORDING)

    def decided(self, layer: object, what: str, *, of_attempt: bool, hint: float | None) -> None:
        if not self._recording:
            return
        try:
            name, within = self._setup.place(layer)
            attempt = self._attempt() if within or of_attempt else None
            told = self._told if attempt is None else attempt.told
            if hint is not None:
                told[names.RETRY_AFTER] = hint
            said = told.setdefault(names.DECIDED, [])
            if len(said) < MOST_SPANS:
                said.append(f"{name} {what}")
        except Exception:
            self._sink.faults.log(*RECORDING)

    def came_late(self, event: events.LateResult) -> None:
        self._add_event(names.TIMEOUT, {names.STRATEGY: "timeout", **facts(event)})

    def waited_for(self, strategy: str, seconds: float, reason: events.WaitReason | None) -> None:
        sink = self._sink
        try:
            if sink.instruments is not None:
                waited_for(sink, sink.instruments, self._extra, strategy, seconds)
        except Exception:
            sink.faults.log(*MEASURING)
        if self._recording:
            try:
                attempt = None
                name = names.WAITED_FOR.get(strategy)
                if name is not None:
                    attempt = self._attempt()
                    self._note_wait(name, strategy, seconds, attempt)
                elif reason is None:  # help: of a hedged call, other requests have attempts meanwhile
                    attempt = self._current(self._attempts)
                self._add_wait(reason or strategy, seconds, attempt)
            except Exception:
                sink.faults.log(*RECORDING)

    def _note_wait(self, name: str, strategy: str, seconds: float, attempt: AttemptSpan | None) -> None:
        if attempt is None:
            told = self._told
            self._waited_for = strategy
        else:
            told = attempt.told
            attempt.waited_for = strategy
            told[names.WAITED] = told.get(names.WAITED, 0.0) + seconds
        told[name] = told.get(name, 0.0) + seconds

    def _add_wait(self, name: str, seconds: float, attempt: AttemptSpan | None) -> None:
        if seconds < SHORTEST_WAIT:
            return
        self._spans_left -= 1
        if self._spans_left < 0:
            return
        within, earliest = (self._inner, self._start) if attempt is None else (attempt.inner, attempt.start)
        now = self._at(clock.monotonic(), earliest)
        start = max(now - int(seconds * 1e9), earliest)
        self._sink.tracer.start_span(names.WAIT_PREFIX + name, within, attributes=self._common, start_time=start).end(
            now
        )

    def _attempt(self) -> AttemptSpan | None:
        """The attempt that is current here, else the newest: those of a hedged call run at the same time."""
        attempts = dict(self._attempts)
        return self._current(attempts) or (attempts[max(attempts)] if attempts else None)

    @staticmethod
    def _current(attempts: dict[int, AttemptSpan]) -> AttemptSpan | None:
        inner = get_current()
        return next((attempt for attempt in list(attempts.values()) if attempt.inner is inner), None)


_SPANS: Final[dict[type[events.Event], Callable[[CallRecorder, Any], None]]] = {
    events.RetryScheduled: CallRecorder.retried,
    events.GaveUp: CallRecorder.gave_up_retrying,
    events.CallRejected: CallRecorder.rejected,
    events.TimeoutExpired: CallRecorder.timed_out,
    events.LateResult: CallRecorder.came_late,
    events.FallbackUsed: CallRecorder.fell_back,
    events.HedgeStarted: CallRecorder.happened,
    events.ChaosInjected: CallRecorder.disturbed,
    events.CircuitOpened: CallRecorder.happened,
    events.CircuitHalfOpened: CallRecorder.happened,
    events.CircuitClosed: CallRecorder.happened,
}
_HANDLERS: Final = {kind: (MEASURES.get(kind), handler) for kind, handler in _SPANS.items()}
