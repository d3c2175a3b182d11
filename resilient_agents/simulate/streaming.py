"""Answers that come in items, as the modelled dependency gives them, and the callers who read them."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, Final

from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.dependency import ANSWER, Server, draws, failure
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.moment import Moment

__all__ = ["Streams", "rest"]

LAST: Final = "last item"


class Streams:
    """What the guarded function of a scenario with streams is called with. Each answer is one request at `server`.
    `threads`: where its callers block, None for tasks."""

    def __init__(self, loop: SimulatedLoop, server: Server, seed: str, threads: BlockingCalls | None) -> None:
        self._loop = loop
        self._server = server
        self._threads = threads
        self._faults = random.Random(f"{seed}/stream faults")
        self._gaps = random.Random(f"{seed}/gaps")

    def items(self, start: int = 0) -> AsyncGenerator[str, None] | Generator[str, None, None]:
        """One answer, from item `start` on."""
        return self._awaited(start) if self._threads is None else self._blocking(self._threads, start)

    async def _awaited(self, start: int) -> AsyncGenerator[str, None]:
        await self._server.request()
        for seconds, item in self._answer(start):
            await self._pause(seconds)
            yield item

    def _blocking(self, threads: BlockingCalls, start: int) -> Generator[str, None, None]:
        self._server.request_in(threads)
        for seconds, item in self._answer(start):
            threads.wait_for(self._pause(seconds))
            yield item

    def _answer(self, start: int) -> Iterator[tuple[float, str]]:
        """Each item, and the time that passes before it."""
        stream = self._server.settings.stream
        assert stream is not None
        gap = draws(stream.gap, self._gaps)
        fails = self._faults.random() < stream.rate
        for number in range(start, stream.items):
            if fails and number - start == stream.at:
                self._server.errors += 1
                if stream.fault == "truncate":
                    return
                if stream.fault == "break":
                    raise failure("connection")
                yield math.inf, "never"
            yield gap(), LAST if number == stream.items - 1 else f"item {number}"

    async def _pause(self, seconds: float) -> None:
        over = Moment(self._loop)
        timer = None if seconds == math.inf else self._loop.after(seconds, over.come)
        try:
            await over
        finally:
            if timer is not None:
                timer.cancel()

    def reader(self, decorate: Callable[[Any], Callable[..., Any]]) -> Callable[[], Awaitable[str]]:
        """A caller that reads an answer to its end, through what the policy makes of the function. One that ends early
        is not what it asked for."""
        if self._threads is not None:
            blocking: Callable[[Streams], Iterable[str]] = decorate(_one_blocking)

            def read_blocking() -> str:
                last = None
                for item in blocking(self):
                    last = item
                return _whole(last)

            return self._threads.called(read_blocking)
        guarded: Callable[[Streams], AsyncIterable[str]] = decorate(_one)

        async def read() -> str:
            last = None
            async for item in guarded(self):
                last = item
            return _whole(last)

        return read


def _whole(last: str | None) -> str:
    if last != LAST:
        raise failure("unknown")
    return ANSWER


async def _one(dependency: Streams) -> AsyncGenerator[str, None]:
    async for item in dependency.items():  # type: ignore[union-attr]  # in async code
        yield item


def _one_blocking(dependency: Streams) -> Generator[str, None, None]:
    yield from dependency.items()  # type: ignore[misc]  # in blocking code


def rest(items: list[str], dependency: Streams) -> AsyncGenerator[str, None] | Generator[str, None, None]:
    """For `Resume(rest)`: the items that are still to come."""
    return dependency.items(len(items))
