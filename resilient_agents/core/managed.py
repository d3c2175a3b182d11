"""`opened`: a function whose context manager has the stream that is meant."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, ParamSpec

from resilient_agents.base.told import Fields
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
        return _Either(manager, items) if hasattr(kind, "__enter__") else _async(manager, items)
    if hasattr(kind, "__enter__"):
        return _blocking(manager, items)
    if is_awaitable(manager):
        return _awaited(fn, manager, items)
    raise TypeError(f"opened() is for functions that return a context manager, {name_of(fn)} returned {kind.__name__}")


async def _awaited(fn: Callable[..., Any], manager: Any, items: Items | None) -> Any:
    return _managed(fn, await manager, items)


@contextlib.contextmanager
def _blocking(manager: Any, items: Items | None) -> Generator[Any, None, None]:
    with manager as entered:
        yield _named(entered, items)


@contextlib.asynccontextmanager
async def _async(manager: Any, items: Items | None) -> AsyncGenerator[Any, None]:
    async with manager as entered:
        yield _named(entered, items)


class _Either(Fields):
    """Of a manager that can be entered both ways: entered as whoever reads enters it."""

    _manager: Any
    _items: Items | None
    _entered: Any = None

    def __enter__(self) -> Any:
        self._entered = _blocking(self._manager, self._items)
        return self._entered.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._entered.__exit__(*raised)

    async def __aenter__(self) -> Any:
        self._entered = _async(self._manager, self._items)
        return await self._entered.__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await self._entered.__aexit__(*raised)


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
    if not hasattr(named, "__aiter__"):
        return _Named(entered, named)
    return _BothNamed(entered, named) if hasattr(named, "__iter__") else _AsyncNamed(entered, named)


class _Of(Fields):
    """All else is an attribute of what was entered."""

    _entered: Any
    _named: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entered, name)


class _Named(_Of):
    def __iter__(self) -> Iterator[Any]:
        return iter(self._named)


class _AsyncNamed(_Of):
    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._named)


class _BothNamed(_Named, _AsyncNamed): ...
