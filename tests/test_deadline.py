"""A deadline is shared by everything inside its block, and by nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from resilient_agents import Policy, deadline, remaining
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.clock import clock
from resilient_agents.core.call import Call, Proceed
from resilient_agents.deadline import Deadline, current, enter, leave
from resilient_agents.errors import DeadlineExceeded, PolicyTimeoutError
from resilient_agents.events import TimeoutExpired
from tests.conftest import Events, Harness, run_on
from tests.strategies import value

LOOPS = ["asyncio", "trio"]


async def test_remaining_counts_down(h: Harness) -> None:
    """`remaining()` is None without a deadline, the seconds left inside one, and never negative."""
    assert remaining() is None
    with deadline(5):
        assert remaining() == 5
        await h.sleep(2)
        assert remaining() == 3
        await h.sleep(4)
        assert remaining() == 0
    assert remaining() is None


async def test_nested_deadlines_only_shorten(h: Harness) -> None:
    """An inner deadline may end earlier than the one around it, never later; the outer one is back after it."""
    with deadline(timedelta(seconds=5)):
        with deadline(60):
            assert remaining() == 5
            limit = current()
            assert limit is not None
            assert limit.seconds == 5
        with deadline(2):
            assert remaining() == 2
        assert remaining() == 5


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_impossible_durations_are_refused(seconds: float) -> None:
    """A duration that is not positive and finite fails at once, not only in the `with` statement."""
    with pytest.raises(ValueError, match="seconds must be"):
        deadline(seconds)


@pytest.mark.parametrize("seconds", ["5", None, True])
def test_what_is_no_duration_is_refused(seconds: Any) -> None:
    """A duration is a number or a timedelta."""
    with pytest.raises(TypeError, match="seconds must be"):
        deadline(seconds)


def test_a_block_is_not_entered_twice_at_once(manual_clock: Any) -> None:
    """One `deadline()` is for one block at a time; afterwards its time starts anew."""
    block = deadline(5)
    with block, pytest.raises(RuntimeError, match="in use"):
        block.__enter__()
    clock.sleep(3)
    with block:
        assert remaining() == 5


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_policy_is_cut_off(runtime: str) -> None:
    """A policy called inside is cut off when the time is up and says whose limit it was."""
    policy = Policy(name="p")
    events = Events()
    policy.observe(events)

    async def scenario() -> None:
        start = clock.monotonic()
        with deadline(2), pytest.raises(DeadlineExceeded, match="'p' ran into its caller's deadline of 2 s") as caught:
            await policy.acall(anyio.sleep, 10)
        assert clock.monotonic() == start + 2
        assert (caught.value.policy, caught.value.strategy, caught.value.limit) == ("p", "deadline", 2.0)
        assert events.of(TimeoutExpired) == [TimeoutExpired("p", "deadline", 2.0)]

    run_on(runtime, scenario)


async def test_a_policy_called_too_late_does_not_begin(h: Harness) -> None:
    """After the deadline has passed a policy fails without calling the function."""
    called: list[bool] = []

    async def work() -> None:
        called.append(True)

    with deadline(2):
        await h.sleep(2)
        with pytest.raises(DeadlineExceeded):
            await h.call(Policy(), work)
    assert not called
    await h.call(Policy(), work)
    assert called


async def test_a_call_that_is_in_time_gives_its_result(h: Harness) -> None:
    """As it is."""
    with deadline(5):
        assert await h.call(Policy(), value, "result") == "result"


def test_a_plain_function_is_not_interrupted(manual_clock: Any) -> None:
    """A plain function that runs past the deadline gives its value all the same."""

    def work() -> str:
        clock.sleep(5)
        return "paid"

    with deadline(2):
        assert Policy().call(work) == "paid"


async def test_the_deadline_reaches_policies_of_nested_calls(h: Harness) -> None:
    """A policy deep inside sees what is left of the outermost limit."""
    seen: list[float | None] = []
    inner = Policy(Timeout(60, thread=False))

    async def leaf() -> None:
        seen.append(remaining())

    async def work() -> None:
        await h.sleep(1)
        await h.call(inner, leaf)

    with deadline(5):
        await h.call(Policy(Timeout(30, thread=False)), work)
    await h.call(Policy(Timeout(3, thread=False)), work)
    assert seen == [4, 2]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_deadline_that_is_shorter_than_the_limit_fires(runtime: str) -> None:
    """The caller's deadline and the policy's own limit: the earlier one fires, and says so."""

    async def scenario() -> None:
        with deadline(1), pytest.raises(DeadlineExceeded):
            await Policy(Timeout(2)).acall(anyio.sleep, 10)
        with deadline(3), pytest.raises(PolicyTimeoutError) as caught:
            await Policy(Timeout(2)).acall(anyio.sleep, 10)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert caught.value.limit == 2

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_task_that_outlives_the_block_is_not_bound(runtime: str) -> None:
    """A task carries the context of the block it was started in, but the deadline ends with the block."""
    seen: list[float | None] = []

    async def scenario() -> None:
        async def background(ended: Any) -> None:
            seen.append(remaining())
            await ended.wait()
            seen.append(remaining())
            await Policy().acall(anyio.sleep, 60)
            seen.append(-1)

        async with anyio.create_task_group() as group:
            ended = anyio.Event()
            with deadline(5):
                group.start_soon(background, ended)
                await anyio.sleep(1)
            ended.set()

    run_on(runtime, scenario)
    assert seen == [5, None, -1]


def test_threads_that_carry_the_context_see_it(manual_clock: Any) -> None:
    """A thread that runs in a copy of the context, as `asyncio.to_thread` does it, sees the deadline until its block
    ends.
    """
    seen: list[float | None] = []
    inside, outside = threading.Event(), threading.Event()

    def work() -> None:
        seen.append(remaining())
        inside.set()
        assert outside.wait(30)
        seen.append(remaining())

    with deadline(5):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        assert inside.wait(30)
    outside.set()
    thread.join(30)
    assert seen == [5, None]


def test_a_block_that_ends_in_another_context_leaves_the_deadlines_there_alone() -> None:
    """A generator that holds a deadline and is closed by another task does not take away that task's own deadline."""

    async def scenario() -> None:
        async def holding() -> AsyncGenerator[int, None]:
            with deadline(5):
                yield 1

        stream = holding()
        await asyncio.create_task(first(stream))
        with deadline(30):
            await stream.aclose()
            assert remaining() == 30

    async def first(stream: Any) -> Any:
        return await stream.__anext__()

    run_on("asyncio", scenario)


def test_blocks_that_end_out_of_order(manual_clock: Any) -> None:
    """When an outer deadline ends first, the inner one stays in force, and nothing is afterwards."""

    def holding() -> Generator[None, None, None]:
        with deadline(5):
            yield

    outer = holding()
    next(outer)
    with deadline(2):
        outer.close()
        assert remaining() == 2
    assert remaining() is None


async def test_an_error_of_the_function_passes(h: Harness) -> None:
    """Inside a deadline a policy lets the user's own errors out, TimeoutErrors too."""
    own = TimeoutError("theirs")

    async def work() -> None:
        raise own

    with deadline(5), pytest.raises(TimeoutError) as caught:
        await h.call(Policy(), work)
    assert caught.value is own


@pytest.mark.parametrize("runtime", LOOPS)
def test_strategies_can_tell_an_impatient_caller_from_a_limit_of_ours(runtime: str) -> None:
    """What a deadline cut off is marked as fired by a limit that is not the policy's own."""
    seen: list[tuple[bool, bool]] = []

    class Spy:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            try:
                return await proceed(call)
            finally:
                limit = current()
                assert limit is not None
                seen.append((limit.own, limit.fired()))

    async def scenario() -> None:
        with deadline(1), pytest.raises(DeadlineExceeded):
            await Policy(Spy()).acall(anyio.sleep, 10)
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1), Spy()).acall(anyio.sleep, 10)

    run_on(runtime, scenario)
    assert seen == [(False, True), (True, True)]


def test_undeclared_async_callables_are_cut_off() -> None:
    """A call that begins as a plain one and goes on as an awaitable is held to the deadline, and frees its caller of
    nothing else.
    """

    async def scenario() -> None:
        guarded = Policy()(lambda: asyncio.sleep(60))
        with deadline(2):
            calls = [guarded(), guarded()]
            limit = current()
            assert limit is not None
            assert limit.owner == 0  # the caller's own again, not one of the calls'
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [DeadlineExceeded, DeadlineExceeded]

    run_on("asyncio", scenario)


def test_leaving_ends_it_for_every_copy_of_the_context() -> None:
    """Once left, a limit is in force nowhere, and no longer says that it fired."""
    limit = Deadline(clock.monotonic() + 5, 5, None, own=True)
    limit.rung = True
    enter(limit)
    copied = contextvars.copy_context()
    leave(limit)
    assert current() is None
    assert copied.run(current) is None
    assert not limit.fired()
