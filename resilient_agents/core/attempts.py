"""The two layers that exist only while somebody watches: the operation around everything, and the attempt inside the
innermost Retry or Hedge."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from resilient_agents.base.clock import clock
from resilient_agents.base.warn import warn_once
from resilient_agents.classify import Failure, classify, classify_result
from resilient_agents.classify.inner_retries import InnerRetries, inner_retries
from resilient_agents.core.audience import Audience
from resilient_agents.core.call import NEUTRAL, Call, Neutral, Proceed, unboxed
from resilient_agents.deadline import expired
from resilient_agents.errors import PolicyTimeoutError, Rejected
from resilient_agents.events import CallStarted, Outcome, Recorder

__all__ = ["Judge", "attempt", "begun", "operation", "unrecorded", "warn_of_inner_retries"]


class Judge(Protocol):
    """The retry, which may see a failure in a result."""

    def failed(self, result: Any, /) -> bool | None: ...


_TIMED_OUT = classify(PolicyTimeoutError())
"""What became of an attempt that a time limit around it cancelled."""


def _judged(call: Call, ended: Exception | Neutral | None) -> tuple[Outcome, Failure | None]:
    """What came of it, and the failure where it is one: control flow is none, as a cancellation is none."""
    if ended is None:
        return "success", None
    if isinstance(ended, Neutral):
        return "cancelled", None
    failure = call.failure(ended)
    if failure.kind == "control" and failure.verdict == "neutral":
        return "cancelled", None
    return "rejected" if isinstance(unboxed(ended), Rejected) else "failure", failure


def _end_operation(call: Call, audience: Audience, ended: Exception | Neutral | None) -> None:
    outcome, failure = ("success", None) if ended is None else _judged(call, ended)
    write = call.rare.write
    if write is not None and write.unknown:
        audience.unknown_outcome = True
    if ended is not None:
        audience.fell_back = None
    audience.call_ended(outcome if audience.fell_back is None else "fallback", failure)


def _fails(judge: Judge, result: Any, audience: Audience) -> bool:
    """Is this result a failed attempt? The answer is kept for the retry, which would ask again."""
    try:
        failed = judge.failed(result)
    except Exception:  # the retry, asking again, lets it out
        return False
    audience.judged = None if failed is None else (result, failed)
    if failed:
        audience.decided(judge, "result", of_attempt=True)
    return bool(failed)


def warn_of_inner_retries(call: Call, inner: InnerRetries) -> None:
    """Say once for each function that the client inside retries as well: attempts multiply, and so do waits."""
    name = call.name
    warn_once(
        ("inner retries", name),
        lambda: (
            f"{name!r} is retried by its policy and by the client library inside it, which tried again "
            f"{inner.retries} time{'s' if inner.retries > 1 else ''} within one attempt: attempts multiply. "
            f"Let one of them retry, by {inner.remedy} or by no Retry in the policy"
        ),
        call.fn,
    )


async def attempt(proceed: Proceed, judge: Judge | None, retried: bool, call: Call) -> Any:
    """One pass through what is inside the innermost Retry or Hedge. A `judge`, the retry, may see a failure in a
    result. `retried`: is there a retry at all?"""
    rare = call.rare
    audience: Audience = rare.audience  # type: ignore[assignment]  # somebody watches, or this layer were not there
    rare.began = None
    started = clock.monotonic()
    number = audience.attempt_started(call.hedge, started, rare)
    outcome: Outcome | None = None
    failure: Failure | None = None
    inner: InnerRetries | None = None
    try:
        result = await proceed(call)
        outcome = "success"
        if rare.closers is not None:
            if not result.over:
                audience.recorder.attempt_flows(number, clock.monotonic() - started)
            inner = inner_retries(result.source)
        else:
            inner = inner_retries(result)
            if judge is not None and _fails(judge, result, audience):
                outcome, failure = "failure", classify_result(result)
    except Exception as error:
        outcome, failure = _judged(call, error)
        inner = inner_retries(unboxed(error))
        if retried and inner is not None and inner.retries:
            warn_of_inner_retries(call, inner)
        raise
    finally:
        retries = None if inner is None else inner.retries
        if rare.closers is not None and outcome == "success":  # it ends with the stream
            began = rare.began
            rare.closers.append(
                lambda end: audience.attempt_ended(number, started, *_judged(call, end), retries, began)
            )
        else:
            if outcome is None and expired():
                outcome, failure = "failure", _TIMED_OUT
            audience.attempt_ended(number, started, outcome or "cancelled", failure, retries, rare.began)
    return result


def begun(invoke: Proceed, call: Call) -> Awaitable[Any]:
    """The innermost step of an attempt that somebody watches: note when it began, unless something in its place did."""
    rare = call.rare
    if rare.began is None:
        rare.began = clock.monotonic()
    return invoke(call)


async def unrecorded(proceed: Proceed, recorder: Recorder, call: Call) -> Any:
    """The whole call, when a recorder has begun and found that it is to hear of the end only: a sampler dropped it."""
    if call.runtime.blocking:  # it may yet go on in another context
        call.marks = {**(call.marks or {}), recorder: recorder}
    try:
        recorder.resume()
        return await proceed(call)
    finally:
        try:
            recorder.end()
        except BaseException:  # from outside, in the midst of it
            recorder.end()
            raise


async def operation(proceed: Proceed, call: Call) -> Any:
    """The whole call, from the outside."""
    audience: Audience = call.rare.audience  # type: ignore[assignment]  # as in `attempt`
    recorder = audience.recorder
    ended: Exception | Neutral | None = NEUTRAL
    try:
        recorder.resume()
        if audience.observers:
            audience.show(CallStarted(audience.policy, audience.deadline, audience.configuration))
        result = await proceed(call)
        ended = None
    except Exception as error:
        ended = error
        raise
    finally:
        try:
            if ended is None and call.rare.closers is not None:
                call.rare.closers.append(lambda end: _end_operation(call, audience, end))
            else:
                _end_operation(call, audience, ended)
        except BaseException:  # from outside, in the midst of it
            recorder.end()
            raise
        finally:
            ended = None
    return result
