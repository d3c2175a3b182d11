"""`opened`: a function whose context manager has the stream that is meant."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ParamSpec

from resilient_agents.classify.facts import get
from resilient_agents.core.call import name_of
from resilient_agents.core.driver import is_awaitable
from resilient_agents.errors import StreamFailedError

__all__ = ["opened"]

P = ParamSpec("P")
Items = Callable[[Any], Any]


def opened(fn: Callable[P, Any], *, items: Items | None = None) -> Callable[P, Any]:
    """`fn`, which returns a context manager, as a function for `policy.stream`: what is iterated are
    `items(entered)`, by default what the manager gives itself.

    `policy.stream(opened(client.stream, items=lambda r: r.aiter_lines()), "GET", url)`: the manager is entered and left
    by the policy. If what it gives is a response with a status of 400 or more, its `raise_for_status()` is called (or
    StreamFailedError raised), so that a refusal is an error and no stream. Other attributes of the response are those
    of the stream, from its first item on.

    Raises TypeError at once if `fn` or `items` cannot be called, and when called if `fn` returns no context manager.
    """
    for name, thing in (("fn", fn), ("items", items)):
        if thing is not None and not callable(thing):
            raise TypeError(f"{name} must be callable, got {type(thing).__name__}")

    @functools.wraps(fn, updated=())
    def managed(*args: P.args, **kwargs: P.kwargs) -> Any:
        return _managed(fn, fn(*args, **kwargs), items)

    return managed


def _managed(fn: Callable[..., Any], manager: Any, items: Items | None) -> Any:
    kind = type(manager)
    if hasattr(kind, "__aenter__"):
        return _AsyncManaged(manager, items)
    if hasattr(kind, "__enter__"):
        return _Managed(manager, items)
    if is_awaitable(manager):
        return _awaited(fn, manager, items)
    raise TypeError(f"opened() is for functions that return a context manager, {name_of(fn)} returned {kind.__name__}")


async def _awaited(fn: Callable[..., Any], manager: Any, items: Items | None) -> Any:
    return _managed(fn, await manager, items)


class _Managed:
    def __init__(self, manager: Any, items: Items | None) -> None:
        self._manager = manager
        self._items = items

    def __enter__(self) -> Any:
        entered = self._manager.__enter__()
        try:
            return _named(entered, self._items)
        except BaseException as error:
            self._manager.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(self, *seen: object) -> Any:
        return self._manager.__exit__(*seen)


class _AsyncManaged:
    def __init__(self, manager: Any, items: Items | None) -> None:
        self._manager = manager
        self._items = items

    async def __aenter__(self) -> Any:
        entered = await self._manager.__aenter__()
        try:
            return _named(entered, self._items)
        except BaseException as error:
            await self._manager.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *seen: object) -> Any:
        return await self._manager.__aexit__(*seen)


def _named(entered: Any, items: Items | None) -> Any:
    status = get(entered, "status_code") or get(entered, "status")
    if isinstance(status, int) and status >= 400:
        judge = get(entered, "raise_for_status")
        if judge is not None:
            judge()
        raise StreamFailedError(f"the stream was refused with status {status}", status_code=status)
    if items is None:
        return entered
    named = items(entered)
    return _AsyncNamed(entered, named) if hasattr(named, "__aiter__") else _Named(entered, named)


class _Of:
    """All else is an attribute of what was entered."""

    def __init__(self, entered: Any, items: Any) -> None:
        self._entered = entered
        self._named = items

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entered, name)


class _Named(_Of):
    def __iter__(self) -> Iterator[Any]:
        return iter(self._named)


class _AsyncNamed(_Of):
    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._named)
