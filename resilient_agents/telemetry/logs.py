"""The same story for those who have no OpenTelemetry: every event as a record of the standard `logging`.

Severities: an attempt and a hedge are info; what was handled or is only one attempt's end (a retry, a fallback, a
limit, a refusal) a warning; an error that the caller sees an error; a circuit that opens an error, one that lets probes
through a warning, one that closes info; a health check, when its status changes, error if it is critical and fails,
warning if it is worse than healthy, else info; the rest debug. The facts stand in `extra`, under the names that spans
and metrics use (`%(resilient_agents.policy)s` in a format string). No message of an error, argument or result is ever
in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from resilient_agents import events
from resilient_agents.base import instances
from resilient_agents.classify import Failure
from resilient_agents.telemetry import names
from resilient_agents.telemetry.facts import facts

__all__ = ["LogObserver"]

Line = tuple[int, str]


class LogObserver:
    """An observer that logs: `policy.observe(LogObserver())`.

    `logger`: where to, by default the logger `resilient_agents.events`. State changes outside any call (a manual
    `breaker.open()`) are logged too, once for each logger, for as long as an observer with that logger is in use.
    `summary`: True logs one line for each finished call, with what it went through (info; warning if it took more than
    one attempt or a fallback; error if one came out), and of the rest only what belongs to no call alone: state changes
    and health checks.
    Raises TypeError for what is no logger or no bool.
    """

    def __init__(self, logger: logging.Logger | None = None, *, summary: bool = False) -> None:
        if logger is not None and not isinstance(logger, logging.Logger):
            raise TypeError(f"logger must be a logging.Logger or None, got {type(logger).__name__}")
        if not isinstance(summary, bool):
            raise TypeError(f"summary must be True or False, got {summary!r}")
        self.logger = logger or logging.getLogger("resilient_agents.events")
        self.summary = summary
        instances.add("log_observer", self)

    def __call__(self, event: events.Event) -> None:
        line = (_SUMMARY if self.summary else _LINES).get(type(event))
        if line is None:
            return
        level, text = line(event)
        if self.logger.isEnabledFor(level):
            told = facts(event)
            if event.policy:
                told[names.POLICY] = event.policy
                self.logger.log(level, "%s: %s", event.policy, text, extra=told)
            else:
                self.logger.log(level, "%s", text, extra=told)


def _outside_a_call(event: events.Event) -> None:
    for observer in {id(observer.logger): observer for observer in instances.each("log_observer")}.values():
        observer(event)


events.subscribe(_outside_a_call)


def _finished(event: events.CallEnded) -> Line:
    """All of a call in one line."""
    went = []
    if event.retry_waited:
        went.append(f"waited {event.retry_waited:.3g} s between attempts")
    if event.waited:
        went.append(f"waited {event.waited:.3g} s in line")
    failed = (f"{kind} x {count}" if count > 1 else kind for kind, count in event.failed.items())
    if told := ", ".join(failed):
        went.append(f"attempts failed: {told}")
    level = ERROR if event.failure is not None else INFO
    if level == INFO and (event.attempts > 1 or event.outcome == "fallback"):
        level = WARNING
    text = f"{_how(event)} after {_count(event.attempts)} in {event.duration:.3g} s{_why(event.failure)}"
    return level, "; ".join([text, *went])


def _call_started(event: events.CallStarted) -> Line:
    return DEBUG, "call started"


def _call_ended(event: events.CallEnded) -> Line:
    level = ERROR if event.failure is not None else INFO if event.outcome == "fallback" else DEBUG
    return level, f"{_how(event)} after {_count(event.attempts)} in {event.duration:.3g} s{_why(event.failure)}"


def _how(event: events.CallEnded) -> str:
    return event.outcome if event.fallback is None else f"{event.outcome} {event.fallback}"


def _attempt_started(event: events.AttemptStarted) -> Line:
    return DEBUG, f"attempt {event.attempt} started"


def _attempt_ended(event: events.AttemptEnded) -> Line:
    inner = f", {event.inner_retries} retries inside" if event.inner_retries else ""
    return INFO, f"attempt {event.attempt}: {event.outcome} in {event.duration:.3g} s{inner}{_why(event.failure)}"


def _retry_scheduled(event: events.RetryScheduled) -> Line:
    text = f"attempt {event.attempt} is retried in {event.delay:.3g} s ({event.reason}){_why(event.failure)}"
    return WARNING, text


def _gave_up(event: events.GaveUp) -> Line:
    text = f"gave up after {_count(event.attempts)} in {event.elapsed:.3g} s ({event.reason}){_why(event.failure)}"
    return WARNING, text


def _rejected(event: events.CallRejected) -> Line:
    text = f"{'would be ' if event.shadow else ''}rejected by {event.strategy}"
    if event.name is not None:
        text += f" {event.name!r}"
    if event.retry_after is not None:
        text += f", try again in {event.retry_after:.3g} s"
    return WARNING, text


def _waited(event: events.Waited) -> Line:
    return DEBUG, f"waited {event.seconds:.3g} s for {event.reason or event.strategy}"


def _timed_out(event: events.TimeoutExpired) -> Line:
    return WARNING, f"{event.strategy} of {event.limit:g} s expired"


def _late(event: events.LateResult) -> Line:
    return WARNING, f"came back {event.late:.3g} s after its limit of {event.limit:g} s; the value was returned"


def _fell_back(event: events.FallbackUsed) -> Line:
    by = "" if event.by is None else f" {event.by}"
    return WARNING, f"fallback{by} used{_why(event.failure)}"


def _hedged(event: events.HedgeStarted) -> Line:
    return INFO, f"hedge {event.hedge} started after {event.after:.3g} s"


def _disturbed(event: events.ChaosInjected) -> Line:
    return WARNING, f"chaos: {event.what}"


def _circuit_changed(event: events.CircuitChanged) -> Line:
    level = {"open": ERROR, "half-open": WARNING, "closed": INFO}[event.to_state]
    if event.shadow and level == ERROR:
        level = WARNING  # nothing is refused: it only would be
    shadow = " (shadow)" if event.shadow else ""
    return level, f"circuit {event.circuit_breaker!r} {event.from_state} -> {event.to_state}{shadow}"


def _health_checked(event: events.HealthChecked) -> Line:
    if event.status == event.previous:
        level = DEBUG  # every interval, as long as it lasts
    elif event.status == "unhealthy" and event.critical:
        level = ERROR
    else:
        level = INFO if event.status == "healthy" else WARNING
    return level, f"health check {event.health_check!r} {event.previous} -> {event.status} in {event.duration:.3g} s"


def _count(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'}"


def _why(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return f": {failure.kind}" if failure.status is None else f": {failure.kind} ({failure.status})"


_LINES: dict[type[events.Event], Callable[[Any], Line]] = {
    events.CallStarted: _call_started,
    events.CallEnded: _call_ended,
    events.AttemptStarted: _attempt_started,
    events.AttemptEnded: _attempt_ended,
    events.RetryScheduled: _retry_scheduled,
    events.GaveUp: _gave_up,
    events.CallRejected: _rejected,
    events.Waited: _waited,
    events.TimeoutExpired: _timed_out,
    events.LateResult: _late,
    events.FallbackUsed: _fell_back,
    events.HedgeStarted: _hedged,
    events.ChaosInjected: _disturbed,
    events.CircuitOpened: _circuit_changed,
    events.CircuitHalfOpened: _circuit_changed,
    events.CircuitClosed: _circuit_changed,
    events.HealthChecked: _health_checked,
}

_SUMMARY: dict[type[events.Event], Callable[[Any], Line]] = {
    events.CallEnded: _finished,
    events.CircuitOpened: _circuit_changed,
    events.CircuitHalfOpened: _circuit_changed,
    events.CircuitClosed: _circuit_changed,
    events.HealthChecked: _health_checked,
}
