"""A Timeout owns its own expiry and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar, copy_context
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Hedge, Policy, Retry
from resilient_agents.adapters import timeout as timeout_module
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base import warn
from resilient_agents.base.clock import clock
from resilient_agents.core import given_up
from resilient_agents.core.call import Call, Proceed
from resilient_agents.deadline import current, deadline, expired, remaining
from resilient_agents.errors import DeadlineExceeded, PolicyTimeoutError, Rejected
from resilient_agents.events import CallRejected, LateResult, TimeoutExpired
from tests.conftest import Events, Harness, run_on

LOOPS = ["asyncio", "trio"]


class Twice:
    """A strategy that makes a second attempt, and remembers the error of the first as a retry does."""

    owns_attempts = True

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        except Exception as error:
            call.error = error
        return await proceed(call)


class Spy:
    """A strategy that keeps what it sees of the call once what is inside has ended."""

    def __init__(self) -> None:
        self.cut_short: list[bool] = []
        self.fired: list[bool] = []
        self.ended: list[type[BaseException]] = []
        self.abandoned: Any = None

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        except BaseException as error:
            self.ended.append(type(error))
            raise
        finally:
            limit = current()
            self.cut_short.append(call.cut_short)
            self.fired.append(limit is not None and limit.fired())
            self.abandoned = call.abandoned


@pytest.fixture(autouse=True)
def no_warnings_given_yet() -> Iterator[None]:
    warn.warned.clear()
    yield
    warn.warned.clear()


# --- the limit, in every colour -------------------------------------------------------------------------------------


async def test_what_is_quick_enough_comes_out(h: Harness) -> None:
    """Inside its limit a call notices nothing of it."""

    async def work(value: int, *, plus: int) -> int:
        await h.sleep(0.5)
        return value + plus

    assert await h.call(Policy(Timeout(1, thread=False)), work, 1, plus=2) == 3
    assert current() is None


async def test_a_timeout_error_of_the_function_is_its_own(h: Harness) -> None:
    """A TimeoutError that the user's code raises comes out as the same object."""
    own = TimeoutError("theirs")

    async def work() -> None:
        raise own

    with pytest.raises(TimeoutError) as caught:
        await h.call(Policy(Timeout(1, thread=False)), work)
    assert caught.value is own


def test_a_stop_iteration_comes_out_as_itself() -> None:
    """A StopIteration of a plain function passes a Timeout unharmed."""

    def work() -> None:
        raise StopIteration("theirs")

    with pytest.raises(StopIteration, match="theirs"):
        Policy(Timeout(1, thread=False)).call(work)


async def test_a_late_value_is_returned(h: Harness) -> None:
    """A blocking value that comes late is returned, and an event says how late; async work is cut off instead."""
    events = Events()
    policy = Policy(Timeout(1, thread=False), name="pay")
    policy.observe(events)

    async def work() -> str:
        await h.sleep(1.5)
        return "paid"

    if h.blocking:
        assert await h.call(policy, work) == "paid"
        assert events.of(LateResult) == [LateResult("pay", 1.0, 0.5)]
        assert not events.of(TimeoutExpired)
    else:
        with pytest.raises(PolicyTimeoutError):
            await h.call(policy, work)
        assert events.of(TimeoutExpired) == [TimeoutExpired("pay", "timeout", 1.0)]
        assert not events.of(LateResult)


async def test_the_error_names_the_policy_and_the_limit(h: Harness) -> None:
    """PolicyTimeoutError carries the policy, the strategy and the limit, and is a TimeoutError."""

    async def work() -> None:
        await h.sleep(3)
        raise ValueError("late")

    with pytest.raises(TimeoutError, match="'pay' took longer than its limit of 1.5 s") as caught:
        await h.call(Policy(Timeout(timedelta(seconds=1.5), thread=False), name="pay"), work)
    error = caught.value
    assert isinstance(error, PolicyTimeoutError)
    assert (error.policy, error.strategy, error.limit) == ("pay", "timeout", 1.5)
    assert type(error) is PolicyTimeoutError


def test_a_late_error_is_not_retried(manual_clock: Any) -> None:
    """A blocking error that comes late is the cause of the PolicyTimeoutError, which is marked as given up."""
    late = ConnectionError("reset")
    start = given_up.moment()

    def work() -> None:
        clock.sleep(3)
        raise late

    with pytest.raises(PolicyTimeoutError) as caught:
        Policy(Timeout(1, thread=False)).call(work)
    assert caught.value.__cause__ is late
    assert given_up.exhausted_since(caught.value, start)


def test_a_late_stop_iteration_is_the_cause_itself(manual_clock: Any) -> None:
    """The box in which a StopIteration travels is not shown."""

    def work() -> None:
        clock.sleep(3)
        raise StopIteration

    with pytest.raises(PolicyTimeoutError) as caught:
        Policy(Timeout(1, thread=False)).call(work)
    assert type(caught.value.__cause__) is StopIteration


def test_an_error_in_time_is_not_touched(manual_clock: Any) -> None:
    """An error before the limit comes out as itself, without a mark."""
    error = ConnectionError("reset")
    start = given_up.moment()

    def work() -> None:
        clock.sleep(0.9)
        raise error

    with pytest.raises(ConnectionError) as caught:
        Policy(Timeout(1, thread=False)).call(work)
    assert caught.value is error
    assert not given_up.exhausted_since(error, start)


@pytest.mark.parametrize("runtime", LOOPS)
def test_expiry_is_raised_from_the_last_real_error(runtime: str) -> None:
    """When a total limit ends a retried call, its error is raised from what the last attempt ran into; none is kept on
    the call.
    """
    first = ConnectionError("reset")
    spy = Spy()
    calls: list[Call] = []

    class Keep:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            calls.append(call)
            return await proceed(call)

    async def scenario() -> None:
        async def work() -> None:
            if not spy.cut_short:
                raise first
            await anyio.sleep(10)

        with pytest.raises(PolicyTimeoutError) as caught:
            await Policy(Keep(), Timeout(2), Twice(), spy).acall(work)
        assert caught.value.__cause__ is first

    run_on(runtime, scenario)
    assert calls[0].error is None


@pytest.mark.parametrize("runtime", LOOPS)
def test_an_attempt_does_not_blame_the_attempt_before(runtime: str) -> None:
    """An attempt's own limit is not raised from the error of an earlier attempt, and leaves that to the total limit."""

    async def scenario() -> None:
        seen: list[Exception] = []
        attempts = iter([ConnectionError("reset")])

        class Watch:
            async def execute(self, proceed: Proceed, call: Call) -> Any:
                try:
                    return await proceed(call)
                except PolicyTimeoutError as error:
                    seen.append(error)
                    assert isinstance(call.error, ConnectionError)
                    raise

        async def work() -> None:
            for error in attempts:
                raise error
            await anyio.sleep(10)

        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(60), Twice(), Watch(), Timeout(1)).acall(work)
        assert [error.__cause__ for error in seen] == [None]

    run_on(runtime, scenario)


async def test_a_limit_without_room_steps_aside(h: Harness) -> None:
    """An attempt that has less than its own limit left is cut off by the outer one. It says that it was cut short,
    unless that one was the call's own and still whole."""
    spy, outer_spy = Spy(), Spy()

    async def work() -> None:
        await h.sleep(30)
        raise ValueError

    with pytest.raises(PolicyTimeoutError) as caught:
        await h.call(Policy(Timeout(2, thread=False), Timeout(10, thread=False), spy, name="p"), work)
    assert caught.value.limit == 2.0

    async def called_under_a_limit() -> None:
        await h.call(Policy(Timeout(10, thread=False), outer_spy), work)

    with pytest.raises(PolicyTimeoutError):
        await h.call(Policy(Timeout(2, thread=False)), called_under_a_limit)
    assert (spy.cut_short, outer_spy.cut_short) == ([False], [True])


async def test_a_limit_with_room_is_not_cut_short(h: Harness) -> None:
    """An attempt that has all the time it is due runs into its own limit."""
    spy = Spy()

    async def work() -> None:
        await h.sleep(5)
        raise ValueError

    with pytest.raises(PolicyTimeoutError) as caught:
        await h.call(Policy(Timeout(60, thread=False), Timeout(2, thread=False), spy), work)
    assert caught.value.limit == 2.0
    assert spy.cut_short == [False]


@pytest.mark.parametrize(("spent", "short"), [(0.0, False), (0.9, False), (1.1, True)])
async def test_an_attempt_with_nine_tenths_of_the_total_has_all_of_it(h: Harness, spent: float, short: bool) -> None:
    """What little an earlier attempt took away makes no difference: it is not cut short."""
    spy = Spy()

    class Late:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            await h.sleep(spent)
            return await proceed(call)

    async def work() -> None:
        await h.sleep(60)
        raise ValueError

    with pytest.raises(PolicyTimeoutError):
        await h.call(Policy(Timeout(10, thread=False), Late(), Timeout(30, thread=False), spy), work)
    assert spy.cut_short == [short]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_limit_goes_along_where_a_call_goes_on_as_an_awaitable(runtime: str) -> None:
    """What is called inside knows of it, although the call began as a blocking one."""

    async def create() -> float | None:
        await anyio.lowlevel.checkpoint()
        return remaining()

    left = run_on(runtime, lambda: Policy(Timeout(5, thread=False))(lambda: create())())
    assert left == pytest.approx(5, abs=1)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_whether_a_limit_has_cut_something_off_can_be_asked_in_any_thread(runtime: str) -> None:
    """On trio, whose scope answers in its own only, the clock does."""
    seen: list[int] = []
    now = [0.0]

    def ask() -> None:
        for now[0] in (0.0, 1e12):
            seen.append(len(expired()))

    async def work() -> None:
        thread = threading.Thread(target=copy_context().run, args=(ask,))
        with clock.replaced(monotonic=lambda: now[0]):
            thread.start()
            thread.join()

    run_on(runtime, lambda: Policy(Timeout(5)).acall(work))
    assert seen == ([0, 1] if runtime == "trio" else [0, 0])  # asyncio's alarm says so itself


async def test_cut_short_is_said_of_the_innermost_limit(h: Harness) -> None:
    """Where the caller's deadline leaves the total limit no room, but an attempt all its time, none is cut short."""
    spy = Spy()

    async def work() -> None:
        await h.sleep(2)
        raise ValueError

    policy = Policy(Timeout(10, thread=False), Timeout(1, thread=False), spy)
    with deadline(5), pytest.raises(PolicyTimeoutError):
        await h.call(policy, work)
    assert spy.cut_short == [False]


@pytest.mark.parametrize("runtime", LOOPS)
def test_strategies_inside_see_that_the_limit_fired(runtime: str) -> None:
    """A layer that is unwound by an expiry can tell it from a cancellation from outside."""
    spy = Spy()

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1), spy).acall(anyio.sleep, 5)
        with anyio.move_on_after(0.5):
            await Policy(Timeout(1), spy).acall(anyio.sleep, 5)

    run_on(runtime, scenario)
    assert spy.fired == [True, False]


# --- asyncio and trio ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_callee_is_cancelled_and_awaited(runtime: str) -> None:
    """When the limit passes, what the callee does to clean up has ended before the error comes out."""
    order: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep(10)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            order.append("cleaned up")

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1)).acall(work)
        order.append("raised")

    run_on(runtime, scenario)
    assert order == ["cleaned up", "raised"]


@pytest.mark.parametrize("runtime", LOOPS)
@pytest.mark.parametrize(("outer", "inner"), [(1, 5), (5, 1), (1, 1)])
def test_anyio_scopes_around_and_inside(runtime: str, outer: float, inner: float) -> None:
    """Limits of anyio and of ours nest in any order: each catches its own expiry only."""

    async def scenario() -> None:
        policy = Policy(Timeout(inner))
        ended = "finished"
        with anyio.move_on_after(outer) as scope:
            try:
                await policy.acall(anyio.sleep, 10)
            except PolicyTimeoutError:
                ended = "ours"
        if outer < inner:
            assert (scope.cancelled_caught, ended) == (True, "finished")
        elif inner < outer:
            assert (scope.cancelled_caught, ended) == (False, "ours")
        else:
            assert scope.cancelled_caught or ended == "ours"
        await anyio.sleep(1)  # nothing is left over

        async def work() -> str:
            with anyio.move_on_after(inner):
                await anyio.sleep(10)
            return "theirs"

        ended = "ours"
        with contextlib.suppress(PolicyTimeoutError):
            ended = await Policy(Timeout(outer)).acall(work)
        if outer != inner:
            assert ended == ("ours" if outer < inner else "theirs")
        await anyio.sleep(1)

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_task_groups_inside_and_outside(runtime: str) -> None:
    """Expiry cancels the tasks of a group inside; a group around goes on."""
    ended: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep(10)
        finally:
            ended.append("child")

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(child)

    async def guarded() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1)).acall(work)
        await anyio.sleep(1)
        ended.append("guarded")

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(guarded)
            await anyio.sleep(5)
            ended.append("group")

    run_on(runtime, scenario)
    assert ended == ["child", "child", "guarded", "group"]


@pytest.mark.parametrize("order", ["cancel, then expire", "expire, then cancel"])
def test_a_cancellation_at_the_tick_of_expiry_wins(order: str) -> None:
    """A task that is cancelled from outside in the very tick of the expiry ends as cancelled, with one request left to
    answer.
    """

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + 1
        seen: list[int] = []

        async def guarded() -> None:
            try:
                await Policy(Timeout(1)).acall(asyncio.sleep, 10)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                seen.append(task.cancelling())
                raise

        if order == "cancel, then expire":
            loop.call_at(at, lambda: task.cancel())
        task = asyncio.create_task(guarded())
        if order == "expire, then cancel":
            await asyncio.sleep(0)
            loop.call_at(at, lambda: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.time() == at
        assert seen == [1]
        assert task.cancelled()

    run_on("asyncio", scenario)


def test_an_expiry_leaves_no_request_to_cancel() -> None:
    """After an expiry the task counts no cancellation, so that structured code around it works on."""

    async def scenario() -> None:
        task = asyncio.current_task()
        assert task is not None
        for limits in [(1,), (1, 1), (1, 2), (2, 1)]:
            with pytest.raises(PolicyTimeoutError):
                await Policy(*(Timeout(limit) for limit in limits)).acall(asyncio.sleep, 10)
            assert task.cancelling() == 0
        async with asyncio.timeout(5):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))

    run_on("asyncio", scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_nested_policies_that_end_in_the_same_tick(runtime: str) -> None:
    """When limits of nested policies pass at the same moment, the outer one fires."""

    async def scenario() -> None:
        inner = Policy(Timeout(2), name="inner")

        async def work() -> None:
            await inner.acall(anyio.sleep, 10)

        with pytest.raises(PolicyTimeoutError) as caught:
            await Policy(Timeout(2), name="outer").acall(work)
        assert caught.value.policy == "outer"
        await anyio.sleep(1)

    run_on(runtime, scenario)


def test_a_swallowed_cancellation_gives_a_late_value() -> None:
    """What a callee returns although it was cancelled at its limit is returned, as late."""
    events = Events()
    policy = Policy(Timeout(1), name="p")
    policy.observe(events)

    async def work() -> str:
        try:
            await anyio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
        return "value"

    async def scenario() -> None:
        assert await policy.acall(work) == "value"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_on("asyncio", scenario)
    assert events.of(LateResult) == [LateResult("p", 1.0, 2.0)]


@pytest.mark.parametrize("runtime", LOOPS)
def test_an_error_of_the_cleanup_comes_out(runtime: str) -> None:
    """An error that the callee makes of its cancellation is the user's own."""
    own = ValueError("cleanup failed")

    async def work() -> None:
        try:
            await anyio.sleep(10)
        finally:
            raise own

    async def scenario() -> None:
        with pytest.raises(ValueError, match="cleanup failed") as caught:
            await Policy(Timeout(1)).acall(work)
        assert caught.value is own

    run_on(runtime, scenario)


def test_shields_hold_as_their_library_has_it() -> None:
    """`asyncio.shield` holds against an expiry on asyncio, where it is a native cancellation; anyio's shield does on
    trio.
    """
    done: list[str] = []

    async def payment() -> None:
        await anyio.sleep(2)
        done.append("paid")

    async def on_asyncio() -> None:
        paying = asyncio.ensure_future(payment())
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1)).acall(asyncio.shield, paying)
        await paying

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await payment()
        await anyio.sleep(1)

    async def on_trio() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1)).acall(shielded)

    run_on("asyncio", on_asyncio)
    run_on("trio", on_trio)
    assert done == ["paid", "paid"]


def test_a_limit_binds_each_of_many_calls_that_begin_as_plain_ones() -> None:
    """Callables that only show when called that they are async are held to their limit, each to its own, and leave none
    behind.
    """

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ended: list[tuple[float, str]] = []

        async def sleeping(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "value"

        undeclared = Policy(Timeout(10), Timeout(1))(lambda seconds: sleeping(seconds))

        async def one(awaitable: Any) -> None:
            try:
                how = await awaitable
            except PolicyTimeoutError:
                how = "expired"
            ended.append((loop.time() - begin, how))

        begin = loop.time()
        calls = [undeclared(0.5), undeclared(5), undeclared(5)]
        assert current() is None  # between call and await the caller is not bound
        await asyncio.sleep(3)  # and what is not awaited yet does not use up its time
        assert current() is None
        begin = loop.time()
        await asyncio.gather(*map(one, calls))
        assert sorted(ended) == [(0.5, "value"), (1.0, "expired"), (1.0, "expired")]
        assert current() is None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_on("asyncio", scenario)


def test_an_awaitable_that_nobody_awaits_is_dropped_quietly() -> None:
    """`policy.call` on an undeclared async callable refuses it, closes what it made, and leaves no limit in force."""

    async def work() -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="acall"):
        Policy(Timeout(2), Timeout(1)).call(lambda: work())  # pyright: ignore[reportUnusedCoroutine]  # refused
    assert current() is None


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_task_that_outlives_the_scope_keeps_its_own_limit(runtime: str) -> None:
    """A task started under a limit, and running on after it, is not bound by it, but held to the limits of its own
    policies.
    """
    ended: list[tuple[str, float]] = []

    async def scenario() -> None:
        async def background(begun: Any) -> None:
            await begun.wait()
            start = clock.monotonic()
            try:
                await Policy(Timeout(10)).acall(anyio.sleep, 60)
            except PolicyTimeoutError:
                ended.append(("own", clock.monotonic() - start))

        async with anyio.create_task_group() as group:
            begun = anyio.Event()

            async def work() -> None:
                group.start_soon(background, begun)
                await anyio.lowlevel.checkpoint()

            await Policy(Timeout(3)).acall(work)
            begun.set()

    run_on(runtime, scenario)
    assert ended == [("own", 10.0)]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_task_of_another_scope_is_cut_off_by_the_limit_it_inherits(runtime: str) -> None:
    """A policy called in a task that no scope of the limit reaches is cut off all the same while it is in force."""
    ended: list[str] = []

    async def scenario() -> None:
        async def background() -> None:
            try:
                await Policy(Timeout(10)).acall(anyio.sleep, 60)
            except DeadlineExceeded as error:
                ended.append(f"{clock.monotonic() - start:g} {error.limit:g}")

        async with anyio.create_task_group() as group:

            async def work() -> None:
                group.start_soon(background)
                await anyio.sleep(60)

            start = clock.monotonic()
            with pytest.raises(PolicyTimeoutError):
                await Policy(Timeout(3)).acall(work)

    run_on(runtime, scenario)
    assert ended == ["3 3"]


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_limited_until_its_first_item(h: Harness) -> None:
    """A stream may take its time once it has begun."""
    policy = Policy(Timeout(1, thread=False))

    def items() -> Iterator[int]:
        yield 1
        clock.sleep(10)
        assert current() is None
        yield 2

    async def async_items() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(10)
        assert current() is None
        yield 2

    assert await h.items(policy(items if h.blocking else async_items)()) == [1, 2]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_stream_without_a_first_item_in_time_expires(runtime: str) -> None:
    """A stream that does not begin in time is closed, and PolicyTimeoutError comes out."""
    closed: list[bool] = []

    async def items() -> AsyncIterator[int]:
        try:
            await anyio.sleep(10)
            yield 1
        finally:
            closed.append(True)

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            async for _ in Policy(Timeout(1))(items)():
                pass

    run_on(runtime, scenario)
    assert closed == [True]


# --- plain functions --------------------------------------------------------------------------------------------------


def test_a_plain_function_is_warned_of_once() -> None:
    """Without a choice of `thread`, the first call of each plain function warns, where it is defined, and names the
    choice.
    """

    def first() -> int:
        return 1

    def second() -> int:
        return 2

    guarded = Policy(Timeout(1))(first)
    with pytest.warns(RuntimeWarning, match=r"first is a plain function.*thread=True.*thread=False") as caught:
        assert guarded() == 1
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert guarded() == 1
    with pytest.warns(RuntimeWarning, match="second"):
        Policy(Timeout(1)).call(second)


def test_the_names_of_warned_functions_are_bounded() -> None:
    """Functions made on the fly do not pile up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(warn.REMEMBERED + 5):
            warn.warn_once(number, lambda: "a warning", int)
    assert len(warn.warned) == warn.REMEMBERED


def test_a_warning_that_is_an_error_costs_no_result(caplog: pytest.LogCaptureFixture) -> None:
    """Where warnings are errors the result comes out all the same, a circuit around it stays closed, and the log has
    the warning.
    """
    breaker = CircuitBreaker(failures=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Policy(breaker, Timeout(5)).call(lambda: "result") == "result"
    assert breaker.state == "closed"
    assert "is a plain function, which a Timeout cannot interrupt" in caplog.text


@pytest.mark.parametrize("thread", [True, False])
def test_a_choice_is_not_warned_of(thread: bool) -> None:
    """`thread=True` and `thread=False` are choices: no warning."""
    assert Policy(Timeout(60, thread=thread)).call(lambda: 1) == 1
    assert not warn.warned


@pytest.mark.parametrize(("thread", "warnings_given"), [(None, 1), (False, 0)])
def test_a_late_error_is_warned_of_like_a_late_result(
    thread: bool | None, warnings_given: int, manual_clock: Any
) -> None:
    """It came late for the same reason."""

    def work() -> None:
        clock.sleep(3)
        raise ConnectionError

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PolicyTimeoutError):
            Policy(Timeout(1, thread=thread)).call(work)
    assert len(caught) == warnings_given


@pytest.mark.parametrize("inside", [Timeout(60, thread=True), Bulkhead(1, isolation="thread"), Hedge(60)])
def test_a_function_in_a_thread_is_not_warned_of(inside: Any, stuck: Stuck) -> None:
    """Where something inside runs the function in a thread, the limit around it cuts it off as well."""
    assert Policy(Timeout(60), Retry(2), inside).call(lambda: 1) == 1
    with pytest.raises(PolicyTimeoutError):
        Policy(Timeout(TINY), Retry(2), inside).call(stuck)
    assert not warn.warned


def test_async_functions_are_not_warned_of() -> None:
    """What turns out to be async is cancelled at its limit, and not warned of."""

    async def work() -> int:
        return 1

    async def scenario() -> None:
        policy = Policy(Timeout(1))
        assert await policy.acall(work) == 1
        assert await policy(work)() == 1
        assert await policy(lambda: work())() == 1

    run_on("asyncio", scenario)
    assert not warn.warned


# --- thread=True ------------------------------------------------------------------------------------------------------

TINY = 0.01


class Stuck:
    """A function that does not end until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> str:
        assert self.go.wait(30)
        self.ended.set()
        return "late"


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.go.set()
    assert not stuck.ended.is_set() or stuck.ended.wait(30)


def test_a_thread_is_left_behind(stuck: Stuck) -> None:
    """With `thread=True` a plain function that hangs does not hang its caller; layers inside see an expiry and the
    worker.
    """
    spy = Spy()
    timeout = Timeout(TINY, thread=True)
    with pytest.raises(PolicyTimeoutError) as caught:
        Policy(timeout, spy).call(stuck)
    assert caught.value.__cause__ is None
    assert spy.fired == [True]
    assert timeout.describe()["abandoned"] == 1
    came_back = threading.Event()
    spy.abandoned[-1].on_done(came_back.set)
    stuck.go.set()
    assert came_back.wait(30)
    assert timeout.describe()["abandoned"] == 0


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_thread_is_left_behind_by_async_code(runtime: str, stuck: Stuck) -> None:
    """Under `acall` a plain function runs in the pool as well, and does not hold up the loop."""

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(TINY, thread=True)).acall(stuck)

    anyio.run(scenario, backend=runtime)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_cancelled_task_leaves_the_thread_behind(runtime: str, stuck: Stuck) -> None:
    """A cancellation from outside is not held up by the thread, and is not an expiry."""
    timeout = Timeout(60, thread=True)
    spy = Spy()

    async def scenario() -> None:
        with anyio.move_on_after(TINY) as scope:
            await Policy(timeout, spy).acall(stuck)
        assert scope.cancelled_caught

    anyio.run(scenario, backend=runtime)
    assert spy.fired == [False]
    assert timeout.describe()["abandoned"] == 1


def test_context_variables_reach_the_thread() -> None:
    """The function sees the caller's context variables, the deadline among them, in another thread."""
    user: ContextVar[str] = ContextVar("user")
    user.set("ada")

    def work() -> tuple[str, bool, bool]:
        return user.get(), current() is not None, threading.current_thread() is threading.main_thread()

    assert Policy(Timeout(60, thread=True)).call(work) == ("ada", True, False)


def test_async_functions_stay_on_their_loop() -> None:
    """`thread=True` changes nothing for a coroutine function."""
    timeout = Timeout(60, thread=True)

    async def scenario() -> None:
        async def work() -> threading.Thread:
            return threading.current_thread()

        assert await Policy(timeout).acall(work) is threading.current_thread()
        assert await Policy(timeout)(work)() is threading.current_thread()

    asyncio.run(scenario())


def test_errors_come_back_from_the_thread() -> None:
    """The user's own error comes out of the thread, the same object, also a StopIteration."""
    for error in (ValueError("theirs"), StopIteration("theirs"), TimeoutError("theirs")):

        def work(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            Policy(Timeout(60, thread=True)).call(work)
        assert caught.value is error


def test_an_inherited_limit_shortens_the_thread(stuck: Stuck) -> None:
    """A deadline of the caller's cuts a threaded call off before its own limit."""
    spy = Spy()
    with deadline(TINY), pytest.raises(DeadlineExceeded) as caught:
        Policy(Timeout(60, thread=True), spy).call(stuck)
    assert caught.value.limit == TINY
    assert spy.cut_short == [True]


def test_expiry_never_passes_through_the_code_of_an_outer_call(stuck: Stuck) -> None:
    """A threaded call that runs out of the time of an outer cooperative limit raises in its own policy, not through its
    caller.
    """
    seen: list[BaseException] = []
    inner = Policy(Timeout(60, thread=True), name="inner")

    def work() -> None:
        try:
            inner.call(stuck)
        except BaseException as error:
            seen.append(error)
            raise

    with pytest.raises(PolicyTimeoutError) as caught:
        Policy(Timeout(TINY, thread=False), name="outer").call(work)
    assert [type(error) for error in seen] == [DeadlineExceeded]
    assert caught.value.policy == "outer"
    assert caught.value.__cause__ is seen[0]


def test_the_pool_is_as_large_as_it_says() -> None:
    """What the documentation names: 256 that run, 32 that were left behind."""
    workers = Timeout(1, thread=True).workers
    assert workers is not None
    assert workers.caps() == (256, 32)


def test_the_pool_rejects_at_its_cap(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many abandoned calls, further ones are rejected, and an event says so; when they end, calls are admitted
    again.
    """
    monkeypatch.setattr(timeout_module, "MAX_ABANDONED", 2)
    timeout = Timeout(TINY, thread=True)
    spy = Spy()
    policy = Policy(timeout, spy, name="p")
    events = Events()
    policy.observe(events)
    came_back = threading.Semaphore(0)
    for _ in range(2):
        with pytest.raises(PolicyTimeoutError):
            policy.call(stuck)
        spy.abandoned[-1].on_done(came_back.release)
    with pytest.raises(Rejected, match="2 of them with calls that outran their time limit") as caught:
        policy.call(stuck)
    assert (caught.value.policy, caught.value.strategy) == ("p", "timeout")
    assert events.of(CallRejected) == [CallRejected("p", "timeout")]
    stuck.go.set()
    for _ in range(2):
        assert came_back.acquire(timeout=30)
    assert Policy(timeout).call(lambda: 1) == 1


def test_the_first_item_of_a_stream_is_brought_in_the_thread(stuck: Stuck) -> None:
    """With `thread=True` a generator that hangs before its first item does not hang its consumer."""

    def items() -> Iterator[str]:
        yield stuck()

    def quick() -> Iterator[threading.Thread]:
        yield threading.current_thread()
        yield threading.current_thread()

    with pytest.raises(PolicyTimeoutError):
        list(Policy(Timeout(TINY, thread=True))(items)())
    first, second = Policy(Timeout(60, thread=True))(quick)()
    assert first is not threading.current_thread()
    assert second is threading.current_thread()


def test_the_pool_stays_only_where_it_is_asked_for() -> None:
    """A timeout that takes the place of another goes on in the caller's thread, or in its own, as it says."""
    here = threading.get_ident()
    policy = Policy(Timeout(60, thread=True))
    assert policy.call(threading.get_ident) != here
    policy.become(Policy(Timeout(60, thread=False)))
    assert policy.call(threading.get_ident) == here
    policy.become(Policy(Timeout(60, thread=True)))
    assert policy.call(threading.get_ident) != here


def test_layers_outside_do_not_use_the_pool() -> None:
    """The pool is for what is inside the Timeout only: a handler outside of it runs in the caller's thread."""

    class Keep:
        workers: Any = None

        async def execute(self, proceed: Proceed, call: Call) -> Any:
            result = await proceed(call)
            self.workers = call.workers
            return result

    keep = Keep()
    Policy(keep, Timeout(60, thread=True)).call(lambda: 1)
    assert keep.workers is None


# --- the object -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_impossible_limits_are_refused(seconds: float) -> None:
    """A limit that is not positive and finite fails when the object is built."""
    with pytest.raises(ValueError, match="seconds must be"):
        Timeout(seconds)


@pytest.mark.parametrize("thread", [1, 0, "yes"])
def test_thread_is_true_false_or_none(thread: Any) -> None:
    """Anything else for `thread` fails when the object is built."""
    with pytest.raises(TypeError, match="thread must be True, False or None"):
        Timeout(1, thread=thread)


def test_it_describes_itself() -> None:
    """The description is plain data; the repr is like the constructor."""
    assert json.loads(json.dumps(Timeout(1.5).describe())) == {"strategy": "timeout", "seconds": 1.5, "thread": None}
    assert Timeout(2, thread=True).describe() == {"strategy": "timeout", "seconds": 2.0, "thread": True, "abandoned": 0}
    assert repr(Timeout(1.5)) == "Timeout(1.5)"
    assert repr(Timeout(2, thread=False)) == "Timeout(2, thread=False)"


def test_it_pickles_without_its_threads() -> None:
    """A Timeout pickles, also one whose pool is at work."""
    timeout = Timeout(60, thread=True)
    Policy(timeout).call(lambda: 1)
    copy = pickle.loads(pickle.dumps(timeout))
    assert repr(copy) == repr(timeout)
    assert Policy(copy).call(lambda: 1) == 1


def test_no_cycle_is_left_behind(manual_clock: Any) -> None:
    """An error that a Timeout raised is freed with its last reference, without the garbage collector."""

    class Late(Exception): ...

    def work() -> None:
        clock.sleep(3)
        raise Late

    gc.collect()
    gc.disable()
    try:
        reference: Any = None
        try:
            Policy(Timeout(1, thread=False)).call(work)
        except PolicyTimeoutError as error:
            reference = weakref.ref(error)
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there")
def test_on_uvloop() -> None:
    """The limit holds on uvloop."""
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(TINY)).acall(asyncio.sleep, 30)
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(30), Timeout(TINY)).acall(anyio.sleep, 30)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_in_eager_tasks() -> None:
    """The limit holds in tasks that start eagerly, before their loop knows of them."""

    async def scenario() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12

        async def guarded(seconds: float) -> None:
            await Policy(Timeout(1)).acall(asyncio.sleep, seconds)

        await asyncio.create_task(guarded(0))
        with pytest.raises(PolicyTimeoutError):
            await asyncio.create_task(guarded(30))

    run_on("asyncio", scenario)
