"""`RateLimit`: how many calls may start per second. Native aiolimiter limiters are adapted as they are."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NoReturn

from aiolimiter import AsyncLimiter

from resilient_agents import events
from resilient_agents.adapters.counts import LimitCounts, Ticks
from resilient_agents.adapters.gcra import ROUNDING, Gcra, Reservation
from resilient_agents.base import instances
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import flag, number
from resilient_agents.base.durations import seconds as check_seconds
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Boxed, Call, Proceed, Strategy
from resilient_agents.core.guard import declares
from resilient_agents.core.loops import on_event_loop, running_loop
from resilient_agents.deadline import current
from resilient_agents.errors import RateLimitedError

__all__ = ["RateLimit", "adapt_native"]

_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_SPELLED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+?)s?\s*", re.IGNORECASE)

_ON_LOOP = (
    "a blocking call that waited for it on an event loop's own thread would stop the loop; use "
    "`await policy.acall(...)`, an async function, or a worker thread (`anyio.to_thread.run_sync`)"
)


class RateLimit(Spelled):
    """At most `burst + rate / per * T` calls start in any T seconds; the others wait their turn, first come first
    served.

    One RateLimit is one rate for the whole process: threads and tasks of any number of event loops share it, asyncio
    and trio, one after another or at once. It may serve any number of policies. What a call will wait is known when it
    comes. Where one before it is cancelled, it starts earlier (a thread, which sleeps, at the time it knows). A call
    that wakes late, because its event loop was blocked, starts as soon as the rate allows, and holds up no one.

    Args:
        rate: Calls (or units of `cost`) per `per`; or both in one, as a string: "10/s", "60/min", "1000/h", "5 / 30 s".
        per: Seconds (float or timedelta), default 1. A string says it itself: any other `per` is refused then.
        burst: How much may start at once after idling, default `rate`, at least 1.
        max_wait: Longest wait in seconds (float or timedelta). None (default) waits as long as the deadline in force
            allows; 0 rejects whatever cannot start at once.
        cost: What a call takes of the rate, default 1: a number, or a function of the call's arguments that returns
            one, such as an estimate of tokens. It is called once for each attempt; what it raises reaches the caller as
            it is. What costs 0 never waits.
        shadow: True lets every call start at once, those that wait when it begins included (a thread, which sleeps,
            when it wakes). What would have waited is counted as if it had, and what would have been rejected is
            reported and counted.

    Raises RateLimitedError with `.retry_after` at once for a call that would wait longer than it may, and for a
    blocking one that would wait on an event loop's own thread; later for one that was put off beyond what it may wait,
    because it woke late, or those before it did. Raises ValueError or TypeError for a cost that is no number from 0 to
    `burst`, and both, when built, for options of a wrong type or value.

    Locking: `_gcra` is read and changed under `_lock` only, as is the clock, and nobody is woken under it. The lock
    is reentrant because the garbage collector may run the `finally` of a waiter whose loop was closed at any point.
    """

    def __init__(
        self,
        rate: float | str,
        per: float | timedelta = 1.0,
        *,
        burst: float | None = None,
        max_wait: float | timedelta | None = None,
        cost: float | Callable[..., float] = 1,
        shadow: bool = False,
    ) -> None:
        if isinstance(rate, str):
            rate, spelled = _spelled(rate)
            if per not in (1.0, spelled, timedelta(seconds=spelled)):
                raise TypeError(f"per must be left out when rate is a string, got {per!r}")
            per = spelled
        self.rate = number(rate, "rate")
        if self.rate == 0:
            raise ValueError(f"rate must be more than 0, got {rate:g}")
        self.per = check_seconds(per, "per", zero=False)
        if not 0 < self.rate / self.per < math.inf:
            raise ValueError(f"rate / per must be a number that a float can hold, got {self.rate:g} / {self.per:g}")
        self.burst = max(1.0, self.rate) if burst is None else number(burst, "burst")
        if self.burst == 0:
            raise ValueError("burst must be more than 0, got 0")
        self.max_wait = max_wait if max_wait is None else check_seconds(max_wait, "max_wait")
        if callable(cost) and declares(inspect.iscoroutinefunction, cost):
            raise TypeError("cost must be a number or a plain function: nothing awaits it")
        self.cost = cost
        self._cost = None if callable(cost) else self._checked(cost)
        if self._cost == 0:
            raise ValueError("cost must be more than 0, got 0")
        self.shadow = flag(shadow, "shadow")
        self.name: str | None = None
        self._tally = LimitCounts(Ticks())
        self._lock = Lock()
        self.after_fork()
        reset_after_fork(self)
        follow_clock(self)
        instances.add("rate_limit", self)

    def after_fork(self) -> None:
        """Start with the whole burst, and nobody waiting."""
        self._gcra = Gcra(self.rate / self.per, self.burst)

    def clock_changed(self, shift: float) -> None:
        """Start anew with the whole burst."""
        self.after_fork()

    def reconfigure(self, new: RateLimit) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise. What has started stays
        counted, so there is no second burst. Those who wait start earlier under a faster rate (a thread, which sleeps,
        at the time it knows), and under a slower one come at the time that they were told and are put off further
        then. In shadow they all start (a thread when it wakes); what started in shadow beyond the rate is forgiven when
        that ends."""
        with self._lock:
            forgiven = self.shadow and not new.shadow
            self.shadow = new.shadow
            self.rate, self.per, self.burst, self.max_wait = new.rate, new.per, new.burst, new.max_wait
            self.cost, self._cost = new.cost, new._cost
            now = clock.monotonic()
            self._gcra.change(now, self.rate / self.per, self.burst)
            if forgiven:
                self._gcra.forgive(now)
            early = self._gcra.all_due(now) if self.shadow else []
        for turn in early:
            turn.waiter.wake()
        self._tell_next(self._gcra)

    @property
    def available(self) -> float:
        """What could start at once now, in units of cost."""
        with self._lock:
            return self._gcra.available(clock.monotonic())

    @property
    def queued(self) -> int:
        """Calls that wait their turn now."""
        with self._lock:
            self._gcra.forget_stranded()
            return self._gcra.waiting

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Run the rest of the call once the rate allows it."""
        cost = self._cost
        if cost is None:
            return self._priced(proceed, call)
        with self._lock:
            now = clock.monotonic()
            gcra = self._gcra
            if gcra.waiting:
                starts = gcra.take(now, cost)
            else:  # the same, spelled out: it is the path of every call
                level = gcra.level - (now - gcra.at) * gcra.rate
                if level < 0.0:
                    level = 0.0
                starts = level + cost <= gcra.burst + gcra.slack
                if starts:
                    gcra.level = level + cost
                    gcra.at = now
        if starts:
            next(self._tally.ticks)
            return proceed(call)
        return self._later(proceed, call, cost)

    async def _priced(self, proceed: Proceed, call: Call) -> Any:
        cost = self._cost_of(call)
        if cost:
            with self._lock:
                starts = self._gcra.take(clock.monotonic(), cost)
            if not starts:
                return await self._later(proceed, call, cost)
        next(self._tally.ticks)
        return await proceed(call)

    async def _later(self, proceed: Proceed, call: Call, cost: float) -> Any:
        if self.shadow:
            self._pretend(call, cost)
        elif call.runtime.blocking and on_event_loop():
            with self._lock:
                delay = self._gcra.delay(clock.monotonic(), cost)
            raise self._limited(call, delay, _ON_LOOP)
        else:
            await self._turn(call, cost)
        return await proceed(call)

    def _pretend(self, call: Call, cost: float) -> None:
        """Count, and tell, what the limit would do if it acted."""
        limit = current()
        with self._lock:
            gcra = self._gcra
            cost = min(cost, self.burst)
            now = clock.monotonic()
            give_up, _ = self._give_up(now, None if limit is None else limit.at)
            delay = gcra.delay(now, cost)
            rejects = now + delay > give_up + ROUNDING or (call.runtime.blocking and on_event_loop())
            if not rejects:
                gcra.charge(now, cost)
        if rejects:
            self._rejected(call, delay)
            self._tally.let_in()
        else:
            self._tally.made_wait(delay)

    async def _turn(self, call: Call, cost: float) -> None:
        """Wait until it is this call's turn."""
        limit = current()
        blocking = call.runtime.blocking
        turn = Reservation(cost, None if blocking else call.runtime.waiter(), None if blocking else running_loop())
        gcra, started, began = self._gcra, False, math.inf
        try:
            with self._lock:
                turn.cost = cost = min(cost, self.burst)  # which may have changed since it was priced
                now = clock.monotonic()
                give_up, reason = self._give_up(now, None if limit is None else limit.at)
                delay = gcra.delay(now, cost)
                if now + delay <= give_up + ROUNDING:
                    gcra.reserve(turn, now)
            if not turn.waits:
                raise self._limited(call, delay, reason)
            began = now
            while not started:
                if turn.due > give_up + ROUNDING and not self.shadow:
                    raise self._limited(call, turn.due - now, reason)
                asleep = now
                cut_short, call.cut_short = call.cut_short, True  # a limit that ends this tells nothing of the callee
                await self._sleep(call, turn, now)
                call.cut_short = cut_short
                with self._lock:
                    gcra.come_back(turn, clock.monotonic())
                if not blocking:
                    await call.runtime.sleep(0)  # a loop wakes its tasks in no certain order: let all be back, then ask
                call.recheck(self, clock.monotonic() - asleep)
                with self._lock:
                    now = clock.monotonic()
                    if self.shadow:  # by now
                        gcra.cancel(turn)
                        gcra.charge(now, turn.cost)
                        started = True
                    else:
                        started = gcra.start(turn, now)
                self._tell_next(gcra)
        finally:
            if turn.waits:
                try:
                    self._leave(turn, gcra)
                except BaseException:  # from outside, in the midst of it
                    self._leave(turn, gcra)
                    raise
            if began < math.inf and call.audience is not None:
                call.audience.tell_of_wait("rate_limit", clock.monotonic() - began)
        self._tally.made_wait(now - began)

    def _leave(self, turn: Reservation, gcra: Gcra) -> None:
        with self._lock:
            gcra.cancel(turn)
        self._tell_next(gcra)

    async def _sleep(self, call: Call, turn: Reservation, now: float) -> None:
        """Sleep until `turn` is due, which others may change to an earlier time."""
        if turn.waiter is None:
            await call.runtime.sleep(max(0.0, turn.due - now))
            return
        while turn.due > now + ROUNDING:
            await turn.waiter.wait(turn.due - now)
            turn.waiter = call.runtime.waiter()  # before `due` is looked at again: who changes it wakes this one
            now = clock.monotonic()

    def _tell_next(self, gcra: Gcra) -> None:
        """Wake the first in line, if its time has come nearer."""
        while gcra.waiting:
            with self._lock:
                turn = gcra.moved_up(clock.monotonic())
            if turn is None or turn.waiter.wake():
                return
            with self._lock:
                gcra.cancel(turn)  # its loop was closed

    def _give_up(self, now: float, deadline: float | None) -> tuple[float, str]:
        """Until when a call that comes now may wait, and why no longer."""
        patience = math.inf if self.max_wait is None else now + self.max_wait
        if deadline is not None and deadline < patience:
            return deadline, f"the deadline leaves {max(0.0, deadline - now):.3g} s"
        return patience, f"max_wait={self.max_wait} lets no call wait longer"

    def _cost_of(self, call: Call) -> float:
        price = self.cost
        if not callable(price):  # it was when the call came
            return price
        try:
            cost = price(*call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None
        return self._checked(cost)

    def _checked(self, cost: float) -> float:
        cost = number(cost, "cost")
        if cost > self.burst:
            raise ValueError(
                f"cost must be at most burst ({self.burst:g}), or the call could never start, got {cost:g}"
            )
        return cost

    def _limited(self, call: Call, delay: float, reason: str) -> RateLimitedError:
        self._rejected(call, delay)
        name = call.name
        whose = f"of {name!r}" if self.name is None else repr(self.name)
        return RateLimitedError(
            f"the rate limit {whose} ({self.rate:g} per {self.per:g} s) has room in {delay:.3g} s, and {reason}",
            policy=name,
            strategy="rate_limit",
            retry_after=delay,
        )

    def _rejected(self, call: Call, delay: float) -> None:
        self._tally.reject()
        if call.audience is not None:
            call.audience.tell(events.CallRejected(call.audience.policy, "rate_limit", delay, self.name, self.shadow))

    def metrics(self) -> dict[str, Any]:
        """What happened so far, as plain data: `available` and `queued` now; since it was made or `reset_metrics`
        called, the `calls` that it let start, how many of them it made wait (`waits`) and the `average_wait` of these
        in seconds (None if there were none), and `rejections`. In shadow, waits and rejections are those that would
        have been, and whoever would have been rejected is among the calls too."""
        return {"available": self.available, "queued": self.queued, **self._tally.metrics()}

    def reset_metrics(self) -> None:
        """Count from zero again. What has started stays charged."""
        self._tally.reset()

    def describe(self) -> dict[str, Any]:
        """Options and live state, as plain data."""
        return {
            "strategy": "rate_limit",
            "rate": self.rate,
            "per": self.per,
            "burst": self.burst,
            "max_wait": self.max_wait,
            "cost": "callable" if self._cost is None else self._cost,
            "shadow": self.shadow,
            "available": self.available,
            "queued": self.queued,
        }

    def __repr__(self) -> str:
        parts = [f"{self.rate:g}"]
        if self.per != 1.0:
            parts.append(f"{self.per:g}")
        if self.burst != max(1.0, self.rate):
            parts.append(f"burst={self.burst:g}")
        if self.max_wait is not None:
            parts.append(f"max_wait={self.max_wait!r}")
        if self._cost != 1:
            parts.append("cost=<function>" if self._cost is None else f"cost={self._cost:g}")
        if self.shadow:
            parts.append("shadow=True")
        return f"RateLimit({', '.join(parts)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a RateLimit holds live state (who may start when) and cannot be pickled or copied; build one in each "
            "process"
        )


def _spelled(rate: str) -> tuple[float, float]:
    """`rate` and `per` in seconds of a rate like "60/min"."""
    found = _SPELLED.fullmatch(rate)
    unit = _SECONDS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f'rate must be a number or like "10/s", "60/min", "1000/h" or "5/30s", got {rate!r}')
    return float(found[1]), float(found[2] or 1) * unit


def adapt_native(thing: Any) -> Strategy | None:
    """An aiolimiter `AsyncLimiter` as a strategy, None for anything else."""
    return _Native(thing) if isinstance(thing, AsyncLimiter) else None


class _Native:
    """An `AsyncLimiter` as it is: asyncio only, one event loop, and no way to know the wait before it is over."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self._limiter = limiter
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child the parent's loop does not run."""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call once the limiter lets it through."""
        loop = running_loop()
        if loop is None or call.runtime.blocking:
            raise TypeError(
                "an aiolimiter AsyncLimiter works in async code on asyncio only: use RateLimit, which works in "
                "blocking code and on trio as well (or `await policy.acall(...)`, if the function is async)"
            )
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise TypeError(
                    "this aiolimiter AsyncLimiter belongs to another event loop, which is still open: use RateLimit, "
                    "which all loops and threads may share"
                )
            self._loop = loop
        if self._limiter.has_capacity():
            await self._limiter.acquire()  # does not suspend
        else:
            began = clock.monotonic()
            cut_short, call.cut_short = call.cut_short, True  # a limit that ends this tells nothing of the callee
            try:
                await self._limiter.acquire()
            finally:
                waited = clock.monotonic() - began
                if call.audience is not None:
                    call.audience.tell_of_wait("rate_limit", waited)
            call.cut_short = cut_short
            call.recheck(self, waited)
        return await proceed(call)

    def describe(self) -> dict[str, Any]:
        """Its options."""
        return {
            "strategy": "rate_limit",
            "native": "aiolimiter.AsyncLimiter",
            "rate": self._limiter.max_rate,
            "per": self._limiter.time_period,
        }

    def __repr__(self) -> str:
        return f"AsyncLimiter({self._limiter.max_rate:g}, {self._limiter.time_period:g})"
