"""The errors of streams, each with what its reader needs to know."""

from __future__ import annotations

from resilient_agents.core.call import Call
from resilient_agents.errors import StreamFailedError, StreamTimeoutError, StreamTruncatedError
from resilient_agents.events import TimeoutExpired

__all__ = ["said_failed", "timed_out", "truncated"]


def timed_out(call: Call, which: str, limit: float, items: int) -> StreamTimeoutError:
    """A limit has passed. Those who watch are told."""
    call.tell(TimeoutExpired, "stream_timeout", limit)
    after = f"after {items} items" if items else "before its first item"
    return StreamTimeoutError(
        f"the stream of {call.name!r} ran into its limit of {limit:g} s ({which}) {after}",
        policy=call.name,
        strategy="stream_timeout",
        limit=limit,
        which=which,
        items=items,
    )


def truncated(call: Call, items: int) -> StreamTruncatedError:
    """It ended without its mark of completion."""
    return StreamTruncatedError(
        f"the stream of {call.name!r} ended after {items} items without its mark of completion; "
        f"StreamTimeout(complete=None) if this server never sends one",
        policy=call.name,
        items=items,
    )


def said_failed(call: Call, event: str, code: str | None, status: int | None) -> StreamFailedError:
    """One of its items said so."""
    reason = f": {code}" if code else ""
    return StreamFailedError(
        f"the stream of {call.name!r} failed by its own account, {event!r}{reason}",
        policy=call.name,
        event=event,
        code=code,
        status_code=status,
    )
