"""A budget of what is in flight: a share of the calls under way may be retries and hedges, whoever shares it."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_agents import Hedge, Policy, Retry, RetryBudget, fixed
from resilient_agents.budget import UnderWay
from resilient_agents.events import CallRejected, GaveUp, HedgeStarted
from tests.conftest import Events, Harness, run_on
from tests.interruptions import interrupt_everywhere
from tests.virtual_time import CHOSEN

LOOPS = ["asyncio", "trio"]


def under_way(budget: RetryBudget) -> tuple[int, int]:
    """Calls and retries that it counts."""
    described = budget.describe()
    return described["calls"], described["retries"]


def taken(budget: RetryBudget) -> list[UnderWay]:
    """All there is."""
    retries: list[UnderWay] = []
    while (retry := budget.withdraw()) is not None:
        retries.append(retry)
    return retries


# --- the share --------------------------------------------------------------------------------------------------------


def test_three_retries_may_be_under_way_at_any_time() -> None:
    """A client with little traffic may retry at all."""
    budget = RetryBudget(in_flight=0.2)
    assert len(taken(budget)) == 3
    assert budget.remaining == 3  # nobody refers to those any more


@pytest.mark.parametrize(("share", "calls", "most"), [(0.2, 15, 3), (0.2, 20, 4), (0.29, 100, 29), (1, 7, 7)])
def test_a_share_of_the_calls_under_way(share: float, calls: int, most: int) -> None:
    """So many retries may be under way as are this share of the calls, which lasts as long as they do."""
    budget = RetryBudget(in_flight=share)
    counted = [budget.deposit() for _ in range(calls)]
    assert budget.remaining == most
    retries = taken(budget)
    assert len(retries) == most
    assert budget.remaining == 0
    retries.pop().end()
    assert budget.remaining == 1
    for call in counted:
        call.end()
    assert (budget.remaining, under_way(budget)) == (max(0, 3 - len(retries)), (0, len(retries)))


def test_what_has_ended_ends_once() -> None:
    """To end it again, or to drop it, takes nothing from others."""
    budget = RetryBudget(in_flight=0.2)
    calls = [budget.deposit() for _ in range(2)]
    for _ in range(3):
        calls[0].end()
    del calls[0]
    assert under_way(budget) == (1, 0)


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_retry_counts_from_its_wait_to_its_end(h: Harness) -> None:
    """The call from its beginning, the retry from the decision on, both to the end of the call."""
    budget = RetryBudget(in_flight=0.2)
    seen: list[tuple[int, int]] = []

    async def work() -> str:
        seen.append(under_way(budget))
        if len(seen) < 3:
            raise ConnectionError
        return "answer"

    policy = Policy(Retry(3, wait=lambda _: seen.append(under_way(budget)) or 0, budget=budget))
    policy.observe(Events())
    assert await h.call(policy, work) == "answer"
    assert seen == [(1, 0), (1, 0), (1, 1)]
    assert under_way(budget) == (0, 0)


async def test_a_retry_beyond_the_share_is_not_made(h: Harness) -> None:
    """The last real error comes out at once, as from any spent budget."""
    budget = RetryBudget(in_flight=0.5)
    others = taken(budget)
    error, calls = ConnectionError("reset"), 0
    events = Events()
    policy = Policy(Retry(3, wait=fixed(0), budget=budget))
    policy.observe(events)

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(ConnectionError) as caught:
        await h.call(policy, work)
    assert (caught.value, calls) == (error, 1)
    assert [event.reason for event in events.of(GaveUp)] == ["budget"]
    others.clear()
    with pytest.raises(ConnectionError):
        await h.call(policy, work)
    assert calls == 1 + 3
    assert under_way(budget) == (0, 0)


@pytest.mark.parametrize("ending", [ValueError, KeyboardInterrupt, GeneratorExit])
async def test_nothing_stays_counted_however_a_call_ends(h: Harness, ending: type[BaseException]) -> None:
    """An error that is not retried, the interpreter's exit, whatever."""
    budget, script = RetryBudget(in_flight=0.2), [ConnectionError(), ending()]

    async def work() -> None:
        raise script.pop(0)

    with pytest.raises(ending):
        await h.call(Policy(Retry(3, wait=fixed(0), budget=budget)), work)
    assert under_way(budget) == (0, 0)


@pytest.mark.parametrize("runtime", LOOPS)
def test_nothing_stays_counted_of_cancelled_calls(runtime: str) -> None:
    """Cancelled in an attempt or in a wait."""
    budget, draw = RetryBudget(in_flight=0.9), random.Random("cancelled")
    policy = Policy(Retry(9, wait=fixed(1), budget=budget), Hedge(0.5))

    async def work() -> None:
        await anyio.sleep(draw.random())
        raise ConnectionError

    async def one() -> None:
        with anyio.move_on_after(draw.random() * 4), suppress(ConnectionError):
            await policy.acall(work)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(one)
            await anyio.sleep(0.9)
            assert under_way(budget)[0] > 10

    run_on(runtime, scenario)
    assert under_way(budget) == (0, 0)


def test_a_hook_that_raises_leaves_nothing_counted() -> None:
    """Before the first attempt, too."""
    budget = RetryBudget(in_flight=0.2)

    def hook(_: Any) -> None:
        raise ValueError("hook")

    for options in ({"before": hook}, {"after": hook}, {"before_sleep": hook}, {"wait": hook}):
        with pytest.raises(ValueError, match="hook") as caught:
            Policy(Retry(3, budget=budget, **options)).call(_refuse)  # type: ignore[arg-type]
        assert under_way(budget) == (0, 0)
        del caught


def _refuse() -> None:
    raise ConnectionError


async def test_a_stream_counts_until_it_is_closed(h: Harness) -> None:
    """And so does the retry that opened it."""
    budget, opened = RetryBudget(in_flight=0.2), 0

    def opens() -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise ConnectionError

    async def items() -> Any:
        opens()
        for item in range(3):
            yield item

    def plain_items() -> Iterator[int]:
        opens()
        yield from range(3)

    policy = Policy(Retry(3, wait=fixed(0), budget=budget))
    if h.blocking:
        with policy.stream(plain_items) as stream:
            assert next(stream) == 0
            assert under_way(budget) == (1, 1)
    else:
        async with policy.stream(items) as stream:
            assert await anext(stream) == 0
            assert under_way(budget) == (1, 1)
    assert under_way(budget) == (0, 0)


# --- hedges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
@pytest.mark.parametrize("around", [False, True])
def test_a_hedge_is_paid_from_the_budget(runtime: str, around: bool) -> None:
    """From its own, or from that of the retry around it; the call counts once, and once the budget is spent no hedge
    starts, which is told, while one that has started goes on to its end."""
    budget = RetryBudget(in_flight=0.2)
    policy = Policy(Retry(2, budget=budget), Hedge(1, extra=5)) if around else Policy(Hedge(1, extra=5, budget=budget))
    events = Events()
    policy.observe(events)
    seen: list[tuple[int, int]] = []

    async def work() -> int:
        seen.append(under_way(budget))
        number = len(seen)
        await anyio.sleep(40 - 10 * number)
        return number

    async def scenario() -> None:
        other = budget.withdraw()
        assert await policy.acall(work) == 3
        assert other is not None

    run_on(runtime, scenario)
    assert seen == [(1, 1), (1, 2), (1, 3)]
    assert len(events.of(HedgeStarted)) == 2
    assert [event.strategy for event in events.of(CallRejected)] == ["retry_budget"]
    assert under_way(budget) == (0, 0)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_windowed_budget_covers_hedges(runtime: str) -> None:
    """Hedges and retries share what there is; a hedge with a budget of its own counts its calls there."""
    shared = RetryBudget(0, per_second=0.2)
    own = RetryBudget(0.5, per_second=0)

    async def slow() -> str:
        await anyio.sleep(2)
        return "answer"

    async def scenario() -> None:
        for policy, budget, left in (
            (Policy(Retry(3, budget=shared), Hedge(1)), shared, [1, 0, 0]),
            (Policy(Hedge(1, budget=own)), own, [0, 0, 0]),
        ):
            for number, remaining in enumerate(left, 1):
                assert await policy.acall(slow) == "answer"
                assert budget.remaining == remaining, number

    run_on(runtime, scenario)


def test_a_hedge_that_lost_counts_until_its_thread_ends() -> None:
    """In blocking code it goes on behind the caller's back, and loads the server meanwhile."""
    budget, gate, ended = RetryBudget(in_flight=0.2), threading.Event(), threading.Event()
    started: list[int] = []

    def work() -> str:
        started.append(len(started))
        if len(started) == 1:
            hedged.wait(10)
            return "answer"
        hedged.set()
        gate.wait(10)
        ended.set()
        return "late"

    hedged = threading.Event()
    assert Policy(Hedge(0, budget=budget)).call(work) == "answer"
    assert under_way(budget) == (0, 1)
    gate.set()
    assert ended.wait(10)
    for _ in range(1000):
        if under_way(budget) == (0, 0):
            return
        threading.Event().wait(0.005)
    raise AssertionError(under_way(budget))


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_hedged_stream_counts_until_it_is_closed(runtime: str) -> None:
    """The hedge that won is under way as long as its stream is read."""
    budget, opened = RetryBudget(in_flight=0.2), 0

    async def items() -> Any:
        nonlocal opened
        opened += 1
        await anyio.sleep(10 if opened == 1 else 1)
        yield opened
        yield 0

    async def scenario() -> None:
        async with Policy(Hedge(1, budget=budget)).stream(items) as stream:
            assert await anext(stream) == 2
            assert under_way(budget) == (1, 1)
        assert under_way(budget) == (0, 0)

    run_on(runtime, scenario)


# --- whoever shares it ------------------------------------------------------------------------------------------------


def test_threads_and_loops_share_one_budget() -> None:
    """At no time more retries are under way than the share, and in the end none, whatever was cancelled meanwhile."""
    budget = RetryBudget(in_flight=0.25)
    policy = Policy(Retry(4, wait=fixed(0), budget=budget))
    worst: list[float] = []

    def work(draw: random.Random) -> None:
        calls, retries = under_way(budget)
        worst.append(retries - max(3, 0.25 * (calls + 1)))  # one may have ended between the two looks
        if draw.random() < 0.7:
            raise ConnectionError

    def in_thread(seed: int) -> None:
        draw = random.Random(f"thread {seed}")
        for _ in range(50):
            with suppress(ConnectionError):
                policy.call(work, draw)

    async def in_task(draw: random.Random) -> None:
        async def steps() -> None:
            await asyncio.sleep(0)
            work(draw)
            await asyncio.sleep(draw.random() / 1000)

        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(draw.random() / 500):
                await policy.acall(steps)

    async def in_loop(seed: int) -> None:
        draw = random.Random(f"loop {seed}")
        for _ in range(4):
            await asyncio.gather(*(in_task(draw) for _ in range(20)))

    with ThreadPoolExecutor(6) as pool:
        ended = [pool.submit(in_thread, seed) for seed in range(4)]
        ended += [pool.submit(lambda seed=seed: asyncio.run(in_loop(seed))) for seed in range(2)]
        for future in ended:
            future.result()
    gc.collect()
    assert under_way(budget) == (0, 0)
    assert len(worst) > 400
    assert max(worst) <= 6  # calls of other threads end between a retry and the look at it


def test_threads_that_take_all_they_can_take_what_one_would() -> None:
    """The count and the look at it are one step."""
    budget = RetryBudget(in_flight=0.2)
    calls = [budget.deposit() for _ in range(100)]
    start = threading.Barrier(8)

    def work(_: int) -> list[UnderWay]:
        start.wait()
        return taken(budget)

    with ThreadPoolExecutor(8) as pool:
        found = [retry for retries in pool.map(work, range(8)) for retry in retries]
    assert (len(calls), len(found)) == (100, 20)


@pytest.mark.parametrize("fails", [0, 1, 3])
def test_an_exception_from_outside_leaves_nothing_counted(fails: int) -> None:
    """At whatever line it lands, of the retry or of the budget."""

    def make() -> tuple[RetryBudget, Policy]:
        budget = RetryBudget(in_flight=0.2)
        policy = Policy(Retry(3, wait=fixed(0), budget=budget))
        policy.call(int)
        return budget, policy

    def run(made: tuple[RetryBudget, Policy]) -> None:
        left = [ConnectionError() for _ in range(fails)]

        def work() -> None:
            if left:
                raise left.pop()

        with suppress(ConnectionError):
            made[1].call(work)

    def check(made: tuple[RetryBudget, Policy]) -> None:
        gc.collect()
        assert under_way(made[0]) == (0, 0)
        assert made[1].call(int) == 0

    assert interrupt_everywhere(make, run, check) > 5


@pytest.mark.skipif(CHOSEN == "uvloop", reason="its compiled calls crash the interpreter where a profiler raises")
def test_an_exception_from_outside_leaves_no_hedge_counted() -> None:
    """Where the hedge starts, where it has ended, or between."""

    def make() -> tuple[RetryBudget, Policy]:
        budget = RetryBudget(in_flight=0.2)
        return budget, Policy(Hedge(0.5, budget=budget))

    def run(made: tuple[RetryBudget, Policy]) -> None:
        async def scenario() -> None:
            seconds = iter([10, 1])

            async def work() -> None:
                await anyio.sleep(next(seconds))

            await made[1].acall(work)

        with suppress(ExceptionGroup):  # a task group's way with an exception that comes from outside
            run_on("asyncio", scenario)

    def check(made: tuple[RetryBudget, Policy]) -> None:
        gc.collect()
        assert under_way(made[0]) == (0, 0)

    assert interrupt_everywhere(make, run, check) > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_nothing_in_flight() -> None:
    """The calls of the parent's threads are none of its own; what of them ends there takes nothing away."""
    budget = RetryBudget(in_flight=0.2)
    call, retries = budget.deposit(), taken(budget)
    child = os.fork()
    if not child:
        status = 1
        try:
            own = budget.deposit()
            call.end()
            retries.clear()
            status = 0 if under_way(budget) == (1, 0) else 2
            own.end()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert under_way(budget) == (1, 3)


def test_a_reload_goes_on_counting() -> None:
    """Calls under way stay counted when a policy gets other numbers, and when its budget is of another kind."""
    budget = RetryBudget(in_flight=0.2)
    policy = Policy(Retry(2, budget=budget), Hedge(1, budget=budget))
    calls = [budget.deposit() for _ in range(20)]
    policy.become(Policy(Retry(2, budget=RetryBudget(in_flight=0.5)), Hedge(1)))
    assert (budget.in_flight, budget.remaining) == (0.5, 10)
    budget.reconfigure(RetryBudget(0.1))
    assert (budget.in_flight, budget.describe()["ratio"], budget.remaining) == (None, 0.1, 10)
    for call in calls:
        call.end()
    budget.reconfigure(RetryBudget(in_flight=1))
    assert under_way(budget) == (0, 0)


def test_what_was_put_back_counts_no_more() -> None:
    """Though whoever took it still refers to it."""
    budget = RetryBudget(in_flight=1)
    retry = budget.withdraw()
    assert retry is not None
    budget.put_back(retry)
    assert under_way(budget) == (0, 0)
    assert retry.lasts


# --- the object -------------------------------------------------------------------------------------------------------


def test_it_describes_itself() -> None:
    """The share, what is under way and what is left, as plain data."""
    budget = RetryBudget(in_flight=0.5)
    call, retry = budget.deposit(), budget.withdraw()
    described = json.loads(json.dumps(Retry(3, budget=budget).describe()["budget"]))
    assert described == {"in_flight": 0.5, "calls": 1, "retries": 1, "remaining": 2}
    assert repr(budget) == "RetryBudget(in_flight=0.5)"
    assert (call is not None, retry is not None) == (True, True)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_duplicated(duplicate: Callable[[Any], Any]) -> None:
    """A copy would be a second budget."""
    with pytest.raises(TypeError, match="holds live state"):
        duplicate(RetryBudget(in_flight=0.2))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_flight": 0}, ValueError, "in_flight must be greater than 0 and at most 1, got 0"),
        ({"in_flight": 1.5}, ValueError, "in_flight must be greater than 0 and at most 1, got 1.5"),
        ({"in_flight": float("nan")}, ValueError, "in_flight must be greater than 0 and at most 1, got nan"),
        ({"in_flight": True}, TypeError, "in_flight must be a number, got bool"),
        ({"in_flight": "20%"}, TypeError, "in_flight must be a number, got str"),
        ({"ratio": 0.5}, ValueError, "in_flight takes the place of ratio, per_second and window, got ratio=0.5 beside"),
        ({"per_second": 0}, ValueError, "in_flight takes the place of .*, got per_second=0 beside it"),
        ({"window": 60}, ValueError, "in_flight takes the place of .*, got window=60 beside it"),
    ],
)
def test_wrong_values_fail_when_built(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """A share that is none, and numbers of a window beside it, are refused with argument, rule and value."""
    with pytest.raises(error, match=message):
        RetryBudget(**{"in_flight": 0.2, **options})


# --- a model of it ----------------------------------------------------------------------------------------------------


class Flights(RuleBasedStateMachine):
    """Calls and retries begin, end and are forgotten in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget(in_flight=0.25)
        self.calls: list[UnderWay] = []
        self.retries: list[UnderWay] = []

    @rule(count=st.integers(1, 9))
    def calls_begin(self, count: int) -> None:
        self.calls += [self.budget.deposit() for _ in range(count)]

    @rule()
    def a_retry_is_wanted(self) -> None:
        allowed = len(self.retries) < max(3, len(self.calls) // 4)
        retry = self.budget.withdraw()
        assert (retry is not None) is allowed
        if retry is not None:
            self.retries.append(retry)

    @rule(data=st.data(), forgotten=st.booleans(), of_calls=st.booleans())
    def one_ends(self, data: st.DataObject, forgotten: bool, of_calls: bool) -> None:
        among = self.calls if of_calls else self.retries
        if among:
            ended = among.pop(data.draw(st.integers(0, len(among) - 1)))
            if not forgotten:
                ended.end()

    @invariant()
    def it_says_what_is_under_way(self) -> None:
        assert under_way(self.budget) == (len(self.calls), len(self.retries))
        assert self.budget.remaining == max(0, max(3, len(self.calls) // 4) - len(self.retries))


TestFlights = Flights.TestCase
TestFlights.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
