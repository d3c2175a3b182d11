"""Rows about the simulator: a call in virtual time, beside the same call in real code that never waits ("bare")."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, Timeout, fixed
from resilient_agents.simulate import Dependency, Error, Load, Scenario, simulate
from resilient_agents.simulate.dependency import ANSWER, failure
from tests.benchmarks.measure import Batch, Effort, interleaved
from tests.benchmarks.table import Line, at_most

__all__ = ["simulated"]

PLENTY = 10**9
RATE = 1000.0
TOGETHER = 16
"""Tasks at a time in real code."""


def _policy() -> Policy:
    breaker = CircuitBreaker(failures=PLENTY)
    return Policy(Retry(2, wait=fixed(0)), breaker, RateLimit(PLENTY), Bulkhead(PLENTY), Timeout(10))


def simulated(effort: Effort) -> Iterator[Line]:
    """Through five strategies: a call that is answered, and one whose two attempts fail."""
    effort = replace(effort, rounds=max(1, effort.rounds // 10), calls=effort.calls or 1_000)
    rows: list[tuple[str, Error | None, float]] = [
        ("a simulated call", None, 2.5),
        ("a simulated call, two failing attempts", Error("server"), 2.0),
    ]
    for title, error, goal in rows:
        with asyncio.Runner() as runner:
            samples = interleaved({"ours": _virtual(error), "bare": _real(error, runner)}, effort)
        figures: dict[str, float | str] = {name: sample.best * 1e6 for name, sample in samples.items()}
        yield Line(title, "five strategies", "µs", figures, [at_most(goal, "bare")], samples["ours"].spread)


def _virtual(error: Error | None) -> Batch:
    def batch(calls: int) -> float:
        scenario = Scenario(calls / RATE, Load("fixed", RATE), Dependency(error=error))
        began = time.perf_counter()
        simulate(_policy, scenario)
        return time.perf_counter() - began

    return batch


def _real(error: Error | None, runner: asyncio.Runner) -> Batch:
    async def answer() -> str:
        if error is not None:
            raise failure(error.kind, 500)
        return ANSWER

    guarded = _policy()(answer)

    async def call() -> None:
        with contextlib.suppress(Exception):
            await guarded()

    async def run(calls: int) -> None:
        for made in range(0, calls, TOGETHER):
            await asyncio.gather(*(call() for _ in range(min(TOGETHER, calls - made))))

    def batch(calls: int) -> float:
        began = time.perf_counter()
        runner.run(run(calls))
        return time.perf_counter() - began

    return batch
