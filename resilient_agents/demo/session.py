"""One run: sends the scheduled traffic at the server and waits until every caller has its answer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

import httpx

from resilient_agents import Policy, classify
from resilient_agents.demo.tally import Tally
from resilient_agents.demo.traffic import Arrival, Kind, chat, search, tokens
from resilient_agents.events import Event

__all__ = ["Session"]

WORKERS = 16
GLANCE = 0.1  # seconds between two looks at the progress
GRACE = 15.0  # seconds for the last calls to come back; what takes longer counts as failed

Show = Callable[[float], None]


class Session:
    """The callers of one run. Without `policies` they call the same functions bare."""

    def __init__(self, url: str, tally: Tally, policies: Mapping[Kind, Policy] | None = None) -> None:
        self._url = url
        self._tally = tally
        self._policies = policies or {}
        self._began = 0.0
        self._chat, self._search, self._tokens = chat, search, tokens
        if policies is not None:
            self._chat, self._search, self._tokens = (
                policies["agent"](chat),
                policies["tool"](search),
                policies["tokens"](tokens),
            )

    def run(self, arrivals: list[Arrival], begin: Callable[[], object], show: Show) -> None:
        """Call `begin()` and send it all. `show(elapsed)` is called ten times a second, on this thread."""
        asyncio.run(self._run(arrivals, begin, show))

    async def _run(self, arrivals: list[Arrival], begin: Callable[[], object], show: Show) -> None:
        # A pool that is full would queue calls on the client's side and blame the server for it.
        options: dict[str, Any] = {
            "base_url": self._url,
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None),
            "trust_env": False,  # a proxy has no business between us and the loopback
        }
        async with httpx.AsyncClient(**options) as client:
            with httpx.Client(**options) as blocking, self._observed():
                workers = Workers(WORKERS)
                callers: dict[Kind, Callable[[str], Awaitable[object]]] = {
                    "agent": functools.partial(self._chat, client),
                    "tool": lambda name: workers.run(functools.partial(self._search, blocking, name)),
                    "tokens": functools.partial(self._consume, client),
                }
                begin()
                self._began = time.monotonic()
                await self._send(arrivals, callers, show)
                workers.stop()

    async def _send(
        self, arrivals: list[Arrival], callers: Mapping[Kind, Callable[[str], Awaitable[object]]], show: Show
    ) -> None:
        pending = {asyncio.ensure_future(self._one(arrival, callers[arrival.kind])) for arrival in arrivals}
        latest = arrivals[-1].at + GRACE
        while pending and self._elapsed < latest:
            _, pending = await asyncio.wait(pending, timeout=GLANCE)
            show(self._elapsed)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    async def _one(self, arrival: Arrival, caller: Callable[[str], Awaitable[object]]) -> None:
        """One call as its caller sees it: the clock runs from when it is due until the answer or the error."""
        await asyncio.sleep(arrival.at - self._elapsed)
        self._tally.start(arrival.kind)
        try:
            await caller(arrival.name)
        except Exception as error:
            self._tally.fail(arrival.kind, classify(error).kind)
        except asyncio.CancelledError:
            self._tally.fail(arrival.kind, "unfinished")
            raise
        else:
            self._tally.answer(arrival.kind, self._elapsed - arrival.at)

    async def _consume(self, client: httpx.AsyncClient, name: str) -> None:
        since = self._elapsed
        try:
            async for _ in self._tokens(client, name):
                since, before = self._elapsed, since
                self._tally.waited("tokens", since - before)
        finally:
            self._tally.waited("tokens", self._elapsed - since)

    @contextlib.contextmanager
    def _observed(self) -> Generator[None]:
        """Count what the policies say they do."""
        with contextlib.ExitStack() as stack:
            for kind, policy in self._policies.items():
                stack.callback(policy.observe(functools.partial(self._happened, kind)))
            yield

    def _happened(self, kind: Kind, event: Event) -> None:
        self._tally.happened(kind, event, self._elapsed)


class Workers:
    """Threads for blocking calls. They are daemons, so that an interrupted demo does not wait for calls in flight."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._work, name=f"demo-tool-{number}", daemon=True).start()

    def run(self, call: Callable[[], object]) -> asyncio.Future[object]:
        """Hand `call` to the next free thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()

        def settle(result: object, error: Exception | None) -> None:
            if not future.done():
                future.set_result(result) if error is None else future.set_exception(error)

        def job() -> None:
            result, error = None, None
            try:
                result = call()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(job)
        return future

    def stop(self) -> None:
        """Let the threads end when the queue is empty."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
