"""Every way out of a stream: its source is closed, and the manager that it came from is left as its own block would be
left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import anyio
import pytest

from resilient_agents import Policy, Resume, Retry, StreamTimeout, deadline, fixed, opened, sse_done
from tests.conftest import Harness
from tests.strategies import Freed
from tests.stream_server import STALL, answering, chat_events, serving
from tests.test_stream_managers import Client


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_manager_is_told_what_the_block_raised(h: Harness, resumed: bool) -> None:
    """Once, as in a block of its own; also where it is that of a later part."""
    client = Client(h, breaks=resumed)

    def go_on(items: list[Any]) -> Any:
        client.breaks = False
        return client.stream()

    policy = Policy(Resume(go_on)) if resumed else Policy()
    raised = LookupError("of the block")
    left = 3 if resumed else 1
    with pytest.raises(LookupError):
        if h.blocking:
            with policy.stream(client.stream) as stream:
                for _ in range(left):
                    next(stream)
                raise raised
        else:
            async with policy.stream(client.stream) as stream:
                for _ in range(left):
                    await anext(stream)
                raise raised
    assert client.seen[-1] is raised
    assert client.log == ["entered", "closed", "left"] * (2 if resumed else 1)
    assert not resumed or isinstance(client.seen[0], ConnectionError)


async def test_a_stream_that_has_ended_keeps_nothing_of_what_its_block_raises(h: Harness) -> None:
    """Although it is there for longer."""
    client = Client(h)
    stream = Policy().stream(client.stream)
    with Freed() as freed, contextlib.suppress(freed.Failure):
        if h.blocking:
            with stream:
                await h.items(stream)
                freed.fail()
        else:
            async with stream:
                await h.items(stream)
                freed.fail()
    assert client.log == ["entered", "closed", "left"]


async def test_the_manager_of_a_part_is_told_of_an_error_that_nothing_goes_on_after(h: Harness) -> None:
    """As without a Resume."""
    client = Client(h, breaks=True)
    with pytest.raises(ConnectionError) as raised:
        await h.items(Policy(Resume(lambda items: [], on=KeyError)).stream(client.stream))
    assert client.seen == [raised.value]


class Connection:
    """Has an iterator that knows nothing of the connection."""

    def __init__(self, breaks: int = 9) -> None:
        self.closed = 0
        self.breaks = breaks

    def _item(self, n: int) -> int:
        if n == self.breaks:
            raise ConnectionError
        return n

    def __iter__(self) -> Iterator[int]:
        for n in range(3):
            yield self._item(n)

    async def __aiter__(self) -> AsyncIterator[int]:
        for n in range(3):
            yield self._item(n)
            await anyio.sleep(1)

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("strategies", [(), (Retry(1), StreamTimeout(idle=99))], ids=["bare", "limited"])
@pytest.mark.parametrize("way", ["end", "left", "broken", "not opened", "cancelled", "deadline", "dropped"])
async def test_the_source_is_closed_on_every_way_out(h: Harness, strategies: tuple[Any, ...], way: str) -> None:
    """Once, and not only its iterator."""
    source = Connection({"broken": 1, "not opened": 0}.get(way, 9))
    stream = Policy(*strategies).stream((lambda: iter_of(source)) if h.blocking else (lambda: source))
    try:
        if way in ("left", "dropped"):
            assert (next(stream) if h.blocking else await anext(stream)) == 0
            if way == "left":
                await stream.aclose()
        else:
            with anyio.move_on_after(0.5) if way == "cancelled" and not h.blocking else deadline(0.5):
                await h.items(stream)
    except (ConnectionError, TimeoutError):
        pass
    del stream
    gc.collect()
    if not h.blocking:
        await anyio.sleep(1)
    assert source.closed == 1


async def test_a_source_that_cannot_be_iterated_is_closed(h: Harness) -> None:
    """It may hold a connection all the same."""

    class Broken(Connection):
        def __iter__(self) -> Iterator[int]:
            raise ConnectionError

        __aiter__ = __iter__  # type: ignore[assignment]

    source = Broken()
    with pytest.raises(ConnectionError):
        await h.items(Policy().stream((lambda: iter_of(source)) if h.blocking else (lambda: source)))
    assert source.closed == 1


def iter_of(source: Connection) -> Any:
    """The same, for blocking code only."""

    class Blocking:
        close = source.close

        def __iter__(self) -> Iterator[int]:
            return iter(source)

    return Blocking()


def test_streams_of_aiohttp() -> None:
    """Its status is judged, a stall ends it, and no connection is left."""
    lines = [*chat_events("to be"), b"\n"]
    with serving(answering(503, lines, 404, [*lines[:2], STALL])) as server:
        policy = Policy(Retry(2, wait=fixed(0)), StreamTimeout(idle=0.2, complete=sse_done))

        async def main() -> None:
            async with aiohttp.ClientSession() as session:
                asked = opened(session.get, items=lambda response: response.content)
                async with policy.stream(asked, server.url) as stream:
                    assert b"".join([line async for line in stream]) == b"".join(lines)
                    assert stream.status == 200
                with pytest.raises(aiohttp.ClientResponseError, match="404"):
                    await anext(policy.stream(asked, server.url))
                with pytest.raises(TimeoutError, match=r"\(idle\) after 4 items"):
                    async for _ in policy.stream(asked, server.url):
                        pass
                connector: Any = session.connector
                assert not connector._acquired

        asyncio.run(main())
