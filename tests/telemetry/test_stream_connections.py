"""Streams over real connections that end in every way: no connection is left, no slot, no task and no span.

Hundreds here; as many as RESILIENT_AGENTS_STREAMS says where it is set, such as 10000.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import httpx
import pytest

from resilient_agents import Bulkhead, Hedge, Policy, StreamTimeout, opened
from tests.telemetry.conftest import Sdk

STREAMS = int(os.environ.get("RESILIENT_AGENTS_STREAMS", "150"))
AT_ONCE = 10
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
LINES = b"data: a\n" * 5
PATIENCE = 20.0


class Server:
    """Answers every request with five lines, and then with nothing until the other side closes; `/whole` is over after
    the lines, and `/raced/1` is answered when it has been asked for twice (who is cancelled while it connects may leave
    its connection open, with anyio 4.0). `open`: connections that the other side has not closed yet."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted = self.open = 0
        self._raced: dict[bytes, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        with contextlib.suppress(OSError, EOFError):  # the loser of a race may leave before it has asked
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /raced"):
                await self._both(head.split()[1])
            writer.write(HEAD + LINES)
            if head.startswith(b"GET /whole"):
                writer.write_eof()
            await reader.read()
        self.open -= 1
        writer.close()

    async def _both(self, path: bytes) -> None:
        first = self._raced.pop(path, None)
        if first is not None:
            first.set()
        else:
            self._raced[path] = second = asyncio.Event()
            await second.wait()


@contextmanager
def serving() -> Iterator[Server]:
    server, began, ends = Server(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        began.set()
        await ends.wait()
        listening.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert began.wait(PATIENCE)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(PATIENCE)
        loop.close()


class Traffic:
    """The policies that the streams go through, and what must hold when all are over while their client still lives."""

    def __init__(self, sdk: Sdk, server: Server, client: Any) -> None:
        self.sdk = sdk
        self.server = server
        self._races = 0
        self.bulkhead = Bulkhead(10_000)
        self.policy = Policy(self.bulkhead, StreamTimeout(first_item=PATIENCE, idle=PATIENCE))
        self.stalls = Policy(self.bulkhead, StreamTimeout(first_item=PATIENCE, idle=0.02))
        self.raced = Policy(self.bulkhead, Hedge(0), StreamTimeout(idle=PATIENCE))
        self._asked = opened(client.stream, items=lambda r: r.iter_lines() if _plain(client) else r.aiter_lines())

    def stream(self, policy: Policy, path: str = "/") -> Any:
        return policy.stream(self._asked, "GET", self.server.url + path)

    def race(self) -> Any:
        self._races += 1
        return self.stream(self.raced, f"/raced/{self._races}")

    def is_over(self) -> bool:
        return self.server.open == 0 and self.bulkhead.in_use == 0

    def left_nothing(self) -> None:
        assert (self.server.open, self.bulkhead.in_use) == (0, 0)
        assert self.server.accepted >= STREAMS
        begun, ended = self.sdk.spans_begun(), len(self.sdk.spans)
        assert begun == ended >= 2 * STREAMS


def _plain(client: Any) -> bool:
    return isinstance(client, httpx.Client)


def descriptors() -> int:
    """Of the whole process, 0 where they cannot be counted."""
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """It would close what had been left open."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def take(stream: Any, count: int) -> Any:
    for _ in range(count):
        next(stream)
    return stream


def test_of_blocking_streams(sdk: Sdk) -> None:
    """Read to the end, closed early, dropped, read on in another thread, cut off in a stall, raced."""
    with serving() as server, httpx.Client(timeout=None) as client, ThreadPoolExecutor(1) as elsewhere:
        traffic = Traffic(sdk, server, client)
        before = descriptors()
        for n in range(0, STREAMS, 6):
            assert len(list(traffic.stream(traffic.policy, "/whole"))) == 5
            take(traffic.stream(traffic.policy), 1 + n % 3).close()
            take(traffic.stream(traffic.policy), 1 + n % 3)
            moved = take(traffic.stream(traffic.policy), 1)
            elsewhere.submit(take, moved, 2).result()
            moved.close()
            with pytest.raises(TimeoutError, match=r"\(idle\) after 5 items"):
                list(traffic.stream(traffic.stalls))
            take(traffic.race(), 1).close()
        until(lambda: traffic.is_over() and descriptors() <= before)
        traffic.left_nothing()
        assert descriptors() <= before


def until(is_so: Callable[[], bool]) -> None:
    """A loser of a race ends with its thread."""
    for _ in range(int(PATIENCE / 0.005)):
        if is_so():
            return
        threading.Event().wait(0.005)


async def auntil(is_so: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE / 0.005)):
        if is_so():
            return
        await anyio.sleep(0.005)


async def atake(stream: Any, count: int) -> Any:
    for _ in range(count):
        await anext(stream)
    return stream


async def read(stream: Any) -> int:
    return len([line async for line in stream])


@asynccontextmanager
async def a_reader(traffic: Traffic) -> AsyncIterator[tuple[Any, anyio.abc.TaskGroup]]:
    """Of a stream that it has read as far as there is something."""
    stream, waits = traffic.stream(traffic.policy), anyio.Event()

    async def reads() -> None:
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 5:
                waits.set()

    async with anyio.create_task_group() as group:
        group.start_soon(reads)
        await waits.wait()
        await anyio.lowlevel.checkpoint()
        yield stream, group


async def whole(traffic: Traffic) -> None:
    assert await read(traffic.stream(traffic.policy, "/whole")) == 5


async def early(traffic: Traffic) -> None:
    async with traffic.stream(traffic.policy) as stream:
        await atake(stream, 2)


async def dropped(traffic: Traffic) -> None:
    await atake(traffic.stream(traffic.policy), 1)


async def moved(traffic: Traffic) -> None:
    stream = await atake(traffic.stream(traffic.policy), 1)
    async with anyio.create_task_group() as group:
        group.start_soon(atake, stream, 2)
    await stream.aclose()


async def cancelled(traffic: Traffic) -> None:
    async with a_reader(traffic) as (_, group):
        group.cancel_scope.cancel()


async def ended(traffic: Traffic) -> None:
    async with a_reader(traffic) as (stream, _):
        await stream.aclose()


async def stalled(traffic: Traffic) -> None:
    with pytest.raises(TimeoutError, match=r"\(idle\) after 5 items"):
        await read(traffic.stream(traffic.stalls))


async def raced(traffic: Traffic) -> None:
    await (await atake(traffic.race(), 1)).aclose()


WAYS: list[Callable[[Traffic], Awaitable[None]]] = [whole, early, dropped, moved, cancelled, ended, stalled, raced]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_of_async_streams(sdk: Sdk, runtime: str) -> None:
    """Read to the end, closed early, dropped, read on in another task, cancelled, closed while they are read, ended in
    a stall, raced."""

    def tasks() -> int:
        return len(asyncio.all_tasks()) if runtime == "asyncio" else 1

    async def main() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=None, limits=limits) as client:
            traffic = Traffic(sdk, server, client)
            await whole(traffic)  # the loop may open a file with its first connection
            before = descriptors()
            for _ in range(0, STREAMS, AT_ONCE * len(WAYS)):
                async with anyio.create_task_group() as group:
                    for way in WAYS * AT_ONCE:
                        group.start_soon(way, traffic)
            await auntil(lambda: traffic.is_over() and tasks() == 1 and descriptors() <= before)
            traffic.left_nothing()
            assert (tasks(), descriptors() <= before) == (1, True)

    with serving() as server:
        anyio.run(main, backend=runtime)
