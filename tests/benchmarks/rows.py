"""All rows, by name. A row measures and answers with lines of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.benchmarks import (
    agents,
    calls,
    footprint,
    rare,
    scale,
    scanning,
    simulating,
    streams,
    telemetry,
    telemetry_waits,
    threads,
)
from tests.benchmarks.measure import Effort
from tests.benchmarks.table import Line

__all__ = ["ROWS", "Row"]

Row = Callable[[Effort], Iterator[Line]]

ROWS: dict[str, Row] = {
    "four": calls.four_strategies,
    "timeout": calls.with_timeout,
    "failures": calls.failing_attempts,
    "one-retry": rare.one_retry,
    "refusals": rare.refusals,
    "threads": threads.through_one_breaker,
    "computing": scale.one_policy_in_threads,
    "quiet": telemetry.without_an_sdk,
    "sdk": telemetry.with_an_sdk,
    "sdk-waits": telemetry_waits.with_waits,
    "import": footprint.importing,
    "retry": calls.retry_alone,
    "breaker": calls.breaker_alone,
    "keyed": rare.keyed,
    "keys": scale.keys,
    "streams": streams.per_item,
    "steps": streams.with_a_limit,
    "open": streams.open_streams,
    "agents": agents.shared_by_a_run,
    "growth": footprint.growth,
    "size": footprint.policy_size,
    "idle": footprint.idle,
    "waiting": footprint.in_flight,
    "simulate": simulating.simulated,
    "scan": scanning.scanning,
    "advice": scanning.advising,
    "since": scanning.since_a_revision,
}
