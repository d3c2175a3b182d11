"""What a retry says, to those who watch and on the error that it gives up, of what it warns, what it closes, and how it
waits where somebody hears of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from resilient_agents.adapters.retry_parts import answered
from resilient_agents.adapters.retry_state import State
from resilient_agents.base.clock import clock
from resilient_agents.base.warn import warn_once
from resilient_agents.classify import Failure, classify_result
from resilient_agents.classify.inner_retries import inner_retries
from resilient_agents.core import given_up
from resilient_agents.core.attempts import warn_of_inner_retries
from resilient_agents.core.call import Call
from resilient_agents.core.given_up import UNTIMED
from resilient_agents.core.loops import on_event_loop
from resilient_agents.events import GaveUp

__all__ = ["Reason", "give_up", "known", "noted_pause"]

Reason = Literal["stop", "retry_after", "deadline", "budget", "unknown_outcome"]

_WHY: Final[dict[Reason, str]] = {
    "stop": "",
    "retry_after": ": the server asks to wait longer than max_retry_after",
    "deadline": ": the next attempt would begin after the deadline",
    "budget": ": the retry budget is spent",
    "unknown_outcome": "",  # who leaves the call with it says that on the error
}


def give_up(reason: Reason, call: Call, state: State) -> None:
    """No attempt follows, though the outcome was to be retried."""
    attempts = state.attempt_number
    elapsed = clock.monotonic() - state.start_time
    state.given_up = True
    if call.audience is not None:
        call.audience.tell(GaveUp(call.audience.policy, attempts, elapsed, reason, known(state)))
    error = state.error
    if error is not None and attempts > 1 and call.audience is None:  # who watches has looked at each attempt
        inner = inner_retries(error)
        if inner is not None and inner.retries:
            warn_of_inner_retries(call, inner)
    if error is None or (attempts == 1 and reason == "stop"):  # nothing was retried, nor would have been
        return
    took = f"{elapsed:.1f}" if elapsed >= 1 else f"{elapsed:.3f}".rstrip("0").rstrip(".")
    when = f", {took} s after the first failure" if state.since is UNTIMED else f" in {took} s"
    text = f"gave up after {attempts} attempt{'s' if attempts > 1 else ''}{when}{_WHY[reason]}"
    if attempts > 1:
        given_up.exhausted(error, text)
    else:
        given_up.note(error, text)


def known(state: State) -> Failure:
    """What kind of outcome it is, looked at once."""
    if state.failure is None:
        state.failure = classify_result(state.result) if state.error is None else state.call.failure(state.error)
    return state.failure


async def noted_pause(call: Call, state: State, delay: float, own: Callable[[float], Any] | None) -> None:
    """The wait for the next attempt, where there is more to it than to sleep: somebody hears of it, the retry has a
    sleep of its `own`, or it holds up a thread."""
    audience = call.rare.audience
    began = 0.0 if audience is None else clock.monotonic()
    try:
        if own is not None:
            await answered("sleep", call, own(delay))
        else:
            if call.runtime.blocking and on_event_loop():
                _warn_of_blocking(call)
            await call.runtime.sleep(delay)
    finally:
        if audience is not None and delay > 0:
            audience.tell_of_wait("retry", clock.monotonic() - began, state.reason)


def _warn_of_blocking(call: Call) -> None:
    """A blocking retry is about to sleep in the thread of a running event loop."""
    name = call.name
    warn_once(
        ("retry", name),
        lambda: (
            f"a retry of {name!r} sleeps in the thread of a running event loop and holds up everything else on it: "
            f"use `await policy.acall(...)` with an async function, or call it from a worker thread"
        ),
        call.fn,
    )
