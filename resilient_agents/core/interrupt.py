"""A stream that is closed while another task reads it: the read ends, and so does the stream.

On asyncio the task that reads is cancelled, and the driver of the stream takes that back. Who reads is found when it is
needed: to write it down at each item would cost as much again as the item. On trio, where a task cannot be cancelled
alone, each step of a stream that may be closed like this runs in a scope.
"""

from __future__ import annotations

import asyncio
import gc
from types import AsyncGeneratorType
from typing import Any, Final

import anyio

from resilient_agents.base import timers
from resilient_agents.core.loops import running_loop
from resilient_agents.core.steps import Over, Step

__all__ = ["Interrupt"]

_LOOK_AGAIN: Final = 0.02
"""Seconds between two looks whether a read that was told to end has ended."""

_INSIDE: Final = "a stream cannot be closed from inside the step that reads it"

_SHOWN: Final = ("cr_await", "ag_await", "gi_yieldfrom")
"""Where coroutines and generators show what they wait for."""

_SILENT: Final = frozenset(("anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"))
"""The interpreter's own awaitables, which show nothing."""


class Interrupt:
    """The wish that the reading of one stream ends. `wished`: from now on."""

    __slots__ = ("_asked", "_over", "_reader", "_requests", "_scope", "wished")

    def __init__(self) -> None:
        self.wished = False
        self._requests = 0
        self._reader: asyncio.Task[Any] | None = None
        self._asked: Any = None  # of the reader: what it waited for
        self._scope: Any = None
        self._over = False

    async def end_reading(self, generator: AsyncGeneratorType[Any, Any]) -> None:
        """Return when nobody reads this generator any more. Called by the one who reads it, it raises RuntimeError."""
        while generator.ag_running:
            if generator.ag_await is None:  # it runs, and this within it
                raise RuntimeError(_INSIDE)
            asked = self.wished and (self._reader is None or generator.ag_await is self._asked)
            if not asked and not self._over:
                self.heard()  # a step that was to end took the cancellation for itself, and gave an item
                self._ask(generator)
            await timers.sleep(_LOOK_AGAIN)

    def ends(self) -> None:
        """The reading is over, and the stream being closed: from now on that is only waited for."""
        self._over = True
        self.heard()

    def _ask(self, generator: AsyncGeneratorType[Any, Any]) -> None:
        if running_loop() is None:
            self.wished = True
            self._scope.cancel()
        elif reader := next((task for task in asyncio.all_tasks() if _waits_for(task.get_coro(), generator)), None):
            self.wished = True
            self._reader = reader
            self._asked = generator.ag_await
            self._requests = reader.cancelling()
            reader.cancel()
        else:
            raise RuntimeError(_INSIDE)

    def heard(self) -> bool:
        """Take the cancellation back. Was it this wish, and nobody else's?"""
        task, self._reader = self._reader, None
        return task is not None and task.uncancel() <= self._requests

    def around(self, step: Step) -> Step:
        """A step on trio that ends when it is wished."""

        async def in_scope(sent: Any, thrown: BaseException | None) -> Any:
            if self.wished:  # the step before took the cancellation for itself
                return Over(None)
            with anyio.CancelScope() as self._scope:
                return await step(sent, thrown)
            return Over(None)

        return in_scope


def _waits_for(awaited: Any, generator: AsyncGeneratorType[Any, Any]) -> bool:
    """Does a coroutine that is suspended wait for this generator, through whatever it awaits?"""
    while awaited is not None and awaited is not generator:
        shown = next((name for name in _SHOWN if hasattr(awaited, name)), None)
        awaited = _inside(awaited) if shown is None else getattr(awaited, shown)
    return awaited is generator


def _inside(awaited: Any) -> Any:
    """What an awaitable that shows nothing stands for."""
    parts = gc.get_referents(awaited) if type(awaited).__name__ in _SILENT else ()
    return next((part for part in parts if asyncio.iscoroutine(part) or hasattr(part, "ag_await")), None)
