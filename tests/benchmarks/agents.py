"""Rows about what agents share: what a gate, a settled rate limit and the budget of a run add to a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resilient_agents import Bulkhead, CircuitBreaker, Gate, Policy, RateLimit, Retry, run_budget
from tests.benchmarks.measure import Batch, Effort, blocking, interleaved
from tests.benchmarks.table import Line, at_most

__all__ = ["shared_by_a_run"]

PLENTY = 10**12


def _answer() -> int:
    return 7


def shared_by_a_run(effort: Effort) -> Iterator[Line]:
    """Each as the difference to the same policy without it."""
    around, inside = (Retry(3), CircuitBreaker()), (RateLimit(PLENTY), Bulkhead(8))
    four = Policy(*around, *inside)(_answer)
    settled = RateLimit(PLENTY, cost=9, settle=lambda used: used)
    contenders: dict[str, Batch] = {
        "four": blocking(four),
        "gate": blocking(Policy(*around, Gate(), *inside)(_answer)),
        "budget": _within(blocking(four), attempts=PLENTY),
        "tokens": _within(blocking(four), tokens=PLENTY, usage=lambda used: used),
        "estimated": blocking(Policy(RateLimit(PLENTY, cost=lambda: 5))(_answer)),
        "settled": blocking(Policy(settled)(_answer)),
    }
    samples = interleaved(contenders, effort)
    for title, name, without, goal in (
        ("gate, open", "gate", "four", 0.15),
        ("run budget of attempts in force", "budget", "four", 0.5),
        ("run budget of tokens in force", "tokens", "four", 0.5),
        ("rate limit with settle, to one with cost", "settled", "estimated", 0.5),
    ):
        seconds = samples[name].best - samples[without].best
        yield Line(title, "sync", "µs", {"ours": seconds * 1e6}, [at_most(goal)], samples[name].spread)


def _within(batch: Batch, **limits: Any) -> Batch:
    """The same inside the block of a budget."""

    def inside(calls: int) -> float:
        with run_budget(**limits):
            return batch(calls)

    return inside
