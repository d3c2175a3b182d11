"""The loop of a retry: tenacity's objects in tenacity's order, with nothing built until something fails.

tenacity's own driver costs 12 µs (async 23) on a call that succeeds, looks at cancellations like at errors, and
silently returns None when tasks share an `AsyncRetrying` with a hook that suspends. So its parts are used without it:
retry, after, wait, stop, before_sleep, sleep, before. The differential test holds this loop to what tenacity itself
does.

Frames that see the user's error drop it in a `finally`: a traceback refers to its frames, and the pair would only be
freed by the garbage collector.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from resilient_agents.adapters.counts import Verdict
from resilient_agents.adapters.retry_ending import (
    Reason,
    give_up,
    known,
    noted_pause,
)
from resilient_agents.adapters.retry_parts import RetryParts, answered, finite_seconds, needs_async, tell
from resilient_agents.adapters.retry_state import State, action
from resilient_agents.base.clock import clock
from resilient_agents.base.trial import trial
from resilient_agents.classify import classify
from resilient_agents.core import given_up
from resilient_agents.core.call import ORDINARY, Boxed, Call, Proceed
from resilient_agents.core.closing import close_lost, close_unwanted
from resilient_agents.core.given_up import UNTIMED
from resilient_agents.deadline import current, in_force
from resilient_agents.errors import ResilienceError
from resilient_agents.events import RetryScheduled

__all__ = ["RERAISE", "RetryLoop"]

RERAISE: Final = object()
"""What `RetryLoop.end` answers to let the last error or result out as it came."""


class RetryLoop(RetryParts):
    """What `Retry` and an adapted native object have in common. What a call needs lives in the call's frames, from the
    first failure on in its `State`."""

    judge: Callable[[State], Any]
    """Is the outcome in `state` to be retried? May answer with an awaitable."""

    def accepts(self, call: Call, result: Any) -> bool:
        """Is this result good beyond doubt, so that nothing need be built to judge it?"""
        return False

    async def end(self, call: Call, state: State) -> Any:
        """How a call ends that was given up: a value, an error raised, or `RERAISE`."""
        return RERAISE

    async def execute(self, proceed: Proceed, call: Call, state: State | None = None) -> Any:
        """Attempts until one is good or given up. `state`: of a call whose first attempt has failed; see
        `first_failed`."""
        since = UNTIMED
        ending: Verdict = "neutral"
        result: Any = None
        try:
            if state is None and (self.timed or call.rare is not ORDINARY):
                since = (clock.monotonic(), given_up.left)
                if self._prepares:
                    state = await self._prepare(call, since)
            while True:
                if state is not None and state.over and not await self._next(call, state):
                    ending = "failure"
                    return await self._out(call, state)
                try:
                    result = await proceed(call)
                except Exception as error:
                    state = state or self._state(call, since)
                    # Decided in here, so that a bare `raise` lets the error out with the traceback that it came with.
                    self._failed(call, state, error.error if type(error) is Boxed else error)
                    if self._decide(call, state) if self.plain else await self._step(call, state):
                        continue
                    state.blame()
                    ending = "failure"
                    if not state.given_up or (answer := await self.end(call, state)) is RERAISE:
                        raise
                    return answer
                if not self.judges_results or call.rare.closers is not None or self.accepts(call, result):
                    ending = "success"
                    return result
                state = state or self._state(call, since)
                state.answered(result)
                if not (self._decide(call, state) if self.plain else await self._step(call, state)):
                    ending = "failure" if state.given_up else "success"
                    return await self._out(call, state)
                result = None
        finally:
            if state is None and ending == "success":
                self.counts.at_once += 1
            else:
                self.counts.record(ending, 1 if state is None else state.attempt_number)
                if self._prepares and state is not None and state.counted is not None:
                    state.counted_until(call.closers if ending == "success" else None)
                if ending == "neutral":  # left in the midst of a wait, or by an error of a part of the retry
                    await close_lost(call, result if state is None or not state.over else state.result)
                state = result = None

    def _state(self, call: Call, since: given_up.Moment) -> State:
        state = State()
        if not self.plain:  # else nobody looks at it
            state.retry_object = self._shown or self
        state.attempt_number, state.upcoming_sleep, state.over = 1, 0.0, False
        state.error = None
        state.call = call
        state.since = since
        state.start_time = clock.monotonic() if since is UNTIMED else since[0]
        state.most = self.attempts or math.inf
        if trial.attempts is not None:
            state.most = min(trial.attempts, state.most)
        return state

    async def _out(self, call: Call, state: State) -> Any:
        """How a call ends that was given up: by what `end` says, else by its last error or result."""
        error: Exception | None = None
        state.blame()
        try:
            answer = await self.end(call, state) if state.given_up else RERAISE
            if answer is not RERAISE:
                return answer
            error = state.error
            if error is None:
                return state.result
            raise Boxed(error) if isinstance(error, StopIteration) else error
        finally:
            del error, state

    def first_failed(
        self, proceed: Proceed, call: Call, error: Exception, since: given_up.Moment
    ) -> Awaitable[Any] | None:
        """The first attempt was made by somebody else and raised `error`: the rest of the call, None where the error is
        to go out. It began at `since`, which nobody has looked at where that is `UNTIMED`."""
        state = self._state(call, since)
        goes_on: bool | None = None
        try:
            self._failed(call, state, error)
            goes_on = self._decide(call, state)
            return self.execute(proceed, call, state) if goes_on else None
        finally:
            if not goes_on:
                self.counts.record("neutral" if goes_on is None else "failure", 1)
            del error, state

    def interrupted(self) -> None:
        """The first attempt was made by somebody else, and was cancelled."""
        self.counts.record("neutral", 1)

    async def _prepare(self, call: Call, began: given_up.Moment) -> State | None:
        """What comes before the first attempt, where anything does."""
        if self._asynchronous is not None and call.runtime.blocking:
            raise TypeError(needs_async(self._asynchronous, call))
        state: State | None = None
        if self.before is not None:
            state = self._state(call, began)
            await tell("before", self.before, call, state)
        if self.budget is not None and (counted := self.budget.deposit()).lasts:
            state = state or self._state(call, began)
            state.counted = counted
        return state

    async def _next(self, call: Call, state: State) -> bool:
        """Wait for the next attempt and begin it. False where none follows, as the wait took longer than the caller
        has."""
        if call.rare.audience is not None:  # not before: a hook may have raised
            call.tell(RetryScheduled, call.rare.audience.attempts, state.upcoming_sleep, state.reason, known(state))
        delay, own = state.upcoming_sleep, self._sleep
        if not trial.waits:
            delay, own = 0.0, None
        if own is not None or (delay > 0 and (call.runtime.blocking or call.rare.audience is not None)):
            await noted_pause(call, state, delay, own)
        elif not call.runtime.blocking:  # no delay is a checkpoint, too: a cancellation gets through between attempts
            await call.runtime.sleep(delay)
        if in_force() is not None and (limit := current()) is not None and clock.monotonic() >= limit.at:
            give_up("deadline", call, state)
            return False
        if state.error is None:  # until it is closed, which a cancellation may interrupt, the next one has not begun
            await close_unwanted(call, state.result)
            state.result = None
        state.over = False
        state.attempt_number += 1
        if not self.plain:  # else nobody looks at the rest
            state.outcome = state.outcome_timestamp = state.next_action = None
            if self.before is not None:
                await tell("before", self.before, call, state)
        if self.timed:
            state.since = given_up.moment()
        return True

    def _failed(self, call: Call, state: State, error: Exception) -> None:
        """An attempt raised this. What kind of error it is, is found out here, for all who ask later."""
        state.over = True
        state.error = error
        if not isinstance(error, ResilienceError):
            state.real = error
        if in_force() is not None and current() is not None:
            call.error = state.real
        if self.plain or self.minds_retry_after:  # of an ordinary call no layer inside has asked yet
            state.failure = classify(error) if call.rare is ORDINARY else call.failure(error)
        else:
            state.failure = None

    async def _step(self, call: Call, state: State) -> bool:
        """What follows an outcome: another attempt, after `state.upcoming_sleep`, or nothing."""
        try:
            state.outcome_timestamp = clock.monotonic()
            if not await answered("retry", call, self.judge(state)):
                self.left_alone(call, state)
                return False
            if self.after is not None:
                await tell("after", self.after, call, state)
            wait = 0.0 if self.wait is None else finite_seconds(await answered("wait", call, self.wait(state)))
            asked = state.asked = known(state).retry_after if self.minds_retry_after else None
            state.upcoming_sleep = wait if asked is None else state.longer(wait, asked)
            stop = state.attempt_number >= state.most
            if not stop and self.stop is not None:
                stop = bool(await answered("stop", call, self.stop(state)))
            if not self._goes_on(call, state, stop=stop):
                return False
            state.idle_for += state.upcoming_sleep
            if self.before_sleep is not None:
                state.next_action = action(state.upcoming_sleep)
                await tell("before_sleep", self.before_sleep, call, state)
            return True
        finally:
            del state

    def _decide(self, call: Call, state: State) -> bool:
        """`_step` where all parts are ours, so that there is nobody to show times to, and nothing to await."""
        try:
            if not self.judge(state):
                self.left_alone(call, state)
                return False
            wait = self.wait.__call__(state)  # a method costs half of what an object does
            asked = state.asked = (state.failure or known(state)).retry_after
            state.upcoming_sleep = wait if asked is None else state.longer(wait, asked)
            return self._goes_on(call, state, stop=state.attempt_number >= state.most)
        finally:
            del state

    def _goes_on(self, call: Call, state: State, *, stop: bool) -> bool:
        """Does another attempt follow? If not, it is said why. The budget comes last: asking charges it."""
        if self.asks and call.rare is not ORDINARY:
            self.chose(call, state, "yes")
        write = call.rare.write
        reason: Reason
        if stop:
            reason = "stop"
        elif write is not None and not write.may_repeat():
            reason = "unknown_outcome"
        elif state.asked is not None and self.max_retry_after is not None and state.asked > self.max_retry_after:
            reason = "retry_after"
        elif (
            in_force() is not None
            and (limit := current()) is not None
            and clock.monotonic() + state.upcoming_sleep >= limit.at
        ):
            reason = "deadline"
        elif self._prepares and self.budget is not None and not state.withdraw(self.budget):
            reason = "budget"
        else:
            return True
        give_up(reason, call, state)
        return False
