"""anyio's own `CapacityLimiter` and `Semaphore` as strategies: async code only, on one event loop at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import anyio

from resilient_agents.adapters.limit import Queueing
from resilient_agents.adapters.native.owner import Owner, loop_or_token, shared
from resilient_agents.adapters.slot_pool import when_all_done
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.core.threads import Worker

__all__ = ["adapt_native"]


def adapt_native(thing: Any) -> Strategy | None:
    """An anyio `CapacityLimiter` or `Semaphore` as a strategy, None for anything else.

    It keeps its own limit, order and statistics, and is shared with whoever else uses it. It knows no queue bound and
    no longest wait, does not notice a task that waits for itself, and belongs to one event loop at a time: a call from
    blocking code, from trio after asyncio, or from a second loop while the first holds slots raises TypeError.
    """
    if isinstance(thing, anyio.CapacityLimiter):
        of_limiter = (thing.acquire_on_behalf_of_nowait, thing.acquire_on_behalf_of, thing.release_on_behalf_of)
        return shared(thing, lambda: NativeBulkhead("CapacityLimiter", _Slots(*of_limiter)))
    if isinstance(thing, anyio.Semaphore):
        of_semaphore = (lambda _: thing.acquire_nowait(), lambda _: thing.acquire(), lambda _: thing.release())
        return shared(thing, lambda: NativeBulkhead("Semaphore", _Slots(*of_semaphore)))
    return None


class _Slots(NamedTuple):
    """What differs between the two. The holder is one object per call: a task may hold several slots, and pass them
    on."""

    take: Callable[[object], None]
    wait: Callable[[object], Awaitable[None]]
    give_back: Callable[[object], None]


class NativeBulkhead:
    """The strategy. `_inside`: the holders of calls that are inside or wait, and whether they hold a slot already.

    Locking: who owns the object, and who is inside, is changed under `_lock`. That one of these holds a slot is noted
    on its own loop, without a call in between: an exception from outside can strike where a function begins.
    """

    strategy = "bulkhead"

    def __init__(self, kind: str, slots: _Slots) -> None:
        self._kind = kind
        self._slots = slots
        self._owner = Owner(f"anyio {kind}", "is in use on another event loop, and works on one at a time", "Bulkhead")
        self._inside: dict[object, bool] = {}
        self._lock = Lock()

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call while holding a slot."""
        loop = None if call.runtime.blocking else loop_or_token()
        if loop is None:
            raise TypeError(
                f"an anyio {self._kind} works in async code only: use Bulkhead, which works in blocking code too "
                "(or `await policy.acall(...)`, if the function is async)"
            )
        holder, kept = object(), False
        left_before = call.abandoned
        leave = partial(self._leave, call, loop, holder, left_before)
        try:
            with self._lock:
                self._owner.take(loop, free=self._free)
                self._inside[holder] = False
            if not self._take(holder):
                began = clock.monotonic()
                with Queueing(call, self.strategy):
                    await self._slots.wait(holder)
                    if holder in self._inside:  # or the loop of before was closed, and all were given back
                        self._inside[holder] = True
                call.recheck(self, clock.monotonic() - began)
            result = await proceed(call)
            if call.closers is not None:
                call.closers.append(lambda _: leave())
                kept = True
            return result
        finally:
            if not kept:
                try:
                    leave()
                except BaseException:  # from outside, between two steps of it
                    leave()
                    raise

    def _take(self, holder: object) -> bool:
        try:
            self._slots.take(holder)
        except Exception as error:
            if type(error).__name__ != "WouldBlock":  # anyio's, or trio's own, which anyio 4.0 lets through
                raise
            return False
        self._inside[holder] = True
        return True

    def _free(self, ended: bool) -> bool:
        """Give back what those hold whose loop has `ended`. Is nobody left?

        One that waited is handed the slot of another that is given back, and can do nothing with it: so a slot is given
        back for each of them.
        """
        while ended and self._inside:
            holder = next(iter(self._inside))
            try:
                self._slots.give_back(holder)
            except (RuntimeError, AttributeError):  # what anyio and trio raise when they wake one without its loop
                pass
            self._inside.pop(holder, None)
        return not self._inside

    def _leave(self, call: Call, loop: Any, holder: object, left_before: tuple[Worker, ...]) -> None:
        """Give the slot back: now, or when the last worker thread that was left behind ends, but always on the loop. If
        that has ended the next one does (see `_free`)."""
        left = call.abandoned[len(left_before) :]
        give_back = partial(self._give_back, holder)
        if left or loop_or_token() is not loop:  # it was collected elsewhere
            when_all_done(left, partial(self._owner.post, loop, give_back))
        else:
            give_back()

    def _give_back(self, holder: object) -> None:
        if self._inside.get(holder):
            self._slots.give_back(holder)
        self._inside.pop(holder, None)

    def describe(self) -> dict[str, Any]:
        """Which native object it is; its live numbers are its own `statistics()`, on its loop."""
        return {"strategy": self.strategy, "native": f"anyio.{self._kind}"}

    def __repr__(self) -> str:
        return f"{self._kind}(...)"
