"""Permits that any number of event loops and threads share.

anyio's `CapacityLimiter` and `Semaphore` belong to one event loop: two live loops lose wake-ups, and what a closed loop
borrowed stays borrowed. One limit for the whole process needs a pool that wakes each waiter in its own loop or thread;
anyio still does the waiting.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # in `__all__` for event loops
from collections import OrderedDict
from typing import Any, TypeAlias

from resilient_agents.core.fork import reset_after_fork
from resilient_agents.core.runtime import Waiter

__all__ = ["Owner", "Permit", "PermitPool", "Slot", "Ticket", "running_loop", "running_trio"]

running_loop = _get_running_loop
"""The asyncio loop that runs in this thread, or None. The public function raises instead, which is dear."""


def running_trio() -> Any:
    """The module `trio` if it runs in this thread, or None."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return trio


Owner: TypeAlias = "int | weakref.ref[Any] | None"
"""Who would wait for itself if it asked again: a thread by its identity, a task by a weak reference (which is never
equal to one to a later task), or nobody."""


class Permit:
    """A slot that is held in some other way than "by this thread or task, for as long as it is in this call".

    `loop`: the asyncio loop whose end would strand it, None where nothing can. `thread`: set when it may outlive the
    thread that owns it, whose identity is then free for another.
    """

    __slots__ = ("loop", "owner", "thread")

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop | None) -> None:
        self.owner: Owner = owner
        self.loop = loop
        self.thread: weakref.ref[threading.Thread] | None = None


Slot: TypeAlias = "int | weakref.ref[Any] | Permit"
"""What a holder gives back: its owner itself, which holds one slot in this way, or else a Permit."""


class Ticket:
    """A place in the queue, and the slot once it is granted."""

    __slots__ = ("loop", "owner", "slot", "waiter")

    def __init__(self, waiter: Waiter, loop: asyncio.AbstractEventLoop | None, owner: Owner) -> None:
        self.waiter = waiter
        self.loop = loop
        self.owner = owner
        self.slot: Slot | None = None


_STOCK = 64


class PermitPool:
    """`limit` slots, handed out first come first served.

    Locking: taking one from the stock and giving one back are single steps on `free` and `held`, atomic by themselves
    (an owner is put into `held` by its own thread, or while it waits). The rest is changed under `_lock` only. Whoever
    queues does so first and then looks at the stock; whoever gives back does so first and then looks at the queue; so
    one of the two sees the other, and no wake-up is lost. Nobody is woken under the lock.

    The garbage collector may run the `finally` of a stranded coroutine at any point, this class's own code included. So
    giving back and withdrawing must work in the midst of a locked section: the lock is reentrant, and each single step
    leaves the pool whole.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_looks",
        "_loops",
        "_owned",
        "_unused",
        "_waiting",
        "free",
        "held",
        "limit",
        "queue",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with full capacity and nobody waiting. Giving back a slot of before changes nothing."""
        self._lock = threading.RLock()
        self.free: list[bool] = [True] * min(self.limit, _STOCK)
        self._unused = self.limit - len(self.free)  # the rest of a large limit goes into stock when it is needed
        self.held: dict[Slot, bool] = {}
        self._owned: dict[Owner, list[Permit]] = {}
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        self._waiting: dict[asyncio.AbstractEventLoop, int] = {}  # how many of the queue wait on each loop
        self._loops: tuple[asyncio.AbstractEventLoop, ...] = ()
        self._looks = 0

    @property
    def in_use(self) -> int:
        """Slots that are held."""
        return len(self.held)

    @property
    def queued(self) -> int:
        """Callers that wait."""
        return len(self.queue)

    def claim(self, owner: Owner, loop: asyncio.AbstractEventLoop | None) -> Slot | None:
        """A slot, unless all are held on living loops or somebody waits."""
        if not (self.free or self._unused):
            self._take_back_stranded()
        self._stock_up()
        self._serve()
        if self.queue:
            return None
        try:
            self.free.pop()
        except IndexError:
            return None
        return self._enter(owner, loop)

    def give_back(self, slot: Slot) -> None:
        """Return a slot, from any thread. Does nothing for one that was taken back or that the parent of this process
        took."""
        if self.held.pop(slot, False):
            self.free.append(True)
            self.gave_back(slot)

    def gave_back(self, slot: Slot) -> None:
        """What is left to do when it is back in stock."""
        if type(slot) is Permit:
            self._disown(slot)
        if self.queue:
            self._serve()

    def exchange(self, slot: Slot, permit: Permit) -> Permit:
        """Hold a slot as `permit` from now on."""
        if self.held.pop(slot, False):
            if type(slot) is Permit:
                self._disown(slot)
            self._own(permit)
            self.held[permit] = True
        return permit

    def assign(self, permit: Permit, owner: Owner) -> None:
        """Somebody else works under this permit now."""
        with self._lock:
            self._disown(permit)
            permit.owner = owner
            if permit in self.held:
                self._own(permit)

    def held_by(self, owner: Owner) -> bool:
        """Does this thread or task hold a slot?"""
        if owner is None:
            return False
        return owner in self.held or any(
            permit.thread is None or permit.thread() is not None for permit in self._owned.get(owner, ())
        )

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
        self._serve()
        return True

    def withdraw(self, ticket: Ticket) -> Slot | None:
        """Stop waiting. If the grant was faster, here is the slot: use it or give it back."""
        with self._lock:
            self._leave_queue(ticket)
            return ticket.slot

    def _serve(self) -> None:
        while (ticket := self._grant()) is not None:
            if not ticket.waiter.wake():  # its loop was closed: the next one then
                slot = ticket.slot
                assert slot is not None
                if self.held.pop(slot, False):  # else what is left of the waiter was collected, and gave it back
                    if type(slot) is Permit:
                        self._disown(slot)
                    self.free.append(True)

    def _grant(self) -> Ticket | None:
        """Turn a slot of the stock over to the first in line, who is to be woken."""
        with self._lock:
            while self.queue:
                if not self.free:
                    self._stock_up()
                try:
                    self.free.pop()
                except IndexError:  # also if a newcomer that saw no queue was faster: giving back, it will look again
                    return None
                ticket = next(iter(self.queue), None)
                if ticket is None or not self._leave_queue(ticket):  # collected between these lines
                    self.free.append(True)
                    continue
                ticket.slot = self._enter(ticket.owner, ticket.loop)
                return ticket
            return None

    def _enter(self, owner: Owner, loop: asyncio.AbstractEventLoop | None) -> Slot:
        if owner is None or owner in self.held:
            permit = Permit(owner, loop)
            self._own(permit)
            self.held[permit] = True
            return permit
        self.held[owner] = True
        return owner

    def _own(self, permit: Permit) -> None:
        if permit.owner is not None:
            with self._lock:
                self._owned.setdefault(permit.owner, []).append(permit)

    def _disown(self, permit: Permit) -> None:
        with self._lock:
            owned = self._owned.get(permit.owner)
            if owned is not None and permit in owned:
                owned.remove(permit)
                if not owned:
                    del self._owned[permit.owner]

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
                self.free.extend([True] * some)

    def _take_back_stranded(self) -> None:
        """A loop that was closed under its tasks never runs their `finally`; the garbage collector may, much later or
        never.

        Looking at all who hold a slot is dear where there are many, and every call that finds the pool full comes here.
        So they are looked at when a loop was closed that was seen there, and apart from that only after so many calls
        that it does not matter.
        """
        with self._lock:
            self._looks -= 1
            if self._looks > 0 and not any(loop.is_closed() for loop in self._loops):
                return
            slots = list(self.held)
            self._looks = len(slots) // 4
            loops: set[asyncio.AbstractEventLoop] = set()
            stranded: list[Slot] = []
            for slot in slots:
                if isinstance(slot, int):
                    continue
                holder = slot if isinstance(slot, Permit) else slot()
                loop = holder.loop if isinstance(holder, Permit) else _loop_of(holder)
                if holder is None or (loop is not None and loop.is_closed()):
                    stranded.append(slot)
                elif loop is not None:
                    loops.add(loop)
            self._loops = tuple(loops)
        for slot in stranded:
            self.give_back(slot)

    def _drop_stranded(self) -> None:
        closed = [loop for loop in list(self._waiting) if loop.is_closed()]
        if closed:
            for ticket in list(self.queue):
                if ticket.loop in closed:
                    self._leave_queue(ticket)


def _loop_of(task: Any) -> asyncio.AbstractEventLoop | None:
    return task.get_loop() if isinstance(task, asyncio.Future) else None
