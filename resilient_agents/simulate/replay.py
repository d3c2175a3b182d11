"""`replay`: recorded calls again, in virtual time, under the policy that was in force or under another one."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

from resilient_agents.classify import classify
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.core.loops import on_event_loop
from resilient_agents.deadline import deadline
from resilient_agents.errors import Rejected
from resilient_agents.policy import Policy
from resilient_agents.simulate.dependency import ANSWER
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.recording import Recorded
from resilient_agents.simulate.run import virtual
from resilient_agents.simulate.script import Nudge, Script, begin, played_by_script, run

__all__ = ["TOLERANCE", "Played", "Replay", "replay"]

TOLERANCE: Final = 0.001
"""Seconds by which the moments of a recording may be wrong: a span begins a little before what it tells of."""

_NUDGES: Final = [
    nudge for by in (1e-8, TOLERANCE) for nudge in (Nudge(by), Nudge(-by), Nudge(takes=by), Nudge(takes=-by))
]
_MOST_NUDGED: Final = 20  # calls, for each of which all are played again


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
        near: Those of them that did so only when they began, or their requests ended, a little sooner or later than was
            recorded, by `TOLERANCE` at most: they lie so near to a boundary. Looked for under the same policy, where
            `policy` is a function that makes it, for at most 20 calls.
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
    near: int
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
    same_policy, played = _pass(policy, calls, {})
    if isinstance(policy, Policy) or not same_policy:
        return _replay(played, same_policy, 0)
    return _replay(*_nudged(policy, calls, played))


Nudges = Mapping[int, Nudge]
"""By the sequence number of a call."""


def _pass(
    policy: Policy | Callable[[], Policy], calls: Sequence[Recorded], nudges: Nudges
) -> tuple[bool, list[Played]]:
    """Play them all once. Whether the policy is the one that was in force, and the calls in the order they began."""
    # Windows are made of parts that begin at whole multiples of their length, so the clock counts.
    loop = partial(SimulatedLoop, min((call.start for call in calls), default=0.0) - TOLERANCE)
    with asyncio.Runner(loop_factory=loop) as runner, virtual(runner.get_loop(), "replay"):
        made = policy if isinstance(policy, Policy) else policy()
        same = {call.configuration for call in calls} == {fingerprint(made.layers)}
        played = runner.run(_play(played_by_script(made, waits=same), calls, nudges))
    return same, sorted(played, key=_order)


def _order(played: Played) -> tuple[float, int]:
    return played.call.start, played.call.sequence


def _first_different(played: list[Played]) -> Played | None:
    return next((each for each in played if not each.same), None)


def _nudged(
    policy: Callable[[], Policy], calls: Sequence[Recorded], played: list[Played]
) -> tuple[list[Played], bool, int]:
    """Play again what went another way, a little sooner or later, the first such call first: what follows it may have
    gone another way because of it."""
    nudges: dict[int, Nudge] = {}
    while len(nudges) < _MOST_NUDGED and (first := _first_different(played)) is not None:
        for nudge in _NUDGES:
            _, tried = _pass(policy, calls, {**nudges, first.call.sequence: nudge})
            other = _first_different(tried)
            if other is None or _order(other) > _order(first):
                nudges[first.call.sequence] = nudge
                played = tried
                break
        else:
            break
    return played, True, len(nudges)


async def _play(policy: Policy, calls: Sequence[Recorded], nudges: Nudges) -> list[Played]:
    loop = asyncio.get_running_loop()
    guarded = policy(run)
    played: list[Played] = []
    tasks: list[asyncio.Task[None]] = []

    async def one(call: Recorded) -> None:
        script = begin(call, nudges.get(call.sequence, Nudge()))
        began = loop.time()
        if call.outcome == "cancelled":
            await _until_cancelled(guarded, call)
            return
        outcome, kind = await _outcome(guarded, script)
        played.append(Played(call, loop.time() - began, outcome, kind, script.runs, script.unknown))

    for start, call in sorted(_beginnings(calls, nudges), key=lambda each: (each[0], each[1].sequence)):
        if start > loop.time():
            await asyncio.sleep(start - loop.time())
        tasks.append(loop.create_task(one(call)))
    await asyncio.gather(*tasks)
    return played


def _beginnings(calls: Sequence[Recorded], nudges: Nudges) -> Iterator[tuple[float, Recorded]]:
    for call in calls:
        nudge = nudges.get(call.sequence)
        yield (call.start if nudge is None else call.start + nudge.start), call


async def _until_cancelled(guarded: Callable[[], Any], call: Recorded) -> None:
    """A call that was cancelled from outside: it counts for nothing, but it was there, and others met it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(call.duration):
            await guarded()


async def _outcome(guarded: Callable[[], Any], script: Script) -> tuple[str, str | None]:
    call = script.call
    try:
        if call.deadline is None:
            answer = await guarded()
        else:
            with deadline(max(call.deadline, 1e-9)):
                answer = await guarded()
    except Rejected:
        return "rejected", "rejected"
    except Exception as error:
        if error is script.bad:
            return "success", None
        return "failure", classify(error).kind
    return ("success" if answer is ANSWER else "fallback"), None


def _replay(played: list[Played], same_policy: bool, near: int) -> Replay:
    changes = Counter(f"{p.call.outcome} -> {p.outcome}" for p in played if p.call.outcome != p.outcome)
    good = sum(p.outcome == "success" for p in played)
    was_good = sum(p.call.outcome == "success" for p in played)
    return Replay(
        calls=len(played),
        same=sum(p.same for p in played),
        near=near,
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
