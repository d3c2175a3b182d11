"""What a call really cost, as its result tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_agents.base.durations import EXACT, number
from resilient_agents.base.told import Fields
from resilient_agents.core.call import name_of
from resilient_agents.core.opening import Opened
from resilient_agents.core.tap import tap
from resilient_agents.events import logger

__all__ = ["Bill", "real_cost"]


def real_cost(settle: Callable[[Any], float | None], result: Any) -> float | None:
    """What this result says it cost, None if it does not or makes no sense."""
    try:
        real = settle(result)
        if real is None or (type(real) is int and 0 <= real <= EXACT):
            return real
        return number(real, "what settle= returns")
    except Exception:
        name = name_of(settle)
        if name not in _complained:
            _complained.add(name)
            logger.exception("settle=%s failed, and the cost stays as it was reserved; that is said once", name)
        return None


_complained: set[str] = set()
"""Names of functions, of which there are as many as a program has."""


class Bill(Fields):
    """What a stream cost: `real`, of what its items say, the largest."""

    settle: Callable[[Any], float | None]
    real: float | None = None

    def gather(self, item: Any) -> None:
        """What has it come to with this item?"""
        real = real_cost(self.settle, item)
        if real is not None:
            self.real = real if self.real is None else max(self.real, real)

    def watch(self, opened: Opened) -> None:
        """Ask each item of a stream."""
        self.gather(opened.first)
        tap(opened, self, self.gather)

    def resume(self) -> None:
        """Nothing is in force while an item is made."""

    suspend = resume
