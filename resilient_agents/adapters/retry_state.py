"""What tenacity's objects see of a call, and what they are: state, outcome, names."""

from __future__ import annotations

import threading
from typing import Any, Literal

import tenacity
from tenacity import RetryCallState

from resilient_agents.backoff import Backoff
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure
from resilient_agents.core.call import Call
from resilient_agents.core.marks import set_cause
from resilient_agents.core.match import meant
from resilient_agents.errors import ResilienceError

__all__ = ["Outcome", "State", "hooks", "ignores_results", "intends", "named"]


class Outcome(tenacity.Future):
    """tenacity's Future for an attempt that is over. Its lock, which is most of its cost, is made when somebody asks
    for it."""

    _state = "FINISHED"
    _result: Any
    _exception: Any

    def __init__(self, attempt_number: int, result: Any, error: Exception | None) -> None:
        self.attempt_number = attempt_number
        self._result = result
        self._exception = error

    def __getattr__(self, name: str) -> Any:
        if name != "_condition":
            raise AttributeError(name)
        self._condition = made = threading.Condition()
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {"attempt_number": self.attempt_number, "_result": self._result, "_exception": self._exception}

    @property
    def failed(self) -> bool:
        return self._exception is not None

    def exception(self, timeout: float | None = None) -> Any:
        return self._exception

    def result(self, timeout: float | None = None) -> Any:
        if self._exception is None:
            return self._result
        try:
            raise self._exception
        finally:
            del self


class State(RetryCallState):
    """tenacity's state of one call, as its objects and hooks see it, and what the loop itself remembers.

    `error`, `result`: what `outcome` holds; `failure`: what kind of outcome that is, where somebody had to know;
    `real`: the last error that is not one of a policy's own; `given_up`: it was to be retried and is not any more;
    `reason`: where the wait comes from.
    """

    error: Exception | None = None
    result: Any = None
    failure: Failure | None = None
    real: Exception | None = None
    given_up = False
    reason: Literal["backoff", "retry_after"] = "backoff"
    _outcome: Outcome | None = None
    _over = False

    def __init__(self, shown: Any, call: Call, began: float) -> None:
        super().__init__(shown, call.fn, call.args, call.kwargs)
        self.start_time = began
        self.upcoming_sleep = 0.0  # before tenacity 9 a state had none

    @property
    def outcome(self) -> Any:
        """Made when somebody looks at it: the usual wait and stop do not."""
        if self._over and self._outcome is None:
            self._outcome = Outcome(self.attempt_number, self.result, self.error)
        return self._outcome

    @outcome.setter
    def outcome(self, outcome: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # reads alike
        self._over = False
        self._outcome = outcome

    def ended(self, result: Any, error: Exception | None) -> None:
        self.outcome_timestamp = clock.monotonic()
        self.error = error
        self.result = result
        self.failure = None
        self._over = True
        if error is not None and not isinstance(error, ResilienceError):
            self.real = error

    def blame(self) -> None:
        """An error of a policy's own leaves as if raised `from` the last real error of this call."""
        error = self.error
        if isinstance(error, ResilienceError) and self.real is not None and error.__cause__ is None:
            set_cause(error, self.real)


_ERRORS_ONLY = frozenset(
    kind.__call__
    for kind in (tenacity.retry_if_exception, tenacity.retry_if_exception_cause_type, type(tenacity.retry_never))
)


def ignores_results(native: Any) -> bool:
    """Does this tenacity retry object say no to every result without looking? By the method, so that subclasses
    count."""
    method: Any = getattr(type(native), "__call__", None)  # noqa: B004 - its method is asked for, not whether it has one
    if method is tenacity.retry_any.__call__ or method is tenacity.retry_all.__call__:
        return bool(native.retries) and all(map(ignores_results, native.retries))  # an empty `retry_all` says yes
    return method in _ERRORS_ONLY


def intends(native: Any, error: Exception) -> bool:
    """Does this tenacity retry object name the class of `error`, which frameworks steer with, or a part of it does?"""
    if isinstance(native, tenacity.retry_if_exception_type):
        types = native.exception_types
        return meant(error, types if isinstance(types, tuple) else (types,))
    return any(intends(part, error) for part in getattr(native, "retries", ()))


def hooks(options: Any) -> dict[str, str | None]:
    return {name: named(getattr(options, name)) for name in ("before", "after", "before_sleep")}


def named(part: Any) -> str | None:
    """A part by name: its own repr may hold anything."""
    if part is None or isinstance(part, Backoff):
        return None if part is None else repr(part)
    return getattr(part, "__qualname__", None) or type(part).__name__
