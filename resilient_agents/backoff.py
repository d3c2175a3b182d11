"""How long to wait before the next attempt: four ways to grow, six ways to scatter.

    Retry(5, wait=exponential(0.2, max=10))
    Retry(5, wait=fibonacci(timedelta(milliseconds=100), jitter="equal"))
    tenacity.Retrying(wait=exponential() + fixed(1), stop=tenacity.stop_after_attempt(5))

Each function here returns a tenacity wait object that works in tenacity alone. tenacity has no fibonacci and no
decorrelated jitter, and it cuts a wait to its maximum *after* it has added the jitter, so that all clients meet again
at the maximum. Here a wait first grows, then is cut to `max`, and is scattered last, within `max`.

What `jitter` does to `d`, the grown and cut wait of this attempt:

=================  =====================================================================================
`"full"`           uniform in [0, d]: scatters best against many clients; the default
`"equal"`          uniform in [d/2, d]: never a wait near zero
`"uniform"`        uniform in [d/2, min(3d/2, max)]: the mean stays d until `max` is near
`"exponential"`    exponentially distributed with mean d, conditioned on [0, max]: most wait less than d,
                   a few much longer
`"decorrelated"`   uniform in [base, min(3p, max)], where p is the wait before this one (`base` for the
                   first): it grows by its own past, so `factor` and `step` have no part in it
`None`             d itself: for tests, and where nobody else retries
a function         `jitter(d) -> float`, called once per wait; a result below 0 counts as 0; it may go
                   beyond `max`, because a cut after it would bring back the meeting at the maximum
=================  =====================================================================================

Sources: "full", "equal" and "decorrelated" are Marc Brooker's, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015. His decorrelated jitter is `min(cap, uniform(base, 3p))`, which puts up to two waits in three on exactly the cap;
here the range is cut instead of the result. "uniform" is the randomization factor of 0.5 of Google's HTTP client for
Java (`ExponentialBackOff`), its upper end cut to `max`. "exponential" is the waiting time of a Poisson process, drawn
by inverting the distribution function truncated at `max`.

Randomness comes from base/chance.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

from tenacity import RetryCallState
from tenacity.wait import wait_base

from resilient_agents.base.chance import chance
from resilient_agents.base.durations import number, seconds
from resilient_agents.base.spelling import spelled

__all__ = ["Backoff", "Jitter", "exponential", "fibonacci", "fixed", "linear"]

Jitter: TypeAlias = Literal["full", "equal", "uniform", "exponential", "decorrelated"] | Callable[[float], float] | None
"""How a wait is scattered: a name, a function of one's own `jitter(delay: float) -> float`, or None for not at all."""

_GOLDEN = (1 + math.sqrt(5)) / 2
_EXACT_FIBONACCI = 70  # the last number that rounding a power of the golden ratio hits exactly in floats


@dataclass(frozen=True, repr=False)
class Backoff(wait_base):
    """A tenacity wait: grow with the attempt, cut to `max`, scatter. Built by the functions of this module.

    It is immutable and holds no state between calls, so one object serves any number of policies, threads and event
    loops. It compares by value, copies, and pickles (with a jitter function only if that function does).
    """

    growth: Callable[[int, float, float], float]
    base: float
    step: float
    max: float
    jitter: Jitter
    spelling: str

    def __post_init__(self) -> None:
        _check_jitter(self.jitter)

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait after the failed attempt number `retry_state.attempt_number`, counted from 1."""
        try:
            delay = self.growth(retry_state.attempt_number, self.base, self.step)
        except OverflowError:  # grown beyond the largest float, and so beyond any maximum
            delay = self.max
        if delay > self.max:
            delay = self.max
        if self.jitter is None:
            return delay
        if not isinstance(self.jitter, str):
            return _checked(self.jitter(delay))
        if self.jitter == "decorrelated":
            return _decorrelated(self.base, self.max, _previous_wait(retry_state))
        return _JITTERS[self.jitter](delay, self.max)

    def average(self, waits: int) -> float | None:
        """Seconds that the first so many waits take together on average; None where a function scatters them.

        "full" leaves half of what they grow to, "equal" three quarters, "uniform" and "exponential" about all of it;
        "decorrelated" goes from `base` to three times the wait before.
        """
        if callable(self.jitter):
            return None
        if self.jitter == "decorrelated":
            total, last = 0.0, self.base
            for _ in range(waits):
                last = (self.base + min(3 * last, self.max)) / 2
                total += last
            return total
        steady = replace(self, jitter=None)
        states: Any = (SimpleNamespace(attempt_number=number) for number in range(1, waits + 1))
        return {"full": 0.5, "equal": 0.75}.get(self.jitter or "", 1.0) * sum(map(steady, states))

    def __repr__(self) -> str:
        return self.spelling


@spelled
def exponential(
    base: float | timedelta = 0.5,
    *,
    factor: float = 2.0,
    max: float | timedelta = 30.0,
    jitter: Jitter = "full",
) -> Backoff:
    """Waits that multiply: `base * factor ** (attempt - 1)`, at most `max`, then scattered. The usual choice.

    Args:
        base: The wait after the first attempt, in seconds or as a `timedelta` (default 0.5 s).
        factor: What each wait is to the one before it, at least 1 (default 2).
        max: The longest wait, in seconds or as a `timedelta` (default 30 s).
        jitter: See the module; default "full".

    Raises:
        TypeError, ValueError: An argument is of a wrong type or value; the message names it.
    """
    first, factor = seconds(base, "base"), number(factor, "factor", minimum=1)
    cap = _maximum(max, first)
    spelling = _spelling("exponential", jitter, base=first, factor=factor, max=cap)
    return Backoff(_exponential, first, factor, cap, jitter, spelling)


@spelled
def linear(
    base: float | timedelta = 0.5,
    *,
    step: float | timedelta = 0.5,
    max: float | timedelta = 30.0,
    jitter: Jitter = "full",
) -> Backoff:
    """Waits that add: `base + step * (attempt - 1)`, at most `max`, then scattered.

    Args:
        base: The wait after the first attempt, in seconds or as a `timedelta` (default 0.5 s).
        step: What each wait is longer than the one before it, in seconds or as a `timedelta` (default 0.5 s).
        max: The longest wait, in seconds or as a `timedelta` (default 30 s).
        jitter: See the module; default "full".

    Raises:
        TypeError, ValueError: An argument is of a wrong type or value; the message names it.
    """
    first, more = seconds(base, "base"), seconds(step, "step")
    cap = _maximum(max, first)
    return Backoff(_linear, first, more, cap, jitter, _spelling("linear", jitter, base=first, step=more, max=cap))


@spelled
def fibonacci(
    base: float | timedelta = 0.5,
    *,
    max: float | timedelta = 30.0,
    jitter: Jitter = "full",
) -> Backoff:
    """Waits that follow 1, 1, 2, 3, 5, 8 ... times `base`, at most `max`, then scattered: gentler than doubling.

    Args:
        base: The wait after the first and after the second attempt, in seconds or as a `timedelta` (default 0.5 s).
        max: The longest wait, in seconds or as a `timedelta` (default 30 s).
        jitter: See the module; default "full".

    Raises:
        TypeError, ValueError: An argument is of a wrong type or value; the message names it.
    """
    first = seconds(base, "base")
    cap = _maximum(max, first)
    return Backoff(_fibonacci, first, 0.0, cap, jitter, _spelling("fibonacci", jitter, base=first, max=cap))


@spelled
def fixed(delay: float | timedelta = 1.0, *, jitter: Jitter = None) -> Backoff:
    """The same wait after every attempt, scattered only if asked.

    It has no maximum of its own: "full" and "equal" stay within `delay`, "uniform" within half of it either way, and
    "exponential" and "decorrelated" within three times `delay`.

    Args:
        delay: The wait, in seconds or as a `timedelta` (default 1 s). 0 means: at once.
        jitter: See the module; default None.

    Raises:
        TypeError, ValueError: An argument is of a wrong type or value; the message names it.
    """
    first = seconds(delay, "delay")
    return Backoff(_fixed, first, 0.0, 3 * first, jitter, _spelling("fixed", jitter, delay=first))


def _maximum(value: float | timedelta, base: float) -> float:
    cap = seconds(value, "max")
    if cap < base:
        raise ValueError(f"max must be at least base ({base:g} seconds), got {cap:g}")
    return cap


def _check_jitter(jitter: object) -> None:
    names = (*_JITTERS, "decorrelated")
    rule = f"jitter must be one of {', '.join(map(repr, names))}, None, or a function of the delay, got {jitter!r}"
    if isinstance(jitter, str):
        if jitter not in names:
            raise ValueError(rule)
    elif jitter is not None and not callable(jitter):
        raise TypeError(rule)


def _spelling(name: str, jitter: Jitter, **options: float) -> str:
    shown = ", ".join(f"{option}={value!r}" for option, value in options.items())
    # A function shows by name: its own repr holds an address, and an object's may hold anything.
    scatter = getattr(jitter, "__qualname__", type(jitter).__qualname__) if callable(jitter) else repr(jitter)
    return f"{name}({shown}, jitter={scatter})"


# Growth: (attempt counted from 1, base, factor or step) -> seconds, neither cut nor scattered. It begins at `base`.


def _exponential(attempt: int, base: float, factor: float) -> float:
    return base and base * factor ** (attempt - 1)


def _linear(attempt: int, base: float, step: float) -> float:
    return base + step * (attempt - 1)


def _fixed(_attempt: int, base: float, _step: float) -> float:
    return base


def _fibonacci(attempt: int, base: float, _step: float) -> float:
    power = base and _GOLDEN**attempt / math.sqrt(5)
    return base * (round(power) if attempt <= _EXACT_FIBONACCI else power)


# Jitter: (grown and cut delay, maximum) -> seconds to wait, in [0, maximum].


def _full(delay: float, _maximum: float) -> float:
    return delay * chance.random()


def _equal(delay: float, _maximum: float) -> float:
    return chance.uniform(delay / 2, delay)


def _uniform(delay: float, maximum: float) -> float:
    return chance.uniform(delay / 2, min(1.5 * delay, maximum))


def _exponentially(delay: float, maximum: float) -> float:
    if not delay:
        return 0.0
    wait = -delay * math.log1p(chance.random() * math.expm1(-maximum / delay))
    return min(wait, maximum)  # the rounding of the last digit


_JITTERS: dict[str, Callable[[float, float], float]] = {
    "full": _full,
    "equal": _equal,
    "uniform": _uniform,
    "exponential": _exponentially,
}


def _decorrelated(base: float, maximum: float, previous: float) -> float:
    # The previous wait need not be ours: another member of a chain, or a server's Retry-After, may have decided it.
    return chance.uniform(base, min(3 * max(base, previous), maximum))


def _previous_wait(retry_state: RetryCallState) -> float:
    # While a wait runs, `upcoming_sleep` still holds the wait before this one, and 0 before the first. tenacity 8.2
    # keeps no such thing; there the sum of all waits so far stands in, which only widens the range sooner.
    state: Any = retry_state
    previous: float = state.upcoming_sleep if hasattr(state, "upcoming_sleep") else state.idle_for
    return previous


def _checked(wait: object) -> float:
    if not isinstance(wait, int | float) or isinstance(wait, bool):
        raise TypeError(f"jitter must return a number of seconds, got {wait!r}")
    if not math.isfinite(wait):
        raise ValueError(f"jitter must return a finite number of seconds, got {wait}")
    return max(0.0, float(wait))
