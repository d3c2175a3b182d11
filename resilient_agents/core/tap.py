"""The items of a stream, one by one, for a layer that must be around the making of each: its mark is in the context
while the function runs, and in no consumer's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from resilient_agents.core.opening import Opened
from resilient_agents.core.steps import Over, Step

__all__ = ["Mark", "tap"]


class Mark(Protocol):
    """What the calls inside of a call find in their context."""

    def resume(self) -> None: ...
    def suspend(self) -> None: ...


def tap(opened: Opened, mark: Mark, see: Callable[[Any], object] | None = None) -> None:
    """From the second item on, set `mark` while an item is made, and let `see` look at it."""
    if opened.step is not None:
        opened.limited = None
        opened.step = _tapped(opened.step, mark, see)
        return
    kind = _TappedAsync if hasattr(opened.iterator, "__anext__") else _Tapped
    opened.iterator = kind(opened.iterator, mark, see)


def _tapped(step: Step, mark: Mark, see: Callable[[Any], object] | None) -> Step:
    async def tapped(sent: Any, thrown: BaseException | None) -> Any:
        try:
            mark.resume()
            item = await step(sent, thrown)
        finally:
            mark.suspend()
            thrown = None
        if see is not None and type(item) is not Over:
            see(item)
        return item

    return tapped


class _Tapped:
    def __init__(self, iterator: Any, mark: Mark, see: Callable[[Any], object] | None) -> None:
        self._iterator = iterator
        self._mark = mark
        self._see = see

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._iterator, name)
        return partial(self._step, found) if name in ("send", "throw") else found

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._step(next, self._iterator)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            self._mark.resume()
            item = step(*args)
        finally:
            self._mark.suspend()
        if self._see is not None:
            self._see(item)
        return item


class _TappedAsync:
    def __init__(self, iterator: Any, mark: Mark, see: Callable[[Any], object] | None) -> None:
        self._iterator = iterator
        self._mark = mark
        self._see = see

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._iterator, name)
        return partial(self._step, found) if name in ("asend", "athrow") else found

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await self._step(anext, self._iterator)

    async def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            self._mark.resume()
            item = await step(*args)
        finally:
            self._mark.suspend()
        if self._see is not None:
            self._see(item)
        return item
