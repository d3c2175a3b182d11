"""What an event tells, as attributes: one table for span events, log records and metrics.

Absent is what is None, and a `shadow` or `unknown_outcome` that is False. A `failure` is told by its kind and its
status, a refusal's `name` under the attribute of its strategy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from resilient_agents import events
from resilient_agents.telemetry import names

if TYPE_CHECKING:
    from resilient_agents.classify import Failure
    from resilient_agents.events.recorder import Operation

__all__ = ["SPAN_EVENTS", "add_sums", "described", "facts", "of_failure", "of_state"]

Facts = dict[str, Any]

_CHANGE: Final[Mapping[str, str]] = {
    "circuit_breaker": names.CIRCUIT_BREAKER,
    "from_state": names.FROM,
    "to_state": names.TO,
    "shadow": names.SHADOW,
}
_STREAM: Final[Mapping[str, str]] = {
    "first_item": names.FIRST_ITEM,
    "items": names.ITEMS,
    "longest_gap": names.LONGEST_GAP,
    "parts": names.PARTS,
}
_TOLD: Final[Mapping[type[events.Event], Mapping[str, str]]] = {
    events.CallStarted: {"deadline": names.DEADLINE, "configuration": names.CONFIGURATION},
    events.CallEnded: {
        "outcome": names.OUTCOME,
        "attempts": names.ATTEMPT_COUNT,
        "duration": names.DURATION,
        "waited": names.WAITED,
        "retry_waited": names.RETRY_WAITED,
        "unknown_outcome": names.UNKNOWN_OUTCOME,
        "finish": names.FINISH,
        "fallback": names.FALLBACK_BY,
        **_STREAM,
    },
    events.AttemptStarted: {"attempt": names.ATTEMPT},
    events.AttemptEnded: {
        "attempt": names.ATTEMPT,
        "outcome": names.OUTCOME,
        "duration": names.DURATION,
        "inner_retries": names.INNER_RETRIES,
    },
    events.RetryScheduled: {"delay": names.DELAY, "attempt": names.ATTEMPT, "reason": names.REASON},
    events.GaveUp: {"attempts": names.ATTEMPT_COUNT, "reason": names.GAVE_UP},
    events.CallRejected: {"strategy": names.STRATEGY, "retry_after": names.RETRY_AFTER, "shadow": names.SHADOW},
    events.Waited: {"strategy": names.STRATEGY, "seconds": names.WAITED, "reason": names.REASON},
    events.TimeoutExpired: {"strategy": names.STRATEGY, "limit": names.LIMIT},
    events.LateResult: {"limit": names.LIMIT, "late": names.LATE},
    events.FallbackUsed: {"by": names.FALLBACK_BY},
    events.ChaosInjected: {"what": names.CHAOS},
    events.HedgeStarted: {"after": names.DELAY, "hedge": names.HEDGE_NUMBER},
    events.CircuitOpened: _CHANGE,
    events.CircuitHalfOpened: _CHANGE,
    events.CircuitClosed: _CHANGE,
    events.HealthChecked: {
        "health_check": names.HEALTH_CHECK,
        "status": names.STATUS,
        "critical": names.CRITICAL,
        "duration": names.DURATION,
    },
}
"""By event: which field is which attribute."""

SPAN_EVENTS: Final[Mapping[type[events.Event], str]] = {
    events.RetryScheduled: names.RETRY_SCHEDULED,
    events.CallRejected: names.REJECTED,
    events.TimeoutExpired: names.TIMEOUT,
    events.LateResult: names.TIMEOUT,
    events.FallbackUsed: names.FALLBACK,
    events.HedgeStarted: names.HEDGE,
    events.CircuitOpened: names.STATE_CHANGE,
    events.CircuitHalfOpened: names.STATE_CHANGE,
    events.CircuitClosed: names.STATE_CHANGE,
}
"""By event: what it is called on the span of its operation."""


def facts(event: events.Event) -> Facts:
    """The attributes of an event, without its policy."""
    told = {}
    for field, name in _TOLD[type(event)].items():
        value = getattr(event, field)
        if value is not None and (value is not False or name not in (names.SHADOW, names.UNKNOWN_OUTCOME)):
            told[name] = value
    failure = getattr(event, "failure", None)
    if failure is not None:
        told.update(of_failure(failure))
    elif isinstance(event, events.CallRejected):
        if event.name is not None and event.strategy in names.NAMED_STRATEGIES:
            told[names.NAMED_STRATEGIES[event.strategy]] = event.name
    elif isinstance(event, events.CircuitChanged):
        told[names.CIRCUIT_BREAKER] = event.circuit_breaker or names.UNNAMED
    return told


def of_state(state: events.CircuitState | None, in_use: int, queued: int) -> Facts:
    """In which state an operation found its policy: what is nothing is absent."""
    found: Facts = {names.STATE: state, names.IN_USE: in_use, names.QUEUED: queued}
    return {name: value for name, value in found.items() if value}


def add_sums(told: Facts, operation: Operation) -> None:
    """What the span of an operation says of its sums: those that are nothing are absent."""
    told[names.ATTEMPT_COUNT] = operation.attempts
    if operation.waited:
        told[names.WAITED] = operation.waited
    if operation.retry_waited:
        told[names.RETRY_WAITED] = operation.retry_waited
    if operation.failed:
        told[names.FAILED] = list(operation.failed)
    if operation.fell_back is not None:
        told[names.FALLBACK_BY] = operation.fell_back
    if operation.unknown_outcome:
        told[names.UNKNOWN_OUTCOME] = True
    pace = operation.pace
    if pace is not None:
        stream = {name: getattr(pace, field) for field, name in _STREAM.items()}
        told.update({name: value for name, value in stream.items() if value is not None})
        if operation.finish is not None:
            told[names.FINISH] = operation.finish
    if operation.budget is not None:
        spent = operation.budget.facts()
        told.update({names.RUN_BUDGET[what]: amount for what, amount in spent.items()})


def of_failure(failure: Failure) -> Facts:
    if failure.status is None:
        return {names.ERROR_TYPE: failure.kind}
    return {names.ERROR_TYPE: failure.kind, names.STATUS_CODE: failure.status}


def described(failure: Failure, ended_by: str | None, failed: Iterable[str] = ()) -> str:
    """A failure in words of a closed set: `rate_limit 429`, `rejected by bulkhead`, `timeout after overload, server`.

    `failed`: the kinds that attempts before it ran into, which a refusal or an expired limit would hide.
    """
    said: str = failure.kind
    if failure.status is not None:
        said = f"{said} {failure.status}"
    elif said == "rejected" and ended_by is not None:
        said = f"rejected by {ended_by}"
    if failure.kind in ("rejected", "timeout"):
        before = [kind for kind in failed if kind != failure.kind]
        if before:
            said = f"{said} after {', '.join(before)}"
    return said
