"""Numbers change while policies are in use: state stays, calls in flight finish, a bad file changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Policy,
    RateLimit,
    RateLimitedError,
    Registry,
    Retry,
    RetryBudget,
    Timeout,
    events,
    fixed,
)
from resilient_agents.adapters.gcra import Gcra
from resilient_agents.adapters.outcomes import CountWindow, TimeWindow
from resilient_agents.adapters.slot_pool import SlotPool
from resilient_agents.config import ConfigError
from resilient_agents.core.waiters import ThreadWaiter
from resilient_agents.registry.late import LatePolicy
from resilient_agents.registry.store import Store
from tests.conftest import Events, Harness, ManualClock, run_on
from tests.interruptions import interrupt_everywhere
from tests.strategies import hold_slot
from tests.test_gcra import reserve
from tests.test_slot_pool import claim, queue_up, take


def fail() -> None:
    raise ConnectionError


def ok() -> str:
    return "ok"


def state(breaker: CircuitBreaker) -> str:
    return breaker.state


async def until(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


# Policy.become


async def test_guarded_functions_run_the_new_strategies(h: Harness) -> None:
    """From the next call on, also watched ones."""
    policy = Policy(Retry(2, wait=fixed(0)))
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    guarded = policy(h.fn(work))

    async def count() -> int:
        nonlocal calls
        calls = 0
        with pytest.raises(ConnectionError):
            result = guarded()
            await result  # never reached when blocking
        return calls

    assert await count() == 2
    policy.become(Policy(Retry(4, wait=fixed(0))))
    assert await count() == 4
    policy.observe(Events())
    policy.become(Policy(Retry(3, wait=fixed(0))))
    assert await count() == 3


def test_calls_in_flight_finish_under_the_old_strategies() -> None:
    """A retry that has begun makes the attempts that it began with."""
    policy = Policy(Retry(3, wait=fixed(0)), CircuitBreaker(failures=9))
    calls = 0

    @policy
    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            policy.become(Policy(Retry(1), CircuitBreaker(failures=9)))
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    assert calls == 3
    with pytest.raises(ConnectionError):
        work()
    assert calls == 4


def test_stateful_strategies_stay_and_take_the_new_numbers() -> None:
    """The first of a kind follows the first of that kind, in whatever order they stand."""
    breaker, slots, rate = CircuitBreaker(failures=5), Bulkhead(4), RateLimit(10)
    policy = Policy(breaker, rate, slots)
    policy.become(Policy(Timeout(5), Bulkhead(2, queue=1), CircuitBreaker(failures=2), RateLimit(3)))
    assert policy.layers[1:] == (slots, breaker, rate)
    assert (slots.limit, slots.queue, breaker.failures, rate.rate) == (2, 1, 2, 3)


def test_breakers_of_the_same_name_follow_each_other() -> None:
    """Whatever stands before them."""
    other, old = CircuitBreaker("become-other"), CircuitBreaker("become-same")
    policy = Policy(other, old)
    with pytest.warns(RuntimeWarning, match="'become-same'"):
        policy.become(Policy(CircuitBreaker("become-same", failures=2)))
    assert policy.layers == (old,)
    assert old.failures == 2


def test_one_without_a_name_takes_none_that_another_means() -> None:
    """Wherever it stands, it has what the names leave."""
    first, second = CircuitBreaker("become-first"), CircuitBreaker("become-second")
    policy = Policy(first, second)
    with pytest.warns(RuntimeWarning, match="'become-first'"):
        policy.become(Policy(CircuitBreaker(failures=1), CircuitBreaker("become-first", failures=2)))
    assert policy.layers == (second, first)
    assert (first.failures, second.failures) == (2, 1)


def test_the_second_of_a_kind_follows_the_second() -> None:
    """Each is followed once."""
    first, second = Bulkhead(1), Bulkhead(2)
    policy = Policy(first, second)
    policy.become(Policy(Bulkhead(3), Bulkhead(4), third := Bulkhead(5)))
    assert policy.layers == (first, second, third)
    assert (first.limit, second.limit, third.limit) == (3, 4, 5)


def test_breakers_of_different_names_do_not_follow_each_other() -> None:
    """Another name is another circuit."""
    old, new = CircuitBreaker("become-a"), CircuitBreaker("become-b")
    policy = Policy(old)
    policy.become(Policy(new))
    assert policy.layers == (new,)


def test_the_same_object_stays_as_it_is() -> None:
    """A shared strategy that is in both is not touched."""
    shared = Bulkhead(3)
    policy = Policy(Bulkhead(9), shared)
    policy.become(Policy(Retry(2), shared, Bulkhead(1)))
    assert policy.layers[1] is shared
    assert shared.limit == 3
    assert policy.layers[2].limit == 1  # type: ignore[attr-defined]


def test_policies_around_follow() -> None:
    """A policy that stands in another one changes there too."""
    inner = Policy(Retry(2, wait=fixed(0)))
    outer = Policy(Timeout(60, thread=False), inner)
    calls = 0

    @outer
    def work() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    inner.become(Policy(Retry(5, wait=fixed(0))))
    with pytest.raises(ConnectionError):
        work()
    assert calls == 5


def test_a_policy_cannot_become_what_contains_it() -> None:
    """The error says so."""
    policy = Policy()
    with pytest.raises(ValueError, match="cannot stand inside itself"):
        policy.become(Policy(policy))


def test_a_stream_opened_later_runs_the_new_strategies() -> None:
    """What counts is when its first item is asked for."""
    policy = Policy(Bulkhead(1))
    stream = policy.stream(lambda: iter([1, 2]))
    slots = policy.layers[0]
    policy.become(Policy())
    for _ in stream:
        assert slots.in_use == 0  # type: ignore[attr-defined]


async def test_rechecks_are_those_of_the_chain_that_runs(h: Harness) -> None:
    """A breaker that was taken out refuses nobody; one that was put in refuses a call that waited."""
    if h.blocking:
        return
    import anyio

    limit = RateLimit(1, burst=1)
    old, new = CircuitBreaker(failures=1, reset_timeout=999), CircuitBreaker(failures=1, reset_timeout=999)
    policy = Policy(old, limit)

    async def work() -> str:
        return "ok"

    guarded = policy(work)
    await guarded()
    policy.become(Policy(limit))
    outcomes: list[str] = []

    async def call() -> None:
        try:
            outcomes.append(await guarded())
        except CircuitOpenError:
            outcomes.append("refused")

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await h.sleep(0.5)
        old.open()
    assert outcomes == ["ok"]
    policy.become(Policy(new, limit))
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await h.sleep(0.5)
        new.open()
    assert outcomes == ["ok", "refused"]


# circuit breaker


def test_an_open_circuit_stays_open(manual_clock: ManualClock) -> None:
    """Until its time is up, or the new reset timeout from now, whichever comes first."""
    breaker = CircuitBreaker(failures=1, reset_timeout=30)
    policy = Policy(breaker)
    with pytest.raises(ConnectionError):
        policy.call(fail)
    breaker.reconfigure(CircuitBreaker(failures=3, reset_timeout=600))
    assert state(breaker) == "open"
    assert breaker.retry_after == pytest.approx(30)
    breaker.reconfigure(CircuitBreaker(failures=3, reset_timeout=5))
    assert breaker.retry_after == pytest.approx(5)
    manual_clock.now += 5
    assert policy.call(ok) == "ok"
    assert state(breaker) == "closed"


def test_consecutive_failures_stay_counted() -> None:
    """Nothing trips by reconfiguring; the next failure does."""
    breaker = CircuitBreaker(failures=10)
    policy = Policy(breaker)
    for _ in range(4):
        with pytest.raises(ConnectionError):
            policy.call(fail)
    breaker.reconfigure(CircuitBreaker(failures=3))
    assert state(breaker) == "closed"
    with pytest.raises(ConnectionError):
        policy.call(fail)
    assert state(breaker) == "open"


def test_the_window_stays(manual_clock: ManualClock) -> None:
    """Under another rate the same calls count."""
    breaker = CircuitBreaker(failures=None, failure_rate=0.9, minimum_calls=4)
    policy = Policy(breaker)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            policy.call(fail)
        policy.call(ok)
    breaker.reconfigure(CircuitBreaker(failures=None, failure_rate=0.5, minimum_calls=5, window=60))
    assert breaker.metrics()["window"] == {"calls": 4, "failures": 2, "slow": 0}
    with pytest.raises(ConnectionError):
        policy.call(fail)
    assert state(breaker) == "open"


@pytest.mark.parametrize("options", [{}, {"window_calls": 9}])
def test_a_window_may_come_and_go(options: dict[str, Any]) -> None:
    """It begins empty where there was none, and a success is recorded from then on."""
    breaker = CircuitBreaker()
    policy = Policy(breaker)
    policy.call(ok)
    breaker.reconfigure(CircuitBreaker(failure_rate=0.5, **options))
    policy.call(ok)
    assert breaker.metrics()["window"]["calls"] == 1
    breaker.reconfigure(CircuitBreaker())
    assert breaker.metrics()["window"] is None
    assert policy.call(ok) == "ok"


@pytest.mark.parametrize(("size", "calls", "failures"), [(10, 6, 3), (4, 4, 2), (1, 1, 1)])
def test_a_window_of_calls_keeps_the_newest(size: int, calls: int, failures: int) -> None:
    """As many as it holds."""
    old = CountWindow(6)
    for number in range(6):
        old.record(0.0, failed=number % 2 == 1, slow=False)
    new = CountWindow(size).following(old)
    assert (new.calls, new.failures) == (calls, failures)


@pytest.mark.parametrize("seconds", [5.0, 20.0, 40.0])
def test_a_window_of_time_keeps_what_it_reaches(seconds: float) -> None:
    """Within a tenth of either window."""
    old = TimeWindow(20)
    for second in range(20):
        old.record(100.0 + second, failed=True, slow=False)
    new = TimeWindow(seconds).following(old)
    new.age(119.9)
    assert abs(new.calls - min(20, seconds)) <= 3
    assert new.failures == new.calls


def test_a_shorter_window_forgets_at_once_what_it_does_not_reach() -> None:
    """Also when the next outcome falls into the last bucket that was kept."""
    old = TimeWindow(100)
    for second in range(0, 100, 10):
        old.record(100.0 + second, failed=True, slow=False)
    new = TimeWindow(10).following(old)
    assert new.calls == 1
    new.record(190.5, failed=False, slow=False)
    assert (new.calls, new.failures) == (2, 1)


def test_windows_of_different_kinds_begin_empty() -> None:
    """Calls have no age, and time has no order of calls."""
    old = CountWindow(6)
    old.record(0.0, failed=True, slow=False)
    assert TimeWindow(10).following(old).calls == 0
    assert CountWindow(10).following(TimeWindow(3)).calls == 0


def test_a_call_that_began_without_a_slow_limit_is_not_slow(manual_clock: ManualClock) -> None:
    """It finishes under the numbers that it began with."""
    breaker = CircuitBreaker()
    policy = Policy(breaker)

    def work() -> None:
        breaker.reconfigure(CircuitBreaker(failures=None, slow_call=1, slow_rate=0.1, minimum_calls=1))

    policy.call(work)
    assert state(breaker) == "closed"
    assert breaker.metrics()["window"]["slow"] == 0
    policy.call(manual_clock.sleep, 2)
    assert state(breaker) == "open"


def test_probes_stay_counted(manual_clock: ManualClock) -> None:
    """Half-open with more probes out than the new number: none is added."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, half_open_calls=2, successes=2)
    policy = Policy(breaker)
    breaker.open()
    manual_clock.now += 10
    probes = [policy.stream(lambda: iter([1, 2])) for _ in range(3)]
    opened = [iter(probe) for probe in probes]
    next(opened[0])
    next(opened[1])
    breaker.reconfigure(CircuitBreaker(failures=1, reset_timeout=10, half_open_calls=1))
    with pytest.raises(CircuitOpenError):
        next(opened[2])
    assert state(breaker) == "half-open"


# bulkhead


def test_after_a_shrink_the_number_in_use_does_not_rise() -> None:
    """Before it is below the new limit."""
    slots = Bulkhead(4, queue=0)
    policy = Policy(slots)
    held = [iter(policy.stream(lambda: iter([1, 2]))) for _ in range(5)]
    for stream in held[:3]:
        next(stream)
    slots.reconfigure(Bulkhead(2, queue=0))
    for expected in (3, 2):
        assert slots.in_use == expected
        with pytest.raises(BulkheadFullError, match="2 slots"):
            policy.call(ok)
        held[3 - expected].close()
    assert slots.in_use == 1
    assert policy.call(ok) == "ok"


def test_growing_lets_in_those_who_wait() -> None:
    """At once, without anybody leaving."""

    async def scenario() -> None:
        slots = Bulkhead(1)
        policy = Policy(slots)
        gate = asyncio.Event()
        tasks = [asyncio.create_task(policy.acall(gate.wait)) for _ in range(4)]
        await until(lambda: slots.queued == 3)
        slots.reconfigure(Bulkhead(3))
        await until(lambda: slots.in_use == 3)
        assert slots.queued == 1
        gate.set()
        await asyncio.gather(*tasks)
        assert slots.in_use == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("limits", [(3, 1, 3), (3, 1, 2, 5), (100, 1, 200, 70), (1, 200, 1)])
def test_a_pool_has_as_many_slots_as_its_limit(limits: tuple[int, ...]) -> None:
    """Whatever it was before, and however many were held meanwhile."""
    for held in (0, 1, limits[0]):
        pool = SlotPool(limits[0])
        slots = [take(pool) for _ in range(held)]
        for limit in limits[1:]:
            pool.resize(limit)
        for slot in slots:
            pool.give_back(slot)
        free = 0
        while claim(pool) is not None:
            free += 1
        assert free == limits[-1] == pool.in_use


def test_a_resized_pool_under_threads_keeps_its_limit() -> None:
    """Takers and givers in eight threads while the limit goes up and down: who gets in after a shrink finds room."""
    pool = SlotPool(8)
    stop = threading.Event()
    wrong: list[str] = []
    lock = threading.Lock()
    inside: set[object] = set()
    shrunk_to: int | None = None

    def work() -> None:
        while not stop.is_set():
            began = shrunk_to
            slot = claim(pool)
            if slot is None:
                continue
            with lock:
                inside.add(slot)
                if began is not None and began is shrunk_to and len(inside) > began:
                    wrong.append(f"{len(inside)} of {began}")
                inside.discard(slot)
            pool.give_back(slot)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    limit = 8
    for turn in range(400):
        limit = turn % 5 + 1
        shrunk_to = None
        pool.resize(limit)
        shrunk_to = limit
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.in_use == 0
    free = 0
    while claim(pool) is not None:
        free += 1
    assert free == limit


@pytest.mark.parametrize("limit", [1, 4])
def test_a_limit_that_falls_at_any_point_of_a_call(limit: int) -> None:
    """One that comes before it looked is rejected where there is no room any more; nothing is lost in either case."""

    def make() -> tuple[Bulkhead, Callable[[], None]]:
        slots = Bulkhead(limit + 1, queue=0)
        return slots, hold_slot(slots)

    def call(made: tuple[Bulkhead, Callable[[], None]]) -> None:
        slots, _ = made
        with contextlib.nullcontext() if limit > 1 else contextlib.suppress(BulkheadFullError):
            assert Policy(slots).call(ok) == "ok"

    def check(made: tuple[Bulkhead, Callable[[], None]]) -> None:
        slots, give_back = made
        assert (slots.in_use, slots.limit) == (1, limit)
        give_back()
        assert Policy(slots).call(ok) == "ok"

    interrupt_everywhere(make, call, check, act=lambda made: made[0].reconfigure(Bulkhead(limit, queue=0)))


def test_a_slot_given_back_after_a_shrink_serves_nobody() -> None:
    """As long as as many are held as there are now, those in line wait."""
    pool = SlotPool(3)
    held = [take(pool) for _ in range(3)]
    pool.resize(1)
    waiting = queue_up(pool)
    for number, slot in enumerate(held):
        assert not waiting.served
        pool.give_back(slot)
        assert pool.in_use == max(1, 2 - number)
    assert waiting.served


@pytest.mark.parametrize("new", [Bulkhead(1), Bulkhead(1, max_wait=99, queue=0)])
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_who_waits_already_is_refused_by_the_numbers_it_came_under(runtime: str, new: Bulkhead) -> None:
    """The error names them, too."""
    slots = Bulkhead(1, max_wait=5)
    policy = Policy(slots)

    async def change() -> None:
        await anyio.sleep(1)
        slots.reconfigure(new)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy.acall, anyio.sleep, 100)
            await anyio.sleep(1)
            group.start_soon(change)
            with pytest.raises(BulkheadFullError, match="within 5 s"):
                await policy.acall(anyio.sleep, 0)
            group.cancel_scope.cancel()

    run_on(runtime, scenario)


def test_after_a_shrink_the_calls_inside_keep_their_threads() -> None:
    """Those that are admitted go on, and begin further attempts."""
    slots = Bulkhead(3, isolation="thread")
    policy = Policy(slots, Retry(2, wait=fixed(0)))
    inside, shrunk, both = threading.Barrier(4), threading.Event(), threading.Barrier(3)

    def work(seen: list[int]) -> int:
        seen.append(1)
        if len(seen) == 1:
            inside.wait(30)
            assert shrunk.wait(30)
            raise ConnectionError
        both.wait(30)  # all three at the same time
        return len(seen)

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(policy.call, work, []) for _ in range(3)]
        inside.wait(30)
        slots.reconfigure(Bulkhead(1, isolation="thread"))
        shrunk.set()
        assert [call.result(30) for call in calls] == [2, 2, 2]
    assert slots.in_use == 0


def test_isolation_can_change() -> None:
    """Plain functions then run in threads, or no longer."""
    slots = Bulkhead(2)
    policy = Policy(slots)
    slots.reconfigure(Bulkhead(2, isolation="thread"))
    assert policy.call(threading.current_thread) is not threading.current_thread()
    slots.reconfigure(Bulkhead(1, isolation="thread"))
    assert policy.call(threading.current_thread) is not threading.current_thread()
    slots.reconfigure(Bulkhead(2))
    assert policy.call(threading.current_thread) is threading.current_thread()


# what is found late


def test_a_policy_that_is_not_found_yet_can_be_replaced() -> None:
    """Calls run the other one; afterwards those of the policy that was found."""
    found = Policy(Retry(2, wait=fixed(0)))
    late = LatePolicy(lambda: found, name="late")
    guarded = late(ok)
    with late.replaced(Policy(Timeout(1, thread=False))):
        assert guarded() == "ok"
        assert [type(layer) for layer in late.layers] == [Timeout]
    assert guarded() == "ok"
    assert late.layers == found.layers


def test_a_policy_that_is_found_late_is_found_anew_after_a_change() -> None:
    """In the place of one that was found by the same name, it guards as that one does."""
    found = Policy(Retry(2, wait=fixed(0)))
    policy = Policy(Timeout(1, thread=False), LatePolicy(lambda: found, name="late"))
    assert policy.call(ok) == "ok"
    policy.become(Policy(Timeout(2, thread=False), LatePolicy(lambda: found, name="late")))
    assert policy.call(ok) == "ok"
    assert policy.layers[1:] == found.layers


# rate limit


def test_what_has_started_stays_counted(manual_clock: ManualClock) -> None:
    """A reload is no second burst, and a larger burst is larger by the difference."""
    limit = RateLimit(1, per=10, burst=5, max_wait=0)
    policy = Policy(limit)
    for _ in range(4):
        policy.call(ok)
    limit.reconfigure(RateLimit(1, per=5, burst=7, max_wait=0))
    assert limit.available == pytest.approx(3)
    limit.reconfigure(RateLimit(1, per=5, burst=2, max_wait=0))
    with pytest.raises(RateLimitedError) as caught:
        policy.call(ok)
    assert caught.value.retry_after == pytest.approx(15)  # 4 taken, 2 allowed: 3 to pay off at 5 s each
    manual_clock.now += 15
    assert policy.call(ok) == "ok"


def test_those_who_wait_are_put_off_by_a_slower_rate() -> None:
    """In their order, and rejected when that takes longer than they may wait."""
    schedule = Gcra(1.0, 1.0)
    assert schedule.take(0.0, 1)
    first, second = reserve(schedule, 0.0, 1), reserve(schedule, 0.0, 1)
    assert (first.due, second.due) == (1.0, 2.0)
    schedule.change(0.5, 0.1, 1.0)
    assert schedule.delay(0.5, 1) == pytest.approx(25)  # half of the first call is paid for already
    assert not schedule.start(first, 1.0)
    assert first.due == pytest.approx(5.5)
    assert not schedule.start(second, 2.0)
    assert second.due == pytest.approx(15.5)
    schedule.change(2.0, 10.0, 1.0)
    assert schedule.start(first, 2.1)
    assert not schedule.start(second, 2.1)
    assert schedule.start(second, 2.2)
    assert schedule.waiting == 0


def test_those_who_wait_are_told_of_a_faster_rate() -> None:
    """The first of them at once, the next ones as it starts."""
    schedule = Gcra(0.1, 1.0)
    assert schedule.take(0.0, 1)
    first, second = (reserve(schedule, 0.0, 1, waiter=ThreadWaiter()) for _ in range(2))
    schedule.change(1.0, 1.0, 1.0)
    assert schedule.moved_up(1.0) is first
    assert first.due == pytest.approx(1.9)
    assert schedule.start(first, 1.9)
    assert schedule.moved_up(1.9) is second
    assert second.due == pytest.approx(2.9)


def test_one_that_let_its_turn_pass_pays_the_new_price() -> None:
    """It stands in no line when the rate changes, and is priced when it comes back."""
    schedule = Gcra(1.0, 1.0)
    assert schedule.take(0.0, 1)
    late = reserve(schedule, 0.0, 1)
    assert schedule.take(5.0, 1)  # its turn has passed
    schedule.change(5.0, 0.1, 1.0)
    schedule.come_back(late, 6.0)
    assert not schedule.start(late, 6.0)
    assert late.due == pytest.approx(15)
    assert schedule.start(late, 15.0)
    assert schedule.available(15.0) == pytest.approx(0)


def test_a_reservation_beyond_the_new_burst_takes_all_of_it() -> None:
    """Or it could never start."""
    schedule = Gcra(1.0, 5.0)
    assert schedule.take(0.0, 5)
    waiting = reserve(schedule, 0.0, 5)
    schedule.change(0.0, 1.0, 2.0)
    assert not schedule.start(waiting, 2.0)
    assert waiting.due == pytest.approx(5)
    assert schedule.start(waiting, 5.0)


async def test_a_waiting_call_is_rejected_when_its_new_time_is_too_late(h: Harness) -> None:
    """It learns so when it wakes."""
    limit = RateLimit(1, max_wait=2)
    policy = Policy(limit)
    woken = False

    async def work() -> str:
        return "ok"

    await h.call(policy, work)

    if h.blocking:
        from resilient_agents.base.clock import Lock, clock

        acquire = clock.acquire

        def waiting(lock: Lock, seconds: float | None) -> bool:
            nonlocal woken
            if not woken:
                woken = True
                limit.reconfigure(RateLimit(1, per=100, max_wait=2))
            return acquire(lock, seconds)

        clock.acquire = waiting
        with pytest.raises(RateLimitedError):
            await h.call(policy, work)
        return
    import anyio

    async def change() -> None:
        await h.sleep(0.5)
        limit.reconfigure(RateLimit(1, per=100, max_wait=2))

    async with anyio.create_task_group() as group:
        group.start_soon(change)
        with pytest.raises(RateLimitedError):
            await h.call(policy, work)


async def test_a_slower_rate_keeps_the_order_of_those_who_wait(h: Harness) -> None:
    """Each sleeps again, until its new time."""
    if h.blocking:
        return
    import anyio

    limit = RateLimit(1, burst=1)
    policy = Policy(limit)
    began = h.now()
    started: list[tuple[int, float]] = []

    async def work(number: int) -> None:
        started.append((number, round(h.now() - began, 3)))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(h.call, policy, work, number)
            await h.sleep(0.001)
        await h.sleep(0.497)
        limit.reconfigure(RateLimit(1, per=10, burst=1))
        await h.sleep(1)  # the first has been put off by now, the second still sleeps as it was told
        limit.reconfigure(RateLimit(1, per=20, burst=1))
    assert started == [(0, 0.0), (1, 9.5), (2, 29.5)]


def test_a_price_of_before_fits_the_new_burst(manual_clock: ManualClock) -> None:
    """`cost` may change from a function to a number and back while calls come."""
    limit = RateLimit(10, cost=lambda: 5)
    policy = Policy(limit)
    policy.call(ok)
    limit.reconfigure(RateLimit(10, burst=2, cost=1))
    assert policy.call(ok) == "ok"
    limit.reconfigure(RateLimit(10, burst=4, cost=lambda: 4))
    assert policy.call(ok) == "ok"


# retry budget, timeout threads


def test_a_spent_budget_stays_spent(manual_clock: ManualClock) -> None:
    """Under new numbers."""
    policy = Policy(Retry(3, wait=fixed(0), budget=RetryBudget(0, per_second=0.2)))
    calls = 0

    @policy
    def work() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    assert calls == 3
    policy.become(Policy(Retry(3, wait=fixed(0), budget=RetryBudget(0, per_second=0.3))))
    with pytest.raises(ConnectionError):
        work()
    assert calls == 5  # three a window are allowed now, two are spent
    manual_clock.now += 60
    with pytest.raises(ConnectionError):
        work()
    assert calls == 8


def test_a_budget_in_a_window_of_another_length_stays_spent(manual_clock: ManualClock) -> None:
    """What was taken keeps its relative age."""
    budget = RetryBudget(0, per_second=1, window=10)
    while budget.withdraw():
        pass
    budget.reconfigure(RetryBudget(0, per_second=1, window=20))
    assert budget.remaining == 10
    manual_clock.now += 60
    assert budget.remaining == 20


def test_the_threads_of_a_timeout_go_on() -> None:
    """Calls left behind stay counted."""
    old, new = Timeout(1, thread=True), Timeout(2, thread=True)
    policy = Policy(old)
    workers = old.workers
    policy.become(Policy(new))
    assert new.workers is workers


# registry.reload

FILE = """
[policies.openai]
timeout = {{ seconds = "30s", thread = false }}
retry = {{ attempts = {attempts}, wait = 0 }}
circuit_breaker = {{ failures = {failures} }}
bulkhead = {limit}

[policies.search]
circuit_breaker = "shared"

[circuit_breakers.shared]
failures = {shared}
"""


class File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.write()

    def write(self, attempts: int = 3, failures: int = 5, limit: int = 4, shared: int = 5) -> None:
        self.path.write_text(FILE.format(attempts=attempts, failures=failures, limit=limit, shared=shared))


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "resilience.toml")


@pytest.fixture
def registry(file: File) -> Registry:
    return Registry(file.path)


def test_a_reload_changes_policies_in_use(file: File, registry: Registry) -> None:
    """And tells what it changed."""
    policy = registry.policy("openai")
    search = registry.policy("search")
    breaker = registry.circuit_breaker("shared")
    file.write(attempts=5, limit=2, shared=1)
    changes = registry.reload()
    assert changes.policies == ("openai",)
    assert changes.components == ("circuit_breaker.shared", "bulkhead.openai")
    assert registry.policy("openai") is policy
    assert search.layers == (breaker,)
    assert breaker.failures == 1
    assert policy.layers[1].attempts == 5  # type: ignore[attr-defined]
    assert registry.bulkhead("openai").limit == 2


def test_a_reload_of_the_same_file_changes_nothing(file: File, registry: Registry) -> None:
    """Not even the objects."""
    policy = registry.policy("openai")
    layers = policy.layers
    changes = registry.reload()
    assert (changes.policies, changes.components, changes.removed) == ((), (), ())
    assert all(old is new for old, new in zip(layers, policy.layers, strict=True))


def test_a_reload_keeps_circuits_open(file: File, registry: Registry) -> None:
    """And slots taken."""
    policy = registry.policy("openai")
    registry.circuit_breaker("openai").open()
    file.write(attempts=1, failures=9)
    registry.reload()
    assert registry.circuit_breaker("openai").state == "open"
    with pytest.raises(CircuitOpenError):
        policy.call(ok)


@pytest.mark.parametrize(
    "text", ["not toml", "[policies.openai]\nretry = -1\n", "[policies.openai]\nbulkhead = 1\ncircuit_breaker = 'x'\n"]
)
def test_a_bad_file_changes_nothing(file: File, registry: Registry, text: str) -> None:
    """It is reported with ConfigError, and the good one applies again afterwards."""
    policy = registry.policy("openai")
    layers, limit = policy.layers, registry.bulkhead("openai").limit
    file.path.write_text(text)
    with pytest.raises(ConfigError):
        registry.reload()
    assert policy.layers == layers
    assert registry.bulkhead("openai").limit == limit
    file.write(limit=9)
    registry.reload()
    assert registry.bulkhead("openai").limit == 9


def test_a_file_that_is_gone_changes_nothing(file: File, registry: Registry) -> None:
    """As during a deployment."""
    policy = registry.policy("openai")
    file.path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        registry.reload()
    assert registry.policy("openai") is policy


def test_policies_that_are_gone_stay_as_they_were(
    file: File, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in use: what should they become?"""
    search = registry.policy("search")
    file.path.write_text("[policies.openai]\nretry = 3\n")
    changes = registry.reload()
    assert changes.removed == ("search",)
    assert search.layers == (registry.circuit_breaker("shared"),)
    assert "no longer has search" in caplog.text


def test_new_policies_come_with_a_reload(file: File, registry: Registry) -> None:
    """Their components too, also into policies in use."""
    policy = registry.policy("openai")
    file.path.write_text("[policies.openai]\nrate_limit = '5/s'\n[policies.more]\nretry = 3\n")
    registry.reload()
    assert policy.layers == (registry.rate_limit("openai"),)
    assert registry.policy("more").layers[0].attempts == 3  # type: ignore[attr-defined]


KINDS = {"circuit_breaker": "failures", "bulkhead": "limit", "rate_limit": "rate", "gate": "max_wait"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_may_change_between_a_strategy_of_its_own_and_a_shared_one(kind: str) -> None:
    """What others use is never the policy's own, and the other way round."""
    shared = {"pool": {KINDS[kind]: 5}}
    source: dict[str, Any] = {f"{kind}s": shared, "policies": {"one": {kind: {"use": "pool"}}}}
    registry = Registry(source)
    one, pool = registry.policy("one"), registry.rate_limit if kind == "rate_limit" else getattr(registry, kind)
    assert one.layers == (pool("pool"),)
    source["policies"] = {"one": {kind: {KINDS[kind]: 3}}}
    registry.reload()
    assert one.layers == (pool("one"),)
    assert one.layers != (pool("pool"),)
    assert getattr(pool("pool"), KINDS[kind]) == 5
    source["policies"] = {"one": {kind: {"use": "pool"}}}
    registry.reload()
    assert one.layers == (pool("pool"),)


@pytest.mark.parametrize("kind", KINDS)
def test_keyed_policies_may_change_so_too(kind: str) -> None:
    """Each key has one of its own then."""
    shared = {"pool": {KINDS[kind]: 5}}
    source: dict[str, Any] = {f"{kind}s": shared, "policies": {"http": {kind: {"use": "pool"}}}}
    registry = Registry(source)
    keyed = registry.keyed("http", key=lambda key: key)
    one, two = keyed.policy("one"), keyed.policy("two")
    (pool,) = one.layers
    assert two.layers == (pool,)
    source["policies"] = {"http": {kind: {KINDS[kind]: 3}}}
    registry.reload()
    assert len({one.layers, two.layers, (pool,)}) == 3
    assert getattr(pool, KINDS[kind]) == 5
    source["policies"] = {"http": {kind: {"use": "pool"}}}
    registry.reload()
    assert one.layers == two.layers == (pool,)


def test_a_policy_keeps_its_state_when_the_default_serves_it_no_longer() -> None:
    """And when it serves it again: slots and circuits have its name all the time."""
    source: dict[str, Any] = {"policies": {"default": {"circuit_breaker": {"failures": 1}, "bulkhead": 2}}}
    registry = Registry(source)
    policy = registry.policy("openai")
    layers = policy.layers
    registry.circuit_breaker("openai").open()
    own = {"circuit_breaker": {"failures": 7}, "bulkhead": 4}
    for written, limit in (({"default": {}, "openai": own}, 4), (dict(source["policies"]), 2)):
        source["policies"] = written
        registry.reload()
        assert policy.layers == layers
        assert (registry.bulkhead("openai").limit, registry.circuit_breaker("openai").state) == (limit, "open")
    source["policies"] = {"other": {"retry": 1}}
    assert registry.reload().removed == ("openai",)


def test_a_circuit_that_no_policy_uses_any_more_is_closed(manual_clock: ManualClock) -> None:
    """Or its health check would be degraded for ever. One that began in code stays as it is."""
    source: dict[str, Any] = {}
    registry = Registry(source)
    code, asked = CircuitBreaker("in-code"), registry.circuit_breaker("asked")
    names = ("gone", "kept", "in-code", "asked")
    gone, kept, *others = (cast(CircuitBreaker, registry.policy(name).layers[1]) for name in names)
    assert others == [code, asked]
    for breaker in (gone, kept, code, asked):
        breaker.open()
    source["policies"] = {"gone": {"retry": 1}, "in-code": {"retry": 1}, "asked": {"retry": 1}}
    registry.reload()
    assert [state(breaker) for breaker in (gone, kept, code, asked)] == ["closed", "open", "open", "open"]
    source["policies"]["gone"] = {"circuit_breaker": {"failures": 1}}
    registry.reload()
    assert registry.policy("gone").layers == (gone,)


def test_a_circuit_with_a_given_name_is_one_where_the_numbers_are_the_same() -> None:
    """With other numbers it is another one: no policy silently has the numbers of another."""
    breaker = {"name": "openai", "failures": 2}
    other = {"name": "openai", "failures": 9}
    written = {"a": breaker, "b": breaker, "c": other}
    registry = Registry({"policies": {name: {"circuit_breaker": table} for name, table in written.items()}})
    one, two, three = (cast(CircuitBreaker, registry.policy(name).layers[0]) for name in "abc")
    assert one is two
    assert [(each.name, each.failures) for each in (one, three)] == [("openai", 2), ("openai#2", 9)]


def test_a_reload_reaches_late_and_keyed_policies(file: File, registry: Registry) -> None:
    """Each key keeps its state."""
    late = registry.late("openai")
    keyed = registry.keyed("openai", key=lambda key: key)
    late(ok)()
    one = keyed.policy("one")
    breaker = cast(CircuitBreaker, one.layers[2])
    breaker.open()
    file.write(attempts=7, failures=8)
    registry.reload()
    assert late.layers[1].attempts == 7  # type: ignore[attr-defined]
    assert keyed.policy("one") is one
    assert one.layers[2] is breaker
    assert (breaker.state, breaker.failures) == ("open", 8)
    assert keyed.policy("two").layers[1].attempts == 7  # type: ignore[attr-defined]


def test_a_reload_during_an_override_counts_afterwards(file: File, registry: Registry) -> None:
    """The override goes on until its block ends."""
    guarded = registry.late("openai")(ok)
    with registry.override("openai", Policy()):
        file.write(limit=1, attempts=2)
        registry.reload()
        assert guarded() == "ok"
        assert registry.policy("openai").layers == ()
    assert registry.policy("openai").layers[3].limit == 1  # type: ignore[attr-defined]


def test_observers_stay(file: File, registry: Registry) -> None:
    """They belong to the policy, not to its strategies."""
    seen = Events()
    registry.policy("openai").observe(seen)
    file.write(attempts=2)
    registry.reload()
    with pytest.raises(ConnectionError):
        registry.policy("openai").call(fail)
    assert len(seen.of(events.AttemptStarted)) == 2


def test_a_reload_follows_the_profile_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody chose one in code."""
    monkeypatch.setenv("RESILIENT_AGENTS_PROFILE", "small")
    profiles = {"small": {"bulkheads": {"x": 1}}, "large": {"bulkheads": {"x": 9}}}
    registry = Registry({"profiles": profiles})
    slots = registry.bulkhead("x")
    assert slots.limit == 1
    monkeypatch.setenv("RESILIENT_AGENTS_PROFILE", "large")
    assert registry.reload().components == ("bulkhead.x",)
    assert slots.limit == 9


def test_the_profile_stays(tmp_path: Path) -> None:
    """A reload reads the same source in the same way."""
    path = tmp_path / "resilience.toml"
    path.write_text("[policies.x]\nbulkhead = 1\n[profiles.production.policies.x]\nbulkhead = 8\n")
    registry = Registry(path, profile="production")
    assert registry.policy("x").layers == (registry.bulkhead("x"),)
    assert registry.bulkhead("x").limit == 8
    path.write_text("[policies.x]\nbulkhead = 1\n[profiles.production.policies.x]\nbulkhead = 9\n")
    registry.reload()
    assert registry.bulkhead("x").limit == 9


def test_a_reload_does_not_bring_back_an_old_source() -> None:
    """One that begins while another source is being configured reads that one."""
    registry = Registry({"bulkheads": {"x": 1}})
    slots = registry.bulkhead("x")
    reloading = threading.Thread(target=registry.reload)

    class Source(dict[str, Any]):
        def items(self) -> Any:
            if reloading.ident is None:
                reloading.start()
                reloading.join(0.05)  # it waits for this one to be done
            return super().items()

    registry.configure(Source({"bulkheads": {"x": 2}}))
    reloading.join()
    assert slots.limit == 2


def test_without_a_configuration_there_is_nothing_to_reload() -> None:
    """The error says what to do."""
    with pytest.raises(RuntimeError, match="call configure"):
        Registry().reload()


# ------------------------------------------------------------------------------------------ what a reload says it did


def test_a_reload_tells_of_keyed_policies() -> None:
    """Whoever reloads sees that the policies of all keys have changed."""
    source: dict[str, Any] = {"policies": {"hosts": {"bulkhead": 20}}}
    registry = Registry(source)
    hosts = registry.keyed("hosts", key=lambda host: host)
    hosts.call(len, "a")
    source["policies"] = {"hosts": {"bulkhead": 2}}
    assert registry.reload().policies == ("hosts",)
    ((key, policy),) = hosts.items()
    assert (key, [layer.limit for layer in policy.layers if isinstance(layer, Bulkhead)]) == ("a", [2])
    assert registry.reload().policies == ()


@pytest.mark.parametrize("left", [{"other": {"retry": 2}}, {}])
def test_a_keyed_policy_that_is_gone_serves_new_keys_as_it_was(
    left: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that lost a policy breaks no call, of no key, and says so once; coming back it counts again."""
    source: dict[str, Any] = {"policies": {"hosts": {"bulkhead": 3}}}
    registry = Registry(source)
    hosts = registry.keyed("hosts", key=lambda host: host)
    hosts.call(len, "a")
    source["policies"] = left
    assert registry.reload().removed == ("hosts",)
    assert "no longer has hosts: kept as they were" in caplog.text
    assert registry.missing() == ()
    assert registry.reload().removed == ()
    assert [layer.limit for layer in hosts.policy("b").layers if isinstance(layer, Bulkhead)] == [3]
    source["policies"] = {"hosts": {"bulkhead": 4}}
    assert registry.reload().policies == ("hosts",)
    for key in ("a", "b", "c"):
        assert [layer.limit for layer in hosts.policy(key).layers if isinstance(layer, Bulkhead)] == [4]


def test_a_name_that_was_called_before_there_was_a_file_is_missed_all_the_same() -> None:
    """It runs the default of no configuration, which nobody wanted."""
    registry = Registry()
    registry.late("serch")(len)("four")
    registry.configure({"policies": {"search": {"retry": 2}}})
    assert registry.missing() == ("serch",)


def down(key: object) -> None:
    raise ConnectionError


def open_circuits(registry: Registry) -> list[str]:
    return [name for kind, name, part in registry.components() if kind == "circuit_breaker" and part.state == "open"]


SHARED: dict[str, Any] = {"circuit_breakers": {"x": {"failures": 1}}, "policies": {"a": {"circuit_breaker": "x"}}}
OWN: dict[str, Any] = {"policies": {"a": {"circuit_breaker": {"failures": 1}}}}
WITHOUT: dict[str, Any] = {"policies": {"a": {"retry": 1}}}
ELSE: dict[str, Any] = {"policies": {"b": {"retry": 1}}}
SERVED: dict[str, Any] = {"policies": {"default": {"retry": 1}}}


@pytest.mark.parametrize("first", [SHARED, OWN])
@pytest.mark.parametrize("way", [[WITHOUT], [ELSE, WITHOUT], [ELSE, ELSE, WITHOUT], [ELSE, SERVED], [SERVED]])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_circuit_that_no_policy_goes_through_any_more_is_closed(
    first: dict[str, Any], way: list[dict[str, Any]], *, keyed: bool
) -> None:
    """By whatever way its policy lost it; while the policy is only gone from the file, it keeps it."""
    registry = Registry(first)
    policy: Any = registry.keyed("a", key=str) if keyed else registry.policy("a")
    with pytest.raises(ConnectionError):
        policy.call(down, 1)
    shared = not keyed or first is SHARED
    assert open_circuits(registry) == ([] if not shared else ["x" if first is SHARED else "a"])
    for number, source in enumerate(way, 1):
        registry.configure(source)
        if number < len(way):
            assert len(open_circuits(registry)) == shared
    assert open_circuits(registry) == []
    assert policy.call(int, "1") == 1


def test_a_circuit_whose_keyed_policy_is_gone_is_closed() -> None:
    """Nobody could close it by calls."""
    registry = Registry(SHARED)
    keyed = registry.keyed("a", key=str)
    with pytest.raises(ConnectionError):
        keyed.call(down, 1)
    del keyed
    gc.collect()
    registry.configure(ELSE)
    assert open_circuits(registry) == []


def test_a_handler_may_ask_for_a_policy_while_a_configuration_is_taken_over() -> None:
    """By a name that is new, which the registry is just going through."""

    def make() -> Registry:
        registry = Registry({"policies": {"default": {"retry": 2}}})
        registry.policy("known")
        return registry

    def check(registry: Registry) -> None:
        assert registry.policy("known").describe()["strategies"][0]["attempts"] == 3
        assert registry.policy("new").call(int) == 0

    assert interrupt_everywhere(
        make,
        lambda registry: registry.configure({"policies": {"default": {"retry": 3}}}),
        check,
        act=lambda registry: registry.policy("new").call(int),
        inside=inspect.getfile(Store),
    )
