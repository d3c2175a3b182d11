"""Permits that any number of event loops and threads share.

anyio's `CapacityLimiter` and `Semaphore` belong to one event loop: two live loops lose wake-ups, and what a closed loop
borrowed stays borrowed. One limit for the whole process needs a pool that wakes each waiter in its own loop or thread;
anyio still does the waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import weakref
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # in `__all__` for event loops
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from resilient_agents.adapters.tally import Ticks
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.core.runtime import Waiter
from resilient_agents.core.threads import Worker

__all__ = ["GONE", "USED", "Kept", "Owner", "PermitPool", "Ticket", "running_loop", "running_trio", "when_all_done"]

running_loop = _get_running_loop
"""The asyncio loop that runs in this thread, or None. The public function raises instead, which is dear."""


def running_trio() -> Any:
    """The module `trio` if it runs in this thread, or None."""
    trio: Any = sys.modules.get("trio")
    if not hasattr(trio, "lowlevel"):  # or not yet, while another thread is importing it
        return None
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return trio


Loop: TypeAlias = asyncio.AbstractEventLoop

Owner: TypeAlias = "weakref.ref[Any]"
"""A task or thread, by a weak reference: never equal to one to a later task or thread."""


class Kept:
    """What is known of a slot that is not held by a call that runs.

    `loop`: the asyncio loop whose end would strand it, None where nothing can. `owner`: who would wait for itself if it
    asked again, None for nobody.
    """

    __slots__ = ("loop", "owner")

    def __init__(self, loop: Loop | None, owner: Owner | None = None) -> None:
        self.loop = loop
        self.owner = owner


class Ticket:
    """A place in the queue, and the slot once it is granted."""

    __slots__ = ("fresh", "loop", "slot", "waiter")

    def __init__(self, waiter: Waiter, loop: Loop | None) -> None:
        self.waiter = waiter
        self.loop = loop
        self.slot: int | None = None
        self.fresh = False


GONE = Kept(None)
"""`held.pop(slot, GONE)` for a slot that was given back before."""

USED: Final = False
FRESH: Final = True
"""A slot in stock that was handed out before, and one that never was. The stock is a stack with the fresh ones at the
bottom, so a fresh one goes out only when more slots are in use than ever: what is left of them tells the peak."""

_STOCK = 64


class PermitPool:
    """`limit` slots, handed out first come first served. One that is handed out has a new number each time, so that
    giving it back twice, or late, is harmless.

    `held` tells of each slot the asyncio loop on which its holder runs, whose end would strand it, or more.

    Locking: taking a slot from the stock (`free`) and giving one back are single steps on `free` and `held`, atomic by
    themselves. The rest is changed under `_lock` only. Whoever queues does so first and then looks at the stock;
    whoever gives back does so first and then looks at the queue; so one of the two sees the other, and no wake-up is
    lost. Nobody is woken under the lock.

    The garbage collector may run the `finally` of a stranded coroutine at any point, this class's own code included. So
    giving back and withdrawing must work in the midst of a locked section: the lock is reentrant, and each single step
    leaves the pool whole.

    A pool may shrink while more slots are held than are left. What is held too much stands in `_owed`; what is given
    back pays first. Until all is paid `numbers` numbers nothing: whoever takes something from the stock asks it
    afterwards, and leaves what it took. So the number in use cannot rise before it is below the new limit, and to look
    costs nothing where no pool shrinks.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_loops",
        "_other_numbers",
        "_owed",
        "_owned",
        "_peak",
        "_skip",
        "_unused",
        "_waiting",
        "free",
        "held",
        "limit",
        "numbers",
        "queue",
        "ticks",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ticks = Ticks()  # one for each slot taken straight from the stock, which is its number
        self._other_numbers = itertools.count(-1, -1)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with full capacity and nobody waiting. Giving back a slot of before changes nothing."""
        self._lock = threading.RLock()
        self.free = [FRESH] * min(self.limit, _STOCK)
        self._unused = self.limit - len(self.free)  # the rest of a large limit goes into stock when it is needed
        self._owed: list[None] = []
        self._peak = 0  # apart from what the stock tells
        self.numbers: Iterator[int] = self.ticks
        self.held: dict[int, Loop | Kept | None] = {}
        self._owned: dict[Owner, int] = {}
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        self._waiting: dict[Loop, int] = {}  # how many of the queue wait on each loop
        self._loops: tuple[Loop, ...] = ()
        self._skip = 0

    @property
    def in_use(self) -> int:
        """Slots that are held."""
        return len(self.held)

    @property
    def peak(self) -> int:
        """How many slots were in use at a time, at most, since the start or the last `reset_peak`."""
        with self._lock:
            return max(self._peak, self.limit - self.free.count(FRESH) - self._unused)

    def reset_peak(self) -> None:
        with self._lock:
            for place in range(len(self.free)):
                try:
                    self.free[place] = FRESH
                except IndexError:  # taken meanwhile
                    break
            self._peak = len(self.held)

    @property
    def queued(self) -> int:
        """Callers that wait."""
        return len(self.queue)

    def claim(self, loop: Loop | None) -> int | None:
        """A slot, unless all are held on living loops or somebody waits."""
        if not (self.free or self._unused):
            self.take_back_stranded()
        self._stock_up()
        self.serve()
        while self.free and not self.queue:
            try:
                self.free.pop()
                slot = next(self.numbers)
            except IndexError:  # another thread was faster, or the pool has shrunk
                continue
            self.held[slot] = loop
            return slot
        return None

    def lend(self, loop: Loop | None) -> int:
        """A slot beyond the limit. Until fewer than `limit` are in use again, none is handed out in another way."""
        with self._lock:
            self._pay()
            slot = next(self._other_numbers)
            self.held[slot] = loop
            self._owed.append(None)
            self.numbers = _NoNumbers(self)
            self._peak = max(self._peak, len(self.held))
            return slot

    def lend_to_all(self) -> None:
        """Let all in that wait, beyond the limit where there is no slot for them."""
        self.serve()
        with self._lock:
            self._drop_stranded()
        while (ticket := self._lend_to_first()) is not None:
            if not ticket.waiter.wake():  # its loop was closed just now
                assert ticket.slot is not None
                self.give_back(ticket.slot)

    def _lend_to_first(self) -> Ticket | None:
        with self._lock:
            while self.queue:
                ticket = next(iter(self.queue), None)
                if ticket is not None and self._leave_queue(ticket):
                    ticket.slot = self.lend(ticket.loop)
                    return ticket
            return None

    def give_back(self, slot: int) -> None:
        """Return a slot, from any thread. Does nothing for one that was taken back or that the parent of this process
        took."""
        holder = self.held.pop(slot, GONE)
        if holder is not GONE:
            self.free.append(USED)
            self._disown(holder)
            if self.queue:
                self.serve()

    def resize(self, limit: int) -> None:
        """From now on there are `limit` slots. All that are held stay held; after a shrink none is handed out until
        fewer than `limit` are. After growing, those who wait are served."""
        with self._lock:
            self._peak = self.peak
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
                self.numbers = _NoNumbers(self)
            self._pay()
        self.serve()

    def keep(self, slot: int, kept: Kept) -> int:
        """Another number for a slot that outlives its call."""
        holder = self.held.pop(slot, GONE)
        if holder is GONE:
            return slot
        self._disown(holder)
        if kept.owner is not None:
            with self._lock:
                self._owned[kept.owner] = self._owned.get(kept.owner, 0) + 1
        slot = next(self._other_numbers)
        self.held[slot] = kept
        return slot

    def keeps(self, owner: Owner) -> bool:
        """Has this thread or task kept a slot?"""
        return owner in self._owned

    def enqueue(self, ticket: Ticket, at_most: int | None) -> bool:
        """Wait in line, or be served at once where possible. False if `at_most` others wait already."""
        with self._lock:
            if at_most is not None and len(self.queue) >= at_most:
                self._drop_stranded()
                if len(self.queue) >= at_most:
                    return False
            self.queue[ticket] = None
            if ticket.loop is not None:
                self._waiting[ticket.loop] = self._waiting.get(ticket.loop, 0) + 1
        self.serve()
        return True

    def withdraw(self, ticket: Ticket) -> int | None:
        """Stop waiting. If the grant was faster, here is the slot: use it or give it back."""
        with self._lock:
            self._leave_queue(ticket)
            return ticket.slot

    def serve(self) -> None:
        """Hand out what is in stock to those in line, and wake them; what is owed is paid first."""
        if self._owed:
            self._pay()
        while (ticket := self._grant()) is not None:
            if not ticket.waiter.wake():  # its loop was closed: the next one then
                assert ticket.slot is not None
                if self.held.pop(ticket.slot, GONE) is not GONE:  # else what is left of it was collected, and gave back
                    self._put_back(ticket.fresh)

    def _grant(self) -> Ticket | None:
        """Turn a slot of the stock over to the first in line, who is to be woken."""
        with self._lock:
            while self.queue:
                if self._owed:
                    self._pay()
                    if self._owed:
                        return None
                if not self.free:
                    self._stock_up()
                try:
                    taken = self.free.pop()
                except IndexError:  # also if a newcomer that saw no queue was faster: giving back, it will look again
                    return None
                ticket = next(iter(self.queue), None)
                if ticket is None or not self._leave_queue(ticket):  # collected between these lines
                    self.free.append(taken)
                    continue
                ticket.fresh = taken
                ticket.slot = slot = next(self._other_numbers)
                self.held[slot] = ticket.loop
                return ticket
            return None

    def _put_back(self, taken: bool) -> None:
        """Into the stock, as one that nobody has used."""
        self.free.insert(0 if taken else len(self.free), taken)

    def _pay(self) -> None:
        with self._lock:
            while self._owed:
                try:
                    taken = self.free.pop()
                except IndexError:
                    return
                try:
                    self._owed.pop()
                except IndexError:  # collected between these lines
                    self.free.append(taken)
            self.numbers = self.ticks

    def _disown(self, holder: Loop | Kept | None) -> None:
        if type(holder) is Kept and holder.owner is not None:
            with self._lock:
                others = self._owned.pop(holder.owner, 0) - 1
                if others > 0:
                    self._owned[holder.owner] = others

    def _leave_queue(self, ticket: Ticket) -> bool:
        try:
            del self.queue[ticket]
        except KeyError:
            return False
        if ticket.loop is not None:
            others = self._waiting.get(ticket.loop, 0) - 1
            if others > 0:
                self._waiting[ticket.loop] = others
            else:
                self._waiting.pop(ticket.loop, None)
        return True

    def _stock_up(self) -> None:
        with self._lock:
            if self._unused and not self.free:
                some = min(self._unused, _STOCK)
                self._unused -= some
                self.free[:0] = [FRESH] * some  # at the bottom: something may have been given back meanwhile

    def take_back_stranded(self) -> None:
        """A loop that was closed under its tasks never runs their `finally`; the garbage collector may, much later or
        never.

        Looking at all who hold a slot is dear where there are many, and every call that finds the pool full comes here.
        So they are looked at when a loop was closed that was seen there, and apart from that only after so many calls
        that it does not matter.
        """
        self._skip -= 1
        if self._skip > 0 and not any(loop.is_closed() for loop in self._loops):
            return
        holders = list(self.held.items())
        self._skip = len(holders) // 4
        loops = {slot: holder.loop if isinstance(holder, Kept) else holder for slot, holder in holders}
        closed = {loop for loop in set(loops.values()) if loop is not None and loop.is_closed()}
        self._loops = tuple(loop for loop in set(loops.values()) - closed if loop is not None)
        for slot, loop in loops.items():
            if loop in closed:
                self.give_back(slot)

    def _drop_stranded(self) -> None:
        closed = {loop for loop in list(self._waiting) if loop.is_closed()}
        if closed:
            for ticket in list(self.queue):
                if ticket.loop in closed:
                    self._leave_queue(ticket)


class _NoNumbers:
    """In place of the numbers while more slots are held than there are: puts back what the asker took."""

    __slots__ = ("_pool",)

    def __init__(self, pool: PermitPool) -> None:
        self._pool = pool

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self._pool.free.append(USED)
        self._pool.serve()
        raise IndexError


def when_all_done(workers: tuple[Worker, ...], then: Callable[[], object]) -> None:
    """Call `then` when the last of these workers has ended."""
    if workers:
        workers[0].on_done(lambda: when_all_done(workers[1:], then))
    else:
        then()
