"""`metrics()` of breakers, retries, bulkheads and rate limits: what they count, and that they count it exactly."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import random
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

import anyio
import pybreaker
import pytest
import tenacity

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Policy,
    RateLimit,
    RateLimitedError,
    Retry,
    deadline,
    fixed,
    http_failure,
)
from resilient_agents.adapters.circuit_states import Closed, Rules
from resilient_agents.adapters.counts import LimitCounts, RetryCounts
from resilient_agents.adapters.outcomes import Outcomes
from resilient_agents.base.clock import clock
from tests.conftest import Harness, ManualClock, run_on
from tests.interruptions import interrupt_everywhere

THREADS = 16


class Overloaded(Exception):
    status_code = 503


class Throttled(Exception):
    status_code = 429


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


async def fine() -> str:
    return "fine"


async def fail(error: Exception) -> None:
    raise error


async def failing(h: Harness, policy: Policy, *errors: Exception) -> None:
    for error in errors:
        with pytest.raises(type(error)):
            await h.call(policy, fail, error)


def hammer(work: Callable[[random.Random], None], each: int, watch: Callable[[], None]) -> None:
    """Run `work` in many threads, `each` times in each, and `watch` all the while."""
    running = threading.Barrier(THREADS + 1)
    faults: list[BaseException] = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        running.wait()
        try:
            for _ in range(each):
                work(chance)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    running.wait()
    while any(thread.is_alive() for thread in threads):
        watch()
    for thread in threads:
        thread.join()
    assert faults == []


# ---------------------------------------------------------------------------------------------- circuit breaker


async def test_a_breaker_counts_outcomes_by_their_verdict(h: Harness) -> None:
    """Calls are successes, failures and neutral ones; what was refused is no call."""
    breaker = CircuitBreaker(failures=2, reset_timeout=30)
    policy = Policy(breaker)
    await h.call(policy, fine)
    await failing(h, policy, Overloaded(), Throttled(), ConnectionError())
    with pytest.raises(CircuitOpenError):
        await h.call(policy, fine)
    await h.sleep(10)
    found = breaker.metrics()
    counted = {name: found[name] for name in ("calls", "successes", "failures", "neutral", "rejections", "transitions")}
    assert counted == {"calls": 4, "successes": 1, "failures": 2, "neutral": 1, "rejections": 1, "transitions": 1}
    assert (found["state"], found["retry_after"]) == ("open", pytest.approx(20))
    assert (found["consecutive_failures"], found["window"], found["probes"]) == (0, None, 0)
    await h.sleep(20)
    assert (breaker.metrics()["state"], breaker.metrics()["retry_after"]) == ("half-open", None)


async def test_a_breaker_tells_rates_and_durations_of_its_window(h: Harness) -> None:
    """Average and 99th percentile are of the calls of the last `window` seconds."""
    breaker = CircuitBreaker(failures=1_000, window=150)
    policy = Policy(breaker)
    assert [breaker.metrics()[name] for name in ("failure_rate", "average_duration", "p99_duration")] == [None] * 3
    await h.call(policy, h.sleep, 100)
    await failing(h, policy, ConnectionError(), Throttled())
    for _ in range(2):
        await h.call(policy, h.sleep, 10)
    found = breaker.metrics()
    assert (found["failure_rate"], found["average_duration"], found["p99_duration"]) == (0.25, 30, 100)
    assert found["slow_rate"] is None
    await h.sleep(140)
    assert breaker.metrics()["average_duration"] == 10
    await h.sleep(20)
    assert breaker.metrics()["p99_duration"] is None


async def test_a_breaker_that_counts_calls_tells_of_the_last_so_many(h: Harness) -> None:
    """With `window_calls` figures are those of the last calls, however long ago."""
    breaker = CircuitBreaker(failures=None, failure_rate=1, window_calls=3, slow_call=5)
    policy = Policy(breaker)
    for seconds in (100, 1, 1, 7):
        await h.call(policy, h.sleep, seconds)
    await h.sleep(1_000)
    found = breaker.metrics()
    assert (found["average_duration"], found["p99_duration"]) == (3, 7)
    assert found["slow_rate"] == pytest.approx(1 / 3)
    assert found["window"] == {"calls": 3, "failures": 0, "slow": 1}


async def test_the_99th_percentile_leaves_one_in_a_hundred_out(h: Harness) -> None:
    """It is the nearest rank: of 200 calls, the second slowest but one."""
    breaker = CircuitBreaker(window_calls=200)
    policy = Policy(breaker)
    for seconds in range(200):
        await h.call(policy, h.sleep, seconds)
    assert breaker.metrics()["p99_duration"] == 197


async def test_queueing_is_not_part_of_a_duration(h: Harness) -> None:
    """What a call waits for inside is not how long the dependency took."""
    breaker = CircuitBreaker()
    policy = Policy(breaker, RateLimit(1, per=10))
    for _ in range(2):
        await h.call(policy, h.sleep, 1)
    assert breaker.metrics()["average_duration"] == pytest.approx(1)


async def test_recent_failures_are_time_kind_and_status(h: Harness) -> None:
    """The last fifty, the newest last; nothing of their messages."""
    breaker = CircuitBreaker(failures=1_000, when=http_failure)
    policy = Policy(breaker)
    before = time.time()
    await failing(h, policy, *[ConnectionError("secret")] * 60, Overloaded("secret"), Throttled())

    async def answer() -> Response:
        return Response(500)

    await h.call(policy, answer)
    recent = breaker.metrics()["recent_failures"]
    assert [failure[1:] for failure in recent] == [("connection", None)] * 48 + [("overload", 503), ("server", 500)]
    assert all(before <= at <= time.time() for at, _, _ in recent)
    assert "secret" not in json.dumps(breaker.metrics())


async def test_a_stream_is_one_call(h: Harness) -> None:
    """It counts when it ends; what it took is the time until its first item, as the rest is its consumer's pace."""
    breaker = CircuitBreaker()
    policy = Policy(breaker)

    def numbers() -> Iterator[int]:
        clock.sleep(2)
        yield 1
        assert breaker.metrics()["calls"] == 0
        clock.sleep(3)

    async def later() -> AsyncIterator[int]:
        await h.sleep(2)
        yield 1
        assert breaker.metrics()["calls"] == 0
        await h.sleep(3)

    assert await h.items(policy.stream(numbers if h.blocking else later)) == [1]
    found = breaker.metrics()
    assert (found["calls"], found["successes"], found["average_duration"]) == (1, 1, 2)


async def test_a_busy_breaker_times_one_call_in_31_and_counts_all(h: Harness) -> None:
    """Beyond a thousand calls a second durations are a sample; counts never are. In a quiet one all are timed again."""
    breaker = CircuitBreaker(failures=10, window_calls=101)
    policy = Policy(breaker)
    for _ in range(1_000):
        await h.call(policy, fine)
    for _ in range(3_100):
        await h.call(policy, h.sleep, 0.0001)
    found = breaker.metrics()
    assert found["average_duration"] == pytest.approx(0.0001 * 100 / 101)
    assert (found["calls"], found["successes"]) == (4_100, 4_100)
    await h.sleep(100)
    for _ in range(31):  # all but one of which may be left out
        await h.call(policy, fine)
    for _ in range(101):
        await h.call(policy, h.sleep, 1)
    assert breaker.metrics()["average_duration"] == pytest.approx(1)


def test_queueing_outside_of_a_breaker_is_not_taken_off_what_is_inside(manual_clock: ManualClock) -> None:
    """Only what a call waited for since it came to the breaker is."""
    breaker = CircuitBreaker()
    policy = Policy(CircuitBreaker(), RateLimit(1, per=5), breaker)
    for seconds in (0, 3):
        policy.call(manual_clock.sleep, seconds)
    assert breaker.metrics()["p99_duration"] == 3


def test_a_cancelled_call_is_neutral() -> None:
    """It says nothing of the dependency, and is counted."""
    breaker = CircuitBreaker()

    async def scenario() -> None:
        with anyio.move_on_after(1):
            await Policy(breaker).acall(anyio.sleep, 9)

    run_on("asyncio", scenario)
    assert (breaker.metrics()["neutral"], breaker.metrics()["calls"]) == (1, 1)


def test_a_call_that_queued_is_no_second_rejection_in_shadow() -> None:
    """It was let in while the circuit was closed, and is asked no more."""
    breaker = CircuitBreaker(failures=1, shadow=True)
    policy = Policy(breaker, Bulkhead(1))

    async def break_down() -> None:
        await anyio.sleep(1)
        raise ConnectionError

    async def call(work: Callable[..., Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await policy.acall(work)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for work in (break_down, fine):
                group.start_soon(call, work)
                await anyio.wait_all_tasks_blocked()

    run_on("asyncio", scenario)
    assert (breaker.metrics()["state"], breaker.metrics()["rejections"]) == ("open", 0)


async def test_a_busy_breaker_misses_no_slow_call(h: Harness) -> None:
    """Where slow calls matter all are timed, however many there are."""
    policy = Policy(
        breaker := CircuitBreaker(failures=None, slow_call=1, slow_rate=0.5, window_calls=4, minimum_calls=4)
    )
    for _ in range(1_100):
        await h.call(policy, fine)
    for _ in range(2):
        await h.call(policy, h.sleep, 2)
    assert breaker.state == "open"


async def test_a_busy_breaker_that_minds_slow_calls_keeps_one_time_in_31(h: Harness) -> None:
    """All are timed, to tell the slow ones; what is shown is a sample all the same."""
    policy = Policy(breaker := CircuitBreaker(window_calls=101, slow_call=99))
    for _ in range(1_000):
        await h.call(policy, fine)
    for _ in range(310):
        await h.call(policy, h.sleep, 0.0001)
    assert breaker.metrics()["average_duration"] == pytest.approx(0.0001 * 10 / 101, rel=0.1)


async def test_a_breaker_with_fewer_than_a_thousand_calls_a_second_times_them_all(h: Harness) -> None:
    """That many in a second and a half are not yet too many."""
    policy = Policy(breaker := CircuitBreaker(window_calls=20))
    for _ in range(1_000):
        await h.call(policy, h.sleep, 0.0015)
    for _ in range(20):
        await h.call(policy, h.sleep, 1)
    assert breaker.metrics()["average_duration"] == pytest.approx(1)


@pytest.mark.parametrize("options", [{}, {"slow_call": 99}, {"failure_rate": 1}])
async def test_a_sample_has_its_share_of_failures(h: Harness, options: dict[str, Any]) -> None:
    """Whether a call is timed does not depend on how it ends, nor on how the one before it did."""
    breaker = CircuitBreaker(failures=10**6, window_calls=500, minimum_calls=10**6, **options)
    policy = Policy(breaker)
    draw = random.Random(5)

    async def work() -> None:
        failed = draw.random() < 0.3
        await h.sleep(0.0003 if failed else 0.0001)
        if failed:
            raise ConnectionError

    for _ in range(1_000):
        await h.call(policy, fine)
    for _ in range(600 * 31):
        with contextlib.suppress(ConnectionError):
            await h.call(policy, work)
    share = (breaker.metrics()["average_duration"] - 0.0001) / 0.0002
    assert share == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("options", [{}, {"slow_call": 99}, {"failure_rate": 1}])
async def test_a_sample_of_calls_that_alternate_has_both_kinds(h: Harness, options: dict[str, Any]) -> None:
    """A program that does two things in turn, however often, sees what both of them take and how both end."""
    breaker = CircuitBreaker(failures=10**6, window_calls=500, minimum_calls=10**6, **options)
    policy = Policy(breaker)
    number = 0

    async def work() -> None:
        nonlocal number
        number += 1
        await h.sleep(0.0003 if number % 4 < 2 else 0.0001)
        if number % 2:
            raise ConnectionError

    for _ in range(1_000 + 600 * 31):
        with contextlib.suppress(ConnectionError):
            await h.call(policy, work)
    assert breaker.metrics()["failure_rate"] == pytest.approx(0.5, abs=0.05)
    assert breaker.metrics()["average_duration"] == pytest.approx(0.0002, rel=0.1)


async def test_a_busy_breaker_that_is_told_to_mind_slow_calls_times_them_all(h: Harness) -> None:
    """A reload may bring `slow_call` to a circuit that timed one call in many until then: the first slow one counts."""
    breaker = CircuitBreaker()
    policy = Policy(breaker)
    for _ in range(1_500):
        await h.call(policy, fine)
    breaker.reconfigure(CircuitBreaker(failures=None, slow_call=1, minimum_calls=3))
    for _ in range(3):
        await h.call(policy, h.sleep, 2)
    assert breaker.state == "open"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_call_that_is_refused_after_it_queued_is_a_rejection_and_no_call(runtime: str) -> None:
    """It had been admitted, waited for a slot, and found the circuit open: it counts once."""
    breaker, bulkhead = CircuitBreaker(failures=1), Bulkhead(1)
    policy = Policy(breaker, bulkhead)

    async def break_down() -> None:
        await anyio.sleep(1)
        raise ConnectionError

    async def expect(kind: type[Exception], work: Callable[..., Any]) -> None:
        with pytest.raises(kind) as raised:
            await policy.acall(work)
        assert getattr(raised.value, "retry_after", 30) == 30

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for kind, work in ((ConnectionError, break_down), *[(CircuitOpenError, fine)] * 3):
                group.start_soon(expect, kind, work)
                await anyio.wait_all_tasks_blocked()

    run_on(runtime, scenario)
    found = breaker.metrics()
    assert (found["calls"], found["failures"], found["neutral"], found["rejections"]) == (1, 1, 0, 3)
    assert (bulkhead.metrics()["calls"], bulkhead.in_use) == (1, 0)


def test_a_reset_in_the_midst_of_a_call_breaks_nothing() -> None:
    """A call that succeeds notes its duration without the lock, so a reset may come between any two steps of that."""
    outcomes = Outcomes()

    class Interrupted(deque[tuple[float, float, bool]]):
        def __len__(self) -> int:
            length = super().__len__()
            outcomes.reset()
            return length

    outcomes._durations = Interrupted([(0.0, 0.0, False)] * 999, 1_000)
    outcomes.keep(Closed(), Rules(), 0.0, 0.0, failed=False)
    assert outcomes.figures(0.0, Rules())["average_duration"] is None


async def test_what_the_rules_look_at_is_that_of_the_moment(h: Harness) -> None:
    """Failures in a row while it is closed, probes while they are out."""
    breaker = CircuitBreaker(failures=3, reset_timeout=10)
    policy = Policy(breaker)
    await failing(h, policy, ConnectionError(), ConnectionError())
    assert breaker.metrics()["consecutive_failures"] == 2
    await failing(h, policy, ConnectionError())
    assert breaker.metrics()["consecutive_failures"] == 0
    await h.sleep(10)
    probing: list[int] = []

    async def probe() -> None:
        probing.append(breaker.metrics()["probes"])

    await h.call(policy, probe)
    assert (probing, breaker.metrics()["probes"]) == ([1], 0)


async def test_rates_that_a_rule_looks_at_are_of_all_calls_in_the_window(h: Harness) -> None:
    """Though durations keep only the newest thousand."""
    breaker = CircuitBreaker(failures=None, failure_rate=1, slow_call=5, window=10_000, minimum_calls=10**6)
    policy = Policy(breaker)
    await failing(h, policy, *[ConnectionError()] * 50)
    for _ in range(150):
        await h.call(policy, h.sleep, 5)
    for _ in range(1_800):
        await h.call(policy, fine)
    found = breaker.metrics()
    assert found["window"]["calls"] == 2_000
    assert (found["failure_rate"], found["slow_rate"]) == (50 / 2_000, 150 / 2_000)


@pytest.mark.parametrize("options", [{}, {"window_calls": 200}])
@pytest.mark.parametrize("opened", [True, False])
async def test_closing_begins_the_window_anew(h: Harness, options: dict[str, Any], opened: bool) -> None:
    """The rate that is shown is the one that the rule looks at, whatever was before the circuit closed, or was told to
    while it was."""
    breaker = CircuitBreaker(failures=None, failure_rate=0.5, minimum_calls=10, **options)
    policy = Policy(breaker)
    for _ in range(100):
        await h.call(policy, fine)
    if opened:
        breaker.open()
        assert breaker.metrics()["window"] is None
    breaker.close()
    assert breaker.metrics()["failure_rate"] is None
    await failing(h, policy, *[ConnectionError()] * 10)
    found = breaker.metrics()
    assert (found["state"], found["failure_rate"]) == ("open", 1.0)
    assert (found["calls"], found["successes"]) == (110, 100)


async def test_metrics_can_be_reset(h: Harness) -> None:
    """Counts and durations begin anew; the state, by which it decides, stays."""
    breaker = CircuitBreaker(failures=1)
    policy = Policy(breaker)
    await h.call(policy, fine)
    await failing(h, policy, ConnectionError())
    with pytest.raises(CircuitOpenError):
        await h.call(policy, fine)
    breaker.reset_metrics()
    found = breaker.metrics()
    assert found["state"] == "open"
    assert {found[name] for name in ("calls", "failures", "successes", "rejections", "transitions")} == {0}
    assert found["recent_failures"] == []


@pytest.mark.parametrize("options", [{}, {"failure_rate": 1, "window": 0.001}, {"slow_call": 9}])
def test_a_breaker_counts_exactly_under_threads(options: dict[str, Any]) -> None:
    """Sixteen threads lose no outcome, and in every snapshot calls are the sum of what they were."""
    breaker = CircuitBreaker(**{"failures": 10**9, "minimum_calls": 10**9, **options})
    policy = Policy(breaker)
    expected = {"successes": 0, "failures": 0, "neutral": 0}
    counting = threading.Lock()

    @policy
    def work(outcome: str) -> None:
        if outcome == "failures":
            raise ConnectionError
        if outcome == "neutral":
            raise Throttled

    def one(chance: random.Random) -> None:
        outcome = chance.choice(["successes", "successes", "successes", "failures", "neutral"])
        try:
            work(outcome)
        except (ConnectionError, Throttled):
            pass
        with counting:
            expected[outcome] += 1

    seen = [0]

    def watch() -> None:
        found = breaker.metrics()
        assert found["calls"] == found["successes"] + found["failures"] + found["neutral"] >= seen[0]
        seen[0] = found["calls"]

    hammer(one, 200, watch)
    assert {name: breaker.metrics()[name] for name in expected} == expected
    assert breaker.metrics()["calls"] == THREADS * 200


async def test_a_native_breaker_counts_too(h: Harness) -> None:
    """pybreaker counts failures in a row only; through a policy it has the metrics of ours."""
    native = pybreaker.CircuitBreaker(fail_max=5)
    policy = Policy(native)
    await h.call(policy, fine)
    await failing(h, policy, ConnectionError())
    (described,) = policy.describe()["strategies"]
    found = described["metrics"]
    assert (found["calls"], found["successes"], found["failures"]) == (2, 1, 1)


# -------------------------------------------------------------------------------------------------------- retry


async def test_a_retry_tells_what_it_saved(h: Harness) -> None:
    """The share of the operations that a second or later attempt brought home."""
    retry = Retry(2, wait=fixed(1))
    policy = Policy(retry)
    outcomes: list[Exception | None] = [None, ConnectionError(), None, ConnectionError(), ConnectionError(), KeyError()]

    async def work() -> None:
        error = outcomes.pop(0)
        if error is not None:
            raise error

    await h.call(policy, work)
    await h.call(policy, work)
    for error in (ConnectionError, KeyError):
        with pytest.raises(error):
            await h.call(policy, work)
    assert retry.metrics() == {
        "calls": 4,
        "successes": 2,
        "failures": 2,
        "neutral": 0,
        "attempts": 6,
        "retries": 2,
        "saved": 1,
        "saved_rate": 0.25,
    }
    retry.reset_metrics()
    assert (retry.metrics()["calls"], retry.metrics()["saved_rate"]) == (0, None)


async def test_a_result_that_was_never_good_is_a_failure(h: Harness) -> None:
    """A retry that ends with a result which `when` rejects has failed, one that ends with another has not."""
    retry = Retry(2, when=http_failure, wait=fixed(1))
    policy = Policy(retry)
    answers = [500, 500, 500, 200, 200]

    async def work() -> Response:
        return Response(answers.pop(0))

    for _ in range(3):
        await h.call(policy, work)
    found = retry.metrics()
    assert (found["failures"], found["successes"], found["saved"], found["attempts"]) == (1, 2, 1, 5)


async def test_operations_that_end_alike_are_all_counted(h: Harness) -> None:
    """The first of a kind, and those after it."""
    retry = Retry(2, wait=fixed(1))
    await failing(h, Policy(retry), *[ConnectionError()] * 3)
    found = retry.metrics()
    assert (found["calls"], found["failures"], found["attempts"], found["saved_rate"]) == (3, 3, 6, 0)


async def test_a_reset_forgets_every_count_of_a_retry(h: Harness) -> None:
    """Also those of failures and of further attempts."""
    retry = Retry(2, wait=fixed(1))
    await failing(h, Policy(retry), ConnectionError())
    assert (retry.metrics()["failures"], retry.metrics()["retries"]) == (1, 1)
    retry.reset_metrics()
    assert set(retry.metrics().values()) == {0, None}


async def test_a_result_that_a_tenacity_object_takes_is_a_success(h: Harness) -> None:
    """Where the result has to be judged first, too."""
    retry = Retry(3, when=tenacity.retry_if_result(lambda result: result != "fine"), wait=fixed(1))
    await h.call(Policy(retry), fine)
    assert (retry.metrics()["successes"], retry.metrics()["failures"]) == (1, 0)


async def test_an_operation_that_the_deadline_ends_is_a_failure(h: Harness) -> None:
    """The attempt that it made counts, the one that there was no time for does not."""
    retry = Retry(3, wait=fixed(10))
    with deadline(5):
        await failing(h, Policy(retry), ConnectionError())
    found = retry.metrics()
    assert (found["failures"], found["neutral"], found["attempts"]) == (1, 0, 1)


def test_an_operation_that_slept_past_its_deadline_is_a_failure(manual_clock: ManualClock) -> None:
    """Whatever made it sleep for so long."""
    retry = Retry(3, wait=fixed(1), before_sleep=lambda state: manual_clock.sleep(10))

    def work() -> None:
        raise ConnectionError

    with deadline(5), pytest.raises(ConnectionError):
        Policy(retry).call(work)
    assert (retry.metrics()["failures"], retry.metrics()["neutral"]) == (1, 0)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_cancelled_operation_is_neutral(runtime: str) -> None:
    """Cancelled between its attempts it is no failure; the attempt that it made counts."""
    retry = Retry(3, wait=fixed(10))

    async def scenario() -> None:
        with anyio.move_on_after(5):
            await Policy(retry).acall(fail, ConnectionError())

    run_on(runtime, scenario)
    found = retry.metrics()
    assert (found["calls"], found["neutral"], found["attempts"]) == (1, 1, 1)


@pytest.mark.parametrize("copied", [lambda retry: pickle.loads(pickle.dumps(retry)), copy.copy, copy.deepcopy])
def test_a_copy_of_a_retry_counts_for_itself(copied: Callable[[Retry], Retry]) -> None:
    """Options are copied, counts are not."""
    retry = Retry(2)
    Policy(retry).call(int)
    other = copied(retry)
    Policy(other).call(int)
    Policy(other).call(int)
    assert (retry.metrics()["calls"], other.metrics()["calls"]) == (1, 2)


def test_calls_of_very_many_attempts_are_counted_exactly() -> None:
    """However many attempts a call takes, each of them and each ending is counted once."""
    retry = Retry(250, on=ConnectionError, wait=fixed(0))
    policy = Policy(retry)

    def fails_at_first(times: int) -> Callable[[], int]:
        left = iter(range(times))

        def attempt() -> int:
            for _ in left:
                raise ConnectionError
            return 1

        return attempt

    for failing in (250, 250, 199, 2, 0):
        with contextlib.suppress(ConnectionError):
            policy.call(fails_at_first(failing))
    metrics = retry.metrics()
    assert (metrics["calls"], metrics["failures"], metrics["successes"], metrics["saved"]) == (5, 2, 3, 2)
    assert (metrics["attempts"], metrics["retries"]) == (704, 699)
    retry.reset_metrics()
    assert retry.metrics()["attempts"] == 0


def test_a_handler_that_calls_while_metrics_are_read_fails_nothing() -> None:
    """Its call may end in a way that none has ended before."""

    def make() -> tuple[Retry, Policy]:
        retry = Retry(3, on=ValueError, wait=fixed(0, jitter=None))
        policy = Policy(retry)
        for attempts in (2, 3):
            policy.call(saved_by(attempts))
        return retry, policy

    def saved_by(attempts: int) -> Callable[[], object]:
        errors = iter([ValueError()] * (attempts - 1))

        def call() -> None:
            for error in errors:
                raise error

        return call

    def handler(made: tuple[Retry, Policy]) -> None:
        with contextlib.suppress(ValueError):
            made[1].call(saved_by(4))

    def check(made: tuple[Retry, Policy]) -> None:
        assert made[0].metrics()["calls"] in (2, 3)

    interrupt_everywhere(make, lambda made: made[0].metrics(), check, act=handler)


def test_a_retry_counts_exactly_under_threads(manual_clock: ManualClock) -> None:
    """Sixteen threads lose no operation and no attempt, and in every snapshot calls are the sum of what they were."""
    retry = Retry(2, wait=fixed(0))
    expected = {"successes": 0, "failures": 0, "saved": 0, "retries": 0}
    counting = threading.Lock()

    @Policy(retry)
    def work(errors: list[Exception]) -> None:
        if errors:
            raise errors.pop()

    def one(chance: random.Random) -> None:
        failures = chance.choice([0, 0, 1, 2])
        try:
            work([ConnectionError() for _ in range(failures)])
        except ConnectionError:
            pass
        with counting:
            expected["failures" if failures == 2 else "successes"] += 1
            expected["saved"] += failures == 1
            expected["retries"] += failures > 0

    def watch() -> None:
        found = retry.metrics()
        assert found["calls"] == found["successes"] + found["failures"] + found["neutral"]
        assert found["attempts"] == found["calls"] + found["retries"]
        assert found["saved"] <= found["retries"]

    hammer(one, 300, watch)
    assert {name: retry.metrics()[name] for name in expected} == expected


async def test_a_policy_that_changes_goes_on_counting(h: Harness) -> None:
    """A retry that takes another's place by a reload counts on from there."""
    policy = Policy(Retry(2), name="p")
    await h.call(policy, fine)
    policy.become(Policy(Retry(5), name="p"))
    await h.call(policy, fine)
    (retry,) = policy.strategies
    assert isinstance(retry, Retry)
    assert (retry.attempts, retry.metrics()["calls"]) == (5, 2)


async def test_a_native_retry_needs_no_counts(h: Harness) -> None:
    """tenacity's own object keeps what it has; through a policy it runs as ever."""
    assert await h.call(Policy(tenacity.Retrying(stop=tenacity.stop_after_attempt(2))), fine) == "fine"


# ----------------------------------------------------------------------------------------------------- bulkhead


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_bulkhead_tells_of_slots_and_waits(runtime: str) -> None:
    """In use, queued, peak, rejected, and how long those that waited did."""
    bulkhead = Bulkhead(2, queue=2)
    policy = Policy(bulkhead)
    seen: dict[str, Any] = {}

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for seconds in (1, 3, 4, 4):
                group.start_soon(policy.acall, anyio.sleep, seconds)
                await anyio.wait_all_tasks_blocked()
            await anyio.sleep(0.5)
            with pytest.raises(BulkheadFullError):
                await policy.acall(fine)
            seen.update(bulkhead.metrics())

    run_on(runtime, scenario)
    during = {"limit": 2, "in_use": 2, "queued": 2, "peak": 2, "calls": 2, "rejections": 1}
    assert {name: seen[name] for name in during} == during
    after = bulkhead.metrics()
    assert (after["in_use"], after["queued"], after["peak"], after["calls"]) == (0, 0, 2, 4)
    assert (after["waits"], after["average_wait"]) == (2, pytest.approx(2))
    bulkhead.reset_metrics()
    assert bulkhead.metrics() == {
        "limit": 2,
        "in_use": 0,
        "queued": 0,
        "peak": 0,
        "calls": 0,
        "rejections": 0,
        "waits": 0,
        "average_wait": None,
    }


def test_a_wait_on_paper_is_not_part_of_the_average() -> None:
    """How long a call would have waited for a slot nobody knows; how long others did stays known."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(policy.acall, anyio.sleep, 3)
            bulkhead.reconfigure(Bulkhead(1, shadow=True))

    run_on("asyncio", scenario)
    assert (bulkhead.metrics()["waits"], bulkhead.metrics()["average_wait"]) == (2, pytest.approx(3))


def test_a_reset_in_the_midst_of_a_refusal_leaves_no_count_below_zero() -> None:
    """The call that is refused has been counted before, and is taken out again."""

    def nested(bulkhead: Bulkhead) -> None:
        policy = Policy(bulkhead)
        with contextlib.suppress(BulkheadFullError):
            policy.call(lambda: policy.call(int))

    found: set[int] = set()
    interrupt_everywhere(
        lambda: Bulkhead(1, queue=0),
        nested,
        lambda bulkhead: found.add(bulkhead.metrics()["calls"]),
        act=lambda bulkhead: bulkhead.reset_metrics(),
    )
    assert found == {0, 1}


def test_who_finds_no_slot_is_at_no_point_among_those_inside() -> None:
    """Whatever a call that is refused does on its way, no more slots are in use than there are."""

    def nested(bulkhead: Bulkhead) -> None:
        policy = Policy(bulkhead)
        with contextlib.suppress(BulkheadFullError):
            policy.call(lambda: policy.call(int))

    seen: set[tuple[int, int]] = set()

    def look(bulkhead: Bulkhead) -> None:
        found = bulkhead.metrics()
        seen.add((found["in_use"], found["peak"]))

    interrupt_everywhere(lambda: Bulkhead(1, queue=0), nested, look, act=look)
    assert seen == {(0, 0), (0, 1), (1, 1)}


def test_a_bulkhead_counts_exactly_under_threads() -> None:
    """Sixteen threads lose no call; the peak is the most that were ever inside."""
    bulkhead = Bulkhead(5)
    inside, most = [0], [0]
    counting = threading.Lock()

    @Policy(bulkhead)
    def work() -> None:
        with counting:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        with counting:
            inside[0] -= 1

    def watch() -> None:
        found = bulkhead.metrics()
        assert found["in_use"] <= found["peak"] <= 5
        assert found["waits"] <= found["calls"]

    hammer(lambda chance: work(), 400, watch)
    found = bulkhead.metrics()
    assert (found["calls"], found["in_use"], found["rejections"]) == (THREADS * 400, 0, 0)
    assert most[0] <= found["peak"]


def test_the_peak_is_exact_where_the_number_inside_is_known() -> None:
    """Three at a time make a peak of three, though twenty slots are there."""
    bulkhead = Bulkhead(200)
    together = threading.Barrier(3)
    policy = Policy(bulkhead)
    for _ in range(5):
        threads = [threading.Thread(target=policy.call, args=(together.wait,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        policy.call(int)
    assert bulkhead.metrics()["peak"] == 3


# --------------------------------------------------------------------------------------------------- rate limit


async def test_a_rate_limit_tells_of_waits_and_rejections(h: Harness) -> None:
    """How many calls it let start, how long it made them wait, how many it refused."""
    limit = RateLimit(1, per=10, burst=2, max_wait=25)
    policy = Policy(limit)
    for _ in range(3):
        await h.call(policy, fine)
    found = limit.metrics()
    assert found == {
        "available": 0,
        "queued": 0,
        "calls": 3,
        "rejections": 0,
        "waits": 1,
        "average_wait": pytest.approx(10),
    }
    strict = RateLimit(1, per=10, max_wait=0)
    await h.call(Policy(strict), fine)
    with pytest.raises(RateLimitedError):
        await h.call(Policy(strict), fine)
    assert (strict.metrics()["calls"], strict.metrics()["rejections"]) == (1, 1)
    strict.reset_metrics()
    assert (strict.metrics()["calls"], strict.metrics()["available"]) == (0, 0)


@pytest.mark.parametrize("cost", [1, lambda: 1])
def test_a_rate_limit_counts_exactly_under_threads(cost: Any) -> None:
    """Sixteen threads lose no call and no refusal."""
    limit = RateLimit(1, per=1_000, burst=2_000, max_wait=0, cost=cost)
    work = Policy(limit)(int)
    refused = [0]
    counting = threading.Lock()

    def one(chance: random.Random) -> None:
        try:
            work() if cost == 1 else Policy(limit).call(lambda: 0)
        except RateLimitedError:
            with counting:
                refused[0] += 1

    hammer(one, 200, lambda: limit.metrics() and None)
    found = limit.metrics()
    assert (found["calls"], found["rejections"]) == (2_000, THREADS * 200 - 2_000)
    assert refused[0] == THREADS * 200 - 2_000


# ---------------------------------------------------------------------------------------------------------- all


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_for_itself() -> None:
    """What the parent counted is not the child's; the counts of all workers add up."""
    breaker, retry, bulkhead, limit = CircuitBreaker(), Retry(), Bulkhead(3), RateLimit(100)
    policy = Policy(retry, breaker, limit, bulkhead)
    for _ in range(3):
        policy.call(int)
    child = os.fork()
    if child == 0:
        policy.call(int)
        counts = [component.metrics()["calls"] for component in (breaker, retry, bulkhead, limit)]
        os._exit(0 if counts == [1] * 4 and bulkhead.metrics()["peak"] == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [component.metrics()["calls"] for component in (breaker, retry, bulkhead, limit)] == [3] * 4


@pytest.mark.parametrize("make", [RetryCounts, LimitCounts, Outcomes])
def test_counts_that_begin_anew_in_the_midst_of_a_look_are_what_they_were_before(make: Callable[[], Any]) -> None:
    """A signal's handler runs at the start of a function, and may begin them anew."""
    counts = make()
    counted = "successes" if make is Outcomes else "at_once"
    setattr(counts, counted, 3)
    counts.reset()
    setattr(counts, counted, 5)
    look = counts.counts if make is Outcomes else counts.metrics

    def handler(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_now":
            sys.setprofile(None)
            counts.reset()

    sys.setprofile(handler)
    try:
        found = look()
    finally:
        sys.setprofile(None)
    assert (found["calls"], look()["calls"]) == (2, 0)


@pytest.mark.parametrize("component", [CircuitBreaker(), Retry(), Bulkhead(3), RateLimit(100)])
def test_metrics_are_plain_data(component: Any) -> None:
    """`json.dumps` takes them."""
    Policy(component).call(int)
    assert json.loads(json.dumps(component.metrics()))["calls"] == 1
