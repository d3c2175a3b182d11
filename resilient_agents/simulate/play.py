"""Recorded calls made again, in virtual time: each when it began, in its own colour, with those that it made itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from resilient_agents.classify import classify
from resilient_agents.deadline import deadline, remaining
from resilient_agents.errors import Rejected
from resilient_agents.simulate.answers import answers
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.calls import Recorded
from resilient_agents.simulate.courses import TOLERANCE
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.recast import Recast
from resilient_agents.simulate.script import Ended, Nudge, Script, playing

__all__ = ["Nudges", "Played", "Player"]

Nudges = Mapping[int, Nudge]
"""By the sequence number of a call."""


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


class Player:
    """Plays calls under policies by their names. `played`: those that have ended, but for what was cancelled from
    outside, which counts for nothing; it was there, and others met it."""

    def __init__(
        self, loop: SimulatedLoop, policies: Mapping[str, Recast], nudges: Nudges, threads: BlockingCalls | None
    ) -> None:
        self.played: list[Played] = []
        self._loop = loop
        self._policies = policies
        self._nudges = nudges
        self._threads = threads
        self._left: list[asyncio.Task[Ended]] = []

    async def play(self, calls: Sequence[Recorded]) -> None:
        loop = self._loop
        tasks: list[asyncio.Task[Any]] = []
        for start, call in sorted(self._beginnings(calls), key=lambda each: (each[0], each[1].sequence)):
            if start > loop.time():
                await asyncio.sleep(start - loop.time())
            tasks.append(loop.create_task(self._in_its_colour(call, None)))
        await asyncio.gather(*tasks)
        while self._left:
            task = self._left.pop()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _beginnings(self, calls: Sequence[Recorded]) -> Iterator[tuple[float, Recorded]]:
        for call in calls:
            nudge = self._nudges.get(call.sequence)
            yield (call.start if nudge is None else call.start + nudge.start), call

    def _in_its_colour(self, call: Recorded, within: Script | None) -> Coroutine[Any, Any, Ended]:
        """One call, as a task awaits it."""
        one = self._one(call, within)
        if not call.blocking:
            return one
        assert self._threads is not None
        return self._threads.called(partial(_driven, one))()

    def _inner(self, within: Script, call: Recorded) -> Coroutine[Any, Any, Ended]:
        """One that is made in the course of another one."""
        if within.call.blocking and call.blocking:
            return self._one(call, within)
        return self._in_its_colour(call, within)

    async def _one(self, call: Recorded, within: Script | None) -> Ended:
        """One call. Of a blocking one this never suspends."""
        nudge, policy = self._nudges.get(call.sequence, Nudge()), self._policies[call.policy]
        script = Script(call, nudge, self._loop, policy, self._left, within)
        script.make = partial(self._inner, script)
        began = self._loop.time()
        before = playing.set(script)
        error: Exception | None = None
        outcome, kind = "success", None
        try:
            with self._limited(script):
                if not await self._answered(script):
                    outcome = "fallback"
        except Rejected as raised:
            outcome, kind, error = "rejected", "rejected", raised
        except Exception as raised:
            outcome, kind, error = "failure", classify(raised).kind, raised
        finally:
            playing.reset(before)
        played = Played(call, self._loop.time() - began, outcome, kind, script.runs, script.unknown)
        if call.outcome != "cancelled":
            self.played.append(played)
        return Ended(error, kind, played.same)

    @contextlib.contextmanager
    def _limited(self, script: Script) -> Generator[None]:
        """The deadline that was in force, where the one that a call around it has now is not that one."""
        call, left = script.call, remaining()
        if call.deadline is None or (left is not None and self._has_it(script, call.deadline, left)):
            yield
        else:
            with deadline(max(call.deadline, 1e-9)):
                yield

    def _has_it(self, script: Script, seconds: float, left: float) -> bool:
        within = script.within
        return seconds >= left - TOLERANCE or not (within is None or self._policies[within.call.policy].same)

    async def _answered(self, script: Script) -> bool:
        """Was it the function that answered?"""
        call = script.call
        guarded = self._policies[call.policy].guarded(call.called)
        if call.stream:
            return await self._read(script, guarded())
        if call.blocking:
            return answers(guarded())
        if call.outcome != "cancelled" or script.within is not None:
            return answers(await guarded())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(call.duration):
                await guarded()
        return True

    async def _read(self, script: Script, items: Any) -> bool:
        """A stream to its end, or for as long as it was read."""
        answered, left_early = True, script.call.outcome == "cancelled"
        if script.call.blocking:
            assert self._threads is not None
            with contextlib.closing(items):
                for item in items:
                    answered = answered and answers(item)
                    self._threads.wait_for(script.pause(script.rest))
                    if left_early:
                        break
            return answered
        async with contextlib.aclosing(items):
            async for item in items:
                answered = answered and answers(item)
                await script.pause(script.rest)
                if left_early:
                    break
        return answered


def _driven(one: Coroutine[Any, Any, Ended]) -> Ended:
    """What comes of a coroutine that never suspends."""
    try:
        one.send(None)
    except StopIteration as stop:
        ended: Ended = stop.value
        return ended
    raise AssertionError("a blocking call suspended")
