"""What makes a replay whole: hedges, streams, blocking code, fallbacks, and several policies that meet or nest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from opentelemetry.trace import Tracer

from resilient_agents import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    Fallback,
    Hedge,
    Policy,
    RateLimit,
    Resume,
    Retry,
    StreamTimeout,
    Timeout,
    fixed,
)
from resilient_agents.base.clock import clock
from resilient_agents.demo.faults import Fault, Outage, draw
from resilient_agents.demo.policies import policies as demo_policies
from resilient_agents.demo.server import TOKENS
from resilient_agents.demo.traffic import Arrival, chat, schedule, search, tokens
from resilient_agents.simulate import Dependency, Error, Load, Scenario, Stream, Times, rest, simulate
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.calls import Recorded
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.recording import recorded
from resilient_agents.simulate.replay import Replay, replay
from resilient_agents.simulate.run import virtual
from resilient_agents.testing import FakeClock
from resilient_agents.trace.spans import from_sdk
from tests.simulate.test_replay import Make, is_exact
from tests.telemetry.conftest import Sdk

COLOURS = pytest.mark.parametrize("blocking", [False, True], ids=["asyncio", "blocking"])

OFTEN_SLOW = Scenario(
    duration=8.0,
    load=Load(rate=6.0, fanout=2),
    dependency=Dependency(servers=6, service=Times("lognormal", 0.2, 1.0), error=Error("server", 0.2)),
)
BROKEN = Dependency(
    service=Times("exponential", 0.1),
    stream=Stream(items=20, gap=Times("exponential", 0.05), fault="break", rate=0.4, at=7),
)


def record(run: Callable[[], object], *names: str) -> list[Recorded]:
    """What the spans tell of what ran."""
    sdk = Sdk()
    undo = sdk.configure()
    try:
        run()
    finally:
        undo()
    return recorded(from_sdk(sdk.exporter.get_finished_spans()), *names)


# ------------------------------------------------------------------------------------------------- hedges and streams


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy(Hedge(0.15, extra=2), CircuitBreaker(failures=4, reset_timeout=1), name="p"),
        lambda: Policy(Retry(3), Hedge(0.2), Bulkhead(6, max_wait=0.5), name="p"),
        lambda: Policy(Hedge(0.2), Retry(2), RateLimit(20, max_wait=1), name="p"),
    ],
    ids=["hedge", "retry of hedges", "hedge of retries"],
)
def test_hedged_calls_go_the_same_way_again(make: Make) -> None:
    """Requests overlap, lose and are given up as they were."""
    calls = record(lambda: simulate(make, OFTEN_SLOW))
    assert any(len(call.branches) > 1 for call in calls)
    is_exact(replay(make, calls), near=0)


def test_a_thread_that_lost_is_counted() -> None:
    """How long it went on is not recorded; the calls go as they did, where nothing of it matters to others."""

    def make() -> Policy:
        return Policy(Retry(3), Hedge(0.2), name="p")

    calls = record(lambda: simulate(make, OFTEN_SLOW, blocking=True))
    result = replay(make, calls)
    is_exact(result)
    assert result.left == sum(call.left for call in calls) > 0


@COLOURS
@pytest.mark.parametrize("fault", ["break", "stall", "truncate"])
def test_streams_go_the_same_way_again(fault: Any, blocking: bool) -> None:
    """To their end, or to where they were cut off, each part that was gone on with by itself."""

    def make() -> Policy:
        limit = StreamTimeout(first_item=0.3, idle=0.2, thread=True if blocking else None)
        return Policy(Resume(rest), Retry(3, wait=fixed(0.5)), CircuitBreaker(failures=9), limit, name="p")

    assert BROKEN.stream is not None
    dependency = replace(BROKEN, stream=replace(BROKEN.stream, fault=fault))
    calls = record(lambda: simulate(make, Scenario(8.0, Load(rate=4.0), dependency), blocking=blocking))
    assert any(step.first is not None and step.takes > step.first for call in calls for step in call.steps)
    is_exact(replay(make, calls))


def test_a_stream_under_another_limit_is_cut_off_where_it_was_silent_for_longer() -> None:
    """The longest gap is known, and so is when the first item came."""

    def make(idle: float, first: float = 9.0) -> Make:
        return lambda: Policy(StreamTimeout(first_item=first, idle=idle), name="p")

    steady = replace(BROKEN, stream=Stream(items=20, gap=Times("exponential", 0.05)))
    calls = record(lambda: simulate(make(9.0), Scenario(10.0, Load(rate=4.0), steady)))
    gaps = sorted(call.steps[0].gap for call in calls)
    found = replay(make(gaps[len(gaps) // 2]), calls)
    assert found.success_rate == pytest.approx(0.5, abs=0.05)
    assert found.unknown == 0
    firsts = sorted(call.steps[0].first or 0.0 for call in calls)
    assert replay(make(9.0, firsts[len(firsts) // 2]), calls).success_rate == pytest.approx(0.5, abs=0.05)


def test_a_stream_that_its_reader_left_counts_for_nothing() -> None:
    """It is played as long as it was read, and others meet it."""

    def make() -> Policy:
        return Policy(Bulkhead(1, queue=0), name="p")

    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            await asyncio.sleep(0.1)
            yield number

    async def run() -> None:
        guarded = make()(numbers)

        async def leave() -> None:
            async with asyncio.timeout(9):
                items = guarded()
                async for number in items:
                    if number == 9:
                        break
                await items.aclose()  # type: ignore[attr-defined]

        async def refused() -> None:
            await asyncio.sleep(0.5)
            async for _ in guarded():
                pass

        await asyncio.gather(leave(), refused(), return_exceptions=True)

    calls = record(lambda: FakeClock().run(run))
    assert sorted(call.outcome for call in calls) == ["cancelled", "rejected"]
    is_exact(replay(make, calls))


@COLOURS
def test_calls_of_blocking_code_are_played_as_such(blocking: bool) -> None:
    """A limit without a thread cuts nothing off: what comes late is an answer."""

    def make() -> Policy:
        return Policy(Retry(2), Bulkhead(3, queue=2), Timeout(0.2), name="p")

    calls = record(lambda: simulate(make, OFTEN_SLOW, blocking=blocking))
    late = any(call.outcome == "success" and step.takes > 0.3 for call in calls for step in call.steps)
    assert late is blocking
    is_exact(replay(make, calls))


def test_what_a_limit_has_cut_off_is_not_known_under_a_longer_one() -> None:
    """It is counted, and not taken for an answer."""
    hangs = Scenario(20.0, Load(rate=3.0), Dependency(service=Times("exponential", 0.2)))
    calls = record(lambda: simulate(lambda: Policy(Timeout(0.2), name="p"), hangs))
    found = replay(lambda: Policy(Timeout(0.5), name="p"), calls)
    assert found.unknown == sum(call.outcome == "failure" for call in calls) > 0
    assert found.success_rate == found.recorded_success_rate


# --------------------------------------------------------------------------------- several policies and the user's code


def agents() -> dict[str, Policy]:
    """Two policies that share a circuit and a bulkhead, one of which is called in the course of the other's calls."""
    model, slots = CircuitBreaker("model", failures=3, reset_timeout=1), Bulkhead(3, max_wait=0.3)
    return {
        "step": Policy(Retry(2, wait=fixed(0.1)), Timeout(2.0), name="step"),
        "ask": Policy(Retry(2, wait=fixed(0.2)), model, slots, Timeout(0.3), name="ask"),
        "tell": Policy(model, slots, name="tell"),
    }


def traffic(tracer: Tracer | None = None) -> Callable[[], Awaitable[None]]:
    """Steps of an agent that ask twice, once after another and once both at a time, and others that tell."""

    async def run() -> None:
        made, asked = agents(), iter(range(1000))

        async def ask() -> None:
            number = next(asked)
            await asyncio.sleep(0.0513 + number % 7 * 0.06137)
            if number % 3 == 0 or 20 < number < 30:
                raise ConnectionError

        async def step() -> None:
            await asyncio.sleep(0.01)
            await made["ask"].acall(ask)
            await asyncio.sleep(0.02)
            await asyncio.gather(*(made["ask"].acall(ask) for _ in range(2)))

        async def tell() -> None:
            await asyncio.sleep(0.1517)

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.11091)
            await made["step" if number % 2 else "tell"].acall(step if number % 2 else tell)

        await asyncio.gather(*(one(number) for number in range(40)), return_exceptions=True)

    return run


def test_policies_that_share_a_circuit_or_call_one_another_are_played_together() -> None:
    """What a function calls is made in its course, and fails it as it did."""
    calls = record(lambda: FakeClock().run(traffic()))
    assert {call.policy for call in calls} == {"step", "tell"}
    inner = [each for call in calls for step in call.steps for each in step.calls]
    assert len(inner) > 20
    result = replay(agents, calls)
    is_exact(result)
    assert result.calls == len(calls) + len(inner)
    assert {outcome for each in result.played for outcome in [each.outcome]} == {"success", "failure", "rejected"}


def test_a_call_whose_course_went_another_way_is_not_known() -> None:
    """The function might have done something else with another answer."""
    calls = record(lambda: FakeClock().run(traffic()))

    def patient() -> dict[str, Policy]:
        return {**agents(), "ask": Policy(Retry(5, wait=fixed(0)), name="ask")}

    found = replay(patient, calls)
    assert not found.same_policy
    assert any(each.unknown for each in found.played if each.call.policy == "step")


def test_the_calls_of_one_policy_alone_are_those_in_others_too() -> None:
    """What is not played is time that passes."""
    calls = record(lambda: FakeClock().run(traffic()), "ask")
    assert {call.policy for call in calls} == {"ask"}
    steps = record(lambda: FakeClock().run(traffic()), "step")
    assert not any(step.calls for call in steps for step in call.steps)
    is_exact(replay(agents, steps))


class Wrong(Exception):
    """Of the user's own, which no table knows."""


def falls_back() -> dict[str, Policy]:
    other = Policy(Retry(2, wait=fixed(0.1), on=Wrong), CircuitBreaker("other", failures=2), name="other")
    mine = Policy(
        Fallback(to=[second, (third, other)], on=Wrong), Retry(2, wait=fixed(0.1), on=Wrong), Timeout(5), name="mine"
    )
    return {"mine": mine, "other": other}


ran: list[str] = []


async def first(number: int) -> str:
    ran.append("first")
    await asyncio.sleep(0.1)
    if number % 2:
        raise Wrong
    return "first"


async def second(number: int) -> str:
    ran.append("second")
    await asyncio.sleep(0.2)
    if number % 3:
        raise Wrong
    return "second"


async def third(number: int) -> str:
    ran.append("third")
    await asyncio.sleep(0.3)
    if number % 5 < 3:
        raise Wrong
    return "third"


def test_who_answers_in_place_of_a_function_does_so_again_and_none_of_it_runs() -> None:
    """One after another, as long as it took, under their own policies, and with errors of the user's own."""

    async def run() -> None:
        mine = falls_back()["mine"]

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.4)
            await mine.acall(first, number)

        await asyncio.gather(*(one(number) for number in range(24)), return_exceptions=True)

    calls = record(lambda: FakeClock().run(run))
    assert {call.outcome for call in calls} == {"success", "fallback", "failure"}
    assert any(step.calls for call in calls for step in call.helps)
    ran.clear()
    is_exact(replay(falls_back, calls))
    assert not ran


def test_what_a_call_takes_of_a_rate_limit_is_recorded() -> None:
    """Estimates and what results told of the real cost, by functions that are not asked again."""

    def make() -> Policy:
        tokens = RateLimit(100, burst=100, max_wait=3, cost=lambda size: ran.append("cost") or size, settle=len)
        return Policy(Retry(2, wait=fixed(0.3)), tokens, name="p")

    async def answer(size: int) -> str:
        await asyncio.sleep(0.217)
        if size % 5 == 0:
            raise ConnectionError
        return "x" * (size * 2 if size % 2 else size // 2)

    async def run() -> None:
        policy = make()

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.1713)
            await policy.acall(answer, number % 37 + 20)

        await asyncio.gather(*(one(number) for number in range(40)), return_exceptions=True)

    calls = record(lambda: FakeClock().run(run))
    assert {call.outcome for call in calls} >= {"success", "rejected"}
    ran.clear()
    is_exact(replay(make, calls))
    assert not ran


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy(Retry(2), CircuitBreaker(failures=4), Chaos(error="overload", when=lambda n: n % 2), name="p"),
        lambda: Policy(Retry(2), Timeout(0.4), Chaos(error="server", error_rate=0.3, latency=0.2), name="p"),
        lambda: Policy(Bulkhead(1), Chaos(result=3, error_rate=0.3), name="p"),
        lambda: Policy(Retry(3), name="p", idempotent=False),
    ],
    ids=["chaos of some", "chaos of a share", "results of chaos", "writes"],
)
def test_what_decides_by_chance_or_by_the_call_decides_as_it_did(make: Make) -> None:
    """Chaos is what the dependency did, and a write is tried again where it was."""

    async def write(number: int) -> None:
        await asyncio.sleep(0.1 + number % 3 * 0.071)
        if number % 4 == 1:
            raise ConnectionError
        if number % 4 == 3:
            raise ConnectionRefusedError

    async def run() -> None:
        policy = make()

        async def one(number: int) -> None:
            await asyncio.sleep(number // 2 * 0.3)
            await policy.acall(write, number)

        await asyncio.gather(*(one(number) for number in range(30)), return_exceptions=True)

    calls = record(lambda: FakeClock().run(run))
    assert {call.outcome for call in calls} >= {"success"}
    is_exact(replay(make, calls))


# -------------------------------------------------------------------------------------------------- the demo's traffic


class Demo:
    """The demo in virtual time: its traffic, faults, functions and policies, but no sockets."""

    def __init__(self, seconds: float) -> None:
        self.loop = SimulatedLoop()
        self.outage = Outage(0.45 * seconds, 0.7 * seconds)
        self.seconds = seconds
        self.arrived: dict[str, int] = {}
        self.threads = BlockingCalls(self.loop)

    def run(self) -> None:
        runner = asyncio.Runner(loop_factory=lambda: self.loop)
        with runner, virtual(self.loop, "demo"), self.threads.running():
            runner.run(self.traffic())

    async def traffic(self) -> None:
        made = demo_policies()
        over: Any = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://demo")
        client = httpx.Client(transport=httpx.MockTransport(self.answer_blocking), base_url="http://demo")
        asked, told = made["agent"](chat), made["tokens"](tokens)

        async def one(arrival: Arrival) -> None:
            await asyncio.sleep(arrival.at)
            if arrival.kind == "agent":
                await asked(over, arrival.name)
            elif arrival.kind == "tool":
                await self.threads.called(lambda: made["tool"].call(search, client, arrival.name))()
            else:
                async for _ in told(over, arrival.name):
                    pass

        await asyncio.gather(*map(one, schedule(1, self.seconds)), return_exceptions=True)

    def fate(self, request: httpx.Request) -> Fault:
        call, path = request.headers["x-call"], request.url.path
        self.arrived[call] = self.arrived.get(call, 0) + 1
        down = self.outage.covers(clock.monotonic())
        return draw(1, path, call, self.arrived[call], stream=path == "/stream", down=down and path != "/backup")

    async def answer(self, request: httpx.Request) -> httpx.Response:
        fault = self.fate(request)
        await asyncio.sleep(fault.seconds if fault.kind == "slow" else 0.02)
        begin = int(request.url.params.get("from", 0))
        return _response(fault, self.tokens(fault, begin) if request.url.path == "/stream" else None)

    def answer_blocking(self, request: httpx.Request) -> httpx.Response:
        fault = self.fate(request)
        self.threads.sleep(fault.seconds if fault.kind == "slow" else 0.02)
        return _response(fault, None)

    async def tokens(self, fault: Fault, begin: int) -> AsyncIterator[bytes]:
        for number in range(begin, TOKENS):
            await asyncio.sleep(100 if fault.kind == "no_token" else 0.02)
            if number - begin == fault.at > 0:
                if fault.kind == "break":
                    raise httpx.ReadError("broken")
                if fault.kind == "truncate":
                    return
                await asyncio.sleep(100)
            yield f"data: {number}\n\n".encode()
        yield b"data: [DONE]\n\n"


def _response(fault: Fault, items: AsyncIterator[bytes] | None) -> httpx.Response:
    if fault.kind == "reset":
        raise httpx.ConnectError("reset")
    status = {"rate_limit": 429, "error": 500, "unavailable": 503}.get(fault.kind, 200)
    headers = {"retry-after": "1"} if fault.kind == "rate_limit" else {}
    if items is None or status != 200:
        return httpx.Response(status, headers=headers, text="answer")
    return httpx.Response(200, content=items)


def test_the_demos_traffic_goes_the_same_way_again() -> None:
    """Tasks, threads and streams under three policies, two of which share a circuit: all of them at once."""
    calls = record(Demo(6.0).run)
    result: Replay = replay(demo_policies, calls)
    is_exact(result, near=0)
    assert {(each.call.policy, each.outcome) for each in result.played} >= {
        ("agent", "success"),
        ("agent", "fallback"),
        ("tool", "success"),
        ("tool", "rejected"),
        ("tokens", "success"),
        ("tokens", "rejected"),
    }
    assert any(len(call.steps) > 1 and call.stream for call in calls)
