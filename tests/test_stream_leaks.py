"""Thousands of streams that end in every way: no slot is left, no source open, every operation that began has ended."""

from __future__ import annotations

import collections
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_agents import Bulkhead, Policy, StreamTimeout, deadline
from resilient_agents.events import CallEnded, CallStarted
from tests.conftest import run_on

ROUNDS = 200


class Traffic:
    """What the streams go through, and what is counted of them."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.bulkhead = Bulkhead(10_000)
        self.seen = collections.Counter[type]()
        self.policy = Policy(self.bulkhead, StreamTimeout(idle=5, first_item=5))
        self.watched = Policy(self.policy)
        self.watched.observe(lambda event: self.seen.update([type(event)]))

    def nothing_is_left(self, *, streams: int, watched: int) -> None:
        assert self.opened == self.closed == streams
        assert self.bulkhead.in_use == 0
        assert self.seen[CallStarted] == self.seen[CallEnded] == watched

    def blocking(self) -> Iterator[int]:
        self.opened += 1
        try:
            yield from range(5)
        finally:
            self.closed += 1

    async def asynchronous(self) -> AsyncIterator[int]:
        self.opened += 1
        try:
            for n in range(5):
                await anyio.lowlevel.checkpoint()
                yield n
            await anyio.sleep(60)
        finally:
            self.closed += 1


def test_of_blocking_streams() -> None:
    """Read to the end, closed early, dropped, and read on in another thread."""
    traffic = Traffic()

    def read(stream: Any, count: int) -> None:
        for _ in range(count):
            next(stream)

    for n in range(ROUNDS):
        policy = traffic.watched if n % 2 else traffic.policy
        whole, early, dropped, moved = (policy.stream(traffic.blocking) for _ in range(4))
        assert list(whole) == [0, 1, 2, 3, 4]
        for stream in (early, dropped, moved):
            read(stream, 1 + n % 3)
        early.close()
        del stream, dropped
        reader = threading.Thread(target=read, args=(moved, 2))
        reader.start()
        reader.join()
        moved.close()
    traffic.nothing_is_left(streams=4 * ROUNDS, watched=2 * ROUNDS)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_of_streams_on_trio() -> None:
    """Closed early, cancelled, dropped, read on in another task, and closed while they are read."""
    traffic = Traffic()

    async def read(stream: Any, count: int) -> None:
        async for _ in stream:
            count -= 1
            if not count:
                return

    async def each_way(n: int) -> None:
        policy = traffic.watched if n % 2 else traffic.policy
        early, cancelled, moved, ended = (policy.stream(traffic.asynchronous) for _ in range(4))
        await read(early, 1 + n % 3)
        await early.aclose()
        with anyio.move_on_after(1):
            await read(cancelled, 9)
        dropped = policy.stream(traffic.asynchronous)
        await anext(dropped)
        del dropped
        await anext(moved)
        async with anyio.create_task_group() as group:
            group.start_soon(read, moved, 2)
        await moved.aclose()
        async with anyio.create_task_group() as group:
            group.start_soon(read, ended, 9)
            await anyio.sleep(1)
            await ended.aclose()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for n in range(ROUNDS):
                group.start_soon(each_way, n)
        for _ in range(3):
            gc.collect()
            await anyio.lowlevel.checkpoint()

    run_on("trio", main)
    traffic.nothing_is_left(streams=5 * ROUNDS, watched=5 * ROUNDS // 2)


def test_of_streams_under_a_long_deadline() -> None:
    """Those that have ended do not live on until it is over."""

    class Argument: ...

    async def items(_: Argument) -> AsyncIterator[int]:
        for n in range(3):
            await anyio.lowlevel.checkpoint()
            yield n

    async def main() -> int:
        arguments = weakref.WeakSet[Argument]()
        with deadline(86_400):
            for _ in range(ROUNDS):
                arguments.add(argument := Argument())
                assert [n async for n in Policy().stream(items, argument)] == [0, 1, 2]
            gc.collect()
            return len(arguments)

    assert run_on("asyncio", main) < ROUNDS / 2
