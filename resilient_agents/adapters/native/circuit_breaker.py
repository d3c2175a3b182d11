"""pybreaker's own `CircuitBreaker` as a strategy."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import partialmethod
from typing import Any, TypeAlias

import pybreaker

from resilient_agents import events
from resilient_agents.adapters.circuit import Listener
from resilient_agents.adapters.circuit_calls import Breaker
from resilient_agents.adapters.circuit_states import Closed, HalfOpen, Open, Opens
from resilient_agents.adapters.counts import Verdict
from resilient_agents.adapters.native.owner import shared
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.errors import PolicyTimeoutError, Rejected

__all__ = ["NativeBreaker", "adapt_native"]

NativeBreaker: TypeAlias = pybreaker.CircuitBreaker
"""What may stand where a circuit breaker is asked for."""


class _Native(Breaker):
    """A pybreaker object as it is: its threshold, timeout, storage, listeners and exclusions, but our admission.

    What it excludes is neutral, the call that trips it keeps the user's error, and its listeners cannot break a call.
    They hear of a call when its outcome is recorded.
    """

    strategy = "circuit_breaker"

    def __init__(self, breaker: pybreaker.CircuitBreaker) -> None:
        self.reset_timeout = breaker.reset_timeout
        self._looks = False
        self._told: datetime | None = None
        self._opened_at = -math.inf
        self.native = breaker
        self._begin(breaker)
        instances.add("native_circuit_breaker", self)

    @property
    def name(self) -> str | None:  # type: ignore[override]  # it may change at any time
        return self.native.name

    @property
    def state(self) -> str:
        return self._breaker.current_state

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        self._shield()
        self._sync()
        self._deliver(call.audience)  # of what happened past the policy: a refusal tells of no change
        return super().execute(proceed, call)

    def metrics(self) -> dict[str, Any]:
        self._sync()
        return super().metrics()

    def _open_until(self, hint: float | None = None) -> float:
        """Storages tell the time of the wall clock, which is looked at once for each opening that somebody else saw to:
        of one that happens here pybreaker tells the machine's time, whatever clock is in force."""
        told = self._storage.opened_at
        if told != self._told:
            self._told = told
            self._opened_at = -math.inf  # pybreaker probes at once where nobody knows since when it is open
            if told is not None:
                age = clock.now() - (told if told.tzinfo is not None else told.replace(tzinfo=UTC))
                self._opened_at = clock.monotonic() - max(0.0, age.total_seconds())  # its writer's clock may be ahead
        return self._opened_at + self.reset_timeout

    def _changed(self, old: str, new: str) -> None:
        if new == "open" and not self._looks:
            self._told, self._opened_at = self._storage.opened_at, clock.monotonic()
        super()._changed(old, new)

    def clock_changed(self, shift: float) -> None:
        self._opened_at += shift
        super().clock_changed(shift)

    def _conclude(
        self, era: Closed | HalfOpen, now: float, error: Exception | None, failure: Failure | None, *, slow: bool
    ) -> None:
        """Tell the object, which counts, decides and acts. Its exclusions and listeners are to see the user's own
        error."""
        failed = failure is not None
        if failed and isinstance(era, HalfOpen):
            self._why = Opens("a failed probe")
        told = (PolicyTimeoutError() if error is None else error) if failed else None
        traceback = None if told is None else told.__traceback__
        try:
            self._breaker.call(_end, told)
        except BaseException as raised:
            # What it was told, or in its place pybreaker's own; or an exception from outside, which goes on as itself.
            came = raised.__context__ if isinstance(raised, pybreaker.CircuitBreakerError) else raised
            if came is not None and came is not told and came is not error:
                raise came from None
        finally:
            self._why = Opens("")
            if told is not None:
                BaseException.with_traceback(told, traceback)  # errors may refuse the assignment

    def _sync(self) -> None:
        """Notice what happened past the policy: a change of state or another opening in a storage shared with others,
        another `reset_timeout`."""
        self.reset_timeout = self._breaker.reset_timeout
        if self._breaker.current_state != self._era.name:
            with self._lock:
                self._looks = True
                try:
                    state = self._breaker.state.name  # tells the listeners, unless the object was made in that state
                    if state != self._era.name:
                        self._changed(self._era.name, state)
                finally:
                    self._looks = False
        era = self._era
        if isinstance(era, Open):
            era.until = self._open_until()

    def _shield(self) -> None:
        """See to it that no listener can break a call: new ones get a shield around them, in their place."""
        for listener in self._breaker.listeners:
            if not isinstance(listener, _Shield | Listener):
                with self._lock:
                    self._breaker.remove_listener(listener)
                    self._breaker.add_listener(_Shield(listener))

    @property
    def asks(self) -> bool:
        return bool(self._breaker.excluded_exceptions)

    def _verdict(self, error: Exception, failure: Failure) -> Verdict:
        if isinstance(error, Rejected) or failure.kind == "control" or not self._breaker.is_system_error(error):
            return "neutral"
        return "failure"

    def describe(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "native": "pybreaker.CircuitBreaker",
            "name": self._breaker.name,
            "failures": self._breaker.fail_max,
            "reset_timeout": self._breaker.reset_timeout,
            "successes": self._breaker.success_threshold,
            "state": self._breaker.current_state,
            "metrics": self.metrics(),
        }

    def __repr__(self) -> str:
        return f"pybreaker.CircuitBreaker(name={self._breaker.name!r}) <{self._breaker.current_state}>"


class _Shield(pybreaker.CircuitBreakerListener):
    """A user's listener that cannot break a call: its first failure is logged, the rest are dropped. Equal to what it
    shields, so that `remove_listener` still finds it."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._failed = False

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._listener

    __hash__ = None  # type: ignore[assignment]  # equal to an object with a hash of its own

    def tell(self, what: str, *args: Any, **kwargs: Any) -> None:
        try:
            getattr(self._listener, what)(*args, **kwargs)
        except Exception:
            if not self._failed:
                self._failed = True
                events.logger.exception(
                    "listener %r failed in %s; further failures of it are not logged", self._listener, what
                )


for _what in ("before_call", "failure", "success", "state_change"):
    setattr(_Shield, _what, partialmethod(_Shield.tell, _what))


def _end(error: Exception | None) -> None:
    if error is not None:
        raise error


def adapt_native(thing: Any) -> Strategy | None:
    """The adapter of a pybreaker object, None for anything else. It hears of changes as one of the object's listeners,
    and so lives as long as that."""
    return shared(thing, lambda: _Native(thing)) if isinstance(thing, pybreaker.CircuitBreaker) else None
