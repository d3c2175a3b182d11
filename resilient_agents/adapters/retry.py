"""Retry, decided by tenacity: our strategy over its parts, and its own `Retrying` and `AsyncRetrying` as strategies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

import anyio
import tenacity
from tenacity import RetryCallState, RetryError, TryAgain, retry_base

from resilient_agents.adapters.retry_loop import RERAISE, RetryLoop, State
from resilient_agents.backoff import Backoff, exponential
from resilient_agents.budget import RetryBudget
from resilient_agents.classify import classify, is_transient
from resilient_agents.core import marks
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.core.match import matcher
from resilient_agents.core.runtime import is_awaitable, settle
from resilient_agents.durations import positive_int, seconds
from resilient_agents.errors import Rejected

__all__ = ["Retry", "adapt_native"]

Choice: TypeAlias = type[Exception] | Callable[[Exception], object] | retry_base
Hook: TypeAlias = Callable[[RetryCallState], object]
Wait: TypeAlias = Callable[[RetryCallState], float]
Stop: TypeAlias = Callable[[RetryCallState], bool]

_DEFAULT_WAIT = exponential()


class Retry(RetryLoop):
    """Try again, as tenacity would: `Retry(3)` makes at most three attempts, with a jittered exponential wait between them.

    What comes out in the end is the last result or the last error, the same object, with a note: `gave up after 3 attempts in 2.1 s`.
    Only `Exception` is looked at: cancellation and the interpreter's exit are never retried. A stream is retried before its first item.

    Args:
        attempts: How many attempts at most, the first included (default 3; 1 means no retry). None: `stop` alone decides.
        on: Which errors are retried: an exception type, a predicate on the error, a tenacity retry object, or a tuple of these, any of
            which may say yes. By default the transient ones (`is_transient`), unless a policy inside has already retried that error to
            the end. A type also matches a group all of whose members it matches; a policy's own rejections are matched only by a type
            that means them (`Rejected`, `CircuitOpenError` ...), not by `Exception` or `RuntimeError`.
        when: Which results are retried: a predicate such as `http_failure`, or a tenacity retry object. Not asked on streams.
        wait: A tenacity wait object, or any function of tenacity's state that returns seconds (default `exponential()`).
        stop: A tenacity stop object, or any such function that returns a bool. `attempts` and `stop`: whichever says stop first.
        budget: A `RetryBudget` shared with others. Once it is spent the last error comes out at once.
        max_retry_after: A server's Retry-After that is longer than the wait replaces it, and gets up to a tenth longer by jitter. One
            beyond this many seconds (float or timedelta, default 60; None for no limit) ends the call at once.
        before, after, before_sleep: tenacity hooks: functions of its state, called before each attempt, after each outcome that is to
            be retried, and before each wait. They may be async where the call is.

    The call also ends at once when the wait would pass the deadline in force.

    Raises TypeError or ValueError, when built, for an argument of a wrong type or value; the message names it.
    """

    minds_retry_after: ClassVar[bool] = True

    def __init__(
        self,
        attempts: int | None = 3,
        *,
        on: Choice | tuple[Choice, ...] = is_transient,
        when: Callable[[Any], object] | retry_base | None = None,
        wait: Wait = _DEFAULT_WAIT,
        stop: Stop | None = None,
        budget: RetryBudget | None = None,
        max_retry_after: float | timedelta | None = 60.0,
        before: Hook | None = None,
        after: Hook | None = None,
        before_sleep: Hook | None = None,
    ) -> None:
        if attempts is not None:
            self.attempts = positive_int(attempts, "attempts")
        elif stop is None:
            raise ValueError("attempts must be an int unless stop= is given: without either a failing call never ends")
        if when is not None and (not callable(when) or isinstance(when, type)):
            raise TypeError(f"when must be a predicate on results, a tenacity retry object or None, got {when!r}")
        if not callable(wait) or isinstance(wait, type):
            raise TypeError(f"wait must be a wait object such as exponential() or fixed(2), got {wait!r}")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise TypeError(f"budget must be a RetryBudget or None, got {budget!r}")
        for name, part in {"stop": stop, "before": before, "after": after, "before_sleep": before_sleep}.items():
            if part is not None and (not callable(part) or isinstance(part, type)):
                raise TypeError(f"{name} must be a function of tenacity's RetryCallState or None, got {part!r}")
        self.on = on
        self.when = when
        self.wait = wait
        self.stop = stop
        self.budget = budget
        self.max_retry_after = None if max_retry_after is None else seconds(max_retry_after, "max_retry_after")
        self.before = before
        self.after = after
        self.before_sleep = before_sleep
        types, predicates, natives = _sorted(on)
        self._transient = is_transient in predicates
        self._types = types
        self._named = tuple(kind for kind in types if not issubclass(Rejected, kind) or issubclass(kind, Rejected.__mro__[1]))
        self._predicates = tuple(predicate for predicate in predicates if predicate is not is_transient)
        self._natives = natives
        self._only_default = self._transient and not (types or natives or self._predicates)
        self._result_natives = tuple(native for native in natives if not _ignores_results(native))
        if isinstance(when, retry_base):
            self._result_natives += (when,)
        self._when = None if isinstance(when, retry_base) else when
        self.judges_results = self._when is not None or bool(self._result_natives)
        super().__init__(
            {
                "wait": wait,
                "stop": stop,
                "before": before,
                "after": after,
                "before_sleep": before_sleep,
                **{f"on[{number}]": native for number, native in enumerate(natives)},
                "when": when,
            }
        )

    def accepts(self, result: Any) -> bool:
        return not self._result_natives and self._when is not None and not self._when(result)

    def judge(self, call: Call, state: State, since: marks.Moment) -> Any:
        error = state.error
        try:
            if error is None:
                if self._when is not None and (not self._result_natives or self._when(state.result)):
                    return True  # without native objects `accepts` has asked before
                return bool(self._result_natives) and _any(self._result_natives, call, state)
            if self._transient and state.failure is not None and state.failure.transient and not _already_retried(error, since):
                return True
            if self._types and self._matches(error, since):
                return True
            for predicate in self._predicates:
                if predicate(error):
                    return True
            return bool(self._natives) and _any(self._natives, call, state)
        finally:
            del error, state

    def left_alone(self, state: State, since: marks.Moment) -> None:
        error = state.error
        if self._only_default and self.attempts != 1 and error is not None and state.failure is not None:
            if state.failure.kind == "unknown" and not state.failure.transient and not marks.exhausted_since(error, since):
                marks.note(error, f"not retried: {type(error).__name__} is 'unknown'; pass on=")

    def _matches(self, error: Exception, since: marks.Moment) -> bool:
        if isinstance(error, self._named if isinstance(error, Rejected) else self._types):
            return True
        if isinstance(error, ExceptionGroup):
            return all(
                self._matches(leaf, since)
                or (self._transient and is_transient(leaf) and not _already_retried(leaf, since))
                for leaf in error.exceptions
            )
        return False

    def describe(self) -> dict[str, Any]:
        """The options as plain data; functions and tenacity objects by name."""
        return {
            "strategy": "retry",
            "attempts": self.attempts,
            "on": [_named(part) for part in _flat(self.on)],
            "when": _named(self.when),
            "wait": _named(self.wait),
            "stop": _named(self.stop),
            "budget": None if self.budget is None else self.budget.describe(),
            "max_retry_after": self.max_retry_after,
            **_hooks(self),
        }

    def __repr__(self) -> str:
        parts = [repr(self.attempts)]
        if self.on is not is_transient:
            names = [str(_named(part)) for part in _flat(self.on)]
            parts.append(f"on=({', '.join(names)})" if len(names) > 1 else f"on={names[0]}")
        parts += [
            f"{option}={_named(getattr(self, option))}"
            for option in ("when", "wait", "stop", "before", "after", "before_sleep")
            if getattr(self, option) is not None and getattr(self, option) is not _DEFAULT_WAIT
        ]
        if self.budget is not None:
            parts.append(f"budget={self.budget!r}")
        if self.max_retry_after != 60.0:
            parts.append(f"max_retry_after={self.max_retry_after!r}")
        return f"Retry({', '.join(parts)})"


def adapt_native(thing: Any) -> Strategy | None:
    """A tenacity `Retrying` or `AsyncRetrying` as a strategy, None for anything else.

    It keeps its own decisions, hooks and ending (`RetryError`, `reraise`, `retry_error_cls`, `retry_error_callback`) and runs under every
    runtime, for any number of calls at once: nothing is written to it, so its `statistics` stay empty. What is changed on it later
    (`retrying.wait = ...`) counts from the next call on. It gains what a policy promises: cancellation is left alone, no wait passes
    the deadline, and an outer `Retry` leaves alone what this one has given up. It reads no Retry-After.

    Its ordinary sleep becomes that of the call. A `sleep` of its own is called as it is, and awaited if it answers with an awaitable.

    Raises TypeError for one whose class overrides tenacity's own loop, which would not run.
    """
    if not isinstance(thing, tenacity.Retrying | tenacity.AsyncRetrying):
        return None
    base: Any = tenacity.Retrying if isinstance(thing, tenacity.Retrying) else tenacity.AsyncRetrying
    for method in ("__call__", "iter"):
        if getattr(type(thing), method) is not getattr(base, method):
            raise TypeError(
                f"{type(thing).__name__} overrides {method} of tenacity's {base.__name__}, which a policy does not run: "
                f"give its retry, wait and stop objects to Retry(...)"
            )
    return _Native(thing)


class _Native:
    """A native object as a strategy. It is read anew when something on it was changed."""

    owns_attempts: ClassVar[bool] = True

    def __init__(self, native: Any) -> None:
        self.native = native
        self._read = (vars(native).copy(), _NativeLoop(native))

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        seen, loop = self._read
        if vars(self.native) != seen:
            self._read = seen, loop = vars(self.native).copy(), _NativeLoop(self.native)
        if not loop.enabled:
            return await proceed(call)
        return await loop.execute(proceed, call)

    def describe(self) -> dict[str, Any]:
        """The options as plain data; functions and tenacity objects by name."""
        native = self.native
        return {
            "strategy": "retry",
            "native": f"tenacity.{type(native).__name__}",
            "on": [_named(native.retry)],
            "wait": _named(native.wait),
            "stop": _named(native.stop),
            "reraise": native.reraise,
            "retry_error_cls": native.retry_error_cls.__name__,
            "retry_error_callback": _named(native.retry_error_callback),
            **_hooks(native),
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{option}={_named(getattr(self.native, option))}" for option in ("retry", "wait", "stop"))
        return f"{type(self.native).__name__}({shown})"

    def __reduce__(self) -> Any:
        return _Native, (self.native,)


_ORDINARY_SLEEPS = (
    tenacity.Retrying().sleep,
    tenacity.AsyncRetrying().sleep,
    time.sleep,
    asyncio.sleep,
    anyio.sleep,
)


class _NativeLoop(RetryLoop):
    def __init__(self, native: Any) -> None:
        self._native = native
        self._judge = native.retry
        self.enabled: bool = getattr(native, "enabled", True)  # since tenacity 9
        self.judges_results = not _ignores_results(native.retry)
        parts = {name: getattr(native, name) for name in ("retry", "wait", "stop", "before", "after", "before_sleep")}
        if native.sleep not in _ORDINARY_SLEEPS:
            parts["sleep"] = native.sleep
        super().__init__({**parts, "retry_error_callback": native.retry_error_callback}, native)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        if isinstance(self._sleep, tenacity.sleep_using_event) and not call.runtime.blocking:
            raise TypeError(
                "sleep_using_event blocks the thread that it sleeps in, which is the event loop's here: "
                "use an async function for sleep="
            )
        return await super().execute(proceed, call)

    def judge(self, call: Call, state: State, since: marks.Moment) -> Any:
        return self._judge(state)

    async def end(self, call: Call, state: State) -> Any:
        native, outcome, error, ending = self._native, state.outcome, state.error, None
        try:
            if native.retry_error_callback:
                answer = native.retry_error_callback(state)
                return await settle(call, answer) if is_awaitable(answer) else answer
            kind = native.retry_error_cls
            ordinary = getattr(kind, "reraise", None) is RetryError.reraise
            if native.reraise and ordinary and error is not None and not isinstance(error, TryAgain):
                return RERAISE  # what `reraise()` would raise, without its frames in the traceback
            ending = kind(outcome)
            if native.reraise:
                ending.reraise()
            raise ending from error
        finally:
            del outcome, error, ending, state


async def _any(natives: tuple[retry_base, ...], call: Call, state: State) -> bool:
    for native in natives:
        verdict: Any = native(state)
        if is_awaitable(verdict):
            verdict = await settle(call, verdict)
        if verdict:
            return True
    return False


def _flat(on: Any) -> list[Any]:
    return [part for item in on for part in _flat(item)] if isinstance(on, tuple) else [on]


def _sorted(on: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Exception types, predicates and tenacity objects. Raises TypeError or ValueError for anything else."""
    plain = [part for part in _flat(on) if not isinstance(part, retry_base)]
    natives = tuple(part for part in _flat(on) if isinstance(part, retry_base))
    if plain or not natives:
        matcher(tuple(plain) if isinstance(on, tuple) else on)  # the rules are the same everywhere
    types = tuple(part for part in plain if isinstance(part, type))
    return types, tuple(part for part in plain if not isinstance(part, type)), natives


def _already_retried(error: Exception, since: marks.Moment) -> bool:
    """Has a policy inside given it up during this attempt, it or the error that speaks for it?"""
    if marks.exhausted_since(error, since):
        return True
    hidden = error.__context__
    if hidden is None or error.__cause__ is not None or error.__suppress_context__ or not marks.exhausted_since(hidden, since):
        return False
    # `except APIError: raise ToolError()` is told by its context, an error of its own that a fallback raised is not. Which of the two
    # it is shows when the classifier may not look at the context.
    try:
        error.__suppress_context__ = True
        return not classify(error).transient
    except Exception:  # takes no attributes
        return False
    finally:
        try:
            error.__suppress_context__ = False
        except Exception:
            pass


_ERRORS_ONLY = frozenset(
    kind.__call__
    for kind in (tenacity.retry_if_exception, tenacity.retry_if_exception_cause_type, type(tenacity.retry_never))
)


def _ignores_results(native: Any) -> bool:
    """Does this tenacity retry object say no to every result without looking? By the method, so that subclasses count."""
    method: Any = type(native).__call__ if callable(native) else None
    if method is tenacity.retry_any.__call__ or method is tenacity.retry_all.__call__:
        return all(_ignores_results(part) for part in native.retries)
    return method in _ERRORS_ONLY


def _hooks(options: Any) -> dict[str, str | None]:
    return {name: _named(getattr(options, name)) for name in ("before", "after", "before_sleep")}


def _named(part: Any) -> str | None:
    """A part by name: its own repr may hold anything."""
    if part is None or isinstance(part, Backoff):
        return None if part is None else repr(part)
    return getattr(part, "__qualname__", None) or type(part).__name__
