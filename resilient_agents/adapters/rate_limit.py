"""`RateLimit`: how many calls may start per second."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from resilient_agents.adapters.bill import Bill, real_cost
from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.gcra import ROUNDING, Gcra
from resilient_agents.adapters.learning import Learning
from resilient_agents.adapters.limit import blocks_a_loop
from resilient_agents.adapters.rate_options import Cost, Settle, spelled_rate
from resilient_agents.base.clock import clock
from resilient_agents.base.durations import number
from resilient_agents.core.call import Boxed, Call, Proceed
from resilient_agents.core.options import Flag, Number, Seconds
from resilient_agents.errors import RateLimitedError, Rejected

__all__ = ["RateLimit"]

_WEIGHT = 0.1
"""Of one call in the average of how far estimates are off."""


class RateLimit(Learning):
    """At most `burst + rate / per * T` calls start in any T seconds; the others wait their turn, first come first
    served.

    One RateLimit is one rate for the whole process: threads and tasks of any number of event loops share it, asyncio
    and trio, one after another or at once. It may serve any number of policies. What a call will wait is known when it
    comes. Where one before it is cancelled, it starts earlier. A call
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
        settle: What a call really cost: a function of its result that returns a number, such as the tokens that it
            used, or None where that does not say. `cost` is reserved at the start, and in proportion more where calls
            have come to more than that on average; then the difference is charged or handed back, and all of it where
            the call fails or is cancelled. Of a stream it is asked of each item, and
            the largest answer counts, at its end. If it raises, or returns nonsense, the cost stays as it was.
        shadow: True lets every call start at once, those that wait when it begins included. What would have waited is
            counted as if it had, and what would have been rejected is reported and counted.

    Raises RateLimitedError with `.retry_after` at once for a call that would wait longer than it may, and for a
    blocking one that would wait on an event loop's own thread; later for one that was put off beyond what it may wait,
    because it woke late, or those before it did. Raises ValueError or TypeError for a cost that is no number from 0 to
    `burst`, and both, when built, for options of a wrong type or value.

    Locking: see `Paced`.
    """

    strategy = "rate_limit"
    OPTIONS = MappingProxyType(
        {
            "rate": Number(),
            "per": Seconds(zero=False),
            "burst": Number(none=True),
            "max_wait": Seconds(none=True),
            "cost": Cost(),
            "settle": Settle(none=True),
            "shadow": Flag(),
        }
    )
    HOLDS = "who may start when"
    _error = RateLimitedError

    cost: float | Callable[..., float]
    settle: Callable[[Any], float | None] | None

    def __init__(
        self,
        rate: float | str,
        per: float | timedelta = 1.0,
        *,
        burst: float | None = None,
        max_wait: float | timedelta | None = None,
        cost: float | Callable[..., float] = 1,
        settle: Callable[[Any], float | None] | None = None,
        shadow: bool = False,
    ) -> None:
        if isinstance(rate, str):
            rate, spelled = spelled_rate(rate)
            if per not in (1.0, spelled, timedelta(seconds=spelled)):
                raise TypeError(f"per must be left out when rate is a string, got {per!r}")
            per = spelled
        self.take(locals())
        if not 0 < self.rate / self.per < math.inf:
            raise ValueError(f"rate / per must be a number that a float can hold, got {self.rate:g} / {self.per:g}")
        if burst is None:
            self.burst = max(1.0, self.rate)
        if not callable(self.cost):
            self._affordable(self.cost)
        self._flat = self._flat_cost()
        self._raised = 1.0
        self._begin(LimitCounts())

    def after_fork(self) -> None:
        """Start with the whole burst, and nobody waiting."""
        self._gcra = Gcra(self.rate / self.per, self.burst)

    def reconfigure(self, new: RateLimit) -> None:
        """Take over the options of `new`, which is made for this and not used otherwise. What has started stays
        counted, so there is no second burst. Those who wait start earlier under a faster rate, and under a slower one
        come at the time that they were told and are put off further then. In shadow they all start; what started in
        shadow beyond the rate is forgiven when that ends."""
        with self._lock:
            forgiven = self.shadow and not new.shadow
            self.adopt(new)
            self._flat = self._flat_cost()
            now = clock.monotonic()
            self._gcra.change(now, self.rate / self.per, self.burst)
            if forgiven:
                self._gcra.forgive(now)
            early = self._gcra.all_due(now) if self.shadow else []
        for turn in early:
            turn.waiter.wake()
        self._tell_next(self._gcra)

    def _flat_cost(self) -> float | None:
        cost = self.cost
        return None if callable(cost) or self.settle is not None or self._follows is not None else cost

    @property
    def available(self) -> float:
        """What could start at once now, in units of cost."""
        with self._lock:
            return self._gcra.available(clock.monotonic())

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Run the rest of the call once the rate allows it."""
        cost = self._flat
        if cost is not None:
            # `Gcra.take` where nobody waits, spelled out and without the lock, in one step: it is the path of every
            # call.
            now = clock.monotonic()
            gcra = self._gcra
            level = gcra.level - (now - gcra.at) * gcra.rate
            level = cost if level < 0.0 else level + cost
            if level <= gcra.most and not gcra.waiting:
                gcra.level = level
                gcra.at = now
                self._counts.at_once += 1
                return proceed(call)
        return self._priced(proceed, call)

    async def _priced(self, proceed: Proceed, call: Call) -> Any:
        """The same for calls that may have to wait, or have something to say of what they cost, or of the rate."""
        price, settle = self.cost, self.settle
        estimate = self._cost_of(call, price) if callable(price) else price
        raised = 1.0 if settle is None else self._raised
        cost = estimate if raised == 1.0 else min(estimate * raised, self.burst)
        audience = call.rare.audience
        if audience is not None and self._flat is None:
            audience.costs(estimate)
        wait = self._admit(call, cost)
        if wait is not None:
            await wait
        if self._follows is not None:
            proceed = partial(self._following, proceed)
        if settle is None:
            return await proceed(call)
        real, lasts = None, False
        try:
            result = await proceed(call)
            if call.rare.closers is None:
                real = real_cost(settle, result)
            else:
                bill = Bill(settle)
                call.closers.append(partial(self._end, call, bill, estimate, cost))  # type: ignore[union-attr]  # as was just seen
                bill.watch(result)
            lasts = True
        finally:
            if not lasts:  # a call that fails hands all back
                self._correct(-cost)
        if real is not None:
            self._settle(call, estimate, cost, real)
        return result

    def _end(self, call: Call, bill: Bill, estimate: float, cost: float, outcome: object) -> None:
        if isinstance(outcome, Exception):  # whatever its items said
            self._correct(-cost)
        elif bill.real is not None:
            self._settle(call, estimate, cost, bill.real)

    def _settle(self, call: Call, estimate: float, cost: float, real: float) -> None:
        """A call for which `cost` was charged has come to `real`."""
        audience = call.rare.audience
        if audience is not None:
            audience.costs(real, settled=True)
        if estimate and (real > estimate or self._raised > 1.0):
            # Follow the average of how much too low estimates are: reserving too little would let more start than the
            # server has.
            self._raised = max(1.0, self._raised + _WEIGHT * (real / estimate - self._raised))
        if real != cost:
            self._correct(real - cost)

    def _correct(self, difference: float) -> None:
        """Charge so much more for what has started, or less."""
        with self._lock:
            gcra = self._gcra
            gcra.correct(clock.monotonic(), difference)
        self._tell_next(gcra)

    def _admit(self, call: Call, cost: float) -> Awaitable[object] | None:
        """Let the call start, after the wait that is returned."""
        with self._lock:
            starts = not cost or self._gcra.take(clock.monotonic(), cost)
        if starts:
            self._counts.at_once += 1
        elif self.shadow:
            self._pretend(call, cost)
        else:
            return self._turn(call, cost)
        return None

    def _pretend(self, call: Call, cost: float) -> None:
        """Count, and tell, what the limit would do if it acted."""
        with self._lock:
            cost = min(cost, self.burst)
            now = clock.monotonic()
            until, _ = self._patience(now)
            delay = self._gcra.delay(now, cost)
            rejects = now + delay > until + ROUNDING or blocks_a_loop(call)
            if not rejects:
                self._gcra.correct(now, cost)
        if rejects:
            self._reject(call, delay)
            self._counts.others += 1
        else:
            self._counts.made_wait(delay)

    def _cost_of(self, call: Call, price: Callable[..., float]) -> float:
        try:
            cost = price(*call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None
        return self._affordable(number(cost, "cost"))

    def _affordable(self, cost: float) -> float:
        if cost > self.burst:
            raise ValueError(
                f"cost must be at most burst ({self.burst:g}), or the call could never start, got {cost:g}"
            )
        return cost

    def _limited(self, call: Call, delay: float, reason: str) -> Rejected:
        why = f"({self.rate:g} per {self.per:g} s) has room in {delay:.3g} s, and {reason}"
        return self._rejection(call, why, delay)

    def metrics(self) -> dict[str, Any]:
        """What happened so far, as plain data: `available` and `queued` now; since it was made or `reset_metrics`
        called, the `calls` that it let start, how many of them it made wait (`waits`) and the `average_wait` of these
        in seconds (None if there were none), and `rejections`. In shadow, waits and rejections are those that would
        have been, and whoever would have been rejected is among the calls too."""
        return {**self.live(), **self._counts.metrics()}

    def live(self) -> dict[str, Any]:
        return {"available": self.available, "queued": self.queued}

    def _spelled(self) -> list[str]:
        return [part for part in super()._spelled() if part != f"burst={max(1.0, self.rate):g}"]
