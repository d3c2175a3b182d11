"""The items of a stream, one by one, for a layer that must be around the making of each: its mark is in the context
while the function runs, and in no consumer's."""

from __future__ import annotations

from collections.abc import Callable
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
    step: Step = opened.step or opened.read

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

    opened.step = tapped
