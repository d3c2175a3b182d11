"""Policies by name, and a decorator for each strategy."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import resilient_agents
import resilient_agents.telemetry
from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Gate,
    Policy,
    RateLimit,
    Registry,
    Retry,
    bulkhead,
    circuit_breaker,
    fixed,
    get_bulkhead,
    get_circuit_breaker,
    get_gate,
    get_policy,
    get_rate_limit,
    rate_limit,
    registry,
    resilient,
    retry,
    timeout,
)
from resilient_agents.registry import Changes, Keyed

assert_type(registry, Registry)
assert_type(registry.policy("openai"), Policy)
assert_type(registry.circuit_breaker("openai", failures=3), CircuitBreaker)
assert_type(registry.bulkhead("openai", 8, queue=3), Bulkhead)
assert_type(registry.rate_limit("openai", "60/min"), RateLimit)
assert_type(registry.gate("openai", max_wait=5), Gate)
assert_type(registry.configure({}, profile="production"), Changes)
assert_type(registry.reload(), Changes)
assert_type(get_policy("openai"), Policy)
assert_type(get_circuit_breaker("openai"), CircuitBreaker)
assert_type(get_bulkhead("openai"), Bulkhead)
assert_type(get_rate_limit("openai", 5), RateLimit)
assert_type(get_gate("openai"), Gate)
registry.policy(3)  # type: ignore[arg-type]

per_host = registry.keyed("http", key=lambda url: url.split("/")[2], at_most=100)
assert_type(per_host, Keyed)
assert_type(per_host.policy("example.org"), Policy)
registry.keyed(lambda host: Policy(CircuitBreaker()), key=str)
registry.keyed("http")  # type: ignore[call-arg]


@circuit_breaker(name="typed", failures=3, reset_timeout=timedelta(seconds=5))
@retry(3, wait=fixed(1))
@bulkhead(8, name="typed", isolation="thread")
@rate_limit("60/min", max_wait=3, cost=500, settle=lambda result: result.usage.total_tokens)
@timeout(5, thread=True)
def stacked(number: int) -> str:
    return str(number)


assert_type(stacked(1), str)
stacked("1")  # type: ignore[arg-type]
circuit_breaker(failure=3)  # type: ignore[call-arg]
retry(3, attempt=3)  # type: ignore[call-arg]
bulkhead("8")  # type: ignore[arg-type]
rate_limit(5, brust=3)  # type: ignore[call-arg]
timeout()  # type: ignore[call-arg]


@per_host
async def get(url: str) -> bytes:
    return url.encode()


@resilient("openai")
async def ask(question: str) -> str:
    return question


async def use() -> None:
    assert_type(await get("http://example.org/"), bytes)
    assert_type(await ask("why"), str)
    with registry.override("openai", Retry(1)) as stand_in:
        assert_type(stand_in, Policy)
    with Policy().replaced(Policy()):
        pass
    Policy().become(Policy())


def anything(value: Any) -> None:
    resilient(per_host)(value)


# What is imported when it is asked for has its type, and what is not there is an error.
assert_type(resilient_agents.registry, Registry)
assert resilient_agents.Registri  # type: ignore[attr-defined]
assert resilient_agents.telemetry.LogObservers  # type: ignore[attr-defined]
