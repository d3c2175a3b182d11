"""Waits grow, are cut to their maximum, and are scattered last; they are tenacity's own kind of object."""

from __future__ import annotations

import asyncio
import copy
import math
import os
import pickle
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity.wait import wait_base

from resilient_agents.backoff import Backoff, exponential, fibonacci, fixed, linear
from resilient_agents.base.chance import chance

BUILDERS: list[Callable[..., Backoff]] = [exponential, linear, fibonacci, fixed]
NAMES: list[Any] = ["full", "equal", "uniform", "exponential", "decorrelated"]
MAXIMUM = 30.0

durations = st.floats(min_value=0, max_value=1e6)
attempts = st.integers(min_value=1, max_value=10**6)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Each test draws the same random numbers on every run."""
    before = chance.getstate()
    chance.seed(20240229)
    yield
    chance.setstate(before)


def after(attempt: int, previous: float = 0.0) -> tenacity.RetryCallState:
    """The state that tenacity hands to a wait after the failed attempt of this number."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    state.upcoming_sleep = previous
    return state


def bare(wait: Backoff, count: int) -> list[float]:
    return [wait(after(attempt)) for attempt in range(1, count + 1)]


def double(delay: float) -> float:
    return 2 * delay


# Growth


def test_exponential_multiplies() -> None:
    """Each exponential wait is `factor` times the one before it, up to `max`."""
    assert bare(exponential(0.5, max=6, jitter=None), 6) == [0.5, 1, 2, 4, 6, 6]
    assert bare(exponential(1, factor=3, jitter=None), 4) == [1, 3, 9, 27]


def test_linear_adds() -> None:
    """Each linear wait is `step` longer than the one before it, up to `max`."""
    assert bare(linear(1, step=2, max=6, jitter=None), 5) == [1, 3, 5, 6, 6]


def test_fibonacci_follows_its_numbers() -> None:
    """A fibonacci wait is the sum of the two before it, up to `max`."""
    assert bare(fibonacci(1, max=30, jitter=None), 10) == [1, 1, 2, 3, 5, 8, 13, 21, 30, 30]


def test_fibonacci_is_exact_while_floats_are() -> None:
    """The closed form gives the integers of the recurrence for the first 70, and stays within rounding after them."""
    wait = fibonacci(1, max=1e300, jitter=None)
    a, b = 1, 1
    for attempt in range(1, 200):
        if attempt <= 70:
            assert wait(after(attempt)) == a
        else:
            assert wait(after(attempt)) == pytest.approx(a, rel=1e-12)
        a, b = b, a + b


def test_fixed_stays() -> None:
    """A fixed wait is the same after every attempt."""
    assert bare(fixed(2), 3) == [2, 2, 2]
    assert fixed(jitter=None)(after(10**6)) == 1


def test_defaults() -> None:
    """The defaults are those the documentation names."""
    assert repr(exponential()) == "exponential(base=0.5, factor=2.0, max=30.0, jitter='full')"
    assert repr(linear()) == "linear(base=0.5, step=0.5, max=30.0, jitter='full')"
    assert repr(fibonacci()) == "fibonacci(base=0.5, max=30.0, jitter='full')"
    assert repr(fixed()) == "fixed(delay=1.0, jitter=None)"


@pytest.mark.parametrize("build", BUILDERS)
def test_durations_may_be_timedeltas(build: Callable[..., Backoff]) -> None:
    """A timedelta means the same as its seconds."""
    assert build(timedelta(milliseconds=1500), jitter=None) == build(1.5, jitter=None)


def test_every_duration_may_be_a_timedelta() -> None:
    """`max` and `step` take timedeltas as well."""
    assert linear(0, step=timedelta(seconds=2), max=timedelta(minutes=1)) == linear(0, step=2, max=60)


@pytest.mark.parametrize("build", BUILDERS)
@given(base=durations, attempt=st.integers(min_value=1, max_value=3000))
def test_growth_begins_at_base_and_never_shrinks(build: Callable[..., Backoff], base: float, attempt: int) -> None:
    """Without jitter the first wait is `base`, and none is shorter than the one before it."""
    wait = build(base, jitter=None) if build is fixed else build(base, max=2e6, jitter=None)
    assert wait(after(1)) == base
    assert wait(after(attempt)) <= wait(after(attempt + 1))


@given(
    base=st.floats(min_value=1e-6, max_value=1e3),
    factor=st.floats(min_value=1, max_value=10),
    room=st.floats(min_value=0, max_value=1e6),
    attempt=attempts,
)
def test_exponential_equals_tenacity(base: float, factor: float, room: float, attempt: int) -> None:
    """Without jitter, `exponential` waits what tenacity's `wait_exponential` waits."""
    ours = exponential(base, factor=factor, max=base + room, jitter=None)
    theirs = tenacity.wait_exponential(multiplier=base, exp_base=factor, max=base + room)
    assert ours(after(attempt)) == pytest.approx(theirs(after(attempt)))


@given(base=durations, step=durations, room=durations, attempt=attempts)
def test_linear_equals_tenacity(base: float, step: float, room: float, attempt: int) -> None:
    """Without jitter, `linear` waits what tenacity's `wait_incrementing` waits."""
    ours = linear(base, step=step, max=base + room, jitter=None)
    theirs = tenacity.wait_incrementing(start=base, increment=step, max=base + room)
    assert ours(after(attempt)) == theirs(after(attempt))


@pytest.mark.parametrize("build", [exponential, linear, fibonacci])
@pytest.mark.parametrize("base", [0, 5e-324, 1e-3, 1e300])
def test_a_millionth_attempt_waits_the_maximum(build: Callable[..., Backoff], base: float) -> None:
    """Growth beyond the largest float is the maximum, not an OverflowError; growth from nothing stays nothing."""
    wait = build(base, max=1e300, jitter=None)
    expected = 0 if base == 0 else 1e300
    if build is linear:
        expected = min(1e300, base + 0.5 * (10**6 - 1))
    assert wait(after(10**6)) == expected


# Jitter


@pytest.mark.parametrize("jitter", NAMES)
@pytest.mark.parametrize("build", BUILDERS)
@given(base=durations, room=durations, attempt=attempts, previous=st.floats(min_value=0), seed=st.integers())
def test_waits_keep_their_bounds(
    build: Callable[..., Backoff], jitter: str, base: float, room: float, attempt: int, previous: float, seed: int
) -> None:
    """Whatever the options, the attempt and the wait before it, a wait lies within the bounds of its jitter."""
    chance.seed(seed)
    limits = {} if build is fixed else {"max": base + room}
    wait = build(base, **limits, jitter=jitter)(after(attempt, previous))
    grown = build(base, **limits, jitter=None)(after(attempt))
    maximum = limits.get("max", 3 * base)
    low, high = {
        "full": (0, grown),
        "equal": (grown / 2, grown),
        "uniform": (grown / 2, min(1.5 * grown, maximum)),
        "exponential": (0, maximum),
        "decorrelated": (base, min(3 * max(previous, base), maximum)),
    }[jitter]
    assert low <= wait <= high


@pytest.mark.parametrize("jitter", NAMES)
@pytest.mark.parametrize("build", BUILDERS)
def test_clients_do_not_meet_at_the_maximum(build: Callable[..., Backoff], jitter: str) -> None:
    """After many attempts a thousand clients still wait a thousand different times."""
    wait = build(1, jitter=jitter)
    assert len({wait(after(50, previous=MAXIMUM)) for _ in range(1000)}) == 1000


def draws(wait: Backoff, state: tenacity.RetryCallState) -> list[float]:
    return [wait(state) for _ in range(20_000)]


@pytest.mark.parametrize(
    ("jitter", "mean", "deviation"),
    [
        ("full", 1.0, 2 / math.sqrt(12)),
        ("equal", 1.5, 1 / math.sqrt(12)),
        ("uniform", 2.0, 2 / math.sqrt(12)),
        ("exponential", 2.0, 2.0),
        ("decorrelated", 4.0, 6 / math.sqrt(12)),  # between 1 and 3 * (7/3)
    ],
)
def test_mean_and_spread(jitter: Any, mean: float, deviation: float) -> None:
    """Each jitter has the mean and the spread of the distribution it is documented to have."""
    waits = draws(exponential(1, max=1000, jitter=jitter), after(2, previous=7 / 3))
    assert statistics.fmean(waits) == pytest.approx(mean, rel=0.03)
    assert statistics.stdev(waits) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    ("jitter", "mean"), [("uniform", 0.75), ("exponential", 1 - 1 / (math.e - 1)), ("decorrelated", 0.505)]
)
def test_mean_at_the_maximum(jitter: Any, mean: float) -> None:
    """At the maximum the range is cut and the draw is not: no heap of waits at exactly `max`."""
    waits = draws(exponential(0.01, max=1, jitter=jitter), after(100, previous=1))
    assert statistics.fmean(waits) == pytest.approx(mean, rel=0.03)
    assert sum(wait > 0.999 for wait in waits) < 0.01 * len(waits)


def test_exponential_jitter_has_a_tail() -> None:
    """With exponential jitter 63 % wait less than the grown wait, and 5 % more than three times it."""
    waits = draws(exponential(1, max=1000, jitter="exponential"), after(1))
    assert sum(wait < 1 for wait in waits) / len(waits) == pytest.approx(1 - 1 / math.e, abs=0.02)
    assert sum(wait > 3 for wait in waits) / len(waits) == pytest.approx(math.exp(-3), abs=0.01)


def test_decorrelated_begins_between_base_and_three_times_it() -> None:
    """The first decorrelated wait takes `base` for the wait before it, also late in a chain of waits."""
    waits = draws(exponential(1, jitter="decorrelated"), after(9))
    assert 1 <= min(waits) < 1.01
    assert 2.99 < max(waits) <= 3


def test_decorrelated_takes_the_wait_before_it_from_tenacity() -> None:
    """In a real tenacity loop every decorrelated wait is at most three times the one before it, and they grow.

    tenacity 8.2 does not keep the wait before; there it is three times all waits so far.
    """
    kept = hasattr(tenacity.RetryCallState(tenacity.Retrying(), None, (), {}), "upcoming_sleep")
    waits = run(exponential(0.1, max=1e9, jitter="decorrelated"), 30)
    for index, wait in enumerate(waits):
        before = waits[index - 1 : index] if kept else waits[:index]
        assert 0.1 <= wait <= 3 * max(0.1, sum(before))
    assert max(waits) > 3


def test_fixed_waits_scatter_within_their_documented_bounds() -> None:
    """A fixed wait has no maximum: three times the delay bounds the jitters that go beyond it."""
    for jitter, highest in [("full", 2), ("equal", 2), ("uniform", 3), ("exponential", 6), ("decorrelated", 6)]:
        waits = draws(fixed(2, jitter=jitter), after(5, previous=100))  # type: ignore[arg-type]
        assert 0.95 * highest < max(waits) <= highest


def test_jitter_may_be_a_function() -> None:
    """A function gets the grown and cut wait, and its result is the wait, also beyond `max`."""
    assert bare(exponential(1, max=4, jitter=double), 4) == [2, 4, 8, 8]


def test_a_negative_result_of_a_jitter_function_is_no_wait() -> None:
    """A jitter function that takes off too much makes the wait 0."""
    assert fixed(1, jitter=lambda delay: delay - 5)(after(1)) == 0


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf])
def test_a_jitter_function_must_return_a_finite_number(result: float) -> None:
    """A jitter function that returns NaN or infinity is told so instead of waiting for ever."""
    with pytest.raises(ValueError, match=f"^jitter must return a finite number of seconds, got {result}$"):
        fixed(1, jitter=lambda _: result)(after(1))


@pytest.mark.parametrize("result", [None, "1", True])
def test_a_jitter_function_must_return_a_number(result: Any) -> None:
    """A jitter function that forgets to return is told so."""
    with pytest.raises(TypeError, match=f"^jitter must return a number of seconds, got {result!r}$"):
        fixed(1, jitter=lambda _: result)(after(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_jitter_of_its_own() -> None:
    """Two children forked from one process do not wait the same times."""
    script = """
import os
from types import SimpleNamespace
from resilient_agents.backoff import exponential
state = SimpleNamespace(attempt_number=3)
print(exponential()(state), flush=True)
for _ in range(3):
    if not os.fork():
        os.write(1, f"{exponential()(state)}\\n".encode())
        os._exit(0)
for _ in range(3):
    os.wait()
print(exponential()(state), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert len(set(done.stdout.split())) == 5


# In tenacity


class Flaky(Exception):
    pass


def run(wait: Any, attempts: int) -> list[float]:
    """What tenacity sleeps between this many failing attempts."""
    slept: list[float] = []
    retrying = tenacity.Retrying(
        wait=wait, stop=tenacity.stop_after_attempt(attempts), sleep=slept.append, reraise=True
    )

    def fail() -> None:
        raise Flaky

    with pytest.raises(Flaky):
        retrying(fail)
    return slept


def test_works_in_tenacity() -> None:
    """tenacity sleeps what the wait says."""
    assert run(exponential(1, max=4, jitter=None), 5) == [1, 2, 4, 4]
    assert run(fibonacci(1, jitter=None), 6) == [1, 1, 2, 3, 5]


def test_works_in_async_tenacity() -> None:
    """tenacity's AsyncRetrying sleeps what the wait says."""
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    async def fail() -> None:
        raise Flaky

    retrying = tenacity.AsyncRetrying(
        wait=linear(1, step=1, jitter=None), stop=tenacity.stop_after_attempt(4), sleep=sleep, reraise=True
    )
    with pytest.raises(Flaky):
        asyncio.run(retrying(fail))
    assert slept == [1, 2, 3]


@pytest.mark.parametrize("build", BUILDERS)
def test_is_a_tenacity_wait(build: Callable[..., Backoff]) -> None:
    """Every wait is an instance of tenacity's own base class."""
    assert isinstance(build(), wait_base)


def test_adds_up_with_tenacity_waits() -> None:
    """`+`, `sum` and `wait_combine` add waits of both libraries."""
    ours, theirs = exponential(1, jitter=None), tenacity.wait_fixed(10)
    for combined in (ours + theirs, theirs + ours, sum([ours, theirs]), tenacity.wait_combine(ours, theirs)):
        assert run(combined, 4) == [11, 12, 14]


def test_chains_with_tenacity_waits() -> None:
    """`wait_chain` runs waits of both libraries one after another, and each grows by the number of the attempt."""
    assert run(tenacity.wait_chain(tenacity.wait_fixed(9), exponential(1, jitter=None)), 5) == [9, 2, 4, 8]


def test_decorrelated_in_a_chain_grows_from_whatever_was_waited() -> None:
    """A decorrelated wait after another's wait takes that one for the wait before it."""
    chain = tenacity.wait_chain(tenacity.wait_fixed(5), exponential(1, max=60, jitter="decorrelated"))
    seconds_waits = [run(chain, 3)[1] for _ in range(200)]
    assert 12 < max(seconds_waits) <= 15


# As values


@pytest.mark.parametrize("jitter", [*NAMES, None, double])
@pytest.mark.parametrize("build", BUILDERS)
def test_survives_pickle_and_copy(build: Callable[..., Backoff], jitter: Any) -> None:
    """A wait pickles, copies, compares and hashes by value."""
    wait = build(2, jitter=jitter)
    for other in (pickle.loads(pickle.dumps(wait)), copy.copy(wait), copy.deepcopy(wait), build(2, jitter=jitter)):
        assert other == wait
        assert hash(other) == hash(wait)
        assert repr(other) == repr(wait)
    assert wait != build(3, jitter=jitter)


@pytest.mark.parametrize("jitter", [*NAMES, None])
@pytest.mark.parametrize("build", BUILDERS)
def test_repr_builds_the_same_wait(build: Callable[..., Backoff], jitter: Any) -> None:
    """The repr is the expression that builds the wait."""
    wait = build(0.1, jitter=jitter)
    scope = {builder.__name__: builder for builder in BUILDERS}
    assert eval(repr(wait), scope) == wait


def test_repr_names_a_jitter_function_without_its_address() -> None:
    """A function shows by its name, an object by its class: nothing that changes from run to run."""

    class Wobble:
        def __call__(self, delay: float) -> float:
            return delay

    assert repr(fixed(1, jitter=double)) == "fixed(delay=1.0, jitter=double)"
    assert repr(fixed(1, jitter=Wobble())).endswith("Wobble)")
    assert "0x" not in repr(fixed(1, jitter=Wobble()))


def test_is_immutable() -> None:
    """A wait that policies share cannot be changed under them."""
    with pytest.raises(AttributeError):
        exponential().base = 3  # type: ignore[misc]


# Wrong values


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: exponential(-1), "base must be at least 0 seconds, got -1"),
        (lambda: exponential(math.nan), "base must be a finite number of seconds, got nan"),
        (lambda: exponential(max=math.inf), "max must be a finite number of seconds, got inf"),
        (lambda: exponential(factor=0.5), "factor must be at least 1, got 0.5"),
        (lambda: exponential(factor=math.nan), "factor must be a finite number, got nan"),
        (lambda: exponential(2, max=1), "max must be at least base (2 seconds), got 1"),
        (lambda: linear(-1), "base must be at least 0 seconds, got -1"),
        (lambda: linear(step=-2), "step must be at least 0 seconds, got -2"),
        (lambda: linear(40), "max must be at least base (40 seconds), got 30"),
        (lambda: fibonacci(-1), "base must be at least 0 seconds, got -1"),
        (lambda: fibonacci(1, max=0.5), "max must be at least base (1 seconds), got 0.5"),
        (lambda: fixed(-1), "delay must be at least 0 seconds, got -1"),
    ],
)
def test_wrong_values_fail_when_built(build: Callable[[], Backoff], message: str) -> None:
    """A wrong value is refused at once, with the argument, the rule and the value."""
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize("build", BUILDERS)
def test_an_unknown_jitter_fails_when_built(build: Callable[..., Backoff]) -> None:
    """A misspelt jitter is refused with the list of those there are."""
    with pytest.raises(ValueError) as caught:
        build(jitter="ful")
    assert str(caught.value) == (
        "jitter must be one of 'full', 'equal', 'uniform', 'exponential', 'decorrelated', None, "
        "or a function of the delay, got 'ful'"
    )


@pytest.mark.parametrize("wrong", [True, 0.5, ("full",)], ids=repr)
def test_a_jitter_of_another_type_fails_when_built(wrong: Any) -> None:
    """tenacity's habit of a number for jitter is refused, and so is True."""
    with pytest.raises(TypeError, match=r"^jitter must be one of 'full', .*got"):
        exponential(jitter=wrong)


@pytest.mark.parametrize("name", ["base", "max", "factor"])
@pytest.mark.parametrize("wrong", [True, "1", None], ids=repr)
def test_wrong_types_fail_when_built(name: str, wrong: Any) -> None:
    """A bool or a string is no number, and the error names the argument."""
    with pytest.raises(TypeError, match=f"^{name} must be a number"):
        exponential(**{name: wrong})


@pytest.mark.parametrize("build", BUILDERS)
def test_options_after_the_first_are_keyword_only(build: Callable[..., Backoff]) -> None:
    """Two bare numbers would be a riddle to the reader."""
    with pytest.raises(TypeError, match="positional"):
        build(1, 2)
