"""anyio's own `CapacityLimiter` and `Semaphore` as strategies: async code only, on one event loop at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import anyio

from resilient_agents.adapters.slot_pool import when_all_done
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.core.loops import running_loop, running_trio
from resilient_agents.core.threads import Worker

__all__ = ["adapt_native"]


def adapt_native(thing: Any) -> Strategy | None:
    """An anyio `CapacityLimiter` or `Semaphore` as a strategy, None for anything else.

    It keeps its own limit, order and statistics, and is shared with whoever else uses it. It knows no queue bound and
    no longest wait, does not notice a task that waits for itself, and belongs to one event loop at a time: a call from
    blocking code, from trio after asyncio, or from a second loop while the first holds slots raises TypeError.
    """
    if isinstance(thing, anyio.CapacityLimiter):
        return _Native(thing, _Limiter(thing))
    if isinstance(thing, anyio.Semaphore):
        return _Native(thing, _Semaphore(thing))
    return None


class _Slots(Protocol):
    """What differs between the two. `holder` is one object per call: a task may hold several slots, and pass them
    on."""

    def take(self, holder: object, /) -> None: ...
    async def wait(self, holder: object, /) -> None: ...
    def give_back(self, holder: object, /) -> None: ...
    def describe(self) -> dict[str, Any]: ...


class _Limiter:
    def __init__(self, limiter: anyio.CapacityLimiter) -> None:
        self._limiter = limiter
        self.take = limiter.acquire_on_behalf_of_nowait
        self.wait = limiter.acquire_on_behalf_of
        self.give_back = limiter.release_on_behalf_of

    def describe(self) -> dict[str, Any]:
        return {"native": "anyio.CapacityLimiter"}


class _Semaphore:
    def __init__(self, semaphore: anyio.Semaphore) -> None:
        self._semaphore = semaphore

    def take(self, holder: object) -> None:
        self._semaphore.acquire_nowait()

    async def wait(self, holder: object) -> None:
        await self._semaphore.acquire()

    def give_back(self, holder: object) -> None:
        self._semaphore.release()

    def describe(self) -> dict[str, Any]:
        return {"native": "anyio.Semaphore"}


class _Native:
    """The strategy. Locking: what is known of the loop and of those inside is changed under `_lock`, so that two loops
    cannot both think it theirs."""

    def __init__(self, native: anyio.CapacityLimiter | anyio.Semaphore, slots: _Slots) -> None:
        self._native = native
        self._slots = slots
        self._loop: Any = None
        self._inside: dict[object, bool] = {}  # and whether they hold a slot already
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child: the parent's loop does not run, and what its calls hold is to be given back."""
        self._lock = threading.RLock()
        self._over = bool(self._inside)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call while holding a slot."""
        loop = None if call.runtime.blocking else _loop_or_token()
        if loop is None:
            raise TypeError(
                f"an anyio {self._kind} works in async code only: use Bulkhead, which works in blocking code too "
                "(or `await policy.acall(...)`, if the function is async)"
            )
        holder = object()
        self._enter(loop, holder)
        kept = False
        left_before = call.abandoned
        try:
            if not self._take(holder):
                began = clock.monotonic()
                cut_short, call.cut_short = call.cut_short, True  # a limit that ends this tells nothing of the callee
                try:
                    await self._slots.wait(holder)
                finally:
                    waited = clock.monotonic() - began
                    if call.audience is not None:
                        call.audience.tell_of_wait("bulkhead", waited)
                call.cut_short = cut_short
                self._hold(holder)
                call.recheck(self, waited)
            result = await proceed(call)
            if call.closers is not None:
                call.closers.append(lambda _: self._leave(call, loop, holder, left_before))
                kept = True
            return result
        finally:
            if not kept:
                self._leave(call, loop, holder, left_before)

    def _take(self, holder: object) -> bool:
        try:
            self._slots.take(holder)
        except Exception as error:
            if type(error).__name__ != "WouldBlock":  # anyio's, or trio's own, which anyio 4.0 lets through
                raise
            return False
        self._hold(holder)
        return True

    def _hold(self, holder: object) -> None:
        with self._lock:
            if holder in self._inside:
                self._inside[holder] = True

    def _enter(self, loop: Any, holder: object) -> None:
        with self._lock:
            if loop is not self._loop or self._over:
                if self._over or (_backend(self._loop) == "asyncio" and self._loop.is_closed()):
                    self._take_back()
                if self._inside:
                    raise TypeError(
                        f"this anyio {self._kind} is in use on another event loop, and works on one at a time: "
                        f"use Bulkhead, which all loops and threads may share"
                    )
                if self._loop is not None and _backend(loop) != _backend(self._loop):
                    raise TypeError(
                        f"this anyio {self._kind} was first used on {_backend(self._loop)} and cannot work on "
                        f"{_backend(loop)}: use Bulkhead, which works on both"
                    )
                self._loop = loop
            self._inside[holder] = False

    def _take_back(self) -> None:
        """The loop was closed under those inside, or this is a forked child: what they hold is free.

        One that waited is handed the slot of another that is given back, and can do nothing with it: so a slot is given
        back for each of them.
        """
        self._over = False
        inside, self._inside = self._inside, {}
        for holder in inside:
            try:
                self._slots.give_back(holder)
            except (RuntimeError, AttributeError):  # what anyio and trio raise when they wake one without its loop
                pass

    def _leave(self, call: Call, loop: Any, holder: object, left_before: tuple[Worker, ...]) -> None:
        """Give the slot back: now, or when the last worker thread that was left behind ends, but always on the loop."""

        def leave() -> None:
            with self._lock:
                holds = self._inside.pop(holder, False)
            if holds:
                self._slots.give_back(holder)

        left = call.abandoned[len(left_before) :]
        if left:
            when_all_done(left, lambda: _post(loop, leave))
        else:
            leave()

    @property
    def _kind(self) -> str:
        return "CapacityLimiter" if isinstance(self._native, anyio.CapacityLimiter) else "Semaphore"

    def describe(self) -> dict[str, Any]:
        """Which native object it is; its live numbers are its own `statistics()`, on its loop."""
        return {"strategy": "bulkhead", **self._slots.describe()}

    def __repr__(self) -> str:
        return f"{self._kind}(...)"


def _loop_or_token() -> Any:
    """What stands for the event loop of this thread: the asyncio loop, or the token of trio."""
    loop = running_loop()
    if loop is None and (trio := running_trio()) is not None:
        return trio.lowlevel.current_trio_token()
    return loop


def _backend(loop: Any) -> str:
    return "asyncio" if hasattr(loop, "call_soon_threadsafe") else "trio"


def _post(loop: Any, callback: Callable[[], None]) -> None:
    try:
        (loop.call_soon_threadsafe if _backend(loop) == "asyncio" else loop.run_sync_soon)(callback)
    except RuntimeError:  # the loop has ended, and the slot with it
        pass
