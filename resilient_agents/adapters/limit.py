"""What strategies share that make calls wait: for how long, who is told of it, what is counted, and how they reject."""

from __future__ import annotations

import math
from typing import ClassVar

from resilient_agents import events
from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.base.clock import clock
from resilient_agents.base.told import Fields
from resilient_agents.core.call import Call
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.options import Configured
from resilient_agents.deadline import Deadline, current
from resilient_agents.errors import Rejected

__all__ = ["ON_LOOP", "Limit", "Queueing", "blocks_a_loop", "end_wait"]

ON_LOOP = (
    "a blocking call that waited for it on an event loop's own thread would stop the loop; use "
    "`await policy.acall(...)`, an async function, or a worker thread (`anyio.to_thread.run_sync`)"
)
"""Why such a call is rejected."""


def blocks_a_loop(call: Call) -> bool:
    """Would the loop of this thread stand still while this call waited?"""
    return call.runtime.blocking and on_event_loop()


class Queueing(Fields):
    """`with Queueing(call, strategy):` around what makes a call wait. Observers hear how long it took, however it ends,
    and a limit that ends it tells nothing of the callee."""

    __slots__ = ("_began", "_call", "_strategy")

    _call: Call
    _strategy: str

    def __enter__(self) -> None:
        self._began = clock.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end_wait(self._call, self._strategy, self._began, kind)


def end_wait(call: Call, strategy: str, began: float, kind: type[BaseException] | None) -> float:
    """What `Queueing` does at the end, which is by an error of this kind: for who has no memory to spare for it.
    Returns the seconds that the call waited."""
    if kind is not None and not issubclass(kind, Exception):  # cancelled, or out of time
        call.cut_short = True
    waited = clock.monotonic() - began
    audience = call.rare.audience
    if audience is not None:
        audience.tell_of_wait(strategy, waited)
    return waited


class Limit(Configured):
    """Base of the strategies that make calls wait. `_counts`: what became of them, for metrics; `_error`: what a call
    gets that must not wait (longer)."""

    _error: ClassVar[type[Rejected]]

    name: str | None = None
    max_wait: float | None
    shadow: bool = False
    _counts: LimitCounts

    def _patience(self, now: float) -> tuple[float, Deadline | None]:
        """Until when a call that comes now may wait, and the deadline if that says so, None for `max_wait`."""
        until = math.inf if self.max_wait is None else now + self.max_wait
        deadline = current()
        return (deadline.at, deadline) if deadline is not None and deadline.at < until else (until, None)

    def _reject(self, call: Call, retry_after: float | None = None) -> None:
        """Count a call that is rejected, or would be if the limit acted, and tell of it."""
        self._counts.rejections += 1
        call.tell(events.CallRejected, self.strategy, retry_after, self.name, self.shadow)

    def _rejection(self, call: Call, why: str, retry_after: float | None = None) -> Rejected:
        """The error of a call that is rejected, which is counted and told."""
        self._reject(call, retry_after)
        policy = call.name
        whose = f"of {policy!r}" if self.name is None else repr(self.name)
        return self._error(
            f"the {self.strategy.replace('_', ' ')} {whose} {why}",
            policy=policy,
            strategy=self.strategy,
            retry_after=retry_after,
        )

    def reset_metrics(self) -> None:
        """Count from zero again. What is held, and what has started, stays."""
        self._counts.reset()
