"""Slots that any number of event loops and threads share.

anyio's `CapacityLimiter` and `Semaphore` belong to one event loop: two live loops lose wake-ups, and what a closed loop
borrowed stays borrowed. One limit for the whole process needs a pool that wakes each waiter in its own loop or thread;
anyio still does the waiting.
"""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from resilient_agents.base import timers
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.base.told import Fields
from resilient_agents.core.call import ORDINARY, Rare
from resilient_agents.core.loops import Loop, Owner
from resilient_agents.core.threads import Worker
from resilient_agents.core.waiters import Waiter

__all__ = ["LOOK", "Kept", "SlotPool", "when_all_done"]


LOOK = 10.0
"""Seconds after which a call that waits looks whether an event loop was closed under those inside."""


class Kept(Fields):
    """What is known of a slot that is not held by a call that runs where it was called.

    `loop`: the asyncio loop whose end would strand it, None where nothing can; as long as a worker runs for the call
    or a branch of it, of which `rare` knows, that does not. `owner`: who would wait for itself if it asked again, None
    for nobody. `stream`: what lives as long as the stream that holds it, None where there is none.
    """

    loop: Loop | None
    owner: Owner | None = None
    stream: weakref.ref[Any] | None = None
    rare: Rare = ORDINARY


_ASKED: Final = Kept(None)
"""Stands for the holder of a slot for which there may be none free: whoever put it there is about to look."""


class SlotPool:
    """`limit` slots, handed out first come first served.

    A slot is a number that its caller takes from `numbers`, a new one each time. It is in `held` while it is held, with
    the asyncio loop on which its holder runs (or more, see `Kept`), in `queue` while it is waited for, and to give it
    back is to take it out of both. So giving back twice, or late, or what was never granted, is harmless; what is free
    is `limit - len(held)`; and a new limit holds from the next look on.

    *Put in first, then look.* Whoever wants a slot puts its number into `held` and counts; where that makes too many,
    or somebody waits, it takes it out again. Whoever gives back takes out first and then looks at the queue; whoever
    queues does so first and then looks whether a slot is free. So of two that meet at least one sees the other: nobody
    believes to have got a slot that is not there, and no wake-up is lost. These are single steps on dictionaries, which
    need no lock where nobody waits; what takes more is done under `_lock`. Nobody is woken under it.

    `usual`: so many were held at a time before (`peak`), within the limit, which is all that most calls look at.

    An exception from outside, such as a signal handler's, can land between any two steps. Whoever took a number gives
    it back in the end, wherever it is by then, and repeats that where it was interrupted; one that was granted a slot
    stays in the queue until it was woken. The garbage collector may run the `finally` of a stranded coroutine, and so
    `give_back`, at any point as well, this class's own code included: the lock is reentrant, and each step leaves the
    pool whole.
    """

    __slots__ = (
        *("__weakref__", "_lock", "_looking", "_loops", "_owners", "_skip"),
        *("held", "limit", "numbers", "peak", "queue", "usual"),
    )

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.numbers = itertools.count()
        self._lock = Lock()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with full capacity and nobody waiting. Giving back a slot of before changes nothing."""
        self.held: dict[int, Loop | Kept | None] = {}
        self.queue: OrderedDict[int, Waiter] = OrderedDict()
        self.peak = self.usual = 0
        self._owners: dict[int, Owner] = {}  # of slots that were kept
        self._looking: set[Loop] = set()  # at times, as somebody waits there
        self._loops: set[Loop] = set()  # on which somebody waits, or held a slot at the last look
        self._skip = 0

    @property
    def in_use(self) -> int:
        """Slots that are held. Who has put itself there only to look finds them all taken, and is none of these."""
        return min(len(self.held), max(self.limit, self.peak))

    @property
    def queued(self) -> int:
        """Callers that wait."""
        return len(self.queue)

    def rose(self, in_use: int) -> None:
        """Note how many slots are in use, if they are more than ever."""
        with self._lock:
            self.peak = max(self.peak, in_use)
            self.usual = min(self.peak, self.limit)

    def reset_peak(self) -> None:
        """Take the slots in use now for the most that ever were."""
        in_use, self.peak = self.in_use, 0
        self.rose(in_use)

    def take(self, slot: int, loop: Loop | None) -> bool:
        """Hold `slot`, unless all are held on living loops or somebody waits."""
        self.held.pop(slot, None)  # put there by a caller that has looked without the lock, and found too many
        if len(self.held) >= self.limit:
            self.take_back_stranded()
        self.serve()
        with self._lock:
            if self.queue:
                return False
            self.held[slot] = loop
            in_use = len(self.held)
            if in_use > self.limit:
                self.held.pop(slot, None)
                return False
            self.rose(in_use)
            return True

    def lend(self, slot: int, loop: Loop | None) -> None:
        """Hold `slot` beyond the limit. Until fewer than `limit` are in use again, none is handed out in another
        way."""
        self.held[slot] = loop
        self.rose(len(self.held))

    def give_back(self, slot: int) -> None:
        """Return a slot, or stop waiting for it, from any thread. Does nothing for one that was taken back or that the
        parent of this process took."""
        if slot in self._owners or slot in self.queue:
            with self._lock:
                self.queue.pop(slot, None)
                self._owners.pop(slot, None)
                self.held.pop(slot, None)
        self.held.pop(slot, None)  # what does not wait in line, nobody grants
        self.serve()

    def resize(self, limit: int) -> None:
        """From now on there are `limit` slots. All that are held stay held; after a shrink none is handed out until
        fewer than `limit` are. After growing, those who wait are served."""
        with self._lock:
            self.usual = 0
            self.limit = limit
        self.serve()

    def keep(self, slot: int, kept: Kept) -> None:
        """`slot` outlives its call. Does nothing for one that was taken back."""
        with self._lock:
            if slot in self.held:
                self.held[slot] = kept
                self._owners.pop(slot, None)
                if kept.owner is not None:
                    self._owners[slot] = kept.owner

    def keeps(self, owner: Owner) -> bool:
        """Has this thread or task kept a slot?"""
        return owner in self._owners.values()

    def enqueue(self, slot: int, waiter: Waiter, at_most: int | None) -> bool:
        """Wait in line for `slot`, or be served at once where possible. False if `at_most` others wait already."""
        if at_most is not None and len(self.queue) >= at_most:
            self.take_back_stranded()
        with self._lock:
            if at_most is not None and len(self.queue) >= at_most:
                return False
            if waiter.loop is not None:
                self._loops.add(waiter.loop)
            self.queue[slot] = waiter
        self.serve()
        return True

    def granted(self, slot: int) -> bool:
        """Stop waiting for `slot`. Is it held by now?"""
        if slot in self.queue:
            with self._lock:
                self.queue.pop(slot, None)
        return slot in self.held

    def serve(self, *, beyond: bool = False) -> None:
        """Hand out what is free to those in line, or with `beyond` a slot to each of them, and wake them."""
        held, queue = self.held, self.queue
        while queue and (granted := self._grant(beyond)) is not None:
            slot, waiter = granted
            in_use = len(held) if beyond else self.in_use if self.usual < self.limit else 0
            alive = waiter.wake()
            queue.pop(slot, None)  # without the lock: who is granted a slot is by that out of everybody else's reach
            if not alive:  # its loop was closed: the next one then
                held.pop(slot, None)
            elif in_use > self.usual:
                self.rose(in_use)
            if len(held) >= self.limit and not beyond:
                break  # most often; who put itself there for a moment serves when it has left

    def _grant(self, beyond: bool) -> tuple[int, Waiter] | None:
        """Let the first in line hold its slot. It stays there until it was woken, perhaps by another thread."""
        held, queue = self.held, self.queue
        with self._lock:
            while queue:
                try:
                    slot = next(iter(queue))
                    waiter = queue[slot]  # one step from here to the call of `len`
                except (StopIteration, RuntimeError, KeyError):  # one was collected between these steps
                    continue
                if slot in held and held[slot] is not _ASKED:
                    return slot, waiter
                held[slot] = _ASKED
                fits = len(held) <= self.limit or beyond
                if slot not in queue or slot not in held:  # in between it was collected, or asked for again
                    continue
                if fits:
                    held[slot] = waiter.loop
                    return slot, waiter
                held.pop(slot, None)
                break
            return None

    def look_at_times(self, loop: Loop) -> None:
        """While tasks wait on this loop, for as long as it takes: one alarm for all of them."""
        if loop not in self._looking:
            self._looking.add(loop)
            timers.set_alarm(loop, LOOK, _Look(self, loop))

    def look_again(self, loop: Loop) -> None:
        """The time for that has come."""
        self._looking.discard(loop)
        if self.queue:
            self.look_at_times(loop)
            self.look()

    def look(self) -> None:
        """Who waits hears nothing of loops that were closed under those inside, nor of wake-ups that were lost."""
        self.take_back_stranded()
        self.serve()

    def take_back_stranded(self) -> None:
        """A loop that was closed under its tasks never runs their `finally`; the garbage collector may, much later or
        never. Nor does a stream give back what it holds where an exception from outside kept it from closing.

        Looking at all who hold a slot is dear where there are many, and every call that finds the pool full comes here.
        So they are looked at when a loop was closed that was seen there, and apart from that only after so many calls
        that it does not matter. Who waits says where.
        """
        closed = {loop for loop in list(self._loops) if loop.is_closed()}
        self._skip -= 1
        if self._skip > 0 and not closed:
            return
        inside = list(self.held.items())
        self._skip = len(inside) // 4
        seen = {loop for loop in {_loop_of(holder) for _, holder in inside} if loop is not None}
        closed.update(loop for loop in seen if loop.is_closed())
        if closed:
            for slot, waiter in list(self.queue.items()):
                if waiter.loop in closed:
                    self.give_back(slot)
        for slot, holder in inside:
            if _loop_of(holder) in closed or _is_gone(holder):
                self.give_back(slot)
        self._loops.update(seen)
        self._loops.difference_update(closed)
        self._looking.difference_update(closed)


def _is_gone(holder: Loop | Kept | None) -> bool:
    return isinstance(holder, Kept) and holder.stream is not None and holder.stream() is None


class _Look(Fields):
    """An alarm of a loop on which tasks wait."""

    _pool: SlotPool
    _loop: Loop
    entry: int = 0

    def ring(self) -> None:
        self._pool.look_again(self._loop)


def _loop_of(holder: Loop | Kept | None) -> Loop | None:
    if isinstance(holder, Kept):
        return None if _runs(holder.rare) else holder.loop
    return holder


def _runs(rare: Rare) -> bool:
    """Does a worker run for the call or one of its branches? These are looked at first: they hand it on to the call."""
    if any(_runs(branch.rare) for branch in tuple(rare.branches)):
        return True
    return not all(worker.done for worker in rare.abandoned)


def when_all_done(workers: tuple[Worker, ...], then: Callable[[], object]) -> None:
    """Call `then` when the last of these workers has ended."""
    if workers:
        workers[0].on_done(lambda: when_all_done(workers[1:], then))
    else:
        then()
