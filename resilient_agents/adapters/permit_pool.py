"""Permits that any number of event loops and threads share.

anyio's `CapacityLimiter` and `Semaphore` belong to one event loop: two live loops lose wake-ups, and what a closed loop
borrowed stays borrowed. One limit for the whole process needs a pool that wakes each waiter in its own loop or thread;
anyio still does the waiting.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # in `__all__` for event loops
from collections import OrderedDict
from typing import Any

from resilient_agents.core.fork import reset_after_fork
from resilient_agents.core.runtime import Waiter

__all__ = ["Permit", "PermitPool", "Ticket", "running_loop"]

running_loop = _get_running_loop
"""The asyncio loop that runs in this thread, or None. The public function raises instead, which costs more than all
else here."""

_STOCK = 64


class Permit:
    """One slot, held once: a new object for every holder, so that giving one back twice, or late, is harmless.

    `loop`: the asyncio loop whose end would strand it, None where nothing can. `owner`: the thread or task that would
    wait for itself if it asked again. `witness`: set when the permit may outlive its owner, whose identity is then free
    for another.
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

    Locking: taking a permit from the stock and giving one back are single steps on `_free` and `_held`, atomic by
    themselves. The queue is changed under `_lock` only. Whoever queues does so first and then looks at the stock;
    whoever gives back does so first and then looks at the queue; so one of the two sees the other, and no wake-up is
    lost. Nobody is woken under the lock.

    The garbage collector may run the `finally` of a stranded coroutine at any point, this class's own code included. So
    giving back and withdrawing must work in the midst of a locked section: the lock is reentrant, and each single step
    leaves the pool whole.

    A pool may shrink while more permits are held than are left. What is held too much stands in `_owed`, written before
    the stock is emptied: whoever has taken a permit looks there afterwards and gives it back if anything is owed, and
    what is given back pays first. So the number in use cannot rise before it is below the new limit.
    """

    __slots__ = ("__weakref__", "_free", "_held", "_lock", "_owed", "_queue", "_unused", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with full capacity and nobody waiting. Giving back a permit of before changes nothing."""
        self._lock = threading.RLock()
        self._free: list[None] = [None] * min(self.limit, _STOCK)
        self._unused = self.limit - len(self._free)  # the rest of a large limit goes into stock when it is needed
        self._owed: list[None] = []
        self._held: set[Permit] = set()
        self._queue: OrderedDict[Ticket, None] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Permits that are held."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """Callers that wait."""
        return len(self._queue)

    def take(self, loop: asyncio.AbstractEventLoop | None, owner: int) -> Permit | None:
        """A permit from the stock, unless somebody waits; None means that `claim` must look closer."""
        if self._queue:
            return None
        try:
            self._free.pop()
        except IndexError:
            return None
        permit = Permit()
        permit.loop = loop
        permit.owner = owner
        permit.witness = None
        self._held.add(permit)
        if self._owed:  # it shrank: not this one
            self.give_back(permit)
            return None
        return permit

    def give_back(self, permit: Permit) -> None:
        """Return a permit, from any thread. Does nothing for one that was taken back or that the parent of this process
        took."""
        try:
            self._held.remove(permit)
        except KeyError:
            return
        self._free.append(None)
        if self._owed:
            self._pay()
        if self._queue:
            self._serve()

    def resize(self, limit: int) -> None:
        """From now on there are `limit` permits. All that are held stay held; after a shrink none is handed out until
        fewer than `limit` are. After growing, those who wait are served."""
        with self._lock:
            more = limit - self.limit
            self.limit = limit
            if more > 0:
                paid = min(more, len(self._owed))
                del self._owed[:paid]
                self._unused += more - paid
            else:
                spare = min(-more, self._unused)
                self._unused -= spare
                self._owed.extend([None] * (-more - spare))
                self._pay()
        self._serve()

    def _pay(self) -> None:
        with self._lock:
            while self._owed:
                try:
                    self._free.pop()
                except IndexError:
                    return
                try:
                    self._owed.pop()
                except IndexError:  # collected between these lines
                    self._free.append(None)

    def claim(self, loop: asyncio.AbstractEventLoop | None, owner: int) -> Permit | None:
        """A permit, unless all are held on living loops or somebody waits."""
        if not (self._free or self._unused):
            self._take_back_stranded()
        self._stock_up()
        self._serve()
        return self.take(loop, owner)

    def held_by(self, owner: int) -> bool:
        """Does this thread or task hold a permit?"""
        return any(
            permit.owner == owner and (permit.witness is None or permit.witness() is not None)
            for permit in list(self._held)
        )

    def enqueue(self, ticket: Ticket, at_most: int | None) -> bool:
        """Wait in line, or be served at once where possible. False if `at_most` others wait already."""
        if at_most is not None and len(self._queue) >= at_most:
            self._drop_stranded()
        with self._lock:
            if at_most is not None and len(self._queue) >= at_most:
                return False
            self._queue[ticket] = None
        self._serve()
        return True

    def withdraw(self, ticket: Ticket) -> Permit | None:
        """Stop waiting. If the grant was faster, here is the permit: use it or give it back."""
        with self._lock:
            self._queue.pop(ticket, None)
            return ticket.permit

    def _serve(self) -> None:
        while (ticket := self._grant()) is not None:
            if not ticket.waiter.wake():  # its loop was closed: the next one then
                assert ticket.permit is not None
                try:
                    self._held.remove(ticket.permit)
                except KeyError:  # what is left of the waiter was collected, and gave it back
                    continue
                self._free.append(None)

    def _grant(self) -> Ticket | None:
        """Turn a permit of the stock over to the first in line, who is to be woken."""
        with self._lock:
            while self._queue:
                if self._owed:
                    self._pay()
                    if self._owed:
                        return None
                if not self._free:
                    self._stock_up()
                try:
                    self._free.pop()
                except IndexError:  # also if a newcomer that saw no queue was faster: giving back, it will look again
                    return None
                try:
                    ticket, _ = self._queue.popitem(last=False)
                except KeyError:  # collected between these lines
                    self._free.append(None)
                    continue
                permit = Permit()
                permit.loop = ticket.loop
                permit.owner = ticket.owner
                permit.witness = None
                self._held.add(permit)
                ticket.permit = permit
                return ticket
            return None

    def _stock_up(self) -> None:
        with self._lock:
            if self._unused and not self._free:
                some = min(self._unused, _STOCK)
                self._unused -= some
                self._free.extend([None] * some)

    def _take_back_stranded(self) -> None:
        """A loop that was closed under its tasks never runs their `finally`; the garbage collector may, much later or
        never."""
        for permit in list(self._held):
            if permit.loop is not None and permit.loop.is_closed():
                self.give_back(permit)

    def _drop_stranded(self) -> None:
        with self._lock:
            tickets = list(self._queue)
        stranded = [ticket for ticket in tickets if not ticket.waiter.alive()]
        with self._lock:
            for ticket in stranded:
                self._queue.pop(ticket, None)
