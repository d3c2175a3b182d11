"""`CircuitBreaker`: stop calling what is down. The circuit itself is pybreaker's (see circuit.py)."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pybreaker

from resilient_agents import events
from resilient_agents.adapters.breaking import Breaking
from resilient_agents.adapters.circuit import Circuit, Open, Trip
from resilient_agents.adapters.sliding_window import CountWindow, TimeWindow, Window
from resilient_agents.adapters.tally import Verdict
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.base.durations import flag, positive_int, seconds
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.classify import Failure, counts_against_dependency
from resilient_agents.core.match import Match, When, ask, matcher, names, result_predicate
from resilient_agents.errors import Rejected

__all__ = ["CircuitBreaker", "shared_breaker"]

_OPTIONS = (
    "failures",
    "failure_rate",
    "window",
    "window_calls",
    "minimum_calls",
    "_slow_call",
    "slow_rate",
    "reset_timeout",
    "max_reset_timeout",
    "half_open_calls",
    "successes",
    "_on",
    "_matches",
    "_when",
    "_shadow",
)

_making = Lock()
"""Held while a breaker is looked up by name, and made if there is none."""


class CircuitBreaker(Breaking):
    """Opens when the dependency fails, refuses calls while open, and lets a few probe before it closes again.

    It opens after `failures` consecutive failures (default 5), or when at least `failure_rate` (0 to 1) of the calls in
    the window failed, or `slow_rate` of them took `slow_call` seconds or longer; None switches a rule off. The window
    is the last `window` seconds (default
    30.0) or, if given, the last `window_calls` calls; it decides from `minimum_calls` (default 10; never more than
    `window_calls`) on. After `reset_timeout` seconds (default 30.0; doubled at each opening in a row up to
    `max_reset_timeout`, if given) it is half-open: at most `half_open_calls` probes run at a time, `successes` of them
    close it, one failure (or slow call) opens it again.

    `on` says which errors are failures: a type, a predicate or a tuple of these; by default those that
    `counts_against_dependency`: time limits, connections, overload, server errors and unknown ones. Any other error is
    a success if it proves the dependency alive, else neutral; cancellation is neutral. `when` says which results are
    failures, such as `http_failure`.
    `shadow=True` records, changes state and reports, but never refuses.

    `name` (default: the policy's) shows in errors and telemetry; one breaker object shared by several policies is one
    circuit. Raises ValueError or TypeError for options out of range. A call that is refused raises `CircuitOpenError`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        failures: int | None = 5,
        failure_rate: float | None = None,
        window: float | timedelta = 30.0,
        window_calls: int | None = None,
        minimum_calls: int = 10,
        slow_call: float | timedelta | None = None,
        slow_rate: float = 1.0,
        reset_timeout: float | timedelta = 30.0,
        max_reset_timeout: float | timedelta | None = None,
        half_open_calls: int = 1,
        successes: int = 1,
        on: Match = counts_against_dependency,
        when: When | None = None,
        shadow: bool = False,
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            hint = f"; failures={name}, perhaps?" if isinstance(name, int) else ""
            raise ValueError(f"name must be a non-empty string or None, got {name!r}{hint}")
        if failures is None and failure_rate is None and slow_call is None:
            raise ValueError(
                "one of failures, failure_rate and slow_call must be given, or the circuit would never open"
            )
        if slow_call is None and slow_rate != 1.0:
            raise ValueError(
                f"slow_rate needs slow_call, the seconds from which a call is slow; got slow_rate={slow_rate}"
            )
        self.failures = None if failures is None else positive_int(failures, "failures")
        self.failure_rate = None if failure_rate is None else _rate(failure_rate, "failure_rate")
        self.window = seconds(window, "window", zero=False)
        self.window_calls = None if window_calls is None else positive_int(window_calls, "window_calls")
        minimum = positive_int(minimum_calls, "minimum_calls")
        self.minimum_calls = minimum if self.window_calls is None else min(minimum, self.window_calls)
        self._slow_call = None if slow_call is None else seconds(slow_call, "slow_call", zero=False)
        self.slow_rate = _rate(slow_rate, "slow_rate")
        self.reset_timeout = seconds(reset_timeout, "reset_timeout", zero=False)
        self.max_reset_timeout = (
            None if max_reset_timeout is None else seconds(max_reset_timeout, "max_reset_timeout", zero=False)
        )
        if self.max_reset_timeout is not None and self.max_reset_timeout < self.reset_timeout:
            raise ValueError(
                f"max_reset_timeout must be at least reset_timeout ({self.reset_timeout:g}), "
                f"got {self.max_reset_timeout:g}"
            )
        self.half_open_calls = positive_int(half_open_calls, "half_open_calls")
        self.successes = positive_int(successes, "successes")
        self._on = on
        self._matches = None if on is counts_against_dependency else matcher(on)
        self._when = result_predicate(when)
        self._shadow = flag(shadow, "shadow")
        self._circuit = Circuit(
            pybreaker.CircuitBreaker(
                fail_max=self.failures or sys.maxsize,
                reset_timeout=self.reset_timeout,
                success_threshold=self.successes,
                throw_new_error_on_trip=False,
                name=name,
            ),
            reset_after=partial(_backing_off, self.reset_timeout, self.max_reset_timeout),
            half_open_calls=self.half_open_calls,
            new_window=self._new_window() if self.failure_rate is not None or self._slow_call is not None else None,
            trip=Trip(self.failure_rate, None if self._slow_call is None else self.slow_rate, self.minimum_calls),
            judges_results=when is not None,
            shadow=self._shadow,
        )
        reset_after_fork(self._circuit)
        if name is not None and _has_twin(name):
            warnings.warn(
                f"there is a second live CircuitBreaker named {name!r}: they do not share a circuit; share one object",
                RuntimeWarning,
                stacklevel=2,
            )
        instances.add("circuit_breaker", self)

    def _new_window(self) -> Callable[[], Window]:
        return (
            partial(TimeWindow, self.window) if self.window_calls is None else partial(CountWindow, self.window_calls)
        )

    def _verdict(self, error: Exception, failure: Failure) -> Verdict:
        matches = self._matches
        if matches is None:
            return failure.verdict
        if not isinstance(error, Rejected) and ask(matches, error, error):
            return "failure"
        return "success" if failure.verdict == "success" else "neutral"

    @property
    def name(self) -> str | None:
        return self._circuit.name

    @property
    def shadow(self) -> bool:
        """Does it only watch?"""
        return self._shadow

    @property
    def state(self) -> events.CircuitState:
        """ "closed", "open" or "half-open". Ages by itself: an open circuit whose time is up reads "half-open"."""
        era = self._circuit.era
        return "half-open" if isinstance(era, Open) and clock.monotonic() >= era.until else era.name

    @property
    def retry_after(self) -> float | None:
        """Seconds until an open circuit lets the next probe through; None when it is not open."""
        era = self._circuit.era
        if not isinstance(era, Open):
            return None
        left = era.until - clock.monotonic()
        return left if left > 0 else None

    def open(self) -> None:
        """Open the circuit by hand, for `reset_timeout` seconds."""
        self._by_hand(lambda: self._circuit.open("being opened by hand"))

    def close(self) -> None:
        """Close the circuit by hand and forget what was counted."""
        self._by_hand(self._circuit.close)

    def half_open(self) -> None:
        """Let probes through now."""
        self._by_hand(self._circuit.half_open)

    def reconfigure(self, new: CircuitBreaker) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise; the name and the state stay:
        the circuit, its window (as far as the new one reaches, if both are of time or both of calls), consecutive
        failures and probes. Nothing trips before the next outcome; an open circuit stays open from now on for as long
        at most as it would if it opened now."""
        for option in _OPTIONS:
            setattr(self, option, getattr(new, option))
        self._circuit.reconfigure(new._circuit)

    def _by_hand(self, change: Callable[[], None]) -> None:
        change()
        self._circuit.deliver(None)

    def describe(self) -> dict[str, Any]:
        """Options and live state as plain data."""
        return {
            "strategy": "circuit_breaker",
            "name": self.name,
            "failures": self.failures,
            "failure_rate": self.failure_rate,
            "window": self.window,
            "window_calls": self.window_calls,
            "minimum_calls": self.minimum_calls,
            "slow_call": self._slow_call,
            "slow_rate": self.slow_rate,
            "reset_timeout": self.reset_timeout,
            "max_reset_timeout": self.max_reset_timeout,
            "half_open_calls": self.half_open_calls,
            "successes": self.successes,
            "on": names(self._on),
            "shadow": self._shadow,
            "metrics": self.metrics(),
        }

    def __repr__(self) -> str:
        options = f"{self.name!r}, failures={self.failures}, reset_timeout={self.reset_timeout:g}"
        return f"CircuitBreaker({options}) <{self.state}>"


def shared_breaker(name: str, among: Callable[[CircuitBreaker], bool] | None = None) -> CircuitBreaker:
    """The live breaker of that name (`among`: for which this holds), or a new one with the default options."""
    with _making:
        if among is None:
            return _named(name) or CircuitBreaker(name)
        for breaker in instances.each("circuit_breaker"):
            if breaker.name == name and among(breaker):
                found: CircuitBreaker = breaker
                return found
        breaker = CircuitBreaker()  # named afterwards: there may be others of the name, on purpose
        circuit: Circuit = vars(breaker)["_circuit"]
        circuit.breaker.name = name
        return breaker


def _named(name: str) -> CircuitBreaker | None:
    return next((breaker for breaker in instances.each("circuit_breaker") if breaker.name == name), None)


def _has_twin(name: str) -> bool:
    """Is another breaker of this name alive, rather than waiting to be collected with the traceback that mentions
    it?"""
    if _named(name) is not None:
        gc.collect()
    return _named(name) is not None


def _rate(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be greater than 0 and at most 1, got {value}")
    return float(value)


def _backing_off(base: float, maximum: float | None, openings: int) -> float:
    return base if maximum is None else min(maximum, base * 2.0 ** min(openings - 1, 64))
