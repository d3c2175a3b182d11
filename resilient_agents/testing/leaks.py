"""`no_leaks`: what a test leaves behind is found in the test that leaves it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Generator
from typing import Any

from resilient_agents.base import instances
from resilient_agents.core.loops import running_loop

__all__ = ["no_leaks"]

_PATIENCE = 1.0
"""Seconds that threads, and what is held for them, have to end after the block."""

_EXECUTORS = ("ThreadPoolExecutor", "asyncio_", "AnyIO worker thread", "Trio thread")
"""How the names of threads begin that wait for the next piece of work."""


@contextlib.contextmanager
def no_leaks() -> Generator[None, None, None]:
    """Fail with an AssertionError if what runs in the block leaves something behind: slots of bulkheads, callers that
    wait for a slot, a token or a gate, permits of half-open circuits, calls in worker threads, other threads that are
    neither daemons nor of an executor, and, where it is entered on an asyncio loop, tasks.

    What was there before counts for nothing. Threads that end within a second after the block are no leak.
    """
    before = _held()
    yield
    give_up = time.monotonic() + _PATIENCE
    while left := _beyond(before):
        if time.monotonic() >= give_up or running_loop() is not None:
            raise AssertionError("left behind: " + ", ".join(left))
        gc.collect()
        time.sleep(0.01)


def _beyond(before: dict[Any, int]) -> list[str]:
    return [
        f"{what}: {number - before.get((thing, what), 0)}"
        for (thing, what), number in _held().items()
        if number > before.get((thing, what), 0)
    ]


def _held() -> dict[Any, int]:
    """How many of what are held now, and by what."""
    held: dict[Any, int] = {}
    for bulkhead in instances.each("bulkhead"):
        held[id(bulkhead), f"slots of {bulkhead!r}"] = bulkhead.in_use
        held[id(bulkhead), f"calls that wait for {bulkhead!r}"] = bulkhead.queued
    for limit in [*instances.each("rate_limit"), *instances.each("gate")]:
        held[id(limit), f"calls that wait for {limit!r}"] = limit.queued
    for breaker in instances.each("circuit_breaker"):
        held[id(breaker), f"permits of circuit breaker {breaker.name!r}"] = breaker.metrics()["probes"]
    for workers in instances.each("workers"):
        held[id(workers), f"calls in threads of a {workers.strategy}"] = workers.busy
    for thread in threading.enumerate():
        if not thread.daemon and not thread.name.startswith(_EXECUTORS):
            held[id(thread), f"thread {thread.name}"] = 1
    if running_loop() is not None:
        for task in asyncio.all_tasks():
            held[id(task), f"task {task.get_name()}"] = 1
    return held
