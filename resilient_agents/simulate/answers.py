"""What stands in for results and errors that were recorded, and for what functions of the user's said of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resilient_agents.adapters.circuit_calls import QUICK, SLOW
from resilient_agents.simulate.calls import Step
from resilient_agents.simulate.dependency import ANSWER, SimulatedError, failure

__all__ = ["BadAnswer", "Decisions", "answers", "error_of", "speed_of"]


class BadAnswer:
    """A result that was taken for a failure, `by_retry` or by a circuit breaker; of what it said, what decides."""

    def __init__(self, step: Step) -> None:
        self.status_code = step.status
        self.retry_after = step.retry_after
        self.by_retry = step.bad


def answers(result: object) -> bool:
    """Is it a result of the function, rather than something in its place?"""
    return result is ANSWER or isinstance(result, BadAnswer)


def error_of(step: Step) -> SimulatedError:
    """An error that says as much of itself as the one that was recorded."""
    assert step.kind is not None
    status = step.status
    if step.verdict == "success" and status is None:
        status = 400  # whoever answered is well
    elif step.verdict == "neutral":
        status = None
    error = failure(step.kind, status, step.retry_after)
    if step.transient is not None:
        error.transient = step.transient
    error.verdict = step.verdict
    return error


def speed_of(layer: str) -> str:
    """What stands for the clock of this strategy, which was asked too."""
    return f"{layer} speed"


class Decisions:
    """What functions of the user's said, by the strategy that asked, in the order in which it did."""

    def __init__(self, told: Iterable[str]) -> None:
        self._left: dict[str, deque[str]] = {}
        for each in told:
            layer, _, what = each.rpartition(" ")
            self._left.setdefault(speed_of(layer) if what in (SLOW, QUICK) else layer, deque()).append(what)

    def next(self, layer: str, *, of_result: bool) -> str | None:
        """The next answer that this strategy got: about an error, or that a result is a failure. None where it is not
        about such a thing."""
        left = self._left.get(layer)
        return left.popleft() if left and (left[0] == "result") is of_result else None
