"""`RateLimit` and the native aiolimiter limiter. Threads and several loops at once: tests/test_limits_races.py."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import os
import pickle
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import anyio
import pytest
from aiolimiter import AsyncLimiter

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.native.rate_limit import adapt_native
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.clock import clock
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.loops import running_loop
from resilient_agents.deadline import deadline
from resilient_agents.errors import PolicyTimeoutError, RateLimitedError, Rejected
from resilient_agents.events import CallRejected, Waited
from resilient_agents.policy import Policy
from tests.conftest import Events, Harness, ManualClock, run_on
from tests.strategies import Again, Refuses, value
from tests.test_gcra import worst_excess

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


async def starts(h: Harness, limit: RateLimit, calls: int) -> list[float]:
    """When so many calls, one after another, started."""
    policy, began = Policy(limit), h.now()

    async def look() -> float:
        return round(h.now() - began, 6)

    return [await h.call(policy, look) for _ in range(calls)]


async def test_a_burst_starts_at_once_and_the_rest_at_the_rate(h: Harness) -> None:
    """By default a second's worth starts at once, and then one per 1/rate seconds."""
    assert await starts(h, RateLimit(2), 5) == [0.0, 0.0, 0.5, 1.0, 1.5]


async def test_per_and_burst(h: Harness) -> None:
    """`rate` calls per `per` seconds, `burst` of them at once."""
    assert await starts(h, RateLimit(6, per=timedelta(minutes=1), burst=2), 4) == [0.0, 0.0, 10.0, 20.0]


async def test_a_rate_below_one_still_lets_one_call_through(h: Harness) -> None:
    """The default burst is at least 1."""
    assert await starts(h, RateLimit(0.5), 3) == [0.0, 2.0, 4.0]


async def test_idling_saves_up_the_burst(h: Harness) -> None:
    """After a pause `burst` calls start at once again, however long it was."""
    limit = RateLimit(1, burst=2)
    await starts(h, limit, 2)
    await h.sleep(100)
    assert await starts(h, limit, 3) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("spelled", "rate", "per"),
    [
        ("10/s", 10, 1),
        ("10/sec", 10, 1),
        ("60/min", 60, 60),
        ("60/m", 60, 60),
        ("60/minute", 60, 60),
        ("1000/h", 1000, 3600),
        ("1000/hour", 1000, 3600),
        ("5000/day", 5000, 86400),
        ("5000/d", 5000, 86400),
        ("0.5 / second", 0.5, 1),
        ("5/30s", 5, 30),
        ("100 per", None, None),
        ("60", None, None),
        ("60/fortnight", None, None),
        ("-1/s", None, None),
        ("0/s", None, None),
        ("1/0s", None, None),
    ],
)
def test_a_rate_can_be_spelled(spelled: str, rate: float | None, per: float | None) -> None:
    """Strings such as "60/min" say rate and per in one; what cannot be read is refused."""
    if rate is None:
        with pytest.raises(ValueError, match="rate|per"):
            RateLimit(spelled)
    else:
        limit = RateLimit(spelled)
        assert (limit.rate, limit.per) == (rate, per)


async def test_every_attempt_takes_a_token(h: Harness) -> None:
    """What repeats a call from outside pays anew for each attempt."""
    limit = RateLimit(10)
    await h.call(Policy(Again(), limit), value)
    assert limit.available == pytest.approx(8, abs=1e-6)


async def test_cost_may_depend_on_the_arguments(h: Harness) -> None:
    """A function of the call's arguments says what it takes; it is called once for each attempt."""
    asked: list[Any] = []

    def cost(tokens: int, *, factor: int = 1) -> int:
        asked.append((tokens, factor))
        return tokens * factor

    async def work(tokens: int, *, factor: int = 1) -> None: ...

    limit = RateLimit(100, cost=cost)
    await h.call(Policy(limit), work, 30, factor=2)
    assert limit.available == pytest.approx(40, abs=1e-6)
    before = h.now()
    await h.call(Policy(limit), work, 50)
    assert h.now() - before == pytest.approx(0.1)
    assert asked == [(30, 2), (50, 1)]


async def test_a_fixed_cost_is_taken_per_call(h: Harness) -> None:
    """cost=5 at a rate of 10 makes two calls a second."""
    assert await starts(h, RateLimit(10, cost=5), 4) == [0.0, 0.0, 0.5, 1.0]


async def test_a_cost_of_nothing_never_waits(h: Harness) -> None:
    """A call that is free starts at once although the burst is spent."""
    limit = RateLimit(1, cost=lambda price: price)
    policy = Policy(limit)
    await h.call(policy, value, 1)
    before = h.now()
    await h.call(policy, value, 0)
    assert h.now() == before
    assert limit.metrics()["calls"] == 2


@LOOPS
def test_a_cost_of_nothing_does_not_wait_behind_others_either(runtime: str) -> None:
    """It takes nothing that those in line wait for."""
    policy = Policy(RateLimit(1, cost=lambda price: price))

    async def scenario() -> None:
        await policy.acall(value, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(policy(value), 1)
            await anyio.sleep(0.5)
            before = anyio.current_time()
            await policy.acall(value, 0)
            assert anyio.current_time() == before

    run_on(runtime, scenario)


@pytest.mark.parametrize("error", [KeyError("mine"), StopIteration("mine")])
def test_what_a_cost_function_raises_comes_out_as_it_is(error: Exception) -> None:
    """An error of the user's is not dressed up; nothing was taken."""

    def cost() -> float:
        raise error

    limit = RateLimit(1, cost=cost)
    with pytest.raises(type(error)) as caught:
        Policy(limit).call(lambda: None)
    assert caught.value is error
    assert limit.available == 1


@pytest.mark.parametrize("cost", [-1, float("nan"), 11, "many", None])
async def test_a_cost_function_that_answers_nonsense_is_told(h: Harness, cost: Any) -> None:
    """Costs are numbers from 0 to burst: more could never start."""
    with pytest.raises((TypeError, ValueError), match=r"cost must be"):
        await h.call(Policy(RateLimit(10, cost=lambda: cost)), value)


async def test_a_wait_that_is_too_long_is_rejected_at_once(h: Harness) -> None:
    """Beyond max_wait nobody waits in vain; the error says when there will be room."""
    policy = Policy(RateLimit(1, max_wait=0.5), name="agent")
    events = Events()
    policy.observe(events)
    await h.call(policy, value)
    before = h.now()
    with pytest.raises(RateLimitedError, match=r"'agent' \(1 per 1 s\) has room in 1 s, and max_wait=0.5") as caught:
        await h.call(policy, value)
    assert h.now() == before
    assert (caught.value.policy, caught.value.strategy) == ("agent", "rate_limit")
    assert caught.value.retry_after == pytest.approx(1)
    assert events.of(CallRejected) == [CallRejected("agent", "rate_limit", caught.value.retry_after)]
    assert events.of(Waited) == []


async def test_a_rejected_call_takes_nothing(h: Harness) -> None:
    """Rejections do not put off those who come later."""
    limit = RateLimit(1, max_wait=0)
    policy = Policy(limit)
    await h.call(policy, value)
    for _ in range(5):
        with pytest.raises(RateLimitedError):
            await h.call(policy, value)
    await h.sleep(1)
    assert await h.call(policy, value) == "value"


async def test_a_wait_of_exactly_max_wait_is_allowed(h: Harness) -> None:
    """The bound belongs to what is allowed."""
    assert await starts(h, RateLimit(1, max_wait=1), 2) == [0.0, 1.0]
    assert await starts(h, RateLimit(3, burst=1, max_wait=1 / 3), 4) == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-5)


async def test_a_wait_that_the_deadline_cuts_off_is_rejected_at_once(h: Harness) -> None:
    """No call waits for a turn that comes after its deadline."""
    policy = Policy(RateLimit(1))
    await h.call(policy, value)
    before = h.now()
    with deadline(0.5), pytest.raises(RateLimitedError, match="the deadline leaves 0.5 s"):
        await h.call(policy, value)
    assert h.now() == before
    with deadline(1.5):
        assert await h.call(policy, value) == "value"


async def test_an_event_says_how_long_a_call_waited(h: Harness) -> None:
    """`Waited` tells the seconds; a call that did not wait is not told of."""
    policy = Policy(RateLimit(1), name="agent")
    events = Events()
    policy.observe(events)
    for _ in range(2):
        await h.call(policy, value)
    (event,) = events.of(Waited)
    assert (event.policy, event.strategy, event.seconds) == ("agent", "rate_limit", pytest.approx(1))


async def test_a_call_that_waited_is_checked_again_and_takes_nothing(h: Harness) -> None:
    """A layer outside may refuse it; its turn, the newest, is handed back."""
    limit = RateLimit(1)
    await h.call(Policy(limit), value)
    with pytest.raises(Rejected, match="changed my mind"):
        await h.call(Policy(Refuses(), limit), value)
    assert limit.available == pytest.approx(1)
    assert limit.queued == 0


@LOOPS
def test_waiters_start_in_order(runtime: str) -> None:
    """First come, first served."""
    policy = Policy(RateLimit(1))
    order: list[tuple[int, float]] = []
    began = 0.0

    async def work(number: int) -> None:
        order.append((number, round(anyio.current_time() - began)))

    async def scenario() -> None:
        nonlocal began
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(policy(work), number)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()

    run_on(runtime, scenario)
    assert order == [(number, number) for number in range(5)]


@LOOPS
@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_when_one_leaves_the_line_the_others_move_up(runtime: str, cancelled: int) -> None:
    """Whichever of three waiters is cancelled: the others and a newcomer start one second apart, in order."""
    limit = RateLimit(1)
    policy = Policy(limit)
    started: list[tuple[str, float]] = []

    async def scenario() -> None:
        began = anyio.current_time()
        scopes = {number: anyio.CancelScope() for number in range(3)}

        async def work(name: str) -> None:
            started.append((name, round(anyio.current_time() - began, 3)))

        async def caller(number: int) -> None:
            with scopes[number]:
                await policy.acall(work, str(number))

        await policy.acall(value)
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(caller, number)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.5)
            scopes[cancelled].cancel()
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            group.start_soon(policy(work), "newcomer")

    run_on(runtime, scenario)
    names = [str(number) for number in range(3) if number != cancelled]
    assert started == list(zip([*names, "newcomer"], [1.0, 2.0, 3.0], strict=True))
    assert limit.queued == 0


@LOOPS
def test_a_thousand_calls_that_are_cancelled_together_leave_no_trace(runtime: str) -> None:
    """The next call starts as if they had never come, whatever the order they were cancelled in."""
    limit = RateLimit(10)
    policy = Policy(limit)

    async def scenario() -> float:
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(policy(value))
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()
        before = anyio.current_time()
        await policy.acall(value)
        return float(anyio.current_time() - before)

    assert run_on(runtime, scenario) <= 0.1
    assert limit.queued == 0


@LOOPS
def test_impatient_callers_use_the_rate_up(runtime: str) -> None:
    """Calls that each give up after a while, and come again, get all that the rate allows between them."""
    limit = RateLimit(10, burst=1)
    policy = Policy(limit)
    started: list[float] = []

    async def scenario() -> None:
        began = anyio.current_time()

        async def work() -> None:
            started.append(anyio.current_time() - began)

        async def caller(patience: float) -> None:
            while anyio.current_time() - began < 100:
                with anyio.move_on_after(patience):
                    await policy.acall(work)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(caller, 0.37 + 0.13 * number)

    run_on(runtime, scenario)
    assert sum(1 for at in started if at <= 100) >= 990
    assert worst_excess([(at, 1.0) for at in started], 10, 1) < 1e-6
    assert limit.queued == 0


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
    """A call that is cancelled while it waits says so to the layers outside; one that came through does not."""
    waits, starts = Sees(), Sees()
    limit = RateLimit(1)

    async def scenario() -> None:
        await Policy(limit).acall(value)
        with anyio.move_on_after(0.5):
            await Policy(waits, limit).acall(value)
        await Policy(starts, limit).acall(value)

    run_on(runtime, scenario)
    assert (waits.cut_short, starts.cut_short) == (True, False)


def stand_still(seconds: float) -> None:
    """Let virtual time pass while the event loop is blocked, so that its timers fire late, together."""
    if running_loop() is None:
        import trio

        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]
        return
    loop: Any = asyncio.get_running_loop()
    loop.jump(seconds)


@LOOPS
@pytest.mark.parametrize(("max_wait", "starting"), [(None, 5), (5, 1)])
def test_waiters_whose_loop_was_blocked_do_not_start_together(
    runtime: str, max_wait: float | None, starting: int
) -> None:
    """Who wakes late starts when the rate allows it, in order; those for whom that is too late are rejected then."""
    limit = RateLimit(1, burst=1, max_wait=max_wait)
    policy = Policy(limit)
    started: list[tuple[int, float]] = []
    rejected: list[int] = []

    async def scenario() -> None:
        began = anyio.current_time()

        async def note(number: int) -> None:
            started.append((number, round(clock.monotonic() - began, 3)))

        async def work(number: int) -> None:
            try:
                await policy.acall(note, number)
            except RateLimitedError:
                rejected.append(number)

        await policy.acall(value)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(work, number)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
            stand_still(10)

    run_on(runtime, scenario)
    assert [number for number, _ in started] == list(range(starting))
    assert sorted(rejected) == list(range(starting, 5))
    assert limit.queued == 0
    times = [time for _, time in started]
    assert all(later - earlier > 0.999 for earlier, later in itertools.pairwise(times))


def test_a_blocking_wait_on_an_event_loop_is_refused() -> None:
    """It would stop the loop."""
    limit = RateLimit(1)
    policy = Policy(limit)

    async def scenario() -> None:
        await policy.acall(anyio.sleep, 10)
        await policy.acall(value)
        with pytest.raises(RateLimitedError, match=r"event loop's own thread.*await policy.acall") as caught:
            policy.call(lambda: None)
        assert caught.value.retry_after == pytest.approx(1)

    run_on("asyncio", scenario)
    run_on("trio", scenario)
    assert limit.queued == 0


@LOOPS
def test_an_undeclared_async_function_waits_as_an_awaitable(runtime: str) -> None:
    """A callable that only turned out to be async when it was called need not be refused: its wait is awaited."""

    @Policy(RateLimit(1))
    def undeclared() -> Awaitable[str]:
        return value()

    async def scenario() -> None:
        assert await undeclared() == "value"  # from here on it is known
        before = anyio.current_time()
        assert await undeclared() == "value"
        assert anyio.current_time() - before == pytest.approx(1)

    run_on(runtime, scenario)


async def test_a_stream_takes_one_token(h: Harness) -> None:
    """Items are not counted."""
    limit = RateLimit(10)
    assert await h.items(Policy(limit).stream(lambda: iter(range(5)))) == list(range(5))
    assert limit.available == pytest.approx(9, abs=1e-6)


def test_one_loop_after_another() -> None:
    """Sequential event loops share one rate: what the first one used is gone for the second."""
    limit = RateLimit(1, per=1000, burst=2, max_wait=0)
    policy = Policy(limit)
    for _ in range(2):
        asyncio.run(policy.acall(value))
    with pytest.raises(RateLimitedError):
        asyncio.run(policy.acall(value))


def strand(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, object]], count: int) -> None:
    """Begin tasks on a loop that will be closed under them, without the warning about that."""
    for _ in range(count):
        loop.create_task(work())._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_closed_loop_with_waiters_holds_up_nobody(manual_clock: ManualClock) -> None:
    """Who waited on a loop that is gone has no turn; the rate is the same afterwards."""
    limit = RateLimit(1)
    policy = Policy(limit)
    loop = asyncio.new_event_loop()
    strand(loop, lambda: policy.acall(value), 4)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert limit.queued == 3
    loop.close()
    manual_clock.now += 3
    before = manual_clock.now
    at = [policy.call(manual_clock) - before for _ in range(3)]
    assert at == pytest.approx([0, 1, 2])
    assert limit.queued == 0


def test_who_waited_on_a_closed_loop_is_not_counted_in_line() -> None:
    """Also where nobody has called since."""
    limit = RateLimit(1)
    policy = Policy(limit)
    loop = asyncio.new_event_loop()
    strand(loop, lambda: policy.acall(value), 2)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert limit.queued == 0


def test_who_waits_starts_earlier_under_a_faster_rate() -> None:
    """A reload wakes it."""
    limit = RateLimit(1, per=10)
    policy = Policy(limit)

    async def scenario() -> None:
        began = clock.monotonic()
        await policy.acall(value)
        waits = asyncio.create_task(policy.acall(value))
        await asyncio.sleep(1)
        limit.reconfigure(RateLimit(1, per=2))
        await waits
        assert clock.monotonic() - began < 5

    run_on("asyncio", scenario)


async def test_a_rate_of_less_than_one_a_second_is_kept_between_two_calls(h: Harness) -> None:
    """Half of the time gives half of what the next one costs."""
    policy, began = Policy(RateLimit(1, per=4)), h.now()
    await h.call(policy, value)
    await h.sleep(2)
    await h.call(policy, value)
    assert h.now() - began == pytest.approx(4)


def test_who_comes_when_the_turn_of_another_has_just_come_stands_behind_it() -> None:
    """There is room again, but not for whoever looks first."""
    policy, order = Policy(RateLimit(1)), list[str]()

    async def late() -> None:
        await asyncio.sleep(1)
        await policy.acall(order.append, "late")

    async def scenario() -> None:
        await policy.acall(order.append, "first")
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
        await asyncio.gather(policy.acall(order.append, "waits"), task)

    run_on("asyncio", scenario)
    assert order == ["first", "waits", "late"]


@LOOPS
def test_who_leaves_the_line_lets_the_next_one_go_earlier(runtime: str) -> None:
    """It need not sleep until the time that it was told."""
    policy = Policy(RateLimit(1, burst=1))

    async def scenario() -> None:
        began = anyio.current_time()
        await policy.acall(value)
        async with anyio.create_task_group() as group:
            with anyio.move_on_after(0.5):
                group.start_soon(policy.acall, value)  # stands second in line
                await policy.acall(anyio.sleep, 99)
        assert anyio.current_time() - began == pytest.approx(1, abs=0.01)

    run_on(runtime, scenario)


@LOOPS
def test_who_is_refused_in_line_is_told_when_there_would_be_room(runtime: str) -> None:
    """What a call before it really cost is charged while it waits: its turn comes later than it may wait."""
    limit = RateLimit(1, burst=1, max_wait=2, settle=lambda result: result)
    policy = Policy(limit)

    async def costly() -> int:
        await anyio.sleep(0.5)
        return 11

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(policy.acall, costly)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RateLimitedError) as raised:
                await policy.acall(value, None)
            assert raised.value.retry_after == pytest.approx(10)

    run_on(runtime, scenario)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_the_whole_burst_whatever_the_parent_held() -> None:
    """Another thread held the lock at the time of the fork, and everything was spent."""
    limit = RateLimit(1, per=1000, max_wait=0)
    policy = Policy(limit)
    policy.call(lambda: None)
    locked, done = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with limit._lock:
            locked.set()
            done.wait(10)

    thread = threading.Thread(target=hold_the_lock)
    thread.start()
    locked.wait(10)
    child = os.fork()
    if child == 0:
        try:
            policy.call(lambda: None)
            os._exit(0 if limit.available < 1 else 1)
        except BaseException:
            os._exit(2)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_lock_is_reentrant() -> None:
    """The garbage collector may end a waiter of a closed loop while this very thread holds the lock."""
    limit = RateLimit(1)
    with limit._lock:
        assert limit.available == 1


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_says_that_it_cannot_be_pickled_or_copied(duplicate: Callable[[Any], Any]) -> None:
    """A copy would be a second rate."""
    with pytest.raises(TypeError, match="live state"):
        duplicate(RateLimit(1))


async def async_cost() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0,), {}, "rate must be more than 0, got 0"),
        ((-1,), {}, "rate must be at least 0, got -1"),
        ((True,), {}, "rate must be a number, got True"),
        ((1, 0), {}, "per must be more than 0 seconds, got 0"),
        (("1/s", 5), {}, "per must be left out when rate is a string, got 5"),
        (("60/min", 30), {}, "per must be left out when rate is a string, got 30"),
        ((1,), {"burst": 0}, "burst must be more than 0, got 0"),
        ((1e-300,), {"per": 1e300}, "rate / per must be a number that a float can hold"),
        ((10,), {"burst": 2, "cost": 3}, r"cost must be at most burst \(2\), or the call could never start, got 3"),
        ((1,), {"cost": 0}, "cost must be more than 0, got 0"),
        ((1,), {"cost": async_cost}, "cost must be a number or a plain function"),
        ((1,), {"max_wait": -1}, "max_wait must be at least 0 seconds, got -1"),
    ],
)
def test_wrong_options_fail_at_once(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    """The error names the option, the rule and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        RateLimit(*arguments, **options)


def test_it_describes_itself_as_plain_data() -> None:
    """Options and live state, for json; the repr is the constructor."""
    limit = RateLimit("60/min", burst=5, max_wait=1, cost=2)
    assert json.loads(json.dumps(limit.describe())) == {
        "strategy": "rate_limit",
        "rate": 60.0,
        "per": 60.0,
        "burst": 5.0,
        "max_wait": 1.0,
        "cost": 2.0,
        "settle": None,
        "shadow": False,
        "available": 5.0,
        "queued": 0,
    }
    assert repr(limit) == "RateLimit(60, 60, burst=5, max_wait=1, cost=2)"
    assert repr(RateLimit(10)) == "RateLimit(10)"
    assert RateLimit(1, cost=lambda: 1).describe()["cost"] == "callable"


def native(limiter: AsyncLimiter) -> Any:
    adapted = adapt_native(limiter)
    assert adapted is not None
    return adapted


def test_only_aiolimiter_objects_are_adapted() -> None:
    """Anything else is left to the other adapters."""
    assert adapt_native(object()) is None
    assert adapt_native(RateLimit(1)) is None


def test_a_native_limiter_keeps_its_own_rate() -> None:
    """Its burst, its waiting and its order; those that waited say so."""
    policy = Policy(native(AsyncLimiter(2, 1)))
    events = Events()
    policy.observe(events)
    started: list[float] = []

    async def work() -> None:
        started.append(anyio.current_time())

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(policy(work))

    run_on("asyncio", scenario)
    assert [each - started[0] for each in started] == pytest.approx([0, 0, 0.5, 1.0], abs=1e-6)
    assert [event.seconds for event in events.of(Waited)] == pytest.approx([0.5, 1.0], abs=1e-6)


def test_a_native_limiter_checks_a_call_that_waited_again() -> None:
    """A layer outside may refuse the call after its wait."""
    strategy = native(AsyncLimiter(1, 1))

    async def scenario() -> None:
        await Policy(strategy).acall(value)
        with pytest.raises(Rejected, match="changed my mind"):
            await Policy(Refuses(), strategy).acall(value)

    run_on("asyncio", scenario)


def test_a_limit_that_ends_the_wait_for_a_native_limiter_tells_nothing_of_the_callee() -> None:
    """A breaker between the two stays closed: nothing was called."""
    breaker = CircuitBreaker(failures=1)
    policy = Policy(Timeout(0.5), breaker, native(AsyncLimiter(1, 10)))

    async def scenario() -> None:
        await policy.acall(value)
        with pytest.raises(PolicyTimeoutError):
            await policy.acall(value)
        assert breaker.state == "closed"

    run_on("asyncio", scenario)


def test_waiting_for_a_native_limiter_is_no_time_of_the_call() -> None:
    """A breaker around it counts what the function took."""
    breaker = CircuitBreaker(slow_call=1)
    policy = Policy(breaker, native(AsyncLimiter(1, 1)))

    async def scenario() -> None:
        for _ in range(3):
            await policy.acall(anyio.sleep, 0.25)
        assert breaker.metrics()["average_duration"] == pytest.approx(0.25)

    run_on("asyncio", scenario)


@pytest.mark.parametrize("runtime", ["blocking", "trio"])
def test_a_native_limiter_away_from_asyncio_says_what_to_use(runtime: str) -> None:
    """It cannot work there."""
    policy = Policy(native(AsyncLimiter(1, 1)))

    async def scenario() -> None:
        with pytest.raises(TypeError, match="on asyncio only: use RateLimit"):
            await Harness(runtime).call(policy, value)

    run_on(runtime, scenario)


def test_a_native_limiter_on_a_second_live_loop_says_what_to_use() -> None:
    """It belongs to the loop that used it first, as long as that is open."""
    policy = Policy(native(AsyncLimiter(5, 1)))

    async def main() -> None:
        await policy.acall(value)
        with pytest.raises(TypeError, match="belongs to another event loop.*use RateLimit"):
            await asyncio.to_thread(lambda: asyncio.run(policy.acall(value)))

    asyncio.run(main())


def test_a_native_limiter_describes_itself() -> None:
    """Plain data again."""
    strategy = native(AsyncLimiter(5, 2))
    assert json.loads(json.dumps(strategy.describe())) == {
        "strategy": "rate_limit",
        "native": "aiolimiter.AsyncLimiter",
        "rate": 5,
        "per": 2,
    }
    assert repr(strategy) == "AsyncLimiter(5, 2)"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This AsyncLimiter:RuntimeWarning")
def test_a_native_limiter_works_in_a_forked_child() -> None:
    """The parent's loop does not run there."""
    policy = Policy(native(AsyncLimiter(5, 1)))

    async def main() -> int:
        await policy.acall(value)
        return await asyncio.to_thread(forked)

    def forked() -> int:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if asyncio.run(policy.acall(value)) == "value" else 1)
            except BaseException:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 0
