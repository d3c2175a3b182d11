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
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

from resilient_agents.adapters.counts import Verdict
from resilient_agents.adapters.retry_ending import (
    Reason,
    close_left,
    forget_earlier_attempts,
    give_up,
    tell_of_next,
    warn_of_blocking,
)
from resilient_agents.adapters.retry_parts import RetryParts, answered, finite_seconds, needs_async, tell
from resilient_agents.adapters.retry_state import State, TryAgain, action
from resilient_agents.base.clock import clock
from resilient_agents.base.trial import trial
from resilient_agents.classify import classify
from resilient_agents.core import given_up
from resilient_agents.core.call import ORDINARY, Boxed, Call, Proceed
from resilient_agents.core.closing import close_unwanted
from resilient_agents.core.given_up import UNTIMED
from resilient_agents.core.loops import on_event_loop
from resilient_agents.deadline import current, in_force
from resilient_agents.errors import ResilienceError

__all__ = ["RERAISE", "RetryLoop"]

RERAISE: Final = object()
"""What `RetryLoop.end` answers to let the last error or result out as it came."""


class RetryLoop(RetryParts, ABC):
    """What `Retry` and an adapted native object have in common. What a call needs lives in the call's frames, from the
    first failure on in its `State`."""

    own_ending: ClassVar[bool] = False
    """Does `end` say how a call ends that was given up?"""

    @abstractmethod
    def judge(self, state: State) -> Any:
        """Is the outcome in `state` to be retried? May answer with an awaitable."""

    def accepts(self, call: Call, result: Any) -> bool:
        """Is this result good beyond doubt, so that nothing need be built to judge it?"""
        return False

    def left_alone(self, state: State) -> None:
        """An outcome goes out that `judge` did not want retried."""
        return

    async def end(self, call: Call, state: State) -> Any:
        """How a call ends that was given up: a value, an error raised, or `RERAISE`."""
        return RERAISE

    async def execute(self, proceed: Proceed, call: Call, state: State | None = None) -> Any:
        """Attempts until one is good or given up. `state`: of a call whose first attempt has failed; see
        `first_failed`."""
        began, marked = 0.0, 0
        ending: Verdict = "neutral"
        try:
            if state is None:
                began, marked = clock.monotonic(), given_up.left
                if self._prepares:
                    state = await self._prepare(call, (began, marked))
            while state is None or self._at_once(call, state) or await self._next(call, state):
                try:
                    result = await proceed(call)
                except Exception as error:
                    state = state or self._state(call, (began, marked))
                    # Decided in here, so that a bare `raise` lets the error out with the traceback that it came with.
                    self._failed(call, state, error)
                    if self._decide(call, state) if self.plain else await self._step(call, state):
                        continue
                    state.blame()
                    ending = "failure"
                    if not (self.own_ending and state.given_up):
                        raise
                    answer = await self.end(call, state)
                    if answer is RERAISE:
                        raise
                    return answer
                if not self.judges_results or call.rare.closers is not None or self.accepts(call, result):
                    ending = "success"
                    return result
                state = state or self._state(call, (began, marked))
                state.answered(result)
                if not (self._decide(call, state) if self.plain else await self._step(call, state)):
                    ending = state.ending
                    return await self._out(call, state)
                result = None
            ending = "failure"
            return await self._out(call, state)
        finally:
            if state is None and ending == "success":
                next(self.counts.ticks)
            else:
                self._count(call, state, ending)
                if ending == "neutral" and state is not None:
                    await close_left(call, state)
            state = result = None

    async def first_attempt(self, proceed: Proceed, call: Call) -> Any:
        """`execute` where the first attempt may be made without it (see `Retry.alone`): the loop begins at the first
        failure."""
        since = (clock.monotonic(), given_up.left) if self.timed else UNTIMED
        state: State | None = None
        try:
            try:
                result = await proceed(call)
            except Exception as error:
                state = self.first_failed(call, error, since)
                if state is None:
                    raise
            except BaseException:
                self.interrupted()
                raise
            else:
                next(self.counts.ticks)
                return result
            return await self.execute(proceed, call, state)
        finally:
            state = None  # no cycle through the traceback

    def _count(self, call: Call, state: State | None, ending: Verdict) -> None:
        if state is not None and state.counted is not None:
            state.counted_until(call.closers if ending == "success" else None)
        self.counts.record(ending, 1 if state is None else state.attempt_number)

    def _state(self, call: Call, since: given_up.Moment) -> State:
        most = self.attempts or math.inf
        if trial.attempts is not None:
            most = min(trial.attempts, most)
        return State(self._shown or self, call, since, most)

    async def _out(self, call: Call, state: State) -> Any:
        """How a call ends that was given up: by what `end` says, else by its last error or result."""
        try:
            answer = await self.end(call, state) if state.given_up else RERAISE
            if answer is not RERAISE:
                return answer
            if state.raised is not None:
                raise state.raised
            return state.result
        finally:
            del state

    def first_failed(self, call: Call, error: Exception, since: given_up.Moment) -> State | None:
        """The first attempt was made by somebody else and raised `error`: with this state `execute` goes on, None where
        the error is to go out. It began at `since`, which nobody has looked at where that is `UNTIMED`."""
        ending: Verdict | None = "neutral"
        state: State | None = None
        try:
            if since is UNTIMED:
                state = self._state(call, (clock.monotonic(), 0))
                state.late = True
            else:
                state = self._state(call, since)
            self._failed(call, state, Boxed(error) if isinstance(error, StopIteration) else error)
            ending = None if self._decide(call, state) else "failure"
            return state if ending is None else None
        finally:
            if ending is not None:
                self.counts.record(ending, 1)
            del error, state

    def interrupted(self) -> None:
        """The first attempt was made by somebody else, and was cancelled."""
        self.counts.record("neutral", 1)

    async def _prepare(self, call: Call, began: given_up.Moment) -> State | None:
        """What comes before the first attempt, where anything does."""
        if self._asynchronous is not None and call.runtime.blocking:
            raise TypeError(needs_async(self._asynchronous, call))
        state: State | None = None
        if self._before is not None:
            state = self._state(call, began)
            await tell("before", self._before, call, state)
        if self.budget is not None and (counted := self.budget.deposit()).lasts:
            state = state or self._state(call, began)
            state.counted = counted
        return state

    def _at_once(self, call: Call, state: State) -> bool:
        """Begin the next attempt, where nothing comes before it that may have to be awaited."""
        if state.over:
            waits = not call.runtime.blocking or (state.upcoming_sleep > 0 and trial.waits)
            if waits or not self.plain or state.raised is None:
                return False
            state.over = False  # and no more: nobody looks at the rest
            state.attempt_number += 1
            if self.timed:
                state.since = given_up.moment()
        return True

    async def _next(self, call: Call, state: State) -> bool:
        """Wait for the next attempt and begin it. False when there is none, as the wait took longer than the caller
        has."""
        blocking, audience = call.runtime.blocking, call.rare.audience
        delay, sleep = (state.upcoming_sleep, self._sleep) if trial.waits else (0.0, None)
        if delay > 0 or sleep is not None or not blocking:
            began = 0.0 if audience is None else clock.monotonic()
            try:
                if sleep is not None:
                    await answered("sleep", call, sleep(delay))
                else:
                    if blocking and on_event_loop():
                        warn_of_blocking(call)
                    # In async code even no delay is a checkpoint: a cancellation gets through between attempts.
                    await call.runtime.sleep(delay)
            finally:
                if audience is not None and delay > 0:
                    audience.tell_of_wait("retry", clock.monotonic() - began, state.reason)
            limit = None if in_force() is None else current()
            if limit is not None and clock.monotonic() >= limit.at:
                give_up("deadline", call, state)
                return False
        if state.raised is None:
            await close_unwanted(call, state.result)
        state.prepare_for_next_attempt()
        if self._before is not None:
            await tell("before", self._before, call, state)
        if self.timed:
            state.since = given_up.moment()
        return True

    def _failed(self, call: Call, state: State, raised: Exception) -> None:
        """An attempt raised this. What kind of error it is, is found out here, for all who ask later."""
        if raised is state.raised:
            forget_earlier_attempts(raised)
        state.over = True
        state.raised = raised
        state.error = error = raised.error if type(raised) is Boxed else raised
        if not isinstance(error, ResilienceError):
            state.real = error
        if in_force() is not None and current() is not None:
            call.error = state.real
        if self.minds_retry_after:  # of an ordinary call no layer inside has asked yet
            state.failure = classify(error) if call.rare is ORDINARY else call.failure(error)
        else:
            state.failure = None

    async def _step(self, call: Call, state: State) -> bool:
        """What follows an outcome: another attempt, after `state.upcoming_sleep`, or nothing."""
        try:
            state.outcome_timestamp = clock.monotonic()
            if not isinstance(state.error, TryAgain) and not await answered("retry", call, self.judge(state)):
                self.left_alone(state)
                return False
            if self._after is not None:
                await tell("after", self._after, call, state)
            wait = 0.0 if self._wait is None else finite_seconds(await answered("wait", call, self._wait(state)))
            state.will_wait(wait, asked=self.minds_retry_after)
            stop = state.attempt_number >= state.most
            if not stop and self._stop is not None:
                stop = bool(await answered("stop", call, self._stop(state)))
            if not self._goes_on(call, state, stop=stop):
                return False
            if self._before_sleep is not None:
                state.next_action = action(state.upcoming_sleep)
                await tell("before_sleep", self._before_sleep, call, state)
            if call.rare.audience is not None:
                tell_of_next(call.rare.audience, state)
            return True
        finally:
            del state

    def _decide(self, call: Call, state: State) -> bool:
        """`_step` where all parts are ours, so that there is nobody to show times to, and nothing to await."""
        try:
            if not isinstance(state.error, TryAgain) and not self.judge(state):
                self.left_alone(state)
                return False
            assert self._wait is not None
            state.will_wait(self._wait(state))
            if not self._goes_on(call, state, stop=state.attempt_number >= state.most):
                return False
            if call.rare.audience is not None:
                tell_of_next(call.rare.audience, state)
            return True
        finally:
            del state

    def _goes_on(self, call: Call, state: State, *, stop: bool) -> bool:
        """Does another attempt follow? If not, it is said why. The budget comes last: asking charges it."""
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
        elif self.budget is not None and not state.withdraw(self.budget):
            reason = "budget"
        else:
            state.idle_for += state.upcoming_sleep
            return True
        give_up(reason, call, state)
        return False
