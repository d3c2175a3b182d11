"""`shadow=True` on bulkheads and rate limits: nothing is held up, and what would have been is told. The breaker's is in
tests/test_circuit_breaker.py."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    Policy,
    RateLimit,
    RateLimitedError,
    Registry,
    Timeout,
    deadline,
)
from resilient_agents.adapters.slot_pool import SlotPool
from resilient_agents.base.clock import Lock, clock
from resilient_agents.events import CallRejected, Waited
from tests.conftest import Events, Harness, ManualClock, run_on
from tests.strategies import hold_slot

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


async def fine() -> str:
    return "fine"


def watched(*strategies: Any) -> tuple[Policy, Events]:
    policy, events = Policy(*strategies, name="p"), Events()
    policy.observe(events)
    return policy, events


# ----------------------------------------------------------------------------------------------------- bulkhead


@LOOPS
@pytest.mark.parametrize(
    ("options", "rejections"),
    [({}, 0), ({"queue": 2}, 1), ({"queue": 0}, 3), ({"max_wait": 0}, 3), ({"max_wait": 5}, 0)],
)
def test_a_shadow_bulkhead_lets_all_in_and_tells_whom_it_would_have_refused(
    runtime: str, options: dict[str, Any], rejections: int
) -> None:
    """Those beyond the limit would have waited as far as the queue reaches, the rest would have been refused."""
    bulkhead = Bulkhead(2, **options, shadow=True)
    policy, events = watched(bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(policy.acall, anyio.sleep, 1)
            await anyio.wait_all_tasks_blocked()
            assert (bulkhead.in_use, bulkhead.queued) == (5, 0)

    run_on(runtime, scenario)
    found = bulkhead.metrics()
    assert (found["calls"], found["peak"], found["in_use"]) == (5, 5, 0)
    assert (found["rejections"], found["waits"], found["average_wait"]) == (rejections, 3 - rejections, None)
    told = [(event.strategy, event.shadow) for event in events.of(CallRejected)]
    assert told == [("bulkhead", True)] * rejections
    assert events.of(Waited) == []


def test_a_shadow_bulkhead_lets_a_call_in_that_would_wait_for_itself() -> None:
    """What in earnest is refused because it would wait for itself runs, and is reported as refused."""
    bulkhead = Bulkhead(1, shadow=True)
    policy, events = watched(bulkhead)
    assert policy.call(lambda: policy.call(lambda: "inside")) == "inside"
    found = bulkhead.metrics()
    assert (found["calls"], found["rejections"], found["waits"], found["in_use"]) == (2, 1, 0, 0)
    assert [event.shadow for event in events.of(CallRejected)] == [True]


def test_a_shadow_bulkhead_tells_of_a_blocking_call_that_would_hold_up_an_event_loop() -> None:
    """In earnest it is refused rather than wait on the loop's own thread."""
    bulkhead = Bulkhead(1, shadow=True)
    policy, events = watched(bulkhead)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy.acall, asyncio.sleep, 0)
            await anyio.lowlevel.checkpoint()
            assert bulkhead.in_use == 1
            assert policy.call(lambda: "at once") == "at once"

    asyncio.run(main())
    assert [event.shadow for event in events.of(CallRejected)] == [True]
    assert (bulkhead.metrics()["rejections"], bulkhead.metrics()["waits"]) == (1, 0)


@LOOPS
def test_those_in_line_are_let_in_when_a_bulkhead_goes_into_shadow(runtime: str) -> None:
    """However many newcomers are let in beyond the limit meanwhile; and all slots come back."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    waited: list[float] = []

    async def call() -> None:
        began = anyio.current_time()
        await policy.acall(fine)
        waited.append(anyio.current_time() - began)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy.acall, anyio.sleep, 100)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                group.start_soon(call)
                await anyio.wait_all_tasks_blocked()
            await anyio.sleep(7)
            bulkhead.reconfigure(Bulkhead(1, shadow=True))
            await anyio.wait_all_tasks_blocked()
            assert waited == pytest.approx([7, 7, 7])
            bulkhead.reconfigure(Bulkhead(1, queue=0))
            with pytest.raises(BulkheadFullError):
                await policy.acall(fine)

    run_on(runtime, scenario)
    found = bulkhead.metrics()
    assert (found["in_use"], found["peak"], found["waits"], found["average_wait"]) == (0, 4, 3, pytest.approx(7))
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: policy.call(int))


def test_one_that_lines_up_while_its_bulkhead_goes_into_shadow_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had decided to wait before; nobody else would let it in."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    enqueue = SlotPool.enqueue

    def late(pool: SlotPool, slot: int, ticket: Any, at_most: int | None) -> bool:
        bulkhead.reconfigure(Bulkhead(1, shadow=True))
        return enqueue(pool, slot, ticket, at_most)

    monkeypatch.setattr(SlotPool, "enqueue", late)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy.acall, anyio.sleep, 100)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(1):
                assert await policy.acall(fine) == "fine"
            group.cancel_scope.cancel()

    run_on("asyncio", scenario)
    assert bulkhead.in_use == 0


def test_slots_that_were_lent_come_back_under_threads() -> None:
    """After any number of calls beyond the limit the bulkhead has the slots that it had."""
    bulkhead = Bulkhead(3, shadow=True)
    work = Policy(bulkhead)(lambda: None)
    threads = [threading.Thread(target=lambda: [work() for _ in range(300)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = bulkhead.metrics()
    assert (found["in_use"], found["calls"]) == (0, 2_400)
    bulkhead.reconfigure(Bulkhead(3, queue=0))
    policy = Policy(bulkhead)
    inside = policy.call(lambda: policy.call(lambda: policy.call(lambda: bulkhead.in_use)))
    assert inside == 3
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: policy.call(lambda: policy.call(lambda: policy.call(int))))


def test_no_slot_is_lost_or_won_while_shadow_goes_on_and_off() -> None:
    """Threads go in and out, one toggles: afterwards there are as many slots as the limit says, and nobody waits."""
    bulkhead = Bulkhead(2)
    policy = Policy(bulkhead)
    work = policy(lambda: None)
    threads = [threading.Thread(target=lambda: [work() for _ in range(300)], daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    shadow = False
    while any(thread.is_alive() for thread in threads):
        shadow = not shadow
        bulkhead.reconfigure(Bulkhead(2, shadow=shadow))
    bulkhead.reconfigure(Bulkhead(2, queue=0))
    assert (bulkhead.in_use, bulkhead.queued, bulkhead.metrics()["calls"]) == (0, 0, 1_800)
    assert policy.call(lambda: policy.call(lambda: bulkhead.in_use)) == 2
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: policy.call(lambda: policy.call(int)))


@LOOPS
def test_a_bulkhead_that_begins_to_act_lets_nobody_in_until_there_is_room(runtime: str) -> None:
    """Taken out of shadow while more calls are inside than the limit, it waits for them to leave."""
    bulkhead = Bulkhead(1, shadow=True)
    policy = Policy(bulkhead)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for seconds in (1, 2, 3):
                group.start_soon(policy.acall, anyio.sleep, seconds)
            await anyio.wait_all_tasks_blocked()
            bulkhead.reconfigure(Bulkhead(1))
            began = anyio.current_time()
            await policy.acall(fine)
            assert anyio.current_time() - began == pytest.approx(3)

    run_on(runtime, scenario)


def test_threads_of_its_own_and_shadow_exclude_each_other() -> None:
    """Threads of the bulkhead's own bound the calls, so it could not let all in."""
    with pytest.raises(ValueError, match='needs isolation="caller"'):
        Bulkhead(1, isolation="thread", shadow=True)


# --------------------------------------------------------------------------------------------------- rate limit


async def test_a_shadow_rate_limit_holds_nobody_up(h: Harness) -> None:
    """All calls start at once; how long they would have waited is what the same calls do wait in earnest."""
    shadow, earnest = RateLimit(1, per=10, burst=2, shadow=True), RateLimit(1, per=10, burst=2)
    policy, events = watched(shadow)
    began = h.now()
    for _ in range(4):
        await h.call(policy, fine)
    assert h.now() == began
    assert events.of(Waited, CallRejected) == []
    found = shadow.metrics()
    # Of calls that come at once the third waits 10 s and the fourth 20 s.
    assert (found["calls"], found["waits"], found["average_wait"]) == (4, 2, pytest.approx(15))
    for _ in range(4):
        await h.call(Policy(earnest), fine)
    assert earnest.metrics()["waits"] == found["waits"]


async def test_a_shadow_rate_limit_tells_whom_it_would_have_refused(h: Harness) -> None:
    """What would have waited for too long is reported, takes nothing of the rate, and runs."""
    limit = RateLimit(1, per=10, max_wait=10, shadow=True)
    policy, events = watched(limit)
    for _ in range(4):
        assert await h.call(policy, fine) == "fine"
    found = limit.metrics()
    assert (found["calls"], found["waits"], found["rejections"]) == (4, 1, 2)
    told = [(event.strategy, event.shadow, round(event.retry_after)) for event in events.of(CallRejected)]
    assert told == [("rate_limit", True, 20)] * 2


async def test_a_deadline_counts_in_shadow_too(h: Harness) -> None:
    """A call that could not have started before its deadline would have been refused."""
    limit = RateLimit(1, per=10, shadow=True)
    policy, events = watched(limit)
    await h.call(policy, fine)
    with deadline(5):
        await h.call(policy, fine)
    assert len(events.of(CallRejected)) == 1


def test_a_blocking_call_on_an_event_loop_would_have_been_refused() -> None:
    """In earnest it cannot wait there; in shadow it runs and is reported."""
    policy, events = watched(RateLimit(1, per=10, shadow=True))

    async def main() -> None:
        policy.call(int)
        policy.call(int)

    asyncio.run(main())
    assert [event.shadow for event in events.of(CallRejected)] == [True]


async def test_a_cost_that_is_a_function_is_charged_in_shadow(h: Harness) -> None:
    """Shadow asks for the cost as ever."""
    limit = RateLimit(10, per=10, cost=lambda units: units, shadow=True)
    policy = Policy(limit)

    async def spend(units: int) -> None:
        pass

    for units in (10, 5):
        await h.call(policy, spend, units)
    assert limit.metrics()["average_wait"] == pytest.approx(5)


async def test_a_rate_limit_that_begins_to_act_forgives_what_it_let_through(h: Harness) -> None:
    """After hours of twice the rate in shadow the first call in earnest waits for one token, not for hours."""
    limit = RateLimit(1, burst=3, shadow=True)
    policy = Policy(limit)
    for _ in range(1_000):
        await h.call(policy, fine)
    limit.reconfigure(RateLimit(1, burst=3))
    began = h.now()
    await h.call(policy, fine)
    assert h.now() - began == pytest.approx(1)


async def test_what_is_forgiven_is_measured_by_the_limit_that_begins_to_act(h: Harness) -> None:
    """Out of shadow and down to a smaller burst in one step, a call waits for one token of the new rate."""
    limit = RateLimit(1_000, burst=1_000, shadow=True)
    policy = Policy(limit)
    for _ in range(3_000):
        await h.call(policy, fine)
    limit.reconfigure(RateLimit(1, burst=1))
    began = h.now()
    await h.call(policy, fine)
    assert h.now() - began == pytest.approx(1)


@LOOPS
@pytest.mark.parametrize("max_wait", [None, 25])
def test_those_in_line_start_when_a_rate_limit_goes_into_shadow(runtime: str, max_wait: float | None) -> None:
    """At once, and whatever newcomers spend meanwhile; they count as calls that waited."""
    limit = RateLimit(1, per=10, max_wait=max_wait)
    policy = Policy(limit)
    waited: list[float] = []

    async def call() -> None:
        began = anyio.current_time()
        await policy.acall(fine)
        waited.append(anyio.current_time() - began)

    async def scenario() -> None:
        await policy.acall(fine)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(call)
                await anyio.wait_all_tasks_blocked()
            await anyio.sleep(3)
            limit.reconfigure(RateLimit(1, per=10, max_wait=max_wait, shadow=True))
            for _ in range(5):
                await policy.acall(fine)
            await anyio.wait_all_tasks_blocked()
            assert waited == pytest.approx([3, 3])
            assert limit.available == 0

    run_on(runtime, scenario)
    assert (limit.metrics()["calls"], limit.queued) == (8, 0)


@pytest.mark.parametrize("max_wait", [None, 15])
def test_a_thread_that_sleeps_for_its_turn_starts_when_it_wakes_in_shadow(
    manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch, max_wait: float | None
) -> None:
    """It is not put off behind what others were let through meanwhile."""
    limit = RateLimit(1, per=10, max_wait=max_wait)
    policy = Policy(limit)
    policy.call(int)

    def sleeps(lock: Lock, seconds: float | None) -> bool:
        manual_clock.now += seconds or 0.0
        monkeypatch.undo()
        limit.reconfigure(RateLimit(1, per=10, max_wait=max_wait, shadow=True))
        for _ in range(5):
            policy.call(int)
        return lock.acquire(blocking=False)

    began = manual_clock.now
    monkeypatch.setattr(clock, "acquire", sleeps)
    policy.call(int)
    assert manual_clock.now - began == pytest.approx(10)
    assert (limit.queued, limit.metrics()["calls"]) == (0, 7)


@LOOPS
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_shadow_rate_limit_waits_and_refuses_on_paper_as_its_twin_does_in_earnest(
    runtime: str, data: st.DataObject
) -> None:
    """Given the same arrivals they agree on each number and on each refusal."""
    burst = data.draw(st.sampled_from([1, 2, 5.5]))
    options: dict[str, Any] = {
        "per": data.draw(st.sampled_from([1, 10])),
        "burst": burst,
        "max_wait": data.draw(st.sampled_from([None, 0, 3, 20])),
        "cost": lambda cost: cost,
    }
    rate = data.draw(st.sampled_from([0.7, 1, 3]))
    arrivals = data.draw(
        st.lists(
            st.tuples(st.sampled_from([0, 0, 0.1, 1.7, 6]), st.sampled_from([0.5, 1, burst])), min_size=5, max_size=40
        )
    )
    limits = RateLimit(rate, **options), RateLimit(rate, **options, shadow=True)
    policies, seen = zip(*map(watched, limits), strict=True)

    async def spend(cost: float) -> None:
        pass

    async def one(policy: Policy, cost: float) -> None:
        with contextlib.suppress(RateLimitedError):
            await policy.acall(spend, cost)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for pause, cost in arrivals:
                await anyio.sleep(pause)
                for policy in policies:
                    group.start_soon(one, policy, cost)
                await anyio.wait_all_tasks_blocked()

    run_on(runtime, scenario)
    earnest, shadow = (limit.metrics() for limit in limits)
    assert shadow["calls"] == earnest["calls"] + earnest["rejections"] == len(arrivals)
    assert (shadow["waits"], shadow["rejections"]) == (earnest["waits"], earnest["rejections"])
    assert shadow["average_wait"] == pytest.approx(earnest["average_wait"])
    told = [[event.retry_after for event in events.of(CallRejected)] for events in seen]
    assert told[1] == pytest.approx(told[0])


# ---------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("kind", [Bulkhead, RateLimit])
def test_shadow_is_a_flag(kind: Any) -> None:
    """Anything but True and False is a mistake."""
    with pytest.raises(TypeError, match="shadow must be True or False, got 'yes'"):
        kind(1, shadow="yes")


@pytest.mark.parametrize("kind", [Bulkhead, RateLimit])
def test_shadow_shows(kind: Any) -> None:
    """In the description and in the repr."""
    assert kind(1, shadow=True).describe()["shadow"] is True
    assert repr(kind(1, shadow=True)) == f"{kind.__name__}(1, shadow=True)"


def test_a_reload_takes_limits_out_of_shadow() -> None:
    """A changed file is enough, and the state stays."""
    bulkhead = {"limit": 1, "queue": 0, "shadow": True}
    rate_limit = {"rate": 1, "max_wait": 0, "shadow": True}
    settings: dict[str, Any] = {"policies": {"search": {"bulkhead": bulkhead, "rate_limit": rate_limit}}}
    registry = Registry(settings)
    policy = registry.policy("search")
    assert policy.call(lambda: policy.call(lambda: "both")) == "both"
    rate_limit["shadow"] = False
    registry.reload()
    with pytest.raises(RateLimitedError):
        policy.call(int)
    del settings["policies"]["search"]["rate_limit"]
    bulkhead["shadow"] = False
    registry.reload()
    with pytest.raises(BulkheadFullError):
        policy.call(lambda: policy.call(int))


async def test_a_timeout_around_a_shadow_limit_sees_no_wait(h: Harness) -> None:
    """A limit that does not act cannot make a call late."""
    policy = Policy(Timeout(1, thread=False), RateLimit(1, per=100, shadow=True), Bulkhead(1, shadow=True))
    for _ in range(3):
        assert await h.call(policy, fine) == "fine"


def test_in_shadow_as_many_would_wait_as_the_queue_holds() -> None:
    """Whoever comes after them would be rejected."""
    bulkhead = Bulkhead(1, queue=1, shadow=True)
    give_back = [hold_slot(bulkhead) for _ in range(3)]
    metrics = bulkhead.metrics()
    assert (metrics["in_use"], metrics["waits"], metrics["rejections"]) == (3, 1, 1)
    for one in give_back:
        one()
