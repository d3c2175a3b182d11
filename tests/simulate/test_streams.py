"""Answers that are streams, in the simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from resilient_agents import Bulkhead, Policy, Resume, Retry, StreamTimeout, Timeout
from resilient_agents.simulate import Dependency, Load, Scenario, Stream, Times, rest, simulate

HALF = 0.5


def of(fault: str, rate: float = HALF) -> Scenario:
    """Streams of ten items and a second, of which a share goes wrong in the middle."""
    stream = Stream(10, Times("fixed", 0.1), fault, rate, 5)  # type: ignore[arg-type]
    return Scenario(60.0, Load(rate=5.0, arrivals="fixed"), Dependency(service=Times("fixed", 0.2), stream=stream))


def test_a_stream_takes_its_time_and_succeeds_when_it_was_read_to_its_end() -> None:
    """The time until it begins, and a gap before each item."""
    result = simulate(lambda: Policy(Retry(3)), of("stall", rate=0.0))
    assert (result.success_rate, result.errors, result.unfinished) == (1, 0, 0)
    assert result.mean == pytest.approx(1.2)


def test_a_stall_lasts_until_somebody_gives_up() -> None:
    """A limit until the first item does not; a `StreamTimeout` does, and the slot comes back."""
    hung = simulate(lambda: Policy(Timeout(5), Bulkhead(20)), of("stall"))
    ended = simulate(lambda: Policy(StreamTimeout(idle=2), Bulkhead(20)), of("stall"))
    assert hung.unfinished == 20
    assert hung.series.in_use[-1] == 20
    assert ended.unfinished == 0
    assert ended.success_rate == pytest.approx(HALF, abs=0.1)


@pytest.mark.parametrize("fault", ["break", "truncate"])
def test_what_ends_early_is_no_success(fault: str) -> None:
    """Whether it says so or not; it is not repeated once it has begun."""
    result = simulate(lambda: Policy(Retry(3)), of(fault))
    assert result.success_rate == pytest.approx(HALF, abs=0.1)
    assert result.sent == result.calls


COMPLETE: Callable[[str], bool] = "last item".__eq__


@pytest.mark.parametrize("fault", ["break", "truncate", "stall"])
def test_resume_goes_on_from_there(fault: str) -> None:
    """With a request for the rest, which is known by its number: the caller sees one whole stream."""
    result = simulate(lambda: Policy(Resume(rest, times=6), StreamTimeout(idle=2, complete=COMPLETE)), of(fault))
    assert result.success_rate > 0.97
    assert result.calls < result.sent < 2.5 * result.calls


def test_the_same_seed_gives_the_same_streams() -> None:
    """Faults and gaps have random streams of their own names."""
    one, two = (simulate(lambda: Policy(StreamTimeout(idle=1)), of("stall")).as_dict() for _ in range(2))
    assert one == two


def test_streams_of_blocking_code_are_read_in_threads() -> None:
    """What means the same in both colours comes to the same; only a worker thread can be left to a stall, and not
    without end."""
    for fault in ("break", "truncate"):
        scenario = replace(of(fault), load=Load(rate=5.0))  # where no two things happen at one moment
        for make in (lambda: Policy(Retry(3)), lambda: Policy(Resume(rest, times=6), StreamTimeout(complete=COMPLETE))):
            assert simulate(make, scenario, blocking=True).as_dict() == simulate(make, scenario).as_dict()
    hung = simulate(lambda: Policy(Timeout(5)), of("stall"), blocking=True)
    ended = simulate(lambda: Policy(StreamTimeout(idle=2, thread=True)), of("stall"), blocking=True)
    assert hung.unfinished > 100
    assert ended.unfinished == 0
    assert ended.refused > 100  # once as many threads are left behind as may be


def test_nothing_that_ends_is_no_recovery() -> None:
    """Where calls are made and none of them ends, they do not succeed as before."""
    scenario = {
        "duration": 60,
        "load": {"rate": 5},
        "dependency": {"phase": [{"from": 10, "until": 20, "error": {"kind": "timeout"}}]},
    }
    assert simulate(lambda: Policy(Bulkhead(5)), scenario).recovered_after is None
