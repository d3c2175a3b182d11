"""Functions that fail to order, and policies that are made to fail, or to fail soon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import Any

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.base.durations import positive_int
from resilient_agents.base.trial import trial
from resilient_agents.registry import get_circuit_breaker

__all__ = ["Failing", "failing", "force_open", "limit_attempts", "no_waits"]


class Failing:
    """A function that answers each call with the next of its outcomes; see `failing`."""

    def __init__(self, outcomes: tuple[Any, ...]) -> None:
        self._outcomes = outcomes
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        """The arguments of each call so far: `(args, kwargs)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _given(self._next(args, kwargs))

    async def coroutine(self, *args: Any, **kwargs: Any) -> Any:
        """The same as a coroutine function."""
        return _given(self._next(args, kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        """The same as a generator function: each outcome is a list of items, in which errors are raised in their place;
        an error alone is raised before the first item."""
        for item in _items(self._next(args, kwargs)):
            yield _given(item)

    async def async_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """The same as an async generator function."""
        for item in _items(self._next(args, kwargs)):
            yield _given(item)

    def _next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(self.calls) == len(self._outcomes):
            raise AssertionError(f"called once more than it has outcomes, of which there are {len(self._outcomes)}")
        self.calls.append((args, kwargs))
        return self._outcomes[len(self.calls) - 1]


def failing(*outcomes: Any) -> Failing:
    """A function whose calls have these outcomes, one after another: an exception, or a class of one, is raised, and
    anything else returned. One call more is an AssertionError, which no policy retries.

    `failing(...)` is a plain function, `failing(...).coroutine` a coroutine function, `.stream` and `.async_stream`
    generator functions, whose outcomes are lists of items. `.calls` has the arguments of each call.

    Raises ValueError without any outcome.
    """
    if not outcomes:
        raise ValueError("failing needs at least one outcome, such as failing(ConnectionError, 'ok')")
    return Failing(outcomes)


def _given(outcome: Any) -> Any:
    if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
        raise outcome
    return outcome


def _items(outcome: Any) -> Iterable[Any]:
    return outcome if isinstance(outcome, Iterable) and not isinstance(outcome, str | bytes) else (outcome,)


@contextlib.contextmanager
def no_waits() -> Generator[None, None, None]:
    """Until the block ends, retries everywhere in the process follow at once. Time goes its way: for waits that are to
    be seen, there is `FakeClock`."""
    before, trial.waits = trial.waits, False
    try:
        yield
    finally:
        trial.waits = before


@contextlib.contextmanager
def limit_attempts(attempts: int) -> Generator[None, None, None]:
    """Until the block ends, no retry in the process makes more than `attempts` attempts (at least 1, which means that
    none retries). Raises TypeError or ValueError for a number that is none."""
    before, trial.attempts = trial.attempts, positive_int(attempts, "attempts")
    try:
        yield
    finally:
        trial.attempts = before


@contextlib.contextmanager
def force_open(breaker: CircuitBreaker | str) -> Generator[CircuitBreaker, None, None]:
    """Open this circuit breaker, or the one of this name in the default registry, for `reset_timeout` seconds as ever,
    and close it at the end of the block, unless it was open before."""
    found = get_circuit_breaker(breaker) if isinstance(breaker, str) else breaker
    if not isinstance(found, CircuitBreaker):
        raise TypeError(f"force_open takes a CircuitBreaker or the name of one, got {type(breaker).__name__}")
    was_open = found.state == "open"
    try:
        found.open()
        yield found
    finally:
        try:
            if not was_open:
                found.close()
        except BaseException:  # from outside, in the midst of it
            found.close()
            raise
