"""The clock that everything goes by, and what becomes of times when another one takes its place."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pybreaker
import pytest
from aiolimiter import AsyncLimiter

from resilient_agents import (
    CircuitBreaker,
    CircuitOpenError,
    Policy,
    RateLimit,
    RateLimitedError,
    Retry,
    RetryBudget,
    deadline,
    remaining,
)
from resilient_agents.base.clock import clock
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.testing import FakeClock

FAR = 1e9
STARTS = [0.0, FAR]


def down() -> None:
    raise ConnectionError


@pytest.mark.parametrize("start", STARTS)
def test_an_open_circuit_keeps_what_is_left_of_its_time(start: float) -> None:
    """Whether the other clock is behind or ahead."""
    breaker = CircuitBreaker(failures=1, reset_timeout=30)
    with pytest.raises(ConnectionError):
        Policy(breaker).call(down)
    now = start
    with clock.replaced(monotonic=lambda: now):
        assert breaker.retry_after == pytest.approx(30, abs=1)
        with pytest.raises(CircuitOpenError):
            Policy(breaker).call(int)
        now += 31
        assert breaker.state == "half-open"
    assert breaker.state == "half-open"


@pytest.mark.parametrize("start", STARTS)
def test_a_window_goes_on_under_another_clock(start: float) -> None:
    """What fails under the new clock is counted there, and afterwards under the old one again."""
    breaker = CircuitBreaker(failures=None, failure_rate=0.5, minimum_calls=4)
    policy = Policy(breaker)

    def trips() -> bool:
        breaker.close()
        for number in range(4):
            if number % 2:
                policy.call(int)
            else:
                with pytest.raises(ConnectionError):
                    policy.call(down)
        return breaker.state == "open"

    assert trips()
    with clock.replaced(monotonic=lambda: start):
        assert trips()
    assert trips()


@pytest.mark.parametrize("start", STARTS)
def test_a_rate_and_a_budget_begin_anew(start: float) -> None:
    """Neither is stuck for the difference of two clocks."""
    limit, budget = RateLimit(1, per=60, max_wait=0), RetryBudget(0.0, per_second=1)

    def fails(policy: Policy) -> int:
        calls: list[int] = []
        with pytest.raises(ConnectionError):
            policy.call(lambda: calls.append(1) or down())
        return len(calls)

    def spent() -> None:
        assert Policy(limit).call(int) == 0
        with pytest.raises(RateLimitedError):
            Policy(limit).call(int)
        assert fails(Policy(Retry(3, wait=lambda _: 0.0, budget=budget))) == 3

    spent()
    now = start
    with clock.replaced(monotonic=lambda: now):
        spent()
        now += 60
        spent()
    spent()


def test_what_is_known_of_health_stays_as_old_as_it_is() -> None:
    """A result that is fresh under one clock is fresh under the other."""
    monitor = HealthMonitor([HealthCheck("x", lambda: True, interval=60)], builtin=False)
    monitor.refresh()
    before = (monitor.overall_status, monitor.ready, monitor.next_check_in)
    with clock.replaced(monotonic=lambda: FAR):
        assert monitor.next_check_in == pytest.approx(before[2], abs=1)
        assert (monitor.overall_status, monitor.ready) == before[:2]
    assert (monitor.overall_status, monitor.ready) == before[:2]


@pytest.mark.parametrize("start", STARTS)
def test_a_deadline_keeps_what_is_left_of_it(start: float) -> None:
    """Where another clock is put in place inside of its block, and afterwards."""
    now = start
    with deadline(10), deadline(5):
        with clock.replaced(monotonic=lambda: now):
            assert remaining() == pytest.approx(5, abs=1)
            now += 3
            assert remaining() == pytest.approx(2, abs=1)
        assert remaining() == pytest.approx(2, abs=1)


@pytest.mark.parametrize("start", STARTS)
def test_an_opening_of_pybreakers_is_a_moment_of_the_clock_in_force(start: float) -> None:
    """pybreaker itself takes that of the machine."""
    policy = Policy(pybreaker.CircuitBreaker(fail_max=1, reset_timeout=30))
    now = start
    with clock.replaced(monotonic=lambda: now, wall=lambda: now):
        with pytest.raises(ConnectionError):
            policy.call(down)
        now += 29
        with pytest.raises(CircuitOpenError) as refused:
            policy.call(int)
        assert refused.value.retry_after == pytest.approx(1)
        now += 1
        assert policy.call(int) == 0


def test_successes_under_another_clock_are_forgotten() -> None:
    """They do not outweigh the failures of a window that begins with a clock."""
    policy = Policy(breaker := CircuitBreaker(failures=None, failure_rate=0.5, window_calls=60, minimum_calls=3))
    for _ in range(20):
        policy.call(int)
    with clock.replaced(monotonic=lambda: FAR):
        for _ in range(3):
            with pytest.raises(ConnectionError):
                policy.call(down)
        assert breaker.state == "open"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("make", [CircuitBreaker, pybreaker.CircuitBreaker])
def test_a_probe_that_is_under_way_keeps_its_permit(make: Callable[[], Any], start: float) -> None:
    """For as long as it had under the clock of before."""
    breaker = make()
    policy = Policy(breaker)
    breaker.open()
    breaker.half_open()

    def probe() -> None:
        with clock.replaced(monotonic=lambda: start), pytest.raises(CircuitOpenError, match="probes are taken"):
            contextvars.Context().run(policy.call, int)

    policy.call(probe)


def test_aiolimiter_is_not_stuck_for_the_difference_of_two_clocks() -> None:
    """Its event loop goes by the other clock, too."""
    limiter = AsyncLimiter(1, 10)
    policy = Policy(limiter)

    async def twice() -> float:
        began = clock.monotonic()
        for _ in range(2):
            await policy.acall(int)
        return clock.monotonic() - began

    async def main() -> tuple[float, float]:
        assert await policy.acall(int) == 0
        with FakeClock():
            first = await twice()
        with FakeClock():
            return first, await twice()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # which a FakeClock can drive
        assert runner.run(main()) == (pytest.approx(20, abs=1), pytest.approx(20, abs=1))


def test_the_wall_clock_is_read_late() -> None:
    """Who patches `time.time` in a test has patched it for us."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 86400.0)
        assert clock.now() == datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0.0, -1.0, -math.inf])
def test_a_lock_is_waited_for_as_long_as_is_left(seconds: float) -> None:
    """A wait whose time is up already looks once."""
    lock: Any = threading.Lock()
    assert clock.acquire(lock, seconds)
    assert not clock.acquire(lock, seconds)


@pytest.mark.parametrize("seconds", [1e10, 1e18, 1e300])
def test_a_wait_longer_than_the_platform_can_sleep_is_a_wait(seconds: float) -> None:
    """It is slept in pieces, or waited for as long as the platform can."""
    slept: list[float] = []

    class Enough(Exception): ...

    def sleep(piece: float) -> None:
        slept.append(piece)
        if len(slept) == 3:
            raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        with pytest.raises(Enough):
            clock.sleep(seconds)
    assert slept == [1e6] * 3
    assert clock.acquire(threading.Lock(), seconds)
