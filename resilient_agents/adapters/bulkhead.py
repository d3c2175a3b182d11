"""`Bulkhead`: how many calls may be inside at a time. The permits are our own (see permit_pool.py), anyio does the
waiting."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from asyncio import current_task
from collections.abc import Callable
from datetime import timedelta
from threading import get_ident
from typing import Any, Literal, NoReturn, cast
from weakref import ref

from resilient_agents import events
from resilient_agents.adapters.permit_pool import (
    Owner,
    Permit,
    PermitPool,
    Slot,
    Ticket,
    running_loop,
    running_trio,
)
from resilient_agents.core import live
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.clock import clock
from resilient_agents.core.guard import declares
from resilient_agents.core.runtime import Expired, on_event_loop
from resilient_agents.core.threads import Worker, Workers
from resilient_agents.deadline import current
from resilient_agents.durations import positive_int
from resilient_agents.durations import seconds as check_seconds
from resilient_agents.errors import BulkheadFullError

__all__ = ["Bulkhead"]

_BEHIND = 0.001
"""Seconds by which a wait outlasts the deadline in async code, so that whoever enforces the deadline is first to end
it."""


class Bulkhead:
    """At most `limit` calls inside at a time; the others wait in line, first come first served.

    One Bulkhead is one limit for the whole process: threads and tasks of any number of event loops share it, asyncio
    and trio, one after another or at once. It may serve any number of policies. A slot is held from admission to the
    end of the call, for a stream until it closes, and comes back however the call ends. Around a `Retry` it is held
    while the retry sleeps; inside one it is not.

    Args:
        limit: Slots.
        queue: Calls that may wait. 0 rejects at once when all slots are taken; None (default) sets no bound.
        max_wait: Longest wait in seconds (float or timedelta). None (default) waits as long as the deadline in force
            allows.
        isolation: "caller" (default) runs the function where it is called. "thread" runs plain functions in daemon
            threads of the bulkhead's own, at most `limit` of them, so that `limit` bounds them even where a time limit
            leaves some behind: such a slot comes back only when its thread ends. Coroutine functions run where they are
            called in either case.

    A call that finds no slot raises BulkheadFullError; so does one that would wait for itself, because its thread or
    task holds a slot of the full bulkhead already, or because it would block an event loop's own thread. That is known
    of the thread or task that came in (with isolation="thread": of the worker), not of what it hands work to and waits
    for: a `Timeout(thread=True)`, `asyncio.to_thread` or a nested `asyncio.run` inside a slot needs `max_wait`, or a
    bulkhead of its own. A deadline that ends the wait raises its own error.

    What a loop holds that was closed under its tasks is taken back when the slots run out; a loop that was stopped and
    not closed may go on, and keeps them.

    Raises TypeError or ValueError for options of a wrong type or value.
    """

    def __init__(
        self,
        limit: int,
        *,
        queue: int | None = None,
        max_wait: float | timedelta | None = None,
        isolation: Literal["caller", "thread"] = "caller",
    ) -> None:
        positive_int(limit, "limit")
        if isolation not in ("caller", "thread"):
            raise ValueError(f'isolation must be "caller" or "thread", got {isolation!r}')
        self.queue = queue if queue is None else positive_int(queue, "queue", minimum=0)
        self.max_wait = max_wait if max_wait is None else check_seconds(max_wait, "max_wait")
        self.isolation = isolation
        self._pool = PermitPool(limit)
        self._workers = Workers(limit, limit, "bulkhead") if isolation == "thread" else None
        live.add("bulkhead", self)

    @property
    def limit(self) -> int:
        """Slots."""
        return self._pool.limit

    @property
    def in_use(self) -> int:
        """Slots that are held now."""
        return self._pool.in_use

    @property
    def queued(self) -> int:
        """Calls that wait for a slot now."""
        return self._pool.queued

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call while holding a slot."""
        pool = self._pool
        held, free = pool.held, pool.free
        owner: Owner
        if not call.runtime.blocking:
            try:
                owner = ref(current_task())
            except (RuntimeError, TypeError):  # on trio, or outside of any task
                owner = _on_trio()
        else:  # on a loop's own thread it is nobody's: many may begin there, and go on as awaitables together
            owner = get_ident() if running_loop() is None else None
        if owner is None or pool.queue or owner in held or not free:
            slot = await self._slot(call, owner)
        else:
            try:
                free.pop()
            except IndexError:  # another thread was faster
                slot = await self._slot(call, owner)
            else:
                held[owner] = True
                slot = owner
        if self._workers is not None or call.closers is not None:
            return await self._hold(proceed, call, slot, owner)
        left_before = call.abandoned
        try:
            return await proceed(call)
        finally:
            if call.abandoned is not left_before:
                self._give_back(call, slot, left_before)
            elif held.pop(slot, False):  # `pool.give_back(slot)`, spelled out
                free.append(True)
                if pool.queue or type(slot) is Permit:
                    pool.gave_back(slot)

    async def _hold(self, proceed: Proceed, call: Call, slot: Slot, owner: Owner) -> Any:
        """The same for streams, which hold the slot until they close, and for functions that run in threads of ours."""
        workers_before, left_before = call.workers, call.abandoned
        loop = running_loop()
        kept = False
        try:
            if self._workers is not None and not declares(inspect.iscoroutinefunction, call.fn):
                slot = self._pool.exchange(slot, Permit(None, loop))
                call.workers = cast(Workers, _Crew(self._workers, self._pool, slot))
            result = await proceed(call)
            if call.closers is not None:
                permit = Permit(owner, loop)
                if isinstance(owner, int):
                    permit.thread = ref(threading.current_thread())
                slot = self._pool.exchange(slot, permit)
                call.closers.append(lambda _: self._give_back(call, slot, left_before))
                kept = True
            return result
        finally:
            call.workers = workers_before
            if not kept:
                self._give_back(call, slot, left_before)

    def _give_back(self, call: Call, slot: Slot, left_before: tuple[Worker, ...]) -> None:
        """Give the slot back when the last of the workers that were left behind inside has ended."""
        left = call.abandoned[len(left_before) :]
        if not left:
            self._pool.give_back(slot)
            return
        if not isinstance(slot, Permit):  # it is no longer the caller's
            slot = self._pool.exchange(slot, Permit(None, None))
        _when_all_done(left, functools.partial(self._pool.give_back, slot))

    async def _slot(self, call: Call, owner: Owner) -> Slot:
        """A slot for a call that did not get one at first glance."""
        blocks_loop = call.runtime.blocking and on_event_loop()
        if blocks_loop:
            owner = None  # as it is there; trio is not asked for each call
        loop = running_loop()
        slot = self._pool.claim(owner, loop)
        if slot is not None:
            return slot
        if self._pool.held_by(owner):
            raise self._full(
                call,
                f"this task or thread holds one of its {self.limit} slots, all of which are taken, and would wait for "
                "itself; give what is called inside another bulkhead, or none",
            )
        if self.queue == 0 or self.max_wait == 0:
            nobody_waits = "queue=0" if self.queue == 0 else "max_wait=0"
            raise self._full(call, f"all of its {self.limit} slots are taken, and with {nobody_waits} nobody waits")
        if blocks_loop:
            raise self._full(
                call,
                f"all of its {self.limit} slots are taken, and a blocking call that waited for one on an event "
                "loop's own thread would stop the loop; use `await policy.acall(...)`, an async function, or a "
                "worker thread (`anyio.to_thread.run_sync`)",
            )
        return await self._wait(call, loop, owner)

    async def _wait(self, call: Call, loop: asyncio.AbstractEventLoop | None, owner: Owner) -> Slot:
        pool = self._pool
        began = clock.monotonic()
        seconds = self.max_wait
        limit = current()
        if limit is not None and (seconds is None or limit.at - began < seconds):
            seconds = max(0.0, limit.at - began) + (0.0 if call.runtime.blocking else _BEHIND)
        else:
            limit = None
        ticket = Ticket(call.runtime.waiter(), loop, owner)
        if not pool.enqueue(ticket, self.queue):
            raise self._full(call, f"all of its {self.limit} slots are taken, and {self.queue} calls wait already")
        admitted = False
        try:
            cut_short, call.cut_short = call.cut_short, True  # a limit that ends the wait tells nothing of the callee
            await ticket.waiter.wait(seconds)
            call.cut_short = cut_short
            slot = pool.withdraw(ticket)
            if slot is not None:
                waited = clock.monotonic() - began
                if call.audience is not None:
                    call.audience.tell(events.Waited(call.audience.policy, "bulkhead", waited))
                call.recheck(self, waited)
                admitted = True
                return slot
        finally:
            if not admitted:
                slot = pool.withdraw(ticket)
                if slot is not None:
                    pool.give_back(slot)
        if limit is None:
            raise self._full(call, f"none of its {self.limit} slots came free within {self.max_wait:g} s")
        if call.runtime.blocking:
            raise Expired(limit)  # what a cancellation is in async code: whoever set the limit says what happened
        raise self._full(call, f"none of its {self.limit} slots came free before the deadline")

    def _full(self, call: Call, reason: str) -> BulkheadFullError:
        if call.audience is not None:
            call.audience.tell(events.CallRejected(call.audience.policy, "bulkhead"))
        name = call.name
        return BulkheadFullError(f"the bulkhead of {name!r} is full: {reason}", policy=name, strategy="bulkhead")

    def describe(self) -> dict[str, Any]:
        """Options and live state, as plain data."""
        return {
            "strategy": "bulkhead",
            "limit": self.limit,
            "queue": self.queue,
            "max_wait": self.max_wait,
            "isolation": self.isolation,
            "in_use": self.in_use,
            "queued": self.queued,
        }

    def __repr__(self) -> str:
        parts = [repr(self.limit)]
        if self.queue is not None:
            parts.append(f"queue={self.queue!r}")
        if self.max_wait is not None:
            parts.append(f"max_wait={self.max_wait!r}")
        if self.isolation != "caller":
            parts.append(f"isolation={self.isolation!r}")
        return f"Bulkhead({', '.join(parts)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Bulkhead holds live state (its slots) and cannot be pickled or copied; build one in each process"
        )


class _Crew:
    """The bulkhead's workers for one call: whoever of them runs it holds its slot, and would wait for itself asking for
    another."""

    __slots__ = ("_loop", "_permit", "_pool", "_running", "_workers", "abandon", "strategy")

    def __init__(self, workers: Workers, pool: PermitPool, permit: Permit) -> None:
        self._workers = workers
        self._pool = pool
        self._permit = permit
        self._loop = permit.loop
        self._running = 0
        self.abandon = workers.abandon
        self.strategy = workers.strategy

    def start(self, work: Callable[[], Any], policy: str) -> Worker:
        def owning() -> Any:
            self._pool.assign(self._permit, get_ident())
            return work()

        worker = self._workers.start(owning, policy)
        self._permit.loop = None  # as long as a thread runs, a loop that is closed frees nothing
        self._running += 1
        worker.on_done(self._done)
        return worker

    def _done(self) -> None:
        self._pool.assign(self._permit, None)
        self._running -= 1
        if not self._running:
            self._permit.loop = self._loop


def _on_trio() -> Owner:
    trio = running_trio()
    return None if trio is None else ref(trio.lowlevel.current_task())


def _when_all_done(workers: tuple[Worker, ...], then: Callable[[], object]) -> None:
    """Call `then` when the last of them has ended."""
    if workers:
        workers[0].on_done(lambda: _when_all_done(workers[1:], then))
    else:
        then()
