"""What the real strategies tell, as it arrives in spans and metrics: nothing in between is a stand-in."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    Fallback,
    Policy,
    PolicyTimeoutError,
    RateLimit,
    RateLimitedError,
    Retry,
    RetryBudget,
    Timeout,
    fixed,
    http_failure,
)
from resilient_agents.base import instances
from tests.conftest import Harness, run_on
from tests.telemetry.conftest import Sdk, told
from tests.telemetry.test_spans import HTTPError, fail, flaky, ok

OUTCOME = "resilient_agents.outcome"
STRATEGY = "resilient_agents.strategy"


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


def events_of(sdk: Sdk) -> list[str]:
    return [name for name, _ in sdk.events()]


def slots(sdk: Sdk) -> dict[str, int]:
    """In use, queued and limit of all bulkheads together, which have no names and so are one series."""
    found: dict[str, int] = {}
    for part in ("in_use", "queued", "limit"):
        ((series, value),) = sdk.points(f"resilient_agents.bulkhead.{part}")
        assert series == {"resilient_agents.bulkhead": "unnamed"}
        found[part] = value
    return found


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests keep alive is out of sight."""
    monkeypatch.setattr(instances, "live", {})


# ------------------------------------------------------------------------------------------------------------- bulkhead


async def test_a_bulkheads_gauges(h: Harness, sdk: Sdk, alone: None) -> None:
    """While a call is inside, one slot of the limit is in use; afterwards none."""
    policy = Policy(Bulkhead(3), name="p")

    async def look() -> dict[str, int]:
        return slots(sdk)

    assert await h.call(policy, look) == {"in_use": 1, "queued": 0, "limit": 3}
    assert slots(sdk) == {"in_use": 0, "queued": 0, "limit": 3}


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_bulkheads_queue(runtime: str, sdk: Sdk, alone: None) -> None:
    """Calls that wait for a slot are counted apart; what they waited is on their attempt and their operation."""

    @Policy(Bulkhead(1), name="p")
    async def slow() -> None:
        await anyio.sleep(2)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(slow)
            await anyio.sleep(1)
            assert slots(sdk) == {"in_use": 1, "queued": 2, "limit": 1}
            await anyio.sleep(2)
            assert slots(sdk) == {"in_use": 1, "queued": 1, "limit": 1}

    run_on(runtime, scenario)
    assert slots(sdk) == {"in_use": 0, "queued": 0, "limit": 1}
    for waited in (
        [attributes(span).get("resilient_agents.waited") for span in sdk.attempts],
        [attributes(span).get("resilient_agents.waited") for span in sdk.spans if span.name == "policy p"],
    ):
        assert waited == [None, pytest.approx(2), pytest.approx(4)]
    assert sdk.points("resilient_agents.rate_limit.wait") == []


def test_bulkheads_are_summed(sdk: Sdk, alone: None) -> None:
    """Two bulkheads are one series; one that nobody holds any more leaves it."""
    first, second = Bulkhead(3), Bulkhead(4)
    Policy(second, name="p").call(int)
    assert slots(sdk)["limit"] == 7
    del first
    gc.collect()
    assert slots(sdk)["limit"] == 4


async def test_a_full_bulkhead(h: Harness, sdk: Sdk) -> None:
    """A call that finds no slot is a rejected attempt, an event and a rejection by `bulkhead`."""
    policy = Policy(Bulkhead(1, queue=0), name="p")

    async def again() -> None:
        await h.call(policy, ok)

    with pytest.raises(BulkheadFullError):
        await h.call(policy, again)
    inner = next(span for span in sdk.spans[2:] if span.name == "policy p")
    assert attributes(inner)[OUTCOME] == "rejected"
    assert [(event.name, dict(event.attributes or {})) for event in inner.events] == [
        ("rejected", {STRATEGY: "bulkhead"})
    ]
    assert sdk.points("resilient_agents.rejections") == [({"resilient_agents.policy": "p", STRATEGY: "bulkhead"}, 1)]


def test_a_stream_holds_its_slot_until_it_closes(sdk: Sdk, alone: None) -> None:
    """Between two items the slot is in use; when the stream is over it is not."""
    policy = Policy(Bulkhead(2), name="p")

    @policy
    async def letters() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async def scenario() -> None:
        async for _ in letters():
            assert slots(sdk)["in_use"] == 1

    run_on("asyncio", scenario)
    assert slots(sdk)["in_use"] == 0


# ----------------------------------------------------------------------------------------------------------- rate limit


async def test_waits_for_a_rate_limit(h: Harness, sdk: Sdk) -> None:
    """A call that waits for its turn is measured, and its attempt and operation say how long it did."""
    policy = Policy(RateLimit(1, per=4, burst=1), name="p")
    await h.call(policy, ok)
    await h.call(policy, ok)
    (point,) = sdk.metrics()["resilient_agents.rate_limit.wait"].data.data_points
    assert (dict(point.attributes), point.count) == ({"resilient_agents.policy": "p"}, 1)
    assert point.sum == pytest.approx(4)
    waited = [(span.name, attributes(span).get("resilient_agents.waited")) for span in sdk.spans]
    assert waited == [
        ("policy p", None),
        ("attempt 1", None),
        ("policy p", pytest.approx(4)),
        ("attempt 1", pytest.approx(4)),
        ("wait rate_limit", None),
    ]


async def test_a_rate_limit_that_refuses(h: Harness, sdk: Sdk) -> None:
    """A call that may not wait so long is rejected, and the event says when it may come again."""
    policy = Policy(RateLimit(1, per=4, burst=1, max_wait=0), name="p")
    await h.call(policy, ok)
    sdk.exporter.clear()
    with pytest.raises(RateLimitedError):
        await h.call(policy, ok)
    assert sdk.events() == [("rejected", {STRATEGY: "rate_limit", "resilient_agents.retry_after": pytest.approx(4)})]
    assert sdk.points("resilient_agents.rejections") == [({"resilient_agents.policy": "p", STRATEGY: "rate_limit"}, 1)]


# ---------------------------------------------------------------------------------------------------------------- retry


async def test_a_servers_wait(h: Harness, sdk: Sdk) -> None:
    """A longer Retry-After replaces the backoff: the event says so, and the measured delay is what was waited."""

    class Limited(HTTPError):
        retry_after = 7.0

    failures = [Limited(429)]

    async def work() -> str:
        if failures:
            raise failures.pop()
        return "ok"

    await h.call(Policy(Retry(2, wait=fixed(1, jitter=None)), name="p"), work)
    ((name, facts),) = sdk.events()
    assert (name, facts["resilient_agents.reason"]) == ("retry.scheduled", "retry_after")
    assert facts["resilient_agents.delay"] >= 7
    (point,) = sdk.metrics()["resilient_agents.retry.delay"].data.data_points
    assert point.sum == facts["resilient_agents.delay"]
    first, second = sdk.attempts
    assert first.end_time is not None
    assert second.start_time is not None


async def test_a_spent_budget(h: Harness, sdk: Sdk) -> None:
    """A retry that the budget denies is a rejection by `retry_budget`; the operation's error is the dependency's."""
    policy = Policy(Retry(3, wait=fixed(0), budget=RetryBudget(0, per_second=0)), name="p")
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    assert sdk.events() == [("rejected", {STRATEGY: "retry_budget"})]
    assert told(sdk.operation) == {
        "resilient_agents.policy": "p",
        "resilient_agents.attempts": 1,
        OUTCOME: "failure",
        "resilient_agents.gave_up": "budget",
        "resilient_agents.failed": ("overload",),
        "error.type": "overload",
        "http.response.status_code": 503,
    }
    assert sdk.points("resilient_agents.rejections") == [
        ({"resilient_agents.policy": "p", STRATEGY: "retry_budget"}, 1)
    ]


async def test_a_result_that_is_retried(h: Harness, sdk: Sdk) -> None:
    """A result that `when=` calls a failure is a failed attempt, so it counts among the 12 %."""

    class Response:
        def __init__(self, status_code: int) -> None:
            self.status_code = status_code

    answers = [Response(200), Response(503)]

    async def work() -> Response:
        return answers.pop()

    await h.call(Policy(Retry(2, when=http_failure, wait=fixed(0)), name="p"), work)
    assert [attributes(span)[OUTCOME] for span in sdk.attempts] == ["failure", "success"]
    assert attributes(sdk.operation)[OUTCOME] == "success"
    outcomes = {series[OUTCOME]: value for series, value in sdk.points("resilient_agents.attempts")}
    assert outcomes == {"failure": 1, "success": 1}


# -------------------------------------------------------------------------------------------------------------- timeout


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("strategies", [(Retry(1), Timeout(2)), (Timeout(2), Retry(1))], ids=["attempt", "total"])
def test_an_attempt_that_is_cut_off(runtime: str, strategies: Any, sdk: Sdk) -> None:
    """An attempt that a limit ends, its own or the operation's, failed by `timeout`; the event names the limit."""

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(*strategies, name="p").acall(anyio.sleep, 5)

    run_on(runtime, scenario)
    (attempt,) = sdk.attempts
    assert attributes(attempt)[OUTCOME] == "failure"
    assert attributes(attempt)["error.type"] == "timeout"
    assert sdk.events() == [("timeout", {STRATEGY: "timeout", "resilient_agents.limit": 2.0})]
    assert attributes(sdk.operation)["error.type"] == "timeout"


def test_a_late_value(sdk: Sdk) -> None:
    """A blocking function that outran its limit succeeded, and an event says by how much it was late."""

    async def scenario() -> None:
        h = Harness("blocking")

        async def slow() -> str:
            await h.sleep(3)
            return "late"

        assert await h.call(Policy(Timeout(2, thread=False), name="p"), slow) == "late"

    run_on("blocking", scenario)
    ((name, facts),) = sdk.events()
    assert name == "timeout"
    assert facts["resilient_agents.late"] == pytest.approx(1)
    assert attributes(sdk.operation)[OUTCOME] == "success"


# ------------------------------------------------------------------------------------------------------ circuit breaker


async def test_the_life_of_a_circuit(h: Harness, sdk: Sdk) -> None:
    """It opens, refuses, probes and closes: each change is counted once, and is an event of the call that made it."""
    policy = Policy(CircuitBreaker("openai", failures=2, reset_timeout=10), name="p")
    seen: list[list[str]] = []

    async def make(work: Callable[[], Any]) -> None:
        sdk.exporter.clear()
        with contextlib.suppress(Exception):
            await h.call(policy, work)
        seen.append(events_of(sdk))

    await make(fail)
    await make(fail)
    await make(ok)
    await h.sleep(11)
    await make(ok)
    change = "circuit_breaker.state_change"
    assert seen == [[], [change], ["rejected"], [change, change]]
    assert [
        (series["resilient_agents.from"], series["resilient_agents.to"], value)
        for series, value in sdk.points("resilient_agents.circuit_breaker.transitions")
    ] == [("closed", "open", 1), ("open", "half-open", 1), ("half-open", "closed", 1)]


# -------------------------------------------------------------------------------------------------------- all of them


async def test_all_strategies_at_once(h: Harness, sdk: Sdk) -> None:
    """A call through all seven, saved by its third attempt, is one operation without an error and three attempts."""
    policy = Policy(
        Fallback(value=None),
        Timeout(60, thread=False),
        Retry(3, wait=fixed(1, jitter=None)),
        CircuitBreaker("c"),
        RateLimit(10, burst=1),
        Bulkhead(2),
        Timeout(5, thread=True) if h.blocking else Timeout(5),
        name="p",
    )
    assert await h.call(policy, flaky(2)) == "ok"
    assert told(sdk.operation) == {
        "resilient_agents.policy": "p",
        "resilient_agents.attempts": 3,
        "resilient_agents.retry_waited": 2.0,
        "resilient_agents.failed": ("overload",),
        OUTCOME: "success",
    }
    assert [attributes(span)[OUTCOME] for span in sdk.attempts] == ["failure", "failure", "success"]
    assert events_of(sdk) == ["retry.scheduled", "retry.scheduled"]
