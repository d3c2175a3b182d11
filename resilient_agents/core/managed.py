"""`opened`: a function whose context manager has the stream that is meant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from resilient_agents.base.told import Fields
from resilient_agents.classify.facts import get
from resilient_agents.core.call import name_of
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.errors import StreamFailedError

__all__ = ["Managed", "is_manager", "opened"]

P = ParamSpec("P")
Items = Callable[[Any], Any]


class Managed(Fields):
    """What a function that is `opened` has given: `manager`, a context manager or an awaitable of one. That is entered
    by the policy that streams it, and not as it is."""

    _fn: Callable[..., Any]
    manager: Any
    _items: Items | None

    def checked(self, manager: Any) -> Any:
        """The manager. Raises TypeError if it is none."""
        if is_manager(manager):
            return manager
        raise TypeError(
            f"opened() is for functions that return a context manager, {name_of(self._fn)} returned "
            f"{type(manager).__name__}"
        )

    def stream_of(self, entered: Any) -> Any:
        """What is to be iterated. Raises an error for a response that is one, and TypeError for what `items` gives if
        it cannot be iterated: a method that was not called would be handed out as the only item."""
        status = get(entered, "status_code") or get(entered, "status")
        if isinstance(status, int) and status >= 400:
            judge = get(entered, "raise_for_status")
            if judge is not None:
                judge()
            raise StreamFailedError(f"the stream was refused with status {status}", status_code=status)
        if self._items is None:
            return entered
        items = self._items(entered)
        if hasattr(items, "__aiter__") or hasattr(items, "__iter__"):
            return items
        if is_awaitable(items):
            discard(items)
        raise TypeError(
            f"items= of opened({name_of(self._fn)}) must return what is to be iterated, got {type(items).__name__}"
        )


def is_manager(given: Any) -> bool:
    """Is it a context manager, of either kind?"""
    kind = type(given)
    return hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")


def opened(fn: Callable[P, Any], *, items: Items | None = None) -> Callable[P, Any]:
    """`fn`, which returns a context manager, as a function for `policy.stream`: what is iterated are
    `items(entered)`, by default what the manager gives itself.

    `policy.stream(opened(client.stream, items=lambda r: r.aiter_lines()), "GET", url)`: the manager is entered and left
    by the policy. If what it gives is a response with a status of 400 or more, its `raise_for_status()` is called (or
    StreamFailedError raised), so that a refusal is an error and no stream. Other attributes of the response are those
    of the stream, from its first item on.

    Raises TypeError at once if `fn` or `items` cannot be called, and when called if `fn` returns no context manager, or
    `items` nothing that can be iterated.
    """
    for name, thing in (("fn", fn), ("items", items)):
        if thing is not None and not callable(thing):
            raise TypeError(f"{name} must be callable, got {type(thing).__name__}")

    @functools.wraps(fn, updated=())
    def managed(*args: P.args, **kwargs: P.kwargs) -> Any:
        return Managed(fn, fn(*args, **kwargs), items)

    return managed
