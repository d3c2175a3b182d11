"""The one table of telemetry names: spans, their events, attributes and metrics. The docs are checked against it.

Names are a contract: dashboards and alerts are built on them. What is ours begins with `resilient_agents.`;
`error.type` and
`http.response.status_code` are OpenTelemetry's own. Every attribute value is bounded: a name that a developer gave, one
word of a closed set, or a number. No message, argument, result or URL is ever a value.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = [
    "ATTEMPTS",
    "ATTRIBUTES",
    "BULKHEAD_IN_USE",
    "BULKHEAD_LIMIT",
    "BULKHEAD_QUEUED",
    "CIRCUIT_BREAKER_STATE",
    "CIRCUIT_BREAKER_TRANSITIONS",
    "DELAYS",
    "EVENTS",
    "HEALTH_CHECK_DURATION",
    "HEALTH_CHECK_STATUS",
    "METRICS",
    "POLICY_DURATION",
    "RATE_LIMIT_WAIT",
    "REJECTIONS",
    "RETRY_DELAY",
    "SCOPE",
    "SECONDS",
    "SPANS",
    "Attribute",
    "Metric",
    "Span",
    "SpanEvent",
]

SCOPE: Final = "resilient_agents"

# Seconds. From a cache hit to a reasoning model's answer; the defaults of the SDKs are made for milliseconds.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Seconds. Finer where waits before a retry lie, because a quantile is read by drawing a line through its bucket.
DELAYS: Final = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Attribute(NamedTuple):
    """One attribute. `values`: the closed set its values come from; empty for numbers and given names."""

    name: str
    type: Literal["string", "int", "double", "boolean"]
    description: str
    values: tuple[str, ...] = ()


class Span(NamedTuple):
    """One kind of span. `attributes`: what it may carry."""

    name: str
    description: str
    attributes: tuple[str, ...]


class SpanEvent(NamedTuple):
    """One event on an operation span."""

    name: str
    description: str
    attributes: tuple[str, ...]


class Metric(NamedTuple):
    """One instrument. `boundaries`: upper bounds of a histogram's buckets, in its unit."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...] = ()


# ----------------------------------------------------------------------------------------------------------- attributes

POLICY: Final = "resilient_agents.policy"
ATTEMPT: Final = "resilient_agents.attempt"
ATTEMPT_COUNT: Final = "resilient_agents.attempts"
OUTCOME: Final = "resilient_agents.outcome"
RETRIED: Final = "resilient_agents.retried"
GAVE_UP: Final = "resilient_agents.gave_up"
DELAY: Final = "resilient_agents.delay"
REASON: Final = "resilient_agents.reason"
STRATEGY: Final = "resilient_agents.strategy"
RETRY_AFTER: Final = "resilient_agents.retry_after"
LIMIT: Final = "resilient_agents.limit"
LATE: Final = "resilient_agents.late"
WAITED: Final = "resilient_agents.waited"
DURATION: Final = "resilient_agents.duration"
CIRCUIT_BREAKER: Final = "resilient_agents.circuit_breaker"
FROM: Final = "resilient_agents.from"
TO: Final = "resilient_agents.to"
STATE: Final = "resilient_agents.state"
BULKHEAD: Final = "resilient_agents.bulkhead"
RATE_LIMIT: Final = "resilient_agents.rate_limit"
SHADOW: Final = "resilient_agents.shadow"
HEALTH_CHECK: Final = "resilient_agents.health_check"
STATUS: Final = "resilient_agents.status"
CRITICAL: Final = "resilient_agents.critical"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"

NAMED_STRATEGIES: Final = {
    "circuit_breaker": CIRCUIT_BREAKER,
    "bulkhead": BULKHEAD,
    "rate_limit": RATE_LIMIT,
}  # whose name it carries

STATES: Final = ("closed", "open", "half-open")
STATUSES: Final = ("healthy", "degraded", "unhealthy", "unknown")
KINDS: Final = (
    "timeout",
    "connection",
    "rate_limit",
    "overload",
    "server",
    "conflict",
    "quota",
    "auth",
    "not_found",
    "validation",
    "context_length",
    "content_filter",
    "unknown",
    "rejected",
    "control",
)
STRATEGIES: Final = (
    "circuit_breaker",
    "rate_limit",
    "bulkhead",
    "timeout",
    "deadline",
    "retry_budget",
    "require_healthy",
)

ATTRIBUTES: Final = (
    Attribute(POLICY, "string", "Name of the policy, by default the guarded function's `module.qualname`."),
    Attribute(ATTEMPT, "int", "Which attempt this is, from 1."),
    Attribute(ATTEMPT_COUNT, "int", "How many attempts the operation made; 0 if it was refused before the first."),
    Attribute(
        OUTCOME,
        "string",
        "How it ended. Only operations end in `fallback`.",
        ("success", "failure", "rejected", "fallback", "cancelled"),
    ),
    Attribute(RETRIED, "boolean", "Did the operation make more than one attempt?"),
    Attribute(
        GAVE_UP,
        "string",
        "Why a retryable failure was not retried any more.",
        ("stop", "retry_after", "deadline", "budget"),
    ),
    Attribute(DELAY, "double", "Seconds until the next attempt."),
    Attribute(REASON, "string", "Where that delay comes from.", ("backoff", "retry_after")),
    Attribute(STRATEGY, "string", "The strategy that did it.", STRATEGIES),
    Attribute(RETRY_AFTER, "double", "Seconds after which trying again makes sense."),
    Attribute(LIMIT, "double", "The time limit, in seconds."),
    Attribute(
        LATE, "double", "Seconds by which a blocking call outran its limit; its value was returned all the same."
    ),
    Attribute(WAITED, "double", "Seconds spent waiting for slots and tokens."),
    Attribute(DURATION, "double", "Seconds that the attempt took, where it has no span of its own."),
    Attribute(CIRCUIT_BREAKER, "string", "Name of the circuit breaker; `unnamed` for all that have none."),
    Attribute(FROM, "string", "State before.", STATES),
    Attribute(TO, "string", "State after.", STATES),
    Attribute(STATE, "string", "The state that the value is about.", STATES),
    Attribute(BULKHEAD, "string", "Name of the bulkhead; `unnamed` for all that have none."),
    Attribute(RATE_LIMIT, "string", "Name of the rate limit, if it has one."),
    Attribute(
        SHADOW,
        "boolean",
        "Present and true where the strategy is in shadow: nothing was really refused.",
    ),
    Attribute(HEALTH_CHECK, "string", "Name of the health check."),
    Attribute(STATUS, "string", "What the health check found, or the status that the value is about.", STATUSES),
    Attribute(CRITICAL, "boolean", "Does the failure of this health check make the service unhealthy?"),
    Attribute(ERROR_TYPE, "string", "Kind of the failure.", KINDS),
    Attribute(STATUS_CODE, "int", "HTTP status of the failure, where it has one."),
)

# ---------------------------------------------------------------------------------------------------------------- spans

OPERATION_PREFIX: Final = "policy "
ATTEMPT_SPAN: Final = "attempt"

SPANS: Final = (
    Span(
        OPERATION_PREFIX + "<name>",
        "One operation, until the caller has its answer. Status ERROR only when the caller sees an error.",
        (POLICY, ATTEMPT_COUNT, OUTCOME, GAVE_UP, WAITED, ERROR_TYPE, STATUS_CODE),
    ),
    Span(
        ATTEMPT_SPAN,
        "One attempt; spans that the guarded function makes nest under it. Status ERROR when it failed or was refused.",
        (ATTEMPT, OUTCOME, WAITED, ERROR_TYPE, STATUS_CODE),
    ),
)

# --------------------------------------------------------------------------------------------------------------- events

RETRY_SCHEDULED: Final = "retry.scheduled"
STATE_CHANGE: Final = "circuit_breaker.state_change"
REJECTED: Final = "rejected"
TIMEOUT: Final = "timeout"
FALLBACK: Final = "fallback"
HEDGE: Final = "hedge"
ATTEMPT_EVENT: Final = "attempt"

EVENTS: Final = (
    SpanEvent(RETRY_SCHEDULED, "An attempt failed and another follows.", (DELAY, ATTEMPT, REASON, ERROR_TYPE)),
    SpanEvent(STATE_CHANGE, "A circuit changed its state during this operation.", (CIRCUIT_BREAKER, FROM, TO, SHADOW)),
    SpanEvent(
        REJECTED,
        "A strategy refused the attempt, or a spent retry budget (`retry_budget`) the next one.",
        (STRATEGY, RETRY_AFTER, CIRCUIT_BREAKER, BULKHEAD, RATE_LIMIT, SHADOW),
    ),
    SpanEvent(
        TIMEOUT,
        "A time limit ended the operation or the attempt, or was outrun (`resilient_agents.late`).",
        (STRATEGY, LIMIT, LATE),
    ),
    SpanEvent(FALLBACK, "A fallback stands in for an error or a result.", (ERROR_TYPE,)),
    SpanEvent(HEDGE, "A further attempt was started because the one before is slow or has failed.", (DELAY, ATTEMPT)),
    SpanEvent(
        ATTEMPT_EVENT,
        "An attempt ended. Only with `configure(attempt_spans=False)`, in place of its span.",
        (ATTEMPT, OUTCOME, DURATION, ERROR_TYPE, STATUS_CODE),
    ),
)

# -------------------------------------------------------------------------------------------------------------- metrics

POLICY_DURATION: Final = Metric(
    "resilient_agents.policy.duration",
    "histogram",
    "s",
    "How long operations took, retries and waits included.",
    (POLICY, OUTCOME, RETRIED),
    SECONDS,
)
ATTEMPTS: Final = Metric(
    "resilient_agents.attempts", "counter", "{attempt}", "Attempts by how they ended.", (POLICY, OUTCOME, ERROR_TYPE)
)
REJECTIONS: Final = Metric(
    "resilient_agents.rejections",
    "counter",
    "{rejection}",
    "Refusals by a strategy; `retry_budget` refuses a further attempt.",
    (POLICY, STRATEGY, SHADOW),
)
RETRY_DELAY: Final = Metric(
    "resilient_agents.retry.delay",
    "histogram",
    "s",
    "How long retries waited before the next attempt.",
    (POLICY,),
    DELAYS,
)
CIRCUIT_BREAKER_TRANSITIONS: Final = Metric(
    "resilient_agents.circuit_breaker.transitions",
    "counter",
    "{transition}",
    "State changes of circuits.",
    (CIRCUIT_BREAKER, FROM, TO, SHADOW),
)
CIRCUIT_BREAKER_STATE: Final = Metric(
    "resilient_agents.circuit_breaker.state",
    "gauge",
    "",
    "1 for the state that a circuit is in, 0 for the others.",
    (CIRCUIT_BREAKER, STATE, SHADOW),
)
BULKHEAD_IN_USE: Final = Metric(
    "resilient_agents.bulkhead.in_use", "gauge", "{call}", "Calls that hold a slot.", (BULKHEAD,)
)
BULKHEAD_QUEUED: Final = Metric(
    "resilient_agents.bulkhead.queued", "gauge", "{call}", "Calls that wait for a slot.", (BULKHEAD,)
)
BULKHEAD_LIMIT: Final = Metric("resilient_agents.bulkhead.limit", "gauge", "{call}", "Slots.", (BULKHEAD,))
RATE_LIMIT_WAIT: Final = Metric(
    "resilient_agents.rate_limit.wait",
    "histogram",
    "s",
    "How long calls waited for a token of a rate limit.",
    (POLICY,),
    SECONDS,
)

HEALTH_CHECK_DURATION: Final = Metric(
    "resilient_agents.health_check.duration",
    "histogram",
    "s",
    "How long health checks took, by what they found.",
    (HEALTH_CHECK, STATUS, CRITICAL),
    SECONDS,
)
HEALTH_CHECK_STATUS: Final = Metric(
    "resilient_agents.health_check.status",
    "gauge",
    "",
    "1 for the status that a health check has, 0 for the others.",
    (HEALTH_CHECK, STATUS),
)

METRICS: Final = (
    POLICY_DURATION,
    ATTEMPTS,
    REJECTIONS,
    RETRY_DELAY,
    CIRCUIT_BREAKER_TRANSITIONS,
    CIRCUIT_BREAKER_STATE,
    BULKHEAD_IN_USE,
    BULKHEAD_QUEUED,
    BULKHEAD_LIMIT,
    RATE_LIMIT_WAIT,
    HEALTH_CHECK_DURATION,
    HEALTH_CHECK_STATUS,
)
