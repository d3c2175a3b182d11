"""The simulator against queueing theory. Streams are named, so a run is always the same; |z| < 4 each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest

from resilient_agents import Bulkhead, Policy, RateLimit, Retry, fixed
from resilient_agents.simulate import Dependency, Error, Load, Result, Scenario, Times, simulate

SEEDS = [f"run {number}" for number in range(6)]


def runs(make: Callable[[], Policy], scenario: Scenario, seeds: list[str] = SEEDS) -> list[Result]:
    return [simulate(make, scenario, seed=seed) for seed in seeds]


def agree(found: list[float], expected: float) -> None:
    """The mean of independent runs lies within four standard errors of what theory says."""
    error = statistics.stdev(found) / math.sqrt(len(found))
    z = (statistics.mean(found) - expected) / error
    assert abs(z) < 4, f"mean {statistics.mean(found):.5g} of {expected:.5g}, z {z:.1f}"


def erlang_b(offered: float, servers: int) -> float:
    """The share of calls that find all servers busy (Erlang 1917), by its stable recursion."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked


def erlang_c(offered: float, servers: int) -> float:
    """The share of calls that have to wait."""
    blocked = erlang_b(offered, servers)
    return blocked / (1 - offered / servers * (1 - blocked))


def test_waits_are_those_of_an_m_m_c_queue() -> None:
    """Poisson arrivals, exponential services, c servers: the mean number of requests in the queue is Erlang's."""
    rate, mean, servers = 140.0, 0.05, 8
    scenario = Scenario(
        duration=75.0,
        load=Load(rate=rate),
        dependency=Dependency(servers=servers, service=Times("exponential", mean)),
    )
    offered = rate * mean
    waiting = erlang_c(offered, servers) * offered / (servers - offered)
    agree([statistics.mean(result.series.waiting) for result in runs(Policy, scenario)], waiting)


@pytest.mark.parametrize("service", [Times("exponential", 0.05), Times("fixed", 0.05), Times("lognormal", 0.05, 1.5)])
def test_refusals_of_a_bulkhead_are_erlangs_whatever_the_service(service: Times) -> None:
    """A bulkhead without a queue is Erlang's loss system, which knows only the mean of the service."""
    slots, rate = 10, 180.0
    scenario = Scenario(duration=20.0, load=Load(rate=rate), dependency=Dependency(service=service))
    results = runs(lambda: Policy(Bulkhead(slots, queue=0)), scenario)
    agree([result.refused / result.calls for result in results], erlang_b(rate * service.mean, slots))


def test_a_full_dependency_refuses_as_erlang_says() -> None:
    """Servers without a queue before them refuse the same share."""
    scenario = Scenario(
        duration=20.0,
        load=Load(rate=180.0),
        dependency=Dependency(servers=10, queue=0, service=Times("exponential", 0.05)),
    )
    agree([1 - result.success_rate for result in runs(Policy, scenario)], erlang_b(9.0, 10))


def test_attempts_are_a_geometric_series_and_what_is_left_over_a_power() -> None:
    """With a share p of failures and n attempts a call makes 1 + p + p^2 ... of them, and p^n of the calls fail."""
    share, attempts = 0.4, 4
    scenario = Scenario(
        duration=20.0, load=Load(rate=100.0), dependency=Dependency(error=Error("connection", rate=share))
    )
    results = runs(lambda: Policy(Retry(attempts, wait=fixed(0.1))), scenario)
    agree([result.attempts for result in results], sum(share**number for number in range(attempts)))
    agree([1 - result.success_rate for result in results], share**attempts)


def test_a_rate_limit_lets_through_its_rate() -> None:
    """What gets through in T seconds of too many calls is the burst and rate times T, to the call."""
    scenario = Scenario(duration=100.0, load=Load(rate=200.0, arrivals="fixed"))
    result = simulate(lambda: Policy(RateLimit(50, burst=20, max_wait=0)), scenario)
    assert abs(result.sent - (20 + 50 * 100)) <= 1


def test_littles_law_holds_in_every_run() -> None:
    """Clients that think: their number is the throughput times the time of a round, whatever the policy does."""
    clients, think = 40, 0.3
    scenario = Scenario(
        duration=60.0,
        load=Load(arrivals="closed", clients=clients, think=Times("exponential", think)),
        dependency=Dependency(servers=3, service=Times("exponential", 0.05), error=Error("server", rate=0.1)),
    )
    for make in (Policy, lambda: Policy(Retry(3, wait=fixed(0.05))), lambda: Policy(Bulkhead(3))):
        for result in runs(make, scenario, SEEDS[:2]):
            assert result.calls / scenario.duration * (result.mean + think) == pytest.approx(clients, rel=0.03)
