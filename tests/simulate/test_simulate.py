"""What `simulate` says about a policy, and how it is asked."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Gate,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    deadline,
    run_budget,
)
from resilient_agents.base.clock import clock
from resilient_agents.simulate import Dependency, Error, Load, Phase, Quota, Result, Scenario, Times, run, simulate
from tests.virtual_time import VirtualLoop

STORM = {
    "duration": 60,
    "load": {"rate": 32, "processes": 4},  # 80 % of what the servers can do
    "dependency": {"servers": 2, "queue": 300, "phase": [{"from": "10s", "until": "25s", "servers": 0}]},
}


def outage(**error: object) -> Scenario:
    """A minute in which nothing works, in the middle of three."""
    broken = Dependency(error=Error(**{"kind": "connection", **error}))  # type: ignore[arg-type]
    return Scenario(duration=180.0, load=Load(rate=20.0, processes=2), dependency_phases=(Phase(60.0, 120.0, broken),))


def test_a_healthy_dependency_answers_all() -> None:
    """Every call succeeds with one request each, and nothing is wasted."""
    result = simulate(lambda: Policy(Retry(3), CircuitBreaker(), Timeout(10)), Scenario(30.0, Load(rate=50.0)))
    assert (result.success_rate, result.attempts, result.wasted, result.refused, result.unfinished) == (1, 1, 0, 0, 0)
    assert result.sent == result.calls > 1000


def test_a_circuit_opens_in_an_outage_and_closes_after_it() -> None:
    """When it opens and when calls succeed again are counted from the beginning and the end of the trouble."""
    result = simulate(lambda: Policy(CircuitBreaker("dependency", failures=5, reset_timeout=10)), outage())
    assert result.opened_after is not None
    assert 0 < result.opened_after < 2
    assert result.recovered_after is not None
    assert 0 <= result.recovered_after <= 11
    assert result.refused > 500
    assert result.series.open[30] == 0
    assert result.series.open[90] == 1


def test_a_storm_of_retries_outlives_the_outage() -> None:
    """Metastable failure: fifteen seconds without servers, and without a circuit it never recovers."""
    with_retry = simulate(lambda: Policy(Retry(4), Timeout(1)), STORM)
    with_circuit = simulate(lambda: Policy(Retry(4), CircuitBreaker(), Timeout(1)), STORM)
    assert with_retry.recovered_after is None
    assert with_circuit.recovered_after is not None
    assert with_retry.wasted > 10 * with_circuit.wasted


def test_a_server_can_name_the_moment_of_its_return() -> None:
    """Whoever is told so comes back when the phase is over, not so many seconds after being told."""
    scenario = {
        "duration": 4,
        "load": {"rate": 20, "arrivals": "fixed"},
        "dependency": {
            "service": "0s",
            "phase": [{"from": "1s", "until": "2s", "error": {"kind": "overload", "retry_after": "end"}}],
        },
    }
    found = simulate(lambda: Policy(Gate()), scenario)
    assert found.errors == 1
    assert found.success_rate == 1 - 1 / found.calls
    assert list(found.series.sent)[:2] == [19, 1]


@pytest.mark.parametrize("seed", ["one", "two"])
def test_the_same_seed_gives_the_same_bytes(seed: str) -> None:
    """Nothing of the machine, of the run before or of the time of day shows in a result."""

    def found() -> str:
        policy = lambda: Policy(Retry(3), CircuitBreaker(), RateLimit(30), Bulkhead(4), Timeout(1))  # noqa: E731
        return json.dumps(simulate(policy, outage(rate=0.5), seed=seed).as_dict(), allow_nan=False)

    assert found() == found()


def test_seeds_differ() -> None:
    """Another name gives other streams."""
    results = [simulate(Policy, outage(), seed=seed) for seed in ("one", "two")]
    assert results[0].calls != results[1].calls


def test_one_policy_object_cannot_be_many_processes() -> None:
    """It would share its state, which is what decides."""
    with pytest.raises(ValueError, match="2 processes, each with a policy of its own: pass a function"):
        simulate(Policy(Retry(3)), outage())


@pytest.mark.parametrize("wrong", [{"blocking": "no"}, {"blocking": None}, {"seed": ""}, {"seed": 7}])
def test_wrong_arguments_are_named(wrong: dict[str, object]) -> None:
    """With the rule and the value."""
    ((name, value),) = wrong.items()
    with pytest.raises((TypeError, ValueError), match=f"{name} must be .*, got {value!r}"):
        simulate(Policy, Scenario(1.0, Load(rate=1.0)), **wrong)  # type: ignore[arg-type]


def test_callers_that_leave_are_served_all_the_same() -> None:
    """Unless the dependency notices: then it wastes nothing."""
    slow = Dependency(servers=2, service=Times("fixed", 1.0))
    load = Load(rate=4.0, arrivals="fixed")
    make = lambda: Policy(Timeout(0.5))  # noqa: E731
    blind = simulate(make, Scenario(20.0, load, slow))
    seeing = simulate(make, Scenario(20.0, load, Dependency(2, math.inf, Times("fixed", 1.0), notices_leavers=True)))
    assert blind.success_rate == seeing.success_rate == 0
    assert blind.wasted >= 38
    assert seeing.wasted == 0
    assert seeing.series.busy[-1] <= 2


def test_a_quota_says_when_to_come_back() -> None:
    """Requests beyond it are refused with 429 and a Retry-After that a retry minds."""
    scenario = Scenario(60.0, Load(rate=5.0, arrivals="fixed"), Dependency(quota=Quota(120, 60)))
    result = simulate(lambda: Policy(Retry(10)), scenario)
    assert result.success_rate > 0.9
    assert result.sent - result.errors <= 120 + 2 * 60 + 2 * 30


def test_a_request_that_is_never_answered_costs_no_service() -> None:
    """It hangs until its caller leaves."""
    scenario = Scenario(10.0, Load(rate=1.0, arrivals="fixed"), Dependency(error=Error("timeout")))
    result = simulate(lambda: Policy(Timeout(3)), scenario)
    assert result.success_rate == 0
    assert result.p50 == pytest.approx(3.0, rel=0.02)
    assert result.wasted == 0


def test_calls_without_a_limit_do_not_hold_up_the_end() -> None:
    """What hangs for ever is counted as unfinished."""
    scenario = Scenario(10.0, Load(rate=1.0, arrivals="fixed"), Dependency(error=Error("timeout")))
    result = simulate(Policy, scenario)
    assert (result.calls, result.unfinished) == (0, 9)
    assert math.isnan(result.success_rate)
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["success_rate"] is None


def test_fallbacks_are_told_from_answers() -> None:
    """A call that got something in place of the answer is no success."""
    result = simulate(
        lambda: Policy(Fallback(value="sorry")), Scenario(10.0, Load(rate=10.0), Dependency(error=Error()))
    )
    assert result.fallbacks == result.calls > 0
    assert result.success_rate == 0


def test_closed_load_never_has_more_calls_than_clients() -> None:
    """Each client waits for its answer before it thinks."""
    load = Load(arrivals="closed", clients=7, think=Times("fixed", 0.01), processes=3)
    result = simulate(Policy, Scenario(30.0, load, Dependency(servers=2)))
    assert max(busy + waiting for busy, waiting in zip(result.series.busy, result.series.waiting, strict=True)) <= 7


def test_a_fanout_arrives_at_once() -> None:
    """All calls of one arrival go to one process."""
    load = Load(rate=0.1, arrivals="fixed", fanout=50, processes=2)
    result = simulate(lambda: Policy(Bulkhead(10, queue=0)), Scenario(35.0, load))
    assert (result.calls, result.refused) == (150, 120)


def test_the_clock_comes_back() -> None:
    """After a simulation, and after one that failed, the library's clock is the real one."""
    before = clock.monotonic

    def broken() -> Policy:
        raise LookupError

    simulate(Policy, Scenario(1.0, Load(rate=1.0)))
    with pytest.raises(LookupError):
        simulate(broken, Scenario(1.0, Load(rate=1.0)))
    assert clock.monotonic is before


def test_an_interrupted_simulation_says_what_it_has() -> None:
    """Ctrl-C ends it, and what was gathered until then is the result."""
    calls = 0

    def interrupting(result: object) -> bool:
        nonlocal calls
        calls += 1
        if calls == 500:
            raise KeyboardInterrupt
        return False

    result = simulate(lambda: Policy(Retry(2, when=interrupting)), Scenario(3600.0, Load(rate=10.0)))
    assert result.interrupted
    assert 490 <= result.calls <= 500


def test_memory_does_not_grow_with_the_number_of_calls() -> None:
    """The series and the buckets of durations are all that is kept."""
    few, many = (simulate(Policy, Scenario(60.0, Load(rate=rate))) for rate in (10.0, 200.0))
    assert len(few.series) == len(many.series) == 60
    assert many.calls > 10 * few.calls


def test_hours_take_seconds() -> None:
    """Nothing sleeps: six hours with a call a second end at once."""
    began = time.perf_counter()
    result = simulate(lambda: Policy(Retry(3)), Scenario(6 * 3600.0, Load(rate=0.1)))
    assert isinstance(result, Result)
    assert time.perf_counter() - began < 60
    assert len(result.series) == 600


def test_it_refuses_to_run_within_a_loop() -> None:
    """It has one of its own: from async code, run it in a thread."""

    async def main() -> None:
        simulate(Policy, Scenario(1.0, Load(rate=1.0)))

    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(main())


def test_a_scenario_may_be_a_mapping(tmp_path: Path) -> None:
    """Of the same shape as a file, and comes to the same."""
    file = tmp_path / "scenario.toml"
    file.write_text('seed = "x"\nduration = "1m"\n[load]\nrate = 20\n[dependency]\nservice = "20ms"\n')
    mapping = {"seed": "x", "duration": 60, "load": {"rate": 20}, "dependency": {"service": 0.02}}
    assert simulate(Policy, file).as_dict() == simulate(Policy, mapping).as_dict()


def test_the_standard_loop_gives_the_same_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's loop takes asyncio's turns: nothing but the last digits of the times may tell it from asyncio's
    own in virtual time."""

    class Standard(VirtualLoop):
        after = VirtualLoop.call_later

    def digest() -> dict[str, object]:
        policy = lambda: Policy(Retry(3), CircuitBreaker(), RateLimit(30), Bulkhead(4), Timeout(1))  # noqa: E731
        result = simulate(policy, replace(outage(rate=0.5), load=Load(rate=20.0, processes=2, fanout=2)))
        counted = {name: value for name, value in result.as_dict().items() if isinstance(value, int | dict)}
        return {**counted, "opened": round(result.opened_after or 0, 9), "mean": round(result.mean, 9)}

    own = digest()
    monkeypatch.setattr(run, "SimulatedLoop", Standard)
    assert digest() == own


def test_what_is_in_force_around_it_is_not_in_force_in_it() -> None:
    """A deadline and a budget are the caller's own."""
    scenario = Scenario(20.0, Load(rate=5.0), Dependency(service=Times("fixed", 1.0)))
    with deadline(0.5), run_budget(attempts=1):
        assert simulate(lambda: Policy(Retry(2)), scenario).success_rate == 1.0
