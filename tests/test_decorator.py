"""`@resilient`: every form of it, and what it says to others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import aiolimiter
import anyio
import pybreaker
import pytest
import tenacity

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Gate,
    Policy,
    RateLimit,
    Resume,
    Retry,
    StreamTimeout,
    Timeout,
    fixed,
    get_gate,
    resilient,
)


class Failing:
    def __init__(self, times: int) -> None:
        self.calls, self.times = 0, times

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise ConnectionError
        return "fine"


def kinds(policy: Policy) -> list[str]:
    return [described["strategy"] for described in policy.describe()["strategies"]]


def built(**options: Any) -> Policy:
    """The policy that the sugar builds."""
    policy = resilient(**options)
    assert isinstance(policy, Policy)
    return policy


def test_with_a_policy() -> None:
    """The function is guarded by that very policy."""
    breaker = CircuitBreaker(failures=1)
    guarded = resilient(Policy(breaker))(Failing(9))
    with pytest.raises(ConnectionError):
        guarded()
    assert breaker.state == "open"


def test_with_strategies() -> None:
    """Ours and native ones, outermost first."""
    failing = Failing(2)
    assert (
        resilient(Retry(3, wait=fixed(0)), pybreaker.CircuitBreaker(), Timeout(10, thread=False))(failing)() == "fine"
    )
    native = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), sleep=lambda _: None)
    assert resilient(native)(Failing(2))() == "fine"


def test_options_build_the_canonical_order() -> None:
    """Fallback, total limit, retry, breaker, rate limit, bulkhead, attempt limit, however they are written."""
    policy = built(
        attempt_timeout=10, bulkhead=8, rate_limit="60/min", breaker="canonical", retry=3, timeout=30, fallback=print
    )
    assert kinds(policy) == ["fallback", "timeout", "retry", "circuit_breaker", "rate_limit", "bulkhead", "timeout"]
    described = policy.describe()["strategies"]
    assert (described[1]["seconds"], described[6]["seconds"], described[3]["name"]) == (30, 10, "canonical")
    assert kinds(built(retry=2, timeout=None)) == ["retry"]


def test_options_take_strategies_too() -> None:
    """Ours and native objects in place of the short values."""
    policy = built(
        fallback=Fallback(value=1),
        timeout=Timeout(5),
        retry=tenacity.AsyncRetrying(),
        breaker=pybreaker.CircuitBreaker(),
        rate_limit=RateLimit(5),
        bulkhead=Bulkhead(2),
    )
    assert kinds(policy) == ["fallback", "timeout", "retry", "circuit_breaker", "rate_limit", "bulkhead"]

    async def native() -> None:
        limits = built(rate_limit=aiolimiter.AsyncLimiter(5), bulkhead=anyio.CapacityLimiter(2))
        assert kinds(limits) == ["rate_limit", "bulkhead"]

    asyncio.run(native())


def test_a_gate_has_its_canonical_place() -> None:
    """Inside the breaker and outside the rate limit; True, seconds, or a gate that is shared."""
    gate = Gate(max_wait=5)
    for given, longest in [(True, 60), (30, 30), (gate, 5)]:
        policy = built(rate_limit=5, gate=given, breaker=True, retry=2)
        assert kinds(policy) == ["retry", "circuit_breaker", "gate", "rate_limit"]
        assert policy.layers[2].max_wait == longest
    assert policy.layers[2] is gate


def test_streams_have_their_strategies_in_canonical_order() -> None:
    """Resume outside of the retry, the limits of items innermost: seconds of stalling, or strategies as they are."""
    resume, limits = Resume(iter), StreamTimeout(total=9)
    for going_on, stalling in [(iter, 5), (resume, limits)]:
        policy = built(stream_timeout=stalling, attempt_timeout=8, retry=2, resume=going_on, timeout=30)
        assert kinds(policy) == ["timeout", "resume", "retry", "timeout", "stream_timeout"]
    assert policy.layers[1] is resume
    assert policy.layers[4] is limits
    assert built(stream_timeout=timedelta(seconds=5)).layers[0].idle == 5
    with pytest.raises(TypeError, match="continue_with must be a function"):
        resilient(resume=3)


def test_a_gate_is_shared_by_its_name() -> None:
    """It is the registry's."""
    one, other = built(gate="shared gate"), built(gate="shared gate", retry=2)
    assert one.layers[0] is other.layers[1] is get_gate("shared gate")


def test_a_breaker_is_shared_by_its_name() -> None:
    """Two functions that name the same breaker open and close together; True is one of its own."""
    failing, fine = resilient(breaker="shared")(Failing(9)), resilient(breaker="shared")(Failing(0))
    for _ in range(5):
        with pytest.raises(ConnectionError):
            failing()
    with pytest.raises(CircuitOpenError, match="'shared' is open"):
        fine()
    assert resilient(breaker=True)(Failing(0))() == "fine"


def test_a_breaker_made_elsewhere_is_found_by_its_name() -> None:
    """So its options can differ from the defaults."""
    breaker = CircuitBreaker("elsewhere", failures=1)
    with pytest.raises(ConnectionError):
        resilient(breaker="elsewhere")(Failing(9))()
    assert breaker.state == "open"


def test_a_fallback_may_be_a_value() -> None:
    """Whatever is not callable is returned instead."""
    assert resilient(fallback="stand-in")(Failing(9))() == "stand-in"
    assert resilient(fallback=lambda error: type(error).__name__)(Failing(9))() == "ConnectionError"


def test_the_name_is_the_policys() -> None:
    """It shows in errors."""
    guarded = resilient(breaker=CircuitBreaker(failures=1), name="tool")(Failing(9))
    with pytest.raises(ConnectionError):
        guarded()
    with pytest.raises(CircuitOpenError, match="'tool' is open"):
        guarded()


@pytest.mark.parametrize(
    "use",
    [
        lambda: resilient(),
        lambda: resilient(Failing(0).__call__),
        lambda: resilient(""),
        lambda: resilient(retries=3),
        lambda: resilient(Retry(3), timeout=3),
    ],
)
def test_everything_else_lists_the_forms(use: Any) -> None:
    """A bare @resilient, an empty name, an unknown option, two forms mixed."""
    with pytest.raises(
        TypeError, match=r"@resilient\(policy\)[\s\S]*@resilient\(Retry\(3\), Timeout\(10\)\)[\s\S]*breaker="
    ):
        use()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": 0}, "attempts must be"),
        ({"timeout": -1}, "seconds must be"),
        ({"breaker": 3}, "breaker must be a name"),
        ({"bulkhead": 0}, "limit must be"),
        ({"rate_limit": "fast"}, "rate"),
    ],
)
def test_bad_values_say_which(options: dict[str, Any], message: str) -> None:
    """The error of the strategy, when the decorator is built."""
    with pytest.raises((TypeError, ValueError), match=message):
        resilient(**options)
