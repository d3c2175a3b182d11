"""What tenacity's objects see of a call, and what they are: state, outcome, names."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal

import tenacity
from tenacity import RetryCallState, TryAgain, retry_base, retry_never

from resilient_agents.backoff import Backoff
from resilient_agents.base.chance import chance
from resilient_agents.budget import RetryBudget, UnderWay
from resilient_agents.classify import Failure
from resilient_agents.core.call import Call, Closer
from resilient_agents.core.given_up import Moment, set_cause
from resilient_agents.core.match import meant
from resilient_agents.errors import ResilienceError

__all__ = [
    "IDLE",
    "Outcome",
    "RetryCallState",
    "State",
    "TryAgain",
    "action",
    "ignores_results",
    "intends",
    "named",
    "retry_base",
    "retry_never",
]

RETRY_AFTER_JITTER: Final = 0.1
"""A wait that a server asked for gets up to this share longer: clients that were sent away together must not come
back together."""


class Outcome(tenacity.Future):
    """tenacity's Future for an attempt that is over, which needs no lock: that would be most of its cost."""

    _state = "FINISHED"
    _condition: Any = nullcontext()
    _result: Any
    _exception: Any

    def __init__(self, attempt_number: int, result: Any, error: Exception | None) -> None:
        self.attempt_number = attempt_number
        self._result = result
        self._exception = error


class State(RetryCallState):
    """tenacity's state of one call, as its objects and hooks see it, and what the loop itself remembers.

    It is made in the midst of a failure, so it sets what differs, and tenacity's constructor does not run.

    `most`: how many attempts there may be; `since`: when the present one began; `over`: it has ended; `error`,
    `result`: what `outcome` then holds, and until then what came of the one before; `failure`: what kind of outcome
    that is, where somebody had to know; `real`: the last error that is not one of a policy's own; `asked`: the seconds
    that the server asked for; `reason`: where the wait comes from; `given_up`: it was to be retried and is not any
    more; `counted`: what the budget counts of the call, where it counts what is in flight.
    """

    outcome_timestamp: float | None = None
    idle_for = 0.0
    next_action: Any = None

    result: Any = None
    real: Exception | None = None
    given_up = False
    counted: UnderWay | None = None
    _retry: UnderWay | None = None
    _outcome: Any = None

    # What every failure looks at has no default here: an object's own is then read ten times as fast.
    retry_object: Any
    call: Call
    since: Moment
    most: float
    attempt_number: int
    upcoming_sleep: float  # before tenacity 9 a state had none
    over: bool
    error: Exception | None
    failure: Failure | None
    asked: float | None
    asked_for_longer: bool

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__  # half of what a method takes

    fn = property(lambda self: self.call.fn)
    args = property(lambda self: self.call.args)
    kwargs = property(lambda self: self.call.kwargs)

    @property
    def outcome(self) -> Any:
        """Made when somebody looks at it: the usual wait and stop do not."""
        if self.over and self._outcome is None:
            self._outcome = Outcome(self.attempt_number, self.result, self.error)
        return self._outcome

    @outcome.setter
    def outcome(self, outcome: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # reads alike
        self._outcome = outcome

    def answered(self, result: Any) -> None:
        """The present attempt had this result."""
        self.over = True
        self.result = result
        self.error = self.failure = None

    def longer(self, delay: float, asked: float) -> float:
        """The wait before the next attempt: `delay`, or what the server asks for, if that is longer."""
        self.asked_for_longer = asked > delay
        return asked * (1 + RETRY_AFTER_JITTER * chance.random()) if asked > delay else delay

    @property
    def reason(self) -> Literal["backoff", "retry_after"]:
        return "retry_after" if self.asked is not None and self.asked_for_longer else "backoff"

    def withdraw(self, budget: RetryBudget) -> bool:
        """May another attempt follow? The one that has failed is over."""
        if self._retry is not None:
            self._retry.end()
        self._retry = budget.withdraw()
        return self._retry is not None

    def counted_until(self, closers: list[Closer] | None) -> None:
        """The call is over, or will be when these run, and with it its last retry."""
        for counted in (self.counted, self._retry):
            if counted is not None:
                counted.end(closers)

    def blame(self) -> None:
        """An error of a policy's own leaves as if raised `from` the last real error of this call."""
        error = self.error
        if isinstance(error, ResilienceError) and self.real is not None and error.__cause__ is None:
            set_cause(error, self.real)


_ERRORS_ONLY = frozenset(
    kind.__call__ for kind in (tenacity.retry_if_exception, tenacity.retry_if_exception_cause_type, type(retry_never))
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


action = tenacity.RetryAction
"""What `next_action` of a state is: made of the seconds to sleep."""

IDLE: Final = (tenacity.before_nothing, tenacity.after_nothing, tenacity.before_sleep_nothing)
"""Hooks that do nothing."""


def named(part: Any) -> str | None:
    """A part by name: its own repr may hold anything."""
    if part is None or isinstance(part, Backoff):
        return None if part is None else repr(part)
    return getattr(part, "__qualname__", None) or type(part).__name__
