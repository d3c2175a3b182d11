"""`python -m tests.benchmarks.floors`: what the steps that cannot be left out of a budget of tokens take alone, in µs
beside the same four strategies without them. Each line has the steps of the one before, and one more.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, run_budget
from resilient_agents.core.call import Call, Proceed
from tests.benchmarks.measure import FULL, Batch, blocking, interleaved

PLENTY = 10**12


def _answer() -> int:
    return 7


def _used(result: int) -> int:
    return result


class Awaits:
    """A layer that does nothing but await what is inside."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        return await proceed(call)


class Mark:
    """Of one attempt."""

    __slots__ = ("outer", "over", "tokens")
    outer: Mark | None
    over: bool
    tokens: int


_mark: ContextVar[Mark | None] = ContextVar("mark", default=None)


class Marks:
    """Marks the context, so that a call inside the attempt is known to be inside."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        mark = Mark()
        mark.outer = _mark.get()
        mark.over = False
        _mark.set(mark)
        try:
            return await proceed(call)
        finally:
            mark.over = True


class Books:
    """Reserves what the attempt may come to, and books what its result says that it came to."""

    def __init__(self) -> None:
        self.spent = self.reserved = self.attempts = 0
        self.largest = 7
        self.usage = _used

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        mark = Mark()
        mark.outer = _mark.get()
        mark.over = False
        tokens = mark.tokens = self.largest
        if self.spent + self.reserved + tokens > PLENTY or self.attempts >= PLENTY:
            raise AssertionError
        self.attempts += 1
        self.reserved += tokens
        _mark.set(mark)
        try:
            result = await proceed(call)
            used = self.usage(result)
            self.reserved -= mark.tokens
            self.spent += used
            return result
        finally:
            mark.over = True


def _around(layer: Any, **limits: int) -> Batch:
    batch = blocking(Policy(Retry(3), CircuitBreaker(), *layer, RateLimit(PLENTY), Bulkhead(8))(_answer))

    def inside(calls: int) -> float:
        if not limits:
            return batch(calls)
        with run_budget(**limits, usage=_used):
            return batch(calls)

    return inside


def main() -> None:
    lines: dict[str, Batch] = {
        "four strategies": _around([]),
        "run_budget(attempts=)": _around([], attempts=PLENTY),
        "and a layer that awaits": _around([Awaits()], attempts=PLENTY),
        "and marks the context": _around([Marks()], attempts=PLENTY),
        "and reserves, reads and books": _around([Books()], attempts=PLENTY),
        "run_budget(tokens=)": _around([], tokens=PLENTY),
    }
    samples = interleaved(lines, FULL)
    base = samples["four strategies"].best
    for name, sample in samples.items():
        print(f"{name:34} {(sample.best - base) * 1e6:5.2f} µs, noise {sample.spread:.0%}")


if __name__ == "__main__":
    main()
