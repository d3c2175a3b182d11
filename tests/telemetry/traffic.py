"""Twenty-five minutes in the life of a service, in virtual time, as Prometheus would have scraped them.

Real policies and real strategies, measured by the SDK, exported by OpenTelemetry's exporter for Prometheus and asked
for over HTTP every fifteen seconds. Everything is deterministic:

- from 0 to 500 s all is well: of 1,000 operations of `chat` one fails, 136 of its 1,135 attempts do, each after two
  retries of the client's own, and one wait in twenty lasts 340 ms;
- from 500 to 1,100 s every dependency is down, and there are more calls than bulkheads and rate limits let through;
- from then on all is well again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server
from prometheus_client.parser import text_string_to_metric_families

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
    fixed,
    telemetry,
)
from resilient_agents.base import instances
from resilient_agents.health import HealthCheck, HealthMonitor
from tests.conftest import Harness, run_on
from tests.telemetry.test_spans import HTTPError

EVERY = 15.0
HEALTHY, DOWN, END = 495.0, 1095.0, 1500.0
"""Seconds after the beginning: the last scrape before the outage, the last one in it, the last one of all."""

Labels = frozenset[tuple[str, str]]


@dataclasses.dataclass(slots=True, frozen=True)
class Series:
    """One series: the name of its samples, its labels without those of the scope, and (seconds, value) pairs."""

    name: str
    labels: dict[str, str]
    samples: list[tuple[float, float]]


def scrape_traffic() -> list[Series]:
    """Run it all and return what was scraped."""
    meters = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    server, thread = start_http_server(0, addr="127.0.0.1")
    undo = telemetry.configure(meter_provider=meters)
    found: dict[tuple[str, Labels], Series] = {}
    others, instances.live = instances.live, {}  # what other tests keep alive is out of sight
    try:
        run_on("asyncio", lambda: _live(functools.partial(_scrape, f"http://127.0.0.1:{server.server_port}", found)))
    finally:
        instances.live = others
        undo()
        meters.shutdown()
        server.shutdown()
        server.server_close()
        thread.join()
    return list(found.values())


def _scrape(url: str, found: dict[tuple[str, Labels], Series], at: float) -> None:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name.startswith("resilient_agents") else ():
            labels = {
                name: value for name, value in sample.labels.items() if value and not name.startswith("otel_scope")
            }
            key = (sample.name, frozenset(labels.items()))
            found.setdefault(key, Series(sample.name, labels, [])).samples.append((at, sample.value))


class Service:
    """The policies of the service, and what they call."""

    def __init__(self) -> None:
        self.h = Harness("asyncio")
        self.began = self.h.now()
        delays = itertools.cycle([*([0.1] * 19), 0.34])
        self.chat = Policy(
            Retry(3, wait=lambda _: next(delays)), CircuitBreaker("openai", reset_timeout=30), name="chat"
        )
        self.search = Policy(Retry(3, wait=fixed(0.5), budget=RetryBudget(0.1, per_second=0.1)), name="search")
        self.embed = Policy(Fallback(value=None), RateLimit(1, burst=1, max_wait=2.5), name="embed")
        self.tool = Policy(Bulkhead(2, queue=1), name="tool")
        self.report = Policy(
            Retry(3, wait=fixed(0.2)), CircuitBreaker("reports", shadow=True), Timeout(1), name="report"
        )
        self.health = HealthMonitor([HealthCheck("dependency", self.healthy)], builtin=False)

    @property
    def elapsed(self) -> float:
        return self.h.now() - self.began

    @property
    def down(self) -> bool:
        return HEALTHY < self.elapsed < DOWN

    async def call(self, policy: Policy, work: Callable[[], Any]) -> None:
        with contextlib.suppress(Exception):
            await policy.acall(work)

    async def impatient(self) -> None:
        """A caller who does not wait for the answer."""
        with anyio.move_on_after(0.1):
            await self.search.acall(anyio.sleep, 1.0)

    async def answer(self) -> str:
        """A dependency that is up or down."""
        if self.down:
            raise HTTPError(503)
        return "ok"

    async def tokens(self) -> AsyncIterator[str]:
        """An answer in pieces."""
        for _ in range(3):
            await anyio.sleep(0.1)
            yield "ok"

    async def healthy(self) -> bool:
        return not self.down

    async def slow_answer(self) -> str:
        await anyio.sleep(2.0 if self.down else 0.2)
        return "ok"

    def failing(self, times: int) -> Callable[[], Any]:
        """The same, and `times` failures before it answers."""
        left = times

        async def work() -> str:
            nonlocal left
            left -= 1
            if left >= 0:
                raise HTTPError(503, inner_retries=2)
            return await self.answer()

        return work


async def _live(scrape: Callable[[float], None]) -> None:
    service = Service()
    # A counter has no rate before its second sample, so what is to be counted later happens once before the first.
    await service.call(service.chat, service.failing(3))
    await service.health.arefresh()
    assert len([token async for token in Policy(name="stream").stream(service.tokens)]) == 3
    service.began = service.h.now()
    jobs = [_scraping(service, scrape), _chatting(service), _bursting(service), _searching(service)]
    await asyncio.gather(*jobs)


async def _until(service: Service, at: float) -> None:
    await anyio.sleep(max(0.0, at - service.elapsed))


async def _scraping(service: Service, scrape: Callable[[float], None]) -> None:
    at = 0.0
    while at <= END:
        await _until(service, at)
        scrape(at)
        at += EVERY


async def _chatting(service: Service) -> None:
    """Two operations a second: one in 7.5 needs a second attempt, and the five hundredth fails."""
    running: set[asyncio.Task[None]] = set()
    for number in range(int(END * 2)):
        await _until(service, number / 2 + 0.01)
        failures = 3 if number == 500 else int(number % 15 in (3, 10))
        task = asyncio.ensure_future(service.call(service.chat, service.failing(failures)))
        running.add(task)
        task.add_done_callback(running.discard)


async def _searching(service: Service) -> None:
    """An operation every two seconds, and one that is slow."""
    for number in range(int(END / 2)):
        await _until(service, number * 2 + 0.02)
        await asyncio.gather(
            service.call(service.search, service.answer), service.call(service.report, service.slow_answer)
        )


async def _bursting(service: Service) -> None:
    """Two at once a second before each scrape, and an impatient one; while all is down, six."""
    for number in range(1, int(END / EVERY) + 1):
        await _until(service, number * EVERY - 1.0)
        calls = 6 if service.down else 2
        await asyncio.gather(
            service.impatient(),
            *(service.call(service.embed, service.answer) for _ in range(calls)),
            *(service.call(service.tool, functools.partial(anyio.sleep, 4.0)) for _ in range(calls)),
        )
