"""Those who call: arrivals that nobody holds back, or clients that wait for their answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from resilient_agents.errors import Rejected
from resilient_agents.simulate.blocking import TooManyCalls
from resilient_agents.simulate.dependency import ANSWER, draws
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.moment import Moment
from resilient_agents.simulate.result import Histogram
from resilient_agents.simulate.scenario import Load, Times

__all__ = ["Callers"]

Guarded: TypeAlias = Callable[[], Awaitable[Any]]

DRAIN = 600.0
"""Seconds that calls may still take after the last one began."""


class Callers:
    """Calls in virtual time, and how they end. A task that has made its call makes another one later.

    Attributes:
        done: A future, which has a result once the load has ended and all calls, too.
        offered, succeeded, failed, refused: Calls that began, and how they ended.
        fallbacks: Those of the failed that got something in place of the answer.
        durations: Of those that ended.
    """

    def __init__(self, loop: SimulatedLoop, guarded: Sequence[Callable[[], Awaitable[Any]]], seed: str) -> None:
        self.done = loop.create_future()
        self.offered = self.succeeded = self.failed = self.refused = self.fallbacks = 0
        self.durations = Histogram()
        self._loop = loop
        self._guarded = guarded
        self._arrivals = random.Random(f"{seed}/arrivals")
        self._spread = random.Random(f"{seed}/processes")
        self._think = random.Random(f"{seed}/think")
        self._load = Load()
        self._gap = self._thinks = draws(self._load.think, self._think)
        self._next: asyncio.TimerHandle | None = None
        self._arrived = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._idle: list[Moment] = []
        self._clients = 0
        self._ending = False

    def be_offered(self, load: Load) -> None:
        """Call like this from now on."""
        if self._ending:
            return
        self._load = load
        if self._next is not None:
            self._next.cancel()
        if load.arrivals == "closed":
            self._thinks = draws(load.think, self._think)
            while self._clients < load.clients:
                self._think_of(self._clients, None)
                self._clients += 1
        elif load.rate > 0:
            kind: Literal["exponential", "fixed"] = "exponential" if load.arrivals == "poisson" else "fixed"
            self._gap = draws(Times(kind, 1.0 / load.rate), self._arrivals)
            self._next = self._loop.after(self._gap(), self._arrive)

    def end(self) -> None:
        """No call begins from now on."""
        self._ending = True
        if self._next is not None:
            self._next.cancel()
        if self._under_way():
            self._loop.after(DRAIN, self._give_up)
        else:
            self.done.set_result(None)

    def _under_way(self) -> int:
        return self.offered - self.succeeded - self.failed - self.refused

    def _give_up(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _arrive(self) -> None:
        self._next = self._loop.after(self._gap(), self._arrive)
        load, guarded = self._load, self._guarded
        if len(guarded) == 1:
            process = 0
        elif load.arrivals == "poisson":
            process = self._spread.randrange(len(guarded))
        else:
            process = self._arrived % len(guarded)
        self._arrived += 1
        for _ in range(load.fanout):
            if self._idle:
                self._idle.pop().come(guarded[process])
            else:
                self._begin(guarded[process], self._idle.append)

    def _think_of(self, client: int, task: Moment | None) -> None:
        self._loop.after(self._thinks(), self._thought, client, task)

    def _thought(self, client: int, task: Moment | None) -> None:
        """The task of this client makes its next call, None its first one."""
        guarded: Guarded | None = self._guarded[client % len(self._guarded)]
        if self._ending or client >= self._load.clients:
            self._clients -= 1
            guarded = None
        if task is not None:
            task.come(guarded)
        elif guarded is not None:
            self._begin(guarded, partial(self._think_of, client))

    def _begin(self, guarded: Guarded, rest: Callable[[Moment], object]) -> None:
        self._tasks.append(self._loop.create_task(self._call(guarded, rest)))

    async def _call(self, guarded: Guarded | None, rest: Callable[[Moment], object]) -> None:
        """Call after call. `rest` is told of each that has ended, and lets the moment of the next come, or None."""
        loop, durations, following = self._loop, self.durations, Moment(self._loop)
        while guarded is not None:
            began = loop.time()
            self.offered += 1
            try:
                answer = await guarded()
            except Rejected:
                self.refused += 1
            except TooManyCalls as error:
                self.failed += 1
                if not self.done.done():
                    self.done.set_exception(error)
            except Exception:
                self.failed += 1
            else:
                if answer is ANSWER:
                    self.succeeded += 1
                else:
                    self.failed += 1
                    self.fallbacks += 1
            durations.add(loop.time() - began)
            if self._ending and not self._under_way() and not self.done.done():
                self.done.set_result(None)
            rest(following)
            guarded = await following
