"""`Gate`: a server that says wait is heard by every call that shares the gate."""

from __future__ import annotations

import warnings
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.gcra import Gcra, Reservation
from resilient_agents.adapters.paced import Paced
from resilient_agents.base import instances
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure, classify_result, http_failure
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.invoke import PLAIN
from resilient_agents.core.options import Seconds, Text
from resilient_agents.errors import RateLimitedError, Rejected
from resilient_agents.strategies.pace import Pace

__all__ = ["Gate"]

_ALIKE = 0.1
"""Seconds between the time when a gate opens and a call's turn that nobody need be told of."""


class Gate(Paced):
    """Holds back every call that shares it while a server asks to wait, then lets them go spread out.

    When a call inside fails with an answer that says how long to wait (Retry-After and its kin, see `classify`), or
    returns a response with such a status, no call that shares the gate starts before that time. Then one asks first;
    when it was answered the others follow, first come first served, at the rate at which the server let them through
    before, faster and faster where the server was down (a status other than 429), or one a second, twice as fast after
    each good answer, where nothing was seen before. When nobody is left in line the gate is open, and costs next to
    nothing.

    One Gate is one gate for the whole process: threads and tasks of any number of event loops share it, asyncio and
    trio, one after another or at once. Put it inside Retry and CircuitBreaker and outside RateLimit, and share one
    object among all policies that talk to one server under one account.

    Args:
        name: What errors and telemetry call it, None (default) for the policy's name. A second live gate of that name
            is warned of, because two gates share nothing.
        max_wait: Longest wait in seconds (float or timedelta, default 60). Calls that would wait longer, because the
            server asks for more or too many are in line, raise RateLimitedError at once, with `.retry_after`. None
            waits as long as the deadline in force allows.

    Raises TypeError or ValueError, when built, for options of a wrong type or value.
    """

    strategy = "gate"
    heard = True
    OPTIONS = MappingProxyType({"name": Text(none=True, number="max_wait"), "max_wait": Seconds(none=True)})
    HOLDS = "for how long a server asked to wait"
    _error = RateLimitedError

    def __init__(self, name: str | None = None, *, max_wait: float | timedelta | None = 60.0) -> None:
        self.take(locals())
        if name is not None and any(other.name == name for other in instances.each("gate")):
            warnings.warn(
                f"there is a second live Gate named {name!r}: they do not share what a server says; share one object",
                RuntimeWarning,
                stacklevel=2,
            )
        self.counts = LimitCounts()
        self._begin(self.counts)

    def after_fork(self) -> None:
        """Open, and nobody waiting."""
        self.pace = Pace(partial(getattr, self._counts, "at_once"))

    def reconfigure(self, new: Gate) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise; the name stays. Who waits
        already waits as long as it was told."""
        self.max_wait = new.max_wait

    @property
    def _gcra(self) -> Gcra:  # type: ignore[override]
        return self.pace.gcra

    @property
    def retry_after(self) -> float:
        """Seconds until the time that the server named; 0.0 when it has passed or none was named."""
        with self._lock:
            return self.pace.left(clock.monotonic())

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call, once the gate lets it."""
        pace = self.pace
        turn = await self._let_in(call) if pace.shut else None
        batch = pace.batch
        try:
            result = await proceed(call)
        except BaseException as error:
            self.failed(call, error, batch, turn)
            raise
        self.answered(result, batch, turn)
        return result

    def failed(self, call: Call, error: BaseException, batch: int, turn: Reservation | None = None) -> None:
        """A call that began in this batch ended with this; does that say wait? So does none that is neutral, or a
        refusal of ours."""
        ordinary = isinstance(error, Exception)
        if turn is None and ordinary:
            self._counts.others += 1
        says_wait = ordinary and not isinstance(error, Rejected) and self._told(call.failure(error), batch)
        if turn is not None and not says_wait:
            self._over(turn, well=False)

    def answered(self, result: Any, batch: int, turn: Reservation | None = None) -> None:
        """A call that began in this batch has this result; does that say wait?"""
        if (turn is None and type(result) in PLAIN) or self._is_good(result, batch, turn):
            counts = self.counts
            counts.at_once = number = counts.at_once + 1
            if number >= self.pace.answers.due:
                self.note(number)

    def _is_good(self, result: Any, batch: int, turn: Reservation | None) -> bool:
        """It is, unless it is a response that says wait."""
        says_wait = type(result) not in PLAIN and http_failure(result) and self._told(classify_result(result), batch)
        if turn is None:
            if says_wait:
                self._counts.others += 1
        elif not says_wait:
            self._counts.others -= 1  # as it is numbered
            self._over(turn, well=True)
        return not says_wait

    def note(self, number: int) -> None:
        """A good answer of this number came now, which is to be remembered."""
        with self._lock:
            self.pace.answers.note(clock.monotonic(), number)

    async def _let_in(self, call: Call) -> Reservation | None:
        """Wait until the gate lets the call in. Its turn, None if the gate has opened."""
        with self._lock:
            if self.pace.arrives(clock.monotonic()):
                return None
        return await self._turn(call)

    def _started(self, turn: Reservation, now: float) -> None:
        self.pace.started(turn, now)

    def _over(self, turn: Reservation, *, well: bool) -> None:
        """The call of this turn has its answer, which does not say wait."""
        with self._lock:
            self.pace.answered(turn, clock.monotonic(), well=well)
        self._tell_next(self._gcra)

    def _told(self, failure: Failure, batch: int) -> bool:
        """The server's answer; does it say for how long to wait?"""
        seconds = failure.retry_after
        if not seconds:
            return False
        with self._lock:
            now = clock.monotonic()
            news = self.pace.wait(now, seconds, batch, limited=failure.kind == "rate_limit")
            early = self._gcra.all_due(now) if news and self.max_wait is not None and seconds > self.max_wait else []
        for turn in early:  # to be told that it is too long for them
            turn.waiter.wake()
        return True

    def _limited(self, call: Call, delay: float, reason: str) -> Rejected:
        opens = self.pace.left(clock.monotonic())
        when = f"it opens in {opens:.3g} s" if opens else "it lets calls go one after another"
        turn = f", this one's turn comes in {delay:.3g} s" if delay > opens + _ALIKE else ""
        return self._rejection(call, f"is shut, as the server asked to wait; {when}{turn}, and {reason}", delay)

    def metrics(self) -> dict[str, Any]:
        """What happened so far, as plain data: `retry_after` and `queued` now; since it was made or `reset_metrics`
        called, the `calls` that it let in and that were answered, or had to wait for that, how many of them it made
        wait (`waits`) and the `average_wait` of these in seconds (None if there were none), and `rejections`."""
        return {**self.live(), **self._counts.metrics()}

    def live(self) -> dict[str, Any]:
        return {"retry_after": self.retry_after, "queued": self.queued}
