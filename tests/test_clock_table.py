"""Whatever keeps times, made and used under one clock and then under another: what is left stays or is forgotten, and
nothing is stuck for the difference of the two."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pybreaker
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Gate,
    Hedge,
    Policy,
    RateLimit,
    RateLimitedError,
    Rejected,
    Retry,
    RetryBudget,
    Timeout,
    fixed,
    run_budget,
)
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.testing import FakeClock

Use = Callable[[], object]
Thing = Callable[[], tuple[Use, Use]]


class Busy(Exception):
    status_code = 429
    retry_after = 50.0


def down() -> None:
    raise ConnectionError


def busy() -> None:
    raise Busy


def fails(policy: Policy, function: Callable[[], None] = down, times: int = 1) -> None:
    for _ in range(times):
        with contextlib.suppress(ConnectionError, Busy):
            policy.call(function)


def refuses(policy: Policy, error: type[Exception], least: float, most: float) -> None:
    """It does, and says that it will for so many seconds."""
    with pytest.raises(error) as refused:
        policy.call(int)
    assert isinstance(refused.value, Rejected)
    assert refused.value.retry_after is not None
    assert least < refused.value.retry_after <= most


def circuit() -> tuple[Use, Use]:
    policy = Policy(CircuitBreaker(failures=2, reset_timeout=60))
    return lambda: fails(policy, times=2), lambda: refuses(policy, CircuitOpenError, 50, 60)


def half_open() -> tuple[Use, Use]:
    breaker = CircuitBreaker(failures=1, reset_timeout=60)
    breaker.open()
    return breaker.half_open, lambda: Policy(breaker).call(int)


def native_circuit() -> tuple[Use, Use]:
    policy = Policy(pybreaker.CircuitBreaker(fail_max=1, reset_timeout=60))
    return lambda: fails(policy), lambda: refuses(policy, CircuitOpenError, 50, 60)


def window() -> tuple[Use, Use]:
    policy = Policy(CircuitBreaker(failures=None, failure_rate=0.5, window=60, minimum_calls=3))
    return lambda: fails(policy, times=2), lambda: (policy.call(int), policy.call(int))


def rate() -> tuple[Use, Use]:
    policy = Policy(limit := RateLimit(1, per=60, max_wait=0))

    def under() -> None:
        assert policy.call(int) == 0  # a whole burst again
        refuses(policy, RateLimitedError, 50, 60)

    return lambda: (policy.call(int), limit.available), under


def learned() -> tuple[Use, Use]:
    limit = RateLimit(100, per=60, max_wait=0)
    stated = {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }

    def under() -> None:
        assert limit.rate == 2
        assert Policy(limit).call(int) == 0

    return lambda: limit.learn(stated), under


def gate() -> tuple[Use, Use]:
    policy = Policy(Gate(max_wait=0))
    return lambda: fails(policy, busy), lambda: policy.call(int)  # open again


def budget() -> tuple[Use, Use]:
    spent = RetryBudget(0.0, per_second=0.1)
    policy = Policy(Retry(3, wait=fixed(0), budget=spent))
    return lambda: fails(policy, times=3), lambda: fails(policy)


def hedge() -> tuple[Use, Use]:
    policy = Policy(Hedge(0.05), Bulkhead(2, max_wait=1), Timeout(timedelta(seconds=5), thread=True))
    return lambda: policy.call(int), lambda: policy.call(int)


def run() -> tuple[Use, Use]:
    def under() -> None:
        with run_budget(attempts=1):
            assert Policy(Retry(2)).call(int) == 0

    return under, under


def health() -> tuple[Use, Use]:
    monitor = HealthMonitor([HealthCheck("x", lambda: True, interval=60)], builtin=False)

    def under() -> None:
        assert monitor.ready
        monitor.refresh()

    return monitor.refresh, under


THINGS = [circuit, half_open, native_circuit, window, rate, learned, gate, budget, hedge, run, health]
Clocks = Callable[[], contextlib.AbstractContextManager[object]]
REAL: Clocks = contextlib.nullcontext


@pytest.mark.parametrize(
    ("first", "second"),
    [(REAL, FakeClock), (FakeClock, REAL), (FakeClock, FakeClock)],
    ids=["real to fake", "fake to real", "fake to fake"],
)
@pytest.mark.parametrize("thing", THINGS)
def test_no_time_of_one_clock_is_taken_for_one_of_another(thing: Thing, first: Clocks, second: Clocks) -> None:
    """Made and used under the first, looked at under the second."""
    with first() as clock:
        used, looked_at = thing()
        used()
        if isinstance(clock, FakeClock):
            clock.advance(1)
    with second():
        looked_at()


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_made_under_the_real_clock_is_there_again_after_another_one(thing: Thing) -> None:
    """What passed there has passed."""
    used, looked_at = thing()
    used()
    with FakeClock() as clock:
        clock.advance(5)
    looked_at()
