"""`Bulkhead`: how many calls may be inside at a time. The slots are our own (see slot_pool.py), anyio does the
waiting."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, NoReturn, cast
from weakref import ref

from resilient_agents import events
from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.slot_pool import (
    Kept,
    SlotPool,
    Ticket,
    when_all_done,
)
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.base.durations import flag, positive_int
from resilient_agents.base.durations import seconds as check_seconds
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.guard import declares
from resilient_agents.core.loops import on_event_loop, running_loop, this_task_or_thread
from resilient_agents.core.runtime import Expired
from resilient_agents.core.threads import Worker, Workers
from resilient_agents.core.waiters import Waiter
from resilient_agents.deadline import current
from resilient_agents.errors import BulkheadFullError

__all__ = ["Bulkhead"]

_BEHIND = 0.001
"""Seconds by which a wait outlasts the deadline in async code, so that whoever enforces the deadline is first to end
it."""

_LOOK = 10.0
"""Seconds after which a call that waits looks whether an event loop was closed under those inside."""


class Bulkhead(Spelled):
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
        shadow: True lets every call in at once, those that wait when it begins included, and reports those that would
            have been rejected. Who would have waited is counted; how long nobody knows, so those who would have come to
            the end of `max_wait` are not told apart. Only with isolation="caller".

    A call that finds no slot raises BulkheadFullError; so does one that would wait for itself, because it is made from
    inside a call that holds a slot of the full bulkhead (or while iterating a stream that does), or because it would
    block an event loop's own thread. What such a call hands to another thread or task and waits for is not known to be
    inside: under `Timeout(thread=True)`, `asyncio.to_thread` or a task group, give it `max_wait` or a bulkhead of its
    own. A deadline that ends the wait raises its own error.

    What a loop holds that was closed under its tasks is taken back by the next call that finds no slot, or after 10
    seconds by those that wait already; a loop that was stopped and
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
        shadow: bool = False,
    ) -> None:
        positive_int(limit, "limit")
        if isolation not in ("caller", "thread"):
            raise ValueError(f'isolation must be "caller" or "thread", got {isolation!r}')
        self.queue = queue if queue is None else positive_int(queue, "queue", minimum=0)
        self.max_wait = max_wait if max_wait is None else check_seconds(max_wait, "max_wait")
        self.isolation = isolation
        self.shadow = flag(shadow, "shadow")
        if shadow and isolation == "thread":
            raise ValueError(
                'shadow=True needs isolation="caller": threads of its own would bound the calls all the same'
            )
        self._pool = SlotPool(limit)
        self._tally = LimitCounts(self._pool.numbers)
        self._workers = _Threads(self._pool) if isolation == "thread" else None
        self.name: str | None = None
        instances.add("bulkhead", self)

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

    def reconfigure(self, new: Bulkhead) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise. Slots in use and the queue
        stay: after a shrink the number in use does not rise before it is below the new limit; after growing, those who
        wait are let in at once, as are all in shadow. Who waits already waits as long as it was told."""
        self.queue, self.max_wait, self.isolation, self.shadow = new.queue, new.max_wait, new.isolation, new.shadow
        if new.isolation != "thread":
            self._workers = None
        elif self._workers is None:
            self._workers = _Threads(self._pool)
        self._pool.resize(new.limit)
        if self.shadow:
            self._pool.serve(beyond=True)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call while holding a slot."""
        pool = self._pool
        held = pool.held
        left_before = call.rare.abandoned
        slot = next(pool.numbers)
        try:
            # `pool.take` and `pool.give_back`, spelled out as far as nobody waits: it is the path of every call.
            held[slot] = running_loop()
            in_use = len(held)
            if in_use > pool.limit or pool.queue:
                await self._admit(call, slot)
            elif in_use > pool.peak:
                pool.rose(in_use)
            if self._workers is not None or call.rare.closers is not None:
                return await self._hold(proceed, call, slot)
            return await proceed(call)
        finally:
            try:
                if call.rare.abandoned is not left_before or call.rare.closers is not None:
                    self._leave(call, slot, left_before)
                else:
                    held.pop(slot, None)
                    if pool.queue:
                        pool.give_back(slot)
            except BaseException:  # from outside, between two of these steps
                self._leave(call, slot, left_before)
                raise

    async def _hold(self, proceed: Proceed, call: Call, slot: int) -> Any:
        """The same for streams, which hold the slot until they close, and for functions that run in threads of ours."""
        workers_before, left_before = call.workers, call.abandoned
        try:
            workers = self._workers
            if workers is not None and not declares(inspect.iscoroutinefunction, call.fn):
                kept = Kept(running_loop())
                self._pool.keep(slot, kept)
                call.workers = cast(Workers, _Crew(workers, self._pool, kept))
            result = await proceed(call)
            if call.closers is not None:
                closer = _Closer(functools.partial(self._leave, call, slot, left_before, closed=True))
                call.closers.append(closer)
                self._pool.keep(slot, Kept(running_loop(), this_task_or_thread(), ref(closer)))
            return result
        finally:
            call.workers = workers_before

    def _leave(self, call: Call, slot: int, left_before: tuple[Worker, ...], *, closed: bool = False) -> None:
        """Give the slot back: when the stream that holds it is `closed`, and the last of the workers that were left
        behind inside has ended."""
        holder = self._pool.held.get(slot)
        if not closed and isinstance(holder, Kept) and holder.stream is not None:
            return
        left = call.abandoned[len(left_before) :]
        if left:
            self._pool.keep(slot, Kept(None))
        when_all_done(left, functools.partial(self._pool.give_back, slot))

    async def _admit(self, call: Call, slot: int) -> None:
        """Let a call in that did not find its slot free at first glance, or raise."""
        loop = running_loop()
        self._tally.not_at_once()
        if self._pool.take(slot, loop):
            self._tally.let_in()
            return
        reason = self._must_not_wait(call)
        if self.shadow:
            self._lend(call, slot, loop, rejects=reason is not None)
        elif reason is not None:
            raise self._full(call, reason)
        else:
            await self._wait(call, slot, loop)

    def _must_not_wait(self, call: Call) -> str | None:
        """Why a call that found no slot is refused at once, wherever the queue ends; None if it may wait."""
        if self._pool.keeps(this_task_or_thread()) or _called_from_inside(self._pool):
            return (
                f"this task or thread holds one of its {self.limit} slots, all of which are taken, and would wait for "
                "itself; give what is called inside another bulkhead, or none"
            )
        if self.queue == 0 or self.max_wait == 0:
            nobody_waits = "queue=0" if self.queue == 0 else "max_wait=0"
            return f"all of its {self.limit} slots are taken, and with {nobody_waits} nobody waits"
        if call.runtime.blocking and on_event_loop():
            return (
                f"all of its {self.limit} slots are taken, and a blocking call that waited for one on an event "
                "loop's own thread would stop the loop; use `await policy.acall(...)`, an async function, or a "
                "worker thread (`anyio.to_thread.run_sync`)"
            )
        return None

    def _lend(self, call: Call, slot: int, loop: asyncio.AbstractEventLoop | None, *, rejects: bool) -> None:
        """A slot beyond the limit. Count, and tell, what the limit would do if it acted."""
        would_wait = max(0, self.in_use - self.limit)
        self._pool.lend(slot, loop)
        if rejects or (self.queue is not None and would_wait >= self.queue):
            self._rejected(call)
            self._tally.let_in()
        else:
            self._tally.made_wait(None)

    async def _wait(self, call: Call, slot: int, loop: asyncio.AbstractEventLoop | None) -> None:
        """Wait in line for the slot. Whoever leaves, however, gives it back in `execute`."""
        pool = self._pool
        began = clock.monotonic()
        seconds = max_wait = self.max_wait  # as they are now: they may change meanwhile
        queue = self.queue
        limit = current()
        if limit is not None and (seconds is None or limit.at - began < seconds):
            seconds = max(0.0, limit.at - began) + (0.0 if call.runtime.blocking else _BEHIND)
        else:
            limit = None
        ticket = Ticket(call.runtime.waiter(), loop)
        if not pool.enqueue(slot, ticket, queue):
            raise self._full(call, f"all of its {self.limit} slots are taken, and {queue} calls wait already")
        if self.shadow:  # since the last look
            pool.serve(beyond=True)
        cut_short, call.cut_short = call.cut_short, True  # a limit that ends the wait tells nothing of the callee
        try:
            await self._granted(ticket.waiter, seconds)
        finally:
            if call.audience is not None:
                call.audience.tell_of_wait("bulkhead", clock.monotonic() - began)
        call.cut_short = cut_short
        if pool.granted(slot):
            waited = clock.monotonic() - began
            call.recheck(self, waited)
            self._tally.made_wait(waited)
        elif limit is None:
            raise self._full(call, f"none of its {self.limit} slots came free within {max_wait:g} s")
        elif call.runtime.blocking:
            raise Expired(limit)  # what a cancellation is in async code: whoever set the limit says what happened
        else:
            raise self._full(call, f"none of its {self.limit} slots came free before the deadline")

    async def _granted(self, waiter: Waiter, seconds: float | None) -> None:
        """Wait for the grant, at most `seconds`. A loop that is closed under those inside wakes nobody: look at
        times."""
        left = math.inf if seconds is None else seconds
        while not await waiter.wait(min(left, _LOOK)) and left > _LOOK:
            left -= _LOOK
            self._pool.take_back_stranded()
            self._pool.serve()

    def _full(self, call: Call, reason: str) -> BulkheadFullError:
        self._rejected(call)
        name = call.name
        whose = f"of {name!r}" if self.name is None else repr(self.name)
        return BulkheadFullError(f"the bulkhead {whose} is full: {reason}", policy=name, strategy="bulkhead")

    def _rejected(self, call: Call) -> None:
        self._tally.reject()
        if call.audience is not None:
            call.audience.tell(events.CallRejected(call.audience.policy, "bulkhead", None, self.name, self.shadow))

    def metrics(self) -> dict[str, Any]:
        """What happened so far, as plain data: slots `in_use` and calls `queued` now; since it was made or
        `reset_metrics` called, how many were in use at a time at most (`peak`), the `calls` that it let in, how many of
        them waited (`waits`) and the `average_wait` of these in seconds (None if there were none), and `rejections`. In
        shadow, waits and rejections are those that would have been, and slots in use may be more than `limit`."""
        in_use = self.in_use
        return {
            "limit": self.limit,
            "in_use": in_use,
            "queued": self.queued,
            "peak": max(in_use, self._pool.peak),  # which may be a call behind
            **self._tally.metrics(),
        }

    def reset_metrics(self) -> None:
        """Count from zero again, and take the slots in use now for the peak."""
        self._pool.reset_peak()
        self._tally.reset()

    def describe(self) -> dict[str, Any]:
        """Options and live state, as plain data."""
        return {
            "strategy": "bulkhead",
            "limit": self.limit,
            "queue": self.queue,
            "max_wait": self.max_wait,
            "isolation": self.isolation,
            "shadow": self.shadow,
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
        if self.shadow:
            parts.append("shadow=True")
        return f"Bulkhead({', '.join(parts)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Bulkhead holds live state (its slots) and cannot be pickled or copied; build one in each process"
        )


class _Closer:
    """What a stream leaves the bulkhead by. It lives as long as the stream may still close."""

    __slots__ = ("__weakref__", "_leave")

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __call__(self, _: object) -> None:
        self._leave()


class _Threads(Workers):
    """As many threads as slots: the limit, or those that are still held after it has shrunk, whose calls go on."""

    def __init__(self, pool: SlotPool) -> None:
        super().__init__(pool.limit, pool.limit, "bulkhead")
        self._pool = pool

    def caps(self) -> tuple[int, int]:
        most = max(self._pool.limit, self._pool.in_use)
        return most, most


class _Crew:
    """The bulkhead's workers for one call: whoever of them runs it is inside, and keeps the slot until it ends."""

    __slots__ = ("_loop", "_pool", "_running", "_workers", "kept", "leave", "strategy")

    def __init__(self, workers: Workers, pool: SlotPool, kept: Kept) -> None:
        self._workers = workers
        self._pool = pool
        self._loop = kept.loop
        self._running: list[None] = []  # one for each thread: its steps are atomic
        self.kept = kept
        self.leave = workers.leave
        self.strategy = workers.strategy

    def prepare(self, work: Callable[[], Any]) -> Worker:
        return self._workers.prepare(functools.partial(self.run, work))

    def begin(self, worker: Worker, policy: str) -> None:
        self._workers.begin(worker, policy)
        self.kept.loop = None  # as long as a thread runs, a loop that is closed frees nothing
        self._running.append(None)
        worker.on_done(self._done)

    def run(self, work: Callable[[], Any]) -> Any:
        """On the worker's thread."""
        return work()

    def _done(self) -> None:
        self._running.pop()
        if not self._running:
            self.kept.loop = self._loop


_INSIDE = (Bulkhead.execute.__code__, _Crew.run.__code__)


def _called_from_inside(pool: SlotPool) -> bool:
    """Is the call that asks made, in this thread or task, by one that is inside already?

    Whoever would wait for itself stands further down the stack. To look there costs only a call that has to wait;
    asking for the task that runs would cost each call more than all else here.
    """
    frame = inspect.currentframe()
    found = 0  # the one that asks is among them
    while frame is not None and found < 2:
        if frame.f_code in _INSIDE and frame.f_locals["self"]._pool is pool:  # noqa: SLF001 - classes of this module
            found += 1
        frame = frame.f_back
    return found > 1
