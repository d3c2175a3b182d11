"""Answers that come in items, as the modelled dependency gives them, and the callers who read them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

from resilient_agents.simulate.dependency import ANSWER, Server, draws, failure
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.moment import Moment
from resilient_agents.simulate.scenario import Stream

__all__ = ["Streams", "rest"]

LAST: Final = "last item"


class Streams:
    """What the guarded function of a scenario with streams is called with. Each answer is one request at `server`."""

    def __init__(self, loop: SimulatedLoop, server: Server, seed: str) -> None:
        self._loop = loop
        self._server = server
        self._faults = random.Random(f"{seed}/stream faults")
        self._gaps = random.Random(f"{seed}/gaps")

    async def items(self, start: int = 0) -> AsyncGenerator[str, None]:
        """One answer, from item `start` on."""
        await self._server.request()
        stream = self._server.settings.stream
        assert stream is not None
        gap = draws(stream.gap, self._gaps)
        fails = self._faults.random() < stream.rate
        for number in range(start, stream.items):
            if fails and number - start == stream.at:
                self._server.errors += 1
                if stream.fault == "truncate":
                    return
                await self._fail(stream)
            await self._pause(gap())
            yield LAST if number == stream.items - 1 else f"item {number}"

    async def _fail(self, stream: Stream) -> None:
        if stream.fault == "stall":
            await Moment(self._loop)  # which never comes
        raise failure("connection")

    async def _pause(self, seconds: float) -> None:
        over = Moment(self._loop)
        timer = self._loop.after(seconds, over.come)
        try:
            await over
        finally:
            timer.cancel()

    def reader(self, guarded: Callable[[Streams], Any]) -> Callable[[], Coroutine[Any, Any, str]]:
        """A caller that reads an answer to its end. One that ends early is not what it asked for."""

        async def read() -> str:
            whole = False
            async for item in guarded(self):
                whole = item == LAST
            if not whole:
                raise failure("unknown")
            return ANSWER

        return read


async def one(dependency: Streams) -> AsyncGenerator[str, None]:
    """The function that is guarded."""
    async for item in dependency.items():
        yield item


async def rest(items: list[str], dependency: Streams) -> AsyncGenerator[str, None]:
    """For `Resume(rest)`: the items that are still to come."""
    async for item in dependency.items(len(items)):
        yield item
