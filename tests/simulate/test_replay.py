"""Recorded calls again: exact under the policy that was in force, and honest about what a recording cannot know."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Gate,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
    classify,
    fixed,
    http_failure,
    telemetry,
)
from resilient_agents.cli import main
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.simulate import Dependency, Error, Load, Phase, Scenario, Times, simulate
from resilient_agents.simulate.calls import Recorded, Step
from resilient_agents.simulate.policies import named, together
from resilient_agents.simulate.recording import played_by, recorded
from resilient_agents.simulate.replay import TOLERANCE, Replay, replay
from resilient_agents.simulate.scenario import Kind
from resilient_agents.testing import FakeClock
from resilient_agents.trace.exporter import JsonLinesExporter
from resilient_agents.trace.spans import from_sdk
from tests.telemetry.conftest import Sdk

Make = Callable[[], Policy]


def record(make: Make, scenario: Scenario) -> list[Recorded]:
    """Simulate under a real SDK, and read its spans."""
    return recorded_of(lambda: simulate(make, scenario))


def recorded_of(run: Callable[[], object]) -> list[Recorded]:
    sdk = Sdk()
    undo = sdk.configure()
    try:
        run()
    finally:
        undo()
    return recorded(from_sdk(sdk.exporter.get_finished_spans()))


def is_exact(result: Replay, near: int | None = None) -> None:
    different = [(p.call.start, p.call.outcome, p.outcome, p.kind) for p in result.played if not p.same]
    assert not different, different[:5]
    assert result.same == result.calls > 0
    assert result.unknown == 0
    assert result.same_policy
    assert near is None or result.near == near
    assert result.success_rate == result.recorded_success_rate
    assert result.requests == result.recorded_requests
    assert result.slower <= TOLERANCE


def everything() -> Policy:
    return Policy(
        Timeout(10),
        Retry(3, budget=RetryBudget()),
        CircuitBreaker(failures=None, failure_rate=0.5, window=10, minimum_calls=5, reset_timeout=3),
        RateLimit(20, burst=20, max_wait=2),
        Bulkhead(5, max_wait=1),
        Timeout(1),
        name="p",
    )


OUTAGE = Scenario(
    duration=60.0,
    load=Load(rate=15.0),
    dependency=Dependency(servers=8, service=Times("lognormal", 0.2, 0.8)),
    dependency_phases=(
        Phase(10.0, 15.0, Dependency(servers=2, service=Times("exponential", 0.4))),
        Phase(20.0, 30.0, Dependency(error=Error("overload", 0.7, 503, 1.5))),
        Phase(40.0, 45.0, Dependency(error=Error("connection", 1.0))),
    ),
)


def test_an_outage_goes_the_same_way_again() -> None:
    """Limits, queues, circuits, budgets, time limits and a server's wishes: outcomes, kinds and requests are equal."""
    is_exact(replay(everything, record(everything, OUTAGE)), near=0)


def test_calls_that_start_together_keep_their_order() -> None:
    """Which of fifty gets a slot is decided by their sequence."""
    scenario = Scenario(
        duration=30.0,
        load=Load(rate=0.2, arrivals="fixed", fanout=50),
        dependency=Dependency(servers=4, service=Times("exponential", 0.3), error=Error("server", 0.2)),
    )
    is_exact(replay(everything, record(everything, scenario)), near=0)


def falls_back() -> Policy:
    return Policy(Fallback(value="instead"), Retry(2), Gate(), Bulkhead(2, max_wait=1), Timeout(1), name="p")


def asks_another() -> Policy:
    return Policy(Fallback(another), Retry(2), Bulkhead(2, queue=1), name="p")


def another(error: Exception) -> str:
    asked.append(error)
    if classify(error).kind == "server":
        raise error
    return "instead"


asked: list[Exception] = []


POLICIES: list[Make] = [
    lambda: Policy(Retry(3), name="p"),
    lambda: Policy(Retry(2), CircuitBreaker(failures=3, reset_timeout=2), name="p"),
    lambda: Policy(Timeout(2), Retry(4), Timeout(0.5), name="p"),
    lambda: Policy(RateLimit(5, burst=2, max_wait=0.5), name="p"),
    lambda: Policy(CircuitBreaker(failures=2, reset_timeout=1), Bulkhead(2, queue=3), name="p"),
    everything,
    asks_another,
]


@pytest.mark.parametrize("make", POLICIES)
@pytest.mark.parametrize("kind", ["server", "rate_limit", "timeout"])
def test_traffic_goes_the_same_way_again(make: Make, kind: Kind) -> None:
    """Under each policy, whatever the errors are."""
    scenario = Scenario(
        duration=20.0,
        load=Load(rate=5.0, fanout=2),
        dependency=Dependency(servers=5, service=Times("exponential", 0.2), error=Error(kind, 0.2)),
    )
    calls = record(make, scenario)
    asked.clear()
    is_exact(replay(make, calls), near=0)
    assert not asked  # no code of the user's runs


KINDS = st.sampled_from([None, None, "server", "connection", "rate_limit", "validation"])
STEPS = st.builds(Step, st.integers(0, 12).map(lambda n: n / 8), KINDS, st.none(), st.sampled_from([None, 0.5]))
TRAFFIC = st.lists(st.tuples(st.integers(0, 40), st.lists(STEPS, min_size=3, max_size=3)), min_size=1, max_size=30)


@settings(max_examples=12, derandomize=True, deadline=None, phases=[hypothesis.Phase.generate])
@given(make=st.sampled_from([*POLICIES[:-1], falls_back]), traffic=TRAFFIC)
def test_any_traffic_goes_the_same_way_again(make: Make, traffic: list[tuple[int, list[Step]]]) -> None:
    """Also where calls begin and requests end at the very same moment: what lies nearer to a boundary than a recording
    can tell is found and called so."""
    made = [
        Recorded(at / 8, number, 0.0, "", None, 3, tuple(steps), (), "", None, "made up", fell_back=True)
        for number, (at, steps) in enumerate(sorted(traffic, key=lambda each: each[0]))
    ]
    told = fingerprint(make().layers)
    calls = [replace(call, configuration=told) for call in recorded_of(lambda: replay(make, made))]
    is_exact(replay(make, calls))


def test_a_call_at_the_very_edge_is_called_so() -> None:
    """It begins a microsecond before the slot is free that it got."""

    def make() -> Policy:
        return Policy(Bulkhead(1, queue=0), name="p")

    told = fingerprint(make().layers)
    taken = Recorded(0.0, 1, 1.0, "success", None, 1, (Step(1.0),), (), "", None, told)
    at_the_edge = replace(taken, start=1.0 - 1e-6, sequence=2)
    result = replay(make, [taken, at_the_edge])
    is_exact(result, near=1)
    before = replace(at_the_edge, start=0.5)
    result = replay(make, [taken, before])
    assert (result.same, result.near, result.changes) == (1, 0, {"success -> rejected": 1})


def test_a_result_that_is_taken_for_a_failure_comes_out_again() -> None:
    """A retry that has no attempt left hands it out: the call was a success."""
    answers = iter([503, 200, 503, 503, 200, 429, 429])

    async def ask() -> SimpleNamespace:
        return SimpleNamespace(status_code=next(answers))

    def make() -> Policy:
        return Policy(Retry(2, when=http_failure, wait=fixed(0)), CircuitBreaker(when=http_failure), name="p")

    async def run() -> None:
        policy = make()
        for _ in range(4):
            await policy.acall(ask)

    calls = recorded_of(lambda: FakeClock().run(run))
    is_exact(replay(make, calls))
    assert [call.steps[-1].bad for call in calls] == [False, True, False, True]


def test_another_policy_says_what_would_have_been_different() -> None:
    """And how often the recording does not know how it would have gone on."""
    scenario = Scenario(60.0, Load(rate=10.0), Dependency(error=Error("connection", 0.3)))
    calls = record(lambda: Policy(Retry(2), name="p"), scenario)
    once = replay(lambda: Policy(name="p"), calls)
    assert not once.same_policy
    assert once.unknown == 0
    assert once.success_rate < once.recorded_success_rate
    assert set(once.changes) == {"success -> failure"}
    four = replay(lambda: Policy(Retry(4), name="p"), calls)
    assert four.unknown == sum(call.outcome == "failure" for call in calls) > 0


def test_the_command_compares_with_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file of spans, as figures or as JSON."""
    policies, spans = tmp_path / "policies.toml", tmp_path / "spans.jsonl"
    policies.write_text("[policies.p]\nretry = 3\nbulkhead = 4\n")
    provider = written_to(spans)
    undo = telemetry.configure(tracer_provider=provider)
    try:
        simulate(named(str(policies)), Scenario(20.0, Load(rate=5.0), Dependency(error=Error("connection", 0.3))))
    finally:
        undo()
        provider.shutdown()
    arguments = ["simulate", str(policies), "--replay", str(spans)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "the policies that were in force" in out
    assert main([*arguments, "--set", "retry.attempts=1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["success_rate"] < found["recorded_success_rate"]
    assert main(["simulate", str(policies), "--replay", str(policies)]) == 1
    assert f"no spans in {policies}: each line should be" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["simulate", str(policies)])
    assert "one of the arguments --scenario --replay is required" in capsys.readouterr().err


def test_the_command_plays_the_policies_of_a_file_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were recorded, with what they share; one of them by its name alone."""
    policies, spans = tmp_path / "policies.toml", tmp_path / "spans.jsonl"
    shares = 'circuit_breaker = { use = "model" }\n'
    policies.write_text(
        f"[policies.ask]\nretry = 2\n{shares}[policies.tell]\n{shares}[policies.idle]\nretry = 1\n"
        "[circuit_breakers.model]\nfailures = 2\n"
    )
    provider = written_to(spans)
    undo = telemetry.configure(tracer_provider=provider)
    made = together(str(policies), ["ask", "tell"])()

    async def fails(seconds: float) -> None:
        raise ConnectionError

    async def run() -> None:
        for number in range(12):
            for name in ("ask", "tell"):
                with contextlib.suppress(Exception):
                    await made[name].acall(fails if number % 4 else asyncio.sleep, 0.1)
                await asyncio.sleep(1)

    try:
        FakeClock().run(run)
    finally:
        undo()
        provider.shutdown()
    arguments = ["simulate", str(policies), "--replay", str(spans)]
    assert main(arguments) == 0
    assert "24 calls under the policies that were in force: 24 went as recorded" in capsys.readouterr().out
    assert main([*arguments, "--of", "tell"]) == 0
    assert "12 calls not played passed 'model', too" in capsys.readouterr().out
    assert main([*arguments, "--set", "ask.retry.attempts=1"]) == 0
    assert "other policies than those in force" in capsys.readouterr().out
    assert main([*arguments, "--set", "retry.attempts=1"]) == 1
    assert "begins with the name of one: ask.retry.attempts=1" in capsys.readouterr().err
    assert main(["simulate", "llm", *arguments[2:]]) == 1
    assert "there are spans of the policies ask, tell: say whose calls are meant (--of)" in capsys.readouterr().err


def written_to(path: Path) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(JsonLinesExporter(str(path))))
    return provider


def test_a_recording_of_several_policies_asks_for_a_name() -> None:
    """And says which there are."""
    sdk = Sdk()
    undo = sdk.configure()
    for name in ("a", "b"):
        Policy(name=name).call(int)
    undo()
    spans = from_sdk(sdk.exporter.get_finished_spans())
    assert played_by(spans) == ["a", "b"]
    with pytest.raises(ValueError, match=r"calls of the policies a, b: give all of these, by name"):
        replay(Policy, recorded(spans))
    with pytest.raises(ValueError, match="calls of b, which is not among the policies a"):
        replay({"a": Policy()}, recorded(spans))
    with pytest.raises(ValueError, match="no spans that can be replayed of c; there are: a, b"):
        recorded(spans, "c")
    assert [call.outcome for call in recorded(spans, "a")] == ["success"]
