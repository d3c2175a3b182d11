"""Responses: what a client library gives for an answer over HTTP, which may hold a connection until it is closed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from resilient_agents.core.driver import discard, is_awaitable

__all__ = ["close_now", "close_one", "close_response", "is_response"]


def is_response(result: Any) -> bool:
    """Has it an HTTP status, and can it be closed?"""
    with suppress(Exception):  # attributes of the user's
        status = getattr(result, "status_code", None)
        if status is None:
            status = getattr(result, "status", None)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return callable(getattr(result, "close", None)) or callable(getattr(result, "aclose", None))
    return False


def close_one(thing: Any) -> None:
    """Close it from blocking code, if it can be closed. What can only be closed by awaiting is left to itself."""
    closes = getattr(thing, "close", None)
    if closes is not None:
        closing = closes()
        if is_awaitable(closing):
            discard(closing)


def close_now(result: Any) -> None:
    """The same, whatever it raises."""
    with suppress(Exception):
        close_one(result)


def close_response(result: Any) -> None:
    """Close what a function returned too late, if it is a response: nothing else is known to be nobody's."""
    if is_response(result):
        close_now(result)
