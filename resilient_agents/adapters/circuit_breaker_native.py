"""pybreaker's own `CircuitBreaker` as a strategy."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pybreaker

from resilient_agents import events
from resilient_agents.adapters.breaking import Breaking
from resilient_agents.adapters.circuit import Circuit, Listener, inside
from resilient_agents.adapters.tally import Verdict
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.classify import Failure
from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected

__all__ = ["adapt_native"]

_making = Lock()
"""Held while the adapter is looked for on a native object, and made if there is none."""


class NativeBreaker(Breaking):
    """A pybreaker object as it is: its threshold, timeout, storage, listeners and exclusions, but admission and
    recording of circuit.py.

    What it excludes is neutral, the call that trips it keeps the user's error, and its listeners cannot break a call.
    They hear of a call when its outcome is recorded.
    """

    def __init__(self, breaker: pybreaker.CircuitBreaker) -> None:
        self._native = breaker
        self._circuit = Circuit(
            breaker,
            reset_after=lambda openings: breaker.reset_timeout,
            opened_at=_Opening(inside(breaker, "_state_storage")),
            tells_all=True,
        )
        reset_after_fork(self._circuit)
        instances.add("native_circuit_breaker", self)

    shadow = False

    @property
    def name(self) -> str | None:
        return self._native.name

    @property
    def state(self) -> str:
        return self._native.current_state

    def execute(self, proceed: Proceed, call: Call) -> Any:
        if not all(_cannot_break(listener) for listener in self._native.listeners):
            self._circuit.shield(_cannot_break, _Shield)
        self._circuit.sync()
        return super().execute(proceed, call)

    def metrics(self) -> dict[str, Any]:
        self._circuit.sync()
        return super().metrics()

    def _verdict(self, error: Exception, failure: Failure) -> Verdict:
        if isinstance(error, Rejected) or failure.kind == "control" or not self._native.is_system_error(error):
            return "neutral"
        return "failure"

    def describe(self) -> dict[str, Any]:
        return {
            "strategy": "circuit_breaker",
            "native": "pybreaker.CircuitBreaker",
            "name": self._native.name,
            "failures": self._native.fail_max,
            "reset_timeout": self._native.reset_timeout,
            "successes": self._native.success_threshold,
            "state": self._native.current_state,
            "metrics": self.metrics(),
        }

    def __repr__(self) -> str:
        return f"pybreaker.CircuitBreaker(name={self._native.name!r}) <{self._native.current_state}>"


class _Opening:
    """When a storage says that the circuit opened, as a moment of the monotonic clock.

    Storages tell the time of the wall clock, which is looked at once for each opening.
    """

    def __init__(self, storage: pybreaker.CircuitBreakerStorage) -> None:
        self._storage = storage
        self._told: datetime | None = None
        self._moment = -math.inf

    def __call__(self) -> float:
        told = self._storage.opened_at
        if told != self._told:
            self._told = told
            self._moment = -math.inf  # pybreaker probes at once where nobody knows since when it is open
            if told is not None:
                age = datetime.now(UTC) - (told if told.tzinfo is not None else told.replace(tzinfo=UTC))
                self._moment = clock.monotonic() - age.total_seconds()
        return self._moment


def _cannot_break(listener: object) -> bool:
    return isinstance(listener, _Shield | Listener)


class _Shield(pybreaker.CircuitBreakerListener):
    """A user's listener that cannot break a call: its first failure is logged, the rest are dropped. Equal to what it
    shields, so that
    `remove_listener` still finds it."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._failed = False

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._listener

    __hash__ = None  # type: ignore[assignment]  # equal to an object with a hash of its own

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self._tell("before_call", cb, func, *args, **kwargs)

    def failure(self, cb: Any, exc: BaseException) -> None:
        self._tell("failure", cb, exc)

    def success(self, cb: Any) -> None:
        self._tell("success", cb)

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._tell("state_change", cb, old_state, new_state)

    def _tell(self, what: str, *args: Any, **kwargs: Any) -> None:
        try:
            getattr(self._listener, what)(*args, **kwargs)
        except Exception:
            if not self._failed:
                self._failed = True
                events.logger.exception(
                    "listener %r failed in %s; further failures of it are not logged", self._listener, what
                )


def adapt_native(thing: Any) -> NativeBreaker | None:
    """The adapter of a pybreaker object: one for all policies that use it, kept on the object, so that they are one
    circuit."""
    if not isinstance(thing, pybreaker.CircuitBreaker):
        return None
    with _making:
        adapter: NativeBreaker | None = thing.__dict__.get("_resilient_agents")
        if adapter is None:
            adapter = thing.__dict__["_resilient_agents"] = NativeBreaker(thing)
        return adapter
