"""The time budget that nested calls share.

A deadline is a moment of the monotonic clock that everything inside its block knows of: retries do not wait past it, waits for a slot
end with it, and a policy called inside is cut off by it. `deadline()` sets one; so does every `Timeout` for what runs inside it.
The block owns it: a task that outlives the block is no longer bound, although it still carries the context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from resilient_agents.core.clock import clock
from resilient_agents.durations import seconds as check_seconds

__all__ = ["Deadline", "current", "deadline", "enter", "leave", "remaining"]


class Deadline:
    """One limit in force. `at`: when (monotonic seconds); `seconds`: the length it was set to; `outer`: the next one out.

    `enforced`: something cancels or checks the call when it expires. `own`: a `Timeout` set it, so that running into it tells something
    about the callee; an expired `deadline()` only tells of an impatient caller. `fired()`: did it cancel what runs inside?
    """

    __slots__ = ("active", "at", "enforced", "fired", "outer", "own", "seconds")

    def __init__(self, at: float, seconds: float, outer: Deadline | None, *, own: bool, enforced: bool) -> None:
        self.at = at
        self.seconds = seconds
        self.outer = outer
        self.own = own
        self.enforced = enforced
        self.active = True
        self.fired: Callable[[], bool] = _not_fired


def _not_fired() -> bool:
    return False


_deadline: ContextVar[Deadline | None] = ContextVar("resilient_agents_deadline", default=None)


def current() -> Deadline | None:
    """The innermost deadline still in force. No outer one ends earlier: each is set no later than the one around it."""
    found = _deadline.get()
    while found is not None and not found.active:
        found = found.outer
    return found


def enter(limit: Deadline) -> None:
    """Put `limit` in force for this context; always paired with `leave` in a `finally`."""
    _deadline.set(limit)


def leave(limit: Deadline) -> None:
    """End `limit`, for this context and for every task that copied it.

    Sets the outer one rather than resetting a token: a chain that began blocking may end as an awaitable in another context.
    """
    limit.active = False
    limit.fired = _not_fired
    _deadline.set(limit.outer)


@contextmanager
def deadline(seconds: float | timedelta) -> Iterator[None]:
    """Give everything in this block, policies of nested calls included, at most `seconds` (float or timedelta) together.

    Works as a plain `with` in blocking and async code. A policy that is called inside is cut off when the time is up and raises
    `DeadlineExceeded`; its retries give up with the last real error rather than wait past it. Nested deadlines only ever shorten.
    Code outside of policies is not interrupted. Raises ValueError or TypeError for a duration that is not positive and finite.
    """
    length = check_seconds(seconds, "seconds", zero=False)
    outer = current()
    at = clock.monotonic() + length
    limit = Deadline(at if outer is None else min(at, outer.at), length, outer, own=False, enforced=False)
    enter(limit)
    try:
        yield
    finally:
        leave(limit)


def remaining() -> float | None:
    """Seconds left until the innermost deadline, 0.0 when it has passed, None when there is none."""
    limit = current()
    return None if limit is None else max(0.0, limit.at - clock.monotonic())
