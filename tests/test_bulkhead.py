"""`Bulkhead` and the native anyio limiters. Threads and several loops at once are in tests/test_limits_races.py."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib.metadata
import itertools
import json
import os
import pickle
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from resilient_agents.adapters import bulkhead as module
from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.native.bulkhead import adapt_native
from resilient_agents.adapters.native.owner import Owner, loop_or_token
from resilient_agents.adapters.slot_pool import LOOK
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.clock import clock
from resilient_agents.core.call import Call, Proceed
from resilient_agents.deadline import deadline
from resilient_agents.errors import BulkheadFullError, DeadlineExceeded, PolicyTimeoutError, Rejected
from resilient_agents.events import CallRejected, Waited
from resilient_agents.policy import Policy
from resilient_agents.strategies.hedge import Hedge
from tests.conftest import Events, Harness, run_on
from tests.strategies import Again, Refuses, hold_slot, value

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


async def fails(error: BaseException) -> None:
    raise error


async def test_a_call_passes_and_gives_its_slot_back(h: Harness) -> None:
    """A result comes out as it is, and nothing stays in use."""
    bulkhead = Bulkhead(1)
    assert [await h.call(Policy(bulkhead), value, i) for i in range(3)] == [0, 1, 2]
    assert bulkhead.in_use == 0


async def test_the_slot_is_held_while_the_function_runs(h: Harness) -> None:
    """`in_use` counts the call that is inside."""
    bulkhead = Bulkhead(2)

    async def look() -> int:
        return bulkhead.in_use

    assert await h.call(Policy(bulkhead), look) == 1


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
async def test_the_slot_comes_back_however_the_call_ends(h: Harness, error: BaseException) -> None:
    """Errors, and what is no Exception, come out as they are and give the slot back."""
    bulkhead = Bulkhead(1)
    with pytest.raises(type(error)) as caught:
        await h.call(Policy(bulkhead), fails, error)
    assert caught.value is error
    assert bulkhead.in_use == 0


async def test_no_slot_is_held_between_attempts(h: Harness) -> None:
    """What repeats a call from outside takes a slot anew for each attempt."""
    bulkhead = Bulkhead(1, queue=0)
    assert await h.call(Policy(Again(), bulkhead), value) == "value"


async def test_a_second_slot_of_a_full_bulkhead_is_refused(h: Harness) -> None:
    """A task or thread that holds a slot and would wait for another is told that it waits for itself."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead, name="agent")

    async def outer() -> Any:
        return await h.call(policy, value)

    with pytest.raises(
        BulkheadFullError, match=r"'agent'.*holds one of its 1 slots.*wait for itself.*another bulkhead"
    ):
        await h.call(policy, outer)
    assert bulkhead.in_use == 0


async def test_a_second_slot_is_granted_while_there_is_one(h: Harness) -> None:
    """Only a full bulkhead refuses the same task."""
    policy = Policy(Bulkhead(2))

    async def outer() -> Any:
        return await h.call(policy, value)

    assert await h.call(policy, outer) == "value"


async def test_a_nested_call_inside_a_stream_is_refused_too(h: Harness) -> None:
    """The task that iterates a stream holds its slot, and would wait for itself."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    if h.blocking:
        with policy.stream(lambda: iter([1, 2])) as stream:
            for _ in stream:
                with pytest.raises(BulkheadFullError, match="itself"):
                    policy.call(lambda: None)
    else:
        async with policy.stream(lambda: iter([1, 2])) as stream:
            async for _ in stream:
                with pytest.raises(BulkheadFullError, match="itself"):
                    await policy.acall(value)
    assert bulkhead.in_use == 0


@LOOPS
def test_a_stream_that_outlived_its_task_belongs_to_nobody(runtime: str) -> None:
    """A new task that happens to get the identity of the one that opened the stream is not taken for it."""
    bulkhead = Bulkhead(1, queue=0)
    policy = Policy(bulkhead)

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def scenario() -> None:
        opened: list[Any] = []

        async def opener() -> None:
            opened.append(aiter(policy.stream(source)))
            await anext(opened[0])

        async def refused() -> None:
            with pytest.raises(BulkheadFullError, match="queue=0"):  # and not because it would wait for itself
                await policy.acall(value)

        async with anyio.create_task_group() as group:
            group.start_soon(opener)
        gc.collect()
        for _ in range(100):
            async with anyio.create_task_group() as group:
                group.start_soon(refused)
        await opened[0].aclose()

    run_on(runtime, scenario)
    assert bulkhead.in_use == 0


async def test_queue_0_rejects_at_once(h: Harness) -> None:
    """With queue=0 a full bulkhead makes nobody wait; the error carries its facts."""
    bulkhead = Bulkhead(1, queue=0)
    policy = Policy(bulkhead, name="agent")
    events = Events()
    policy.observe(events)
    give_back = hold_slot(bulkhead)
    before = h.now()
    with pytest.raises(BulkheadFullError, match=r"'agent' is full: all of its 1 slots.*queue=0") as caught:
        await h.call(policy, value)
    assert (caught.value.policy, caught.value.strategy, caught.value.retry_after) == ("agent", "bulkhead", None)
    assert h.now() == before
    assert events.of(CallRejected) == [CallRejected("agent", "bulkhead")]
    give_back()


async def test_max_wait_0_rejects_at_once(h: Harness) -> None:
    """With max_wait=0 nobody waits either."""
    bulkhead = Bulkhead(1, max_wait=0)
    give_back = hold_slot(bulkhead)
    with pytest.raises(BulkheadFullError, match="max_wait=0"):
        await h.call(Policy(bulkhead), value)
    assert bulkhead.queued == 0
    give_back()


@LOOPS
def test_waiters_are_served_in_order_and_events_say_how_long(runtime: str) -> None:
    """Ten calls through one slot run in the order they came, each told how long it waited."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead, name="agent")
    events = Events()
    policy.observe(events)
    order: list[int] = []

    async def work(number: int) -> None:
        order.append(number)
        await anyio.sleep(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(policy(work), number)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()

    run_on(runtime, scenario)
    assert order == list(range(10))
    assert [round(event.seconds) for event in events.of(Waited)] == list(range(1, 10))
    assert {event.strategy for event in events.of(Waited)} == {"bulkhead"}
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)


@LOOPS
def test_a_bounded_queue_turns_away_who_comes_too_late(runtime: str) -> None:
    """queue=1: the third of three is rejected, the second is served."""
    bulkhead = Bulkhead(1, queue=1)
    policy = Policy(bulkhead)
    outcomes: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)

    async def call() -> None:
        try:
            await policy.acall(work)
            outcomes.append("ok")
        except BulkheadFullError as error:
            outcomes.append(str(error).rpartition(" and ")[2])

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)

    run_on(runtime, scenario)
    assert outcomes == ["1 calls wait already", "ok", "ok"]


@LOOPS
@pytest.mark.parametrize("max_wait", [2, timedelta(seconds=2)])
def test_max_wait_bounds_the_wait(runtime: str, max_wait: Any) -> None:
    """After `max_wait` seconds a waiter gives up, and leaves no trace in the queue."""
    bulkhead = Bulkhead(1, max_wait=max_wait)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep), 10)
            await anyio.sleep(1)
            before = anyio.current_time()
            with pytest.raises(BulkheadFullError, match="came free within 2 s"):
                await policy.acall(value)
            assert anyio.current_time() - before == pytest.approx(2)
            assert bulkhead.queued == 0

    run_on(runtime, scenario)
    assert bulkhead.in_use == 0


def test_max_wait_bounds_the_wait_of_a_thread() -> None:
    """A blocking caller gives up as well."""
    bulkhead = Bulkhead(1, max_wait=0.01)
    give_back = hold_slot(bulkhead)
    with pytest.raises(BulkheadFullError, match="came free within 0.01 s"):
        Policy(bulkhead).call(lambda: None)
    assert bulkhead.queued == 0
    give_back()


@LOOPS
def test_a_timeout_that_ends_the_wait_raises_its_own_error(runtime: str) -> None:
    """Who set the limit says what happened."""
    bulkhead = Bulkhead(1)
    policy = Policy(Timeout(2), bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead)(anyio.sleep), 10)
            await anyio.sleep(1)
            with pytest.raises(PolicyTimeoutError):
                await policy.acall(value)
            with deadline(1), pytest.raises(DeadlineExceeded):
                await Policy(bulkhead).acall(value)
            assert bulkhead.queued == 0

    run_on(runtime, scenario)
    assert bulkhead.in_use == 0


@LOOPS
def test_a_wait_ends_with_a_limit_that_cannot_end_it(runtime: str) -> None:
    """One that has cancelled its task does so once, and what cleans up waits no longer; nor does what a shield keeps
    from being cancelled."""
    bulkhead, ends = Bulkhead(1), list[float]()
    policy = Policy(bulkhead)

    async def too_late() -> None:
        before = anyio.current_time()
        try:
            if runtime == "asyncio":
                await anyio.sleep(9)
        finally:
            with anyio.CancelScope(shield=True), pytest.raises(BulkheadFullError, match="before the deadline"):
                await policy.acall(value)
            ends.append(anyio.current_time() - before)
        await anyio.sleep(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep), 100)
            await anyio.sleep(1)
            with pytest.raises(PolicyTimeoutError):
                await Policy(Timeout(2)).acall(too_late)
            group.cancel_scope.cancel()

    run_on(runtime, scenario)
    assert ends == [pytest.approx(2, abs=0.01)]
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)


async def test_a_wait_may_be_longer_than_from_one_look_to_the_next(h: Harness) -> None:
    """Those that wait look now and then whether a loop was closed, and wait no longer and no shorter for that."""
    bulkhead = Bulkhead(1, max_wait=2.5 * LOOK)
    give_back, began = hold_slot(bulkhead), h.now()
    with pytest.raises(BulkheadFullError, match="none of its 1 slots came free within 25 s"):
        await h.call(Policy(bulkhead), value)
    assert h.now() - began == pytest.approx(2.5 * LOOK)
    give_back()


async def test_a_bulkhead_that_stands_twice_in_a_policy_waits_for_itself(h: Harness) -> None:
    """It says so, also where it is outermost."""
    bulkhead = Bulkhead(1, max_wait=1)
    with pytest.raises(BulkheadFullError, match="itself"):
        await h.call(Policy(bulkhead, bulkhead), value)
    assert bulkhead.in_use == 0


def test_a_wait_ends_behind_its_limit_although_it_began_after_it() -> None:
    """From a look at the clock to a timer that is set it takes a while, by which the wait would end too early."""
    bulkhead, looks = Bulkhead(1), itertools.count()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead)(anyio.sleep), 10)
            await anyio.sleep(1)
            slow = clock.replaced(monotonic=lambda: loop.time() + next(looks) * 1e-5)
            with slow, pytest.raises(PolicyTimeoutError):
                await Policy(Timeout(2), bulkhead).acall(value)

    run_on("asyncio", scenario)


def test_a_timeout_that_ends_the_wait_of_a_thread_raises_its_own_error() -> None:
    """The same in blocking code."""
    bulkhead = Bulkhead(1)
    give_back = hold_slot(bulkhead)
    with pytest.raises(PolicyTimeoutError):
        Policy(Timeout(0.01), bulkhead).call(lambda: None)
    with deadline(0.01), pytest.raises(DeadlineExceeded):
        Policy(bulkhead).call(lambda: None)
    assert bulkhead.queued == 0
    give_back()


@LOOPS
def test_a_call_that_waited_is_checked_again_and_gives_its_slot_back(runtime: str) -> None:
    """A layer outside may refuse a call that had to wait; the function does not run then."""
    bulkhead = Bulkhead(1)
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead)(anyio.sleep), 1)
            await anyio.sleep(0.5)
            with pytest.raises(Rejected, match="changed my mind"):
                await Policy(Refuses(), bulkhead).acall(work)

    run_on(runtime, scenario)
    assert not ran
    assert bulkhead.in_use == 0


@LOOPS
def test_a_cancelled_waiter_leaves_and_a_cancelled_holder_gives_back(runtime: str) -> None:
    """Cancellation leaks neither a place in the queue nor a slot."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep_forever))
            await anyio.sleep(1)
            group.start_soon(policy(anyio.sleep_forever))
            await anyio.sleep(1)
            assert (bulkhead.in_use, bulkhead.queued) == (1, 1)
            group.cancel_scope.cancel()
        assert (bulkhead.in_use, bulkhead.queued) == (0, 0)

    run_on(runtime, scenario)


@LOOPS
def test_a_cancellation_that_races_with_the_grant_hands_it_on(runtime: str) -> None:
    """A waiter cancelled after it was granted the slot, but before it ran, passes it to the next."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    ran: list[str] = []

    async def work(name: str) -> None:
        ran.append(name)

    async def scenario() -> None:
        give_back = hold_slot(bulkhead)
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await policy.acall(work, "cancelled")

        async with anyio.create_task_group() as group:
            group.start_soon(cancelled)
            await anyio.sleep(1)
            group.start_soon(policy(work), "next")
            await anyio.sleep(1)
            give_back()
            scope.cancel()

    run_on(runtime, scenario)
    assert ran == ["next"]
    assert bulkhead.in_use == 0


def test_a_blocking_wait_on_an_event_loop_is_refused() -> None:
    """It would stop the loop, and with it whoever could give a slot back."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep), 1)
            await anyio.sleep(0.5)
            with pytest.raises(BulkheadFullError, match=r"event loop's own thread.*await policy.acall"):
                policy.call(lambda: None)

    run_on("asyncio", scenario)
    run_on("trio", scenario)
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)


@LOOPS
def test_an_undeclared_async_function_waits_as_an_awaitable(runtime: str) -> None:
    """A callable that only turned out to be async when it was called need not be refused: its wait is awaited."""
    bulkhead = Bulkhead(1)

    @Policy(bulkhead)
    def undeclared() -> Awaitable[str]:
        return value()

    async def scenario() -> None:
        assert await undeclared() == "value"  # from here on it is known
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead)(anyio.sleep), 1)
            await anyio.sleep(0.5)
            assert await undeclared() == "value"

    run_on(runtime, scenario)
    assert bulkhead.in_use == 0


@LOOPS
@pytest.mark.parametrize("known", [False, True])
def test_many_undeclared_async_calls_at_once(runtime: str, known: bool) -> None:
    """Calls that are begun one after another and awaited together do not wait for themselves, the very first one, which
    began in blocking code, included."""
    bulkhead = Bulkhead(3)
    inside, peak = 0, 0

    async def work() -> None:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await anyio.sleep(1)
        inside -= 1

    @Policy(bulkhead)
    def undeclared() -> Awaitable[None]:
        return work()

    async def call(awaitable: Awaitable[None]) -> None:
        await awaitable

    async def scenario() -> None:
        if known:
            await undeclared()
        async with anyio.create_task_group() as group:
            for awaitable in [undeclared() for _ in range(6)]:
                group.start_soon(call, awaitable)

    run_on(runtime, scenario)
    assert peak == 3
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)


def test_blocking_calls_beside_an_undeclared_one_get_slots_of_their_own() -> None:
    """On a loop's own thread a call that began blocking goes on as an awaitable: it is not the thread that holds its
    slot."""
    bulkhead = Bulkhead(2)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        pending: Any = policy(lambda: value())()
        assert bulkhead.in_use == 1
        assert policy.call(lambda: bulkhead.in_use) == 2
        give_back = hold_slot(bulkhead)
        with pytest.raises(BulkheadFullError, match="event loop's own thread"):
            policy.call(lambda: None)
        assert await pending == "value"
        give_back()

    run_on("asyncio", scenario)
    run_on("trio", scenario)
    assert bulkhead.in_use == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_closed_loop_does_not_strand_the_slot_of_an_undeclared_call(known: bool) -> None:
    """Nor of its very first call, which began in blocking code; though somebody still holds the task."""
    bulkhead = Bulkhead(1, queue=0)

    def undeclared(seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)

    guarded = Policy(bulkhead)(undeclared)
    if known:
        run_on("asyncio", lambda: guarded(0))
    loop = asyncio.new_event_loop()

    async def call() -> None:
        await guarded(100)

    task = loop.create_task(call())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert bulkhead.in_use == 1
    loop.close()
    assert Policy(bulkhead).call(lambda: "free") == "free"
    assert not task.done()


def test_a_loop_inside_a_blocking_call_is_inside_too() -> None:
    """`asyncio.run` ends only when its tasks have: one that asks for a slot of the full bulkhead waits for itself."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    with pytest.raises(BulkheadFullError, match="itself"):
        policy.call(lambda: asyncio.run(policy.acall(value)))
    assert bulkhead.in_use == 0


@LOOPS
def test_another_task_does_not_wait_for_itself(runtime: str) -> None:
    """Only who is called from inside does: a task beside the holder waits in line."""
    policy = Policy(Bulkhead(1))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep), 1)
            await anyio.sleep(0.5)
            assert await policy.acall(value) == "value"

    run_on(runtime, scenario)


class Sees:
    """Notes what the call says of its limits when it is over."""

    cut_short: bool | None = None

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        finally:
            self.cut_short = call.cut_short


@LOOPS
def test_a_limit_that_ends_the_wait_tells_nothing_of_the_callee(runtime: str) -> None:
    """A breaker outside counts a call that was cut off inside, and none that only queued."""
    bulkhead, breaker, sees = Bulkhead(1), CircuitBreaker(failures=1), Sees()
    guarded = Policy(Timeout(2), breaker, sees, bulkhead)
    seen: list[tuple[bool | None, str]] = []

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(bulkhead)(anyio.sleep), 4)
            await anyio.sleep(1)
            with pytest.raises(PolicyTimeoutError):
                await guarded.acall(value)
            seen.append((sees.cut_short, breaker.state))
            await anyio.sleep(0.5)
            with pytest.raises(PolicyTimeoutError):
                await guarded.acall(anyio.sleep, 10)  # is admitted after half a second
            seen.append((sees.cut_short, breaker.state))

    run_on(runtime, scenario)
    assert seen == [(True, "closed"), (False, "open")]


async def test_a_stream_holds_its_slot_until_it_closes(h: Harness) -> None:
    """The slot is in use between items and comes back at the end."""
    bulkhead = Bulkhead(1)
    stream = Policy(bulkhead).stream(lambda: iter([1, 2, 3]))
    if h.blocking:
        seen = [bulkhead.in_use for _ in stream]
    else:
        seen = [bulkhead.in_use async for _ in stream]
    assert seen == [1, 1, 1]
    assert bulkhead.in_use == 0


async def test_a_stream_that_is_closed_early_gives_its_slot_back(h: Harness) -> None:
    """Leaving the block is enough."""
    bulkhead = Bulkhead(1)
    stream = Policy(bulkhead).stream(lambda: iter([1, 2, 3]))
    if h.blocking:
        with stream:
            assert next(iter(stream)) == 1
    else:
        async with stream:
            assert await anext(aiter(stream)) == 1
    assert bulkhead.in_use == 0


async def test_a_stream_that_fails_before_its_first_item_gives_its_slot_back(h: Harness) -> None:
    """An error in opening gives the slot back at once."""
    bulkhead = Bulkhead(1)

    def broken() -> Iterator[int]:
        raise ValueError("mine")
        yield 1

    with pytest.raises(ValueError, match="mine"):
        await h.items(Policy(bulkhead).stream(broken))
    assert bulkhead.in_use == 0


class Looks:
    """Keeps the workers that the call is left with."""

    workers: object = "not called"

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        finally:
            self.workers = call.workers


class InThread:
    """A function that runs in a worker thread until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> str:
        self.thread = threading.current_thread()
        self.begun.set()
        assert self.go_on.wait(10)
        return "value"


def wait_until(condition: Callable[[], bool]) -> None:
    """For what another thread is just about to do."""
    give_up = threading.Event()
    for _ in range(2000):
        if condition():
            return
        give_up.wait(0.001)
    raise AssertionError("it never came about")


def test_isolation_thread_runs_plain_functions_in_threads_of_its_own() -> None:
    """A plain function leaves the caller's thread, and its result comes back."""
    bulkhead = Bulkhead(1, isolation="thread")
    thread = Policy(bulkhead).call(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert bulkhead.in_use == 0


def test_its_threads_are_for_what_is_inside_only() -> None:
    """A layer outside, such as a fallback's handler, does not find them on the call."""
    looks = Looks()
    Policy(looks, Bulkhead(1, isolation="thread")).call(lambda: None)
    assert looks.workers is None


def test_isolation_thread_leaves_coroutine_functions_where_they_are() -> None:
    """An async function runs on its loop."""

    async def where() -> threading.Thread:
        return threading.current_thread()

    bulkhead = Bulkhead(1, isolation="thread")
    policy = Policy(bulkhead)
    assert asyncio.run(policy.acall(where)) is threading.current_thread()
    assert asyncio.run(policy(where)()) is threading.current_thread()


@pytest.mark.parametrize("isolation", ["thread", "caller"])
def test_the_slot_of_a_thread_that_was_left_behind_comes_back_when_it_ends(isolation: Any) -> None:
    """After a time limit the function still runs, and so its slot is in use."""
    bulkhead = Bulkhead(1, queue=0, isolation=isolation)
    outside, inside = Policy(Timeout(0.02, thread=False), bulkhead), Policy(bulkhead, Timeout(0.02, thread=True))
    policy = outside if isolation == "thread" else inside
    work = InThread()
    with pytest.raises(PolicyTimeoutError):
        policy.call(work)
    assert bulkhead.in_use == 1
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: None)
    work.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)
    assert policy.call(lambda: "again") == "again"


def test_the_slot_of_a_cancelled_async_caller_comes_back_when_its_thread_ends() -> None:
    """The same for `acall`, when the task is cancelled."""
    bulkhead = Bulkhead(1, isolation="thread")
    work = InThread()

    async def main() -> None:
        task = asyncio.create_task(Policy(bulkhead).acall(work))
        await asyncio.to_thread(work.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bulkhead.in_use == 1

    asyncio.run(main())
    work.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)


@pytest.mark.parametrize("isolation", ["thread", "caller"])
def test_a_thread_left_behind_by_an_earlier_attempt_does_not_hold_a_later_slot(isolation: Any) -> None:
    """Each slot waits for its own thread only."""
    bulkhead = Bulkhead(2, isolation=isolation)
    first = InThread()
    calls: list[Callable[[], str]] = [first, lambda: "second"]
    policy = Policy(Again(), bulkhead, Timeout(0.02, thread=True))
    assert policy.call(lambda: calls.pop(0)()) == "second"
    assert bulkhead.in_use == 1
    first.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)


def test_a_caller_that_left_its_thread_behind_holds_nothing() -> None:
    """It is told that the bulkhead is full, not that it would wait for itself, and waits where it may."""
    bulkhead = Bulkhead(1, max_wait=0.01)
    policy = Policy(bulkhead, Timeout(0.02, thread=True))
    work = InThread()
    with pytest.raises(PolicyTimeoutError):
        policy.call(work)
    with pytest.raises(BulkheadFullError, match="came free within 0.01 s"):
        policy.call(lambda: None)
    work.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)


def test_a_slot_waits_for_the_last_thread_that_was_left_behind() -> None:
    """Where each of two attempts inside leaves one, whichever ends first."""
    bulkhead = Bulkhead(1)
    first, second = InThread(), InThread()
    calls = [first, second]
    with pytest.raises(PolicyTimeoutError):
        Policy(bulkhead, Again(), Timeout(0.02, thread=True)).call(lambda: calls.pop(0)())
    second.go_on.set()
    assert second.thread is not None
    ended: list[bool] = []
    first.begun.wait(10)
    for _ in range(100):
        ended.append(bulkhead.in_use == 0)
        threading.Event().wait(0.0005)
    assert not any(ended)
    first.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)


def test_a_worker_that_asks_for_a_second_slot_would_wait_for_itself() -> None:
    """With isolation="thread" the holder is the worker, and it is refused as such."""
    bulkhead = Bulkhead(1, isolation="thread")
    policy = Policy(bulkhead)
    with pytest.raises(BulkheadFullError, match="itself"):
        policy.call(lambda: policy.call(lambda: None))
    assert bulkhead.in_use == 0


def strand(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, object]], count: int) -> None:
    """Begin tasks on a loop that will be closed under them, without the warning about that."""
    for _ in range(count):
        loop.create_task(work())._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_closed_loop_strands_neither_slots_nor_places_in_the_queue() -> None:
    """A loop closed under a holder and a waiter: the slot is free for the next, and is not given back twice later."""
    bulkhead = Bulkhead(1, queue=1)
    policy = Policy(bulkhead)
    loop = asyncio.new_event_loop()
    strand(loop, lambda: policy.acall(asyncio.sleep, 100), 2)
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert (bulkhead.in_use, bulkhead.queued) == (1, 1)
    loop.close()
    assert policy.call(lambda: "free") == "free"
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)
    give_back = hold_slot(bulkhead)
    gc.collect()  # ends the coroutines of the closed loop
    assert bulkhead.in_use == 1
    give_back()
    assert bulkhead.in_use == 0


def test_who_waits_already_finds_out_that_a_loop_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wakes it, and the tasks of the dead loop are kept by somebody, so it looks itself now and then."""
    monkeypatch.setattr(module, "LOOK", 0.001)
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    loop = asyncio.new_event_loop()
    held = loop.create_task(policy.acall(asyncio.Event().wait))
    loop.run_until_complete(asyncio.sleep(0))
    waiting = [
        threading.Thread(target=policy.call, args=(int,)),
        threading.Thread(target=anyio.run, args=(policy(value),)),
    ]
    for number, thread in enumerate(waiting, 1):
        thread.start()
        while bulkhead.queued < number:
            time.sleep(0)
    loop.close()
    for thread in waiting:
        thread.join(30)
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)
    held._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_tasks_that_wait_look_at_times_whether_a_loop_was_closed(earlier: int) -> None:
    """Again and again, as long as somebody waits, and anew where nobody did for a while."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    dead = asyncio.new_event_loop()
    held = dead.create_task(policy.acall(asyncio.Event().wait))
    dead.run_until_complete(asyncio.sleep(0))

    async def scenario() -> None:
        waiting = [asyncio.create_task(policy.acall(value)) for _ in range(3)]
        await asyncio.sleep(LOOK * (earlier + 0.5))
        assert bulkhead.queued == 3
        dead.close()
        await asyncio.sleep(LOOK)
        assert all(task.done() for task in waiting)

    run_on("asyncio", scenario)
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)
    held._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_loop_that_was_closed_under_those_who_wait_is_let_go() -> None:
    """A process that makes one loop after another keeps none of them."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    give_back = hold_slot(bulkhead)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(policy.acall(value))
    loop.run_until_complete(asyncio.sleep(0))
    assert bulkhead.queued == 1
    loop.close()
    bulkhead.reconfigure(Bulkhead(1, queue=0))
    with pytest.raises(BulkheadFullError):  # who looked whether there are any that were stranded
        policy.call(int)
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    gone = weakref.ref(loop)
    del loop, waiting
    gc.collect()
    assert gone() is None
    give_back()


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param([], id="the call itself"),
        pytest.param([Hedge(60)], id="a branch"),
        pytest.param([Hedge(60), Hedge(60)], id="a branch of a branch"),
        pytest.param([Hedge(60), Timeout(60, thread=True)], id="a branch with threads of its own"),
    ],
)
def test_a_closed_loop_does_not_free_the_slot_of_a_thread_that_still_runs(inside: list[Any]) -> None:
    """The thread outlives the loop of its caller, and so does its slot, whoever started it."""
    bulkhead = Bulkhead(1, queue=0, isolation="thread")
    policy = Policy(bulkhead)
    work = InThread()
    loop = asyncio.new_event_loop()
    stranded = Policy(bulkhead, *inside)
    strand(loop, lambda: stranded.acall(work), 1)
    while not work.begun.is_set():
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: None)
    work.go_on.set()

    def is_free() -> bool:
        try:
            return policy.call(lambda: True)
        except BulkheadFullError:
            return False

    wait_until(is_free)


def test_a_closed_loop_does_not_free_the_slot_of_a_thread_that_was_left_behind() -> None:
    """The same where the loop ended in good order, after a time limit."""
    bulkhead = Bulkhead(1, queue=0)
    work = InThread()
    with pytest.raises(PolicyTimeoutError):
        asyncio.run(Policy(bulkhead, Timeout(0.02, thread=True)).acall(work))
    with pytest.raises(BulkheadFullError):
        Policy(bulkhead).call(lambda: None)
    work.go_on.set()
    wait_until(lambda: bulkhead.in_use == 0)


def test_one_loop_after_another() -> None:
    """Sequential `asyncio.run` calls share a bulkhead without trouble, waiting included."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)

    async def main() -> None:
        await asyncio.gather(*(policy.acall(asyncio.sleep, 0) for _ in range(3)))

    for _ in range(3):
        asyncio.run(main())
    assert (bulkhead.in_use, bulkhead.queued) == (0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_call_that_runs_across_a_fork_ends_harmlessly_in_the_child() -> None:
    """The child has full capacity, and the end of the call it was born in adds nothing to it."""
    bulkhead = Bulkhead(1, queue=0)
    policy = Policy(bulkhead)
    child = policy.call(os.fork)
    if child == 0:
        ok = bulkhead.in_use == 0 and policy.call(lambda: bulkhead.in_use) == 1
        give_back = hold_slot(bulkhead)
        try:
            policy.call(int)
        except BulkheadFullError:
            give_back()
            os._exit(0 if ok and bulkhead.in_use == 0 else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bulkhead.in_use == 0


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_says_that_it_cannot_be_pickled_or_copied(duplicate: Callable[[Any], Any]) -> None:
    """A copy would be a second limit."""
    with pytest.raises(TypeError, match="live state"):
        duplicate(Bulkhead(1))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0,), {}, "limit must be at least 1, got 0"),
        ((2.5,), {}, "limit must be an int, got 2.5"),
        ((1,), {"queue": -1}, "queue must be at least 0, got -1"),
        ((1,), {"max_wait": -1}, "max_wait must be at least 0 seconds, got -1"),
        ((1,), {"isolation": "process"}, 'isolation must be "caller" or "thread", got \'process\''),
    ],
)
def test_wrong_options_fail_at_once(arguments: tuple[Any], options: dict[str, Any], message: str) -> None:
    """The error names the option, the rule and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        Bulkhead(*arguments, **options)


def test_it_describes_itself_as_plain_data() -> None:
    """Options and live state, for json; the repr is the constructor."""
    bulkhead = Bulkhead(3, queue=5, max_wait=1, isolation="thread")
    assert json.loads(json.dumps(bulkhead.describe())) == {
        "strategy": "bulkhead",
        "limit": 3,
        "queue": 5,
        "max_wait": 1.0,
        "isolation": "thread",
        "shadow": False,
        "in_use": 0,
        "queued": 0,
    }
    assert repr(bulkhead) == "Bulkhead(3, queue=5, max_wait=1, isolation='thread')"
    assert repr(Bulkhead(3)) == "Bulkhead(3)"


NATIVE = pytest.mark.parametrize("make", [anyio.CapacityLimiter, anyio.Semaphore])


def native_of(make: Callable[[int], Any], slots: int, runtime: str = "asyncio") -> Any:
    """Made on a loop: anyio has not always allowed anything else."""

    async def scenario() -> Any:
        return make(slots)

    return run_on(runtime, scenario)


def taken(limiter: Any, of: int = 1) -> int:
    """How many slots are taken."""
    return limiter.borrowed_tokens if isinstance(limiter, anyio.CapacityLimiter) else of - limiter.value


def test_only_anyio_objects_are_adapted() -> None:
    """Anything else is left to the other adapters."""
    assert adapt_native(object()) is None
    assert adapt_native(Bulkhead(1)) is None


@NATIVE
@LOOPS
def test_a_native_limiter_bounds_concurrency(runtime: str, make: Callable[[int], Any]) -> None:
    """At most its own number of calls is inside; those that waited say so, and all slots come back."""
    limiter = native_of(make, 2, runtime)
    policy = Policy(limiter)
    events = Events()
    policy.observe(events)
    inside, peak = 0, 0

    async def work() -> None:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await anyio.sleep(1)
        inside -= 1

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(policy(work))
        assert limiter.statistics().tasks_waiting == 0
        assert await policy.acall(value) == "value"

    run_on(runtime, scenario)
    assert peak == 2
    assert [round(event.seconds) for event in events.of(Waited)] == [1, 1, 2, 2]


@NATIVE
@LOOPS
def test_one_task_may_hold_two_slots_of_a_native_limiter(runtime: str, make: Callable[[int], Any]) -> None:
    """anyio refuses the same task twice when it borrows for itself; here every call borrows."""
    policy = Policy(native_of(make, 2, runtime))

    async def nested() -> Any:
        return await policy.acall(value)

    async def scenario() -> None:
        assert await policy.acall(nested) == "value"

    run_on(runtime, scenario)


@NATIVE
@LOOPS
def test_cancelling_gives_the_slots_of_a_native_limiter_back(runtime: str, make: Callable[[int], Any]) -> None:
    """Neither a holder nor a waiter leaks."""
    limiter = native_of(make, 1, runtime)
    policy = Policy(limiter)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep_forever))
            group.start_soon(policy(anyio.sleep_forever))
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        assert await policy.acall(value) == "value"

    run_on(runtime, scenario)
    assert taken(limiter) == 0


@NATIVE
def test_a_native_limiter_in_blocking_code_says_what_to_use(make: Callable[[int], Any]) -> None:
    """It cannot wait there."""
    with pytest.raises(TypeError, match="async code only: use Bulkhead"):
        Policy(native_of(make, 1)).call(lambda: None)


@NATIVE
def test_a_native_limiter_of_another_backend_says_what_to_use(make: Callable[[int], Any]) -> None:
    """First used on asyncio, it cannot work on trio."""
    policy = Policy(native_of(make, 1))

    async def scenario() -> None:
        await policy.acall(value)

    run_on("asyncio", scenario)
    with pytest.raises(TypeError, match="first used on asyncio and cannot work on trio: use Bulkhead"):
        run_on("trio", scenario)


@NATIVE
def test_a_native_limiter_in_use_on_another_loop_says_what_to_use(make: Callable[[int], Any]) -> None:
    """Two live loops would lose wake-ups; one after another is fine, and so is one that nobody is inside on."""
    policy = Policy(native_of(make, 5))

    async def main() -> None:
        with pytest.raises(TypeError, match="in use on another event loop.*use Bulkhead"):
            await asyncio.to_thread(lambda: asyncio.run(policy.acall(value)))

    async def elsewhere() -> None:
        assert await asyncio.to_thread(lambda: asyncio.run(policy.acall(value))) == "value"

    async def mine() -> None:
        await policy.acall(value)
        await elsewhere()

    for _ in range(2):
        asyncio.run(policy.acall(main))
    asyncio.run(mine())


@NATIVE
@LOOPS
def test_a_stream_holds_a_native_slot_until_it_closes(runtime: str, make: Callable[[int], Any]) -> None:
    """One stream is one call here too."""
    limiter = native_of(make, 1, runtime)

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def scenario() -> None:
        async with Policy(limiter).stream(source) as stream:
            assert [taken(limiter) async for _ in stream] == [1, 1]
        assert taken(limiter) == 0

    run_on(runtime, scenario)


@NATIVE
def test_a_native_slot_waits_for_the_thread_that_was_left_behind(make: Callable[[int], Any]) -> None:
    """It is given back on the loop, when the thread ends."""
    limiter = native_of(make, 1)
    work = InThread()

    async def main() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(limiter, Timeout(0.02, thread=True)).acall(work)
        assert taken(limiter) == 1
        work.go_on.set()
        assert await Policy(limiter).acall(value) == "value"

    asyncio.run(main())
    assert taken(limiter) == 0


@NATIVE
def test_a_native_limiter_keeps_its_limit_from_loop_to_loop(make: Callable[[int], Any]) -> None:
    """What a call has given back is not given back again when its loop has ended."""
    limiter = native_of(make, 1)
    policy = Policy(limiter)
    for _ in range(3):
        assert asyncio.run(policy.acall(value)) == "value"
        assert taken(limiter) == 0


@LOOPS
def test_a_loop_that_has_ended_is_told_nothing(runtime: str) -> None:
    """What was to be given back on it, the next loop gives back."""
    loops: list[Any] = []

    async def scenario() -> None:
        loops.append(loop_or_token())

    run_on(runtime, scenario)
    Owner("limiter", "is shared", "Bulkhead").post(loops[0], lambda: loops.append("told"))
    assert len(loops) == 1


@NATIVE
@LOOPS
def test_waiting_for_a_native_slot_is_no_time_of_the_call(runtime: str, make: Callable[[int], Any]) -> None:
    """A breaker around it counts what the function took."""
    breaker = CircuitBreaker(slow_call=1)
    policy = Policy(breaker, native_of(make, 1, runtime))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(policy(anyio.sleep), 0.25)
        assert breaker.metrics()["average_duration"] == pytest.approx(0.25)

    run_on(runtime, scenario)


@NATIVE
@LOOPS
def test_a_native_limiter_checks_a_call_that_waited_again(runtime: str, make: Callable[[int], Any]) -> None:
    """A layer outside may refuse the call after its wait, and the slot comes back."""
    limiter = native_of(make, 1, runtime)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(limiter)(anyio.sleep), 1)
            await anyio.sleep(0.5)
            with pytest.raises(Rejected, match="changed my mind"):
                await Policy(Refuses(), limiter).acall(value)

    run_on(runtime, scenario)
    assert taken(limiter) == 0


@NATIVE
def test_a_native_limiter_describes_itself(make: Callable[[int], Any]) -> None:
    """Plain data again."""
    limiter = native_of(make, 1)
    strategy: Any = adapt_native(limiter)
    assert json.loads(json.dumps(strategy.describe()))["native"] == f"anyio.{make.__name__}"
    assert make.__name__ in repr(strategy)


@NATIVE
def test_all_policies_share_what_is_known_of_a_native_limiter(make: Callable[[int], Any]) -> None:
    """It is in use on a loop, whichever policy uses it there."""
    limiter = native_of(make, 5)

    async def main() -> None:
        with pytest.raises(TypeError, match="in use on another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(Policy(limiter).acall(value)))

    asyncio.run(Policy(limiter).acall(main))


ANYIO = tuple(int(part) for part in importlib.metadata.version("anyio").split(".")[:2])


@NATIVE
@pytest.mark.skipif(ANYIO < (4, 15), reason="an anyio before 4.15 keeps waiters of a closed loop in its own queue")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)  # anyio's own waiters
def test_what_a_closed_loop_holds_of_a_native_limiter_is_free_again(make: Callable[[int], Any]) -> None:
    """A loop closed under a holder and two waiters: the next loop finds the limiter whole."""
    limiter = native_of(make, 1)
    policy = Policy(limiter)
    loop = asyncio.new_event_loop()
    strand(loop, lambda: policy.acall(asyncio.sleep, 100), 3)
    for _ in range(4):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def scenario() -> None:
        assert await policy.acall(value) == "value"
        assert await policy.acall(value) == "value"
        assert limiter.statistics().tasks_waiting == 0
        async with anyio.create_task_group() as group:
            group.start_soon(policy(anyio.sleep), 1)
            await anyio.sleep(0.5)
            assert taken(limiter) == 1

    run_on("asyncio", scenario)
    gc.collect()
    assert taken(limiter) == 0


@NATIVE
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_native_limiter_works_in_a_forked_child(make: Callable[[int], Any]) -> None:
    """Whatever the parent's calls held is free there."""
    policy = Policy(native_of(make, 1))

    def forked() -> int:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if asyncio.run(policy.acall(value)) == "value" else 1)
            except BaseException:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def main() -> int:
        begun = asyncio.Event()

        async def hold() -> None:
            begun.set()
            await asyncio.sleep(100)

        holder = asyncio.create_task(policy.acall(hold))
        await begun.wait()
        code = await asyncio.to_thread(forked)
        holder.cancel()
        return code

    assert asyncio.run(main()) == 0
