"""A Hedge asks again while the first request is slow, and takes the first answer."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Hedge,
    Policy,
    PolicyTimeoutError,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
    deadline,
    fixed,
)
from resilient_agents.budget import UnderWay
from resilient_agents.core.branches import Branch
from resilient_agents.core.call import Call, Plan, Proceed, call_of
from resilient_agents.core.race import Race
from resilient_agents.core.runtime import ASYNC, BLOCKING
from resilient_agents.core.threads import Workers
from resilient_agents.events import AttemptEnded, AttemptStarted, CallEnded, HedgeStarted
from resilient_agents.strategies import hedge as module
from tests.conftest import Events, Harness, ManualClock, drive, run_on

LOOPS = ["asyncio", "trio"]
PATIENCE = 30.0
TINY = 0.001
LONG = 1000.0


class Server:
    """Answers the nth request as `script` says: an error to raise, or (seconds, answer). Counts what is going on."""

    def __init__(self, h: Harness | None, *script: Any) -> None:
        self.h = h
        self.script = script
        self.started = self.running = self.cancelled = 0
        self.at: list[float] = []

    async def __call__(self, *args: Any) -> Any:
        answer = self.script[self.started]
        self.started += 1
        if self.h is not None:
            self.at.append(self.h.now())
        if isinstance(answer, BaseException):
            raise answer
        seconds, value = answer
        if not seconds:
            return value
        self.running += 1
        try:
            await anyio.sleep(seconds)
            if isinstance(value, BaseException):
                raise value
            return value
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def on(runtime: str, scenario: Callable[[Harness], Any]) -> Any:
    return run_on(runtime, lambda: scenario(Harness(runtime)))


def guarded(policy: Policy, work: Callable[..., Any]) -> Callable[..., Any]:
    return policy(work)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    done = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if condition():
            return
        done.wait(0.001)
    raise AssertionError("it never happened")


# --- who wins ---------------------------------------------------------------------------------------------------------


async def test_a_quick_answer_needs_no_hedge(h: Harness) -> None:
    """A request that answers in time is the only one."""
    calls = []

    async def work(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return "answer"

    assert await h.call(Policy(Hedge(LONG)), work, 1, two=2) == "answer"
    assert calls == [((1,), {"two": 2})]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_slow_request_is_hedged(runtime: str) -> None:
    """When no answer has come after `after` seconds another request starts, and the first answer counts."""

    async def scenario(h: Harness) -> None:
        server, began = Server(h, (10, "slow"), (1, "quick")), h.now()
        assert await Policy(Hedge(2)).acall(server) == "quick"
        assert [at - began for at in server.at] == [0, 2]
        assert h.now() - began == 3
        assert (server.cancelled, server.running) == (1, 0)

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_primary_may_still_win(runtime: str) -> None:
    """The first request goes on beside its hedge."""

    async def scenario(h: Harness) -> None:
        server = Server(h, (3, "primary"), (10, "hedge"))
        assert await Policy(Hedge(2)).acall(server) == "primary"
        assert (server.started, server.cancelled, server.running) == (2, 1, 0)

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_one_hedge_each_after_seconds_and_no_more_than_extra(runtime: str) -> None:
    """At most `extra` hedges start, one each `after` seconds."""

    async def scenario(h: Harness) -> None:
        server, began = Server(h, (100, 0), (100, 1), (100, 2), (100, 3)), h.now()
        with anyio.move_on_after(60):
            await Policy(Hedge(timedelta(seconds=2), extra=3)).acall(server)
        assert [at - began for at in server.at] == [0, 2, 4, 6]
        assert (server.cancelled, server.running) == (4, 0)

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_zero_starts_all_at_once(runtime: str) -> None:
    """With `after=0` all requests start at once."""

    async def scenario(h: Harness) -> None:
        server, began = Server(h, (9, 0), (3, 1), (9, 2)), h.now()
        assert await Policy(Hedge(0, extra=2)).acall(server) == 1
        assert [at - began for at in server.at] == [0, 0, 0]

    on(runtime, scenario)


async def test_a_failure_starts_the_next_at_once(h: Harness) -> None:
    """A request that fails in the way that `on` says is followed by the next one without waiting."""
    server, began = Server(None, ConnectionError(), ConnectionError(), (0, "third")), h.now()
    assert await h.call(Policy(Hedge(LONG, extra=2)), server_of(h, server)) == "third"
    assert h.now() == began


def server_of(h: Harness, server: Server) -> Callable[..., Any]:
    async def work(*args: Any) -> Any:
        return await server(*args)

    return work


@pytest.mark.parametrize("runtime", LOOPS)
def test_after_counts_from_the_last_start(runtime: str) -> None:
    """The wait for a further hedge begins anew when a failure has started one early."""

    async def scenario(h: Harness) -> None:
        server, began = Server(h, (1, ConnectionError()), (100, 1), (1, "third")), h.now()
        assert await Policy(Hedge(5, extra=2)).acall(server) == "third"
        assert [at - began for at in server.at] == [0, 1, 6]

    on(runtime, scenario)


# --- which error comes out --------------------------------------------------------------------------------------------


async def test_when_all_fail_the_primarys_error_comes_out(h: Harness) -> None:
    """The caller sees the error of the first request, the same object, and no group."""
    first = ConnectionError("first")
    server = Server(None, first, ConnectionError("second"), TimeoutError("third"))
    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(Hedge(LONG, extra=2)), server_of(h, server))
    assert caught.value is first
    assert first.__context__ is first.__cause__ is None
    assert server.started == 3


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_primarys_error_also_when_it_fails_last(runtime: str) -> None:
    """The order of failing does not matter."""

    async def scenario(h: Harness) -> None:
        first = ConnectionError("first")
        server = Server(h, (9, first), (1, ConnectionError("second")))
        with pytest.raises(ConnectionError) as caught:
            await Policy(Hedge(2)).acall(server)
        assert caught.value is first

    on(runtime, scenario)


async def test_another_error_ends_the_call(h: Harness) -> None:
    """An error outside of `on` comes out at once; no hedge starts."""
    error = ValueError("bug")
    server = Server(None, error, (0, "never"))
    with pytest.raises(ValueError, match="bug") as caught:
        await h.call(Policy(Hedge(LONG)), server_of(h, server))
    assert caught.value is error
    assert server.started == 1


@pytest.mark.parametrize("runtime", LOOPS)
def test_another_error_of_a_hedge_ends_the_call(runtime: str) -> None:
    """An error outside of `on` decides, whichever request it comes from."""

    async def scenario(h: Harness) -> None:
        server = Server(h, (100, 0), ValueError("bug"))
        with pytest.raises(ValueError, match="bug"):
            await Policy(Hedge(2)).acall(server)
        assert (server.cancelled, server.running) == (1, 0)

    on(runtime, scenario)


async def test_on_chooses(h: Harness) -> None:
    """`on` takes types, predicates and tuples of them."""
    for chosen in (KeyError, (OSError, KeyError), lambda error: "again" in str(error)):
        server = Server(None, KeyError("again"), (0, "second"))
        assert await h.call(Policy(Hedge(LONG, on=chosen)), server_of(h, server)) == "second"


async def test_a_predicate_that_raises_shows_its_own_error(h: Harness) -> None:
    """What the predicate raises comes out, from the failure it was asked about."""
    error, own = ConnectionError(), RuntimeError("predicate")

    def predicate(_: Exception) -> bool:
        raise own

    with pytest.raises(RuntimeError, match="predicate") as caught:
        await h.call(Policy(Hedge(LONG, on=predicate)), server_of(h, Server(None, error)))
    assert caught.value is own
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exit_ends_the_call_as_itself(h: Harness, kind: type[BaseException]) -> None:
    """What is no Exception comes out as itself, the same object."""
    error = kind()
    server = Server(None, error, (0, "never"))
    with pytest.raises(kind) as caught:
        await h.call(Policy(Hedge(LONG, on=Exception)), server_of(h, server))
    assert caught.value is error
    assert server.started == 1


async def test_a_group_of_the_users_comes_out_as_itself(h: Harness) -> None:
    """An ExceptionGroup of the function's is neither unwrapped nor wrapped."""
    error = ExceptionGroup("theirs", [ValueError()])
    with pytest.raises(ExceptionGroup) as caught:
        await h.call(Policy(Hedge(LONG)), server_of(h, Server(None, error)))
    assert caught.value is error


def test_a_stop_iteration_of_the_users() -> None:
    """A StopIteration of a plain function comes out as itself, and `on` sees it as it was raised."""
    seen: list[Exception] = []

    def work() -> None:
        raise StopIteration(7)

    def predicate(error: Exception) -> bool:
        seen.append(error)
        return False

    with pytest.raises(StopIteration) as caught:
        Policy(Hedge(LONG, on=predicate)).call(work)
    assert caught.value.value == 7
    assert [type(error) for error in seen] == [StopIteration]


def test_a_cancelled_error_of_the_functions_own() -> None:
    """On asyncio a function may raise CancelledError without being cancelled; it comes out."""
    error = asyncio.CancelledError("own")

    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise error

    async def scenario() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            await Policy(Hedge(LONG)).acall(work)
        assert caught.value is error
        assert calls == 1, "nobody asked again"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_on("asyncio", scenario)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("runtime", LOOPS)
def test_the_interpreters_exit_is_not_lost_in_a_request_that_lost(runtime: str, error: BaseException) -> None:
    """It comes out in place of the answer, which is closed."""
    answer = Answer()

    async def scenario(h: Harness) -> None:
        calls: list[None] = []

        async def work() -> Answer:
            calls.append(None)
            if len(calls) == 2:
                return answer
            try:
                await anyio.sleep(LONG)
            finally:
                raise error

        with pytest.raises(type(error)) as caught:
            await Policy(Hedge(2)).acall(work)
        assert caught.value is error
        assert answer.closed == 1

    on(runtime, scenario)


# --- layers inside ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
def test_losing_is_neutral_for_a_breaker(runtime: str) -> None:
    """A breaker inside sees neither a failure nor a success in a request that lost, and no probe's permit leaks."""

    async def scenario(h: Harness) -> None:
        breaker = CircuitBreaker(failures=1, failure_rate=0.1, minimum_calls=2, half_open_calls=2)
        policy = Policy(Hedge(2), breaker)
        for _ in range(5):
            assert await policy.acall(Server(h, (10, 0), (1, 1))) == 1
        assert breaker.state == "closed"
        assert breaker.metrics()["window"] == {"calls": 5, "failures": 0, "slow": 0}
        breaker.half_open()
        assert await policy.acall(Server(h, (10, 0), (1, 1))) == 1
        assert breaker.state == "closed"
        breaker.half_open()
        with pytest.raises(ValueError, match="x"):
            await policy.acall(Server(h, (10, 0), (1, ValueError("x"))))
        assert breaker.metrics()["probes"] == 0

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_refused_hedge_changes_nothing(runtime: str) -> None:
    """A hedge that finds no slot is dropped, and no further one starts; the first request goes on."""

    async def scenario(h: Harness) -> None:
        bulkhead, seen = Bulkhead(1, queue=0), Events()
        policy = Policy(Hedge(1, extra=5), bulkhead)
        policy.observe(seen)
        server = Server(h, (10, "first"))
        assert await policy.acall(server) == "first"
        assert len(seen.of(HedgeStarted)) == 1
        error = ConnectionError("first")
        with pytest.raises(ConnectionError) as caught:
            await policy.acall(Server(h, (10, error)))
        assert caught.value is error
        assert bulkhead.in_use == 0

    on(runtime, scenario)


async def test_a_refused_primary_ends_the_call(h: Harness) -> None:
    """When the first request is refused the caller hears it."""
    breaker = CircuitBreaker("c")
    breaker.open()
    with pytest.raises(CircuitOpenError):
        await h.call(Policy(Hedge(LONG), breaker), server_of(h, Server(None)))


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_total_limit_outside(runtime: str) -> None:
    """A Timeout around cancels all requests, tells of the last real error, and counts as a failure inside."""

    async def scenario(h: Harness) -> None:
        breaker, error, began = CircuitBreaker(failures=3), ConnectionError("first"), h.now()
        server = Server(h, (1, error), (100, 0), (100, 0))
        with pytest.raises(PolicyTimeoutError) as caught:
            await Policy(Timeout(10), Hedge(2, extra=2), breaker).acall(server)
        assert h.now() - began == 10
        assert caught.value.__cause__ is error
        assert (server.started, server.running) == (3, 0)
        assert breaker.state == "open"

        breaker = CircuitBreaker(failures=1)
        for policy in (
            Policy(Timeout(10), Hedge(20), breaker, Timeout(10)),
            Policy(Hedge(20, on=KeyError), Timeout(10), breaker, Timeout(10)),
        ):  # both limits the same: it is still this call's own
            breaker.close()
            with pytest.raises(PolicyTimeoutError):
                await policy.acall(anyio.sleep, 100)
            assert breaker.state == "open"

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_last_error_of_a_retry_inside(runtime: str) -> None:
    """A Timeout around tells of the last real error that a Retry inside has seen."""

    async def scenario(h: Harness) -> None:
        error = ConnectionError()
        with pytest.raises(PolicyTimeoutError) as caught:
            await Policy(Timeout(10), Hedge(50), Retry(2, wait=fixed(0))).acall(Server(h, error, (100, 0)))
        assert caught.value.__cause__ is error

    on(runtime, scenario)


@pytest.mark.parametrize("hedged", [False, True])
@pytest.mark.parametrize("runtime", LOOPS)
def test_what_a_breaker_outside_knows(runtime: str, hedged: bool) -> None:
    """A breaker outside judges as it does without a Hedge: queueing is not slow, an attempt cut short is neutral."""
    between = (Hedge(500),) if hedged else ()

    class Pause:
        async def execute(self, proceed: Any, call: Call) -> Any:
            await call.runtime.sleep(5)
            return await proceed(call)

    async def scenario(h: Harness) -> None:
        breaker, slots = CircuitBreaker(failures=None, slow_call=2, minimum_calls=1), Bulkhead(1)
        async with anyio.create_task_group() as group:
            group.start_soon(guarded(Policy(slots), anyio.sleep), 5)
            await anyio.lowlevel.checkpoint()
            assert await Policy(breaker, *between, slots).acall(Server(h, (1, "answer"))) == "answer"
        assert breaker.state == "closed"
        breaker = CircuitBreaker(failures=1)
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(10), breaker, *between, Pause(), Timeout(20)).acall(anyio.sleep, 100)
        assert breaker.state == "closed"

    on(runtime, scenario)


async def test_a_refused_primary_is_hedged_on_demand(h: Harness) -> None:
    """Who counts refusals among the errors to hedge gets a hedge for a first request that was refused."""
    server = Server(None, BulkheadFullError(), (0, "second"))
    assert await h.call(Policy(Hedge(LONG, on=BulkheadFullError)), server_of(h, server)) == "second"


async def test_a_circuit_that_opens_meanwhile(h: Harness) -> None:
    """When the first request's failure opens the circuit, its hedge is refused and that failure comes out."""
    error = ConnectionError()
    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(Hedge(LONG, extra=9), CircuitBreaker(failures=1)), server_of(h, Server(None, error)))
    assert caught.value is error


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_limit_for_each_request(runtime: str) -> None:
    """A Timeout inside cuts off one request, and the next starts at once."""

    async def scenario(h: Harness) -> None:
        server, began = Server(h, (100, 0), (1, "second")), h.now()
        assert await Policy(Hedge(50), Timeout(5)).acall(server) == "second"
        assert [at - began for at in server.at] == [0, 5]

    on(runtime, scenario)


async def test_a_retry_outside_retries_the_race(h: Harness) -> None:
    """A Retry around a Hedge repeats the whole race."""
    server = Server(None, ConnectionError(), ConnectionError(), (0, "third"))
    assert await h.call(Policy(Retry(2, wait=fixed(0)), Hedge(LONG)), server_of(h, server)) == "third"


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_slot_outside_is_held_for_the_whole_race(runtime: str) -> None:
    """A Bulkhead around counts the call once and gets its slot back when all of it is over."""

    async def scenario(h: Harness) -> None:
        bulkhead = Bulkhead(1)
        used: list[int] = []

        async def work(server: Server) -> Any:
            used.append(bulkhead.in_use)
            return await server()

        assert await Policy(bulkhead, Hedge(2)).acall(work, Server(h, (10, 0), (1, 1))) == 1
        assert used == [1, 1]
        assert bulkhead.in_use == 0

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_breaker_outside_gets_its_probe_back(runtime: str) -> None:
    """A branch that waited inside is looked at again by a breaker outside, whose permit belongs to the call."""

    async def scenario(h: Harness) -> None:
        outer, slots = CircuitBreaker(half_open_calls=1, reset_timeout=1000), Bulkhead(1)
        policy = Policy(outer, Hedge(1), slots)
        async with anyio.create_task_group() as group:
            group.start_soon(guarded(Policy(slots), anyio.sleep), 5)
            await anyio.lowlevel.checkpoint()
            group.start_soon(guarded(policy, Server(h, (3, 1), (3, 1)).__call__))
            await anyio.sleep(3)
            outer.half_open()
        assert outer.state == "closed"
        assert outer.metrics()["probes"] == 0
        assert slots.in_use == 0

    on(runtime, scenario)


async def test_a_hedge_inside_a_hedge(h: Harness) -> None:
    """Each request of the outer one is a race of its own."""
    server = Server(None, ConnectionError(), ConnectionError(), ConnectionError(), (0, "fourth"))
    assert await h.call(Policy(Hedge(LONG), Hedge(LONG)), server_of(h, server)) == "fourth"


# --- results that nobody wants ----------------------------------------------------------------------------------------


class Answer:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncAnswer(Answer):
    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed += 1

    def close(self) -> None:
        raise AssertionError("an async answer was closed in the blocking way")


class BlockingAnswer(Answer):
    """A response of httpx's blocking client, which has a method for the other colour, too."""

    async def aclose(self) -> None:
        raise RuntimeError("Attempted to call an async close on an sync stream.")


@pytest.mark.parametrize("kind", [Answer, AsyncAnswer, BlockingAnswer])
@pytest.mark.parametrize("runtime", LOOPS)
def test_a_result_that_comes_all_the_same_is_closed(runtime: str, kind: type[Answer]) -> None:
    """A request that answers although it was cancelled has its answer closed; the winner's is left alone."""

    async def scenario(h: Harness) -> None:
        late, winner, calls = kind(), kind(), []

        async def work() -> Answer:
            calls.append(1)
            if len(calls) == 2:
                return winner
            try:
                await anyio.sleep(100)
            except anyio.get_cancelled_exc_class():
                return late
            raise AssertionError

        assert await Policy(Hedge(2)).acall(work) is winner
        assert (late.closed, winner.closed) == (1, 0)

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_shared_result_is_not_closed(runtime: str) -> None:
    """When both requests answer with the same object it is the caller's."""

    async def scenario(h: Harness) -> None:
        shared = Answer()
        assert await Policy(Hedge(0)).acall(Server(h, (1, shared), (1, shared))) is shared
        assert shared.closed == 0

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_close_that_fails_changes_nothing(runtime: str) -> None:
    """What closing raises is dropped."""

    async def scenario(h: Harness) -> None:
        class Broken(Answer):
            def close(self) -> None:
                super().close()
                raise RuntimeError

        both = [Broken(), Broken()]
        won = await Policy(Hedge(0)).acall(Server(h, (1, both[0]), (1, both[1])))
        assert sorted(answer.closed for answer in both) == [0, 1]
        assert won.closed == 0

    on(runtime, scenario)


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
def test_cancelling_the_call_cancels_and_awaits_all(runtime: str) -> None:
    """A call that is cancelled leaves no request behind."""

    async def scenario(h: Harness) -> None:
        server = Server(h, (100, 0), (100, 1))
        with anyio.move_on_after(5) as scope:
            await Policy(Hedge(2)).acall(server)
        assert scope.cancelled_caught
        assert (server.started, server.cancelled, server.running) == (2, 2, 0)

    on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_result_of_a_cancelled_call_is_closed(runtime: str) -> None:
    """What comes all the same after the call was cancelled is closed, however long its closing suspends."""

    async def scenario(h: Harness) -> None:
        late = AsyncAnswer()

        async def work() -> Answer:
            try:
                await anyio.sleep(100)
            except anyio.get_cancelled_exc_class():
                return late
            raise AssertionError

        with anyio.move_on_after(5) as scope:
            await Policy(Hedge(LONG)).acall(work)
        assert scope.cancelled_caught
        assert late.closed == 1

    on(runtime, scenario)


def test_a_task_that_is_cancelled() -> None:
    """A native cancellation of the task comes out as one, uncounted."""

    async def scenario() -> None:
        server = Server(None, (100, 0), (100, 1))
        task = asyncio.create_task(Policy(Hedge(2)).acall(server))
        await asyncio.sleep(5)
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert (server.cancelled, server.running) == (2, 0)

    run_on("asyncio", scenario)


def test_a_task_that_is_cancelled_while_a_result_is_closed() -> None:
    """Nobody gets the winner's result then, so it is closed too."""

    class Slow(AsyncAnswer):
        async def aclose(self) -> None:
            await asyncio.sleep(1)
            await super().aclose()

    async def scenario() -> None:
        late, winner, calls = Slow(), Slow(), []

        async def work() -> Answer:
            calls.append(1)
            if len(calls) == 2:
                return winner
            try:
                await anyio.sleep(LONG)
            except asyncio.CancelledError:
                return late
            raise AssertionError

        task = asyncio.create_task(Policy(Hedge(2)).acall(work))
        await asyncio.sleep(2.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert winner.closed == 1

    run_on("asyncio", scenario)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("runtime", LOOPS)
def test_random_cancellation_leaks_nothing(runtime: str, seed: int) -> None:
    """Calls that are cancelled at random moments leave no task, slot or permit, and a breaker closed."""
    chance = random.Random(seed)

    async def scenario(h: Harness) -> None:
        breaker, slots = CircuitBreaker(failures=1), Bulkhead(7)
        outer = Bulkhead(20)
        policy = Policy(outer, Timeout(9), Hedge(1, extra=2), breaker, slots)
        running = 0

        async def work(seconds: float) -> float:
            nonlocal running
            running += 1
            try:
                await anyio.sleep(seconds)
                return seconds
            finally:
                running -= 1

        async def one() -> None:
            with anyio.move_on_after(chance.random() * 6):
                await policy.acall(work, chance.random() * 4)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(one)
        assert running == slots.in_use == slots.queued == outer.in_use == outer.queued == 0
        assert breaker.state == "closed"
        if runtime == "asyncio":
            assert asyncio.all_tasks() == {asyncio.current_task()}

    on(runtime, scenario)


# --- blocking code ----------------------------------------------------------------------------------------------------


class Slow:
    """A plain function whose first request hangs until it is let go."""

    def __init__(self, answer: Any = "slow", other: Any = "quick") -> None:
        self.answer = answer
        self.other = other
        self.let_go = threading.Event()
        self.ended = threading.Event()
        self.started = 0
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            self.started += 1
            first = self.started == 1
        if not first:
            return self.other
        try:
            assert self.let_go.wait(PATIENCE)
            return self.answer
        finally:
            self.ended.set()


@pytest.fixture
def slow() -> Iterator[Slow]:
    function = Slow()
    yield function
    function.let_go.set()
    assert function.started == 0 or function.ended.wait(PATIENCE)


def test_a_slow_plain_function_is_hedged(slow: Slow) -> None:
    """In blocking code the first request is left behind when its hedge answers."""
    policy = Policy(Hedge(TINY))
    assert policy.call(slow) == "quick"
    assert slow.started == 2
    assert policy.describe()["strategies"][0]["abandoned"] == 1
    slow.let_go.set()
    eventually(lambda: policy.describe()["strategies"][0]["abandoned"] == 0)


def test_a_request_left_behind_stays_counted_when_the_policy_changes(slow: Slow) -> None:
    """The hedge that takes the place of another one, by a reload, goes on with its threads."""
    policy = Policy(Hedge(TINY))
    assert policy.call(slow) == "quick"
    for extra in (2, 3):
        policy.become(Policy(Hedge(TINY, extra=extra)))
    (described,) = policy.describe()["strategies"]
    assert (described["extra"], described["abandoned"]) == (3, 1)
    slow.let_go.set()
    eventually(lambda: policy.describe()["strategies"][0]["abandoned"] == 0)


def test_blocking_requests_run_at_the_same_time() -> None:
    """Requests run in threads of their own."""
    barrier = threading.Barrier(3)

    def work() -> int:
        barrier.wait(PATIENCE)
        return threading.get_ident()

    assert Policy(Hedge(0, extra=2)).call(work) != threading.get_ident()


def test_context_variables_reach_the_threads() -> None:
    """A request sees the caller's context variables."""
    variable = contextvars.ContextVar("variable", default="nobody")
    variable.set("ada")
    assert Policy(Hedge(LONG)).call(variable.get) == "ada"


def test_an_unwanted_blocking_result_is_closed(slow: Slow) -> None:
    """What a request answers after it has lost is closed in its thread; the winner's is not."""
    slow.answer, slow.other = Answer(), Answer()
    assert Policy(Hedge(TINY)).call(slow) is slow.other
    slow.let_go.set()
    eventually(lambda: slow.answer.closed == 1)
    assert slow.other.closed == 0


def test_slots_come_back_when_a_left_behind_request_ends(slow: Slow) -> None:
    """Slots held inside and outside for a request that lost come back when its thread ends."""
    inside, outside = Bulkhead(2), Bulkhead(1, queue=0)
    policy = Policy(outside, Hedge(TINY), inside)
    assert policy.call(slow) == "quick"
    assert (inside.in_use, outside.in_use) == (1, 1)
    with pytest.raises(BulkheadFullError):
        policy.call(slow)
    slow.let_go.set()
    eventually(lambda: (inside.in_use, outside.in_use) == (0, 0))


def test_a_limit_cuts_off_blocking_requests(slow: Slow) -> None:
    """A Timeout around a Hedge does not wait for threads that hang, and a breaker in between counts it."""
    breaker = CircuitBreaker(failures=1)
    with pytest.raises(PolicyTimeoutError):
        Policy(Timeout(TINY, thread=False), breaker, Hedge(LONG)).call(slow)
    assert breaker.state == "open"


def test_the_callers_deadline_cuts_off_blocking_requests(slow: Slow) -> None:
    """So does a deadline of the caller's."""
    with deadline(TINY), pytest.raises(TimeoutError):
        Policy(Hedge(LONG)).call(slow)


def test_a_limit_around_it_keeps_no_hedge_from_starting(slow: Slow) -> None:
    """It is waited for what comes first: the end of the limit, or the time of the next request."""
    assert Policy(Timeout(LONG, thread=False), Hedge(0)).call(slow) is slow.other


def test_a_request_that_lost_in_a_queue_does_not_run() -> None:
    """A request that still waits for a slot when the call is answered is refused there."""
    slots, inside, go = Bulkhead(1), threading.Event(), threading.Event()
    ran: list[int] = []

    def first() -> str:
        ran.append(1)
        inside.set()
        assert go.wait(PATIENCE)
        return "first"

    hedge = Hedge(TINY)
    policy = Policy(hedge, slots)
    answer: list[str] = []
    caller = threading.Thread(target=lambda: answer.append(policy.call(first)))
    caller.start()
    assert inside.wait(PATIENCE)
    eventually(lambda: slots.queued == 1)
    go.set()
    caller.join(PATIENCE)
    eventually(lambda: slots.in_use == slots.queued == hedge.describe()["abandoned"] == 0)
    assert answer == ["first"]
    assert ran in ([1], [1, 1])  # the slot may be handed over before the answer is


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_second_look_is_at_the_call_as_the_layer_knows_it(runtime: str) -> None:
    """Inside of the hedge that is the request that waited, outside of it the call."""

    class Looks:
        def __init__(self) -> None:
            self.calls, self.asked = list[Call](), list[Call]()

        def execute(self, proceed: Proceed, call: Call) -> Any:
            self.calls.append(call)
            return proceed(call)

        def recheck(self, call: Call) -> None:
            self.asked.append(call)

    async def scenario(h: Harness) -> None:
        outside, inside, slots = Looks(), Looks(), Bulkhead(1)
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slots).acall, anyio.sleep, 2)
            await anyio.lowlevel.checkpoint()
            await Policy(outside, Hedge(1), inside, slots).acall(anyio.sleep, 1)
        (call,), (first, second) = outside.calls, inside.calls
        assert {id(asked) for asked in outside.asked} == {id(call)}
        assert inside.asked[0] is first
        assert len({id(one) for one in (call, first, second)}) == 3

    on(runtime, scenario)


def test_a_lost_branch_is_refused_after_waiting() -> None:
    """Whoever has lost hears it at the next second look."""
    call = call_of(Plan("p"), BLOCKING, len, (), {})
    hedge = Hedge(1)
    branch = Branch(call, hedge)
    branch.recheck(hedge, 1.0)
    branch.lost = True
    with pytest.raises(Exception, match="answered while this hedge waited"):
        branch.recheck(hedge, 1.0)
    assert (branch.waited, call.waited) == (2.0, 0.0)


def test_a_result_is_closed_while_its_thread_is_still_busy(slow: Slow) -> None:
    """Nothing else is given to a thread that closes what nobody wants."""
    hedge, busy = Hedge(TINY), []

    class Watching(Answer):
        def close(self) -> None:
            busy.append(hedge.workers.busy)
            super().close()

    slow.answer = Watching()
    assert Policy(hedge).call(slow) == "quick"
    eventually(lambda: hedge.workers.busy == 1)
    slow.let_go.set()
    eventually(lambda: slow.answer.closed == 1)
    assert busy == [1]


def test_a_slot_outside_for_what_a_limit_inside_left_behind(slow: Slow) -> None:
    """A slot outside comes back when the thread ends that a Timeout inside left behind."""
    outside = Bulkhead(1)
    assert Policy(outside, Hedge(LONG), Timeout(TINY, thread=True)).call(slow) == "quick"
    assert outside.in_use == 1
    slow.let_go.set()
    eventually(lambda: outside.in_use == 0)


def test_an_end_that_nobody_waits_for() -> None:
    """A branch that ends after the decision is told so, and is never handed out."""
    call, hedge = call_of(Plan("p"), BLOCKING, len, (), {}), Hedge(1)
    race = Race(call)
    first, second = Branch(call, hedge), Branch(call, hedge)
    race.branches += [first, second]
    assert race.end(first)
    race.decide(first)
    assert (first.lost, second.lost) == (False, True)
    assert not race.end(second)


def test_news_before_the_wait_is_heard() -> None:
    """What another thread tells while who decides is about to wait is told once, and not taken for an end."""
    race = Race(call_of(Plan("p"), BLOCKING, len, (), {}))
    race.look()
    assert drive(race.next(None)) is None
    assert drive(race.next(0)) is None


async def test_both_have_answered_before_one_is_chosen(h: Harness) -> None:
    """A result that is there already when the other one is chosen is closed, and what closing raises is dropped."""

    class Broken(Answer):
        def close(self) -> None:
            super().close()
            raise RuntimeError

    hedge, answers = Hedge(LONG), [Broken(), Broken()]
    call = call_of(Plan("p"), BLOCKING if h.blocking else ASYNC, len, (), {})
    queue = iter(answers)

    async def proceed(_: Call) -> Broken:
        return next(queue)

    async def choose(race: Race) -> Branch | None:
        first = Branch(call, hedge)
        race.start(first, proceed)
        await race.next(PATIENCE)
        race.start(Branch(call, hedge), proceed)
        await race.next(PATIENCE)
        return first

    assert await Race(call).run(proceed, hedge.workers, choose) is answers[0]
    assert [answer.closed for answer in answers] == [0, 1]


@pytest.mark.parametrize("counts", [{}, {"in_flight": 0.2}])
def test_a_hedge_that_finds_no_thread_costs_no_retry(counts: dict[str, float]) -> None:
    """Its budget is as it was."""
    handed_back = threading.Event()

    class Budget(RetryBudget):
        def put_back(self, retry: UnderWay) -> None:
            super().put_back(retry)
            handed_back.set()

    budget = Budget(**counts)
    hedge = Hedge(0, budget=budget)
    hedge.workers = Workers(1, 32, "hedge")  # the first request takes it
    before = budget.remaining
    assert Policy(hedge).call(handed_back.wait, PATIENCE)
    assert budget.remaining == before


def test_without_a_free_thread_a_wait_inside_is_no_slow_call(manual_clock: ManualClock) -> None:
    """As it is none where the call is hedged: the server did not take that time."""
    breaker, hedge = CircuitBreaker(failures=None, slow_call=2, minimum_calls=1), Hedge(5)
    hedge.workers = Workers(256, 0, "hedge")
    policy = Policy(breaker, hedge, RateLimit(1, per=10, burst=1))
    began = manual_clock.now
    for _ in range(2):
        policy.call(int)
    assert manual_clock.now - began == pytest.approx(10, abs=0.1)
    assert breaker.metrics()["window"]["slow"] == 0


@pytest.mark.parametrize(("threads", "behind"), [(1, 32), (256, 0)])
def test_without_a_free_thread_calls_are_made_without_a_hedge(threads: int, behind: int) -> None:
    """At the cap of threads a call is neither refused nor hedged."""
    hedge = Hedge(0, extra=3)
    hedge.workers = Workers(threads, behind, "hedge")
    policy = Policy(hedge)
    release, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert release.wait(PATIENCE)

    holder = threading.Thread(target=policy.call, args=(hold,))
    if behind:
        holder.start()
        assert inside.wait(PATIENCE)
    assert policy.call(threading.get_ident) == threading.get_ident()
    with pytest.raises(ValueError, match="bug"):
        policy.call(lambda: (_ for _ in ()).throw(ValueError("bug")))
    release.set()
    if behind:
        holder.join(PATIENCE)


def test_an_awaitable_in_a_blocking_call_is_refused() -> None:
    """A plain function that returns an awaitable cannot be hedged in a thread; the error says what to do."""

    async def later() -> int:
        return 1

    def undeclared() -> Any:
        return later()

    policy = Policy(Hedge(LONG))
    for call in (policy(undeclared), lambda: policy.call(undeclared)):
        with pytest.raises(TypeError, match=r"await policy\.acall"):
            call()
    assert asyncio.run(policy.acall(undeclared)) == 1


def test_many_blocking_races_leak_nothing() -> None:
    """Threads that race through one policy get an answer each; all slots come back."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        inside, outside = Bulkhead(64), Bulkhead(64)
        hedge, answers = Hedge(0, extra=2), []
        counts = Events()
        chance = random.Random(1)

        def work(number: int) -> int:
            if chance.random() < 0.3:
                raise ConnectionError
            return number

        policy = Policy(outside, hedge, inside)
        policy.observe(counts)

        def caller(number: int) -> None:
            for each in range(25):
                try:
                    answers.append(policy.call(work, number) == number)
                except ConnectionError:
                    answers.append(True)
                assert each >= 0

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert answers == [True] * 150
        eventually(lambda: inside.in_use == outside.in_use == hedge.describe()["abandoned"] == 0)
        assert len(counts.of(AttemptStarted)) == len(counts.of(AttemptEnded))
    finally:
        sys.setswitchinterval(before)


def test_attempts_that_begin_together_have_different_numbers() -> None:
    """The requests of one call, in threads or not, are attempts 1, 2, 3."""
    seen, barrier = Events(), threading.Barrier(3)
    policy = Policy(Hedge(0, extra=2))
    policy.observe(seen)
    policy.call(lambda: barrier.wait(PATIENCE))
    assert sorted(event.attempt for event in seen.of(AttemptStarted)) == [1, 2, 3]
    assert seen.of(CallEnded)[0].attempts == 3


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_events_of_a_hedged_call(runtime: str) -> None:
    """Each request is an attempt; `HedgeStarted` says which hedge began and how long after the request before it."""

    async def scenario(h: Harness) -> None:
        seen, policy = Events(), Policy(Hedge(2, extra=2), name="p")
        policy.observe(seen)
        await policy.acall(Server(h, (3, ConnectionError()), (10, 0), (1, 1)))
        assert seen.of(HedgeStarted) == [HedgeStarted("p", 1, 2.0), HedgeStarted("p", 2, 1.0)]
        kinds = [type(event).__name__ for event in seen]
        assert kinds.index("HedgeStarted") == kinds.index("AttemptStarted") + 1
        assert [event.attempt for event in seen.of(AttemptStarted)] == [1, 2, 3]
        ended = sorted((event.attempt, event.outcome) for event in seen.of(AttemptEnded))
        assert ended == [(1, "failure"), (2, "cancelled"), (3, "success")]
        (end,) = seen.of(CallEnded)
        assert seen[-1] is end
        assert (end.attempts, end.outcome) == (3, "success")

    on(runtime, scenario)


async def test_a_result_that_a_retry_outside_rejects_is_a_failed_attempt(h: Harness) -> None:
    """`when=` of a Retry around the Hedge still judges attempts."""
    seen, policy = Events(), Policy(Retry(2, when=lambda result: result == "bad", wait=fixed(0)), Hedge(LONG))
    policy.observe(seen)
    assert await h.call(policy, server_of(h, Server(None, (0, "bad"), (0, "good")))) == "good"
    assert [event.outcome for event in seen.of(AttemptEnded)] == ["failure", "success"]


@pytest.mark.parametrize("runtime", LOOPS)
def test_an_answer_beside_a_fallback_that_failed_is_no_fallback(runtime: str) -> None:
    """The outcome of a call says where its result came from: what was tried in vain inside does not count."""

    def broken(error: Exception) -> Any:
        raise error

    async def scenario(h: Harness) -> None:
        seen, policy = Events(), Policy(Hedge(2), Fallback(broken))
        policy.observe(seen)
        assert await policy.acall(Server(h, (3, ConnectionError()), (3, "answer"))) == "answer"
        assert [event.outcome for event in seen.of(CallEnded)] == ["success"]

    on(runtime, scenario)


async def test_a_retry_after_a_fallback_that_failed_is_no_fallback(h: Harness) -> None:
    """The answer of the second attempt is the server's own."""

    def broken(error: Exception) -> Any:
        raise error

    seen, policy = Events(), Policy(Retry(2, wait=fixed(0)), Fallback(broken))
    policy.observe(seen)
    assert await h.call(policy, server_of(h, Server(None, ConnectionError(), (0, "answer")))) == "answer"
    assert [event.outcome for event in seen.of(CallEnded)] == ["success"]


# --- options, descriptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"after": -1}, ValueError, "after must be at least 0"),
        ({"after": float("inf")}, ValueError, "after must be a finite"),
        ({"after": "1"}, TypeError, "after must be a number of seconds"),
        ({"after": True}, TypeError, "after must be a number of seconds"),
        ({"after": 1, "extra": 0}, ValueError, "extra must be at least 1"),
        ({"after": 1, "extra": 1.5}, TypeError, "extra must be an int"),
        ({"after": 1, "on": ()}, ValueError, "on must name at least one"),
        ({"after": 1, "budget": 0.2}, TypeError, "budget must be a RetryBudget or None, got 0.2"),
        ({"after": 1, "on": KeyboardInterrupt}, TypeError, "on must name subclasses of Exception"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Wrong options fail when the Hedge is built, naming the argument."""
    with pytest.raises(error, match=message):
        Hedge(**options)


def test_what_it_says_of_itself() -> None:
    """It describes itself as plain data and as its constructor."""
    hedge = Hedge(timedelta(milliseconds=500), extra=2, on=(KeyError, OSError))
    assert json.loads(json.dumps(hedge.describe())) == {
        "strategy": "hedge",
        "after": 0.5,
        "extra": 2,
        "on": ["KeyError", "OSError"],
        "budget": None,
        "abandoned": 0,
    }
    assert repr(hedge) == "Hedge(0.5, extra=2, on=(KeyError, OSError))"
    assert repr(Hedge(1)) == "Hedge(1)"
    assert repr(Hedge(1, on=KeyError)) == "Hedge(1, on=KeyError)"


def test_it_pickles() -> None:
    """It travels as its options; its threads stay."""
    copy = pickle.loads(pickle.dumps(Hedge(1.5, extra=3, on=KeyError)))
    assert repr(copy) == "Hedge(1.5, extra=3, on=KeyError)"
    assert Policy(copy).call(lambda: 1) == 1


async def test_it_keeps_nothing(h: Harness) -> None:
    """No error, result or frame is kept beyond the call, without help of the garbage collector."""

    class Mine(ConnectionError):
        pass

    class Result:
        pass

    async def fail() -> None:
        error = Mine()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def succeed() -> Result:
        return Result()

    errors: list[weakref.ref[Any]] = []
    policy = Policy(Hedge(LONG, extra=2))
    gc.collect()
    gc.disable()
    try:
        try:
            await h.call(policy, fail)
        except Mine:
            pass
        results = [weakref.ref(await h.call(policy, succeed))]
        if h.blocking:
            eventually(lambda: all(ref() is None for ref in (*errors, *results)))
        elif h.runtime == "asyncio":
            await anyio.sleep(1)
        assert len(errors) == 3
        assert [ref() for ref in (*errors, *results)] == [None] * 4
    finally:
        gc.enable()


def test_the_caps_are_the_documented_ones() -> None:
    """256 running and 32 left behind, as the docstring says."""
    assert (module.MAX_THREADS, module.MAX_ABANDONED) == (256, 32)
