"""`replay`: recorded calls again, in virtual time, under the policy that was in force or under another one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from resilient_agents.adapters.retry import Retry
from resilient_agents.classify import classify
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.core.loops import on_event_loop
from resilient_agents.deadline import deadline
from resilient_agents.errors import Rejected
from resilient_agents.policy import Policy
from resilient_agents.simulate.dependency import ANSWER, failure
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.recording import Recorded, Step
from resilient_agents.simulate.run import virtual

__all__ = ["Played", "Replay", "replay"]

_NEVER = 1e9
"""Seconds that a request takes of which nobody knows how long it would have taken."""

_ROUNDING = 2e-9
"""Seconds by which the time between two moments of a recording may be too short: spans have nanoseconds."""


@dataclass(frozen=True, slots=True)
class Played:
    """One call of the recording as it went this time. `unknown`: it came to a point of which the recording says
    nothing, and what follows is a guess: that things went on as at the last attempt that is known."""

    call: Recorded
    duration: float
    outcome: str
    kind: str | None
    attempts: int
    unknown: bool

    @property
    def same(self) -> bool:
        """Whether it went as it was recorded, times apart."""
        call = self.call
        return (self.outcome, self.kind, self.attempts) == (call.outcome, call.kind, len(call.steps))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What became of recorded calls.

    Attributes:
        calls: Calls that were played; those that were cancelled from outside are played and not counted.
        same: Those that had the recorded outcome, kind of failure and number of requests.
        unknown: Those of which the recording does not say how they would have gone on: they made more attempts than
            were recorded, or waited longer for one that a limit had cut off.
        same_policy: Whether the policy is the one that was in force, by its fingerprint. The retry then waits as long
            as it did.
        success_rate, recorded_success_rate: The shares of calls that succeeded.
        requests, recorded_requests: Requests that were made.
        slower: The largest difference between a call's duration and its recorded one, in seconds, of those that are
            the same.
        changes: How often a call went from one outcome to another.
        played: The calls one by one.
    """

    calls: int
    same: int
    unknown: int
    same_policy: bool
    success_rate: float
    recorded_success_rate: float
    requests: int
    recorded_requests: int
    slower: float
    changes: dict[str, int]
    played: Sequence[Played]

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes, without the single calls."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "played"}


def replay(policy: Policy | Callable[[], Policy], calls: Sequence[Recorded]) -> Replay:
    """Play recorded calls under `policy`. A recording is that of one process.

    Args:
        policy: The policy, or a function that makes it within the virtual time.
        calls: What `recorded` read.

    Raises:
        RuntimeError: called on the thread of an event loop.
    """
    if on_event_loop():
        raise RuntimeError("replay() runs an event loop of its own: call it from a thread without one")
    # Windows are made of parts that begin at whole multiples of their length, so the time of day counts.
    loop = partial(SimulatedLoop, min((call.start for call in calls), default=0.0))
    with asyncio.Runner(loop_factory=loop) as runner, virtual(runner.get_loop(), "replay"):
        made = policy if isinstance(policy, Policy) else policy()
        told = {call.configuration for call in calls}
        same = told == {fingerprint(made.layers)}
        played = runner.run(_play(_waiting_as_recorded(made) if same else made, calls))
    return _replay(played, same)


_playing: contextvars.ContextVar[_Script] = contextvars.ContextVar("resilient_agents.simulate.playing")


class _Script:
    """What the guarded function does in the course of one call."""

    def __init__(self, call: Recorded) -> None:
        self.call = call
        self.runs = 0
        self.unknown = False

    async def run(self) -> str:
        number, steps = self.runs, self.call.steps
        self.runs += 1
        if number >= len(steps):
            self.unknown = True
        if not steps:
            return ANSWER
        step = steps[min(number, len(steps) - 1)]
        await asyncio.sleep(_NEVER if step.cut else step.takes)
        return _end(step)

    def wait(self, attempt: int) -> float:
        """Seconds between this attempt and the next, as recorded; too many where they would have passed the deadline,
        for which they were never waited."""
        waits = self.call.waits
        if attempt <= len(waits):
            return max(0.0, waits[attempt - 1]) + _ROUNDING
        return _NEVER if self.call.gave_up == "deadline" else 0.0


def _end(step: Step) -> str:
    if step.kind is None:
        return ANSWER
    raise failure(step.kind, step.status, step.retry_after)


async def _run() -> str:
    return await _playing.get().run()


def _recorded_wait(state: Any) -> float:
    return _playing.get().wait(state.attempt_number)


def _waiting_as_recorded(policy: Policy) -> Policy:
    """The same policy, whose retries wait as long as they did: their jitter is not to be had again."""

    def waiting(strategy: Any) -> Any:
        if not isinstance(strategy, Retry):
            return strategy
        options: dict[str, Any] = {option: getattr(strategy, option) for option in Retry.OPTIONS}
        options["wait"] = _recorded_wait
        return Retry(**options)

    return Policy(*map(waiting, policy.strategies), name=policy.name, idempotent=policy.idempotent)


async def _play(policy: Policy, calls: Sequence[Recorded]) -> list[Played]:
    loop = asyncio.get_running_loop()
    guarded = policy(_run)
    played: list[Played] = []
    tasks: list[asyncio.Task[None]] = []

    async def one(call: Recorded) -> None:
        script = _Script(call)
        _playing.set(script)
        began = loop.time()
        if call.outcome == "cancelled":
            await _until_cancelled(guarded, call)
            return
        outcome, kind = await _outcome(guarded, call)
        played.append(Played(call, loop.time() - began, outcome, kind, script.runs, script.unknown))

    for call in calls:
        if call.start > loop.time():
            await asyncio.sleep(call.start - loop.time())
        tasks.append(loop.create_task(one(call)))
    await asyncio.gather(*tasks)
    return played


async def _until_cancelled(guarded: Callable[[], Any], call: Recorded) -> None:
    """A call that was cancelled from outside: it counts for nothing, but it was there, and others met it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(call.duration):
            await guarded()


async def _outcome(guarded: Callable[[], Any], call: Recorded) -> tuple[str, str | None]:
    try:
        if call.deadline is None:
            answer = await guarded()
        else:
            with deadline(max(call.deadline, 1e-9)):
                answer = await guarded()
    except Rejected:
        return "rejected", "rejected"
    except Exception as error:
        return "failure", classify(error).kind
    return ("success" if answer is ANSWER else "fallback"), None


def _replay(played: list[Played], same_policy: bool) -> Replay:
    changes = Counter(f"{p.call.outcome} -> {p.outcome}" for p in played if p.call.outcome != p.outcome)
    good = sum(p.outcome == "success" for p in played)
    was_good = sum(p.call.outcome == "success" for p in played)
    return Replay(
        calls=len(played),
        same=sum(p.same for p in played),
        unknown=sum(p.unknown for p in played),
        same_policy=same_policy,
        success_rate=good / len(played) if played else math.nan,
        recorded_success_rate=was_good / len(played) if played else math.nan,
        requests=sum(p.attempts for p in played),
        recorded_requests=sum(len(p.call.steps) for p in played),
        slower=max((abs(p.duration - p.call.duration) for p in played if p.same), default=0.0),
        changes=dict(sorted(changes.items())),
        played=played,
    )
