"""The threads of `Bulkhead(isolation="thread")`: as many as slots, each of which holds its slot until it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from resilient_agents.adapters.slot_pool import SlotPool
from resilient_agents.core.threads import Worker, Workers

__all__ = ["Threads"]


class Threads(Workers):
    """As many threads as slots: the limit, or those that are still held after it has shrunk, whose calls go on."""

    def __init__(self, pool: SlotPool) -> None:
        super().__init__(pool.limit, pool.limit, "bulkhead")
        self._pool = pool

    def caps(self) -> tuple[int, int]:
        most = max(self._pool.limit, self._pool.in_use)
        return most, most

    def prepare(self, work: Callable[[], Any]) -> Worker:
        return super().prepare(partial(self.run, work))

    def run(self, work: Callable[[], Any]) -> Any:
        """On the worker's thread: whoever finds this frame beneath its own is inside."""
        return work()
