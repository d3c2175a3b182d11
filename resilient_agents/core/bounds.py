"""The caller's deadline around what a policy runs."""

from __future__ import annotations

from typing import Any, Final

from resilient_agents.base.clock import clock
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.runtime import EXPIRED
from resilient_agents.deadline import Deadline, enter, leave
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.events import TimeoutExpired

__all__ = ["WHOLE", "bounded", "deadline_exceeded"]

WHOLE: Final = 0.9
"""The share of an outer limit with which it counts as whole."""


async def bounded(proceed: Proceed, outer: Deadline, call: Call) -> Any:
    """Hold a call to the deadline that its caller set."""
    limit = Deadline(outer.at, outer.seconds, outer, own=False)
    result: Any = EXPIRED
    try:
        enter(limit)
        if outer.at > clock.monotonic():
            result = await call.runtime.within(limit, proceed, call)
        if result is EXPIRED:
            raise deadline_exceeded(call, outer) from call.error
        return result
    finally:
        limit.active = False  # first, and without a call: an exception from outside may keep `leave` from beginning
        leave(limit)
        call.error = None


def deadline_exceeded(call: Call, outer: Deadline) -> DeadlineExceeded:
    """What to raise where the deadline has ended a call. Those who watch are told."""
    call.tell(TimeoutExpired, "deadline", outer.seconds)
    return DeadlineExceeded(
        f"{call.name!r} ran into its caller's deadline of {outer.seconds:g} s",
        policy=call.name,
        strategy="deadline",
        limit=outer.seconds,
    )
