"""Permits that any number of event loops and threads share.

anyio's `CapacityLimiter` and `Semaphore` belong to one event loop: two live loops lose wake-ups, and what a closed loop borrowed stays
borrowed. One limit for the whole process needs a pool that wakes each waiter in its own loop or thread; anyio still does the waiting.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import OrderedDict
from typing import Any

from resilient_agents.core.fork import reset_after_fork
from resilient_agents.core.runtime import Waiter

__all__ = ["Permit", "PermitPool", "Ticket"]

_STOCK = 64


class Permit:
    """One slot, held once: a new object for every holder, so that giving one back twice, or late, is harmless.

    `loop`: the asyncio loop whose end would strand it, None where nothing can. `owner`: the thread or task that would wait for itself
    if it asked again. `witness`: set when the permit may outlive its owner, whose identity is then free for another.
    """

    __slots__ = ("loop", "owner", "witness")

    loop: asyncio.AbstractEventLoop | None
    owner: int
    witness: weakref.ref[Any] | None


class Ticket:
    """A place in the queue, and the permit once it is granted."""

    __slots__ = ("loop", "owner", "permit", "waiter")

    def __init__(self, waiter: Waiter, loop: asyncio.AbstractEventLoop | None, owner: int) -> None:
        self.waiter = waiter
        self.loop = loop
        self.owner = owner
        self.permit: Permit | None = None


class PermitPool:
    """`limit` permits, handed out first come first served.

    Locking: taking a free permit and giving one back are single steps on `_free` and `_held`, atomic by themselves. Whoever is about to
    queue does so under `_lock` and then looks for a free permit; whoever gives one back puts it into `_free` and then looks for a queue;
    so one of the two sees the other and no wake-up is lost. Taking a ticket out of `_queue` is atomic as well and decides between a
    grant and a withdrawal. The garbage collector may run a stranded coroutine's `finally` at any point, this class's own code included:
    giving back must work within a locked section, which is why `_lock` is reentrant and each step leaves the pool whole.
    """

    __slots__ = ("__weakref__", "_free", "_held", "_lock", "_queue", "_unused", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with full capacity. Permits of before belong to no one here: giving one back changes nothing."""
        self._lock = threading.RLock()
        self._free: list[None] = [None] * min(self.limit, _STOCK)
        self._unused = self.limit - len(self._free)  # the rest of a large limit is put into `_free` only when it is needed
        self._held: set[Permit] = set()
        self._queue: OrderedDict[Ticket, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        return len(self._held)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def take(self, loop: asyncio.AbstractEventLoop | None, owner: int) -> Permit | None:
        """A permit if there is one in stock and nobody waits; None says no more than that `claim` must decide."""
        if self._queue:
            return None
        try:
            self._free.pop()
        except IndexError:
            return None
        permit = Permit()
        permit.loop = loop
        permit.owner = owner
        self._held.add(permit)
        return permit

    def give_back(self, permit: Permit) -> None:
        """Return a permit, from any thread. Does nothing for one that was taken back or belongs to the parent of a fork."""
        try:
            self._held.remove(permit)
        except KeyError:
            return
        self._free.append(None)
        if self._queue:
            self._serve()

    def claim(self, loop: asyncio.AbstractEventLoop | None, owner: int) -> Permit | None:
        """A permit unless all are held by the living or somebody waits."""
        with self._lock:
            if not (self._free or self._unused):
                self._take_back_stranded()
            self._serve()
            if not self._free and self._unused:
                self._stock_up()
            return self.take(loop, owner)

    def held_by(self, owner: int) -> bool:
        """Does this thread or task hold a permit?"""
        for permit in list(self._held):
            if permit.owner == owner:
                witness = getattr(permit, "witness", None)
                if witness is None or witness() is not None:
                    return True
        return False

    def enqueue(self, ticket: Ticket, at_most: int | None) -> bool:
        """Queue up, and be served at once where possible. False if `at_most` others wait already."""
        with self._lock:
            if at_most is not None and len(self._queue) >= at_most:
                self._drop_stranded()
                if len(self._queue) >= at_most:
                    return False
            self._queue[ticket] = None
            self._serve()
            return True

    def withdraw(self, ticket: Ticket) -> Permit | None:
        """Leave the queue. If the grant was faster, the permit, which the caller now has to use or give back."""
        self._queue.pop(ticket, None)
        with self._lock:  # a grant that has taken the ticket out of the queue has also filled it in by the time it unlocks
            return ticket.permit

    def _serve(self) -> None:
        with self._lock:
            while self._queue:
                if not self._free:
                    if not self._unused:
                        return
                    self._stock_up()
                try:
                    self._free.pop()
                except IndexError:  # a newcomer that saw an empty queue was faster; it will give back, and look for a queue
                    continue
                try:
                    ticket, _ = self._queue.popitem(last=False)
                except KeyError:  # withdrawn at this moment
                    self._free.append(None)
                    continue
                permit = Permit()
                permit.loop = ticket.loop
                permit.owner = ticket.owner
                self._held.add(permit)
                ticket.permit = permit
                if not ticket.waiter.wake():
                    self._held.discard(permit)
                    self._free.append(None)

    def _stock_up(self) -> None:
        some = min(self._unused, _STOCK)
        self._unused -= some
        self._free.extend([None] * some)

    def _take_back_stranded(self) -> None:
        """A loop that was closed under its tasks never runs their `finally`; the garbage collector may, much later or never."""
        for permit in list(self._held):
            if permit.loop is not None and permit.loop.is_closed():
                self.give_back(permit)

    def _drop_stranded(self) -> None:
        for ticket in list(self._queue):
            if not ticket.waiter.alive():
                self._queue.pop(ticket, None)
