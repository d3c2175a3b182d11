"""`CircuitBreaker`: stop calling what is down. The circuit itself is pybreaker's (see circuit.py)."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from resilient_agents import events
from resilient_agents.adapters.circuit_calls import Breaker
from resilient_agents.adapters.circuit_states import Closed, Open, new_window, shown
from resilient_agents.adapters.counts import Verdict
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.classify import Failure, counts_against_dependency
from resilient_agents.core.match import Match, When, ask, matcher
from resilient_agents.core.options import Configured, Count, Errors, Flag, Results, Seconds, Share, Text, Word
from resilient_agents.errors import Rejected

__all__ = ["CircuitBreaker", "shared_breaker"]

_making = Lock()
"""Held while a breaker is looked up by name, and made if there is none."""


class CircuitBreaker(Configured, Breaker):
    """Opens when the dependency fails, refuses calls while open, and lets a few probe before it closes again.

    It opens after `failures` consecutive failures (default 5), or when at least `failure_rate` (0 to 1) of the calls in
    the window failed, or `slow_rate` of them took `slow_call` seconds or longer; None switches a rule off. The window
    is the last `window` seconds (default
    30.0) or, if given, the last `window_calls` calls; it decides from `minimum_calls` (default 10; never more than
    `window_calls`) on. After `reset_timeout` seconds (default 30.0; doubled at each opening in a row up to
    `max_reset_timeout`, if given) it is half-open: at most `half_open_calls` probes run at a time, `successes` of them
    close it, one failure (or slow call) opens it again.

    With `open_for="retry_after"` an answer that trips it and says how long to wait (Retry-After and its like) keeps it
    open for as long as that, at most `max_reset_timeout` if that is given.

    `on` says which errors are failures: a type, a predicate or a tuple of these; by default those that
    `counts_against_dependency`: time limits, connections, overload, server errors and unknown ones. Any other error is
    a success if it proves the dependency alive, else neutral; cancellation is neutral. `when` says which results are
    failures, such as `http_failure`.
    `shadow=True` records, changes state and reports, but never refuses.

    `name` (default: the policy's) shows in errors and telemetry; one breaker object shared by several policies is one
    circuit. Raises ValueError or TypeError for options out of range. A call that is refused raises `CircuitOpenError`.
    """

    strategy = "circuit_breaker"
    HOLDS = "its circuit"
    INSIDE = frozenset(["name"])
    OPTIONS = MappingProxyType(
        {
            "name": Text(none=True, number="failures"),
            "failures": Count(none=True),
            "failure_rate": Share(none=True),
            "window": Seconds(zero=False),
            "window_calls": Count(none=True),
            "minimum_calls": Count(),
            "slow_call": Seconds(none=True, zero=False),
            "slow_rate": Share(),
            "reset_timeout": Seconds(zero=False),
            "max_reset_timeout": Seconds(none=True, zero=False),
            "half_open_calls": Count(),
            "successes": Count(),
            "on": Errors(),
            "when": Results(),
            "open_for": Word(none=True, words=("retry_after",)),
            "shadow": Flag(),
        }
    )

    failures: int | None
    failure_rate: float | None
    window: float
    window_calls: int | None
    minimum_calls: int
    slow_rate: float
    reset_timeout: float
    max_reset_timeout: float | None
    half_open_calls: int
    successes: int
    open_for: str | None
    on: Match

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
        open_for: Literal["retry_after"] | None = None,
        shadow: bool = False,
    ) -> None:
        self.take(locals())
        if failures is None and failure_rate is None and slow_call is None:
            raise ValueError(
                "one of failures, failure_rate and slow_call must be given, or the circuit would never open"
            )
        if slow_call is None and slow_rate != 1.0:
            raise ValueError(
                f"slow_rate needs slow_call, the seconds from which a call is slow; got slow_rate={slow_rate}"
            )
        if self.max_reset_timeout is not None and self.max_reset_timeout < self.reset_timeout:
            raise ValueError(
                f"max_reset_timeout must be at least reset_timeout ({self.reset_timeout:g}), "
                f"got {self.max_reset_timeout:g}"
            )
        if self.window_calls is not None:
            self.minimum_calls = min(self.minimum_calls, self.window_calls)
        self._matches = None if on is counts_against_dependency else matcher(on)
        self.name = name
        self._begin()
        if name is not None and _has_twin(name):
            warnings.warn(
                f"there is a second live CircuitBreaker named {name!r}: they do not share a circuit; share one object",
                RuntimeWarning,
                stacklevel=2,
            )
        instances.add("circuit_breaker", self)

    @property
    def asks(self) -> bool:
        return self._matches is not None

    def _verdict(self, error: Exception, failure: Failure) -> Verdict:
        matches = self._matches
        if matches is None:
            return failure.verdict
        if not isinstance(error, Rejected) and ask(matches, error, error):
            return "failure"
        return "success" if failure.verdict == "success" else "neutral"

    @property
    def state(self) -> events.CircuitState:
        """ "closed", "open" or "half-open". Ages by itself: an open circuit whose time is up reads "half-open"."""
        return shown(self._era, clock.monotonic())[0]

    @property
    def retry_after(self) -> float | None:
        """Seconds until an open circuit lets the next probe through; None when it is not open."""
        return shown(self._era, clock.monotonic())[1]

    def open(self) -> None:
        """Open the circuit by hand, for `reset_timeout` seconds."""
        self._order(lambda breaker: breaker.open())

    def close(self) -> None:
        """Close the circuit by hand and forget what was counted."""
        self._order(lambda breaker: breaker.close())

    def half_open(self) -> None:
        """Let probes through now."""
        self._order(lambda breaker: breaker.half_open())

    def reconfigure(self, new: CircuitBreaker) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise; the name and the state stay:
        the circuit, its window (as far as the new one reaches, if both are of time or both of calls), consecutive
        failures and probes. Nothing trips before the next outcome; an open circuit stays open from now on for as long
        at most as it would if it opened now."""
        with self._lock:
            self.adopt(new)
            self._matches = new._matches
            era = self._era
            if isinstance(era, Closed):
                self._outcomes.reconfigure(new_window(self))
                self._calm(era)
                era.untimed = 0  # for slow calls may matter now
            elif isinstance(era, Open):
                era.until = min(era.until, self._open_until(era.hint))

    def live(self) -> dict[str, Any]:
        return {"metrics": self.metrics()}

    def __repr__(self) -> str:
        options = f"{self.name!r}, failures={self.failures}, reset_timeout={self.reset_timeout:g}"
        return f"CircuitBreaker({options}) <{self.state}>"


def shared_breaker(name: str, among: Callable[[CircuitBreaker], bool] | None = None) -> CircuitBreaker:
    """The live breaker of that name (`among`: for which this holds), or a new one with the default options."""
    with _making:
        for breaker in _named(name):
            if among is None or among(breaker):
                return breaker
        breaker = CircuitBreaker()  # named afterwards: there may be others of the name, on purpose
        breaker.name = name
        return breaker


def _named(name: str) -> list[CircuitBreaker]:
    return [breaker for breaker in instances.each("circuit_breaker") if breaker.name == name]


def _has_twin(name: str) -> bool:
    """Is another breaker of this name alive, rather than waiting to be collected with the traceback that mentions
    it?"""
    if _named(name):
        gc.collect()
    return bool(_named(name))
