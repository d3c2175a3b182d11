"""The metrics that are sent, in a table: name, kind, unit, meaning, attributes, and the buckets of histograms."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from resilient_agents.telemetry import names

__all__ = ["METRICS", "Metric"]

# Seconds. From a cache hit to a reasoning model's answer; the defaults of the SDKs are made for milliseconds.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Seconds. Finer where waits before a retry lie, because a quantile is read by drawing a line through its bucket.
DELAYS: Final = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metric(NamedTuple):
    """One instrument. `boundaries`: upper bounds of a histogram's buckets, in its unit."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...] = ()


POLICY_DURATION: Final = Metric(
    "resilient_agents.policy.duration",
    "histogram",
    "s",
    "How long operations took, retries and waits included.",
    (names.POLICY, names.OUTCOME, names.RETRIED),
    SECONDS,
)
ATTEMPTS: Final = Metric(
    "resilient_agents.attempts",
    "counter",
    "{attempt}",
    "Attempts by how they ended.",
    (names.POLICY, names.OUTCOME, names.ERROR_TYPE),
)
REJECTIONS: Final = Metric(
    "resilient_agents.rejections",
    "counter",
    "{rejection}",
    "Refusals by a strategy; `retry_budget` refuses a further attempt.",
    (names.POLICY, names.STRATEGY, names.SHADOW),
)
RETRY_DELAY: Final = Metric(
    "resilient_agents.retry.delay",
    "histogram",
    "s",
    "How long retries waited before the next attempt.",
    (names.POLICY,),
    DELAYS,
)
CIRCUIT_BREAKER_TRANSITIONS: Final = Metric(
    "resilient_agents.circuit_breaker.transitions",
    "counter",
    "{transition}",
    "State changes of circuits.",
    (names.CIRCUIT_BREAKER, names.FROM, names.TO, names.SHADOW),
)
CIRCUIT_BREAKER_STATE: Final = Metric(
    "resilient_agents.circuit_breaker.state",
    "gauge",
    "",
    "1 for the state that a circuit is in, 0 for the others.",
    (names.CIRCUIT_BREAKER, names.STATE, names.SHADOW),
)
BULKHEAD_IN_USE: Final = Metric(
    "resilient_agents.bulkhead.in_use", "gauge", "{call}", "Calls that hold a slot.", (names.BULKHEAD,)
)
BULKHEAD_QUEUED: Final = Metric(
    "resilient_agents.bulkhead.queued", "gauge", "{call}", "Calls that wait for a slot.", (names.BULKHEAD,)
)
BULKHEAD_LIMIT: Final = Metric("resilient_agents.bulkhead.limit", "gauge", "{call}", "Slots.", (names.BULKHEAD,))
RATE_LIMIT_WAIT: Final = Metric(
    "resilient_agents.rate_limit.wait",
    "histogram",
    "s",
    "How long calls waited for a token of a rate limit.",
    (names.POLICY,),
    SECONDS,
)

BULKHEAD_WAIT: Final = Metric(
    "resilient_agents.bulkhead.wait",
    "histogram",
    "s",
    "How long calls waited for a slot of a bulkhead.",
    (names.POLICY,),
    SECONDS,
)
STREAM_FIRST_ITEM: Final = Metric(
    "resilient_agents.stream.first_item",
    "histogram",
    "s",
    "How long streams took to their first item, retries and waits included.",
    (names.POLICY,),
    SECONDS,
)
STREAM_GAP: Final = Metric(
    "resilient_agents.stream.gap",
    "histogram",
    "s",
    "The longest that a stream let its consumer wait for a further item.",
    (names.POLICY,),
    SECONDS,
)
INNER_RETRIES: Final = Metric(
    "resilient_agents.inner_retries",
    "counter",
    "{retry}",
    "Retries that client libraries made by themselves, inside attempts, as far as they show them.",
    (names.POLICY,),
)

HEALTH_CHECK_DURATION: Final = Metric(
    "resilient_agents.health_check.duration",
    "histogram",
    "s",
    "How long health checks took, by what they found.",
    (names.HEALTH_CHECK, names.STATUS, names.CRITICAL),
    SECONDS,
)
HEALTH_CHECK_STATUS: Final = Metric(
    "resilient_agents.health_check.status",
    "gauge",
    "",
    "1 for the status that a health check has, 0 for the others.",
    (names.HEALTH_CHECK, names.STATUS),
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
    BULKHEAD_WAIT,
    STREAM_FIRST_ITEM,
    STREAM_GAP,
    INNER_RETRIES,
    HEALTH_CHECK_DURATION,
    HEALTH_CHECK_STATUS,
)
