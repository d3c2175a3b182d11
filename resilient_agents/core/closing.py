"""Results that a strategy throws away are closed, so that their connections go back.

Closed is only what is known to be nobody else's: a response, which has an HTTP status and can be closed, and a stream
that a policy inside made. An object of the user's own that `when=` merely polls for is left alone. Nothing here raises
an error of the object's, and a closing that takes its time is given up.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Final

from resilient_agents.base import timers
from resilient_agents.core.call import Call
from resilient_agents.core.driver import is_awaitable
from resilient_agents.core.responses import close_now, is_response
from resilient_agents.core.streams import Stream

__all__ = ["close_all", "close_lost", "close_unwanted", "is_closable"]

SECONDS: Final = 5.0
"""How long a call waits for an unwanted result to close."""


def is_closable(result: Any) -> bool:
    """Is it ours to close where nobody wants it?"""
    return isinstance(result, Stream) or is_response(result)


async def close_unwanted(call: Call, result: Any) -> None:
    """Close `result`, if it is ours to close, in the colour of the call; also where the call is being cancelled."""
    if not is_closable(result):
        return
    if call.runtime.blocking:
        close_now(result)
    else:
        await close_all([result])


async def close_all(unwanted: list[Any]) -> None:
    """Close these from async code and take each out of the list, whatever it raises."""
    with timers.scope(SECONDS, shield=True):
        while unwanted:
            await _close(unwanted.pop(0))


async def _close(result: Any) -> None:
    for name in ("aclose", "close"):  # a blocking client's response in async code refuses the first, httpx's
        with suppress(Exception):
            closing = getattr(result, name)()
            if is_awaitable(closing):
                await closing
            return


async def close_lost(call: Call, result: Any) -> None:
    """The same while an error goes out in place of the result, such as that of a predicate which was asked about it.
    (When the call is collected, nothing can be awaited.)"""
    if not isinstance(sys.exc_info()[1], GeneratorExit):
        await close_unwanted(call, result)
