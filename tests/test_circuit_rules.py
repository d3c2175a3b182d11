"""What becomes of a circuit after an outcome, as tables."""

from __future__ import annotations

import contextvars
import itertools
import math
import random

import pybreaker
import pytest

from resilient_agents import CircuitBreaker, Policy
from resilient_agents.adapters.circuit_states import (
    CLOSE,
    Closed,
    HalfOpen,
    Open,
    Opens,
    Outcome,
    Probe,
    Refusal,
    Rules,
    calm_until,
    decide,
    seconds_open,
)
from resilient_agents.adapters.outcomes import CountWindow, TimeWindow
from resilient_agents.errors import CircuitOpenError
from tests.conftest import ManualClock

RULES = Rules(failures=3, failure_rate=0.5, slow_call=1, slow_rate=0.25, minimum_calls=4, window_calls=8, successes=2)


def window(calls: int, failures: int = 0, slow: int = 0) -> CountWindow:
    made = CountWindow(100)
    for number in range(calls):
        made.record(0.0, failed=number < failures, slow=number < slow)
    return made


@pytest.mark.parametrize(
    ("failed", "slow", "in_row", "seen", "decision"),
    [
        (True, False, 2, None, None),
        (True, False, 3, None, Opens("3 failures")),
        (True, False, 4, None, Opens("4 failures")),
        (False, False, 3, None, None),  # a success trips nothing but a window
        (True, False, 1, window(3, 3), None),  # too few
        (True, False, 1, window(4, 2), Opens("2 of 4 calls failed")),
        (False, False, 0, window(4, 2), Opens("2 of 4 calls failed")),
        (False, False, 0, window(5, 2), None),
        (False, True, 0, window(4, 0, 1), Opens("1 of 4 calls were slow")),
        (False, True, 0, window(5, 0, 1), None),
        (True, True, 3, window(4, 4, 4), Opens("3 failures")),  # the first rule that holds is the reason
    ],
)
def test_a_closed_circuit(
    failed: bool, slow: bool, in_row: int, seen: CountWindow | None, decision: Opens | str | None
) -> None:
    """It opens after so many failures in a row, or at a share of enough calls."""
    assert decide(Closed(), Outcome(failed, slow, in_row, 0, seen), RULES) == decision


@pytest.mark.parametrize(
    ("failed", "slow", "good", "decision"),
    [
        (False, False, 1, None),
        (False, False, 2, CLOSE),
        (True, False, 5, Opens("a failed probe")),
        (False, True, 5, Opens("a failed probe")),
    ],
)
def test_a_half_open_circuit(failed: bool, slow: bool, good: int, decision: Opens | str | None) -> None:
    """One bad probe opens it, enough good ones close it, whatever is in a window."""
    assert decide(HalfOpen(), Outcome(failed, slow, 0, good, None), RULES) == decision


@pytest.mark.parametrize("failed", [False, True])
def test_an_open_circuit(failed: bool) -> None:
    """No outcome changes it, only time does."""
    assert decide(Open(9.0, "x", None), Outcome(failed, failed, 9, 9, window(9, 9, 9)), RULES) is None


def test_a_rule_that_is_switched_off() -> None:
    """Nothing opens by it."""
    bad = Outcome(True, True, 99, 0, window(99, 99, 99))
    assert decide(Closed(), bad, Rules()) is None


def test_how_long_it_is_open() -> None:
    """Always as long, or doubled at each opening in a row up to the maximum, however many there were."""
    rules = Rules(reset_timeout=10, max_reset_timeout=35)
    assert [seconds_open(rules, n) for n in (1, 2, 3, 4, 10_000)] == [10, 20, 35, 35, 35]
    assert seconds_open(Rules(reset_timeout=10), 9) == 10


@pytest.mark.parametrize(
    ("open_for", "maximum", "hint", "seconds"),
    [
        (None, None, 120.0, 10),
        ("retry_after", None, 120.0, 120),
        ("retry_after", None, 3.0, 3),
        ("retry_after", 60.0, 120.0, 60),
        ("retry_after", 60.0, None, 20),
        ("retry_after", None, None, 10),
        ("retry_after", None, 0.0, 10),
    ],
)
def test_how_long_it_is_open_by_what_the_server_says(
    open_for: str | None, maximum: float | None, hint: float | None, seconds: float
) -> None:
    """Where that is wanted, and there is a hint that is not over; never beyond the maximum."""
    rules = Rules(reset_timeout=10, max_reset_timeout=maximum, open_for=open_for)
    assert seconds_open(rules, 2, hint) == seconds


@pytest.mark.parametrize(
    ("in_row", "seen", "until"),
    [
        (0, None, math.inf),
        (1, None, -1.0),  # a success ends the row
        (0, window(0), math.inf),
        (0, window(9), math.inf),
        (0, window(3, 1), -1.0),  # the next success may be the one that makes them enough
        (0, window(3, 0, 1), -1.0),
        (0, window(4, 1), math.inf),
    ],
)
def test_when_successes_change_nothing(in_row: int, seen: CountWindow | None, until: float) -> None:
    """Until that moment they are only counted."""
    assert calm_until(Outcome(False, False, in_row, 0, seen), RULES) == until


@pytest.mark.parametrize("seconds", [5e-324, 1e-300, 1e-12])
def test_a_window_of_next_to_no_time(seconds: float) -> None:
    """Nothing is in it any more, and nobody's answer is lost to arithmetic."""
    policy = Policy(CircuitBreaker(failure_rate=0.5, window=seconds))
    assert [policy.call(int) for _ in range(3)] == [0, 0, 0]


def test_a_window_of_time_is_calm_until_it_ages() -> None:
    """It forgets by tenths, from the first one of the clock on."""
    made = TimeWindow(10)
    assert calm_until(Outcome(False, False, 0, 0, made), RULES) == 1.0
    made.record(1000.4, failed=False, slow=False)
    assert calm_until(Outcome(False, False, 0, 0, made), RULES) == 1001.0


@pytest.mark.parametrize("options", [{"window": 5}, {"window_calls": 12}])
@pytest.mark.parametrize("seed", range(20))
def test_calm_changes_no_decision(options: dict[str, float], seed: int, manual_clock: ManualClock) -> None:
    """A circuit whose successes are ticks while that cannot matter opens at the same call as one that looks at each."""
    draw = random.Random(f"calm {seed}")
    rules = {"failure_rate": 0.4, "slow_call": 1, "slow_rate": 0.5, "failures": None, "minimum_calls": 5, **options}
    looking = CircuitBreaker(**rules, when=lambda result: False)  # which a result may be told by: each is looked at
    ticking = CircuitBreaker(**rules)

    def work(failed: bool, seconds: float) -> None:
        manual_clock.sleep(seconds)
        if failed:
            raise ConnectionError

    for _ in range(300):
        failed, seconds = draw.random() < 0.2, draw.choice([0.0, 0.1, 0.1, 2.0])
        manual_clock.sleep(draw.choice([0.0, 0.2, 1.0]))
        began = manual_clock.now
        found = []
        for breaker in (looking, ticking):
            manual_clock.now = began
            try:
                Policy(breaker).call(work, failed, seconds)
            except (ConnectionError, CircuitOpenError) as error:
                found.append(type(error))
        seen = [breaker.metrics() for breaker in (looking, ticking)]
        assert len(set(found)) <= 1
        assert [metrics["state"] for metrics in seen] == [seen[0]["state"]] * 2
        assert seen[0]["window"] == seen[1]["window"]


@pytest.mark.parametrize("seed", range(20))
def test_failures_in_a_row_are_as_in_pybreaker(seed: int, manual_clock: ManualClock) -> None:
    """Ours counts by pybreaker's storage and decides by rules of its own: the same states and counts come out."""
    draw = random.Random(f"row {seed}")
    failures, successes = draw.randint(1, 4), draw.randint(1, 3)
    ours = Policy(CircuitBreaker(failures=failures, successes=successes, reset_timeout=10, on=Exception))
    native = Policy(
        pybreaker.CircuitBreaker(fail_max=failures, success_threshold=successes, reset_timeout=10),
    )

    def work(failed: bool) -> None:
        if failed:
            raise ConnectionError

    for number in itertools.count():
        if number == 200:
            break
        failed = draw.random() < 0.5
        manual_clock.sleep(draw.choice([0.0, 1.0, 11.0]))
        seen = []
        for policy in (ours, native):
            try:
                policy.call(work, failed)
            except (ConnectionError, CircuitOpenError) as error:
                seen.append(type(error))
            metrics = policy.describe()["strategies"][0]["metrics"]
            seen.append([metrics[name] for name in ("state", "consecutive_failures", "transitions", "rejections")])
        assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def lent(half: HalfOpen, until: float, probe: Probe | None = None, now: float = 0.0) -> Probe:
    """A probe with a permit until then. Its mark stays in a context of its own."""

    def ask() -> Probe:
        given = half.permit(probe, 9, now)
        assert isinstance(given, Probe)
        half.lend(given, until)
        return given

    return contextvars.copy_context().run(ask)


def test_a_probe_that_asks_again_keeps_its_permit() -> None:
    """Though all are taken; and one whose permit was forfeited gets it back while nobody else has it."""
    half = HalfOpen()
    probe = lent(half, 5.0)
    assert half.permit(probe, 1, 4.9) is probe
    assert half.out(5.0) == []  # at that moment it is forfeited
    assert half.permit(probe, 1, 5.0) is probe
    rival = lent(half, 20.0, now=6.0)
    assert isinstance(half.permit(probe, 1, 7.0), Refusal)
    rival.over = True
    assert half.permit(probe, 1, 7.0) is probe


def test_a_probe_of_an_earlier_era_is_none_of_this_one() -> None:
    """It asks as anybody does, and becomes another probe."""
    earlier, half = HalfOpen(), HalfOpen()
    probe = lent(earlier, 5.0)
    given = half.permit(probe, 1, 1.0)
    assert isinstance(given, Probe)
    assert given is not probe
    lent(half, 9.0)
    assert isinstance(half.permit(probe, 1, 1.0), Refusal)


def test_it_is_worth_asking_again_when_the_first_permit_is_forfeited() -> None:
    """The refusal names the smallest of the leases, on whatever clock they go."""
    half = HalfOpen()
    for lease in (9.0, 5.0, 7.0):
        lent(half, lease)
    assert half.permit(None, 3, 2.0) == Refusal("half-open and all its probes are taken", 3.0)
    half.shift(100.0)
    assert half.permit(None, 3, 102.0) == Refusal("half-open and all its probes are taken", 3.0)
    assert isinstance(half.permit(None, 4, 102.0), Probe)


def test_a_call_inside_a_probe_needs_no_permit() -> None:
    """Also where a probe of another circuit began in between, until its own is over."""

    def inside() -> None:
        half, other = HalfOpen(), HalfOpen()
        probe, deeper = Probe(half), Probe(other)
        half.lend(probe, 5.0)
        other.lend(deeper, 5.0)
        assert half.permit(None, 1, 1.0) is None
        assert other.permit(None, 1, 1.0) is None
        deeper.suspend()
        assert isinstance(other.permit(None, 1, 1.0), Refusal)
        probe.over = True
        assert isinstance(half.permit(None, 1, 1.0), Probe)

    contextvars.copy_context().run(inside)


def test_a_window_of_time_forgets_what_is_older() -> None:
    """By tenths of it: all that is older, and of what is younger at most the oldest tenth."""
    seen = TimeWindow(20.0)
    seen.record(100.5, failed=True, slow=True)
    seen.record(119.9, failed=False, slow=False)
    assert (seen.calls, seen.failures, seen.slow) == (2, 1, 1)
    seen.record(123.0, failed=False, slow=False)
    assert (seen.calls, seen.failures, seen.slow) == (2, 0, 0)
    seen.age(137.0)
    assert seen.calls == 2
    seen.age(200.0)
    assert seen.calls == 0


def test_many_calls_in_one_tenth_are_none_of_the_next() -> None:
    """However many they are, they go with their own."""
    seen = TimeWindow(10.0)
    for now in (1.0, 1.0, 1.0, 2.5):
        seen.record(now, failed=False, slow=False)
    seen.age(11.5)
    assert seen.calls == 1


def test_a_window_of_time_goes_on_where_one_of_another_length_was() -> None:
    """With what it would have seen itself, as far as that one remembers; a count of calls says nothing of when."""
    old = TimeWindow(20.0)
    old.record(100.5, failed=True, slow=False)
    old.record(119.0, failed=True, slow=True)
    longer, shorter = TimeWindow(40.0).following(old), TimeWindow(10.0).following(old)
    assert (longer.calls, longer.failures, longer.slow) == (2, 2, 1)
    assert (shorter.calls, shorter.failures, shorter.slow) == (1, 1, 1)
    shorter.record(119.5, failed=False, slow=False)
    assert shorter.calls == 2
    shorter.age(140.0)
    assert shorter.calls == 0
    assert TimeWindow(10.0).following(window(5, 5)).calls == TimeWindow(10.0).following(None).calls == 0


def test_a_window_of_calls_goes_on_where_one_of_another_size_was() -> None:
    """With the newest of what that one remembers; a window of time says nothing of single calls."""
    old = CountWindow(8)
    for number in range(6):
        old.record(0.0, failed=number < 3, slow=number == 5)
    longer, shorter = CountWindow(20).following(old), CountWindow(4).following(old)
    assert (longer.calls, longer.failures, longer.slow) == (6, 3, 1)
    assert (shorter.calls, shorter.failures, shorter.slow) == (4, 1, 1)
    shorter.record(0.0, failed=False, slow=False)
    assert (shorter.calls, shorter.failures, shorter.slow) == (4, 0, 1)
    assert CountWindow(4).following(TimeWindow(10.0)).calls == CountWindow(4).following(None).calls == 0
