"""Rows that are not about single calls: importing, memory, and how cost grows with the number of strategies."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry
from tests.benchmarks import peers
from tests.benchmarks.calls import async_line, never_suspends, sync_line
from tests.benchmarks.measure import Effort
from tests.benchmarks.peers import Absent, Function, Stack
from tests.benchmarks.table import Line, at_most

__all__ = ["growth", "idle", "importing", "in_flight", "policy_size"]

DEPENDENCIES = (
    "asyncio",
    "tenacity",
    "pybreaker",
    "aiolimiter",
    "anyio",
    "opentelemetry.trace",
    "opentelemetry.metrics",
)

_IMPORT = """
import importlib, sys, time
times = [time.perf_counter()]
for name in {dependencies}:
    importlib.import_module(name)
times.append(time.perf_counter())
importlib.import_module({module!r})
times.append(time.perf_counter())
print(times[1] - times[0], times[2] - times[1])
"""


def importing(effort: Effort) -> Iterator[Line]:
    """A fresh interpreter that has imported our dependencies imports a library."""
    modules = {"ours": "resilient_agents", "nopanic": "nopanic", "pyresilience": "pyresilience", "stamina": "stamina"}
    figures: dict[str, float | str] = {}
    for column, module in list(modules.items()):
        if importlib.util.find_spec(module) is None:
            figures[column] = "not installed"
            del modules[column]
    best = dict.fromkeys(modules, float("inf"))
    dependencies = float("inf")
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(effort.processes):  # the first one compiles, which is done when a package is installed
            for column, module in modules.items():
                needed, took = _seconds_to_import(module, cache)
                best[column], dependencies = min(best[column], took), min(dependencies, needed)
    figures.update({column: seconds * 1000 for column, seconds in best.items()})
    yield Line("import beyond the dependencies", "", "ms", figures, [at_most(20.0)])
    share: dict[str, float | str] = {"ours": best["ours"] / dependencies}
    yield Line("import, × that of the dependencies", "", "×", share, [at_most(0.22)])


def _seconds_to_import(module: str, cache: str) -> tuple[float, float]:
    """Of the dependencies, then of the module."""
    code = _IMPORT.format(dependencies=DEPENDENCIES, module=module)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    needed, took = run.stdout.split()
    return float(needed), float(took)


def policy_size(effort: Effort) -> Iterator[Line]:
    """The four strategies, their state included, and one function guarded by them."""
    makers: dict[str, Callable[[], Stack]] = {
        "ours": peers.ours,
        "by hand": peers.by_hand_async,
        "nopanic": peers.nopanic,
        "pyresilience": peers.pyresilience,
    }
    figures = _bytes_each(makers, lambda stack: stack(never_suspends), effort)
    yield Line("a policy of four, one function", "", "bytes", figures)


def _bytes_each(
    makers: dict[str, Callable[[], Stack]], use: Callable[[Stack], Any], effort: Effort
) -> dict[str, float | str]:
    count = max(10, effort.tasks // 100)
    figures: dict[str, float | str] = {}
    for column, make in makers.items():
        try:
            kept: list[Any] = [(stack := make(), use(stack))]  # whatever is made once is made now
        except Absent as absent:
            figures[column] = str(absent)
            continue
        with _traced() as allocated:
            kept.extend((stack := make(), use(stack)) for _ in range(count))
            figures[column] = allocated() / count
    return figures


def idle(effort: Effort) -> Iterator[Line]:
    """A policy that nothing has called: its objects, with what they hold."""
    library = peers.peer
    made: list[tuple[str, dict[str, Callable[[], Any]], float]] = [
        (
            "an idle retry",
            {
                "ours": lambda: Policy(Retry(peers.ATTEMPTS, on=peers.RETRIED)),
                "nopanic": lambda: library("nopanic").retry(peers.ATTEMPTS, on=peers.RETRIED),
            },
            2400.0,
        ),
        (
            "an idle breaker",
            {
                "ours": lambda: Policy(CircuitBreaker(failures=peers.FAILURES)),
                "nopanic": lambda: library("nopanic").circuit_breaker(),
            },
            3500.0,
        ),
        ("an idle policy of four", {"ours": peers.ours, "nopanic": peers.nopanic}, 9000.0),
    ]
    for title, makers, most in made:
        figures = _bytes_each(makers, lambda stack: None, effort)
        yield Line(title, "", "bytes", figures, [at_most(most)])


def in_flight(effort: Effort) -> Iterator[Line]:
    """So many tasks wait at one bulkhead of one slot: bytes for each, over a task that waits for an event, and how long
    it takes until the slot has gone through the hands of a tenth of them, over tasks that wait for the event."""
    makers: dict[str, Callable[[], Stack]] = {
        "bare": lambda: lambda fn: fn,
        "ours": lambda: Policy(Bulkhead(1)),
        "by hand": _capacity_limiter,
        "nopanic": lambda: peers.peer("nopanic").bulkhead(1),
    }
    some = max(1, effort.tasks // 10)
    figures: dict[str, float | str] = {}
    best: dict[str, float | str] = {}
    for turn in range(_TURNS):
        for column, make in makers.items():
            try:
                if turn == 0:
                    figures[column] = asyncio.run(_waiting(make(), effort.tasks))
                took = asyncio.run(_handed_over(make(), some)) * 1e6
            except Absent as absent:
                figures[column] = best[column] = str(absent)
            else:
                known = best.get(column, took)
                best[column] = min(took, known) if isinstance(known, float) else took
    yield Line(
        f"a call among {effort.tasks:,} that wait", "", "bytes", _beyond_bare(figures), [at_most(1.5, "nopanic")]
    )
    title = f"a slot handed over, {some:,} wait"
    yield Line(title, "async", "µs", _beyond_bare(best), [at_most(1.8, "nopanic")])


_TURNS = 5


def _beyond_bare(figures: dict[str, float | str]) -> dict[str, float | str]:
    bare = figures["bare"]
    assert isinstance(bare, float)
    return {
        column: figure - bare if column != "bare" and isinstance(figure, float) else figure
        for column, figure in figures.items()
    }


async def _handed_over(stack: Stack, tasks: int) -> float:
    """Seconds for each of these tasks, from when the slot is given back to when the last has had it."""
    gate = asyncio.Event()
    guarded = stack(gate.wait)
    waiting = [asyncio.create_task(guarded()) for _ in range(1 + tasks)]
    for _ in range(3):
        await asyncio.sleep(0)
    began = time.perf_counter()
    gate.set()
    for task in waiting:
        await task
    return (time.perf_counter() - began) / tasks


async def _waiting(stack: Stack, tasks: int) -> float:
    gate = asyncio.Event()
    guarded = stack(gate.wait)
    first = asyncio.create_task(guarded())
    await asyncio.sleep(0)
    with _traced() as allocated:
        waiting = [asyncio.create_task(guarded()) for _ in range(tasks)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bytes_each = allocated() / tasks
    gate.set()
    await first
    for task in waiting:
        await task
    return bytes_each


def _capacity_limiter() -> Stack:
    slots = anyio.CapacityLimiter(1)

    def stack(fn: Function) -> Function:
        async def guarded() -> Any:
            async with slots:
                return await fn()

        return guarded

    return stack


@contextmanager
def _traced() -> Generator[Callable[[], int], None, None]:
    gc.collect()
    tracemalloc.start()
    began = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - began
    finally:
        tracemalloc.stop()


def growth(effort: Effort) -> Iterator[Line]:
    """One to eight strategies: retry, breaker, rate limit, bulkhead, and the same four again."""
    for count in range(1, 9):
        strategies = "1 strategy" if count == 1 else f"{count} strategies"
        makers: dict[str, Callable[[], Stack]] = {
            "ours": functools.partial(_ours, count),
            "nopanic": functools.partial(_nopanic, count),
        }
        yield async_line(f"async, {strategies}", "never suspends", makers, effort, [])
        yield sync_line(f"sync, {strategies}", makers, effort)


def _ours(count: int) -> Stack:
    make: tuple[Callable[[], Any], ...] = (
        lambda: Retry(peers.ATTEMPTS, on=peers.RETRIED),
        CircuitBreaker,
        lambda: RateLimit(peers.RATE),
        lambda: Bulkhead(peers.SLOTS),
    )
    return Policy(*(make[number % 4]() for number in range(count)))


def _nopanic(count: int) -> Stack:
    library = peers.peer("nopanic")
    make = (
        lambda: library.retry(peers.ATTEMPTS, on=peers.RETRIED),
        lambda: library.circuit_breaker(),
        lambda: library.rate_limit(peers.RATE),
        lambda: library.bulkhead(peers.SLOTS),
    )
    return library.compose(*(make[number % 4]() for number in range(count)))
