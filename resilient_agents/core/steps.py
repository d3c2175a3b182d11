"""What happens between two items of a stream: a step is one coroutine, in either colour, and may have a time limit.

A layer that wants to see items wraps the step of the stream that it opened. No limit and no scope is in force while the
consumer has the item.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from resilient_agents.base.told import Fields

__all__ = ["Limited", "Over", "Step"]


class Over(Fields):
    """What a step gives in place of an item when the stream has ended. `value`: what a generator returned."""

    value: Any


Step = Callable[[Any, BaseException | None], Awaitable[Any]]
"""Gives the item that the stream answers with to what was sent or thrown in, `Over` at its end."""


class Limited(Protocol):
    """A layer that limits the steps of an async stream, as the driver sees it, which spares it a coroutine for each of
    them: between `limit.begin(idle)` and `limit.finish()` it reads the source itself. On asyncio only, and only
    as long as nobody has put a step around the layer's own.

    `due`: the next step is to be asked for by the layer's own all the same. `items`: how many there were. `blank`:
    items of this class say nothing; `see` looks at the others, and `raised` of what came in place of an item.
    """

    limit: Any
    idle: Any
    due: bool
    items: int
    blank: type | None

    async def step(self, sent: Any, thrown: BaseException | None, /) -> Any: ...
    def see(self, item: Any) -> object: ...
    def raised(self, error: BaseException) -> Over: ...
