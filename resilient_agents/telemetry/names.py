"""The names that are sent: of spans, their events and attributes. What each means stands in `contract`.

Names are a contract: dashboards and alerts are built on them. What is ours begins with `resilient_agents.`;
`error.type` and `http.response.status_code` are OpenTelemetry's own, `openinference.span.kind` is OpenInference's.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ATTEMPT_SPANS", "NAMED_STRATEGIES", "OPERATION_PREFIX", "SCOPE", "WAIT_PREFIX"]

SCOPE: Final = "resilient_agents"

OPERATION_PREFIX: Final = "policy "
ATTEMPT_PREFIX: Final = "attempt "
WAIT_PREFIX: Final = "wait "

ATTEMPT_SPANS: Final = (*(f"{ATTEMPT_PREFIX}{number}" for number in range(20)), f"{ATTEMPT_PREFIX}20+")
"""The name of an attempt span by its number: a bounded set, as backends group spans by their names."""

POLICY: Final = "resilient_agents.policy"
ATTEMPT: Final = "resilient_agents.attempt"
ATTEMPT_COUNT: Final = "resilient_agents.attempts"
OUTCOME: Final = "resilient_agents.outcome"
RETRIED: Final = "resilient_agents.retried"
GAVE_UP: Final = "resilient_agents.gave_up"
FAILED: Final = "resilient_agents.failed"
INNER_RETRIES: Final = "resilient_agents.inner_retries"
DELAY: Final = "resilient_agents.delay"
REASON: Final = "resilient_agents.reason"
STRATEGY: Final = "resilient_agents.strategy"
RETRY_AFTER: Final = "resilient_agents.retry_after"
LIMIT: Final = "resilient_agents.limit"
DEADLINE: Final = "resilient_agents.deadline"
SEQUENCE: Final = "resilient_agents.sequence"
CLOCK: Final = "resilient_agents.clock"
CONFIGURATION: Final = "resilient_agents.configuration"
IN_USE: Final = "resilient_agents.in_use"
QUEUED: Final = "resilient_agents.queued"
COST: Final = "resilient_agents.cost"
SETTLED: Final = "resilient_agents.settled"
CALLED: Final = "resilient_agents.called"
DECIDED: Final = "resilient_agents.decided"
TRANSIENT: Final = "resilient_agents.transient"
VERDICT: Final = "resilient_agents.verdict"
FUNCTION_BEGAN: Final = "resilient_agents.function_began"
LATE: Final = "resilient_agents.late"
WAITED: Final = "resilient_agents.waited"
RETRY_WAITED: Final = "resilient_agents.retry_waited"
WAITED_FOR: Final = {
    "bulkhead": "resilient_agents.bulkhead_waited",
    "rate_limit": "resilient_agents.rate_limit_waited",
    "gate": "resilient_agents.gate_waited",
}
"""By strategy: those of `WAITED` that it made."""
FIRST_ITEM: Final = "resilient_agents.first_item"
ITEMS: Final = "resilient_agents.items"
LONGEST_GAP: Final = "resilient_agents.longest_gap"
PARTS: Final = "resilient_agents.parts"
FINISH: Final = "resilient_agents.finish_reason"
UNKNOWN_OUTCOME: Final = "resilient_agents.unknown_outcome"
LEFT_OUT: Final = "resilient_agents.spans_left_out"
RUN_BUDGET: Final = {
    "attempts.spent": "resilient_agents.run_attempts_spent",
    "attempts.left": "resilient_agents.run_attempts_left",
    "tokens.spent": "resilient_agents.run_tokens_spent",
    "tokens.left": "resilient_agents.run_tokens_left",
    "cost.spent": "resilient_agents.run_cost_spent",
    "cost.left": "resilient_agents.run_cost_left",
}
"""By what an event calls it."""
DURATION: Final = "resilient_agents.duration"
HEDGE_NUMBER: Final = "resilient_agents.hedge"
FALLBACK_BY: Final = "resilient_agents.fallback"
CHAOS: Final = "resilient_agents.chaos"
CIRCUIT_BREAKER: Final = "resilient_agents.circuit_breaker"
FROM: Final = "resilient_agents.from"
TO: Final = "resilient_agents.to"
STATE: Final = "resilient_agents.state"
BULKHEAD: Final = "resilient_agents.bulkhead"
RATE_LIMIT: Final = "resilient_agents.rate_limit"
GATE: Final = "resilient_agents.gate"
SHADOW: Final = "resilient_agents.shadow"
HEALTH_CHECK: Final = "resilient_agents.health_check"
STATUS: Final = "resilient_agents.status"
CRITICAL: Final = "resilient_agents.critical"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"
OPENINFERENCE_KIND: Final = "openinference.span.kind"

RETRY_SCHEDULED: Final = "retry.scheduled"
STATE_CHANGE: Final = "circuit_breaker.state_change"
REJECTED: Final = "rejected"
TIMEOUT: Final = "timeout"
FALLBACK: Final = "fallback"
HEDGE: Final = "hedge"
ATTEMPT_EVENT: Final = "attempt"

NAMED_STRATEGIES: Final = {
    "circuit_breaker": CIRCUIT_BREAKER,
    "bulkhead": BULKHEAD,
    "rate_limit": RATE_LIMIT,
    "gate": GATE,
}  # whose name it carries

UNNAMED: Final = "unnamed"
STATES: Final = ("closed", "open", "half-open")
STATUSES: Final = ("healthy", "degraded", "unhealthy", "unknown")
