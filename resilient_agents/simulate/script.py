"""What stands in for the user's code while a recording is played: the guarded function, and those who answer in its
place."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, Final, NamedTuple

from resilient_agents.adapters.retry import Retry
from resilient_agents.policy import Policy
from resilient_agents.simulate.dependency import ANSWER, failure
from resilient_agents.simulate.recording import Recorded
from resilient_agents.strategies.fallback import Fallback

__all__ = ["Nudge", "Script", "begin", "played_by_script", "run"]

NEVER: Final = 1e9
"""Seconds that a request takes of which nobody knows how long it would have taken."""

ROUNDING: Final = 2e-9
"""Seconds by which the time between two moments of a recording may be too short: spans have nanoseconds."""


class Nudge(NamedTuple):
    """Seconds by which a call begins later than was recorded, and its requests take longer."""

    start: float = 0.0
    takes: float = 0.0


class Script:
    """What the guarded function does in the course of one call. `unknown`: it was asked for what the recording does not
    say. `bad`: an error that it raised in place of a result that was taken for a failure and came out as a result."""

    def __init__(self, call: Recorded, nudge: Nudge) -> None:
        self.call = call
        self.runs = 0
        self.unknown = False
        self.bad: Exception | None = None
        self._later = nudge.takes

    async def run(self) -> str:
        number, steps = self.runs, self.call.steps
        self.runs += 1
        if number >= len(steps):
            self.unknown = True
        if not steps:
            return ANSWER
        step = steps[min(number, len(steps) - 1)]
        await asyncio.sleep(NEVER if step.cut else max(0.0, step.takes + self._later))
        if step.kind is None:
            return ANSWER
        error = failure(step.kind, step.status, step.retry_after)
        if step.bad:
            self.bad = error
        raise error

    def wait(self, attempt: int) -> float:
        """Seconds between this attempt and the next, as recorded; too many where they would have passed the deadline,
        for which they were never waited."""
        waits = self.call.waits
        if attempt <= len(waits):
            return max(0.0, waits[attempt - 1]) + ROUNDING
        return NEVER if self.call.gave_up == "deadline" else 0.0

    def stand_in(self) -> None:
        """Answer in place of the function, or fail as recorded."""
        call = self.call
        if not call.fell_back:
            self.unknown = True
        elif call.outcome == "failure" and call.kind is not None:
            raise failure(call.kind, None, None)


_playing: contextvars.ContextVar[Script] = contextvars.ContextVar("resilient_agents.simulate.playing")


def begin(call: Recorded, nudge: Nudge) -> Script:
    """Take up the script of this call in the present task."""
    script = Script(call, nudge)
    _playing.set(script)
    return script


async def run() -> str:
    """The guarded function."""
    return await _playing.get().run()


def played_by_script(policy: Policy, *, waits: bool) -> Policy:
    """The same policy, but that no code of the user's answers in place of the function. `waits`: its retries wait as
    long as they did, for their jitter is not to be had again."""

    def scripted(strategy: Any) -> Any:
        if isinstance(strategy, Policy):
            return played_by_script(strategy, waits=waits)
        if isinstance(strategy, Fallback) and (callable(strategy.handler) or strategy.to):
            return Fallback(_stand_in, on=strategy.on)
        if isinstance(strategy, Retry) and waits:
            options: dict[str, Any] = {option: getattr(strategy, option) for option in Retry.OPTIONS}
            options["wait"] = _recorded_wait
            return Retry(**options)
        return strategy

    return Policy(*map(scripted, policy.strategies), name=policy.name, idempotent=policy.idempotent)


def _recorded_wait(state: Any) -> float:
    return _playing.get().wait(state.attempt_number)


def _stand_in(error: Exception | None) -> None:
    _playing.get().stand_in()
