"""`Retry`: try again, decided by tenacity's retry, wait and stop objects."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from resilient_agents.adapters.counts import RetryCounts
from resilient_agents.adapters.retry_choice import already_retried, any_says_yes, flat, sorted_choices
from resilient_agents.adapters.retry_ending import known
from resilient_agents.adapters.retry_loop import RetryLoop
from resilient_agents.adapters.retry_state import (
    RetryCallState,
    State,
    TryAgain,
    ignores_results,
    intends,
    named,
    retry_base,
)
from resilient_agents.backoff import exponential, fibonacci, fixed, linear
from resilient_agents.budget import RetryBudget, followed
from resilient_agents.classify import is_transient
from resilient_agents.core import given_up
from resilient_agents.core.call import Call
from resilient_agents.core.match import ask, meant
from resilient_agents.core.options import Code, Configured, Count, Errors, Made, Results, Seconds, Wait
from resilient_agents.errors import Rejected

__all__ = ["Retry"]

Choice: TypeAlias = type[Exception] | Callable[[Exception], object] | retry_base
Hook: TypeAlias = Callable[[RetryCallState], object]
Waiting: TypeAlias = Callable[[RetryCallState], float]
Stop: TypeAlias = Callable[[RetryCallState], bool]

_DEFAULT_WAIT = exponential()
_APART = (Rejected, ExceptionGroup)
"""Errors that not every class that they are of means."""
_BROAD = (Exception, RuntimeError)  # which do not mean them
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
            of these, any of which may say yes. By default the transient ones (`is_transient`), unless a policy inside
            has already retried that error to its end. A type also matches a group if it matches all its members; a
            policy's own rejections are matched only by a type that means them (`Rejected`, `CircuitOpenError` ...),
            not by `Exception` or `RuntimeError`, and so is what frameworks steer with (kind `control`, such as
            LangGraph's interrupts), which no predicate is asked about either.
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

    _types: tuple[Any, ...]
    _broad = False
    _predicates: tuple[Any, ...] = ()
    _natives: tuple[Any, ...] = ()
    _transient = False
    _result_natives: tuple[Any, ...] = ()
    _when: Callable[[Any], object] | None = None

    _latest: ClassVar[list[tuple[Callable[[], Retry | None], Mapping[str, Any]]]] = [(lambda: None, {})]
    """One, in a list: a class that is changed a thousand times is slow to look at for good, from Python 3.13 on."""

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
        given = locals()
        if self._is_like_latest(given):
            return
        self.take(given)
        if attempts is None and stop is None:
            raise ValueError("attempts must be an int unless stop= is given: without either a failing call never ends")
        self._sort_choices(on, when)
        judges = {f"on[{number}]": native for number, native in enumerate(self._natives)}
        if isinstance(when, retry_base):
            judges["when"] = when
        super().__init__(
            {"wait": wait, "stop": stop, "before": before, "after": after, "before_sleep": before_sleep}, judges
        )
        if type(self) is Retry:  # what a subclass keeps is its own affair
            self._become_latest()

    def _become_latest(self) -> None:
        """Remember what was checked and derived for this one: the next that is made is often given the very same, by a
        factory of policies for many keys."""

        def gone(reference: object) -> None:
            if latest[0][0] is reference:
                latest[0] = (lambda: None, {})

        latest = self._latest
        latest[0] = weakref.ref(self, gone), dict(vars(self))

    def _is_like_latest(self, given: Mapping[str, Any]) -> bool:
        """Was that one given the very same, and lives, and is as it was made? Then this one has all that it has, but
        counts for itself."""
        latest, kept = self._latest[0]
        like: Any = latest()
        if type(like) is not type(self) or vars(like) != kept:
            return False
        for option in self.OPTIONS:
            if given[option] is not getattr(like, option):
                return False
        own = vars(self)
        for name, value in kept.items():
            own[name] = value
        self.counts = RetryCounts()
        return True

    def _keep(self, **facts: Any) -> None:
        """Remember what differs from the class: most retries have few options."""
        for name, fact in facts.items():
            if fact is not None and fact is not False and fact != ():
                setattr(self, name, fact)

    def _sort_choices(self, on: Any, when: Any) -> None:
        types, predicates, natives = sorted_choices(on)
        of_results = tuple(native for native in natives if not ignores_results(native))
        plain = not isinstance(when, retry_base)
        self._types = types
        self._keep(
            _broad=any(kind in _BROAD for kind in types),
            _predicates=tuple(predicate for predicate in predicates if predicate is not is_transient),
            _natives=natives,
            _transient=is_transient in predicates,
            _result_natives=of_results if plain else (*of_results, when),
            _when=when if plain else None,
        )
        self.judges_results = self._when is not None or bool(self._result_natives)
        self.asks = self.on is not is_transient
        self.timed = self._transient

    @property
    def alone(self) -> bool:
        """May its first attempt be made without it, or outside of its loop? Then nothing comes before that
        attempt, and no result is looked at."""
        return self.plain and not (self._prepares or self.judges_results)

    def accepts(self, call: Call, result: Any) -> bool:
        if self._result_natives or self._when is None:
            return False
        judged = None if call.audience is None else call.audience.judged
        if judged is not None and judged[0] is result:  # asked when the attempt ended, for those who count failures
            return not judged[1]
        return not ask(self._when, result)

    def failed(self, result: Any) -> bool | None:
        """What `when` says of a result, for those who count attempts; None where the loop alone asks."""
        return ask(self._when, result) if self._when is not None and not self._result_natives else None

    def judge(self, state: State) -> Any:
        error = state.error
        try:
            if error is None:
                return self._judge_result(state)
            failure = state.failure or known(state)
            steers = failure.kind == "control"
            if not steers and isinstance(error, self._types) and not (self._broad and isinstance(error, _APART)):
                return True  # as `_matches` would say, of most errors
            if isinstance(error, TryAgain):
                return True
            if self._transient and failure.transient and not already_retried(error, state.since):
                return True
            if self._types and self._matches(error, state.since):
                return True
            if steers:
                return any(intends(native, error) for native in self._natives) and any_says_yes(self._natives, state)
            for predicate in self._predicates:
                if ask(predicate, error):
                    return True
            return any_says_yes(self._natives, state)
        finally:
            del error, state

    def _judge_result(self, state: State) -> Any:
        if not self._result_natives:
            return True  # `accepts` has asked
        if self._when is not None and ask(self._when, state.result):
            return True
        return any_says_yes(self._result_natives, state)

    def left_alone(self, call: Call, state: State) -> None:
        """Say why the default did not retry an error that it knows nothing about."""
        super().left_alone(call, state)
        failure, error = state.failure, state.error
        only_default = self._transient and not (self._types or self._natives or self._predicates)
        if not only_default or self.attempts == 1 or failure is None or error is None:
            return
        if failure.kind == "unknown" and not failure.transient and not given_up.exhausted_since(error, state.since):
            given_up.note(error, f"not retried: {type(error).__name__} is 'unknown'; pass on=")

    def _matches(self, error: Exception, since: given_up.Moment) -> bool:
        """Whether the types mean `error`, or all that is in it, however deep, where transient leaves may stay out."""
        for found in (todo := [error]):  # which grows
            apart = isinstance(found, _APART)
            types = tuple(kind for kind in self._types if not (apart and kind in _BROAD))
            if isinstance(found, types) and meant(found, types):
                continue
            if found is not error and self._transient and is_transient(found) and not already_retried(found, since):
                continue
            if not isinstance(found, ExceptionGroup):
                return False
            todo.extend(found.exceptions)
        return True

    def take_over(self, old: Retry) -> None:
        """Go on counting for the retry whose place this one takes, and with its budget, under the numbers of its
        own."""
        self.counts = old.counts
        self.budget = followed(old.budget, self.budget)
