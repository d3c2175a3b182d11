"""The time budget that nested calls share.

A deadline is a moment of the monotonic clock that everything inside its block knows of: retries do not wait past it,
waits for a slot end with it, and a policy called inside is cut off by it. `deadline()` sets one; so does every
`Timeout` for what runs inside it. The block owns it: a task that outlives the block is no longer bound, although it
still carries the context. (A policy's call that is already on its way when the block ends keeps the limit it began
with.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final

from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import seconds as check_seconds
from resilient_agents.base.spelling import EnteredPlainly

__all__ = [
    "Deadline",
    "current",
    "deadline",
    "enter",
    "expired",
    "in_force",
    "leave",
    "put_in_force",
    "remaining",
    "resume",
    "suspend",
]


class Deadline:
    """One limit in force. `at`: when (monotonic seconds); `seconds`: its length; `outer`: the next one out.

    `owner`: the task or thread in which something cuts the call off when it expires, 0 for nobody; other tasks that
    inherit the limit see it, but are not cut off by it. `own`: a `Timeout` set it, so that running into it tells
    something about the callee; an expired `deadline()` only tells of an impatient caller. `in_thread`: what is inside
    ran in a thread, which can be left behind. `rung`: it has cut off what runs inside, as far as it was told; on
    asyncio it tells itself, being an alarm that cancels `task`, on trio it asks `scope`.
    """

    __slots__ = (
        "active",
        "at",
        "call",
        "entry",
        "in_thread",
        "outer",
        "own",
        "owner",
        "rung",
        "scope",
        "seconds",
        "task",
    )

    def __init__(self, at: float, seconds: float, outer: Deadline | None, *, own: bool) -> None:
        self.at = at
        self.seconds = seconds
        self.outer = outer
        self.own = own
        self.active = True
        self.call = self.owner = self.entry = 0
        self.in_thread = self.rung = False
        self.scope: Any = None
        self.task: Any = None

    def ring(self) -> None:
        """Its time is up: cancel the task in which it is set."""
        self.rung = True
        self.task.cancel()

    def fired(self) -> bool:
        """Has it cancelled what runs inside?"""
        if self.scope is None or self.rung:
            return self.rung
        try:
            return bool(self.scope.cancel_called)
        except RuntimeError:  # trio looks at its clock, which it has in its own thread only
            return clock.monotonic() >= self.at


_deadline: ContextVar[Deadline | None] = ContextVar("resilient_agents_deadline", default=None)


in_force = _deadline.get
"""What this context carries, perhaps outlived: only good for asking whether there is anything to look at."""


put_in_force = _deadline.set
"""What `enter` does."""


def current() -> Deadline | None:
    """The innermost deadline still in force. No outer one ends earlier: each is set no later than the one around it."""
    found = _deadline.get()
    while found is not None and not found.active:
        found = found.outer
    return found


def expired() -> list[Deadline]:
    """The limits in force that have cancelled what runs here: ask while a cancellation passes through."""
    fired: list[Deadline] = []
    limit = current()
    while limit is not None:
        if limit.fired():
            fired.append(limit)
        limit = limit.outer
    return fired


class _InForce:
    """Those in force where another clock takes the place of the old one keep what is left of them."""

    def clock_changed(self, shift: float) -> None:
        limit = current()
        while limit is not None:
            limit.at += shift
            limit = limit.outer


_IN_FORCE: Final = _InForce()
follow_clock(_IN_FORCE)


enter: Callable[[Deadline], object] = _deadline.set
"""Put a limit in force for this context; always paired with `leave` in a `finally`."""


def leave(limit: Deadline) -> None:
    """End `limit`, for this context and for every task that copied it.

    No token is reset: a chain that began blocking may end as an awaitable in another context, and a generator may be
    closed in one. There, a limit that is none of its business stays in force.
    """
    limit.active = limit.rung = False
    limit.scope = None
    if _deadline.get() is limit:
        _deadline.set(limit.outer)


def suspend(limit: Deadline) -> None:
    """Take `limit` out of this context, in which the chain that set it stops running for now."""
    if _deadline.get() is limit:
        _deadline.set(limit.outer)


def resume(limit: Deadline, idle: float) -> None:
    """Put `limit` in force where its chain goes on, inside whatever is in force there.

    The seconds that passed while nobody awaited the call do not count against a `Timeout`, as they do not for a
    coroutine.
    """
    outer = current()
    limit.outer = outer
    if limit.own:
        limit.at += idle
    if outer is not None:
        limit.at = min(limit.at, outer.at)
    _deadline.set(limit)


class _Block(EnteredPlainly):
    call = "deadline"
    _limit: Deadline | None = None

    def __init__(self, length: float) -> None:
        self._length = length

    def __enter__(self) -> None:
        if self._limit is not None:
            raise RuntimeError("this deadline is in use; call deadline() for each block")
        at, length, outer = clock.monotonic() + self._length, self._length, current()
        if outer is not None and outer.at <= at:
            at, length = outer.at, outer.seconds
        self._limit = limit = Deadline(at, length, outer, own=False)
        try:
            enter(limit)
        except BaseException:  # from outside, when the limit stood already: then nobody leaves
            limit.active = False
            raise

    def __exit__(self, *_: object) -> None:
        limit = self._limit
        assert limit is not None
        limit.active = False
        self._limit = None
        leave(limit)

    def __del__(self) -> None:
        if self._limit is not None:  # an exception from outside kept `__exit__` from beginning
            self._limit.active = False


def deadline(seconds: float | timedelta) -> AbstractContextManager[None]:
    """Give everything in this block, nested policies included, at most `seconds` (float or timedelta) together.

    Works as a plain `with` in blocking and async code; the time runs from the beginning of the block. A policy that is
    called inside is cut off when the time is up and raises `DeadlineExceeded`; its retries give up with the last real
    error rather than wait past it. Nested deadlines only ever shorten. Code outside of policies is not interrupted, and
    neither is a plain function while it runs. Raises ValueError or TypeError, when called, for a duration that is not
    positive and finite.
    """
    return _Block(check_seconds(seconds, "seconds", zero=False))


def remaining() -> float | None:
    """Seconds left until the innermost deadline, 0.0 when it has passed, None when there is none."""
    limit = current()
    return None if limit is None else max(0.0, limit.at - clock.monotonic())
