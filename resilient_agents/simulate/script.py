"""What stands in for the user's code while a recording is played: the guarded function, and those who answer in its
place. It is the same coroutine in both colours: what it waits for are moments of the loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from resilient_agents.core.given_up import exhausted
from resilient_agents.errors import Rejected
from resilient_agents.simulate.answers import BadAnswer, Decisions, error_of
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.calls import Inner, Recorded, Round, Step
from resilient_agents.simulate.courses import TOLERANCE, end_of, reading, together
from resilient_agents.simulate.dependency import ANSWER
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.moment import Moment

__all__ = ["Ended", "Nudge", "Script", "playing"]

Task: TypeAlias = "asyncio.Task[Ended]"

NEVER: Final = 1e9
"""Seconds that a request takes of which nobody knows how long it would have taken."""

ROUNDING: Final = 2e-9
"""Seconds by which the time between two moments of a recording may be too short: spans have nanoseconds."""

LATE: Final = 0.05
"""Seconds by which a recorded attempt may have ended late, because the machine was, without having gone another way."""


class Nudge(NamedTuple):
    """Seconds by which a call begins later than was recorded, and its requests take longer."""

    start: float = 0.0
    takes: float = 0.0


class Under(Protocol):
    """What a script asks of the policy that it is played under: does it try again what was tried again, and can it end
    what it guards before its time?"""

    retries: bool
    same: bool

    def place(self, strategy: Any) -> str: ...
    def stops(self, called: str) -> bool: ...


class Ended(NamedTuple):
    """How a call ended that the function made. `same`: as it was recorded."""

    error: Exception | None
    kind: str | None
    same: bool


class Script:
    """What the guarded function does in the course of one call.

    Attributes:
        runs: How often it has begun.
        within: The script of the call in whose course it is made.
        make: Makes a call in its course.
        left: Tasks that calls in its course run in, which may outlast it.
        unknown: It was asked for what the recording does not say.
        rest: Seconds for which the reader of a stream is busy with the item that it has.
    """

    make: Callable[[Recorded], Coroutine[Any, Any, Ended]]

    def __init__(
        self, call: Recorded, nudge: Nudge, loop: SimulatedLoop, under: Under, left: list[Task], within: Script | None
    ) -> None:
        self.call = call
        self.within = within
        self.left = left
        self.under = under
        self.runs = self.helped = 0
        self.unknown = False
        self.rest = 0.0
        self._replaces = call.replaced
        self._later = nudge.takes
        self._loop = loop
        self._began = loop.time()
        self._branches: dict[Any, int] = {}
        self._waited = self._asked = 0
        self._waited_alone: dict[int, int] = {}
        self._decided = Decisions(call.decided)
        self._of_run: dict[int, Decisions] = {}
        self._of_last: Decisions | None = None

    # ---------------------------------------------------------------------------------------------------- the function

    async def run(self) -> Any:
        step = self._next()
        return ANSWER if step is None else await self._goes(step, 0.0)

    async def items(self) -> AsyncGenerator[str, None]:
        """The same as a stream. Of its items there are two at most: before the second lies the longest wait, and what
        time is left the reader takes, so that no limit for one wait hears of it."""
        step = self._next()
        if step is None or step.first is None:
            if step is not None:
                await self._goes(step, 0.0)
            return
        await self._meanwhile([each for each in step.calls if each[0] < step.first], 0.0, step.first)
        left = max(0.0, step.takes - step.first)
        self.rest, silent = reading(step, left)
        yield ANSWER
        await self._goes(step, step.takes - silent)

    def _next(self) -> Step | None:
        branch = self._branch()
        number, steps = self.runs, self.call.steps
        self.runs += 1
        if number >= len(steps):
            self.unknown = True
        step = steps[min(number, len(steps) - 1)] if steps else None
        if step is not None:
            self._of_run[branch] = self._of_last = Decisions(step.decided)
        return step

    async def _goes(self, step: Step, since: float) -> Any:
        """From so many seconds after its beginning to its end."""
        calls = [each for each in step.calls if each[0] >= since]
        if step.cut and self.under.stops(self.call.called):
            wanted = BlockingCalls.wanted()
            last = await self._meanwhile(calls, since, max(step.takes, step.limit or 0.0) + TOLERANCE)
            if not self.call.blocking:
                self.unknown = True
                await self.pause(NEVER)
            elif wanted():  # a thread that nobody waits for any more cannot be stopped: it ends some time
                self.unknown = True
        else:
            last = await self._meanwhile(calls, since, max(0.0, step.takes + self._later))
        return self._ends(step, last)

    def _ends(self, step: Step, last: Ended | None) -> Any:
        """As it was recorded; what failed as the last call in its course did fails as that does."""
        if last is not None and step.kind is not None and not step.bad:
            if last.error is not None and (last.kind == step.kind or not last.same):
                raise last.error
            if last.error is None and not last.same:
                return ANSWER
        if step.kind is None:
            return BadAnswer(step) if step.counted else ANSWER
        if step.kind == "rejected":
            raise Rejected("simulated", retry_after=step.retry_after)
        if step.bad:
            return BadAnswer(step)
        error = error_of(step)
        if self._gave_up(step):
            exhausted(error)
        raise error

    def _gave_up(self, step: Step) -> bool:
        """Was its error one that a retry in its course had given up, or it would have been tried again?"""
        call = self.call
        last = bool(call.steps) and step is call.steps[-1]
        return self.under.retries and last and call.outcome == "failure" and not (call.gave_up or call.fell_back)

    # ------------------------------------------------------------------------------------------ what it does meanwhile

    async def _meanwhile(self, made: list[Inner], since: float, until: float) -> Ended | None:
        """What the function does from and to so many seconds after its beginning. Returns how the last call ended of
        those that it made."""
        at, last = since, None
        for calls in together(made):
            await self.pause(calls[0][0] - at)
            ended = await self._make(calls, until)
            if not all(each.same for each in ended):
                self.unknown = True
            if ended:
                at, last = max(end for call in calls if (end := end_of(call)) <= until + ROUNDING), ended[-1]
            else:
                at = calls[0][0]
        await self.pause(until - at)
        return last

    async def _make(self, calls: list[Inner], until: float) -> list[Ended]:
        """Make these calls, those that overlap at the same time, and leave alone those that ended later than `until`.
        They are told in the order in which they ended when they were recorded."""
        if len(calls) == 1 and calls[0][1].blocking is self.call.blocking and end_of(calls[0]) <= until + ROUNDING:
            return [await self.make(calls[0][1])]
        tasks = [self._loop.create_task(self._later_on(offset - calls[0][0], call)) for offset, call in calls]
        self.left += tasks
        in_order = sorted(zip(calls, tasks, strict=True), key=lambda each: end_of(each[0]))
        awaited = [task for call, task in in_order if end_of(call) <= until + ROUNDING]
        over = Moment(self._loop)

        def look(_: object) -> None:
            if all(task.done() for task in awaited):
                over.come()

        for task in awaited:
            task.add_done_callback(look)
        try:
            if awaited:
                await over
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        return [task.result() for task in awaited]

    async def _later_on(self, seconds: float, call: Recorded) -> Ended:
        await self.pause(seconds)
        return await self.make(call)

    async def pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        over = Moment(self._loop)
        timer = self._loop.call_later(seconds, over.come)
        try:
            await over
        finally:
            timer.cancel()

    # ------------------------------------------------------------------------------------------------- what it is asked

    def wait(self, attempt: int, *, alone: bool) -> float:
        """Seconds between this attempt of a retry and the next, as recorded; too many where the call ended before it
        came, or they would have passed the deadline. `alone`: each request of a hedge retries by itself."""
        self._of_run.pop(self._branch(), None)
        self._of_last = None
        attempt, rounds = self._attempt(attempt, alone=alone)
        if attempt >= len(rounds):
            if rounds and self.call.refused:  # it waited for an attempt that was none
                return max(0.0, self.call.refused_after - (self._loop.time() - self._began))
            ended_first = self.call.outcome == "cancelled" or (alone and self.call.outcome == "success")
            return NEVER if ended_first or self.call.gave_up == "deadline" else 0.0
        wait = rounds[attempt][0] - rounds[attempt - 1][1]
        late = rounds[attempt - 1][1] - (self._loop.time() - self._began)
        return max(0.0, wait + (late if abs(late) < LATE else 0.0)) + ROUNDING

    def waits(self, attempt: int, *, alone: bool) -> None:
        """It does wait: a retry that stops here, or lies in one that goes on, has only been asked for how long."""
        attempt, _ = self._attempt(attempt, alone=alone)
        if alone:
            self._waited_alone[self._branch()] = attempt
        else:
            self._waited = attempt

    def tried_again(self, *, alone: bool) -> bool:
        """Did the retry want another attempt after this one?"""
        attempt, rounds = self._attempt(self._waited_alone.get(self._branch(), 0) + 1, alone=alone)
        return attempt < len(rounds) or self.call.gave_up not in ("", "unknown_outcome")

    def decided(self, layer: str, *, of_result: bool = False) -> str | None:
        """What came of it when this strategy asked a function of the user's about what comes out of the present run,
        None where it did not."""
        of_run = self._of_run.get(self._branch(), self._of_last)
        found = of_run and of_run.next(layer, of_result=of_result)
        return found or self._decided.next(layer, of_result=of_result)

    def _attempt(self, attempt: int, *, alone: bool) -> tuple[int, tuple[Round, ...]]:
        """Which attempt of all this is, and when they were. A retry counts anew for each part of a stream; what counts
        is which run of the function was the last, and whether one was refused since."""
        if alone:
            branch, branches = self._branch(), self.call.branches
            return attempt, branches[branch] if branch < len(branches) else ()
        steps, rounds = self.call.steps, self.call.rounds
        if self.runs > len(steps):
            return len(rounds) + self.runs - len(steps), rounds
        return max(steps[self.runs - 1].round if self.runs else 0, self._waited + 1), rounds

    def _branch(self) -> int:
        """The number of the request of a hedge that this task or thread is, in the order in which they came."""
        try:
            here: Any = asyncio.current_task()
        except RuntimeError:
            here = None
        return self._branches.setdefault(here or threading.get_ident(), len(self._branches))

    def cost(self) -> float:
        """What the attempt to come takes of a rate limit that asks for it; as much as the last one that is known."""
        number, costs = self._asked, self.call.costs
        self._asked += 1
        return costs[min(number, len(costs) - 1)] if costs else 1.0

    def settled(self) -> float | None:
        """What the last run of the function said that it cost."""
        steps = self.call.steps
        return steps[min(self.runs, len(steps)) - 1].settled if steps and self.runs else None

    def refused(self, by: str) -> bool:
        """Was it refused by this in the end?"""
        return by in self.call.refused and self.runs >= len(self.call.steps)

    def replaces(self) -> bool:
        """Is the result to be replaced by something else? Once."""
        replaces, self._replaces = self._replaces, False
        return replaces

    async def stand_in(self) -> None:
        """Answer in place of the function, or fail as recorded."""
        number, helps = self.helped, self.call.helps
        self.helped += 1
        if number < len(helps):
            await self._goes(helps[number], 0.0)
        elif helps and self.call.outcome != "fallback":
            raise Rejected("passed over, for its circuit was open")
        else:
            self.unknown = True


playing: contextvars.ContextVar[Script] = contextvars.ContextVar("resilient_agents.simulate.playing")
"""The script of the call that the present task or thread is in."""
