"""`replay`: recorded calls again, in virtual time, under the policies that were in force or under other ones."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, TypeAlias

from resilient_agents.core.loops import on_event_loop
from resilient_agents.policy import Policy
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.calls import Recorded, every
from resilient_agents.simulate.courses import TOLERANCE
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.play import Nudges, Played, Player
from resilient_agents.simulate.recast import Recast, configuration
from resilient_agents.simulate.run import virtual
from resilient_agents.simulate.script import Nudge

__all__ = ["TOLERANCE", "Played", "Replay", "replay"]

Policies: TypeAlias = Policy | Mapping[str, Policy]

_ROUNDING: Final = 1e-8
_MOST_LATE: Final = 0.1  # seconds by which calls are moved at most
_MOST_NUDGED: Final = 20  # calls, for each of which all are played again


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What became of recorded calls.

    Attributes:
        calls: Calls that were played; those that were cancelled from outside are played and not counted.
        same: Those that had the recorded outcome, kind of failure and number of requests.
        near: Those of them that did so only when they began, or their requests ended, a little sooner or later than was
            recorded, by `tolerance` at most: they lie so near to a boundary. Looked for under the same policy, where
            `policies` is a function that makes them, for at most 20 calls.
        tolerance: Seconds by which the moments of the recording may be wrong: `TOLERANCE`, or what a wait between two
            attempts was longer than planned, because the machine was busy.
        unknown: Those of which the recording does not say how they would have gone on: they made more attempts than
            were recorded, or waited longer for one that a limit had cut off.
        left: Those of blocking code in which a limit ended a function or a hedge lost: how long its thread went on
            behind their back is not recorded, and taken for nothing.
        same_policy: Whether the policies are those that were in force, by their fingerprints. Retries then wait as long
            as they did.
        success_rate, recorded_success_rate: The shares of calls that succeeded.
        requests, recorded_requests: Requests that were made.
        slower: The largest difference between a call's duration and its recorded one, in seconds, of those that are
            the same.
        changes: How often a call went from one outcome to another.
        notes: What of these policies acts otherwise here than it would, what of the calls is not recorded, and what may
            be why some went another way under the same policies, a sentence each.
        played: The calls one by one.
    """

    calls: int
    same: int
    near: int
    tolerance: float
    unknown: int
    left: int
    same_policy: bool
    success_rate: float
    recorded_success_rate: float
    requests: int
    recorded_requests: int
    slower: float
    changes: dict[str, int]
    notes: Sequence[str]
    played: Sequence[Played]

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes, without the single calls; a share of none is None."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "played"}
        return {name: None if value != value else value for name, value in plain.items()}


def replay(policies: Policies | Callable[[], Policies], calls: Sequence[Recorded]) -> Replay:
    """Play recorded calls again. A recording is that of one process.

    Args:
        policies: The policy, or several by the names that their calls were recorded under; or a function that makes
            these within the virtual time.
        calls: What `recorded` read.

    Raises:
        RuntimeError: called on the thread of an event loop; `TooManyCalls` where more block at once than there are
            threads for.
        ValueError: there are calls of several policies and one is given, or calls of one that is not given.
    """
    if on_event_loop():
        raise RuntimeError("replay() runs an event loop of its own: call it from a thread without one")
    # In a context of its own: a deadline or a budget of the caller's is none of theirs.
    return Context().run(_played, policies, calls)


def _played(policies: Policies | Callable[[], Policies], calls: Sequence[Recorded]) -> Replay:
    passed = _pass(policies, calls, {})
    if isinstance(policies, Policy | Mapping) or not passed.same_policy:
        return _replay(passed, 0)
    return _replay(*_nudged(policies, calls, passed))


class _Pass(NamedTuple):
    """All calls, played once, in the order in which they began; whether the policies are those that were in force."""

    same_policy: bool
    notes: list[str]
    doubts: list[str]
    played: list[Played]


def _pass(policies: Policies | Callable[[], Policies], calls: Sequence[Recorded], nudges: Nudges) -> _Pass:
    # Windows are made of parts that begin at whole multiples of their length, so the clock counts.
    loop = SimulatedLoop(min((call.start for call in calls), default=0.0) - TOLERANCE)
    each = [one for call in calls for one in every(call)]
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        stack.enter_context(virtual(runner.get_loop(), "replay"))
        made = policies if isinstance(policies, Policy | Mapping) else policies()
        threads = BlockingCalls(loop) if any(call.blocking for call in each) else None
        if threads is not None:
            stack.enter_context(threads.running())
        recast = _recast(made, each, threads)
        player = Player(loop, recast, nudges, threads)
        runner.run(player.play(calls))
    notes = {note for policy in recast.values() for note in policy.notes}
    doubts = {doubt for policy in recast.values() for doubt in policy.doubts}
    same = all(policy.same for policy in recast.values())
    return _Pass(same, sorted(notes), sorted(doubts), sorted(player.played, key=_order))


def _recast(policies: Policies, calls: Sequence[Recorded], threads: BlockingCalls | None) -> dict[str, Recast]:
    """The policies under which calls were recorded."""
    told: dict[str, set[str]] = {}
    for call in calls:
        told.setdefault(call.policy, set()).add(call.configuration)
    if isinstance(policies, Policy):
        if len(told) > 1:
            raise ValueError(f"there are calls of the policies {', '.join(sorted(told))}: give all of these, by name")
        policies = dict.fromkeys(told, policies)
    missing = ", ".join(sorted(told.keys() - policies.keys()))
    if missing:
        raise ValueError(f"there are calls of {missing}, which is not among the policies {', '.join(policies)}")
    remade: dict[int, Any] = {}
    return {
        name: Recast(
            policies[name],
            [call for call in calls if call.policy == name],
            same=found == {configuration(policies[name])},
            threads=threads,
            remade=remade,
        )
        for name, found in told.items()
    }


def _order(played: Played) -> tuple[float, int]:
    return played.call.start, played.call.sequence


def _tolerance(calls: Iterable[Recorded]) -> float:
    return min(max([TOLERANCE, *(call.late for call in calls)]), _MOST_LATE)


def _nudges(tolerance: float) -> Iterator[Nudge]:
    """The smallest first."""
    for by in sorted({_ROUNDING, TOLERANCE / 5, TOLERANCE, tolerance}):
        yield from (Nudge(by), Nudge(-by), Nudge(takes=by), Nudge(takes=-by))


def _first_different(played: list[Played]) -> Played | None:
    return next((each for each in played if not each.same), None)


def _nudged(policies: Callable[[], Policies], calls: Sequence[Recorded], passed: _Pass) -> tuple[_Pass, int]:
    """Play again what went another way, a little sooner or later, the first such call first: what follows it may have
    gone another way because of it."""
    nudges: dict[int, Nudge] = {}
    tolerance = _tolerance(calls)
    while len(nudges) < _MOST_NUDGED and (first := _first_different(passed.played)) is not None:
        for nudge in _nudges(tolerance):
            tried = _pass(policies, calls, {**nudges, first.call.sequence: nudge})
            other = _first_different(tried.played)
            if other is None or _order(other) > _order(first):
                nudges[first.call.sequence] = nudge
                passed = tried
                break
        else:
            break
    return passed, len(nudges)


def _notes(passed: _Pass) -> list[str]:
    """What is to be said of these calls; what may be why some went another way only where some did."""
    notes = list(passed.notes)
    if left_out := sum(each.call.left_out for each in passed.played):
        notes.append(
            f"of {left_out:,} of the calls not all is played: they made more attempts and waits than have spans"
        )
    different = [each for each in passed.played if not each.same]
    if passed.same_policy and different:
        met = _met(passed.played)
        if tied := sum(any(met[moment] > 1 for moment in _moments(each.call)) for each in different):
            notes.append(
                f"{tied:,} of those that went another way began, or had a request end, in the same microsecond as "
                "other calls: which was first is not recorded"
            )
        notes += passed.doubts
    return notes


def _moments(call: Recorded) -> set[int]:
    """When it began, and its attempts and itself ended, in microseconds."""
    ends = [call.duration, *(end for _, end in call.rounds)]
    return {round((call.start + each) * 1e6) for each in (0.0, *ends)}


def _met(played: Iterable[Played]) -> Counter[int]:
    return Counter(moment for each in played for moment in _moments(each.call))


def _replay(passed: _Pass, near: int) -> Replay:
    played = passed.played
    changes = Counter(f"{p.call.outcome} -> {p.outcome}" for p in played if p.call.outcome != p.outcome)
    good = sum(p.outcome == "success" for p in played)
    was_good = sum(p.call.outcome == "success" for p in played)
    return Replay(
        calls=len(played),
        same=sum(p.same for p in played),
        near=near,
        tolerance=_tolerance(p.call for p in played),
        unknown=sum(p.unknown for p in played),
        left=sum(p.call.left for p in played),
        same_policy=passed.same_policy,
        success_rate=good / len(played) if played else math.nan,
        recorded_success_rate=was_good / len(played) if played else math.nan,
        requests=sum(p.attempts for p in played),
        recorded_requests=sum(len(p.call.steps) for p in played),
        slower=max((abs(p.duration - p.call.duration) for p in played if p.same), default=0.0),
        changes=dict(sorted(changes.items())),
        notes=_notes(passed),
        played=played,
    )
