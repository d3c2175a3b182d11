"""A scenario in real time, over HTTP on the loopback interface, beside the same one in virtual time.

It takes forty seconds of real time and wants an idle machine, so it is run where it is asked for by name:

    python -m pytest tests/simulate/real_time.py

The tolerance, which is what two seeds of the simulation differ by and a little for HTTP: five points of the share of
calls that succeed, a sixth of the requests, a second until circuits open, three until calls succeed again, and 30 ms or
a quarter of the median.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import deque
from typing import Any

import pytest

from resilient_agents import CircuitBreaker, Policy, Retry, Timeout, events, exponential
from resilient_agents.errors import Rejected
from resilient_agents.simulate import Dependency, Load, Phase, Scenario, Series, Times, simulate
from resilient_agents.simulate.dependency import draws
from resilient_agents.simulate.result import recovered_after

httpx = pytest.importorskip("httpx", reason="requests over HTTP need httpx")

SEED = "real time"
HEALTHY = Dependency(servers=4, queue=8, service=Times("exponential", 0.15))
SCENARIO = Scenario(
    duration=40.0,
    load=Load(rate=15.0, processes=4),
    dependency=HEALTHY,
    dependency_phases=(Phase(10.0, 18.0, Dependency(servers=0, queue=0)),),
)


def make() -> Policy:
    wait = exponential(0.2, max=1.0)
    return Policy(Retry(3, wait=wait), CircuitBreaker(failures=5, reset_timeout=2.0), Timeout(2.0))


class Server:
    """The dependency of the scenario: it serves to the end what it began, whether anybody waits for it or not."""

    def __init__(self, began: float, series: Series) -> None:
        self.began = began
        self.series = series
        self.settings = HEALTHY
        self.service = draws(HEALTHY.service, random.Random(f"{SEED}/service"))
        self.busy = 0
        self.queue: deque[asyncio.Future[None]] = deque()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*over), contextlib.closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                status = await self.answer()
                writer.write(f"HTTP/1.1 {status} Simulated\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()

    async def answer(self) -> int:
        count(self.series.sent, self.began)
        if self.busy >= self.settings.servers:
            if len(self.queue) >= self.settings.queue:
                return 503
            turn = asyncio.get_running_loop().create_future()
            self.queue.append(turn)
            await turn
        else:
            self.busy += 1
        await asyncio.sleep(self.service())
        self.busy -= 1
        while self.queue and self.busy < self.settings.servers:
            self.busy += 1
            self.queue.popleft().set_result(None)
        return 200

    async def change(self) -> None:
        for phase in SCENARIO.dependency_phases:
            await asyncio.sleep(self.began + phase.start - time.monotonic())
            self.settings = phase.settings
            await asyncio.sleep(self.began + phase.end - time.monotonic())
            self.settings = HEALTHY


def count(series: object, began: float) -> None:
    step = int(time.monotonic() - began)
    if step < SCENARIO.duration:
        series[step] += 1  # type: ignore[index]


async def in_real_time() -> tuple[Series, list[float], list[float]]:
    """What happened in each second, how long calls took, and when circuits opened."""
    began, durations, opened = time.monotonic(), list[float](), list[float]()
    series = Series(1.0, round(SCENARIO.duration))
    server = Server(began, series)
    arrivals, spread = random.Random(f"{SEED}/arrivals"), random.Random(f"{SEED}/processes")
    gap = draws(Times("exponential", 1 / SCENARIO.load.rate), arrivals)

    def hear(event: events.Event) -> None:
        if isinstance(event, events.CircuitOpened):
            opened.append(time.monotonic() - began)

    async def call(policy: Policy, client: Any) -> None:
        async def fetch() -> None:
            (await client.get("/")).raise_for_status()

        began_call = time.monotonic()
        count(series.offered, began)
        try:
            await policy.acall(fetch)
        except Rejected:
            count(series.refused, began)
        except Exception:
            count(series.failed, began)
        else:
            count(series.succeeded, began)
        durations.append(time.monotonic() - began_call)

    undo = events.subscribe(hear)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    url = "http://{}:{}".format(*listening.sockets[0].getsockname())
    unbounded = httpx.Limits(max_connections=None)
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        stack.callback(undo)
        stack.callback(listening.close)
        processes = [
            (make(), await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=None, limits=unbounded)))
            for _ in range(SCENARIO.load.processes)
        ]
        tasks.create_task(server.change())
        at = began + gap()
        while at < began + SCENARIO.duration:
            await asyncio.sleep(at - time.monotonic())
            tasks.create_task(call(*processes[spread.randrange(len(processes))]))
            at += gap()
    return series, durations, opened


def _known(figure: float | None) -> float:
    assert figure is not None
    return figure


def test_real_time_gives_the_same_picture() -> None:
    """Within the tolerance that stands above."""
    expected = simulate(make, SCENARIO, seed=SEED)
    series, durations, opened = asyncio.run(in_real_time())
    (trouble,) = SCENARIO.dependency_phases
    recovered = recovered_after(series, trouble.start, trouble.end)
    since = [each - trouble.start for each in opened]
    ended = sum(series.succeeded) + sum(series.failed) + sum(series.refused)
    figures = [
        ("success", expected.success_rate, sum(series.succeeded) / ended, 0.05),
        ("requests", expected.sent, sum(series.sent), expected.sent / 6),
        ("median", expected.p50, statistics.median(durations), max(0.03, expected.p50 / 4)),
        ("opened after", _known(expected.opened_after), min(each for each in since if each >= 0), 1.0),
        ("recovered after", _known(expected.recovered_after), _known(recovered), 3.0),
    ]
    told = "\n".join(f"{name:>15} {virtual:>8.3f} {real:>8.3f}" for name, virtual, real, _ in figures)
    print(f"\n{'':>15}  virtual     real\n{told}")  # noqa: T201 - with `-s`, for whoever asks for it
    assert all(abs(real - virtual) <= allowed for _, virtual, real, allowed in figures), told
