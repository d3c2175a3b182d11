"""`Gate`: a server that says wait is heard by all."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import json
import os
import pickle
import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from resilient_agents import (
    CircuitBreaker,
    DeadlineExceeded,
    Gate,
    Policy,
    RateLimit,
    RateLimitedError,
    Rejected,
    Retry,
    Timeout,
    deadline,
    fixed,
)
from resilient_agents.base.clock import clock
from resilient_agents.events import CallRejected, Waited
from resilient_agents.testing import FakeClock
from tests.conftest import Events, Harness, ManualClock, run_on
from tests.interruptions import ends_elsewhere, interrupt_everywhere
from tests.strategies import Refuses, value

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


class TooManyRequests(Exception):
    """What clients raise for a 429."""

    status_code = 429

    def __init__(self, wait: float | None) -> None:
        super().__init__("slow down")
        self.retry_after = wait


class Response:
    """What clients return that do not raise."""

    def __init__(self, status_code: int, wait: int) -> None:
        self.status_code = status_code
        self.headers = {"retry-after": str(wait)}


async def throttled(wait: float | None = 5.0) -> None:
    raise TooManyRequests(wait)


async def tell(h: Harness, policy: Policy, wait: float = 5.0) -> None:
    with pytest.raises(TooManyRequests):
        await h.call(policy, throttled, wait)


async def test_an_open_gate_lets_calls_pass(h: Harness) -> None:
    """Results and errors come out as they are, at once."""
    policy = Policy(Gate())
    began = h.now()
    assert [await h.call(policy, value, number) for number in range(3)] == [0, 1, 2]
    with pytest.raises(TooManyRequests):
        await h.call(policy, throttled, None)
    assert await h.call(policy, value) == "value"
    assert h.now() == began


async def test_no_call_goes_before_the_time_that_the_server_named(h: Harness) -> None:
    """Whichever policy it goes through; observers hear how long it waited."""
    gate = Gate()
    one, other = Policy(gate), Policy(gate, name="other")
    events = Events()
    other.observe(events)
    await tell(h, one)
    began = h.now()
    assert gate.retry_after == pytest.approx(5, abs=0.01)
    await h.call(other, value)
    assert 5 < h.now() - began < 5.01
    assert [(each.strategy, round(each.seconds)) for each in events.of(Waited)] == [("gate", 5)]
    assert gate.retry_after == 0


async def test_a_response_says_so_too(h: Harness) -> None:
    """A result with such a status is an answer that says wait, and comes out as it is."""
    gate = Gate()
    policy = Policy(gate)
    response = Response(503, 7)
    assert await h.call(policy, value, response) is response
    assert gate.retry_after == pytest.approx(7, abs=0.01)
    other = Gate()
    await h.call(Policy(other), value, Response(200, 7))
    assert other.retry_after == 0


@pytest.mark.parametrize("seed", range(8))
async def test_inside_a_circuit_breaker_it_hears_as_by_itself(h: Harness, seed: int) -> None:
    """A breaker around it hears for it, unless somebody watches: both start the same calls at the same times, and count
    alike."""

    async def run(watched: bool) -> Any:
        draw = random.Random(f"heard {seed}")
        gate, breaker = Gate(max_wait=4), CircuitBreaker(failures=3, reset_timeout=1.717)
        policy = Policy(breaker, gate)
        if watched:
            policy.observe(lambda _: None)
        began, started = h.now(), []

        async def work() -> Any:
            started.append(h.now() - began)
            answers: list[Any] = [7, Response(200, 0), Response(503, 2), throttled, throttled, down, ValueError]
            answer: Any = draw.choice(answers)
            if answer is ValueError:
                raise ValueError
            if answer in (throttled, down):
                await answer()
            return answer

        async def down() -> None:
            raise ConnectionError

        for _ in range(30):
            with contextlib.suppress(TooManyRequests, ValueError, ConnectionError, Rejected):
                await h.call(policy, work)
            await h.sleep(draw.choice([0.0, 0.313, 2.129]))
        counted = [breaker.metrics()[name] for name in ("successes", "failures", "neutral", "rejections")]
        return started, counted, [gate.metrics()[name] for name in ("calls", "waits", "rejections")]

    alone, watched = await run(False), await run(True)
    assert alone[0] == pytest.approx(watched[0], abs=0.01)
    assert alone[1:] == watched[1:]
    assert alone[2][1] > 0


async def test_a_wait_that_is_too_long_is_refused_at_once(h: Harness) -> None:
    """And the error says when to come back."""
    policy = Policy(Gate(max_wait=10), name="agent")
    events = Events()
    policy.observe(events)
    await tell(h, policy, 90.0)
    began = h.now()
    with pytest.raises(RateLimitedError, match=r"gate of 'agent' is shut.*90 s.*max_wait=10") as caught:
        await h.call(policy, value)
    assert h.now() == began
    assert caught.value.retry_after == pytest.approx(90, abs=0.1)
    assert (caught.value.policy, caught.value.strategy) == ("agent", "gate")
    assert [(each.strategy, round(each.retry_after)) for each in events.of(CallRejected)] == [("gate", 90)]


async def test_a_deadline_that_ends_before_is_refused_at_once(h: Harness) -> None:
    """It would be waited for in vain."""
    policy = Policy(Gate())
    await tell(h, policy)
    began = h.now()
    with deadline(2), pytest.raises((RateLimitedError, DeadlineExceeded)):
        await h.call(policy, value)
    assert h.now() == began


async def test_our_own_rejections_say_nothing_of_the_server(h: Harness) -> None:
    """A limit inside that knows how long a call would wait does not shut the gate."""
    gate = Gate()

    class Limits:
        async def execute(self, proceed: Any, call: Any) -> Any:
            raise RateLimitedError("later", policy="x", strategy="rate_limit", retry_after=9.0)

    with pytest.raises(RateLimitedError):
        await h.call(Policy(gate, Limits()), value)
    assert gate.retry_after == 0


async def test_with_a_retry_around_it_each_waits_once(h: Harness) -> None:
    """The wait of the retry is that of the gate, not one after the other."""
    answers = [TooManyRequests(5), None]

    async def work() -> str:
        error = answers.pop(0)
        if error is not None:
            raise error
        return "value"

    began = h.now()
    assert await h.call(Policy(Retry(2, wait=fixed(0)), Gate()), work) == "value"
    assert 5 <= h.now() - began < 8  # the retry adds jitter


@LOOPS
def test_one_asks_first_and_the_others_follow_in_order(runtime: str) -> None:
    """Nobody else goes until the first was answered; then they go one after another."""
    policy = Policy(Gate())
    started: list[tuple[float, int]] = []

    async def work(number: int) -> None:
        started.append((anyio.current_time(), number))
        await anyio.sleep(0.4)

    async def scenario() -> None:
        await tell(Harness(runtime), policy)
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(policy.acall, work, number)
                await anyio.sleep(0.01)
        started[:] = [(at - began, number) for at, number in started]

    run_on(runtime, scenario)
    assert [number for _, number in started] == [0, 1, 2, 3]
    assert [at for at, _ in started] == pytest.approx([5.0, 5.7, 6.15, 6.4], abs=0.1)


@LOOPS
def test_those_in_line_are_refused_when_the_server_asks_for_more_than_they_may_wait(runtime: str) -> None:
    """At once, not when their time would have come."""
    gate = Gate(max_wait=10)
    policy = Policy(gate)
    refused: list[float] = []

    async def call() -> None:
        with pytest.raises(RateLimitedError) as caught:
            await policy.acall(value)
        refused.append(anyio.current_time())
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 50

    async def scenario() -> None:
        in_flight = asyncio.Event() if runtime == "asyncio" else anyio.Event()

        async def late() -> None:
            await in_flight.wait()
            raise TooManyRequests(60)

        async def last() -> None:
            with pytest.raises(TooManyRequests):
                await policy.acall(late)

        began = -1.0
        async with anyio.create_task_group() as group:
            group.start_soon(last)
            await anyio.sleep(0.1)
            await tell(Harness(runtime), policy)
            for _ in range(3):
                group.start_soon(call)
            await anyio.sleep(1)
            assert gate.queued == 3
            in_flight.set()
            began = anyio.current_time()
        assert refused == pytest.approx([began] * 3, abs=0.01)
        assert gate.queued == 0

    run_on(runtime, scenario)


@LOOPS
def test_when_the_one_that_asks_is_cancelled_the_next_one_asks(runtime: str) -> None:
    """Nobody waits for an answer that does not come."""
    policy = Policy(Gate())
    started: list[float] = []

    async def forever() -> None:
        await anyio.sleep_forever()

    async def work() -> None:
        started.append(anyio.current_time())

    async def scenario() -> None:
        await tell(Harness(runtime), policy)
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await policy.acall(forever)

            group.start_soon(cancelled)
            await anyio.sleep(0.1)
            group.start_soon(policy.acall, work)
            await anyio.sleep(5.1)
            scope.cancel()
        assert started == pytest.approx([began + 5.2], abs=0.05)

    run_on(runtime, scenario)


@LOOPS
def test_one_that_gives_up_leaves_no_trace(runtime: str) -> None:
    """In line, cancelled: the others go."""
    gate = Gate()
    policy = Policy(gate)

    async def scenario() -> None:
        await tell(Harness(runtime), policy)
        with anyio.move_on_after(1):
            await policy.acall(value)
        assert gate.queued == 0
        assert await policy.acall(value) == "value"

    run_on(runtime, scenario)


@LOOPS
def test_a_call_that_waited_is_checked_again(runtime: str) -> None:
    """A layer outside may refuse it."""
    gate = Gate()

    async def scenario() -> None:
        await tell(Harness(runtime), Policy(gate))
        with pytest.raises(Rejected, match="changed my mind"):
            await Policy(Refuses(), gate).acall(value)
        assert gate.queued == 0

    run_on(runtime, scenario)


def test_a_blocking_call_does_not_wait_on_an_event_loop() -> None:
    """It would stop the loop."""
    policy = Policy(Gate())

    async def scenario() -> None:
        await tell(Harness("asyncio"), policy)
        with pytest.raises(RateLimitedError, match="event loop's own thread"):
            policy.call(int)

    run_on("asyncio", scenario)


def test_a_limit_that_ends_the_wait_tells_nothing_of_the_callee() -> None:
    """A breaker around the gate does not count it."""
    breaker, gate = CircuitBreaker(failures=1), Gate()

    async def scenario() -> None:
        await tell(Harness("asyncio"), Policy(gate))
        with pytest.raises((RateLimitedError, TimeoutError)):
            await Policy(Timeout(2), breaker, gate).acall(value)
        assert breaker.state == "closed"

    run_on("asyncio", scenario)


def strand(runtime: str, policy: Policy, limit: Gate | RateLimit, count: int) -> None:
    """A loop ends on which so many wait: one of asyncio may be closed under them, one of trio makes them leave."""
    if runtime == "trio":

        async def leaving() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(policy.acall, value)
                await trio.testing.wait_all_tasks_blocked()
                assert limit.queued == count
                nursery.cancel_scope.cancel()

        trio.run(leaving)
        return
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(policy.acall(value)) for _ in range(count)]
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert limit.queued == count
    loop.close()
    stranded.append(tasks)


stranded: list[Any] = []
"""Tasks that the garbage collector must not end before their turn."""


@LOOPS
@pytest.mark.parametrize("later", [0.0, 20.0])
def test_who_waited_on_a_loop_that_ended_holds_up_nobody(runtime: str, later: float, manual_clock: ManualClock) -> None:
    """And is not counted, whether its turn has come or not."""
    gate = Gate()
    policy = Policy(gate)
    with pytest.raises(TooManyRequests):
        policy.call(lambda: run_on_nothing(TooManyRequests(5)))
    strand(runtime, policy, gate, 5)
    manual_clock.now += later
    began = manual_clock.now
    named = gate.retry_after
    policy.call(int)
    assert manual_clock.now - began == pytest.approx(named, abs=0.1)
    policy.call(int)
    assert manual_clock.now - began < named + 1.1
    assert gate.queued == 0
    stranded.clear()
    gc.collect()


@LOOPS
def test_who_waited_at_a_rate_limit_likewise(runtime: str, manual_clock: ManualClock) -> None:
    """In whatever place in line: the next call starts when those that are there have started."""
    limit = RateLimit(1, burst=1)
    policy = Policy(limit)
    policy.call(int)
    strand(runtime, policy, limit, 5)
    began = manual_clock.now
    policy.call(int)
    assert manual_clock.now - began == pytest.approx(1, abs=0.01)
    assert limit.queued == 0
    stranded.clear()
    gc.collect()


def run_on_nothing(error: Exception) -> None:
    raise error


class Server:
    """Takes ten requests a second, or names the time: to the moment, or in whole seconds."""

    def __init__(self, now: Callable[[], float], whole: bool) -> None:
        self.now, self.whole = now, whole
        self.tokens, self.at = 10.0, now()
        self.asked: list[float] = []
        self.named: list[tuple[float, float]] = []
        self.one_by_one = threading.Lock()

    def ask(self) -> None:
        with self.one_by_one:
            self._ask()

    def _ask(self) -> None:
        now = self.now()
        self.tokens, self.at = min(10.0, self.tokens + 10 * (now - self.at)), now
        self.asked.append(now)
        if self.tokens >= 1:
            self.tokens -= 1
            return
        wait = (1 - self.tokens) / 10
        if self.whole:
            wait = float(int(wait) + 1)
        self.named.append((now, now + wait))
        raise TooManyRequests(wait)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_herd_goes_at_the_pace_of_its_server(seed: int, whole: bool) -> None:
    """200 tasks against ten a second: all succeed, none asks while it is to wait, no second has more than twelve
    requests afterwards, and it takes what it must."""
    draw = random.Random(f"herd {seed}")
    policy = Policy(Retry(10, wait=fixed(0.1)), *([CircuitBreaker()] if seed % 2 else []), Gate())
    seen: list[Server] = []

    async def scenario() -> None:
        server = Server(clock.monotonic, whole)
        seen.append(server)
        began = clock.monotonic()

        async def work() -> None:
            await anyio.sleep(draw.uniform(0.01, 0.05))
            server.ask()
            await anyio.sleep(draw.uniform(0.01, 0.05))

        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(policy.acall, work)
        assert clock.monotonic() - began < 1.3 * 20

    run_on("asyncio", scenario)
    check_herd(*seen)


def test_a_refusal_tells_the_servers_wait_from_that_in_line() -> None:
    """A gate that opens soon is shut for longer to who stands behind others, and they go one a second at first."""
    policy = Policy(Gate(max_wait=11.5), name="agent")
    refused: list[str] = []

    async def ask() -> None:
        try:
            await policy.acall(value)
        except RateLimitedError as error:
            refused.append(str(error))

    async def scenario() -> None:
        with pytest.raises(TooManyRequests):
            await policy.acall(throttled, 9.0)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask)

    run_on("asyncio", scenario)
    assert len(refused) == 1
    assert "it opens in 9 s, this one's turn comes in 12 s, and max_wait=11.5" in refused[0]


def check_herd(server: Server) -> None:
    first = min(until for _, until in server.named)
    later = [at for at in server.asked if at >= first]
    assert max(sum(at <= other < at + 1 for other in later) for at in later) <= 12
    for told, until in server.named:
        assert not [at for at in server.asked if told + 0.11 < at < until]  # but for those that were on their way


def test_a_herd_of_tasks_and_threads_goes_at_the_pace_of_its_server() -> None:
    """20 of each through one policy: all succeed, and when the gate has shut hardly any is told to wait again."""
    policy = Policy(Retry(10, wait=fixed(0.1)), Gate())
    draws = [random.Random(f"mixed herd {number}") for number in range(40)]

    with FakeClock() as time:
        server = Server(clock.monotonic, whole=False)

        def work(draw: random.Random) -> None:
            clock.sleep(draw.uniform(0.01, 0.05))
            server.ask()

        async def awork(draw: random.Random) -> None:
            await anyio.sleep(draw.uniform(0.01, 0.05))
            server.ask()

        began = clock.monotonic()
        together = threading.Barrier(21)

        def thread(draw: random.Random) -> None:
            together.wait(30)
            policy.call(work, draw)

        async def tasks() -> None:
            async with anyio.create_task_group() as group:
                for draw in draws[20:]:
                    group.start_soon(policy.acall, awork, draw)
                together.wait(30)

        threads = [threading.Thread(target=thread, args=(draw,)) for draw in draws[:20]]
        for each in threads:
            each.start()
        time.run(tasks)
        for each in threads:
            each.join(30)
        took = clock.monotonic() - began
    assert len(server.asked) == 40 + len(server.named)
    assert 25 < len(server.named) < 45
    assert took < 2 * 4  # threads that are at work may be late by this clock


def test_threads_and_loops_share_one_gate() -> None:
    """Four threads, an asyncio loop and a trio loop: none goes before the named time, and all come through."""
    gate = Gate()
    policy = Policy(gate)
    started: list[float] = []

    def blocking() -> None:
        started.append(time.monotonic())

    async def awaiting() -> None:
        started.append(time.monotonic())

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(policy.acall, awaiting)

    for _ in range(50):  # a rate to go by
        policy.call(int)
    with pytest.raises(TooManyRequests):
        policy.call(functools.partial(run_on_nothing, TooManyRequests(0.2)))
    named = time.monotonic() + 0.2
    threads = [threading.Thread(target=policy.call, args=(blocking,)) for _ in range(4)]
    threads += [
        threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": each}) for each in ("asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(started) == 14
    assert min(started) >= named - 0.01
    assert gate.queued == 0


@pytest.mark.parametrize("around", [[], [CircuitBreaker]])
def test_an_exception_from_outside_leaves_a_gate_whole(around: list[type[CircuitBreaker]]) -> None:
    """Open or shut, wherever it lands: others go on, and nobody stays in line."""

    def make(wait: float | None) -> tuple[Gate, Policy]:
        gate = Gate()
        policy = Policy(*(layer() for layer in around), gate)
        for _ in range(50):  # a rate to go by
            policy.call(int)
        if wait is not None:
            with pytest.raises(TooManyRequests):
                policy.call(functools.partial(run_on_nothing, TooManyRequests(wait)))
        return gate, policy

    def check(made: tuple[Gate, Policy]) -> None:
        gate, policy = made
        assert ends_elsewhere(lambda: policy.call(int), 5.0)
        assert gate.queued == 0

    def run(made: tuple[Gate, Policy]) -> None:
        made[1].call(int)

    def run_throttled(made: tuple[Gate, Policy]) -> None:
        with pytest.raises(TooManyRequests):
            made[1].call(functools.partial(run_on_nothing, TooManyRequests(0.001)))

    assert interrupt_everywhere(functools.partial(make, None), run, check) > 3
    assert interrupt_everywhere(functools.partial(make, 0.001), run, check) > 20
    assert interrupt_everywhere(functools.partial(make, None), run_throttled, check) > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_an_open_gate() -> None:
    """What a server told the parent it has told the parent."""
    gate = Gate()
    policy = Policy(gate)
    with pytest.raises(TooManyRequests):
        policy.call(functools.partial(run_on_nothing, TooManyRequests(60)))
    child = os.fork()
    if child == 0:
        os._exit(0 if gate.retry_after == 0 and policy.call(int) == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gate.retry_after > 50


def test_a_second_live_gate_of_one_name_is_warned_of() -> None:
    """They share nothing; one that is gone does not count."""
    first = Gate("api")
    with pytest.warns(RuntimeWarning, match="second live Gate named 'api'"):
        Gate("api")
    del first
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gate("api")


def test_a_reload_changes_its_options() -> None:
    """What the server said stays."""
    gate = Gate(max_wait=1)
    with pytest.raises(TooManyRequests):
        Policy(gate).call(functools.partial(run_on_nothing, TooManyRequests(60)))
    gate.reconfigure(Gate(max_wait=2))
    assert gate.max_wait == 2
    assert gate.retry_after > 50


@pytest.fixture
def shut_gate() -> Gate:
    gc.collect()  # the one of the test before
    gate = Gate("vendor", max_wait=3)
    with pytest.raises(TooManyRequests):
        Policy(gate).call(functools.partial(run_on_nothing, TooManyRequests(9)))
    return gate


def test_it_describes_itself_as_plain_data(shut_gate: Gate) -> None:
    """Options and live state; the repr is the constructor."""
    described = json.loads(json.dumps(shut_gate.describe()))
    assert described.pop("retry_after") == pytest.approx(9, abs=0.5)
    assert described == {"strategy": "gate", "name": "vendor", "max_wait": 3.0, "queued": 0}
    assert repr(shut_gate) == "Gate('vendor', max_wait=3)"


def test_it_counts(shut_gate: Gate) -> None:
    """Calls that it let in, and those that it refused."""
    with pytest.raises(RateLimitedError, match="gate 'vendor' is shut"):
        Policy(shut_gate).call(int)
    found = shut_gate.metrics()
    assert (found["calls"], found["waits"], found["rejections"]) == (1, 0, 1)
    shut_gate.reset_metrics()
    assert shut_gate.metrics()["rejections"] == 0


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_says_that_it_cannot_be_pickled_or_copied(duplicate: Callable[[Any], Any]) -> None:
    """A copy would be a second gate."""
    with pytest.raises(TypeError, match="live state"):
        duplicate(Gate())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("",), {}, "name must be a non-empty string or None, got ''"),
        ((5,), {}, "name must be a non-empty string or None, got 5; max_wait=5, perhaps"),
        ((), {"max_wait": -1}, "max_wait must be at least 0 seconds, got -1"),
        ((), {"max_wait": "long"}, "max_wait must be a number of seconds or a timedelta, got 'long'"),
    ],
)
def test_wrong_options_fail_at_once(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    """The error names the option, the rule and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        Gate(*arguments, **options)
