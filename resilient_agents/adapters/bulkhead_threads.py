"""The threads of `Bulkhead(isolation="thread")`: as many as slots, each of which holds its slot until it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from resilient_agents.adapters.slot_pool import Kept, SlotPool
from resilient_agents.core.threads import Worker, Workers

__all__ = ["Inside", "Threads"]


class Threads(Workers):
    """As many threads as slots: the limit, or those that are still held after it has shrunk, whose calls go on."""

    def __init__(self, pool: SlotPool) -> None:
        super().__init__(pool.limit, pool.limit, "bulkhead")
        self._pool = pool

    def caps(self) -> tuple[int, int]:
        most = max(self._pool.limit, self._pool.in_use)
        return most, most


class Inside:
    """The bulkhead's threads for one call: whoever of them runs it is inside, and keeps the slot until it ends."""

    __slots__ = ("_kept", "_pool", "begin", "leave", "strategy", "threads")

    def __init__(self, threads: Threads, pool: SlotPool, kept: Kept) -> None:
        self.threads = threads
        self.begin = threads.begin
        self.leave = threads.leave
        self.strategy = threads.strategy
        self._pool = pool
        self._kept = kept

    def prepare(self, work: Callable[[], Any]) -> Worker:
        worker = self.threads.prepare(partial(self.run, work))
        self._kept.workers.append(worker)
        return worker

    def run(self, work: Callable[[], Any]) -> Any:
        """On the worker's thread."""
        return work()
