"""The pace at which a server is asked again, tested without a clock: `now` is an argument."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents.adapters.gcra import Reservation
from resilient_agents.strategies.pace import MARGIN, PATIENCE, Pace
from tests.test_gcra import SOMEONE


def line_up(pace: Pace, now: float, count: int) -> list[Reservation]:
    line = [Reservation(1.0, SOMEONE) for _ in range(count)]
    for each in line:
        pace.gcra.reserve(each, now)
    return line


def start(pace: Pace, turn: Reservation, now: float) -> bool:
    if not pace.gcra.start(turn, now):
        return False
    pace.started(turn, now)
    return True


def answered(times: Iterable[float] = ()) -> Pace:
    """One of a server that gave good answers at these times."""
    came: list[float] = []
    pace = Pace(lambda: len(came))
    for number, when in enumerate(times):
        came.append(when)
        pace.answers.note(when, number)
    return pace


def shut(at: float = 100.0, wait: float = 5.0, good: int = 0) -> Pace:
    """One that a server told to wait, after so many good answers in the second before."""
    pace = answered(at - 1 + number / good for number in range(1, good + 1))
    assert pace.wait(at, wait, 0)
    return pace


def test_nothing_starts_before_the_named_time() -> None:
    """Not by a nanosecond."""
    pace = shut()
    (turn,) = line_up(pace, 100.0, 1)
    assert not start(pace, turn, 105.0)
    assert start(pace, turn, 105.0 + MARGIN)


def test_one_asks_first_and_the_answer_lets_the_others_go() -> None:
    """At the rate that was seen before: ten in the second before and the five of the wait."""
    pace = shut(good=10)
    first, second, third = line_up(pace, 100.0, 3)
    assert start(pace, first, 106.0)
    assert not start(pace, second, 106.3)
    pace.answered(first, 106.3, well=True)
    gap = 1 / pace.gcra.rate
    assert gap == pytest.approx(0.59, abs=0.02)
    assert not start(pace, second, 106.3 + gap - 0.01)
    assert start(pace, second, 106.3 + gap)
    assert not start(pace, third, 106.3 + 2 * gap - 0.01)
    assert start(pace, third, 106.3 + 2 * gap)


def test_a_first_one_that_takes_long_holds_up_nobody() -> None:
    """An answer that has not come by then will not say wait."""
    pace = shut(good=100)
    first, second = line_up(pace, 100.0, 2)
    assert start(pace, first, 106.0)
    assert not start(pace, second, 106.0 + PATIENCE - 0.01)
    assert start(pace, second, 106.0 + PATIENCE)


def test_a_first_one_that_tells_nothing_is_followed_by_another() -> None:
    """It was cancelled, or failed in another way."""
    pace = shut()
    first, second, third = line_up(pace, 100.0, 3)
    assert start(pace, first, 106.0)
    pace.answered(first, 106.1, well=False)
    assert start(pace, second, 106.1)
    assert not start(pace, third, 106.2)


def test_an_unknown_rate_doubles_with_each_good_answer() -> None:
    """From one a second."""
    pace = shut()
    line = line_up(pace, 100.0, 5)
    now, gaps = 106.0, []
    for turn in line:
        before = now
        while not start(pace, turn, now):
            now = turn.due
        gaps.append(now - before)
        pace.answered(turn, now, well=True)
    assert gaps[1:] == pytest.approx([0.5, 0.25, 0.125, 0.0625], rel=0.01)


def test_a_server_that_was_down_is_asked_faster_and_faster() -> None:
    """From the rate at which it answered before, whatever the wait: it counts no requests, and the line must end."""
    pace = answered(99 + number / 10 for number in range(1, 11))
    assert pace.wait(100.0, 50.0, 0, limited=False)
    line = line_up(pace, 100.0, 40)
    now, began = 150.0 + MARGIN, 150.0
    for turn in line:
        while not start(pace, turn, now):
            now = turn.due
        pace.answered(turn, now, well=True)
    assert now - began < 1.2  # at ten a second it were four seconds
    assert pace.gcra.rate == pytest.approx(10.0 * 1.1**40, rel=0.2)


def test_what_all_of_one_batch_are_told_is_one_wait() -> None:
    """Only the longest counts, and the rate is learned once."""
    pace = answered()
    assert pace.wait(10.0, 5.0, 0)
    assert not pace.wait(10.1, 4.0, 0)
    assert pace.wait(10.2, 7.0, 0)
    assert pace.left(10.2) == pytest.approx(7.0 + MARGIN)
    assert pace.batch == 1


def test_the_gate_opens_when_nobody_is_left() -> None:
    """And not while somebody is to ask, or the pace would make a newcomer wait."""
    pace = shut(good=10)
    assert not pace.arrives(101.0)
    (turn,) = line_up(pace, 101.0, 1)
    assert start(pace, turn, 106.0)
    assert not pace.arrives(106.1)
    pace.answered(turn, 106.1, well=True)
    assert not pace.arrives(106.2)
    assert pace.arrives(107.0)
    assert not pace.shut


def test_a_rate_that_has_held_for_a_minute_is_doubled() -> None:
    """It may be too low: nobody has said wait since."""
    pace = shut(good=6)
    before = pace.gcra.rate
    first, second = line_up(pace, 100.0, 2)
    assert start(pace, first, 106.0)
    pace.answered(first, 106.1, well=True)
    assert start(pace, second, 170.0)
    assert pace.gcra.rate == pytest.approx(2 * before)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.7, 3.0]), st.sampled_from(["come", "wait", "well", "lost", "leave"])),
        max_size=60,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_course_of_events(steps: list[tuple[float, str]]) -> None:
    """Whatever happens, nothing starts before the latest time that was named, and those in line come to an end."""
    pace, now = answered(), 100.0
    line: list[Reservation] = []
    running: list[Reservation] = []
    named = 0.0
    pace.wait(now, 1.0, 0)
    named = now + 1.0
    for gap, what in steps:
        now += gap
        for turn in list(line):
            if turn.due <= now and start(pace, turn, now):
                assert now >= named
                line.remove(turn)
                running.append(turn)
        if what == "come":
            line += line_up(pace, now, 1)
        elif what == "wait":
            pace.wait(now, 2.0, pace.batch)
            named = now + 2.0
        elif what == "leave" and line:
            pace.gcra.cancel(line.pop())
        elif what in ("well", "lost") and running:
            pace.answered(running.pop(), now, well=what == "well")
    for _ in range(300):
        if not line:
            break
        turn = min(line, key=lambda each: (each.due, each.number))
        now = max(now, turn.due)
        if start(pace, turn, now):
            line.remove(turn)
            pace.answered(turn, now, well=True)
    assert not line
    assert pace.gcra.waiting == 0
