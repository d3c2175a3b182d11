"""Several passes of one call at the same time, and the one that decides it.

In async code a branch is a task: once the race is decided, the others are cancelled and awaited. In blocking code it is
a daemon thread, which cannot be stopped: the others are left behind (`call.abandoned`), and whoever holds a slot for
them gives it back when they end. What decides comes out as itself, never in an ExceptionGroup. Results that nobody
wants are closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from resilient_agents.base.clock import clock
from resilient_agents.core.branches import Branch, InThreads
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.closing import close_all
from resilient_agents.core.responses import close_now
from resilient_agents.core.runtime import Expired
from resilient_agents.core.threads import Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected

__all__ = ["Choose", "Race"]

Choose = Callable[["Race"], Awaitable[Branch | None]]
"""Starts branches, waits for them, and returns the one that decides; None where not even one found a thread."""


class Race:
    """The branches of one call, and those of them that have ended, in that order.

    A branch leaves its result, then tells of its end, then looks whether the race is `over`; who decides says that it
    is over, and then takes what was left: so one of the two closes a result that nobody wants. There is no lock, for
    what core/threads.py says.
    """

    def __init__(self, call: Call) -> None:
        self.branches: list[Branch] = []
        call.own_rare().branches = self.branches
        self.over = False
        self.kept: Any = None
        self._call = call
        self._start: Callable[[Branch, Proceed], object] | None = None  # in this colour
        self._ended: deque[Branch] = deque()
        self._looked = False
        self._waiter: Waiter | None = None

    async def run(self, proceed: Proceed, workers: Workers, choose: Choose) -> Any:
        """What comes of the branch that `choose(race)` returns; without one, in blocking code for want of a thread,
        `proceed(call)` here."""
        return await (
            self._in_threads(proceed, workers, choose) if self._call.runtime.blocking else self._in_tasks(choose)
        )

    def start(self, branch: Branch, proceed: Proceed) -> bool:
        """Let `proceed(branch)` run. False when there is no thread for it."""
        self.branches.append(branch)
        assert self._start is not None
        try:
            self._start(branch, proceed)
        except Rejected:
            self.branches.remove(branch)
            return False
        return True

    async def next(self, seconds: float | None) -> Branch | None:
        """The next branch that ended, None when none does within `seconds`, or when there is something else to look at.

        Raises Expired in blocking code when the limit in force passes first.
        """
        runtime = self._call.runtime
        self._waiter = waiter = runtime.waiter()  # before the look, so that no end goes unheard
        limit = current() if runtime.blocking else None
        left = None if limit is None else limit.at - clock.monotonic()
        first = left is not None and (seconds is None or left < seconds)
        woken = self._looked or bool(self._ended) or await waiter.wait(left if first else seconds)
        self._looked = False
        if self._ended:
            return self._ended.popleft()
        if first and limit is not None and not woken:
            limit.rung = True
            raise Expired(limit)
        return None

    def end(self, branch: Branch) -> bool:
        """`branch` has ended. False when nobody wants to know any more."""
        self._ended.append(branch)
        self.look()
        return not self.over

    def look(self) -> None:
        """Something has changed for who waits for the next end, or is about to."""
        self._looked = True
        if self._waiter is not None:
            self._waiter.wake()

    def decide(self, winner: Branch | None) -> None:
        """From now on nobody wants to know."""
        self.over = True
        for branch in self.branches:
            branch.lost = branch is not winner

    async def _in_threads(self, proceed: Proceed, workers: Workers, choose: Choose) -> Any:
        threads = InThreads(self, workers, self._call)
        self._start = threads.start
        winner: Branch | None = None
        try:
            winner = await choose(self)
            if winner is None:
                return await proceed(self._call)
            self.kept = winner.take()
            return self.kept
        finally:
            self.decide(winner)
            threads.leave()
            self._hand_back(winner)
            for result in self._unwanted():
                close_now(result)
            self._start = winner = None  # the two refer to each other

    async def _in_tasks(self, choose: Choose) -> Any:
        winner: Branch | None = None
        failed: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                try:
                    self._start = lambda branch, proceed: group.start_soon(self._in_task, branch, proceed)
                    winner = await choose(self)
                except BaseException as error:
                    failed = error  # raised outside of the group, which would wrap it
                group.cancel_scope.cancel()
            if failed is not None:
                raise failed
            assert winner is not None  # a task can always be had
            self.kept = winner.take()
            return self.kept
        finally:
            failed = None
            self.decide(winner)
            self._hand_back(winner)
            try:
                await self._drop_the_rest(winner)
            finally:
                self._start = winner = None  # the two refer to each other

    async def _in_task(self, branch: Branch, proceed: Proceed) -> None:
        try:
            branch.result = await proceed(branch)
        except BaseException as error:  # carried to the task that called; to the group an end is as good as any other
            branch.outcome = error
        self.end(branch)

    async def _drop_the_rest(self, winner: Branch | None) -> None:
        """Close what nobody wants. Raises the interpreter's exit, if a task that was not chosen was the one to hear of
        it."""
        losers = (branch for branch in self.branches if branch is not winner)
        interrupts = (each.outcome for each in losers if isinstance(each.outcome, KeyboardInterrupt | SystemExit))
        interrupt = next(interrupts, None)
        unwanted = self._unwanted()
        if interrupt is not None:
            unwanted.append(self.kept)
        try:
            await close_all(unwanted)
        except anyio.get_cancelled_exc_class():  # a native one, which no shield holds off: nobody gets a result
            unwanted.append(self.kept)
            await close_all(unwanted)
            raise
        if interrupt is not None:
            raise interrupt

    def _hand_back(self, winner: Branch | None) -> None:
        """What the layers outside want to know of the branches."""
        call = self._call
        for branch in self.branches:
            call.abandoned += branch.abandoned
            if branch.error is not None:
                call.error = branch.error
        tells = winner or next(iter(self.branches), None)
        if tells is not None:
            call.waited = tells.waited
            call.cut_short = tells.cut_short

    def _unwanted(self) -> list[Any]:
        """The results of the branches that ended and were not chosen. No branch keeps anything of the user's."""
        results = [branch.drop() for branch in self.branches]
        self.branches.clear()
        return [result for result in results if result is not None and result is not self.kept]
