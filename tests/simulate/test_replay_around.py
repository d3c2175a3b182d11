"""What stands around calls and is not played: chaos, budgets of a run, health, limits that learn from servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from resilient_agents import Chaos, CircuitBreaker, Policy, RateLimit, Retry, chaos, fixed, require_healthy, run_budget
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.simulate.calls import Recorded
from resilient_agents.simulate.replay import replay
from resilient_agents.testing import FakeClock
from tests.simulate.test_replay import is_exact, recorded_of


def record(run: Callable[[], Coroutine[Any, Any, None]]) -> list[Recorded]:
    return recorded_of(lambda: FakeClock().run(run))


async def some_fail(number: int) -> None:
    await asyncio.sleep(0.0713)
    if number % 4 == 0:
        raise ConnectionError


async def numbers(number: int) -> AsyncIterator[int]:
    for item in range(number % 7 + 1):
        await asyncio.sleep(0.0513)
        yield (item + 1) * 20
    if number % 6 == 5:
        raise ConnectionError


def guarded() -> Policy:
    return Policy(Retry(2, wait=fixed(0.1)), CircuitBreaker(failures=4, reset_timeout=1), name="p")


def test_what_a_stream_settled_is_charged_when_it_ended() -> None:
    """As its items told the rate limit; one that failed hands all back."""

    def make() -> Policy:
        return Policy(RateLimit(100, burst=100, max_wait=5, cost=30, settle=lambda item: item), name="p")

    async def run() -> None:
        streamed = make()(numbers)

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.1137)
            async for _ in streamed(number):
                pass

        await asyncio.gather(*(one(number) for number in range(60)), return_exceptions=True)

    calls = record(run)
    assert {call.outcome for call in calls} == {"success", "failure", "rejected"}
    assert {step.settled for call in calls for step in call.steps} >= {None, 20.0, 140.0}
    is_exact(replay(make, calls), near=0)


def test_a_call_that_the_budget_of_its_run_refused_is_refused() -> None:
    """Before its first attempt or a later one; there is no budget where it is played."""

    async def run() -> None:
        policy = guarded()
        for first in range(8):
            with run_budget(attempts=3):
                for number in range(first, first + 3):
                    with contextlib.suppress(Exception):
                        await policy.acall(some_fail, number)
                    await asyncio.sleep(0.3)

    calls = record(run)
    assert {call.outcome for call in calls} == {"success", "failure", "rejected"}
    assert {len(call.steps) for call in calls if "run_budget" in call.refused} == {0, 1}
    is_exact(replay(guarded, calls), near=0)


def test_a_call_that_did_not_start_for_the_services_health_does_not() -> None:
    """None of the checks runs."""
    ran: list[int] = []

    def make() -> tuple[Policy, HealthMonitor]:
        def check() -> bool:
            ran.append(1)
            return len(ran) % 3 != 0

        monitor = HealthMonitor([HealthCheck("x", check, interval=0.4, critical=True)], builtin=False)
        return Policy(Retry(2, wait=fixed(0.1)), require_healthy(monitor=monitor), name="p"), monitor

    async def run() -> None:
        policy, monitor = make()
        for number in range(30):
            await monitor.arefresh()
            with contextlib.suppress(Exception):
                await policy.acall(some_fail, number)
            await asyncio.sleep(0.5)

    calls = record(run)
    assert {call.outcome for call in calls} == {"success", "failure", "rejected"}
    ran.clear()
    is_exact(replay(lambda: make()[0], calls), near=0)
    assert not ran


async def some_chaos() -> None:
    policy = guarded()
    for number in range(30):
        disturbed = chaos("p", error="overload", error_rate=0.5) if 10 < number < 20 else contextlib.nullcontext()
        with disturbed, contextlib.suppress(Exception):
            await policy.acall(some_fail, number)
        await asyncio.sleep(0.3)


def test_chaos_that_was_put_inside_for_a_while_makes_no_other_policy() -> None:
    """What it did is what the dependency did; a Chaos of another policy would come on top of it, and is left out."""
    calls = record(some_chaos)
    assert any(call.chaos for call in calls)
    is_exact(replay(guarded, calls), near=0)
    found = replay(lambda: Policy(Chaos(error="overload"), name="p"), calls)
    assert found.notes == ["a Chaos of the policy is left out: what chaos did is in the recording already"]
    assert found.success_rate > 0


def test_the_chaos_of_another_policy_acts() -> None:
    """Unless it looks at arguments, which are not recorded: then it says so."""

    async def run() -> None:
        for number in range(20):
            with contextlib.suppress(Exception):
                await Policy(name="p").acall(some_fail, number)

    calls = record(run)
    found = replay(lambda: Policy(Chaos(error="overload"), name="p"), calls)
    assert (found.same_policy, found.success_rate, found.notes) == (False, 0.0, [])
    found = replay(lambda: Policy(Chaos(error="overload", when=bool), name="p"), calls)
    assert found.success_rate == found.recorded_success_rate
    assert found.notes == ["a Chaos with when= is left out: arguments of calls are not recorded"]


def test_a_limit_that_learns_says_that_it_learns_nothing_here() -> None:
    """Headers are not recorded."""

    def make() -> Policy:
        limit = RateLimit(100)
        limit.follow()
        return Policy(limit, name="p")

    async def run() -> None:
        await make().acall(some_fail, 1)

    assert replay(make, record(run)).notes == [
        "a limit that learns from a server's headers keeps its rate: headers are not recorded"
    ]
