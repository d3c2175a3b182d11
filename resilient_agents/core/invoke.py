"""The innermost step of every chain: call the user's function, in the way that fits what it is."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from resilient_agents.core.call import Boxed, Call
from resilient_agents.core.runtime import settle
from resilient_agents.core.threads import run_in_worker

__all__ = ["invoke_any", "invoke_coroutine", "plainly"]


_PLAIN = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple, set})
"""Types of results that need no closer look: asking a type for a method that it has not costs 0.17 us a call."""


def invoke_coroutine(call: Call) -> Awaitable[Any]:
    """A declared coroutine function: what it returns is the rest of the chain."""
    result: Awaitable[Any] = call.fn(*call.args, **call.kwargs)
    return result


async def invoke_any(call: Call) -> Any:
    """Anything else, in either colour: only the call itself shows whether an awaitable comes out."""
    if call.workers is not None:
        result = await run_in_worker(call, call.workers, lambda: plainly(call))
    else:
        try:  # `plainly`, spelled out: it is the path of every blocking call
            result = call.fn(*call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None
    if type(result) in _PLAIN or not hasattr(type(result), "__await__"):
        return result
    return await settle(call, result)


def plainly(call: Call) -> Any:
    """Call the function here and now. A StopIteration of the user's travels boxed."""
    try:
        return call.fn(*call.args, **call.kwargs)
    except StopIteration as stop:
        raise Boxed(stop) from None
