"""`Timeout`: how long what is inside may take. What cuts it off, in which colour, stands in core/runtime.py."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.base.warn import warn_once
from resilient_agents.core import given_up
from resilient_agents.core.bounds import WHOLE
from resilient_agents.core.call import Call, Proceed, name_of, unboxed
from resilient_agents.core.guard import declares
from resilient_agents.core.options import Configured, Flag, Seconds
from resilient_agents.core.runtime import EXPIRED
from resilient_agents.core.threads import Workers
from resilient_agents.deadline import Deadline, current, enter, in_force, leave
from resilient_agents.errors import PolicyTimeoutError

__all__ = ["Timeout"]

MAX_THREADS = 256
"""Calls that one `Timeout(thread=True)` runs at a time."""

MAX_ABANDONED = 32
"""Calls that outran their limit and still run; at this many, new ones are rejected."""


class Timeout(Configured):
    """What is inside may take at most `seconds` (float or timedelta); after that PolicyTimeoutError comes out.

    Async code is cancelled and awaited. Around a `Retry` the limit is for all attempts and waits together, inside one
    for each attempt. A limit that an outer one leaves no room for steps aside: the outer one fires. On a stream it
    lasts until the first item. A TimeoutError of the function's own passes through as itself. What the function was
    doing when time ran out is its last error, if any: the PolicyTimeoutError is raised from it.

    A plain function that runs in the caller's thread cannot be interrupted. `thread` chooses what that means:

    - `False`: the limit is looked at between attempts and before waits. A result that comes late is returned
      (`LateResult` says so); an error that comes late is raised as PolicyTimeoutError from it, and not retried by a
      `Retry` outside.
    - `None` (default): the same, and one RuntimeWarning for each function that a blocking call finds to be plain.
    - `True`: it runs in a daemon thread of a pool of this Timeout's own, with the caller's context variables, also
      under `acall`. When time is up the caller goes on and the thread ends when it ends. With 32 such abandoned calls,
      or 256 running ones, further calls raise `Rejected`.

    Raises TypeError or ValueError, when built, for a duration that is not positive and finite and for any other
    `thread`.
    """

    strategy = "timeout"
    OPTIONS = MappingProxyType({"seconds": Seconds(zero=False), "thread": Flag(none=True)})

    seconds: float
    thread: bool | None

    def __init__(self, seconds: float | timedelta, *, thread: bool | None = None) -> None:
        self.take(locals())
        # No thread yet: they start with calls.
        self.workers = Workers(MAX_THREADS, MAX_ABANDONED, "timeout") if thread else None

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        workers = self.workers
        if workers is not None and workers is not call.workers and _is_plain(call):
            return self._threaded(workers, proceed, call)
        outer = None if in_force() is None else current()
        at = clock.monotonic() + self.seconds
        if outer is not None and outer.at <= at:
            return self._within_outer(outer, proceed, call)
        return self._limited(Deadline(at, self.seconds, outer, own=True), proceed, call)

    async def _threaded(self, workers: Workers, proceed: Proceed, call: Call) -> Any:
        """What is inside finds the pool on the call; what is outside does not."""
        before = call.workers
        call.workers = workers
        try:
            return await self.execute(proceed, call)
        finally:
            call.workers = before

    def _within_outer(self, outer: Deadline, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """A limit that ends first steps in: running into it tells nothing about the callee, unless it is this call's
        own and still whole."""
        call.cut_short = outer.call != call.origin or outer.at - clock.monotonic() < WHOLE * outer.seconds
        return proceed(call)

    async def _limited(self, limit: Deadline, proceed: Proceed, call: Call) -> Any:
        if call.rare.cut_short:
            call.cut_short = False
        limit.call = call.origin
        before = call.rare.error
        last: Exception | None = None
        try:
            enter(limit)
            result = await call.runtime.within(limit, proceed, call)
            if result is EXPIRED and call.error is not before:
                last = call.error
        except Exception as error:
            if not call.runtime.blocking or clock.monotonic() < limit.at:
                raise
            self._cannot_interrupt(limit, call)
            raise given_up.exhausted(self._expired(call)) from unboxed(error)
        finally:
            limit.active = False  # first, and without a call: an exception from outside may keep `leave` from beginning
            if call.rare.error is not before:
                call.error = before  # inside of another limit that is its last error, outside of all None
            leave(limit)
        if result is EXPIRED:
            try:
                raise self._expired(call) from last
            finally:
                last = None
        if self.thread is None and call.runtime.blocking:
            self._cannot_interrupt(limit, call)
        if call.rare.audience is not None:
            late = clock.monotonic() - limit.at
            if late > 0:
                call.rare.audience.tell(events.LateResult(call.rare.audience.policy, self.seconds, late))
        return result

    def _cannot_interrupt(self, limit: Deadline, call: Call) -> None:
        """Say so once for each function. Only afterwards is it known to be a plain one, and in no thread."""
        if self.thread is None and not limit.in_thread:
            warn_once(("timeout", getattr(call.fn, "__code__", None) or type(call.fn)), lambda: _warning(call), call.fn)

    def _expired(self, call: Call) -> PolicyTimeoutError:
        call.tell(events.TimeoutExpired, "timeout", self.seconds)
        name = call.name
        message = f"{name!r} took longer than its limit of {self.seconds:g} s"
        return PolicyTimeoutError(message, policy=name, strategy="timeout", limit=self.seconds)

    def take_over(self, old: Timeout) -> None:
        """Go on with the threads of the timeout whose place this one takes, so that the calls left behind stay
        counted."""
        if self.workers is not None and old.workers is not None:
            self.workers = old.workers

    def live(self) -> dict[str, Any]:
        return {} if self.workers is None else {"abandoned": self.workers.abandoned}


def _is_plain(call: Call) -> bool:
    return call.runtime.blocking or not declares(inspect.iscoroutinefunction, call.fn)


def _warning(call: Call) -> str:
    what = "opens a plain stream" if call.closers is not None else "is a plain function"
    return (
        f"{name_of(call.fn)} {what}, which a Timeout cannot interrupt: its limit is looked at between attempts only. "
        f"Choose Timeout(..., thread=True) to run it in a thread that is left behind when time is up, "
        f"or thread=False to accept this"
    )
