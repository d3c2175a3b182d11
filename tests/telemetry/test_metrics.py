"""Metrics: what is counted, under which attributes, in which buckets; gauges over live objects; exemplars."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pybreaker
import pytest
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

from resilient_agents import events
from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.base import instances
from resilient_agents.health import HealthMonitor
from resilient_agents.policy import Policy
from resilient_agents.strategies.fallback import Fallback
from resilient_agents.telemetry import metric_table
from tests.conftest import Harness
from tests.telemetry.conftest import Sdk, identity
from tests.telemetry.test_spans import HTTPError, Tells, fail, flaky, ok

POLICY = "resilient_agents.policy"
OUTCOME = "resilient_agents.outcome"
ERROR = "error.type"


async def test_operations_are_timed_by_outcome(h: Harness, sdk: Sdk) -> None:
    """`policy.duration` has one measurement a call, in seconds, by outcome and by whether it was retried."""

    async def slow() -> str:
        await h.sleep(3)
        return "ok"

    policy = Policy(Retry(2, wait=fixed(1, jitter=None)), name="p")
    await h.call(policy, slow)
    await h.call(policy, flaky(1))
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    points = sdk.metrics()["resilient_agents.policy.duration"].data.data_points
    found = {(point.attributes[OUTCOME], point.attributes["resilient_agents.retried"]): point for point in points}
    assert {key: point.count for key, point in found.items()} == {
        ("success", False): 1,
        ("success", True): 1,
        ("failure", True): 1,
    }
    assert found["success", False].sum == pytest.approx(3)
    assert found["success", True].sum == pytest.approx(1)
    assert {frozenset(point.attributes) for point in points} == {
        frozenset({POLICY, OUTCOME, "resilient_agents.retried"})
    }


async def test_attempts_are_counted_by_kind(h: Harness, sdk: Sdk) -> None:
    """`attempts` counts each attempt by outcome and kind: an operation that succeeded may have failed attempts."""
    await h.call(Policy(Retry(3, wait=fixed(1)), name="p"), flaky(2, 429))
    assert sdk.points("resilient_agents.attempts") == [
        ({POLICY: "p", OUTCOME: "failure", ERROR: "rate_limit"}, 2),
        ({POLICY: "p", OUTCOME: "success"}, 1),
    ]


async def test_retry_delays_are_measured(h: Harness, sdk: Sdk) -> None:
    """`retry.delay` has one measurement for each wait, in seconds."""
    await h.call(Policy(Retry(3, wait=fixed(2, jitter=None)), name="p"), flaky(2))
    (point,) = sdk.metrics()["resilient_agents.retry.delay"].data.data_points
    assert (dict(point.attributes), point.count, point.sum) == ({POLICY: "p"}, 2, 4.0)


async def test_rejections_are_counted_by_strategy(h: Harness, sdk: Sdk) -> None:
    """`rejections` counts refusals by policy and strategy; those of a shadow breaker carry a mark."""
    breaker, shadow = CircuitBreaker("a"), CircuitBreaker("b", shadow=True)
    breaker.open()
    shadow.open()
    for _ in range(2):
        with contextlib.suppress(Exception):
            await h.call(Policy(breaker, name="p"), ok)
    await h.call(Policy(shadow, name="q"), ok)
    await h.call(Policy(Tells(events.GaveUp("r", 1, 0.1, "budget", None)), name="r"), ok)
    strategy, mark = "resilient_agents.strategy", "resilient_agents.shadow"
    assert sdk.points("resilient_agents.rejections") == [
        ({POLICY: "p", strategy: "circuit_breaker"}, 2),
        ({POLICY: "q", strategy: "circuit_breaker", mark: True}, 1),
        ({POLICY: "r", strategy: "retry_budget"}, 1),
    ]


async def test_waits_for_a_rate_limit_are_measured(h: Harness, sdk: Sdk) -> None:
    """`rate_limit.wait` measures waits for tokens, and only those."""
    told = Tells(events.Waited("p", "rate_limit", 0.5), events.Waited("p", "bulkhead", 9.0))
    await h.call(Policy(told, name="p"), ok)
    (point,) = sdk.metrics()["resilient_agents.rate_limit.wait"].data.data_points
    assert (dict(point.attributes), point.count, point.sum) == ({POLICY: "p"}, 1, 0.5)


def transitions(sdk: Sdk) -> list[tuple[Any, Any, Any, int]]:
    return [
        (
            attributes["resilient_agents.circuit_breaker"],
            attributes["resilient_agents.from"],
            attributes["resilient_agents.to"],
            value,
        )
        for attributes, value in sdk.points("resilient_agents.circuit_breaker.transitions")
    ]


async def test_transitions_in_a_call_are_counted_once(h: Harness, sdk: Sdk) -> None:
    """A circuit that opens in a call counts one transition."""
    with pytest.raises(HTTPError):
        await h.call(Policy(CircuitBreaker("openai", failures=1), name="p"), fail)
    assert transitions(sdk) == [("openai", "closed", "open", 1)]


async def test_transitions_outside_a_call_are_counted(h: Harness, sdk: Sdk) -> None:
    """A manual `open()` and `close()`, in nobody's call, reach the metric."""
    breaker = CircuitBreaker("openai")
    breaker.open()
    breaker.close()
    assert transitions(sdk) == [("openai", "closed", "open", 1), ("openai", "open", "closed", 1)]


# -------------------------------------------------------------------------------------------------------------- gauges


def states(sdk: Sdk, name: str) -> dict[Any, int]:
    return {
        attributes["resilient_agents.state"]: value
        for attributes, value in sdk.points("resilient_agents.circuit_breaker.state")
        if attributes["resilient_agents.circuit_breaker"] == name
    }


async def test_the_state_of_a_circuit_is_a_gauge(h: Harness, sdk: Sdk) -> None:
    """`circuit_breaker.state` is 1 for the present state and 0 for the others, also when it aged by itself."""
    breaker = CircuitBreaker("gauged", reset_timeout=30)
    await h.call(Policy(breaker, name="p"), ok)
    assert states(sdk, "gauged") == {"closed": 1, "open": 0, "half-open": 0}
    breaker.open()
    assert states(sdk, "gauged") == {"closed": 0, "open": 1, "half-open": 0}
    await h.sleep(31)
    assert states(sdk, "gauged") == {"closed": 0, "open": 0, "half-open": 1}


def test_the_state_of_a_native_circuit_is_a_gauge(sdk: Sdk) -> None:
    """By the name of the object, which acts, as far as a policy uses it."""
    native = pybreaker.CircuitBreaker(name="native gauged")
    policy = Policy(native)
    policy.call(int)
    native.open()
    assert states(sdk, "native gauged") == {"closed": 0, "open": 1, "half-open": 0}
    assert not [
        attributes
        for attributes, _ in sdk.points("resilient_agents.circuit_breaker.state")
        if "resilient_agents.shadow" in attributes
    ]
    assert repr(policy.strategies[0]) == "pybreaker.CircuitBreaker(name='native gauged') <open>"


class Pool:
    """What a bulkhead shows to a gauge."""

    def __init__(self, name: str | None, in_use: int, queued: int, limit: int) -> None:
        self.name = name
        self.in_use = in_use
        self.queued = queued
        self.limit = limit
        instances.add("bulkhead", self)


def pool_values(sdk: Sdk, name: str) -> list[int]:
    return [
        value
        for part in ("in_use", "queued", "limit")
        for attributes, value in sdk.points(f"resilient_agents.bulkhead.{part}")
        if attributes["resilient_agents.bulkhead"] == name
    ]


def test_a_bulkhead_has_three_gauges(sdk: Sdk) -> None:
    """In use, queued and limit are read when they are collected."""
    pool = Pool("db", 2, 1, 8)
    Policy(name="p").call(int)
    assert pool_values(sdk, "db") == [2, 1, 8]
    pool.queued = 5
    assert pool_values(sdk, "db") == [2, 5, 8]


def test_bulkheads_without_a_name_are_one_series(sdk: Sdk) -> None:
    """Components of one name, or of none, are summed: values stay bounded however many there are."""
    pools = [Pool(None, 1, 0, 4), Pool(None, 2, 0, 4), Pool("db", 1, 0, 1), Pool("db", 1, 0, 1)]
    Policy(name="p").call(int)
    in_use, _, limit = pool_values(sdk, "unnamed")
    others = [pool for pool in instances.each("bulkhead") if pool not in pools and getattr(pool, "name", None) is None]
    assert in_use - sum(pool.in_use for pool in others) == 3
    assert limit - sum(pool.limit for pool in others) == 8
    assert pool_values(sdk, "db") == [2, 0, 2]


def test_gauges_keep_nothing_alive(sdk: Sdk) -> None:
    """A breaker and a bulkhead that nobody uses any more disappear from the gauges."""
    breaker, pool = CircuitBreaker("short-lived"), Pool("short-lived", 1, 0, 1)
    Policy(name="p").call(int)
    assert states(sdk, "short-lived")
    assert pool_values(sdk, "short-lived")
    del breaker, pool
    gc.collect()
    assert states(sdk, "short-lived") == {}
    assert pool_values(sdk, "short-lived") == []


# -------------------------------------------------------------------------------------------------- shape and exemplars


async def two_items() -> AsyncIterator[str]:
    yield "a"
    yield "b"


async def exercise(h: Harness) -> list[Any]:
    """Make every metric have a value, by real strategies. What it returns must be kept alive for the gauges."""
    breaker, bulkhead = CircuitBreaker("c", failures=2), Bulkhead(3)
    waiting = Retry(2, wait=fixed(0.001, jitter=None))
    policy = Policy(Fallback(value=None), waiting, breaker, RateLimit(1, per=0.002, burst=1), bulkhead, name="p")
    await h.call(policy, flaky(1))
    await h.call(policy, fail)
    await h.call(policy, ok)
    assert breaker.state == "open"
    await h.call(Policy(Tells(events.Waited("p", "bulkhead", 0.5)), name="p"), ok)
    with pytest.raises(HTTPError):
        await h.call(Policy(name="p"), partial(fail, inner_retries=2))
    stream = Policy(name="p").stream(iter, "ab") if h.blocking else Policy(name="p").stream(two_items)
    assert await h.items(stream) == ["a", "b"]
    monitor = HealthMonitor()
    events.publish(events.HealthChecked("", "db", "healthy", "unknown", 0.5, critical=True))
    return [breaker, bulkhead, monitor]


async def test_each_metric_is_as_the_table_says(h: Harness, sdk: Sdk) -> None:
    """Every metric of the table exists, with its kind, unit and description, and no attribute beyond its own."""
    alive = await exercise(h)
    found = sdk.metrics()
    assert set(found) == {metric.name for metric in metric_table.METRICS}
    kinds = {"counter": Sum, "histogram": Histogram, "gauge": Gauge}
    for metric in metric_table.METRICS:
        made = found[metric.name]
        assert isinstance(made.data, kinds[metric.kind]), metric.name
        assert (made.unit, made.description) == (metric.unit, metric.description)
        for point in made.data.data_points:
            assert set(point.attributes or {}) <= set(metric.attributes)
    del alive


async def test_histograms_have_boundaries_in_seconds(h: Harness, sdk: Sdk) -> None:
    """The buckets of all histograms reach from milliseconds to minutes, not those of the SDK's default."""
    alive = await exercise(h)
    histograms = [metric for metric in metric_table.METRICS if metric.kind == "histogram"]
    assert len(histograms) == 7
    for metric in histograms:
        for point in sdk.metrics()[metric.name].data.data_points:
            assert tuple(point.explicit_bounds) == metric.boundaries
    del alive


async def test_a_measurement_points_to_its_span(h: Harness, sdk: Sdk) -> None:
    """Exemplars: a duration carries the trace and span of its operation, an attempt those of its attempt."""
    await h.call(Policy(Retry(2), name="p"), ok)
    metrics = sdk.metrics()
    for name, span in (
        ("resilient_agents.policy.duration", sdk.operation),
        ("resilient_agents.attempts", sdk.attempts[0]),
    ):
        (point,) = metrics[name].data.data_points
        (exemplar,) = point.exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (identity(span).trace_id, identity(span).span_id)


async def test_the_three_figures_of_a_dashboard(h: Harness, sdk: Sdk) -> None:
    """The metrics alone tell: the share of operations that succeeded, of attempts that failed, and the waits."""
    policy = Policy(Retry(2, wait=fixed(0.5, jitter=None)), name="p")
    for work in (ok, ok, ok, flaky(1)):
        await h.call(policy, work)
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    operations = sdk.points("resilient_agents.policy.duration")
    attempts = sdk.points("resilient_agents.attempts")
    succeeded = sum(value for attributes, value in operations if attributes[OUTCOME] == "success")
    assert succeeded / sum(value for _, value in operations) == 4 / 5
    failed = sum(value for attributes, value in attempts if attributes[OUTCOME] == "failure")
    assert failed / sum(value for _, value in attempts) == 3 / 7
    (delays,) = sdk.metrics()["resilient_agents.retry.delay"].data.data_points
    assert (delays.count, delays.sum) == (2, 1.0)
