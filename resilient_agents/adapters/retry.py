"""`Retry`: try again, decided by tenacity's retry, wait and stop objects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from resilient_agents.adapters.retry_choice import chosen, flat
from resilient_agents.adapters.retry_loop import RetryLoop
from resilient_agents.adapters.retry_state import RetryCallState, State, named, retry_base, retry_never
from resilient_agents.backoff import Backoff, exponential, fibonacci, fixed, linear
from resilient_agents.budget import RetryBudget, followed
from resilient_agents.classify import is_transient
from resilient_agents.core import given_up
from resilient_agents.core.call import Call
from resilient_agents.core.options import Code, Configured, Count, Errors, Made, Results, Seconds, Wait

__all__ = ["Retry"]

Choice: TypeAlias = type[Exception] | Callable[[Exception], object] | retry_base
Hook: TypeAlias = Callable[[RetryCallState], object]
Waiting: TypeAlias = Callable[[RetryCallState], float]
Stop: TypeAlias = Callable[[RetryCallState], bool]

_DEFAULT_WAIT = exponential()
_BUILDERS: tuple[Any, ...] = (exponential, fibonacci, fixed, linear)


def _check_wait(wait: Any, name: str) -> Any:
    if any(wait is builder for builder in _BUILDERS):
        raise TypeError(f"{name} must be called: {getattr(wait, '__name__', wait)}(...), got the function itself")
    if not callable(wait) or isinstance(wait, type):
        raise TypeError(f"{name} must be a wait object such as exponential() or fixed(2), got {wait!r}")
    return wait


def _check_hook(part: Any, name: str) -> Any:
    if not callable(part) or isinstance(part, type):
        raise TypeError(f"{name} must be a function of tenacity's RetryCallState or None, got {part!r}")
    return part


class _Part(Code):
    """A function, or an object of tenacity's, by name: its own repr may hold anything."""

    def shown(self, value: Any) -> Any:
        return named(value)


class _Wait(_Part, Wait):
    """The same for how long to wait; ours show their numbers."""


class _When(_Part, Results):
    """Which results are retried."""

    def checked(self, value: Any, name: str) -> Any:
        return value if isinstance(value, retry_base) else super().checked(value, name)


class _Choices(Errors):
    """Which errors are retried; checked when they are sorted."""

    def checked(self, value: Any, name: str) -> Any:
        return value

    def shown(self, value: Any) -> list[Any]:
        return [named(part) for part in flat(value)]


class Retry(Configured, RetryLoop):
    """Try again, as tenacity would. `Retry(3)` makes at most three attempts, with jittered exponential waits between.

    What comes out in the end is the last result or the last error, the same object, with a note on it: `gave up after
    3 attempts in 2.1 s`. Only `Exception` is looked at: cancellation and the interpreter's exit are never retried. A
    stream is retried before its first item.

    Args:
        attempts: How many attempts at most, the first included (default 3; 1 means no retry). None, which needs
            `stop`: no such limit. `attempts` and `stop`: whichever says stop first.
        on: Which errors are retried: an exception type, a predicate on the error, a tenacity retry object, or a tuple
            of these, any of which may say yes (several of tenacity's are joined by its own `|`). By default the
            transient ones (`is_transient`), unless a policy inside has already retried that error to its end. A type
            also matches a group if it matches all its members; a policy's own rejections are matched only by a type
            that means them (`Rejected`, `CircuitOpenError` ...), not by `Exception` or `RuntimeError`, and so is what
            frameworks steer with (kind `control`, such as LangGraph's interrupts), which no predicate is asked about
            either.
        when: Which results are retried: a predicate such as `http_failure`, or a tenacity retry object. It is not
            asked on streams.
        wait: A tenacity wait object, or any function of tenacity's state that returns seconds (default
            `exponential()`).
        stop: A tenacity stop object, or any function of tenacity's state that returns a bool (default None).
        budget: A `RetryBudget`, usually shared. Once it is spent the last error comes out at once (default None).
        max_retry_after: A server's Retry-After that is longer than the wait takes its place, with a jitter of up to a
            tenth on top. One beyond this many seconds (float or timedelta, default 60; None: no limit) ends the call.
        before, after, before_sleep: tenacity hooks, functions of its state: before each attempt, after each outcome
            that is to be retried, and before each wait. They may be async where the call is.

    A wait that would pass the deadline in force ends the call at once, too.

    Raises TypeError or ValueError, when built, for an argument of a wrong type or value; the message names it.
    """

    strategy = "retry"
    OPTIONS = MappingProxyType(
        {
            "attempts": Count(none=True),
            "on": _Choices(),
            "when": _When(),
            "wait": _Wait(check=_check_wait),
            "stop": _Part(none=True, check=_check_hook),
            "budget": Made(type=RetryBudget),
            "max_retry_after": Seconds(none=True),
            "before": _Part(none=True, check=_check_hook),
            "after": _Part(none=True, check=_check_hook),
            "before_sleep": _Part(none=True, check=_check_hook),
        }
    )
    minds_retry_after: ClassVar[bool] = True

    on: Choice | tuple[Choice, ...]
    when: Callable[[Any], object] | retry_base | None
    wait: Waiting
    stop: Stop | None
    max_retry_after: float | None
    before: Hook | None
    after: Hook | None
    before_sleep: Hook | None

    def __init__(
        self,
        attempts: int | None = 3,
        *,
        on: Choice | tuple[Choice, ...] = is_transient,
        when: Callable[[Any], object] | retry_base | None = None,
        wait: Waiting = _DEFAULT_WAIT,
        stop: Stop | None = None,
        budget: RetryBudget | None = None,
        max_retry_after: float | timedelta | None = 60.0,
        before: Hook | None = None,
        after: Hook | None = None,
        before_sleep: Hook | None = None,
    ) -> None:
        self.take(locals())
        if attempts is None and stop is None:
            raise ValueError("attempts must be an int unless stop= is given: without either a failing call never ends")
        self._choice = choice = chosen(on, when)
        self.judge = choice.judge
        self.judges_results = choice.judges_results
        self.asks = on is not is_transient
        ours = isinstance(wait, Backoff) and choice.native is choice.of_results is retry_never
        self.plain = ours and stop is before is after is before_sleep is None
        super().__init__(on=choice.native, when=choice.of_results)
        self.timed = choice.transient or not self.alone

    @property
    def alone(self) -> bool:
        """May its first attempt be made without it, or outside of its loop? Then nothing comes before that
        attempt, and no result is looked at."""
        return self.plain and not (self._prepares or self.judges_results)

    def accepts(self, call: Call, result: Any) -> bool:
        judged = None if call.audience is None else call.audience.judged
        if judged is not None and judged[0] is result:  # asked when the attempt ended, for those who count failures
            return not judged[1]
        return self._choice.failed(result) is False

    def failed(self, result: Any) -> bool | None:
        """What `when` says of a result, for those who count attempts; None where the loop alone asks."""
        return self._choice.failed(result)

    def left_alone(self, call: Call, state: State) -> None:
        """Say why the default did not retry an error that it knows nothing about."""
        failure, error = state.failure, state.error
        if self.asks:
            self.chose(call, state, "no")
        elif (
            failure is not None
            and error is not None
            and failure.kind == "unknown"
            and not failure.transient
            and self.attempts != 1
            and not given_up.exhausted_since(error, state.since)
        ):
            given_up.note(error, f"not retried: {type(error).__name__} is 'unknown'; pass on=")

    def take_over(self, old: Retry) -> None:
        """Go on counting for the retry whose place this one takes, and with its budget, under the numbers of its
        own."""
        self.counts = old.counts
        self.budget = followed(old.budget, self.budget)
