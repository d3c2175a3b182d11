"""What a retry consists of: tenacity's wait, stop and hooks, which may answer with an awaitable, and its counts."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Final

from resilient_agents.adapters.counts import RetryCounts
from resilient_agents.adapters.retry_state import State
from resilient_agents.budget import RetryBudget
from resilient_agents.core.audience import Helping
from resilient_agents.core.call import Call
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.guard import declares
from resilient_agents.core.runtime import settle

__all__ = ["PARTS", "RetryParts", "answered", "finite_seconds", "needs_async", "tell"]


PARTS: Final = ("wait", "stop", "before", "after", "before_sleep")


class RetryParts:
    """The options of a retry, and counts that decide nothing."""

    owns_attempts: ClassVar[bool] = True
    minds_retry_after: ClassVar[bool] = False

    attempts: int | None = None
    budget: RetryBudget | None = None
    max_retry_after: float | None = None
    # What every call looks at has no default on the class: an object's own is then read ten times as fast.
    judges_results: bool
    asks: bool
    """Does something other than the default say which errors are retried?"""
    timed: bool
    """Must the first attempt know when it began? For the note, hooks, and whether it was retried inside."""
    plain: bool
    """Are all parts ours? Then none of them sees the state, and none answers with an awaitable."""
    wait: Any
    stop: Callable[[Any], Any] | None = None
    before: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None
    before_sleep: Callable[[Any], Any] | None = None
    _sleep: Callable[[float], Any] | None = None
    _asynchronous: str | None = None
    _shown: Any = None

    def __init__(self, **others: Any) -> None:
        """`others`: tenacity's objects that say what is retried, and what comes in place of an ending."""
        if not self.plain:
            parts = {name: getattr(self, name) for name in PARTS} | {"sleep": self._sleep} | others
            async_ones = (name for name, part in parts.items() if declares(inspect.iscoroutinefunction, part))
            self._asynchronous = next(async_ones, None)
        self._prepares = bool(self._asynchronous or self.budget is not None or self.before is not None)
        self.counts = RetryCounts()

    def left_alone(self, call: Call, state: State) -> None:
        """An outcome goes out that was not to be retried."""

    def chose(self, call: Call, state: State, what: str) -> None:
        """Tell what was said of an error; of results the attempt tells."""
        if call.rare.audience is not None and state.error is not None:
            call.rare.audience.decided(self, what)

    def metrics(self) -> dict[str, Any]:
        """What happened so far, since it was made or `reset_metrics` called, in one snapshot of plain data.

        `calls` that ended, which are `successes`, `failures` (an error came out, or a result that was to be retried)
        and `neutral` ones (cancelled, or a predicate or hook raised); the `attempts` that they took, of which `retries`
        were not the first; how many calls a retry `saved`, and the `saved_rate`, their share of all calls (None where
        there was none). A stream ends here with its first item.
        """
        return self.counts.metrics()

    def reset_metrics(self) -> None:
        """Count from zero again."""
        self.counts.reset()


async def tell(name: str, hook: Callable[[Any], Any], call: Call, state: State) -> None:
    try:
        with Helping(call.audience, name):
            await answered(name, call, hook(state))
    finally:
        del state


async def answered(name: str, call: Call, answer: Any) -> Any:
    """What a hook or other part answered, awaited where it is an awaitable, in the colour of the call."""
    if answer is None or answer is True or answer is False or not is_awaitable(answer):
        return answer
    if call.runtime.blocking:
        discard(answer)
        raise TypeError(needs_async(name, call))
    return await settle(call, answer)


def needs_async(name: str, call: Call) -> str:
    return (
        f"the {name}= of the retry around {call.name!r} is async, which a blocking call cannot await: "
        f"use `await policy.acall(...)`, or a plain function for {name}="
    )


def finite_seconds(delay: Any) -> float:
    """What a wait answered. Below zero is none; one without end is a mistake. Raises TypeError or ValueError."""
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"wait must return seconds as a number, got {delay!r}")
    if not delay <= sys.float_info.max:  # an int may be beyond all floats, and NaN is beyond nothing
        raise ValueError("wait must return finite seconds")
    return float(max(delay, 0.0))
