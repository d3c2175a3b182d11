"""aiolimiter's own `AsyncLimiter` as a strategy: asyncio only."""

from __future__ import annotations

from typing import Any, Final

from aiolimiter import AsyncLimiter

from resilient_agents.adapters.limit import Queueing
from resilient_agents.adapters.native.owner import Owner, shared
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.fork import Lock
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.core.loops import running_loop

__all__ = ["adapt_native"]

_owning = Lock()

_LAST: Final = "_last_check"
"""Where aiolimiter keeps the moment that it last looked, for which it has no public name."""


def adapt_native(thing: Any) -> Strategy | None:
    """An aiolimiter `AsyncLimiter` as a strategy, None for anything else."""
    return shared(thing, lambda: NativeRateLimit(thing)) if isinstance(thing, AsyncLimiter) else None


class NativeRateLimit:
    """An `AsyncLimiter` as it is: one event loop, and no way to know the wait before it is over."""

    strategy = "rate_limit"

    def __init__(self, limiter: AsyncLimiter) -> None:
        self._limiter = limiter
        self._owner = Owner(
            "aiolimiter AsyncLimiter", "belongs to another event loop, which is still open", "RateLimit"
        )
        follow_clock(self)

    def clock_changed(self, shift: float) -> None:
        """What has started stays counted. It goes by its event loop, whose clock goes with ours."""
        setattr(self._limiter, _LAST, getattr(self._limiter, _LAST) + shift)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call once the limiter lets it through."""
        loop = running_loop()
        if loop is None or call.runtime.blocking:
            raise TypeError(
                "an aiolimiter AsyncLimiter works in async code on asyncio only: use RateLimit, which works in "
                "blocking code and on trio as well (or `await policy.acall(...)`, if the function is async)"
            )
        with _owning:
            self._owner.take(loop, free=bool)
        if self._limiter.has_capacity():
            await self._limiter.acquire()  # does not suspend
        else:
            began = clock.monotonic()
            with Queueing(call, self.strategy):
                await self._limiter.acquire()
            call.recheck(self, clock.monotonic() - began)
        return await proceed(call)

    def describe(self) -> dict[str, Any]:
        """Its options."""
        return {
            "strategy": self.strategy,
            "native": "aiolimiter.AsyncLimiter",
            "rate": self._limiter.max_rate,
            "per": self._limiter.time_period,
        }

    def __repr__(self) -> str:
        return f"AsyncLimiter({self._limiter.max_rate:g}, {self._limiter.time_period:g})"
