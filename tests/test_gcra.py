"""The schedule of `RateLimit`, tested without a clock: `now` is an argument."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient_agents.adapters.gcra import Gcra, Reservation
from resilient_agents.core.waiters import Waiter
from tests.interruptions import interrupt_everywhere

EPSILON = 1e-6


class Somebody:
    """A waiter, by which its holder can be woken."""

    loop: Any = None

    def wake(self) -> bool:
        raise NotImplementedError

    async def wait(self, seconds: float | None) -> bool:
        raise NotImplementedError


SOMEONE = Somebody()


def reserve(schedule: Gcra, now: float, cost: float, waiter: Waiter = SOMEONE) -> Reservation:
    """A place in line."""
    reservation = Reservation(cost, waiter)
    schedule.reserve(reservation, now)
    return reservation


def worst_excess(starts: list[tuple[float, float]], rate: float, burst: float) -> float:
    """By how much the starts `(time, cost)` exceed `burst + rate * T` in the worst of all windows."""
    starts = sorted(starts)
    worst = float("-inf")
    for first in range(len(starts)):
        total = 0.0
        for time, cost in starts[first:]:
            total += cost
            worst = max(worst, total - burst - rate * (time - starts[first][0]))
    return worst


def test_what_is_left_elsewhere_is_left_beside_those_in_line() -> None:
    """They take theirs of it first; what nobody accounts for has started elsewhere."""
    schedule = Gcra(rate=1.0, burst=10.0)
    assert schedule.take(100.0, 8.0)
    reserve(schedule, 100.0, 4.0)
    schedule.leave(104.0, 1.0)
    assert schedule.level == pytest.approx(5.0)


def test_a_burst_starts_at_once_and_no_more() -> None:
    """After idling exactly `burst` calls start at once."""
    schedule = Gcra(rate=1.0, burst=3.0)
    assert [schedule.take(100.0, 1.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda schedule: schedule.take(100.0, 1.0), 5.0),
        (lambda schedule: schedule.correct(100.0, 1.0), 5.0),
        (lambda schedule: schedule.change(100.0, 2.0, 9.0), 6.0),
        (lambda schedule: schedule.forgive(100.0), 6.0),
        (lambda schedule: schedule.start(schedule.line, 100.0), 5.0),
    ],
)
def test_what_starts_in_the_midst_of_a_change_is_charged(change: Callable[[Any], object], left: float) -> None:
    """A signal handler, or a thread that needs no lock as nobody waits, starts three at any point of another start: all
    four count."""

    class Noting(Gcra):
        __slots__ = ("line",)

    def make() -> Noting:
        schedule = Noting(rate=1.0, burst=9.0)
        schedule.line = Reservation(1.0, SOMEONE)
        schedule.line.number = 1
        return schedule

    def check(schedule: Noting) -> None:
        assert schedule.available(100.0) == left

    interrupt_everywhere(make, change, check, act=lambda schedule: schedule.correct(100.0, 3.0))


def test_one_call_per_interval_after_the_burst() -> None:
    """When the burst is spent, one call starts per 1/rate seconds."""
    schedule = Gcra(rate=2.0, burst=1.0)
    assert schedule.take(0.0, 1.0)
    assert not schedule.take(0.49, 1.0)
    assert schedule.take(0.5, 1.0)


def test_idling_saves_up_no_more_than_the_burst() -> None:
    """A long pause is worth `burst` calls, not more."""
    schedule = Gcra(rate=1.0, burst=2.0)
    schedule.take(0.0, 2.0)
    assert schedule.available(1_000_000.0) == pytest.approx(2.0)


def test_a_refused_take_changes_nothing() -> None:
    """Asking in vain does not put anybody back."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    for _ in range(10):
        schedule.take(0.5, 1.0)
    assert schedule.delay(0.5, 1.0) == pytest.approx(0.5)


def test_reservations_are_served_in_order() -> None:
    """Each reservation is due one interval after the one before it."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    assert [reserve(schedule, 0.0, 1.0).due for _ in range(3)] == pytest.approx([1.0, 2.0, 3.0])


def test_a_small_request_does_not_overtake_a_large_one() -> None:
    """A cheap call that comes while an expensive one waits is due after it."""
    schedule = Gcra(rate=1.0, burst=10.0)
    schedule.take(0.0, 10.0)
    large = reserve(schedule, 0.0, 8.0)
    assert not schedule.take(0.0, 0.1)
    assert reserve(schedule, 0.0, 0.1).due > large.due


def test_delay_tells_when_a_newcomer_would_start() -> None:
    """The delay that is told is the one that a reservation then gets."""
    schedule = Gcra(rate=4.0, burst=2.0)
    for _ in range(5):
        told = schedule.delay(0.0, 1.0)
        assert reserve(schedule, 0.0, 1.0).due == pytest.approx(told)


def test_what_one_that_leaves_would_have_taken_is_there_for_newcomers() -> None:
    """Whoever leaves the line, a newcomer counts those who still stand there."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    line = [reserve(schedule, 0.0, 1.0) for _ in range(3)]
    for left, leaving in enumerate([line[2], line[0], line[1]]):
        assert schedule.delay(0.0, 1.0) == pytest.approx(4.0 - left)
        schedule.cancel(leaving)
    assert schedule.delay(0.0, 1.0) == pytest.approx(1.0)
    assert schedule.waiting == 0


def test_a_place_that_is_handed_back_hands_back_no_more_than_is_left() -> None:
    """The one before it started late, into its time: that stays taken."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late, last = reserve(schedule, 0.0, 1.0), reserve(schedule, 0.0, 1.0)
    assert schedule.start(late, 1.9)
    schedule.cancel(last)
    assert not schedule.take(2.0, 1.0)
    assert schedule.delay(2.0, 1.0) == pytest.approx(0.9)


def test_the_line_moves_up_when_one_leaves() -> None:
    """The first in line is told its new time, the next one when that one has started, each once."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    line = [reserve(schedule, 0.0, 1.0) for _ in range(4)]
    assert schedule.moved_up(0.0) is None
    schedule.cancel(line[0])
    schedule.cancel(line[1])
    assert schedule.moved_up(0.1) is line[2]
    assert line[2].due == pytest.approx(1.0)
    assert schedule.moved_up(0.1) is None
    assert schedule.start(line[2], 1.0)
    assert schedule.moved_up(1.0) is line[3]
    assert line[3].due == pytest.approx(2.0)


def test_the_next_in_line_does_not_pass_one_that_is_just_about_to_come() -> None:
    """Between the time it is due and the moment it is back, its turn is its own."""
    schedule = Gcra(rate=1.0, burst=2.0)
    schedule.take(0.0, 2.0)
    first, _ = reserve(schedule, 0.0, 1.0), reserve(schedule, 0.0, 1.0)
    assert schedule.moved_up(first.due + 0.001) is None
    assert not schedule.take(first.due + 0.001, 1.0)
    assert schedule.start(first, first.due + 0.002)


def test_one_that_could_not_be_woken_is_passed_over() -> None:
    """Its loop was closed: the next one is told instead."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    gone, dead, alive = (reserve(schedule, 0.0, 1.0) for _ in range(3))
    schedule.cancel(gone)
    assert schedule.moved_up(0.0) is dead
    schedule.cancel(dead)
    assert schedule.moved_up(0.0) is alive
    assert alive.due == pytest.approx(1.0)


def test_those_who_wake_late_together_do_not_start_together() -> None:
    """Waiters of a loop that was blocked are let through one interval apart, in order."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(4)]
    assert [schedule.start(each, 10.0) for each in late] == [True, False, False, False]
    assert [each.due for each in late[1:]] == pytest.approx([11.0, 12.0, 13.0])
    assert [schedule.start(each, each.due) for each in late[1:]] == [True, True, True]


def test_a_late_one_uses_what_the_burst_still_has() -> None:
    """Nobody started in the meantime, so late ones start at once as far as the burst goes."""
    schedule = Gcra(rate=1.0, burst=3.0)
    schedule.take(0.0, 3.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(4)]
    assert [schedule.start(each, 100.0) for each in late] == [True, True, True, False]


def test_who_does_not_come_holds_up_nobody() -> None:
    """While a blocked loop misses its turns, others start when they were told."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    for _ in range(3):
        reserve(schedule, 0.0, 1.0)  # a blocked loop's
    other = reserve(schedule, 0.0, 1.0)
    assert other.due == pytest.approx(4.0)
    assert schedule.start(other, 4.0)
    assert schedule.take(5.0, 1.0)


def test_on_time_ones_line_up_behind_late_ones_that_were_told_a_new_time() -> None:
    """Late ones keep their order, and one that was due meanwhile does not get in between."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(3)]
    other = reserve(schedule, 0.0, 1.0)
    assert [schedule.start(each, 4.0) for each in late] == [True, False, False]
    assert not schedule.start(other, 4.0)
    assert [*(each.due for each in late[1:]), other.due] == pytest.approx([5.0, 6.0, 7.0])


def test_one_that_is_due_does_not_get_in_between_those_that_were_put_back() -> None:
    """Who wakes first at the same moment is not first: the late one has been promised that moment."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(2)]
    [reserve(schedule, 0.0, 1.0) for _ in range(2)]
    other = reserve(schedule, 0.0, 1.0)  # due at 5
    assert [schedule.start(each, 4.0) for each in late] == [True, False]  # put back to 5
    assert not schedule.start(other, 5.0)
    assert schedule.start(late[1], 5.0)
    assert other.due == pytest.approx(6.0)


def test_latecomers_go_in_the_order_they_first_came_whatever_the_order_they_ask_in() -> None:
    """An event loop may wake its tasks in any order: all come back first, and then ask."""
    schedule = Gcra(rate=1.0, burst=2.0)
    schedule.take(0.0, 2.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(4)]
    for each in late:
        schedule.come_back(each, 10.0)
    assert [schedule.start(each, 10.0) for each in reversed(late)] == [False, False, True, True]
    assert [each.due for each in late[2:]] == pytest.approx([11.0, 12.0])


@pytest.mark.parametrize("rate", [1.0, 1000.0])
def test_one_that_came_back_and_does_not_ask_holds_up_nobody_for_long(rate: float) -> None:
    """Its loop was blocked, or closed, between the two: its turn passes too."""
    schedule = Gcra(rate=rate, burst=1.0)
    schedule.take(0.0, 1.0)
    first, second = reserve(schedule, 0.0, 1.0), reserve(schedule, 0.0, 1.0)
    schedule.come_back(first, 2.0)
    schedule.come_back(second, 2.0)
    assert not schedule.start(second, 2.0)
    assert schedule.moved_up(2.0) is None
    assert schedule.start(second, 3.1)
    assert schedule.available(4.2) == pytest.approx(1.0)
    assert schedule.take(4.2, 1.0)
    assert not schedule.start(first, 4.2)
    assert schedule.start(first, 5.3)
    assert schedule.waiting == 0


def test_one_that_was_told_a_time_and_lets_it_pass_does_not_count() -> None:
    """A loop that is blocked twice holds up nobody either."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(3)]
    assert [schedule.start(each, 5.0) for each in late] == [True, False, False]  # told 6 and 7
    assert schedule.start(late[2], 7.0)


def test_newcomers_are_told_the_truth_after_a_loop_came_late() -> None:
    """The delay that a newcomer is told counts those who were put back."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = [reserve(schedule, 0.0, 1.0) for _ in range(3)]
    on_time = [reserve(schedule, 3.5, 1.0) for _ in range(2)]  # due at 4 and 5
    for each in late:
        schedule.start(each, 3.5)  # 3.5, and put back to 4.5 and 5.5
    assert schedule.delay(3.5, 1.0) == pytest.approx(5.0)  # 5.5, four more, itself
    for each in on_time:
        schedule.start(each, each.due)  # put back to 6.5 and 7.5
    assert schedule.start(late[1], 4.5)
    assert schedule.delay(4.5, 1.0) == pytest.approx(4.0)


def test_a_timer_that_fires_a_nanosecond_early_is_not_sent_back() -> None:
    """Event loops fire timers up to their clock's resolution early."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    reservation = reserve(schedule, 0.0, 1.0)
    assert schedule.start(reservation, reservation.due - 0.9e-9)


costs = st.sampled_from([0.25, 1.0, 1.0, 1.0, 2.0, 3.0])


@given(
    rate=st.sampled_from([0.5, 1.0, 7.0]),
    burst=st.sampled_from([3.0, 4.5, 10.0]),
    arrivals=st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0]), costs), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_punctual_callers_start_when_a_plain_token_bucket_would_let_them(
    rate: float, burst: float, arrivals: list[tuple[float, float]]
) -> None:
    """Without lateness or cancellation the schedule equals a FIFO token bucket, computed the naive way."""
    schedule = Gcra(rate, burst)
    tokens, clock, expected, actual = burst, 0.0, [], []
    waiting: list[Reservation] = []
    for now, cost in zip(itertools.accumulate(gap for gap, _ in arrivals), [cost for _, cost in arrivals], strict=True):
        while waiting and waiting[0].due <= now:
            assert schedule.start(waiting[0], waiting[0].due)
            waiting.pop(0)
        if schedule.take(now, cost):
            actual.append(now)
        else:
            waiting.append(reserve(schedule, now, cost))
            actual.append(waiting[-1].due)
        begins = max(now, clock)
        tokens = min(burst, tokens + (begins - clock) * rate)
        if tokens < cost:
            begins += (cost - tokens) / rate
            tokens = cost
        tokens, clock = tokens - cost, begins
        expected.append(begins)
    assert actual == pytest.approx(expected, abs=1e-6)


class AnyCourseOfEvents(RuleBasedStateMachine):
    """Callers arrive, come on time, late, twice late or never, and leave: the promise holds in every window."""

    rate, burst = 2.0, 3.0

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Gcra(self.rate, self.burst)
        self.now = 0.0
        self.waiting: list[Reservation] = []
        self.starts: list[tuple[float, float]] = []

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.5, 1.0, 1.7, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(cost=costs)
    def someone_comes(self, cost: float) -> None:
        if self.schedule.take(self.now, cost):
            self.starts.append((self.now, cost))
        else:
            self.waiting.append(reserve(self.schedule, self.now, cost))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_that_is_due_wakes(self, data: Any) -> None:
        due = [each for each in self.waiting if each.due <= self.now]
        if due:
            self.wake(data.draw(st.sampled_from(due)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def some_come_back_before_they_ask(self, data: Any) -> None:
        for each in data.draw(st.lists(st.sampled_from(self.waiting), unique=True)):
            if each.due <= self.now:
                self.schedule.come_back(each, self.now)

    @precondition(lambda self: self.waiting)
    @rule()
    def the_next_one_is_on_time(self) -> None:
        following = min(self.waiting, key=lambda each: each.due)
        self.now = max(self.now, following.due)
        self.wake(following)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_leaves(self, data: Any) -> None:
        leaving = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(leaving)
        self.schedule.cancel(leaving)

    @rule(lost=st.booleans())
    def the_line_moves_up(self, lost: bool) -> None:
        dues = {id(each): each.due for each in self.waiting}
        first = self.schedule.moved_up(self.now)
        if first is not None:
            assert self.now <= first.due < dues[id(first)]
            if lost:
                self.waiting.remove(first)
                self.schedule.cancel(first)

    def wake(self, reservation: Reservation) -> None:
        before = reservation.due
        if self.schedule.start(reservation, self.now):
            self.waiting.remove(reservation)
            self.starts.append((self.now, reservation.cost))
        else:
            assert reservation.due > max(before, self.now)

    @invariant()
    def no_window_holds_too_many_starts(self) -> None:
        assert worst_excess(self.starts, self.rate, self.burst) < EPSILON

    @invariant()
    def the_count_of_the_waiting_is_right(self) -> None:
        assert self.schedule.waiting == len(self.waiting)

    def teardown(self) -> None:
        """Whoever waits gets its turn, and within the time that the rate needs for them."""
        if not self.waiting:
            return
        total = sum(each.cost for each in self.waiting)
        told = max(each.due for each in self.waiting)
        bound = max(told, self.now) + (total + self.burst) / self.rate
        while self.waiting:
            self.the_next_one_is_on_time()
        assert self.now <= bound + EPSILON
        assert worst_excess(self.starts, self.rate, self.burst) < EPSILON


AnyCourseOfEvents.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_any_course_of_events = AnyCourseOfEvents.TestCase


def test_a_charge_after_idling_is_of_now() -> None:
    """What was not used before does not pay for it beyond the burst."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    schedule.correct(100.0, 1.0)
    assert schedule.delay(100.0, 1.0) == pytest.approx(1.0)
    schedule.correct(100.0, 1.0)
    schedule.forgive(100.0)
    assert schedule.delay(100.0, 1.0) == pytest.approx(1.0)


def in_line(schedule: Gcra, *costs: float) -> list[Reservation]:
    return [reserve(schedule, 0.0, cost) for cost in costs]


def test_another_burst_takes_no_more_than_there_is_of_those_in_line() -> None:
    """What costs more than the new burst takes all of it, and newcomers are told of no more."""
    schedule = Gcra(rate=1.0, burst=5.0)
    schedule.take(0.0, 5.0)
    in_line(schedule, 4.0, 1.0, 4.0)
    schedule.change(0.0, 1.0, 2.0)
    assert schedule.delay(0.0, 1.0) == pytest.approx(5.0 + 2.0 + 1.0 + 2.0 + 1.0 - 2.0)


def test_a_timer_may_be_early_under_another_rate_as_well() -> None:
    """By what event loops are early."""
    schedule = Gcra(rate=7.0, burst=7.0)
    schedule.change(0.0, 1.0, 1.0)
    schedule.take(0.0, 1.0)
    (only,) = in_line(schedule, 1.0)
    assert schedule.start(only, only.due - 0.9e-9)


def test_what_a_start_really_cost_is_missing_or_there_again() -> None:
    """Within the burst."""
    schedule = Gcra(rate=1.0, burst=5.0)
    schedule.take(0.0, 1.0)
    schedule.correct(0.0, 2.0)
    assert schedule.available(0.0) == pytest.approx(2.0)
    schedule.correct(0.0, -2.5)
    assert schedule.available(0.0) == pytest.approx(4.5)
    schedule.correct(0.0, -9.0)
    assert schedule.available(0.0) == 5.0


def test_all_in_line_may_come_at_once() -> None:
    """Each is told once."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    line = in_line(schedule, 1.0, 1.0)
    assert schedule.all_due(0.25) == line
    assert [each.due for each in line] == [0.25, 0.25]
    assert schedule.all_due(0.5) == []


def test_who_finds_room_need_not_wait() -> None:
    """Not by the least bit; and what those in line take is no room."""
    schedule = Gcra(rate=1.0, burst=3.0)
    assert schedule.delay(0.0, 1.0) == 0.0
    schedule.take(0.0, 3.0)
    in_line(schedule, 2.0)
    assert schedule.available(2.5) == pytest.approx(0.5)


@pytest.mark.parametrize("back", [False, True])
def test_nothing_is_left_of_a_line_in_which_nobody_stands(back: bool) -> None:
    """Not even what float arithmetic loses, also where some came back whose turn had passed."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    line = in_line(schedule, 0.1, 0.2, 0.3)
    if back:
        assert schedule.available(50.0) == 1.0
        for each in line:
            schedule.come_back(each, 50.0)
    for each in reversed(line):
        schedule.cancel(each)
    assert schedule.available(100.0) == 1.0
    schedule.cancel(reserve(schedule, 100.0, 0.1))
    assert schedule.available(100.0) == 1.0


@pytest.mark.parametrize("order", [(1, 2, 0, 1), (0, 1, 2), (2, 1, 0)])
def test_those_who_come_late_line_up_by_when_they_came_first(order: tuple[int, ...]) -> None:
    """In whatever order they come back; one that is behind them stays there."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    late = in_line(schedule, 1.0, 1.0, 1.0)
    assert schedule.available(10.0) == 1.0  # whose turns have passed
    schedule.take(10.0, 1.0)
    later = reserve(schedule, 10.0, 1.0)
    for number in order:
        schedule.come_back(late[number], 10.0)
    assert not any(schedule.start(each, 10.5) for each in (later, *reversed(late)))
    assert [each.due for each in (*late, later)] == pytest.approx([11.0, 12.0, 13.0, 14.0])


class AnyLoop:
    """One that is only good for being closed."""

    closed = False

    def is_closed(self) -> bool:
        return self.closed


class Dying(Somebody):
    """One on a loop, that can be seen to go."""

    def __init__(self, loop: Any = None) -> None:
        self.loop = loop


def test_who_has_left_is_kept_by_nobody() -> None:
    """Also where its turn had passed before."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    waiter: Any = Dying()
    turn: Any = reserve(schedule, 0.0, 1.0, waiter)
    assert schedule.available(10.0) == 1.0
    schedule.cancel(turn)
    waiter = weakref.ref(waiter)
    del turn
    assert waiter() is None


def test_who_is_stranded_stands_in_line_no_more() -> None:
    """Its loop was closed; those of others stay."""
    dead, alive = AnyLoop(), AnyLoop()
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    for loop in (dead, alive, dead):
        reserve(schedule, 0.0, 1.0, Dying(loop))
    dead.closed = True
    schedule.forget_stranded()
    assert schedule.waiting == 1
    assert schedule.delay(0.0, 1.0) == pytest.approx(2.0)


def test_a_loop_that_is_looked_at_while_it_runs_is_looked_for_later() -> None:
    """The one who waits on it is out of the line when it has been closed, without being asked for."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    loop = AnyLoop()
    reserve(schedule, 0.0, 1.0, Dying(loop))
    schedule.forget_stranded()
    assert not schedule.take(1.0, 1.0)
    loop.closed = True
    assert schedule.take(1.0, 1.0)


def test_who_does_not_come_holds_up_nobody_for_longer_than_its_turn_takes() -> None:
    """Only one that is back may take as long as a turn of its loop."""
    schedule = Gcra(rate=1000.0, burst=1.0)
    schedule.take(0.0, 1.0)
    in_line(schedule, 1.0)
    assert schedule.available(0.01) == 1.0


def test_leaving_twice_is_leaving_once() -> None:
    """As whoever was interrupted does."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    turn, _ = in_line(schedule, 1.0, 1.0)
    schedule.cancel(turn)
    schedule.cancel(turn)
    assert schedule.waiting == 1


def test_the_line_moves_up_past_those_who_left_and_those_about_to_come() -> None:
    """The turn of the latter is their own."""
    schedule = Gcra(rate=2.0, burst=1.0)
    schedule.take(0.0, 1.0)
    _, gone, last = in_line(schedule, 1.0, 1.0, 1.0)
    schedule.cancel(gone)
    assert schedule.moved_up(0.75) is last
    assert last.due == pytest.approx(1.25)


def test_a_turn_that_has_passed_is_not_waited_for_behind_one_that_may_still_come() -> None:
    """A large call may come late for longer than a small one behind it: what that would have taken is there for the
    next."""
    schedule = Gcra(rate=1.0, burst=20.0)
    schedule.take(0.0, 20.0)
    _, _, last = in_line(schedule, 10.0, 1.0, 10.0)
    assert last.due == 21.0
    assert schedule.moved_up(13.0) is last
    assert last.due == pytest.approx(20.0)


def test_who_is_back_early_asks_first() -> None:
    """And is told of no other time before; once it has been refused, it is told again."""
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    (turn,) = in_line(schedule, 1.0)
    schedule.correct(0.5, -1.0)
    schedule.come_back(turn, 0.5)
    assert schedule.moved_up(0.5) is None
    schedule.correct(0.5, 1.0)
    assert not schedule.start(turn, 0.5)
    schedule.correct(0.5, -1.0)
    assert schedule.moved_up(0.5) is turn
    assert schedule.start(turn, 0.5)


@pytest.mark.parametrize("look", [lambda schedule, turn: schedule.delay(0.0, 1.0), Gcra.come_back])
def test_loops_are_looked_for_that_were_closed_one_after_another(look: Any) -> None:
    """Whoever is stranded on one is out of the line with the next look at it; who stays is none of them."""
    first, second, other = AnyLoop(), AnyLoop(), AnyLoop()
    schedule = Gcra(rate=1.0, burst=1.0)
    schedule.take(0.0, 1.0)
    turns = [reserve(schedule, 0.0, 1.0, Dying(loop)) for loop in (other, first, second, second)]
    schedule.cancel(turns[-1])
    for left, loop in ((2, first), (1, second)):
        loop.closed = True
        look(schedule, turns[0], *(() if look is not Gcra.come_back else (0.0,)))
        assert schedule.waiting == left
