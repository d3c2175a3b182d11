"""The blocking colour of the simulator: the policy's blocking code, on threads that take turns in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Gate, Hedge, Policy, RateLimit, Retry, Timeout
from resilient_agents.simulate import Dependency, Error, Load, Phase, Scenario, Times, simulate
from resilient_agents.simulate import blocking as blocking_calls
from tests.simulate.test_theory import erlang_b

SCENARIO = Scenario(
    duration=30.0,
    load=Load(rate=60.0, processes=2),
    dependency=Dependency(servers=6),
    dependency_phases=(Phase(10.0, 20.0, Dependency(servers=6, error=Error("overload", 0.5, retry_after=0.3))),),
)
POLICIES: dict[str, Callable[[], Policy]] = {
    "waits": lambda: Policy(Retry(4), RateLimit(40), Bulkhead(4)),
    "circuit": lambda: Policy(Retry(3), CircuitBreaker(reset_timeout=1.0), Gate(), Bulkhead(4, queue=20, max_wait=0.2)),
    "threads": lambda: Policy(Retry(3), CircuitBreaker(reset_timeout=1.0), Timeout(0.1, thread=True)),
    "slots of threads": lambda: Policy(Retry(2), Bulkhead(5, isolation="thread")),
}


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_what_means_the_same_in_both_colours_comes_to_the_same(make: Callable[[], Policy]) -> None:
    """To the last digit, the course over time included, and so often as one asks."""
    first, again = (simulate(make, SCENARIO, blocking=True).as_dict() for _ in range(2))
    assert first == again
    assert first == simulate(make, SCENARIO).as_dict()
    assert first["errors"] > 0


def test_the_policy_takes_its_blocking_way() -> None:
    """The function runs on a thread without an event loop, each call that is under way on one of its own."""
    seen: set[int] = set()

    def see(state: object) -> None:
        seen.add(threading.get_ident())

    simulate(
        lambda: Policy(Retry(2, before=see)),
        Scenario(1.0, Load(rate=0.5, arrivals="closed", clients=5)),
        blocking=True,
    )
    assert len(seen) == 5
    assert threading.get_ident() not in seen


def test_a_limit_without_a_thread_cuts_nothing_off() -> None:
    """The caller of blocking code waits for the answer; with `thread=True` it leaves the request behind, for which the
    dependency works in vain."""
    scenario = Scenario(5.0, Load(rate=1.0, arrivals="fixed"), Dependency(service=Times("fixed", 3.0)))
    late = simulate(lambda: Policy(Timeout(1.0)), scenario, blocking=True)
    cut = simulate(lambda: Policy(Timeout(1.0, thread=True)), scenario, blocking=True)
    assert (late.success_rate, late.p50, late.wasted) == (1, pytest.approx(3.0, rel=0.02), 0)
    assert (cut.success_rate, cut.p50, cut.wasted) == (0, pytest.approx(1.0, rel=0.02), 2)


def test_a_hedge_races_threads() -> None:
    """The loser cannot be stopped: its service is wasted, unless the simulation ends before it does."""
    scenario = Scenario(10.0, Load(rate=5.0, arrivals="fixed"), Dependency(service=Times("exponential", 0.1)))
    result = simulate(lambda: Policy(Hedge(0.1)), scenario, blocking=True)
    assert result.success_rate == 1
    assert result.sent - result.calls - 1 <= result.wasted <= result.sent - result.calls
    assert result.wasted > 10


def test_calls_that_hang_end_with_the_simulation() -> None:
    """No thread is left, of callers or of the package."""
    before = set(threading.enumerate())
    scenario = Scenario(4.0, Load(rate=5.0, arrivals="fixed"), Dependency(error=Error("timeout")))
    assert simulate(lambda: Policy(Retry(2)), scenario, blocking=True).unfinished == 19
    assert simulate(lambda: Policy(Timeout(1, thread=True)), scenario, blocking=True).unfinished == 0
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def test_more_calls_than_threads_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a hundred thousand threads."""
    monkeypatch.setattr(blocking_calls, "MOST_THREADS", 5)
    scenario = Scenario(4.0, Load(rate=5.0, arrivals="fixed"), Dependency(error=Error("timeout")))
    with pytest.raises(RuntimeError, match=r"more blocking calls at once .* \(at most 5\): .* bounded by a Bulkhead"):
        simulate(Policy, scenario, blocking=True)


def test_ctrl_c_ends_blocking_calls() -> None:
    """What was gathered until then is the result."""
    calls = 0

    def interrupting(result: object) -> bool:
        nonlocal calls
        calls += 1
        if calls == 50:
            raise KeyboardInterrupt
        return False

    scenario = Scenario(3600.0, Load(rate=10.0))
    result = simulate(lambda: Policy(Retry(2, when=interrupting)), scenario, blocking=True)
    assert result.interrupted
    assert 40 <= result.calls <= 50


def test_refusals_of_blocking_calls_are_erlangs() -> None:
    """A bulkhead without a queue is Erlang's loss system in this colour, too."""
    scenario = Scenario(60.0, Load(rate=100.0), Dependency(service=Times("fixed", 0.05)))
    result = simulate(lambda: Policy(Bulkhead(6, queue=0)), scenario, seed="erlang", blocking=True)
    assert result.refused / result.calls == pytest.approx(erlang_b(5.0, 6), abs=0.02)
