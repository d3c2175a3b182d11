"""How many answers came by when, tested without a clock: `now` is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents.strategies.history import SHARED, SPARSEST, History


class Server:
    """Counts its answers, and notes their time when that is due."""

    def __init__(self) -> None:
        self.count = self.notes = 0
        self.history = History(lambda: self.count)

    def answers(self, now: float) -> None:
        number = self.count
        self.count += 1
        if number >= self.history.due:
            self.history.note(now, number)
            self.notes += 1


def test_a_few_answers_are_all_noted() -> None:
    """Up to sixteen a second each is known by its own time, however close they come."""
    server = Server()
    for now in (1.0, 1.0, 1.001, 1.5, 9.0):
        server.answers(now)
    assert server.notes == 5
    assert server.history.since(0.0, 10.0) == (5, 1.0)
    assert server.history.since(1.0, 10.0) == (3, 1.001)
    assert server.history.since(1.5, 10.0) == (1, 9.0)
    assert server.history.since(9.0, 10.0) == (0, 10.0)


def test_of_many_answers_few_are_noted() -> None:
    """And how many came in the last second is known to a sixteenth, in the last minute better."""
    server = Server()
    for number in range(200_000):
        server.answers(number / 10_000)
    assert server.notes < 200_000 / SPARSEST + 10_000 / SPARSEST * SHARED
    recent, first = server.history.since(19.0, 20.0)
    assert recent == pytest.approx(10_000, rel=1 / SHARED)
    assert first == pytest.approx(19.0, abs=1 / SHARED)


def test_after_a_pause_each_is_noted_again() -> None:
    """Few of those that come then share their time with others."""
    server = Server()
    for number in range(1600):
        server.answers(number / 160)
    for number in range(160):
        server.answers(1000 + number / 16)
    recent, first = server.history.since(1005.0, 1010.0)
    assert recent == pytest.approx(80, abs=3)
    assert first == pytest.approx(1005, abs=0.2)


@given(gaps=st.lists(st.sampled_from([0.0, 0.0001, 0.01, 0.3, 5.0]), min_size=1, max_size=120), back=st.floats(0, 30))
@settings(max_examples=100, deadline=None)
def test_the_number_is_right_but_for_those_that_share_a_time(gaps: list[float], back: float) -> None:
    """It is off by no more than a sixteenth of those that came in some second, and the first lies in the time asked
    for."""
    server, now, times = Server(), 100.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        server.answers(now)
    when = now - back
    recent, first = server.history.since(when, now)
    busiest = max(sum(at <= other <= at + 1.0 for other in times) for at in times)
    assert abs(recent - sum(at > when for at in times)) <= max(1, busiest / SHARED)
    assert when < first <= now or not recent
