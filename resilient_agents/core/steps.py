"""What happens between two items of a stream: a step is one coroutine, in either colour, and may have a time limit.

A layer that wants to see items wraps the step of the stream that it opened. No limit and no scope is in force while the
consumer has the item.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from resilient_agents.base.told import Fields

__all__ = ["Limited", "Over", "Step"]


class Over(Fields):
    """What a step gives in place of an item when the stream has ended. `value`: what a generator returned."""

    value: Any


Step = Callable[[Any, BaseException | None], Awaitable[Any]]
"""Gives the item that the stream answers with to what was sent or thrown in, `Over` at its end."""


class Limited(Protocol):
    """A layer that limits the steps of an async stream and wants nothing else of most: as long as its own `step` is the
    stream's, a driver may take the items out of `flow()`, which is to be closed. That spares a coroutine for each."""

    async def step(self, sent: Any, thrown: BaseException | None, /) -> Any: ...
    def flow(self) -> AsyncGenerator[Any, None]: ...
