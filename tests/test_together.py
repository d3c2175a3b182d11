"""Promises that hold only if the strategies work together."""

from __future__ import annotations

import asyncio
import os
import random
import threading

import anyio
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    deadline,
    fixed,
)
from resilient_agents.errors import BulkheadFullError, CircuitOpenError, DeadlineExceeded, PolicyTimeoutError
from resilient_agents.events import AttemptEnded, CallEnded, CallRejected, CircuitChanged
from tests.conftest import Events, Harness, run_on


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_queued_callers_do_not_reach_a_dead_server(runtime: str) -> None:
    """Of 200 callers queued at a bulkhead in front of a dead server, those still waiting when the circuit opens never
    reach it."""
    reached, refused = [], []
    policy = Policy(CircuitBreaker(failures=5), Bulkhead(2))

    async def dead() -> None:
        reached.append(1)
        await anyio.sleep(1)
        raise ConnectionError

    async def caller() -> None:
        try:
            await policy.acall(dead)
        except ConnectionError:
            pass
        except CircuitOpenError:
            refused.append(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(caller)

    run_on(runtime, scenario)
    assert len(reached) <= 6
    assert len(reached) + len(refused) == 200


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_queueing_is_not_slow_call_time(runtime: str) -> None:
    """A call that waits long for its slot and is then quick is not slow."""
    breaker = CircuitBreaker(failures=None, slow_call=2.0, slow_rate=0.1, window_calls=4)
    policy = Policy(breaker, Bulkhead(1))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(policy.acall, anyio.sleep, 1.0)

    run_on(runtime, scenario)
    assert breaker.state == "closed"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_queueing_is_not_probe_time(runtime: str) -> None:
    """A probe that queued nearly as long as its lease begins a new lease when it runs."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10)
    bulkhead = Bulkhead(1)
    policy = Policy(breaker, bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead).acall, anyio.sleep, 8)
            await anyio.sleep(0.1)
            breaker.half_open()
            group.start_soon(policy.acall, anyio.sleep, 5)
            await anyio.sleep(12)
            with pytest.raises(CircuitOpenError):
                await policy.acall(anyio.sleep, 0)
        assert breaker.state == "closed"

    run_on(runtime, scenario)


async def test_no_slot_is_held_while_a_retry_waits(h: Harness) -> None:
    """Between attempts the bulkhead inside the retry is free."""
    bulkhead = Bulkhead(1)
    held: list[int] = []

    async def fails() -> None:
        held.append(bulkhead.in_use)
        raise ConnectionError

    policy = Policy(Retry(3, wait=fixed(5), before_sleep=lambda state: held.append(bulkhead.in_use)), bulkhead)
    with pytest.raises(ConnectionError):
        await h.call(policy, fails)
    assert held == [1, 0, 1, 0, 1]


async def test_a_circuit_that_opens_during_a_retry_ends_it(h: Harness) -> None:
    """CircuitOpenError comes out, raised from the last real error."""
    policy = Policy(Retry(5, wait=fixed(0.1)), CircuitBreaker(failures=2))
    calls = []

    async def fails() -> None:
        calls.append(1)
        raise ConnectionError("real")

    with pytest.raises(CircuitOpenError) as caught:
        await h.call(policy, fails)
    assert len(calls) == 2
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_the_total_limit_covers_attempts_and_waits(h: Harness) -> None:
    """A retry whose wait would pass the total limit gives up at once with the real error."""
    policy = Policy(Timeout(10.0, thread=False), Retry(9, wait=fixed(4)))
    started = h.now()
    calls = []

    async def fails() -> None:
        calls.append(1)
        await h.sleep(1)
        raise ConnectionError("real")

    with pytest.raises(ConnectionError) as caught:
        await h.call(policy, fails)
    assert len(calls) == 2
    assert h.now() - started == pytest.approx(6)
    assert len(getattr(caught.value, "__notes__", [])) == 1


async def test_nested_policies_do_not_multiply_attempts(h: Harness) -> None:
    """What an inner policy retried to the end, an outer one does not retry again: 3 calls, not 9."""
    inner, outer = Policy(Retry(3, wait=fixed(0))), Policy(Retry(3, wait=fixed(0)))
    calls = []

    async def fails() -> None:
        calls.append(1)
        raise ConnectionError

    async def tool() -> None:
        await h.call(inner, fails)

    with pytest.raises(ConnectionError):
        await h.call(outer, tool)
    assert len(calls) == 3


async def test_a_cached_error_is_retried_in_a_later_operation(h: Harness) -> None:
    """The mark says when it was given up, not that it ever was."""
    error = ConnectionError("cached")
    calls = []

    async def fails() -> None:
        calls.append(1)
        raise error

    policy = Policy(Retry(3, wait=fixed(1)))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await h.call(policy, fails)
    assert len(calls) == 6
    assert len(error.__notes__) == 1


async def test_an_expired_deadline_starts_nothing(h: Harness) -> None:
    """The call is refused before the function runs, and the breaker does not count it."""
    breaker = CircuitBreaker(failures=1)
    calls = []

    async def work() -> None:
        calls.append(1)

    with deadline(5):
        await h.sleep(6)
        with pytest.raises(DeadlineExceeded):
            await h.call(Policy(breaker), work)
    assert (calls, breaker.state) == ([], "closed")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_callers_short_deadline_is_neutral(runtime: str) -> None:
    """20 ms of patience say nothing about the dependency."""
    breaker = CircuitBreaker(failures=1)

    async def scenario() -> None:
        with deadline(0.02), pytest.raises(DeadlineExceeded):
            await Policy(Retry(3), breaker).acall(anyio.sleep, 1)
        assert breaker.state == "closed"

    run_on(runtime, scenario)


async def test_the_whole_stack_tells_one_story(h: Harness) -> None:
    """Fallback, total, retry, breaker, rate limit, bulkhead, attempt limit: one operation, its attempts, one
    outcome."""
    policy = Policy(
        Fallback(value="stand-in"),
        Timeout(30, thread=False),
        Retry(3, wait=fixed(1)),
        CircuitBreaker(failures=5),
        RateLimit(100),
        Bulkhead(8),
        Timeout(10, thread=False),
    )
    seen = Events()
    policy.observe(seen)

    async def fails() -> None:
        raise ConnectionError

    assert await h.call(policy, fails) == "stand-in"
    assert [event.outcome for event in seen.of(AttemptEnded)] == ["failure"] * 3
    assert [(event.outcome, event.attempts) for event in seen.of(CallEnded)] == [("fallback", 3)]
    assert seen.of(CircuitChanged) == []


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_random_cancellation_leaks_nothing(runtime: str) -> None:
    """Hundreds of calls through the whole stack, cancelled at random moments: afterwards everything is free again."""
    draw = random.Random(11)
    breaker, bulkhead = CircuitBreaker(failures=10**6), Bulkhead(3)
    policy = Policy(Timeout(50), Retry(3, wait=fixed(0.3)), breaker, RateLimit(100), bulkhead, Timeout(5))

    async def work() -> None:
        await anyio.sleep(draw.random())
        if draw.random() < 0.3:
            raise ConnectionError

    async def caller() -> None:
        with anyio.move_on_after(draw.random() * 3):
            try:
                await policy.acall(work)
            except (ConnectionError, PolicyTimeoutError, BulkheadFullError):
                pass

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(caller)
                await anyio.sleep(draw.random() * 0.05)
        assert (bulkhead.in_use, bulkhead.queued, breaker.state) == (0, 0, "closed")

    run_on(runtime, scenario)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_after_fork_a_child_starts_afresh() -> None:
    """Whatever the parent held when it forked, the child has full capacity, fresh locks and jitter of its own."""
    bulkhead, limit, breaker = Bulkhead(1), RateLimit(1, per=3600, burst=1), CircuitBreaker(failures=1)
    policy = Policy(breaker, bulkhead)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert leave.wait(30)

    holder = threading.Thread(target=policy.call, args=(hold,))
    holder.start()
    assert inside.wait(30)
    assert Policy(limit).call(int) == 0
    reports = []
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # nothing of pytest may run here
            try:
                assert (bulkhead.in_use, bulkhead.queued) == (0, 0)
                results = [policy.call(int), asyncio.run(policy.acall(int)), Policy(limit).call(int)]
                os.write(write, f"{results} {random.random()}".encode())
            except BaseException as error:
                os.write(write, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            reports.append(pipe.read())
        os.waitpid(child, 0)
    leave.set()
    holder.join(30)
    assert [report.split("]")[0] for report in reports] == ["[0, 0, 0"] * 2, reports
    assert reports[0] != reports[1]
    assert bulkhead.in_use == 0


def test_spawned_processes_use_pickled_functions_and_errors() -> None:
    """A process pool with spawn: decorated functions travel by reference, our errors by value."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(guarded_double, 4).result(60) == 8
        with pytest.raises(CircuitOpenError) as caught:
            pool.submit(refuse).result(60)
    assert (caught.value.policy, caught.value.retry_after) == ("p", 1.5)


@Policy(Retry(2), Bulkhead(1))
def guarded_double(n: int) -> int:
    return 2 * n


def refuse() -> None:
    raise CircuitOpenError("open", policy="p", strategy="circuit_breaker", retry_after=1.5)


async def test_a_retried_result_is_a_failed_attempt(h: Harness) -> None:
    """What `when` calls a failure counts as one among the attempts, though nothing was raised."""
    answers = iter([{"status": 503}, {"status": 200}])
    policy = Policy(Retry(3, when=lambda answer: answer["status"] >= 500, wait=fixed(0)))
    seen = Events()
    policy.observe(seen)

    async def ask() -> dict[str, int]:
        return next(answers)

    assert await h.call(policy, ask) == {"status": 200}
    assert [event.outcome for event in seen.of(AttemptEnded, CallEnded)] == ["failure", "success", "success"]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_attempt_that_the_total_limit_ends_timed_out(runtime: str) -> None:
    """It is no cancelled attempt: a limit of the policy ended it. A caller's cancellation does make it one."""
    policy, seen = Policy(Timeout(1), Retry(3)), Events()
    policy.observe(seen)

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await policy.acall(anyio.sleep, 5)
        with anyio.move_on_after(0.5):
            await policy.acall(anyio.sleep, 5)

    run_on(runtime, scenario)
    assert [event.outcome for event in seen.of(AttemptEnded, CallEnded)] == [
        "failure",
        "failure",
        "cancelled",
        "cancelled",
    ]
    assert seen.of(AttemptEnded)[0].failure.kind == "timeout"


async def test_an_attempt_behind_a_fallback_tells_the_truth(h: Harness) -> None:
    """Without a retry the attempt is what the fallback stands in for: it failed, though the caller saw an answer."""
    policy, seen = Policy(Fallback(value=1), Timeout(5, thread=False)), Events()
    policy.observe(seen)

    async def fails() -> None:
        raise ConnectionError

    assert await h.call(policy, fails) == 1
    assert [event.outcome for event in seen.of(AttemptEnded, CallEnded)] == ["failure", "fallback"]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_shadow_breaker_tells_of_each_call_once(runtime: str) -> None:
    """Also of one that waited further inside."""
    breaker = CircuitBreaker(shadow=True)
    policy, seen = Policy(breaker, Bulkhead(1)), Events()
    policy.observe(seen)

    async def scenario() -> None:
        breaker.open()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(policy.acall, anyio.sleep, 1)

    run_on(runtime, scenario)
    assert [event.shadow for event in seen.of(CallRejected)] == [True] * 3
