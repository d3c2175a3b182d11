"""Strategies and functions that tests of several strategies share."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected
from resilient_agents.policy import Policy


class Again:
    """Calls what is inside twice; a retry that does not care."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            await proceed(call)
        except Exception:
            pass
        return await proceed(call)


class Refuses:
    """Refuses calls that were made to wait inside it."""

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        return proceed(call)

    def recheck(self, call: Call) -> None:
        raise Rejected("changed my mind", policy=call.name, strategy="refuses")


async def value(result: Any = "value") -> Any:
    return result


def hold_slot(bulkhead: Any) -> Callable[[], None]:
    """Somebody else, who is neither in this thread nor on an event loop, holds a slot until what is returned is
    called."""
    stream = Policy(bulkhead).stream(lambda: iter([1, 2]))
    thread = threading.Thread(target=next, args=(iter(stream),))
    thread.start()
    thread.join()
    return stream.close
