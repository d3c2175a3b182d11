"""What the tasks of a simulation wait for."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any

__all__ = ["Moment"]


class Moment:
    """Something to come, which one task at a time awaits; when it comes, the task goes on at once.

    An `asyncio.Future` lets it go on a turn later. Every turn of the loop costs as much as two strategies, and a
    simulated call has as few as two: when it begins, and when it is answered.

    Attributes:
        answer: What the task gets.
        error: What is raised there in place of it.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop", "answer", "error")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self.error: BaseException | None = None

    def come(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Let the task that waits go on. It must be called by a callback of the loop, for tasks do not nest."""
        callback, self._callback = self._callback, None
        if callback is not None:
            self.answer, self.error = answer, error
            if self._context is None:
                callback(self)
            else:
                self._context.run(callback, self)

    # what asyncio's tasks ask of what they wait for

    def __await__(self) -> Generator[Any, None, Any]:
        self._asyncio_future_blocking = True
        yield self  # whoever drives the task raises the error here
        return self.answer

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._callback = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        callback, self._callback = self._callback, None
        if callback is None:
            return False
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop
