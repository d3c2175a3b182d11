"""What takes the place of functions of the user's, and of strategies that are not played: what they said when it was
recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.circuit_calls import SLOW
from resilient_agents.classify import counts_against_dependency
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.match import Matcher
from resilient_agents.errors import Rejected
from resilient_agents.simulate.answers import BadAnswer, speed_of
from resilient_agents.simulate.dependency import ANSWER
from resilient_agents.simulate.script import playing

__all__ = [
    "Decided",
    "Refusal",
    "Timed",
    "counts",
    "counts_natively",
    "counts_result",
    "ended_otherwise",
    "is_bad",
    "yes",
]


class Refusal:
    """In place of what is not played and has refused calls: it refuses these, once they have done what they did."""

    def __init__(self, by: str) -> None:
        self.strategy = by

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        if playing.get().refused(self.strategy):
            raise Rejected("refused, as it was recorded", policy=call.name, strategy=self.strategy)
        return await proceed(call)


class Decided:
    """Which errors and results were tried again, where a function of the user's decides that: as spans say, or from
    what followed."""

    def __init__(self, place: str, *, alone: bool) -> None:
        self._place = place
        self._alone = alone

    def __call__(self, outcome: object) -> bool:
        script = playing.get()
        told = script.decided(self._place) if isinstance(outcome, Exception) else None
        return yes(told, default=script.tried_again(alone=self._alone))


def yes(told: str | None, *, default: bool) -> bool:
    return default if told is None else told == "yes"


def counts(strategy: CircuitBreaker, own: Matcher, error: Exception) -> bool:
    """Does it count this error as a failure? As was recorded, where the policy is the one that was in force."""
    script = playing.get()
    if not script.under.same:
        return own(error)
    told = script.decided(script.under.place(strategy)) or getattr(error, "verdict", None)
    return counts_against_dependency(error) if told is None else told == "failure"


def counts_natively(strategy: Any, error: Exception, own: Callable[[Any], bool]) -> bool:
    """The same of a native object, which asks twice about an error: `own` says what it counts by itself."""
    script = playing.get()
    if not script.under.same:
        return own(error)
    known: dict[int, bool] = error.__dict__.setdefault("_counted", {})
    if id(strategy) not in known:
        told = script.decided(script.under.place(strategy))
        known[id(strategy)] = own(error) if told is None else told == "failure"
    return known[id(strategy)]


def ended_otherwise(state: Any) -> Any:
    """In place of a function that a native retry calls when it has given up: it answered, or failed."""
    if playing.get().call.outcome == "success":
        return ANSWER
    return state.outcome.result()


def counts_result(strategy: CircuitBreaker, result: object) -> bool:
    script = playing.get()
    if not script.under.same:
        return isinstance(result, BadAnswer)
    return script.decided(script.under.place(strategy), of_result=True) is not None


def is_bad(result: object) -> bool:
    """Did a retry take it for a failure?"""
    return isinstance(result, BadAnswer) and result.by_retry


class Timed(CircuitBreaker):
    """In place of `timed`: what took about `slow_call` was slow if it was so when it was recorded."""

    timed: CircuitBreaker

    def _slow(self, call: Call, seconds: float) -> bool:
        script = playing.get()
        told = script.decided(speed_of(script.under.place(self.timed))) if script.under.same else None
        return super()._slow(call, seconds) if told is None else told == SLOW
