"""Rows about streams: what an item costs, with and without a limit for each step, and what an open stream weighs."""

from __future__ import annotations

import asyncio
import functools
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from resilient_agents import Policy, Retry, StreamTimeout
from tests.benchmarks import peers
from tests.benchmarks.calls import over_bare
from tests.benchmarks.measure import Batch, Effort
from tests.benchmarks.peers import RETRIED, Absent
from tests.benchmarks.table import Goal, Line, at_most

__all__ = ["open_streams", "per_item", "with_a_limit"]

Stream = Callable[[int], Any]
Makers = dict[str, Callable[[], Callable[[Stream], Stream]]]


def items(count: int) -> Iterator[int]:
    yield from range(count)


async def async_items(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def slow_items(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


def _reading(stream: Stream) -> Batch:
    """Batches of items of one blocking stream."""

    def batch(count: int) -> float:
        began = time.perf_counter()
        for _ in stream(count):
            pass
        return time.perf_counter() - began

    return batch


def _areading(stream: Stream, runner: asyncio.Runner) -> Batch:
    async def read(count: int) -> float:
        began = time.perf_counter()
        async for _ in stream(count):
            pass
        return time.perf_counter() - began

    return lambda count: runner.run(read(count))


def _line(title: str, source: Stream, makers: Makers, effort: Effort, goals: list[Goal]) -> Line:
    streams: dict[str, Stream] = {"bare": source}
    missing: dict[str, str] = {}
    for name, make in makers.items():
        try:
            streams[name] = make()(source)
        except Absent as absent:
            missing[name] = str(absent)
    if source is items:
        batches = {name: _reading(stream) for name, stream in streams.items()}
        return over_bare(title, "an item", batches, missing, effort, goals)
    with asyncio.Runner() as runner:
        batches = {name: _areading(stream, runner) for name, stream in streams.items()}
        return over_bare(title, "an item", batches, missing, effort, goals)


def per_item(effort: Effort) -> Iterator[Line]:
    """One retry around a stream, whose opening counts too; and the same by `policy.stream`."""
    policy = Policy(Retry(peers.ATTEMPTS, on=RETRIED))

    def streamed(source: Stream) -> Stream:
        return functools.partial(policy.stream, source)

    makers: Makers = {
        "ours": lambda: policy,
        "nopanic": lambda: peers.peer("nopanic").retry(peers.ATTEMPTS, on=RETRIED),
    }
    for colour, source in (("sync", items), ("async", async_items)):
        yield _line(f"{colour} stream", source, makers, effort, [at_most(1.0, "nopanic")])
        ways: Makers = {"ours": lambda: streamed, "by hand": lambda: policy}
        yield _line(f"{colour} policy.stream, by hand: decorated", source, ways, effort, [at_most(1.2, "by hand")])


def with_a_limit(effort: Effort) -> Iterator[Line]:
    """A limit for each step; by hand `asyncio.timeout` around it."""

    def by_hand(source: Stream) -> Stream:
        async def limited(count: int) -> AsyncIterator[Any]:
            iterator = source(count)
            while True:
                try:
                    async with asyncio.timeout(10):
                        item = await anext(iterator)
                except StopAsyncIteration:
                    return
                yield item

        return limited

    makers: Makers = {"ours": lambda: Policy(StreamTimeout(idle=10)), "by hand": lambda: by_hand}
    for source in (async_items, slow_items):
        how = "never suspends" if source is async_items else "suspends once"
        yield _line(f"async stream, limited steps, {how}", source, makers, effort, [at_most(0.25, "by hand")])


class _Endless:
    """A source that weighs nothing."""

    def __aiter__(self) -> _Endless:
        return self

    async def __anext__(self) -> int:
        return 1


def open_streams(effort: Effort) -> Iterator[Line]:
    """Bytes of a stream that is open, beyond its source."""
    policy = Policy(Retry(peers.ATTEMPTS), StreamTimeout(first_item=10, idle=10, total=100))
    count = min(1000, effort.tasks)

    async def weigh() -> float:
        sources = [_Endless() for _ in range(count)]
        streams: list[Any] = []

        async def opened(source: _Endless) -> None:
            stream = policy.stream(lambda: source)
            await anext(stream)
            streams.append(stream)

        await opened(sources[0])
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for source in sources:
                await opened(source)
            return (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
            for stream in streams:
                await stream.aclose()

    yield Line("an open stream, limited", "", "bytes", {"ours": asyncio.run(weigh())}, [at_most(6000)])
