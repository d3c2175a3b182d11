"""`Bulkhead`: how many calls may be inside at a time. The slots are our own (see slot_pool.py), anyio does the
waiting."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from types import FrameType, MappingProxyType
from typing import Any, Final, Literal
from weakref import ref

from resilient_agents.adapters.bulkhead_threads import Threads
from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.limit import ON_LOOP, Limit, blocks_a_loop, end_wait
from resilient_agents.adapters.slot_pool import LOOK, Kept, SlotPool, when_all_done
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.core.call import ORDINARY, Call, Proceed
from resilient_agents.core.guard import declares
from resilient_agents.core.loops import running_loop, this_task_or_thread
from resilient_agents.core.options import Count, Flag, Seconds, Word
from resilient_agents.core.runtime import Expired
from resilient_agents.core.threads import Worker
from resilient_agents.errors import BulkheadFullError

__all__ = ["Bulkhead"]

_BEHIND = 0.001
"""Seconds by which a wait outlasts the deadline in async code, so that whoever enforces the deadline is first to end
it. Where nobody does (it has cancelled its task already, and what cleans up waits; or a shield stands between), the
wait ends all the same."""

_OPEN: Final = object()
"""What a stream that is not closed has for an outcome."""


class Bulkhead(Limit):
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
    seconds by those that wait already; a loop that was stopped and not closed may go on, and keeps them.

    Raises TypeError or ValueError for options of a wrong type or value.
    """

    strategy = "bulkhead"
    OPTIONS = MappingProxyType(
        {
            "limit": Count(),
            "queue": Count(none=True, minimum=0),
            "max_wait": Seconds(none=True),
            "isolation": Word(words=("caller", "thread")),
            "shadow": Flag(),
        }
    )
    HOLDS = "its slots"
    _error = BulkheadFullError

    queue: int | None
    isolation: Literal["caller", "thread"]

    def __init__(
        self,
        limit: int,
        *,
        queue: int | None = None,
        max_wait: float | timedelta | None = None,
        isolation: Literal["caller", "thread"] = "caller",
        shadow: bool = False,
    ) -> None:
        self._pool = SlotPool()
        self._counts = LimitCounts()
        self.take(locals())
        if shadow and isolation == "thread":
            raise ValueError(
                'shadow=True needs isolation="caller": threads of its own would bound the calls all the same'
            )
        self._threads = Threads(self._pool) if isolation == "thread" else None
        instances.add("bulkhead", self)

    @property
    def limit(self) -> int:
        """Slots."""
        return self._pool.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._pool.resize(limit)

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
        if new.isolation != "thread":
            self._threads = None
        elif self._threads is None:
            self._threads = Threads(self._pool)
        self.adopt(new)
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
            if len(held) > pool.usual or pool.queue:
                waiting = self._admit(call, slot)
                if waiting is not None:
                    await waiting
            else:
                self._counts.at_once += 1
            if self._threads is not None or call.rare.closers is not None:
                return await self._hold(proceed, call, slot)
            return await proceed(call)
        finally:
            try:
                if call.rare is not ORDINARY and (call.abandoned is not left_before or call.closers is not None):
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
        threads_before, left_before = call.workers, call.abandoned
        try:
            if self._threads is not None and not declares(inspect.iscoroutinefunction, call.fn):
                self._pool.keep(slot, Kept(running_loop(), rare=call.own_rare()))
                call.workers = self._threads
            result = await proceed(call)
            if call.closers is not None:
                leave = partial(self._leave, call, slot, left_before)  # lives as long as the stream may still close
                call.closers.append(leave)
                self._pool.keep(slot, Kept(running_loop(), owner=this_task_or_thread(), stream=ref(leave)))
            return result
        finally:
            call.workers = threads_before

    def _leave(self, call: Call, slot: int, left_before: tuple[Worker, ...], outcome: object = _OPEN) -> None:
        """Give the slot back: when the stream that holds it has its `outcome`, and the last of the workers that were
        left behind inside has ended."""
        holder = self._pool.held.get(slot)
        if outcome is _OPEN and isinstance(holder, Kept) and holder.stream is not None:
            return
        left = call.abandoned[len(left_before) :]
        if left:
            self._pool.keep(slot, Kept(None))
        when_all_done(left, partial(self._pool.give_back, slot))

    def _admit(self, call: Call, slot: int) -> Awaitable[None] | None:
        """Let a call in that did not find its slot free at first glance, after the wait that is returned, or raise."""
        pool = self._pool
        if pool.take(slot, running_loop()):
            self._counts.at_once += 1
            return None
        why = self._must_not_wait(call)
        if self.shadow:
            would_wait = max(0, self.in_use - self.limit)
            pool.lend(slot, running_loop())
            if why is None and (self.queue is None or would_wait < self.queue):
                self._counts.made_wait(None)
            else:
                self._counts.others += 1
                self._reject(call)
            return None
        if why is not None:
            raise self._rejection(call, why)
        return self._wait(call, slot)

    def _must_not_wait(self, call: Call) -> str | None:
        """Why a call that found no slot is rejected at once, wherever the queue ends; None if it may wait."""
        taken = f"is full: all of its {self.limit} slots are taken, and"
        # The frames of `execute` and what it calls are not looked at, nor that of the way in where this is outermost.
        unseen = 4 if call.plan.layers[:1] == (self,) and call.plan.layers.count(self) == 1 else 3
        if self._pool.keeps(this_task_or_thread()) or _called_from_inside(self._pool, unseen):
            return (
                f"is full: this task or thread holds one of its {self.limit} slots, all of which are taken, and would "
                "wait for itself; give what is called inside another bulkhead, or none"
            )
        if self.queue == 0 or self.max_wait == 0:
            return f"{taken} with {'queue=0' if self.queue == 0 else 'max_wait=0'} nobody waits"
        return f"{taken} {ON_LOOP}" if blocks_a_loop(call) else None

    async def _wait(self, call: Call, slot: int) -> None:
        """Wait in line for the slot. Whoever leaves, however, gives it back in `execute`. Each name here is eight bytes
        of every call that waits, and a `with` 140."""
        began = clock.monotonic()
        until, deadline = self._patience(began)
        queue = self.queue  # as it is now: it may change meanwhile
        waiter = call.runtime.waiter()
        if not self._pool.enqueue(slot, waiter, queue):
            raise self._rejection(
                call, f"is full: all of its {self.limit} slots are taken, and {queue} calls wait already"
            )
        if self.shadow:  # since the last look
            self._pool.serve(beyond=True)
        ended: type[BaseException] | None = None
        try:
            if until == math.inf and waiter.loop is not None:
                self._pool.look_at_times(waiter.loop)
                await waiter.wait(None)
            else:
                left = max(0.0, until - began) + (0.0 if deadline is None or call.runtime.blocking else _BEHIND)
                while not await waiter.wait(min(left, LOOK)) and left > LOOK:
                    left -= LOOK
                    self._pool.look()
        except BaseException as error:
            ended = type(error)
            raise
        finally:  # however it ends: who is inside, or gone, and still in line could be granted a second slot
            granted = self._pool.granted(slot)
            waited = end_wait(call, self.strategy, began, ended)
        if granted:
            call.recheck(self, waited)
            self._counts.made_wait(waited)
        elif deadline is not None and call.runtime.blocking:
            raise Expired(deadline)  # what a cancellation is in async code: whoever set the limit says what happened
        elif deadline is not None:
            raise self._rejection(call, f"is full: none of its {self.limit} slots came free before the deadline")
        else:  # so long, whatever the option is by now
            raise self._rejection(call, f"is full: none of its {self.limit} slots came free within {until - began:g} s")

    def metrics(self) -> dict[str, Any]:
        """What happened so far, as plain data: slots `in_use` and calls `queued` now; since it was made or
        `reset_metrics` called, how many were in use at a time at most (`peak`), the `calls` that it let in, how many of
        them waited (`waits`) and the `average_wait` of these in seconds (None if there were none), and `rejections`. In
        shadow, waits and rejections are those that would have been, and slots in use may be more than `limit`."""
        now = self.live()
        peak = max(now["in_use"], self._pool.peak)  # which may be a call behind
        return {"limit": self.limit, **now, "peak": peak, **self._counts.metrics()}

    def reset_metrics(self) -> None:
        """Count from zero again, and take the slots in use now for the peak."""
        self._pool.reset_peak()
        super().reset_metrics()

    def live(self) -> dict[str, Any]:
        return {"in_use": self.in_use, "queued": self.queued}


_INSIDE = (Bulkhead.execute.__code__, Threads.run.__code__)


def _called_from_inside(pool: SlotPool, unseen: int) -> bool:
    """Is the call that asks, beyond so many frames, made in this thread or task by one that is inside already?

    Whoever would wait for itself stands further down the stack. To look there costs only a call that has to wait;
    asking for the task that runs would cost each call more than all else here. A frame that was looked at takes memory
    until it ends, so the asker's own is not.
    """
    frame: FrameType | None
    try:
        frame = sys._getframe(unseen + 1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    except ValueError:  # nothing of Python's called it
        return False
    while frame is not None:
        if frame.f_code in _INSIDE and frame.f_locals["self"]._pool is pool:  # noqa: SLF001 - classes of this module
            return True
        frame = frame.f_back
    return False
