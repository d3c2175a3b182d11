"""The circuit breaker: when it opens, whom it lets through, what it makes of each outcome."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import pickle
import random
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import pybreaker
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Gate,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    deadline,
    fixed,
    http_failure,
)
from resilient_agents.base.clock import clock
from resilient_agents.errors import CircuitOpenError, Rejected
from resilient_agents.events import CallRejected, CircuitChanged, CircuitClosed, CircuitHalfOpened, CircuitOpened
from tests.conftest import Events, Harness, ManualClock, run_on
from tests.interruptions import ends_elsewhere


class NotFound(Exception):
    status_code = 404


class ServerError(Exception):
    status_code = 503


class RateLimited(Exception):
    status_code = 429


async def fine() -> str:
    return "fine"


async def down() -> None:
    raise ConnectionError("down")


async def fail(h: Harness, policy: Policy, times: int = 1, error: type[Exception] = ConnectionError) -> None:
    async def failing() -> None:
        raise error("failed")

    for _ in range(times):
        with pytest.raises(error):
            await h.call(policy, failing)


async def test_consecutive_failures_open_it(h: Harness) -> None:
    """After `failures` failures in a row the next call is refused with the time until the next probe."""
    breaker = CircuitBreaker("openai", failures=3, reset_timeout=30)
    policy = Policy(breaker)
    await fail(h, policy, 3)
    assert breaker.state == "open"
    await h.sleep(17.6)
    with pytest.raises(CircuitOpenError, match=r"'openai' is open after 3 failures; next probe in 12.4 s") as caught:
        await h.call(policy, fine)
    assert caught.value.retry_after == pytest.approx(12.4)
    assert (caught.value.strategy, isinstance(caught.value, pybreaker.CircuitBreakerError)) == ("circuit_breaker", True)


async def test_a_success_starts_the_count_again(h: Harness) -> None:
    """Failures must be consecutive."""
    breaker = CircuitBreaker(failures=2)
    policy = Policy(breaker)
    for _ in range(3):
        await fail(h, policy)
        await h.call(policy, fine)
    assert breaker.state == "closed"
    await fail(h, policy, 2)
    assert breaker.state == "open"


async def test_a_failing_coroutine_function_opens_it(h: Harness) -> None:
    """What an `async def` raises when awaited counts (a bare pybreaker never sees it)."""
    breaker = CircuitBreaker(failures=5)
    guarded = Policy(breaker)(h.fn(down))
    for _ in range(5):
        with pytest.raises(ConnectionError):
            await guarded() if not h.blocking else guarded()
    assert breaker.state == "open"


async def test_a_failure_may_be_slow_too(h: Harness) -> None:
    """It counts as both."""
    breaker = CircuitBreaker(failures=None, slow_call=1, slow_rate=0.9, window=60, minimum_calls=2)

    async def failing() -> None:
        await h.sleep(2)
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            await h.call(Policy(breaker), failing)
    assert breaker.state == "open"


async def test_the_tripping_call_keeps_the_users_error(h: Harness) -> None:
    """The call that opens the circuit raises the user's own error, with nothing of pybreaker in its traceback."""
    error = ConnectionError("the one")

    async def failing() -> None:
        raise error

    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(CircuitBreaker(failures=1)), failing)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert not [entry for entry in caught.traceback if "pybreaker" in str(entry.path)]


async def test_it_ages_into_half_open_and_closes_on_success(h: Harness) -> None:
    """When the time is up the state reads half-open by itself; a probe that succeeds closes it. Transitions come once
    and in order."""
    breaker = CircuitBreaker("b", failures=1, reset_timeout=10)
    policy, seen = Policy(breaker), Events()
    policy.observe(seen)
    await fail(h, policy)
    await h.sleep(9.9)
    assert breaker.state == "open"
    await h.sleep(0.2)
    assert (breaker.state, breaker.retry_after) == ("half-open", None)
    assert await h.call(policy, fine) == "fine"
    assert breaker.state == "closed"
    assert [(type(e), e.from_state, e.to_state) for e in seen.of(CircuitChanged)] == [
        (CircuitOpened, "closed", "open"),
        (CircuitHalfOpened, "open", "half-open"),
        (CircuitClosed, "half-open", "closed"),
    ]


async def test_a_failed_probe_opens_it_again(h: Harness) -> None:
    """One failure in half-open opens it for another full reset_timeout."""
    breaker = CircuitBreaker(failures=3, reset_timeout=10)
    policy = Policy(breaker)
    await fail(h, policy, 3)
    await h.sleep(10)
    await fail(h, policy)
    assert breaker.state == "open"
    await h.sleep(9.9)
    with pytest.raises(CircuitOpenError, match="after a failed probe"):
        await h.call(policy, fine)


async def test_successes_says_how_many_probes_close_it(h: Harness) -> None:
    """With successes=2 one good probe is not enough."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, successes=2)
    policy = Policy(breaker)
    await fail(h, policy)
    await h.sleep(10)
    await h.call(policy, fine)
    assert breaker.state == "half-open"
    await h.call(policy, fine)
    assert breaker.state == "closed"


async def test_the_reset_timeout_can_grow(h: Harness) -> None:
    """With max_reset_timeout it doubles at each opening in a row, up to the maximum, and starts again after a
    recovery."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, max_reset_timeout=35)
    policy = Policy(breaker)
    waits = []
    await fail(h, policy)
    for _ in range(4):
        assert breaker.retry_after is not None
        waits.append(breaker.retry_after)
        await h.sleep(breaker.retry_after)
        await fail(h, policy)
    assert waits == pytest.approx([10, 20, 35, 35])
    await h.sleep(35)
    await h.call(policy, fine)
    await fail(h, policy)
    assert breaker.retry_after == pytest.approx(10)


class Maintenance(Exception):
    status_code = 503
    retry_after = 120.0


@pytest.mark.parametrize(("options", "seconds"), [({}, 120), ({"max_reset_timeout": 60}, 60)])
async def test_it_is_open_as_long_as_the_server_says(h: Harness, options: dict[str, Any], seconds: float) -> None:
    """The answer that trips it counts, also a probe's; after one without a hint, and by hand, it is `reset_timeout`."""
    breaker = CircuitBreaker(failures=2, reset_timeout=10, open_for="retry_after", **options)
    policy = Policy(breaker)
    await fail(h, policy, 1, Maintenance)
    await fail(h, policy, 1, ServerError)
    assert breaker.retry_after == pytest.approx(10)
    await h.sleep(10)
    await fail(h, policy, 1, Maintenance)
    assert breaker.retry_after == pytest.approx(seconds)
    await h.sleep(seconds - 1)
    with pytest.raises(CircuitOpenError) as caught:
        await h.call(policy, fine)
    assert caught.value.retry_after == pytest.approx(1)
    await h.sleep(1)
    await h.call(policy, fine)
    breaker.open()
    assert breaker.retry_after == pytest.approx(10)
    breaker.close()
    await fail(h, policy, 2, Maintenance)
    breaker.reconfigure(CircuitBreaker(failures=1, reset_timeout=10, open_for="retry_after", **options))
    assert breaker.retry_after == pytest.approx(seconds)
    breaker.reconfigure(CircuitBreaker(failures=1, reset_timeout=10))
    assert breaker.retry_after == pytest.approx(10)
    await h.sleep(11)
    await fail(h, policy, 1, Maintenance)
    assert breaker.retry_after == pytest.approx(10)


@pytest.mark.parametrize("said", ["0", "Thu, 01 Jan 2015 00:00:00 GMT"])
async def test_an_answer_that_names_no_time_to_come_opens_it_as_ever(h: Harness, said: str) -> None:
    """A circuit that opened for no time would not be open."""
    breaker = CircuitBreaker(failures=1, when=http_failure, open_for="retry_after", reset_timeout=10)

    async def answer() -> Any:
        return SimpleNamespace(status_code=503, headers={"Retry-After": said})

    await h.call(Policy(breaker), answer)
    with pytest.raises(CircuitOpenError):
        await h.call(Policy(breaker), fine)
    assert breaker.retry_after == pytest.approx(10)


async def test_a_result_may_say_how_long_to_wait(h: Harness) -> None:
    """A response that `when` calls a failure has headers, too."""
    breaker = CircuitBreaker(failures=1, when=http_failure, open_for="retry_after")
    response = SimpleNamespace(status_code=503, headers={"Retry-After": "77"})

    async def answer() -> Any:
        return response

    assert await h.call(Policy(breaker), answer) is response
    assert breaker.retry_after == pytest.approx(77)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ServerError, "open"),
        (ConnectionError, "open"),
        (TimeoutError, "open"),
        (LookupError, "closed"),
        (NotFound, "closed"),
        (RateLimited, "closed"),
    ],
)
async def test_verdicts_in_closed(h: Harness, error: type[Exception], state: str) -> None:
    """Faults of the dependency open it; rate limits, errors it answered with below 500 and the caller's own bugs do
    not."""
    breaker = CircuitBreaker(failures=2)
    await fail(h, Policy(breaker), 2, error)
    assert breaker.state == state


@pytest.mark.parametrize("status", [404, 429, 503])
async def test_an_error_without_a_hash_comes_out(h: Harness, status: int) -> None:
    """Such as one that is a dataclass."""

    @dataclasses.dataclass
    class Unhashable(Exception):
        status_code: int

    async def work() -> None:
        raise Unhashable(status)

    breaker, retry = CircuitBreaker(), Retry(2, wait=fixed(1))
    with pytest.raises(Unhashable):
        await h.call(Policy(Fallback(value=None, on=KeyError), retry, breaker, Bulkhead(1)), work)
    assert breaker.metrics()["calls"] == retry.metrics()["attempts"]


async def test_an_error_that_proves_it_alive_closes_a_half_open_circuit(h: Harness) -> None:
    """A recovered dependency that answers 404 is recovered."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)
    await fail(h, policy)
    await h.sleep(10)
    await fail(h, policy, 1, NotFound)
    assert breaker.state == "closed"


async def test_a_neutral_outcome_only_returns_the_permit(h: Harness) -> None:
    """A 429 in half-open neither closes nor opens it, and the next probe gets the permit."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)
    await fail(h, policy)
    await h.sleep(10)
    await fail(h, policy, 1, RateLimited)
    assert breaker.state == "half-open"
    await h.call(policy, fine)
    assert breaker.state == "closed"


async def test_on_chooses_the_failures(h: Harness) -> None:
    """With on= only the chosen errors count; the others are judged alive or neutral as ever."""
    breaker = CircuitBreaker(failures=1, on=LookupError)
    policy = Policy(breaker)
    await fail(h, policy, 1, ServerError)
    assert breaker.state == "closed"
    await fail(h, policy, 1, KeyError)
    assert breaker.state == "open"


async def test_when_chooses_failed_results(h: Harness) -> None:
    """A result that `when` calls a failure counts, and is returned all the same."""
    breaker = CircuitBreaker(failures=2, when=lambda result: result == "bad")

    async def bad() -> str:
        return "bad"

    policy = Policy(breaker)
    assert [await h.call(policy, bad) for _ in range(2)] == ["bad", "bad"]
    assert breaker.state == "open"


async def test_an_answer_that_on_does_not_choose_is_a_sign_of_life(h: Harness) -> None:
    """What says nothing of the dependency stays neutral."""
    breaker = CircuitBreaker(on=KeyError)

    async def fails_with(error: Exception) -> None:
        raise error

    for error in (NotFound(), TypeError(), KeyError()):
        with pytest.raises(type(error)):
            await h.call(Policy(breaker), fails_with, error)
    metrics = breaker.metrics()
    assert (metrics["successes"], metrics["neutral"], metrics["failures"]) == (1, 1, 1)


def test_what_an_open_circuit_says_ages_by_itself(manual_clock: ManualClock) -> None:
    """How long until the next probe, and that its time is up."""
    breaker = CircuitBreaker(reset_timeout=5, max_reset_timeout=5)
    assert (breaker.state, breaker.retry_after) == ("closed", None)
    breaker.open()
    manual_clock.now += 4.5
    assert (breaker.state, breaker.retry_after) == ("open", 0.5)
    manual_clock.now += 0.5
    assert (breaker.state, breaker.retry_after) == ("half-open", None)


def test_a_breaker_says_whether_it_only_watches() -> None:
    """As an attribute, and in `describe()`."""
    for shadow in (True, False):
        breaker = CircuitBreaker(shadow=shadow)
        assert (breaker.shadow, breaker.describe()["shadow"]) == (shadow, shadow)


async def test_the_failure_rate_of_the_last_seconds_opens_it(h: Harness) -> None:
    """At least minimum_calls in the window, at least the given share of them failed."""
    breaker = CircuitBreaker(failures=None, failure_rate=0.5, window=10, minimum_calls=4)
    policy = Policy(breaker)
    await fail(h, policy, 3)
    assert breaker.state == "closed"
    await h.sleep(11)
    for _ in range(2):
        await h.call(policy, fine)
    await fail(h, policy, 1)
    assert breaker.metrics()["window"] == {"calls": 3, "failures": 1, "slow": 0}
    assert breaker.state == "closed"
    await fail(h, policy, 1)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError, match="open after 2 of 4 calls failed"):
        await h.call(policy, fine)


@pytest.mark.parametrize(
    ("rate", "calls", "failures"),
    [(0.28, 25, 7), (0.56, 25, 14), (0.07, 100, 7), (0.1 + 0.2, 10, 3), (1 / 3, 3, 1), (1.0, 4, 4), (0.001, 1000, 1)],
)
@pytest.mark.parametrize("rule", ["failure_rate", "slow_rate"])
def test_a_rate_is_reached_exactly(
    manual_clock: ManualClock, rule: str, rate: float, calls: int, failures: int
) -> None:
    """At least that share of the calls, however the numbers round: it opens at the last of them, and no earlier."""
    options = {"slow_call": 2} if rule == "slow_rate" else {}
    breaker = CircuitBreaker(failures=None, **options, **{rule: rate}, window_calls=calls, minimum_calls=calls)
    policy = Policy(breaker)

    def work(bad: bool) -> None:
        if bad and rule == "slow_rate":
            manual_clock.sleep(2)
        elif bad:
            raise ConnectionError

    def run(bad: bool) -> None:
        with contextlib.suppress(ConnectionError):
            policy.call(work, bad)

    for number in range(calls):
        run(number < failures - 1)
    assert breaker.state == "closed"
    breaker.reset_metrics()
    breaker.close()
    for number in range(calls):
        run(number < failures)
    assert breaker.state == "open"


async def test_the_window_reaches_back_as_far_as_it_says(h: Harness) -> None:
    """In steps of a tenth: what is older than its length is forgotten, what is younger by a tenth is not."""
    breaker = CircuitBreaker(failures=None, failure_rate=1, window=10, minimum_calls=2)
    policy = Policy(breaker)
    await fail(h, policy)
    await h.sleep(8.9)
    assert breaker.metrics()["window"]["calls"] == 1
    await h.sleep(1.2)
    assert breaker.metrics()["window"]["calls"] == 0
    await fail(h, policy)
    assert breaker.state == "closed"
    await h.sleep(8.9)
    await fail(h, policy)
    assert breaker.state == "open"


async def test_queueing_outside_of_the_breaker_is_not_taken_from_a_duration(h: Harness) -> None:
    """A call that waited before it came to the breaker, and inside it, took as long as its function."""
    breaker = CircuitBreaker(failures=None, slow_call=3, minimum_calls=3)
    policy = Policy(RateLimit(1, per=5), breaker, RateLimit(1, per=7))
    for _ in range(3):
        await h.call(policy, h.sleep, 3)
    assert breaker.metrics()["average_duration"] == pytest.approx(3)
    assert breaker.state == "open"


@pytest.mark.parametrize("options", [{}, {"failures": None, "failure_rate": 0.5, "minimum_calls": 3}])
@pytest.mark.parametrize("native", [False, True])
async def test_an_error_that_refuses_attributes_comes_out_and_counts(
    h: Harness, options: dict[str, Any], native: bool
) -> None:
    """Such as a frozen dataclass: the same object, with its own traceback."""

    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        status_code: int

    async def work() -> None:
        raise Frozen(503)

    policy = Policy(pybreaker.CircuitBreaker(fail_max=3) if native else CircuitBreaker(**{"failures": 3, **options}))
    for _ in range(3):
        with pytest.raises(Frozen) as caught:
            await h.call(policy, work)
        assert not [entry for entry in caught.traceback if "pybreaker" in str(entry.path)]
    assert policy.describe()["strategies"][0]["metrics"]["state"] == "open"


async def test_a_success_can_be_what_fills_the_window(h: Harness) -> None:
    """The rule is looked at after each outcome, also a good one."""
    breaker = CircuitBreaker(failures=None, failure_rate=0.5, window_calls=4)
    policy = Policy(breaker)
    await fail(h, policy, 3)
    await h.call(policy, fine)
    assert breaker.state == "open"


async def test_a_stream_is_not_slow_because_its_consumer_is(h: Harness) -> None:
    """What counts is when its first item came."""
    breaker = CircuitBreaker(failures=None, slow_call=2.0, minimum_calls=1)
    policy = Policy(breaker)

    def numbers() -> Iterator[int]:
        yield from range(3)

    async def later() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    if h.blocking:
        for _ in policy.stream(numbers):
            await h.sleep(1)
    else:
        async for _ in policy.stream(later):
            await h.sleep(1)
    assert breaker.state == "closed"
    assert breaker.metrics()["window"] == {"calls": 1, "failures": 0, "slow": 0}


async def test_slow_calls_open_it(h: Harness) -> None:
    """Calls that take slow_call seconds or longer count as slow; enough of them open it."""
    breaker = CircuitBreaker(failures=None, slow_call=2.0, slow_rate=0.5, window_calls=4)
    policy = Policy(breaker)

    async def work(seconds: float) -> None:
        await h.sleep(seconds)

    for seconds in (0.1, 0.1, 2.0):
        await h.call(policy, work, seconds)
    assert breaker.state == "closed"
    await h.call(policy, work, 3.0)
    assert breaker.state == "open"


async def test_shadow_reports_and_lets_through(h: Harness) -> None:
    """shadow=True changes state and tells whom it would have refused, and refuses nobody."""
    breaker = CircuitBreaker("b", failures=1, shadow=True)
    policy, seen = Policy(breaker), Events()
    policy.observe(seen)
    await fail(h, policy)
    assert breaker.state == "open"
    assert await h.call(policy, fine) == "fine"
    (rejected,) = seen.of(CallRejected)
    assert (rejected.shadow, rejected.name, rejected.strategy) == (True, "b", "circuit_breaker")
    assert [event.shadow for event in seen.of(CircuitOpened)] == [True]


async def test_by_hand(h: Harness) -> None:
    """open, half_open and close by hand mean what they say."""
    breaker = CircuitBreaker(reset_timeout=10)
    policy = Policy(breaker)
    breaker.open()
    with pytest.raises(CircuitOpenError, match="opened by hand"):
        await h.call(policy, fine)
    breaker.half_open()
    assert breaker.state == "half-open"
    breaker.open()
    breaker.close()
    assert await h.call(policy, fine) == "fine"


async def test_a_stream_is_one_outcome(h: Harness) -> None:
    """A stream that breaks is one failure when it breaks, one that is left early is neutral."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)

    if h.blocking:

        def broken() -> Iterator[int]:
            yield 1
            raise ConnectionError("cut")

        stream = policy(broken)()
        assert next(stream) == 1
        stream.close()
        assert breaker.state == "closed"
        with pytest.raises(ConnectionError):
            list(policy(broken)())
    else:

        async def abroken() -> Any:
            yield 1
            raise ConnectionError("cut")

        astream = policy(abroken)()
        assert await anext(astream) == 1
        await astream.aclose()
        assert breaker.state == "closed"
        with pytest.raises(ConnectionError):
            await h.items(policy(abroken)())
    assert breaker.state == "open"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_hang_behind_a_total_timeout_opens_it(runtime: str) -> None:
    """The cancellation that our own Timeout causes counts as a timeout in the breakers inside it."""
    breaker = CircuitBreaker(failures=2)
    policy = Policy(Timeout(1.0), breaker)

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await policy.acall(anyio.sleep, 60)
        assert breaker.state == "open"

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_attempt_cut_short_by_an_outer_limit_is_neutral(runtime: str) -> None:
    """An impatient caller does not open everybody's circuit: the attempt had less than its own limit. Nor does what an
    earlier attempt left of the total."""
    breaker = CircuitBreaker(failures=1)
    policy = Policy(breaker, Timeout(10.0))
    used = Policy(Timeout(1.0), breaker, Timeout(0.9))

    async def use_up() -> None:
        await anyio.sleep(0.5)
        await used.acall(anyio.sleep, 60)

    async def scenario() -> None:
        with deadline(1.0), pytest.raises(TimeoutError):
            await policy.acall(anyio.sleep, 60)
        with pytest.raises(TimeoutError):
            await Policy(Timeout(1.0)).acall(policy.acall, anyio.sleep, 60)
        with pytest.raises(TimeoutError):
            await Policy(Timeout(1.0)).acall(use_up)
        assert breaker.state == "closed"

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_limit_around_another_call_counts_where_the_attempt_has_none(runtime: str) -> None:
    """It had all the time that anybody gave it."""
    breaker = CircuitBreaker(failures=1)

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await Policy(Timeout(1.0)).acall(Policy(breaker).acall, anyio.sleep, 60)
        assert breaker.state == "open"

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_random_cancellation_never_changes_the_state_and_never_leaks(runtime: str) -> None:
    """100 calls cancelled at random times, in closed and in half-open: neither opened nor closed, and every permit came
    back."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, half_open_calls=3)
    policy = Policy(breaker)
    draw = random.Random(7)

    async def cancelled_calls() -> None:
        async def one() -> None:
            with anyio.move_on_after(draw.random()):
                await policy.acall(anyio.sleep, 60)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(quietly, one)

    async def quietly(work: Any) -> None:
        try:
            await work()
        except CircuitOpenError:
            pass

    async def scenario() -> None:
        await cancelled_calls()
        assert breaker.state == "closed"
        breaker.half_open()
        await cancelled_calls()
        assert breaker.state == "half-open"
        assert breaker.metrics()["probes"] == 0

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_half_open_admits_exactly_its_number_of_probes(runtime: str) -> None:
    """Of 50 concurrent callers in half-open exactly half_open_calls run."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, half_open_calls=3, successes=3)
    policy = Policy(breaker)
    ran, refused = [], []

    async def probe() -> None:
        ran.append(1)
        await anyio.sleep(1)

    async def caller() -> None:
        try:
            await policy.acall(probe)
        except CircuitOpenError as error:
            refused.append(error.retry_after)

    async def scenario() -> None:
        breaker.half_open()
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(caller)

    run_on(runtime, scenario)
    assert (len(ran), len(refused), breaker.state) == (3, 47, "closed")


def test_half_open_admits_exactly_its_number_of_probes_in_threads() -> None:
    """Of 50 threads in half-open exactly half_open_calls run."""
    breaker = CircuitBreaker(failures=1, half_open_calls=2, successes=2)
    breaker.half_open()
    policy, ran = Policy(breaker), []
    start, release = threading.Barrier(50), threading.Event()

    def probe() -> None:
        ran.append(1)
        assert release.wait(10)

    def caller() -> bool:
        start.wait(10)
        try:
            policy.call(probe)
        except CircuitOpenError:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        callers = [pool.submit(caller) for _ in range(50)]
        while sum(c.done() for c in callers) < 48:
            pass
        release.set()
        assert sum(c.result() for c in callers) == len(ran) == 2


def test_eight_threads_run_eight_at_a_time() -> None:
    """No lock is held while the function runs: eight threads meet inside it."""
    policy, meet = Policy(CircuitBreaker(failure_rate=0.5)), threading.Barrier(8)

    def function() -> None:
        meet.wait(10)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(policy.call, function) for _ in range(8)]:
            done.result()


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_result_of_an_earlier_era_is_dropped(runtime: str) -> None:
    """A success from before the outage does not close the circuit, a failure from before does not open it again."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)

    async def late(error: bool) -> None:
        await anyio.sleep(15)
        if error:
            raise ConnectionError

    async def quietly(error: bool) -> None:
        try:
            await policy.acall(late, error)
        except ConnectionError:
            pass

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(quietly, False)
            await anyio.sleep(1)
            breaker.open()
            await anyio.sleep(11)
            assert breaker.state == "half-open"
        assert breaker.state == "half-open"
        breaker.close()
        async with anyio.create_task_group() as group:
            group.start_soon(quietly, True)
            await anyio.sleep(1)
            breaker.open()
            breaker.close()
        assert breaker.state == "closed"

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_hung_probe_forfeits_its_permit(runtime: str) -> None:
    """After reset_timeout the next caller probes in its place, and what the hung one brings at last is dropped."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)

    async def hang() -> None:
        await anyio.sleep(25)
        raise ConnectionError

    async def hung() -> None:
        with pytest.raises(ConnectionError):
            await policy.acall(hang)

    async def scenario() -> None:
        breaker.half_open()
        async with anyio.create_task_group() as group:
            group.start_soon(hung)
            await anyio.sleep(9)
            with pytest.raises(CircuitOpenError, match="half-open and all its probes are taken") as caught:
                await policy.acall(fine)
            assert caught.value.retry_after == pytest.approx(1)
            await anyio.sleep(2)
            assert await policy.acall(fine) == "fine"
            assert breaker.state == "closed"
        assert breaker.state == "closed"

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize(("error", "state"), [(None, "closed"), (ConnectionError, "open")])
def test_a_probe_that_lost_its_permit_still_tells_what_it_found(
    runtime: str, error: type[Exception] | None, state: str
) -> None:
    """Else a dependency slower than `reset_timeout` would never close its circuit while others come to probe."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    policy = Policy(breaker)

    async def slow() -> None:
        await anyio.sleep(12)
        if error is not None:
            raise error

    async def probe() -> None:
        with contextlib.suppress(ConnectionError):
            await policy.acall(slow)

    async def scenario() -> None:
        breaker.half_open()
        async with anyio.create_task_group() as group:
            group.start_soon(probe)
            await anyio.sleep(11)
            group.start_soon(policy.acall, anyio.sleep, 5)
            await anyio.sleep(0.5)
            assert breaker.state == "half-open"
            await anyio.sleep(1)
            assert breaker.state == state
        assert breaker.state == state

    run_on(runtime, scenario)


def test_transitions_are_told_once_and_in_order_under_threads() -> None:
    """Whatever the threads do, each event's from-state is its predecessor's to-state."""
    breaker = CircuitBreaker(failures=1, reset_timeout=1e-6)
    policy, seen = Policy(breaker), Events()
    policy.observe(seen)
    draw = random.Random(3)

    def flaky() -> None:
        if draw.random() < 0.5:
            raise ConnectionError

    def hammer() -> None:
        for _ in range(300):
            try:
                policy.call(flaky)
            except (ConnectionError, CircuitOpenError):
                pass

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(hammer) for _ in range(8)]:
            done.result()
    changes = seen.of(CircuitChanged)
    assert len(changes) == breaker.metrics()["transitions"] > 10
    assert [c.from_state for c in changes[1:]] == [c.to_state for c in changes[:-1]]


def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the call goes on."""

    def broken(event: object) -> None:
        raise RuntimeError("observer")

    policy = Policy(CircuitBreaker(failures=1))
    policy.observe(broken)
    assert [policy.call(lambda: 1) for _ in range(3)] == [1, 1, 1]
    assert len(caplog.records) == 1


class TestNative:
    """A pybreaker object as a strategy."""

    def native(self, **options: Any) -> pybreaker.CircuitBreaker:
        return pybreaker.CircuitBreaker(**{"fail_max": 2, "reset_timeout": 10, "name": "native", **options})

    async def test_it_opens_refuses_and_recovers(self, h: Harness) -> None:
        """Its own threshold and timeout hold; its tripping call keeps the user's error."""
        native = self.native()
        policy = Policy(native)
        await fail(h, policy, 2)
        assert native.current_state == "open"
        with pytest.raises(CircuitOpenError, match="'native' is open after 2 failures"):
            await h.call(policy, fine)
        await h.sleep(10)
        await h.call(policy, fine)
        assert native.current_state == "closed"

    async def test_what_it_excludes_is_neutral(self, h: Harness) -> None:
        """An excluded error neither resets the count nor closes a half-open circuit (in pybreaker it is a success)."""
        native = self.native(exclude=[LookupError])
        policy = Policy(native)
        await fail(h, policy)
        await fail(h, policy, 1, LookupError)
        await fail(h, policy)
        assert native.current_state == "open"
        await h.sleep(10)
        await fail(h, policy, 1, LookupError)
        assert native.current_state == "half-open"

    async def test_its_listeners_hear_everything_and_break_nothing(
        self, h: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They hear of successes, failures and each transition once, in order; one that raises is logged once."""
        heard: list[str] = []

        class Listener(pybreaker.CircuitBreakerListener):
            def success(self, cb: Any) -> None:
                heard.append("success")

            def failure(self, cb: Any, exc: BaseException) -> None:
                heard.append(type(exc).__name__)

            def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
                heard.append(new_state.name)
                raise RuntimeError("listener")

        listener = Listener()
        native = self.native(listeners=[listener])
        policy = Policy(native)
        await h.call(policy, fine)
        await fail(h, policy, 2)
        await h.sleep(10)
        await h.call(policy, fine)
        assert heard == ["success", "ConnectionError", "ConnectionError", "open", "half-open", "closed", "success"]
        assert native.current_state == "closed"
        assert len(caplog.records) == 1
        shield, again = (one for _ in range(2) for one in native.listeners if one == listener)
        assert shield == again
        native.remove_listener(listener)

    async def test_its_listeners_hear_of_an_error_that_counts_as_false(self, h: Harness) -> None:
        """An error may have a length of its own, as a list of errors has, or refuse to be asked."""

        class Errors(Exception):
            def __bool__(self) -> bool:
                raise RuntimeError("bool")

        heard: list[BaseException] = []

        class Listener(pybreaker.CircuitBreakerListener):
            def failure(self, cb: Any, exc: BaseException) -> None:
                heard.append(exc)

        error = Errors()

        async def function() -> None:
            raise error

        with pytest.raises(Errors):
            await h.call(Policy(self.native(listeners=[Listener()])), function)
        assert heard == [error]

    async def test_one_object_is_one_circuit(self, h: Harness) -> None:
        """Two policies with the same object share its state, also when it is opened directly."""
        native = self.native()
        one, other = Policy(native), Policy(native)
        await fail(h, one)
        await fail(h, other)
        with pytest.raises(CircuitOpenError):
            await h.call(one, fine)
        native.close()
        assert await h.call(other, fine) == "fine"
        native.open()
        with pytest.raises(CircuitOpenError):
            await h.call(other, fine)

    def test_a_shared_storage_is_noticed(self, manual_clock: ManualClock) -> None:
        """A state that another object set in a shared storage counts here too."""
        storage = pybreaker.CircuitMemoryStorage("closed")
        here, elsewhere = self.native(state_storage=storage), self.native(state_storage=storage)
        elsewhere.open()
        with pytest.raises(CircuitOpenError):
            Policy(here).call(lambda: 1)
        elsewhere.close()
        assert Policy(here).call(lambda: 1) == 1

    def test_an_opening_that_is_noticed_late_counts_from_its_own_moment(self, manual_clock: ManualClock) -> None:
        """Where the circuit was closed here until then."""
        storage = pybreaker.CircuitMemoryStorage("closed")
        policy = Policy(self.native(state_storage=storage))
        assert policy.call(lambda: 1) == 1
        storage.opened_at = datetime.now(UTC) - timedelta(seconds=7)
        storage.state = "open"
        with pytest.raises(CircuitOpenError) as caught:
            policy.call(lambda: 1)
        assert caught.value.retry_after == pytest.approx(3, abs=0.5)

    def test_an_opening_here_counts_from_now(self, manual_clock: ManualClock) -> None:
        """Whatever the wall clock in force says, and what was noticed of others before."""
        storage = pybreaker.CircuitMemoryStorage("closed")
        policy = Policy(self.native(fail_max=1, state_storage=storage))

        def fails() -> None:
            raise ConnectionError

        with clock.replaced(wall=lambda: time.time() + 3600):
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    policy.call(fails)
                with pytest.raises(CircuitOpenError) as caught:
                    policy.call(lambda: 1)
                assert caught.value.retry_after == pytest.approx(10)
                storage.state = "closed"
                assert policy.call(lambda: 1) == 1

    async def test_an_error_keeps_its_cause(self, h: Harness) -> None:
        """What pybreaker is told of is not raised anew."""
        cause = KeyError()

        async def function() -> None:
            raise ConnectionError from cause

        with pytest.raises(ConnectionError) as caught:
            await h.call(Policy(self.native()), function)
        assert caught.value.__cause__ is cause

    async def test_a_gate_inside_changes_nothing(self, h: Harness) -> None:
        """Listeners are kept from the call, and storages looked at, all the same."""

        class Broken(pybreaker.CircuitBreakerListener):
            def failure(self, cb: Any, exc: BaseException) -> None:
                raise LookupError

        storage = pybreaker.CircuitMemoryStorage("closed")
        native = self.native(state_storage=storage)
        policy = Policy(native, Gate())
        native.add_listener(Broken())
        await fail(h, policy, 1)
        storage.state = "open"
        storage.opened_at = datetime.now(UTC)
        with pytest.raises(CircuitOpenError):
            await h.call(policy, fine)

    async def test_what_happened_past_the_policy_is_told_by_the_next_call(self, h: Harness) -> None:
        """Also by one that is refused: an alarm need not wait for the first probe."""
        native = self.native()
        policy = Policy(native)
        policy.observe(events := Events())
        await h.call(policy, fine)
        native.open()
        with pytest.raises(CircuitOpenError):
            await h.call(policy, fine)
        assert [event.to_state for event in events.of(CircuitChanged)] == ["open"]
        native.close()
        native.open()
        with pytest.raises(CircuitOpenError):
            await h.call(policy, fine)
        assert [event.to_state for event in events.of(CircuitChanged)] == ["open", "closed", "open"]

    def storage(self, age: timedelta | None, *, naive: bool = False) -> pybreaker.CircuitMemoryStorage:
        """One that says that the circuit opened so long ago."""
        storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_OPEN)
        if age is not None:
            opened = datetime.now(UTC) - age
            storage.opened_at = opened.replace(tzinfo=None) if naive else opened
        return storage

    @pytest.mark.parametrize("naive", [False, True])
    async def test_what_was_open_counts_from_its_opening(self, h: Harness, naive: bool) -> None:
        """A short-lived worker over a shared storage probes when the time is up, however lately it came to know."""
        native = self.native(state_storage=self.storage(timedelta(seconds=7), naive=naive))
        policy = Policy(native)
        with pytest.raises(CircuitOpenError) as caught:
            await h.call(policy, fine)
        assert caught.value.retry_after == pytest.approx(3, abs=0.5)
        await h.sleep(3)
        assert await h.call(policy, fine) == "fine"

    @pytest.mark.parametrize("age", [None, timedelta(hours=1)])
    async def test_what_has_been_open_for_long_is_probed_at_once(self, h: Harness, age: timedelta | None) -> None:
        """Likewise where the storage does not say since when, as in pybreaker itself."""
        native = self.native(state_storage=self.storage(age))
        assert await h.call(Policy(native), fine) == "fine"

    def test_an_opening_that_is_yet_to_come_counts_from_now(self, manual_clock: ManualClock) -> None:
        """The clock of the machine that wrote it may be ahead: nobody waits for longer than `reset_timeout`."""
        policy = Policy(self.native(state_storage=self.storage(timedelta(hours=-1))))
        with pytest.raises(CircuitOpenError) as caught:
            policy.call(lambda: 1)
        assert caught.value.retry_after == pytest.approx(10, abs=0.5)

    async def test_an_opening_elsewhere_counts(self, h: Harness) -> None:
        """Where another process has probed and failed meanwhile, the storage says "open" as before, but since later."""
        storage = self.storage(timedelta(seconds=9))
        policy = Policy(self.native(state_storage=storage))
        with pytest.raises(CircuitOpenError):
            await h.call(policy, fine)
        self.native(state_storage=storage).open()
        await h.sleep(2)
        with pytest.raises(CircuitOpenError) as caught:
            await h.call(policy, fine)
        assert caught.value.retry_after == pytest.approx(10, abs=0.5)  # real time, of which none passed

    async def test_options_that_change_count_at_once(self, h: Harness) -> None:
        """`reset_timeout` while it is open, in either direction, the threshold, the name."""
        native = self.native()
        policy = Policy(native)
        await fail(h, policy, 2)
        native.reset_timeout, native.name = 100, "renamed"
        await h.sleep(50)
        with pytest.raises(CircuitOpenError, match="'renamed' is open.* next probe in 50.0 s"):
            await h.call(policy, fine)
        native.reset_timeout = 20
        assert policy.describe()["strategies"][0]["metrics"]["state"] == "half-open"
        await h.call(policy, fine)
        native.fail_max = 1
        await fail(h, policy)
        assert native.current_state == "open"

    @pytest.mark.parametrize("name", ["_lock", "_state_storage"])
    def test_what_has_no_public_name_is_where_it_is_looked_for(self, name: str) -> None:
        """A release of pybreaker that keeps its lock or storage under another name fails here first; there, an object
        is refused rather than given a second lock."""
        assert hasattr(self.native(), name)
        moved = type("Moved", (pybreaker.CircuitBreaker,), {"__getattribute__": _hiding(name)})
        with pytest.raises(TypeError, match=f"this Moved of pybreaker has no {name}"):
            Policy(moved())

    def test_it_is_locked_with_its_own_lock(self) -> None:
        """One that keeps it in another place is guarded by that one, too."""

        class Elsewhere(pybreaker.CircuitBreaker):
            guard: Any

            @property
            def _lock(self) -> Any:
                return self.guard

            @_lock.setter
            def _lock(self, lock: Any) -> None:
                self.guard = lock

        native = Elsewhere()
        policy = Policy(native)
        with native.guard:
            assert not ends_elsewhere(lambda: policy.describe(), 0.1)
        assert ends_elsewhere(lambda: policy.describe())

    async def test_control_flow_is_neutral_whatever_it_excludes(self, h: Harness) -> None:
        """A refusal of ours tells nothing about the dependency, and stays what it is."""
        native = self.native(fail_max=1)
        await fail(h, Policy(native), 1, Rejected)
        assert (native.current_state, native.fail_counter) == ("closed", 0)

    def test_an_exception_from_outside_comes_out_as_itself(self) -> None:
        """Also from the midst of what pybreaker is told, where it would be replaced by its own error, or be lost."""

        class Striking(pybreaker.CircuitMemoryStorage):
            struck = False

            def increment_counter(self) -> None:
                super().increment_counter()
                self.strike()

            def reset_counter(self) -> None:
                super().reset_counter()
                self.strike()

            def strike(self) -> None:
                self.struck, struck = True, self.struck
                if not struck:
                    raise KeyboardInterrupt

        def work(error: Exception | None) -> None:
            if error is not None:
                raise error

        for error in (None, ConnectionError()):
            with pytest.raises(KeyboardInterrupt):
                Policy(self.native(fail_max=1, state_storage=Striking("closed"))).call(work, error)


def _hiding(name: str) -> Any:
    def look(self: Any, wanted: str) -> Any:
        if wanted == name and sys._getframe(1).f_globals["__name__"].startswith("resilient_agents"):
            raise AttributeError(wanted)
        return object.__getattribute__(self, wanted)

    return look


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failures": 0}, "failures must be"),
        ({"failures": None}, "would never open"),
        ({"failure_rate": 1.5}, "failure_rate must be .* got 1.5"),
        ({"slow_call": 1, "slow_rate": 0}, "slow_rate must be"),
        ({"slow_rate": 0.5}, "slow_rate needs slow_call"),
        ({"name": 5}, r"name must be .* failures=5, perhaps"),
        ({"reset_timeout": 0}, "reset_timeout must be"),
        ({"reset_timeout": 10, "max_reset_timeout": 5}, "max_reset_timeout must be at least"),
        ({"half_open_calls": 0}, "half_open_calls must be"),
        ({"successes": 0}, "successes must be"),
        ({"window": -1}, "window must be"),
        ({"name": ""}, "name must be"),
        ({"open_for": "ever"}, 'open_for must be "retry_after" or None, got .ever'),
    ],
)
def test_bad_options_fail_when_built(options: dict[str, Any], message: str) -> None:
    """The error names the argument, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        CircuitBreaker(**options)


def test_a_second_live_breaker_of_the_same_name_warns() -> None:
    """Two objects of one name are two circuits, which is rarely meant; once the first is gone there is nothing to
    say."""
    first = CircuitBreaker("twin")
    with pytest.warns(RuntimeWarning, match="second live CircuitBreaker named 'twin'") as warned:
        second = CircuitBreaker("twin")
    assert warned[0].filename == __file__
    del first, second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CircuitBreaker("twin")


def test_a_breaker_that_nobody_has_is_gone_at_once() -> None:
    """Not only when the garbage collector comes: until then health would show it, and its name would be in use."""
    breaker = CircuitBreaker("dropped", failures=1)
    breaker.open()
    gone = weakref.ref(breaker)
    gc.disable()
    try:
        del breaker
        assert gone() is None
    finally:
        gc.enable()


def test_it_says_why_it_cannot_be_pickled() -> None:
    """Live state does not travel between processes."""
    for breaker in (CircuitBreaker(), pybreaker.CircuitBreaker()):
        with pytest.raises(TypeError, match="live state"):
            pickle.dumps(Policy(breaker))


def test_cancelled_tasks_of_plain_asyncio_are_neutral() -> None:
    """`task.cancel()` neither counts nor is replaced."""
    breaker = CircuitBreaker(failures=1)

    async def scenario() -> None:
        task = asyncio.create_task(Policy(breaker).acall(asyncio.sleep, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert breaker.state == "closed"


async def test_an_agent_and_its_tool_may_share_a_breaker(h: Harness) -> None:
    """A call inside a probe needs no permit of its own: the outer call's outcome decides, and the circuit recovers."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    tool, agent = Policy(breaker), Policy(breaker)

    async def run() -> str:
        return str(await h.call(tool, fine))

    await fail(h, agent)
    await h.sleep(10)
    assert await h.call(agent, run) == "fine"
    assert (breaker.state, breaker.metrics()["probes"]) == ("closed", 0)


async def test_a_predicate_that_raises_leaks_no_permit(h: Harness) -> None:
    """Its error comes out, from the user's own; the outcome is neutral."""

    def broken(about: object) -> bool:
        raise LookupError("predicate")

    for breaker in (
        CircuitBreaker(on=broken),
        CircuitBreaker(when=broken),
        pybreaker.CircuitBreaker(exclude=[broken]),
    ):
        breaker.half_open()
        policy = Policy(breaker)
        for _ in range(2):
            with pytest.raises(LookupError, match="predicate") as caught:
                await h.call(policy, fine if getattr(breaker, "when", None) else down)
            assert caught.value.__context__ is None or isinstance(caught.value.__context__, ConnectionError)


async def test_ordered_into_its_own_state_it_does_not_change(h: Harness) -> None:
    """Opening what is open only renews the time: no event, no transition, no longer timeout."""
    breaker = CircuitBreaker(reset_timeout=10, max_reset_timeout=80)
    for _ in range(3):
        breaker.open()
    assert (breaker.metrics()["transitions"], breaker.retry_after) == (1, 10)
    for _ in range(3):
        breaker.close()
    assert breaker.metrics()["transitions"] == 2


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_on_and_exclude_are_asked_about_expired_limits_too(runtime: str) -> None:
    """A limit outside the breaker cancels, one inside raises: the verdict is the same."""
    native = pybreaker.CircuitBreaker(fail_max=1, exclude=[TimeoutError])
    chosen = CircuitBreaker(failures=1, on=KeyError)

    async def scenario() -> None:
        for breaker in (native, chosen):
            with pytest.raises(TimeoutError):
                await Policy(Timeout(1), breaker).acall(anyio.sleep, 5)
        assert (native.current_state, chosen.state) == ("closed", "closed")

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("attempt", [1.0, 5.0])
def test_a_hang_for_the_whole_total_limit_counts(runtime: str, attempt: float) -> None:
    """An attempt limit as long as the total or longer takes nothing away: the attempt had all there was."""
    breaker = CircuitBreaker(failures=2)

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await Policy(Timeout(1), breaker, Timeout(attempt)).acall(anyio.sleep, 60)
        assert breaker.state == "open"

    run_on(runtime, scenario)


def test_a_native_breaker_used_directly_at_the_same_time_deadlocks_nobody() -> None:
    """There is one lock, pybreaker's own."""
    native = pybreaker.CircuitBreaker(fail_max=10**6)
    policy = Policy(native)

    def flaky() -> None:
        if random.random() < 0.5:
            raise ConnectionError

    def through() -> None:
        for _ in range(200):
            try:
                native.call(policy.call, flaky)
            except ConnectionError:
                pass

    def beside() -> None:
        for _ in range(200):
            try:
                policy.call(flaky)
            except ConnectionError:
                pass

    threads = [threading.Thread(target=work, daemon=True) for work in (through, beside, through, beside)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
