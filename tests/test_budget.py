"""A retry budget lets retries be a share of the calls plus some a second, in every window, whoever shares it."""

from __future__ import annotations

import copy
import gc
import json
import math
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents.base.clock import clock
from resilient_agents.budget import RetryBudget, followed
from tests.interruptions import ends_elsewhere, interrupt_everywhere


class Hand:
    """The hand of a clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Iterator[Hand]:
    before, hand = clock.monotonic, Hand()
    clock.monotonic = hand
    yield hand
    clock.monotonic = before


def withdrawn(budget: RetryBudget) -> int:
    """Take all there is."""
    count = 0
    while budget.withdraw():
        count += 1
    return count


def calls(budget: RetryBudget, count: int) -> None:
    for _ in range(count):
        budget.deposit()


def test_a_fresh_budget_has_its_reserve(hand: Hand) -> None:
    """Without a single call, `per_second` times `window` retries are allowed at once, and no more."""
    assert withdrawn(RetryBudget(0.2, per_second=1.0, window=10.0)) == 10


def test_calls_earn_their_share(hand: Hand) -> None:
    """Each call earns `ratio` of a retry."""
    budget = RetryBudget(0.2, per_second=0)
    assert not budget.withdraw()
    calls(budget, 4)
    assert not budget.withdraw()
    calls(budget, 1)
    assert budget.withdraw()
    assert not budget.withdraw()


@pytest.mark.parametrize("ratio", [0.01, 0.07, 0.1, 0.29, 0.3, 0.57, 0.7, 1.1])
def test_a_share_is_not_short_of_a_retry_by_rounding(hand: Hand, ratio: float) -> None:
    """A hundred calls earn exactly a hundred times the ratio, whatever 0.29 is in binary."""
    budget = RetryBudget(ratio, per_second=0)
    calls(budget, 100)
    assert withdrawn(budget) == round(100 * ratio)


def test_a_ratio_above_one_allows_several_retries_a_call(hand: Hand) -> None:
    """With a ratio of 2 each call may be retried twice."""
    budget = RetryBudget(2, per_second=0)
    calls(budget, 3)
    assert withdrawn(budget) == 6


def test_calls_and_retries_expire(hand: Hand) -> None:
    """What happened a window (and a tenth) ago counts no more, in favour or against."""
    budget = RetryBudget(0.5, per_second=1, window=10)
    calls(budget, 20)
    assert withdrawn(budget) == 20
    hand.now += 11
    assert withdrawn(budget) == 10


def test_in_another_window_what_happened_keeps_its_relative_age(hand: Hand) -> None:
    """What is half a window old is half of the new one old, also where nobody has looked since."""
    budget = RetryBudget(1, per_second=0, window=10)
    calls(budget, 3)
    hand.now += 5
    calls(budget, 2)
    budget.reconfigure(RetryBudget(1, per_second=0, window=20))
    hand.now += 7.9
    assert budget.remaining == 5
    hand.now += 2.1
    assert budget.remaining == 2
    hand.now += 8
    budget.deposit()
    hand.now += 9
    budget.reconfigure(RetryBudget(1, per_second=0, window=10))
    assert budget.remaining == 1
    hand.now += 6
    assert budget.remaining == 0


def test_what_takes_the_place_of_a_budget_goes_on_with_its_window(hand: Hand) -> None:
    """With the numbers of the new one; a layer that had none, or gets none, has what it is given."""
    old, new = RetryBudget(0, per_second=1, window=10), RetryBudget(0, per_second=2, window=10)
    assert withdrawn(old) == 10
    assert followed(None, new) is new
    assert followed(old, None) is None
    assert followed(old, old) is old
    assert followed(old, new) is old
    assert withdrawn(old) == 10


@pytest.mark.parametrize("window", [0.001, 1, 1.5])
def test_a_window_may_be_as_short_as_one_retry_takes(window: float, hand: Hand) -> None:
    """Where it adds up to one retry, and is not below a millisecond."""
    assert withdrawn(RetryBudget(0, per_second=1 / min(window, 1), window=window)) == 1


def test_a_retry_counts_for_at_least_a_window(hand: Hand) -> None:
    """A spent reserve is not back before a window has passed since it was spent."""
    budget = RetryBudget(0, per_second=1, window=10)
    hand.now += 0.9
    assert withdrawn(budget) == 10
    hand.now += 9.999
    assert not budget.withdraw()
    hand.now += 0.101
    assert withdrawn(budget) == 10


def test_a_call_counts_for_most_of_a_window(hand: Hand) -> None:
    """A call earns for at least nine tenths of a window and for no more than a whole one."""
    budget = RetryBudget(1, per_second=0, window=10)
    hand.now += 0.9
    budget.deposit()
    hand.now += 9
    assert budget.remaining == 1
    hand.now += 1
    assert budget.remaining == 0


def test_the_window_slides_over_long_gaps(hand: Hand) -> None:
    """After a long idle time the budget is as fresh as a new one, at once."""
    budget = RetryBudget(0.2, per_second=1, window=10)
    calls(budget, 100)
    withdrawn(budget)
    hand.now += 10**12
    assert budget.remaining == 10


def test_in_an_outage_retries_shrink_to_the_share(hand: Hand) -> None:
    """A minute of 100 failing calls a second, each wanting two retries, is retried for 20 % plus one a second."""
    budget = RetryBudget(0.2, per_second=1, window=10)
    retries = 0
    for _ in range(6000):
        hand.now += 0.01
        budget.deposit()
        retries += sum(budget.withdraw() is not None for _ in range(2))
    assert 0.15 * 6000 < retries <= 0.2 * 6000 + 1 * 60 + 10


def test_a_refusal_takes_nothing(hand: Hand) -> None:
    """Asking an empty budget a thousand times does not put it into debt."""
    budget = RetryBudget(1, per_second=0)
    assert not any(budget.withdraw() for _ in range(1000))
    budget.deposit()
    assert budget.withdraw()


def test_remaining_is_never_negative(hand: Hand) -> None:
    """When the calls that paid for retries expire before them, nothing is left, not less than nothing."""
    budget = RetryBudget(1, per_second=0, window=10)
    calls(budget, 5)
    hand.now += 5
    assert withdrawn(budget) == 5
    hand.now += 6
    assert budget.remaining == 0


def test_a_clock_that_goes_back_gives_nothing_away(hand: Hand) -> None:
    """Retries already made still count when a test puts its own clock in place, and expire by that one."""
    budget = RetryBudget(0, per_second=1, window=10)
    assert withdrawn(budget) == 10
    hand.now = 0.0
    assert not budget.withdraw()
    hand.now = 11.0
    assert withdrawn(budget) == 10


steps = st.lists(
    st.tuples(st.sampled_from(["call", "retry"]), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=80
)


@settings(max_examples=200, deadline=None)
@given(
    ratio=st.sampled_from([0, 0.125, 0.5, 1, 3]),
    per_second=st.sampled_from([0, 0.5, 1, 4]),
    window=st.sampled_from([2.5, 5, 10, 20]),
    steps=steps,
)
def test_every_window_keeps_the_promise(ratio: float, per_second: float, window: float, steps: Any) -> None:
    """In every window, retries <= ratio * calls + per_second * window; `remaining` tells the truth."""
    hand, before = Hand(), clock.monotonic
    clock.monotonic = hand
    try:
        budget = RetryBudget(ratio, per_second=per_second, window=window)
        log: list[tuple[float, str]] = []
        for kind, count, eighths in steps:
            for _ in range(count):
                if kind == "call":
                    budget.deposit()
                    log.append((hand.now, "call"))
                    continue
                left = budget.remaining
                if budget.withdraw():
                    assert left > 0
                    assert budget.remaining == left - 1
                    log.append((hand.now, "retry"))
                else:
                    assert left == 0
            recent = [what for when, what in log if hand.now - window < when]
            if recent[-1:] == ["retry"] and log[-1][0] == hand.now:
                assert recent.count("retry") <= ratio * recent.count("call") + per_second * window
            hand.now += eighths / 8
    finally:
        clock.monotonic = before


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_a_budget_is_never_meaner_than_a_slice(steps: Any) -> None:
    """A refusal is one that a window a tenth shorter for calls and a tenth longer for retries would have given."""
    hand, before = Hand(), clock.monotonic
    clock.monotonic = hand
    try:
        budget = RetryBudget(0.5, per_second=0.5, window=10)
        log: list[tuple[float, str]] = []
        for kind, count, eighths in steps:
            for _ in range(count):
                if kind == "call":
                    budget.deposit()
                    log.append((hand.now, "call"))
                elif budget.withdraw():
                    log.append((hand.now, "retry"))
                else:
                    earned = 0.5 * sum(hand.now - 9 < when for when, what in log if what == "call") + 5
                    spent = sum(hand.now - 11 < when for when, what in log if what == "retry")
                    assert spent + 1 > earned
            hand.now += eighths / 8
    finally:
        clock.monotonic = before


@pytest.fixture
def jostled() -> Iterator[None]:
    """Threads interrupt each other as often as the interpreter lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_what_was_not_used_is_there_again() -> None:
    """As often as it was taken, and no more."""
    budget = RetryBudget(0, per_second=0.5, window=10)
    taken = [budget.withdraw() for _ in range(5)]
    assert budget.remaining == 0
    for each in taken[:2]:
        assert each is not None
        budget.put_back(each)
    assert budget.remaining == 2
    assert withdrawn(budget) == 2


def together(work: Callable[[], int], threads: int = 8) -> int:
    """Start the work in all threads at once and return the sum of what they did."""
    start = threading.Barrier(threads)

    def run(_: int) -> int:
        start.wait()
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(run, range(threads)))


class Yielding(float):
    """A number that lets another thread run whenever it is multiplied: between the check of a budget and the taking."""

    def __mul__(self, other: float) -> float:
        time.sleep(0)
        return float(self) * other


@pytest.mark.usefixtures("jostled")
def test_threads_share_one_budget_exactly(hand: Hand) -> None:
    """Eight threads that take all they can get together take what one would, to the unit."""
    budget = RetryBudget(0.25, per_second=2, window=10)
    budget.ratio = Yielding(0.25)
    calls(budget, 400)
    assert together(lambda: withdrawn(budget)) == 0.25 * 400 + 20
    assert budget.remaining == 0


@pytest.mark.usefixtures("jostled")
def test_threads_share_a_moving_window_exactly(hand: Hand) -> None:
    """Eight threads that call while slices pass lose none of their calls before its time."""

    def tick() -> float:
        hand.now += 8.9 / 4001
        now = hand.now
        time.sleep(0)  # lets another thread in between the reading of the clock and its use
        return now

    budget = RetryBudget(1, per_second=0, window=10)
    clock.monotonic = tick

    def work() -> int:
        for _ in range(500):
            budget.deposit()
        return 0

    together(work)
    assert budget.remaining == 4000


class Slow(float):
    """A number that takes long to be multiplied, in the process that made it: in the midst of a locked section."""

    def __init__(self, x: float) -> None:  # pyright: ignore[reportInconsistentConstructor]
        self.process = os.getpid()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __mul__(self, other: float) -> float:
        if os.getpid() == self.process:
            self.begun.set()
            self.go_on.wait(10)
        return float(self) * other


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_starts_afresh(hand: Hand) -> None:
    """A child forked while another thread holds the lock of a spent budget has a free lock and the full reserve."""
    budget = RetryBudget(0.2, per_second=1, window=10)
    withdrawn(budget)
    budget.ratio = ratio = Slow(0.2)
    thread = threading.Thread(target=budget.withdraw)
    thread.start()
    assert ratio.begun.wait(10)
    child = os.fork()
    if not child:  # a child that hung or failed must not run on into the parent's tests
        status = 1
        try:
            status = 0 if withdrawn(budget) == 10 else 2
        finally:
            os._exit(status)
    ratio.go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert budget.remaining == 0


def test_a_handler_may_go_through_the_budget_that_it_interrupts(hand: Hand) -> None:
    """Its retry counts, and at no point does the budget allow one more than it has."""
    taken: list[object] = []

    def make() -> RetryBudget:
        taken.clear()
        budget = RetryBudget(0.5, per_second=0.2, window=10)
        budget.deposit()
        hand.now += 1.5  # there are slices to move on
        return budget

    def run(budget: RetryBudget) -> None:
        budget.deposit()
        taken.extend([budget.withdraw() for _ in range(3)])

    def check(budget: RetryBudget) -> None:
        assert sum(each is not None for each in taken) == 3
        assert budget.remaining == 0

    interrupt_everywhere(make, run, check, act=lambda budget: taken.append(budget.withdraw()))


def test_an_exception_from_outside_leaves_a_budget_whole(hand: Hand) -> None:
    """It is not locked, and no retry is won by it."""

    def make() -> RetryBudget:
        budget = RetryBudget(0, per_second=0.5, window=10)
        assert all(budget.withdraw() for _ in range(3))
        hand.now += 3
        return budget

    def check(budget: RetryBudget) -> None:
        assert ends_elsewhere(budget.deposit)
        assert withdrawn(budget) <= 2
        hand.now += 30
        assert withdrawn(budget) == 5

    interrupt_everywhere(make, lambda budget: (budget.deposit(), budget.withdraw()), check)


def test_a_budget_can_be_collected() -> None:
    """Being told of forks does not keep a budget alive."""
    reference = weakref.ref(RetryBudget())
    gc.collect()
    assert reference() is None


def test_describe_is_plain_data(hand: Hand) -> None:
    """`describe` gives options and live state that json takes."""
    budget = RetryBudget(0.5, per_second=2, window=timedelta(seconds=5))
    assert budget.withdraw()
    assert json.loads(json.dumps(budget.describe())) == {
        "ratio": 0.5,
        "per_second": 2.0,
        "window": 5.0,
        "remaining": 9,
    }


def test_repr_is_the_expression_that_builds_it() -> None:
    """The repr shows the options and nothing else."""
    assert repr(RetryBudget()) == "RetryBudget(0.2, per_second=1.0, window=10.0)"


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_live_state_is_not_duplicated(duplicate: Callable[[Any], Any]) -> None:
    """A second budget with the same name would break the promise, so pickling and copying say what to do instead."""
    with pytest.raises(TypeError, match="holds live state and cannot be pickled or copied; share the object, or build"):
        duplicate(RetryBudget())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": -0.1}, "ratio must be at least 0, got -0.1"),
        ({"ratio": math.nan}, "ratio must be a finite number, got nan"),
        ({"per_second": -1}, "per_second must be at least 0, got -1"),
        ({"per_second": math.inf}, "per_second must be a finite number, got inf"),
        ({"per_second": 1e308, "window": 1e3}, "per_second must be a finite number over the window, got 1e+308"),
        ({"window": -1}, "window must be at least 0 seconds, got -1"),
        ({"window": 0}, "window must be at least 0.001 seconds, got 0"),
        (
            {"ratio": 0, "per_second": 0.05},
            "window must be at least 1 / per_second (20 seconds) when ratio is 0, or no retry is ever allowed, got 10",
        ),
    ],
)
def test_wrong_values_fail_when_built(options: dict[str, Any], message: str) -> None:
    """A wrong value is refused at once, with the argument, the rule and the value."""
    with pytest.raises(ValueError) as caught:
        RetryBudget(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["ratio", "per_second", "window"])
@pytest.mark.parametrize("wrong", [True, "1", None], ids=repr)
def test_wrong_types_fail_when_built(name: str, wrong: Any) -> None:
    """A bool or a string is no number, and the error names the argument."""
    with pytest.raises(TypeError, match=f"^{name} must be a number"):
        RetryBudget(**{name: wrong})


def test_a_budget_of_nothing_forbids_retries(hand: Hand) -> None:
    """Zero for both is a switch that turns retries off."""
    budget = RetryBudget(0, per_second=0)
    calls(budget, 1000)
    assert not budget.withdraw()
