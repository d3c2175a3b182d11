"""Functions that fail to order, events to compare, and what changes all policies for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_agents import CircuitBreaker, CircuitOpenError, Policy, Retry, Timeout, fixed, get_circuit_breaker
from resilient_agents.events import AttemptEnded, CallEnded, CircuitOpened, RetryScheduled
from resilient_agents.testing import (
    FakeClock,
    capture_events,
    failing,
    force_open,
    limit_attempts,
    no_leaks,
    no_waits,
)
from tests.conftest import Harness, run_on


async def test_a_function_fails_to_order(h: Harness) -> None:
    """Classes and instances of exceptions are raised, other things returned, in turn; the calls are kept."""
    instance = ConnectionError("mine")
    script = failing(TimeoutError, instance, "ok")
    policy = Policy(Retry(5, wait=fixed(0)))
    fn: Any = script if h.blocking else script.coroutine
    call: Any = policy.call if h.blocking else policy.acall
    result = call(fn, 1, key=2)
    assert (result if h.blocking else await result) == "ok"
    assert script.calls == [((1,), {"key": 2})] * 3


async def test_streams_fail_to_order(h: Harness) -> None:
    """Each outcome is a list of items, in which an error is raised in its place."""
    script = failing(ConnectionError, [1, 2, 3], [4, ConnectionError("broke off")])
    policy = Policy(Retry(2, wait=fixed(0)))
    fn: Any = script.stream if h.blocking else script.async_stream
    assert await h.items(policy.stream(fn)) == [1, 2, 3]
    with pytest.raises(ConnectionError, match="broke off"):
        await h.items(policy.stream(fn))


def test_a_call_too_many_is_the_tests_own_failure() -> None:
    """It is not retried, nor is a function without outcomes made."""
    script = failing("ok")
    policy = Policy(Retry(3, wait=fixed(0)))
    policy.call(script)
    with pytest.raises(AssertionError, match="once more than it has outcomes, of which there are 1"):
        policy.call(script)
    assert len(script.calls) == 1
    with pytest.raises(ValueError, match="at least one outcome"):
        failing()


def test_events_are_a_list_that_compares() -> None:
    """Of all policies, nested ones once, with the times of the virtual clock; none before and after the block."""
    policy = Policy(Retry(2, wait=fixed(3)), name="a")
    policy.call(int)
    with FakeClock(), capture_events() as captured:
        Policy(policy, name="outer").call(failing(ConnectionError, "ok"))
        CircuitBreaker("by hand").open()
    policy.call(int)
    assert captured.names == [
        "CallStarted",
        "AttemptStarted",
        "AttemptEnded",
        "RetryScheduled",
        "Waited",
        "AttemptStarted",
        "AttemptEnded",
        "CallEnded",
        "CircuitOpened",
    ]
    assert [event.outcome for event in captured.of(AttemptEnded)] == ["failure", "success"]
    assert captured.of(CallEnded) == [CallEnded("outer", "success", 2, 3.0, retry_waited=3.0, failed={"connection": 1})]
    assert [event.delay for event in captured.of(RetryScheduled)] == [3.0]
    assert captured.of(CircuitOpened) == [CircuitOpened("", "by hand", "closed", "open")]


async def test_retries_need_not_wait(h: Harness) -> None:
    """They follow at once, whatever the wait, and a sleep of one's own is not called."""
    slept: list[float] = []
    policy = Policy(Retry(3, wait=fixed(100)))
    script = failing(ConnectionError, ConnectionError, "ok")
    began = h.now()
    with no_waits():
        assert await h.call(policy, script.coroutine if not h.blocking else script) == "ok"
    assert h.now() == began
    assert not slept


def test_attempts_are_limited_everywhere() -> None:
    """The smaller number counts, blocks nest, and afterwards all is as before."""
    three, one = Policy(Retry(3, wait=fixed(0))), Policy(Retry(1))

    def attempts(policy: Policy) -> int:
        script = failing(*[ConnectionError] * 9)
        with pytest.raises(ConnectionError):
            policy.call(script)
        return len(script.calls)

    with limit_attempts(2):
        assert (attempts(three), attempts(one)) == (2, 1)
        with limit_attempts(5):
            assert attempts(three) == 3
        with limit_attempts(1):
            assert attempts(three) == 1
        assert attempts(three) == 2
    assert attempts(three) == 3
    with pytest.raises(ValueError, match="attempts must be at least 1"), limit_attempts(0):
        pass


def test_a_circuit_is_forced_open() -> None:
    """By itself or by its name, and closed again unless it was open before."""
    breaker = get_circuit_breaker("test_a_circuit_is_forced_open")
    policy = Policy(breaker)
    for given in (breaker, "test_a_circuit_is_forced_open"):
        with force_open(given) as found:
            assert found is breaker
            with pytest.raises(CircuitOpenError):
                policy.call(int)
        assert policy.call(int) == 0
    breaker.open()
    with force_open(breaker):
        pass
    assert breaker.state == "open"
    wrong: Any = 3
    with pytest.raises(TypeError, match="name of one, got int"), force_open(wrong):
        pass


def test_what_is_left_behind_is_found() -> None:
    """A slot, a thread and a task; what ends in time, and what was there before, is none."""
    import threading

    from resilient_agents import Bulkhead, PolicyTimeoutError, RateLimit

    slots = Bulkhead(2)
    release = threading.Event()
    stream = Policy(slots).stream(failing([1, 2]).stream)
    next(stream)
    with no_leaks():
        Policy(slots).call(int)
    other = Policy(slots).stream(failing([1, 2]).stream)
    with pytest.raises(AssertionError, match=r"left behind: slots of Bulkhead\(2\): 1"), no_leaks():
        next(other)
    stream.close()
    other.close()
    with pytest.raises(AssertionError, match="calls in threads of a timeout: 1"), no_leaks():
        limited = Policy(Timeout(0.001, thread=True))
        with pytest.raises(PolicyTimeoutError):
            limited.call(release.wait, 30)
    with pytest.raises(AssertionError, match="thread mine: 1"), no_leaks():
        threading.Thread(target=release.wait, name="mine").start()
    release.set()
    breaker = CircuitBreaker(reset_timeout=600)
    with FakeClock() as clock:
        breaker.open()
        clock.advance(600)
        probe = Policy(breaker).stream(failing([1, 2]).stream)
        with pytest.raises(AssertionError, match="permits of circuit breaker .*: 1"), no_leaks():
            next(probe)
        probe.close()

    async def scenario() -> None:
        limit = RateLimit(1, max_wait=60)
        tasks: list[asyncio.Task[Any]] = []
        await Policy(limit).acall(asyncio.sleep, 0)
        with pytest.raises(AssertionError, match=r"calls that wait for RateLimit.*: 1"), no_leaks():
            tasks.append(asyncio.create_task(Policy(limit).acall(asyncio.sleep, 0)))
            await asyncio.sleep(0)
        tasks.pop().cancel()
        with pytest.raises(AssertionError, match="task forgotten: 1"), no_leaks():
            tasks.append(asyncio.create_task(asyncio.sleep(1), name="forgotten"))
        await tasks[0]

    run_on("asyncio", scenario)
