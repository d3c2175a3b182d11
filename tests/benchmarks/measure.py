"""Timing that a busy machine does not decide.

Contenders take turns in short batches: all of them meet the same noise, and a batch of a millisecond is often left in
peace. The figure of a contender is its best batch; a ratio is one of figures from the same run. `spread` says how much
the machine disagreed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FULL", "QUICK", "SMOKE", "Batch", "Effort", "Sample", "blocking", "interleaved", "suspending"]

Batch = Callable[[int], float]
"""Makes that many calls and answers how many seconds they took together."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a row is worth.

    `seconds`: length of a batch; `calls`: its size, where that is fixed; `processes`: how many interpreters import;
    `tasks`: how many wait.
    """

    rounds: int
    seconds: float
    calls: int | None
    processes: int
    tasks: int


FULL = Effort(rounds=250, seconds=0.001, calls=None, processes=22, tasks=100_000)
QUICK = Effort(rounds=40, seconds=0.001, calls=None, processes=6, tasks=10_000)
SMOKE = Effort(rounds=1, seconds=0.0, calls=2, processes=1, tasks=10)
"""Says nothing about speed: it only shows that a row can be run."""


@dataclass(slots=True)
class Sample:
    """Seconds a call, one figure for each round."""

    rounds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def spread(self) -> float:
        """How far the median lies above the best, as a share of it: 0.1 on a quiet machine."""
        return statistics.median(self.rounds) / self.best - 1


def interleaved(contenders: dict[str, Batch], effort: Effort) -> dict[str, Sample]:
    """Let the contenders take turns. Who begins changes from round to round."""
    sizes = {name: effort.calls or _calibrated(batch, effort.seconds) for name, batch in contenders.items()}
    samples = {name: Sample() for name in contenders}
    names = list(contenders)
    with _settled_heap():
        for number in range(effort.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                samples[name].rounds.append(contenders[name](sizes[name]) / sizes[name])
    return samples


def _calibrated(batch: Batch, seconds: float) -> int:
    """The size of a batch that takes about so long. Whatever is made on first use is made here."""
    size = 1
    while (took := min(batch(size), batch(size))) < seconds / 2:
        size *= 2
    return max(1, round(size * seconds / took))


@contextmanager
def _settled_heap() -> Generator[None, None, None]:
    """The garbage collector no longer looks at what exists already; what the contenders make it goes on collecting."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def blocking(fn: Callable[[], Any]) -> Batch:
    """Batches of plain calls."""

    def batch(calls: int) -> float:
        turns = itertools.repeat(None, calls)
        began = time.perf_counter()
        for _ in turns:
            fn()
        return time.perf_counter() - began

    return batch


def suspending(fn: Callable[[], Awaitable[Any]], runner: asyncio.Runner) -> Batch:
    """Batches of awaited calls, one after another in one task. The loop is started outside of what is timed."""

    async def awaited(calls: int) -> float:
        turns = itertools.repeat(None, calls)
        began = time.perf_counter()
        for _ in turns:
            await fn()
        return time.perf_counter() - began

    return lambda calls: runner.run(awaited(calls))
