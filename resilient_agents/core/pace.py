"""How a stream went that somebody watches: when its first item came, how many there were, how long a gap was."""

from __future__ import annotations

from typing import Any

from resilient_agents.base.clock import clock
from resilient_agents.core.audience import Audience
from resilient_agents.core.opening import Opened
from resilient_agents.core.steps import Over, Step

__all__ = ["Pace"]


class Pace:
    """Counts the items of one stream. The consumer's own time is in no gap, and nothing of a recorder's stays current
    while the consumer has an item."""

    __slots__ = ("_opened", "_recorder", "_step", "first_item", "items", "longest_gap")

    def __init__(self, opened: Opened, audience: Audience) -> None:
        self._opened = opened
        self._step: Step = opened.step or opened.read
        self.items = 0 if opened.over else 1
        self.first_item = None if opened.over else clock.monotonic() - audience.started
        self.longest_gap: float | None = None
        audience.pace = self
        self._recorder = audience.recorder
        if not opened.over:
            self._recorder.suspend()

    async def step(self, sent: Any, thrown: BaseException | None) -> Any:
        """The next item. What ends without one is a gap, too."""
        began = clock.monotonic()
        try:
            item = await self._step(sent, thrown)
        finally:
            thrown = None
            gap = clock.monotonic() - began
            self.longest_gap = gap if self.longest_gap is None else max(gap, self.longest_gap)
        if type(item) is not Over:
            self.items += 1
            self._recorder.suspend()
        return item

    @property
    def parts(self) -> int:
        """Of how many streams it is made."""
        return self._opened.parts
