"""Several passes of one call at the same time, and the one that decides it.

In async code a branch is a task: once the race is decided, the others are cancelled and awaited. In blocking code it is
a daemon thread, which cannot be stopped: the others are left behind (`call.abandoned`), and whoever holds a slot for
them gives it back when they end. What decides comes out as itself, never in an ExceptionGroup. Results that nobody
wants are closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.core.call import Branch, Call, Proceed, name_of
from resilient_agents.core.driver import discard, is_awaitable, unfinished
from resilient_agents.core.opening import not_blocking
from resilient_agents.core.runtime import Expired
from resilient_agents.core.threads import Worker, Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Race", "race"]

CLOSING_SECONDS = 5.0
"""How long closing what nobody wants may hold up an async call."""

Referee = Callable[["Race"], Awaitable[Branch | None]]


class _Lanes(Protocol):
    """Where branches run, in one colour."""

    def start(self, branch: Branch, proceed: Proceed) -> bool: ...


class Race:
    """The branches of one call, and those of them that have ended, in that order.

    A branch leaves its result, then tells of its end, then looks whether the race is `over`; who decides says that it
    is over, and then takes what was left: so one of the two closes a result that nobody wants. There is no lock, for
    what core/threads.py says.
    """

    def __init__(self, call: Call) -> None:
        self.branches: list[Branch] = []
        self.lanes: _Lanes | None = None
        self.over = False
        self.kept: Any = None
        self._call = call
        self._ended: deque[Branch] = deque()
        self._looked = False
        self._waiter: Waiter | None = None

    def start(self, branch: Branch, proceed: Proceed) -> bool:
        """Let `proceed(branch)` run. False when there is no thread for it."""
        self.branches.append(branch)
        assert self.lanes is not None
        if self.lanes.start(branch, proceed):
            return True
        self.branches.remove(branch)
        return False

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


async def race(call: Call, proceed: Proceed, workers: Workers, referee: Referee) -> Any:
    """What comes of the branch that `referee(race)` returns, having started some and waited for them; without one, in
    blocking code for want of a thread, `proceed(call)` here."""
    contest = Race(call)
    if call.runtime.blocking:
        return await _in_threads(contest, call, proceed, workers, referee)
    return await _in_tasks(contest, call, referee)


async def _in_threads(contest: Race, call: Call, proceed: Proceed, workers: Workers, referee: Referee) -> Any:
    contest.lanes = lanes = _Threads(contest, workers, call)
    winner: Branch | None = None
    try:
        winner = await referee(contest)
        if winner is None:
            return await proceed(call)
        contest.kept = winner.take()
        return contest.kept
    finally:
        contest.decide(winner)
        lanes.leave()
        _hand_back(call, contest, winner)
        _close_all(_unwanted(contest))
        contest.lanes = winner = None  # the two refer to each other


async def _in_tasks(contest: Race, call: Call, referee: Referee) -> Any:
    winner: Branch | None = None
    failed: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            try:
                contest.lanes = _Tasks(contest, group)
                winner = await referee(contest)
                contest.decide(winner)
            except BaseException as error:
                if isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                failed = error  # raised outside of the group, which would wrap it
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        assert winner is not None  # a task can always be had
        contest.kept = winner.take()
        return contest.kept
    finally:
        failed = None
        contest.decide(winner)
        _hand_back(call, contest, winner)
        try:
            await _drop_the_rest(contest, winner)
        finally:
            contest.lanes = winner = None  # the two refer to each other


async def _drop_the_rest(contest: Race, winner: Branch | None) -> None:
    """Close what nobody wants. Raises the interpreter's exit, if a task that was not chosen was the one to hear of
    it."""
    interrupt = _interrupt(contest, winner)
    unwanted = _unwanted(contest)
    if interrupt is not None:
        unwanted.append(contest.kept)
    try:
        await _aclose_all(unwanted)
    except anyio.get_cancelled_exc_class():  # a native one, which no shield holds off: nobody gets a result
        unwanted.append(contest.kept)
        await _aclose_all(unwanted)
        raise
    finally:
        unwanted.clear()
        winner = None
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt  # no cycle through the traceback


def _hand_back(call: Call, contest: Race, winner: Branch | None) -> None:
    """What the layers outside want to know of the branches."""
    for branch in contest.branches:
        call.abandoned += branch.abandoned
        if branch.error is not None:
            call.error = branch.error
    tells = winner or next(iter(contest.branches), None)
    if tells is not None:
        call.waited = tells.waited
        call.cut_short = tells.cut_short


def _unwanted(contest: Race) -> list[Any]:
    """The results of the branches that ended and were not chosen. No branch keeps anything of the user's."""
    results: list[Any] = []
    for branch in contest.branches:
        _add_unwanted(branch, contest.kept, results)
    contest.branches.clear()
    return results


def _interrupt(contest: Race, winner: Branch | None) -> BaseException | None:
    """The exit that such a task heard of."""
    for branch in contest.branches:
        if branch is not winner and isinstance(branch.outcome, KeyboardInterrupt | SystemExit):
            return branch.outcome
    return None


def _add_unwanted(branch: Branch, kept: Any, results: list[Any]) -> None:
    result, branch.result = branch.result, None
    branch.outcome = branch.error = None
    if result is not None and result is not kept:
        results.append(result)


class _Tasks:
    def __init__(self, contest: Race, group: TaskGroup) -> None:
        self._contest = contest
        self._group = group

    def start(self, branch: Branch, proceed: Proceed) -> bool:
        self._group.start_soon(self._run, branch, proceed)
        return True

    async def _run(self, branch: Branch, proceed: Proceed) -> None:
        try:
            branch.result = await proceed(branch)
        except anyio.get_cancelled_exc_class() as error:
            if self._group.cancel_scope.cancel_called or not isinstance(error, asyncio.CancelledError):
                raise  # the group's affair
            branch.outcome = error  # the function's own, as asyncio allows; the group would take it for one of its own
        except BaseException as error:  # carried to the task that called
            branch.outcome = error
        self._contest.end(branch)


class _Threads:
    def __init__(self, contest: Race, workers: Workers, call: Call) -> None:
        self._contest = contest
        self._workers = workers
        self._started: list[Worker] = []
        self._rare = call.own_rare()
        self._before = self._rare.abandoned

    def start(self, branch: Branch, proceed: Proceed) -> bool:
        worker = self._workers.prepare(partial(self._run, branch, proceed))
        self._started.append(worker)
        # Before it begins: an exception from outside may keep `leave` from beginning.
        self._rare.abandoned = (*self._rare.abandoned, worker)
        try:
            self._workers.begin(worker, branch.name)
        except Rejected:
            return False
        worker.on_done(partial(self._done, branch))
        return True

    def leave(self) -> None:
        """Nobody waits any more for those that still run; the others are as if they had never been."""
        running = [worker for worker in self._started if not worker.done]
        for worker in running:
            self._workers.leave(worker)
        self._rare.abandoned = (*self._before, *running) if running else self._before

    def _run(self, branch: Branch, proceed: Proceed) -> None:
        try:
            chain: Coroutine[Any, Any, Any] = proceed(branch)  # type: ignore[assignment]  # chains are coroutines
            try:
                signal = chain.send(None)
            except StopIteration as done:
                branch.result = done.value
            else:
                unfinished(chain, signal, partial(_refuse_awaitable, branch))
        except BaseException as error:  # carried to the thread that waits
            branch.outcome = error
        if branch.lost:  # here rather than when done: by then the thread counts as free
            self._drop(branch)

    def _done(self, branch: Branch) -> None:
        if not self._contest.end(branch):
            self._drop(branch)

    def _drop(self, branch: Branch) -> None:
        unwanted: list[Any] = []
        _add_unwanted(branch, self._contest.kept, unwanted)
        _close_all(unwanted)


def _refuse_awaitable(call: Call, chain: Any) -> Any:
    if call.closers is not None:
        return not_blocking(chain)
    discard(chain)
    raise TypeError(
        f"{name_of(call.fn)} returned an awaitable, and what is hedged in a blocking call runs in threads: "
        f"use `await policy.acall(...)`, or decorate an async function"
    )


def _close_all(unwanted: list[Any]) -> None:
    for result in unwanted:
        with suppress(Exception):
            close = getattr(result, "close", None)
            if callable(close):
                closing = close()
                if is_awaitable(closing):
                    discard(closing)


async def _aclose_all(unwanted: list[Any]) -> None:
    with timers.scope(CLOSING_SECONDS, shield=True):
        while unwanted:
            result = unwanted.pop(0)
            with suppress(Exception):
                close = getattr(result, "aclose", None) or getattr(result, "close", None)
                if callable(close):
                    closing: Any = close()
                    if is_awaitable(closing):
                        await closing
