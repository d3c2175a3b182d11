"""The two colours: limits, waiters and the switch from one to the other."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import ModuleType
from typing import Any

import anyio
import pytest

from resilient_agents.base.clock import clock
from resilient_agents.core.call import ORDINARY, Boxed, Call, Plan, Proceed, call_of
from resilient_agents.core.driver import SWITCH, drive, go_on, is_awaitable
from resilient_agents.core.loops import on_event_loop, running_trio
from resilient_agents.core.runtime import ASYNC, BLOCKING, EXPIRED, Expired, Runtime, settle
from resilient_agents.deadline import Deadline, current, enter, leave
from tests.conftest import Harness, run_on

LOOPS = ["asyncio", "trio"]


def test_a_trio_that_is_being_imported_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports trio, the module is there and its parts are not yet."""
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    assert not on_event_loop()
    assert running_trio() is None


def runtime_of(h: Harness) -> Runtime:
    return BLOCKING if h.blocking else ASYNC


def a_call(runtime: Runtime = BLOCKING) -> Call:
    return call_of(Plan("p"), runtime, lambda: None, (), {})


def a_limit(seconds: float) -> Deadline:
    return Deadline(clock.monotonic() + seconds, seconds, current(), own=True)


def refused(chain: Any) -> Any:
    raise AssertionError("switched")


def test_what_all_ordinary_calls_share_cannot_be_changed() -> None:
    """What one of them sets gives it its own."""
    with pytest.raises(AttributeError, match="waited is set on the call"):
        ORDINARY.waited = 1.0
    call, other = a_call(), a_call()
    call.waited = 1.0
    assert (call.waited, other.waited, other.rare) == (1.0, 0.0, ORDINARY)


# --- within -----------------------------------------------------------------------------------------------------------


async def test_within_gives_what_the_chain_gives(h: Harness) -> None:
    """Inside the limit the value comes out, and errors come out as themselves."""

    async def proceed(call: Call) -> str:
        await call.runtime.sleep(1)
        return "value"

    error = TimeoutError("theirs")

    async def fail(call: Call) -> None:
        raise error

    call = a_call(runtime_of(h))
    assert await call.runtime.within(a_limit(2), proceed, call) == "value"
    with pytest.raises(TimeoutError) as caught:
        await call.runtime.within(a_limit(2), fail, call)
    assert caught.value is error


async def test_within_knows_who_enforces_it(h: Harness) -> None:
    """A limit names the task or thread in which it cuts off."""
    limit = a_limit(2)
    runtime = runtime_of(h)

    async def proceed(call: Call) -> int:
        assert limit.owner == call.runtime.owner()
        return limit.owner

    assert await runtime.within(limit, proceed, a_call(runtime)) == runtime.owner()


@pytest.mark.parametrize("runtime", LOOPS)
def test_within_expires(runtime: str) -> None:
    """After the limit EXPIRED comes out, at the moment of the limit."""

    async def scenario() -> None:
        limit = a_limit(2)
        assert await ASYNC.within(limit, lambda _: anyio.sleep(10), a_call(ASYNC)) is EXPIRED
        assert clock.monotonic() == limit.at

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_limit_in_the_past_expires_at_the_first_wait(runtime: str) -> None:
    """With no time left, what never suspends still gives its value; what suspends is cut off at once."""

    async def value(call: Call) -> int:
        return 1

    async def scenario() -> None:
        assert await ASYNC.within(a_limit(-1), value, a_call(ASYNC)) == 1
        start = clock.monotonic()
        assert await ASYNC.within(a_limit(-1), lambda _: anyio.sleep(10), a_call(ASYNC)) is EXPIRED
        assert clock.monotonic() == start

    run_on(runtime, scenario)


def test_an_inner_timeout_error_in_the_tick_of_expiry_is_the_users() -> None:
    """A TimeoutError raised while the expiry is already under way comes out as itself."""
    own = TimeoutError("theirs")

    async def proceed(call: Call) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise own from None

    async def scenario() -> None:
        with pytest.raises(TimeoutError) as caught:
            await ASYNC.within(a_limit(1), proceed, a_call(ASYNC))
        assert caught.value is own
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_on("asyncio", scenario)


def test_expired_is_caught_by_its_own_limit_only() -> None:
    """A blocking chain whose worker ran out of time unwinds to the limit that it ran out of."""
    outer, inner = a_limit(1), a_limit(2)

    async def expire(call: Call) -> None:
        raise Expired(outer)

    async def nested(call: Call) -> str:
        assert await BLOCKING.within(inner, expire, call) is EXPIRED
        return "never"

    async def chain() -> Any:
        return await BLOCKING.within(outer, nested, a_call())

    assert drive(chain(), refused) is EXPIRED


def test_a_strategy_that_suspends_in_a_blocking_call_fails_loudly() -> None:
    """A blocking chain may wait through its runtime only, also under a limit; it is closed, not left half-way."""
    closed: list[bool] = []

    class Suspends:
        def __await__(self) -> Any:
            yield "something"

    async def proceed(call: Call) -> None:
        try:
            await Suspends()
        finally:
            closed.append(True)

    async def limited() -> Any:
        return await BLOCKING.within(a_limit(1), proceed, a_call())

    with pytest.raises(RuntimeError, match="suspended in a blocking call") as first:
        drive(proceed(a_call()), refused)
    with pytest.raises(RuntimeError, match="suspended in a blocking call") as second:
        drive(limited(), refused)
    assert closed == [True, True]  # while the errors, whose tracebacks lead to it, are still at hand
    del first, second


# --- the switch -------------------------------------------------------------------------------------------------------


def limited(proceed: Proceed, seconds: float) -> Proceed:
    async def step(call: Call) -> Any:
        limit = a_limit(seconds)
        enter(limit)
        try:
            return await call.runtime.within(limit, proceed, call)
        finally:
            leave(limit)

    return step


def test_a_switched_chain_is_held_to_its_limits() -> None:
    """A blocking chain that goes on as an awaitable is cut off at its limits from there on, the innermost first."""

    async def scenario() -> None:
        seen: list[Any] = []

        async def innermost(call: Call) -> Any:
            return await settle(call, asyncio.sleep(10, "value"))

        async def between(call: Call) -> Any:
            seen.append(await limited(innermost, 1)(call))
            assert not call.runtime.blocking
            await asyncio.sleep(10)

        call = a_call()
        awaitable = drive(limited(between, 3)(call), go_on)  # type: ignore[arg-type]  # chains are coroutines
        assert current() is None
        start = clock.monotonic()
        assert await awaitable is EXPIRED
        assert clock.monotonic() == start + 3
        assert seen == [EXPIRED]
        assert current() is None

    run_on("asyncio", scenario)


def test_a_switched_chain_takes_over_the_limits_of_where_it_goes_on() -> None:
    """What is awaited under a limit that was not there when it was called ends with that limit."""

    async def scenario() -> None:
        seen: list[float] = []

        async def innermost(call: Call) -> Any:
            async def work() -> None:
                limit = current()
                assert limit is not None
                seen.append(limit.at - clock.monotonic())

            return await settle(call, work())

        call = a_call()
        awaitable = drive(limited(innermost, 5)(call), go_on)  # type: ignore[arg-type]  # chains are coroutines
        outer = a_limit(2)
        enter(outer)
        try:
            await awaitable
            assert current() is outer
        finally:
            leave(outer)
        assert seen == [2]

    run_on("asyncio", scenario)


def test_a_switched_chain_that_is_closed_closes_what_it_holds() -> None:
    """When nobody wants the rest, every layer is unwound and the user's awaitable is closed without a warning."""
    order: list[str] = []

    async def work() -> None:
        raise AssertionError("must not run")

    async def innermost(call: Call) -> Any:
        try:
            return await settle(call, work())
        finally:
            order.append("innermost")

    async def chain(call: Call) -> Any:
        try:
            return await limited(innermost, 1)(call)
        finally:
            order.append("outermost")

    drive(chain(a_call()), lambda rest: rest.close())
    assert order == ["innermost", "outermost"]
    assert current() is None


def test_a_switch_keeps_errors_and_values() -> None:
    """Values and errors of the awaitable come out of the rest of the chain, a boxed StopIteration included."""

    async def scenario() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        call = a_call()
        rest = drive(settle(call, future), go_on)
        future.set_result(7)
        assert await rest == 7

        async def boxed() -> None:
            await SWITCH
            raise Boxed(StopIteration(1))

        with pytest.raises(RuntimeError, match="StopIteration"):
            await drive(boxed(), go_on)

    run_on("asyncio", scenario)


async def test_settle_leaves_plain_results_alone(h: Harness) -> None:
    """A result that is not awaitable is the value, in either colour."""
    call = a_call(runtime_of(h))
    assert await settle(call, 7) == 7
    assert call.runtime is runtime_of(h)
    assert not is_awaitable(asyncio.Future)  # the class has the method, its instances are the awaitables


# --- waiters ----------------------------------------------------------------------------------------------------------


def test_a_thread_is_woken_from_another() -> None:
    """A waiting thread goes on when another wakes it; waking twice does nothing more."""
    waiter = BLOCKING.waiter()
    waking = threading.Thread(target=lambda: (waiter.wake(), waiter.wake()))
    waking.start()
    assert drive(waiter.wait(None), refused)  # type: ignore[arg-type]  # it is a coroutine
    waking.join(30)


def test_a_thread_stops_waiting() -> None:
    """A waiter that nobody wakes says so when its time is up, at once when there is none."""
    assert not drive(BLOCKING.waiter().wait(0.001), refused)  # type: ignore[arg-type]  # it is a coroutine
    assert not drive(BLOCKING.waiter().wait(-1), refused)  # type: ignore[arg-type]
    woken = BLOCKING.waiter()
    woken.wake()
    assert drive(woken.wait(1e12), refused)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_task_is_woken_from_a_thread(runtime: str) -> None:
    """A waiting task goes on when a thread wakes it."""

    async def scenario() -> None:
        waiter = ASYNC.waiter()
        waking = threading.Thread(target=waiter.wake)
        waking.start()
        assert await waiter.wait(None)
        waking.join(30)

    anyio.run(scenario, backend=runtime)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_task_stops_waiting(runtime: str) -> None:
    """A task that nobody wakes says so when its time is up; one that was woken before does not wait."""

    async def scenario() -> None:
        start = clock.monotonic()
        assert not await ASYNC.waiter().wait(2)
        assert clock.monotonic() == start + 2
        woken = ASYNC.waiter()
        assert woken.wake()
        assert await woken.wait(None)

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_wait_whose_time_ran_out_may_be_renewed(runtime: str) -> None:
    """Who waits again waits as long as it says, and is woken as before, also from another thread."""

    async def scenario() -> None:
        waiter, start = ASYNC.waiter(), clock.monotonic()
        assert not await waiter.wait(2)
        assert not await waiter.wait(3)
        assert clock.monotonic() == start + 5
        threading.Thread(target=waiter.wake).start()
        assert await waiter.wait(None)

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_waiter_of_a_closed_loop_says_so(runtime: str) -> None:
    """Whoever wakes one whose event loop has ended learns that nobody will come."""

    async def scenario() -> Any:
        return ASYNC.waiter()

    assert not anyio.run(scenario, backend=runtime).wake()


async def test_owners_differ(h: Harness) -> None:
    """Each task, or thread, is itself."""
    runtime = runtime_of(h)
    owners = [runtime.owner()]
    assert runtime.owner() == owners[0]

    async def other() -> None:
        owners.append(runtime.owner())

    if h.blocking:
        thread = threading.Thread(target=lambda: owners.append(runtime.owner()))
        thread.start()
        thread.join(30)
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
    assert owners[0] != owners[1]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_running_event_loop_is_seen(runtime: str) -> None:
    """Code knows whether an event loop runs in its thread."""
    assert not on_event_loop()

    async def scenario() -> None:
        assert on_event_loop()
        assert not await anyio.to_thread.run_sync(on_event_loop)

    anyio.run(scenario, backend=runtime)
