"""Who is a probe of a half-open circuit, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import threading
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import anyio
import pybreaker
import pytest

from resilient_agents import Bulkhead, CircuitBreaker, CircuitOpenError, Fallback, Hedge, Policy, Retry, fixed
from resilient_agents.events import CircuitHalfOpened, subscribe
from tests.conftest import Harness, ManualClock, run_on, swapped_clock

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


class Throttled(Exception):
    status_code = 429


@pytest.fixture(params=["ours", "native"])
def breaker(request: pytest.FixtureRequest) -> Any:
    """A half-open circuit that closes after two good probes."""
    if request.param == "ours":
        made: Any = CircuitBreaker(failures=1, reset_timeout=10, successes=2)
    else:
        made = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=10, success_threshold=2, exclude=[Throttled])
    made.half_open()
    return made


def state(policy: Policy) -> str:
    return str(policy.describe()["strategies"][0]["metrics"]["state"])


async def fine() -> str:
    return "fine"


def undeclared(work: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function that returns a coroutine, as methods of SDK clients are."""
    return lambda *args: work(*args)


def test_a_probe_whose_coroutine_runs_elsewhere_ends_with_it(breaker: Any) -> None:
    """A function that declares nothing begins in the caller's thread and goes on under `asyncio.run`: what the caller
    does afterwards is no part of that probe."""
    policy = Policy(breaker)
    guarded = policy(functools.wraps(fine)(undeclared(fine)))
    assert [asyncio.run(guarded()) for _ in range(2)] == ["fine"] * 2
    assert state(policy) == "closed"


def test_a_circuit_that_is_half_opened_by_hand_has_opened_no_time(manual_clock: ManualClock) -> None:
    """A probe in it has its permit for the first reset timeout, and who asks meanwhile is told so."""
    policy = Policy(breaker := CircuitBreaker("b", reset_timeout=10, max_reset_timeout=999))
    breaker.half_open()

    def probe() -> None:
        with pytest.raises(CircuitOpenError) as raised:
            contextvars.Context().run(policy.call, int)
        assert raised.value.retry_after == 10

    policy.call(probe)


def test_that_a_circuit_is_half_open_is_told_before_its_probe_runs(manual_clock: ManualClock) -> None:
    """And who is refused learns for which policy, or else for which function."""
    policy = Policy(CircuitBreaker("its own", failures=1, reset_timeout=10))
    told: list[type] = []
    names: set[str] = set()
    policy.observe(lambda event: told.append(type(event)))
    policy.observe(lambda event: names.add(getattr(event, "circuit_breaker", "its own")))

    def fail() -> None:
        raise ConnectionError

    for guard, name in ((policy, int.__qualname__), (Policy(policy, name="mine"), "mine")):
        with contextlib.suppress(ConnectionError):
            guard.call(fail)
        with pytest.raises(CircuitOpenError) as raised:
            guard.call(int)
        assert (raised.value.policy or "").endswith(name)
        manual_clock.sleep(10)
        told.clear()
        policy.call(lambda: told.append(int))
        assert told.index(CircuitHalfOpened) < told.index(int)
    assert names == {"its own"}


def test_what_is_ordered_is_told_at_once() -> None:
    """By hand, and with the circuit's own name; ordered into the state that it is in, it has not changed."""
    told: list[tuple[str, str]] = []
    undo = subscribe(lambda event: told.append((event.circuit_breaker, event.to_state)))  # type: ignore[attr-defined]
    breaker = CircuitBreaker("by hand")
    breaker.open()
    breaker.open()
    assert told == [("by hand", "open")]
    breaker.close()
    undo()
    assert told[1:] == [("by hand", "closed")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_permits_of_its_own() -> None:
    """The parent's probe ends in the parent."""
    policy = Policy(breaker := CircuitBreaker())
    breaker.half_open()

    def probe() -> int:
        child = os.fork()
        if child == 0:
            try:
                contextvars.Context().run(policy.call, int)
            finally:
                os._exit(breaker.state != "closed")
        return os.waitpid(child, 0)[1]

    assert policy.call(probe) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_circuit_that_another_thread_looks_at_stops_no_forked_child() -> None:
    """It reads the clock under the circuit's lock, which is whole again in the child."""
    breaker = CircuitBreaker()
    locked, done = threading.Event(), threading.Event()

    def monotonic() -> float:
        if threading.current_thread() is looking:
            locked.set()
            done.wait(10)
        return 0.0

    looking = threading.Thread(target=breaker.metrics)
    with swapped_clock(monotonic, lambda seconds: None):
        looking.start()
        locked.wait(10)
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # which ends a child that waits
            breaker.metrics()
            os._exit(0)
        done.set()
        looking.join()
    assert os.waitpid(child, 0)[1] == 0


@LOOPS
def test_the_caller_of_a_coroutine_that_probes_elsewhere_is_no_probe(breaker: Any, runtime: str) -> None:
    """While a call that began here is awaited in another task, calls from here need permits of their own."""
    policy = Policy(breaker)

    async def scenario() -> None:
        chain = policy(undeclared(anyio.sleep))(5)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: _await(chain))
            await anyio.sleep(1)
            with pytest.raises(CircuitOpenError):
                await policy.acall(fine)

    run_on(runtime, scenario)


async def _await(chain: Any) -> None:
    await chain


def test_a_coroutine_that_probes_covers_its_calls_where_it_goes_on(breaker: Any) -> None:
    """Begun in a blocking context, awaited in another: the calls inside need no permit of their own."""
    policy = Policy(breaker)

    async def agent() -> str:
        return await policy.acall(fine)

    chain = policy(undeclared(agent))()
    assert contextvars.Context().run(asyncio.run, _value(chain)) == "fine"
    assert policy.describe()["strategies"][0]["metrics"]["probes"] == 0


async def _value(chain: Any) -> Any:
    return await chain


def test_a_coroutine_that_is_never_awaited_gives_its_permit_back(breaker: Any) -> None:
    """The permit and the mark go with it."""
    policy = Policy(breaker)
    chain: Any = policy(undeclared(fine))()
    chain.close()
    del chain
    assert policy.call(int) == policy.call(int) == 0
    assert state(policy) == "closed"


@LOOPS
def test_tasks_that_outlive_a_probe_ask_for_themselves(breaker: Any, runtime: str) -> None:
    """A task that a probe started is part of it until the probe ends, and then a caller like any other."""
    policy = Policy(breaker)
    went: list[str] = []

    async def later(group: Any) -> None:
        await policy.acall(fine)
        went.append("inside")
        await anyio.sleep(2)
        group.start_soon(policy.acall, anyio.sleep, 5)
        await anyio.sleep(1)
        with pytest.raises(CircuitOpenError):
            await policy.acall(fine)
        went.append("refused")

    async def probe(group: Any) -> None:
        group.start_soon(later, group)
        await anyio.sleep(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            await policy.acall(probe, group)
            await anyio.sleep(3)

    run_on(runtime, scenario)
    assert went == ["inside", "refused"]
    assert state(policy) == "closed"


@LOOPS
@pytest.mark.parametrize("hedged", [False, True])
def test_a_call_that_becomes_the_probe_while_it_queues_covers_the_calls_inside(
    breaker: Any, runtime: str, hedged: bool
) -> None:
    """It was let in by a closed circuit, and looked at again when it got its slot."""
    slots, inner = Bulkhead(1), Policy(breaker)
    outer = Policy(breaker, *([Hedge(60)] if hedged else []), slots)
    breaker.close()
    came: list[str] = []

    async def agent() -> None:
        came.append(await inner.acall(fine))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slots).acall, anyio.sleep, 5)
            await anyio.sleep(1)
            group.start_soon(outer.acall, agent)
            await anyio.sleep(1)
            breaker.half_open()

    run_on(runtime, scenario)
    assert came == ["fine"]
    metrics = inner.describe()["strategies"][0]["metrics"]
    assert (metrics["probes"], metrics["state"]) == (0, "half-open")


def test_a_blocking_call_that_becomes_the_probe_while_it_queues_leaves_no_mark_with_its_caller(breaker: Any) -> None:
    """Its coroutine goes on elsewhere; until that is awaited, the caller is no part of the probe."""
    policy = Policy(breaker, _Waits(breaker))
    breaker.close()
    chain = policy(undeclared(fine))()
    with pytest.raises(CircuitOpenError):
        Policy(breaker).call(int)
    assert asyncio.run(_value(chain)) == "fine"
    Policy(breaker).call(int)
    assert state(policy) == "closed"


class _Waits:
    """A limit in which the call waits until the circuit is half-open."""

    def __init__(self, breaker: Any) -> None:
        self.breaker = breaker

    async def execute(self, proceed: Any, call: Any) -> Any:
        if self.breaker is not None:
            self.breaker, breaker = None, self.breaker
            breaker.half_open()
        call.recheck(self, 1.0)
        return await proceed(call)


async def test_each_attempt_is_a_probe_of_its_own(h: Harness, breaker: Any) -> None:
    """A retry outside of the breaker gives the permit back while it waits, and asks for another."""
    policy = Policy(Retry(3, on=Throttled, wait=fixed(1)), breaker)
    attempts = []

    async def work() -> str:
        attempts.append(breaker)
        if len(attempts) < 3:
            raise Throttled
        return "fine"

    assert await h.call(policy, work) == "fine"
    await h.call(policy, fine)
    assert policy.describe()["strategies"][1]["metrics"]["state"] == "closed"


def test_no_mark_stays_in_the_context(breaker: Any, manual_clock: ManualClock) -> None:
    """Whatever the outcome, the context is what it was."""

    def end(outcome: type[BaseException] | None) -> None:
        if outcome is not None:
            raise outcome

    before = dict(contextvars.copy_context())
    for outcome in (None, Throttled, ConnectionError, KeyboardInterrupt):
        breaker.half_open()
        with contextlib.suppress(BaseException):
            Policy(breaker).call(end, outcome)
    after = dict(contextvars.copy_context())
    assert [(var, value) for var, value in after.items() if before.get(var, ()) != value] == []


def test_a_refusal_names_the_time_when_the_first_permit_is_forfeited(manual_clock: ManualClock) -> None:
    """Of several probes, the one whose lease ends first."""
    breaker = CircuitBreaker(half_open_calls=2, reset_timeout=10)
    policy = Policy(breaker)
    breaker.half_open()

    async def hang() -> None:
        await _suspend()

    hung: list[Any] = [policy.acall(hang) for _ in range(2)]
    for probe, pause in zip(hung, (3, 4), strict=True):
        contextvars.Context().run(probe.send, None)
        manual_clock.sleep(pause)
    with pytest.raises(CircuitOpenError) as caught:
        policy.call(int)
    assert caught.value.retry_after == pytest.approx(3)
    for probe in hung:
        probe.close()


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


async def test_a_lease_is_as_long_as_the_circuit_was_open(h: Harness) -> None:
    """With `max_reset_timeout` a probe has as much time as the circuit was open for, which grows with each opening."""
    breaker = CircuitBreaker(failures=1, reset_timeout=10, max_reset_timeout=80)
    policy = Policy(breaker)

    async def failing() -> None:
        raise ConnectionError

    for seconds in (10, 20, 40):
        with pytest.raises(ConnectionError):
            await h.call(policy, failing)
        await h.sleep(seconds)

    refused: list[CircuitOpenError] = []

    async def hangs() -> None:
        await h.sleep(15)
        try:
            await _elsewhere(h, policy)
        except CircuitOpenError as error:
            refused.append(error)

    await h.call(policy, hangs)
    assert [error.retry_after for error in refused] == [pytest.approx(25)]


async def _elsewhere(h: Harness, policy: Policy) -> None:
    """A call that is not inside the probe."""
    if h.blocking:
        contextvars.Context().run(policy.call, int)
    else:
        chain: Any = policy.acall(fine)
        contextvars.Context().run(chain.send, None)


async def test_a_nested_call_tells_the_circuit_nothing(h: Harness, breaker: Any) -> None:
    """What a call inside a probe brings is part of the probe: its failure, which the agent gets over, opens nothing,
    and its success is not counted as a second good probe."""
    policy, tool = Policy(breaker), Policy(breaker)

    async def failing() -> None:
        raise ConnectionError

    async def agent() -> None:
        await h.call(tool, fine)
        with pytest.raises(ConnectionError):
            await h.call(tool, failing)

    await h.call(policy, agent)
    assert state(policy) == "half-open"
    await h.call(policy, fine)
    assert state(policy) == "closed"


async def test_a_probe_of_one_circuit_is_none_of_another(h: Harness) -> None:
    """An agent that probes its model's circuit has no permit for that of its search."""
    model, search = CircuitBreaker(reset_timeout=10), CircuitBreaker(reset_timeout=10, successes=5)
    model.half_open()
    search.half_open()

    async def agent() -> int:
        await h.call(Policy(search), fine)
        return int(search.metrics()["successes"])

    async def probing() -> None:
        assert search.metrics()["probes"] == 1
        with pytest.raises(CircuitOpenError):
            await _elsewhere(h, Policy(search))

    assert await h.call(Policy(model), agent) == 1
    await h.call(Policy(model), lambda: None)
    model.half_open()
    await h.call(Policy(model, search), probing)


@LOOPS
def test_a_call_refused_after_it_queued_that_is_answered_inside_is_a_call(runtime: str) -> None:
    """A fallback within the breaker made a success of it; that says nothing about the dependency."""
    breaker, slots = CircuitBreaker(failures=1, reset_timeout=100), Bulkhead(1)
    policy = Policy(breaker, Fallback(value="cached"), slots)
    came: list[Any] = []

    async def call() -> None:
        came.append(await policy.acall(fine))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slots).acall, anyio.sleep, 5)
            await anyio.sleep(1)
            group.start_soon(call)
            await anyio.sleep(1)
            breaker.open()

    run_on(runtime, scenario)
    metrics = breaker.metrics()
    assert came == ["cached"]
    assert (metrics["state"], metrics["successes"], metrics["rejections"]) == ("open", 1, 1)


async def test_a_stream_that_probes_covers_the_calls_inside_until_it_ends(h: Harness, breaker: Any) -> None:
    """Those that its function makes between two items; its consumer's ask for themselves."""
    policy, tool = Policy(breaker), Policy(breaker)

    def items() -> Iterator[Any]:
        for number in range(3):
            tool.call(int)
            yield number

    async def aitems() -> AsyncIterator[Any]:
        for number in range(3):
            await tool.acall(fine)
            yield number

    seen: list[int] = []
    if h.blocking:
        for item in policy.stream(items):
            seen.append(item)
            with pytest.raises(CircuitOpenError):
                tool.call(int)
    else:
        async for item in policy.stream(aitems):
            seen.append(item)
            with pytest.raises(CircuitOpenError):
                await tool.acall(fine)
    assert seen == [0, 1, 2]
    metrics = policy.describe()["strategies"][0]["metrics"]
    assert (metrics["state"], metrics["probes"]) == ("half-open", 0)
    await h.call(policy, fine)
    assert state(policy) == "closed"
