"""The loop of a retry: tenacity's objects in tenacity's order, with nothing built until something fails.

tenacity's own driver costs 12 µs (async 23) on a call that succeeds, looks at cancellations like at errors, and
silently returns None when tasks share an `AsyncRetrying` with a hook that suspends. So its parts are used without it:
retry, after, wait, stop, before_sleep, sleep, before. The differential test holds this loop to what tenacity itself
does.

Frames that see the user's error drop it in a `finally`: a traceback refers to its frames, and the pair would only be
freed by the garbage collector.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal

import tenacity
from tenacity import RetryCallState, TryAgain

from resilient_agents.adapters.counts import RetryCounts, Verdict
from resilient_agents.adapters.retry_state import State
from resilient_agents.base.chance import chance
from resilient_agents.base.clock import clock
from resilient_agents.base.warn import warn_once
from resilient_agents.budget import RetryBudget
from resilient_agents.classify import Failure, classify, classify_result
from resilient_agents.classify.inner_retries import inner_retries
from resilient_agents.core import marks
from resilient_agents.core.call import Call, Proceed, unboxed
from resilient_agents.core.closing import close_unwanted
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.guard import declares
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.runtime import settle
from resilient_agents.core.watch import warn_of_inner_retries
from resilient_agents.deadline import Deadline, current
from resilient_agents.events import GaveUp, RetryScheduled

__all__ = ["RERAISE", "RetryLoop"]

RERAISE: Final = object()
"""What `RetryLoop.end` answers to let the last error or result out as it came."""

RETRY_AFTER_JITTER: Final = 0.1
"""A wait that a server asked for gets up to this share longer: clients that were sent away together must not come
back together."""

Reason = Literal["stop", "retry_after", "deadline", "budget"]

_WHY: Final[dict[Reason, str]] = {
    "stop": "",
    "retry_after": ": the server asks to wait longer than max_retry_after",
    "deadline": ": the next attempt would begin after the deadline",
    "budget": ": the retry budget is spent",
}
_IDLE: Final = (tenacity.before_nothing, tenacity.after_nothing, tenacity.before_sleep_nothing)


class RetryLoop(ABC):
    """What `Retry` and an adapted native object have in common. It holds options, and a tally that decides nothing;
    what a call needs lives in the call's frames."""

    owns_attempts: ClassVar[bool] = True

    attempts: int | None = None
    budget: RetryBudget | None = None
    max_retry_after: float | None = None
    minds_retry_after: ClassVar[bool] = False
    judges_results: bool = False

    def __init__(self, parts: Mapping[str, Any], shown: Any = None) -> None:
        """`parts`: tenacity's wait, stop, hooks and, where it is not the ordinary one, sleep. `shown`: hooks see it
        as `retry_object`."""
        self._wait: Callable[[RetryCallState], Any] | None = parts["wait"] if callable(parts["wait"]) else None
        self._stop: Callable[[RetryCallState], Any] | None = parts["stop"]
        self._before, self._after, self._before_sleep = (
            None if parts[hook] in _IDLE else parts[hook] for hook in ("before", "after", "before_sleep")
        )
        self._sleep: Callable[[float], Any] | None = parts.get("sleep")
        self._shown = self if shown is None else shown
        self._asynchronous = next((name for name, part in parts.items() if callable(part) and _is_async(part)), None)
        self._tally = RetryCounts()
        self._prepares = bool(self._asynchronous or self.budget is not None or self._before is not None)

    @abstractmethod
    def judge(self, call: Call, state: State, since: marks.Moment) -> Any:
        """Is the outcome in `state` to be retried? May answer with an awaitable. `since`: when the present attempt
        began."""

    def accepts(self, call: Call, result: Any) -> bool:
        """Is this result good beyond doubt, so that nothing need be built to judge it?"""
        return False

    def left_alone(self, state: State, since: marks.Moment) -> None:
        """An outcome goes out that `judge` did not want retried."""
        return

    async def end(self, call: Call, state: State) -> Any:
        """How a call ends that was given up: a value, an error raised, or `RERAISE`."""
        return RERAISE

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        began = now = clock.monotonic()
        marked = marks.left
        state: State | None = None
        raised: Exception | None = None
        result: Any = None
        ending: Verdict | None = "neutral"
        try:
            if self._prepares:
                state = await self._prepare(call, began)
            while True:
                try:
                    result = await proceed(call)
                except Exception as error:
                    if state is None:
                        state = State(self._shown, call, began)
                    if error is raised:
                        _forget_earlier_attempts(error)
                    raised = error
                    state.ended(None, unboxed(error))
                    # Decided in here, so that a bare `raise` lets the error out with the traceback that it came with.
                    delay = await self._step(call, state, (now, marked))
                    if delay is None:
                        state.blame()
                        ending = "failure"
                        if not state.given_up or (answer := await self.end(call, state)) is RERAISE:
                            raise
                        return answer
                else:
                    if not self.judges_results or call.closers is not None or self.accepts(call, result):
                        if state is None:
                            next(self._tally.ticks)
                            ending = None
                        else:
                            ending = "success"
                        return result
                    if state is None:
                        state = State(self._shown, call, began)
                    raised = None
                    state.ended(result, None)
                    delay = await self._step(call, state, (now, marked))
                    if delay is None:
                        ending = "failure" if state.given_up else "success"
                        if not state.given_up or (answer := await self.end(call, state)) is RERAISE:
                            return result
                        return answer
                if delay > 0 or self._sleep is not None or not call.runtime.blocking:
                    await self._pause(call, delay, state)
                    limit = current()
                    if limit is not None and clock.monotonic() >= limit.at:  # slept longer than it should
                        _give_up("deadline", call, state)
                        ending = "failure"
                        if (answer := await self.end(call, state)) is not RERAISE:
                            return answer
                        if raised is None:
                            return result
                        raise raised
                if raised is None:
                    unwanted, result = result, None
                    await close_unwanted(call, unwanted)
                    unwanted = None
                state.prepare_for_next_attempt()
                if self._before is not None:
                    await _tell("before", self._before, call, state)
                now, marked = marks.moment()
        except GeneratorExit:  # collected: nothing can be awaited any more
            result = None
            raise
        finally:
            if ending == "neutral" and result is not None:  # given up in the midst of a wait, or by an error of a hook
                await close_unwanted(call, result)
            if ending is not None:
                self._tally.record(ending, 1 if state is None else state.attempt_number)
            state = raised = result = None

    def metrics(self) -> dict[str, Any]:
        """What happened so far, since it was made or `reset_metrics` called, in one snapshot of plain data.

        `calls` that ended, which are `successes`, `failures` (an error came out, or a result that was to be retried)
        and `neutral` ones (cancelled, or a predicate or hook raised); the `attempts` that they took, of which `retries`
        were not the first; how many calls a retry `saved`, and the `saved_rate`, their share of all calls (None where
        there was none). A stream ends here with its first item.
        """
        return self._tally.metrics()

    def reset_metrics(self) -> None:
        """Count from zero again."""
        self._tally.reset()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tally": RetryCounts()}  # a copy counts for itself

    async def _prepare(self, call: Call, began: float) -> State | None:
        """What comes before the first attempt, where anything does."""
        if self._asynchronous is not None and call.runtime.blocking:
            raise TypeError(_needs_async(self._asynchronous, call))
        if self.budget is not None:
            self.budget.deposit()
        if self._before is None:
            return None
        state = State(self._shown, call, began)
        await _tell("before", self._before, call, state)
        return state

    async def _step(self, call: Call, state: State, since: marks.Moment) -> float | None:
        """What follows an outcome: another attempt after so many seconds, or None when the call ends with this one."""
        error = state.error
        try:
            limit = current()
            if error is not None:
                if limit is not None:
                    call.error = state.real
                if self.minds_retry_after:
                    state.failure = classify(error)
            if not isinstance(error, TryAgain):
                verdict = self.judge(call, state, since)
                if verdict is not True and verdict is not False and is_awaitable(verdict):
                    verdict = await _answer("retry", call, verdict)
                if not verdict:
                    self.left_alone(state, since)
                    return None
            if self._after is not None:
                await _tell("after", self._after, call, state)
            delay = 0.0
            if self._wait is not None:
                delay = self._wait(state)
                if type(delay) is not float:
                    delay = _seconds(await _answer("wait", call, delay) if is_awaitable(delay) else delay)
                if not 0 <= delay < math.inf:
                    delay = _finite(delay)
            asked = hint = None
            if self.minds_retry_after:
                if state.failure is None:
                    state.failure = classify_result(state.result)
                asked = hint = state.failure.retry_after
                if hint is not None and hint <= delay:
                    hint = None
            if hint is not None:
                delay = hint * (1 + RETRY_AFTER_JITTER * chance.random())
            state.upcoming_sleep = delay
            stop: Any = self.attempts is not None and state.attempt_number >= self.attempts
            if not stop and self._stop is not None:
                stop = self._stop(state)
                if stop is not True and stop is not False and is_awaitable(stop):
                    stop = await _answer("stop", call, stop)
            reason = "stop" if stop else self._obstacle(state, asked, limit)
            if reason is not None:
                _give_up(reason, call, state)
                return None
            state.idle_for += delay
            if self._before_sleep is not None:
                state.next_action = tenacity.RetryAction(delay)
                await _tell("before_sleep", self._before_sleep, call, state)
            if call.audience is not None:
                state.reason = "backoff" if hint is None else "retry_after"
                call.audience.tell(
                    RetryScheduled(call.audience.policy, state.attempt_number, delay, state.reason, _failure(state))
                )
            return delay
        finally:
            del error, state

    def _obstacle(self, state: State, asked: float | None, limit: Deadline | None) -> Reason | None:
        """What keeps an attempt from following although `stop` allows it. The budget comes last: asking charges it."""
        if asked is not None and self.max_retry_after is not None and asked > self.max_retry_after:
            return "retry_after"
        if limit is not None and clock.monotonic() + state.upcoming_sleep >= limit.at:
            return "deadline"
        if self.budget is not None and not self.budget.withdraw():
            return "budget"
        return None

    async def _pause(self, call: Call, delay: float, state: State) -> None:
        began = 0.0 if call.audience is None else clock.monotonic()
        try:
            if self._sleep is not None:
                slept = self._sleep(delay)
                if is_awaitable(slept):
                    await _answer("sleep", call, slept)
                return
            if call.runtime.blocking and on_event_loop():
                _warn_of_blocking(call)
            # In async code even no delay at all is a checkpoint: a cancellation gets through between attempts.
            await call.runtime.sleep(delay)
        finally:
            if call.audience is not None and delay > 0:
                call.audience.tell_of_wait("retry", clock.monotonic() - began, state.reason)


def _give_up(reason: Reason, call: Call, state: State) -> None:
    attempts = state.attempt_number
    elapsed = clock.monotonic() - state.start_time
    state.given_up = True
    if call.audience is not None:
        call.audience.tell(GaveUp(call.audience.policy, attempts, elapsed, reason, _failure(state)))
    error = state.error
    if error is not None and attempts > 1 and call.audience is None:  # who watches has looked at each attempt
        inner = inner_retries(error)
        if inner is not None and inner.retries:
            warn_of_inner_retries(call, inner)
    if error is None or (attempts == 1 and reason == "stop"):  # nothing was retried, nor would have been
        return
    took = f"{elapsed:.1f}" if elapsed >= 1 else f"{elapsed:.3f}".rstrip("0").rstrip(".")
    text = f"gave up after {attempts} attempt{'s' if attempts > 1 else ''} in {took} s{_WHY[reason]}"
    if attempts > 1:
        marks.exhausted(error, text)
    else:
        marks.note(error, text)


def _failure(state: State) -> Failure:
    if state.failure is None:
        state.failure = classify_result(state.result) if state.error is None else classify(state.error)
    return state.failure


async def _tell(name: str, hook: Callable[[RetryCallState], Any], call: Call, state: State) -> None:
    try:
        told = hook(state)
        if told is not None and is_awaitable(told):
            await _answer(name, call, told)
    finally:
        del state


async def _answer(name: str, call: Call, answer: Any) -> Any:
    """What a hook or other part answered with an awaitable, in the colour of the call."""
    if call.runtime.blocking:
        discard(answer)
        raise TypeError(_needs_async(name, call))
    return await settle(call, answer)


def _is_async(part: Any) -> bool:
    return declares(inspect.iscoroutinefunction, part)


def _needs_async(name: str, call: Call) -> str:
    return (
        f"the {name}= of the retry around {call.name!r} is async, which a blocking call cannot await: "
        f"use `await policy.acall(...)`, or a plain function for {name}="
    )


def _seconds(delay: Any) -> float:
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"wait must return seconds as a number, got {delay!r}")
    return float(delay)


def _finite(delay: float) -> float:
    """A wait below zero is none; one without end is a mistake."""
    if delay < 0:
        return 0.0
    raise ValueError(f"wait must return finite seconds, got {delay}")


def _warn_of_blocking(call: Call) -> None:
    name = call.name
    warn_once(
        ("retry", name),
        lambda: (
            f"a retry of {name!r} sleeps in the thread of a running event loop and holds up everything else on it: "
            f"use `await policy.acall(...)` with an async function, or call it from a worker thread"
        ),
        call.fn,
    )


def _forget_earlier_attempts(error: Exception) -> None:
    """Cut the traceback of an instance that is raised again and again back to its newest raise: Python only ever adds
    to it."""
    newest = trace = error.__traceback__
    while trace is not None and newest is not None:
        following = trace.tb_next
        if following is not None and following.tb_frame is newest.tb_frame:
            trace.tb_next = None
            return
        trace = following
