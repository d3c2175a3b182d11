"""How much a dependency can hurt, as a number that anybody can work out again from the formula that is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilient_agents.scan.advice.dependencies import Dependency

__all__ = ["FORMULA", "PRIORITIES", "TERMS", "Score", "score", "together"]

TERMS: dict[str, tuple[int, str]] = {
    "endless": (
        3,
        "calls that can wait for ever for an answer, a retry or breaker around them or not: each can hold its caller",
    ),
    "endless_async": (
        3,
        "those of them in async code: they hold a task for good, and a blocking one the event loop with all its tasks",
    ),
    "endless_loops": (2, "those of them in loops: the loop ends with the first that hangs"),
    "unguarded": (1, "calls that have a limit and that no policy guards: they fail one by one in an outage"),
    "files": (1, "files that talk to it: each has to handle its failure"),
}
"""The weight of each term, and the reason for it."""

FORMULA = "score = " + " + ".join(f"{weight} x {name}" for name, (weight, _) in TERMS.items())

HIGH, MEDIUM = 12, 5
"""From these scores on the priority is high, or medium."""

PRIORITIES = ("high", "medium", "low")


@dataclass(frozen=True)
class Score:
    """`terms`: the numbers that the formula is about."""

    terms: dict[str, int]

    @property
    def value(self) -> int:
        return sum(TERMS[name][0] * number for name, number in self.terms.items())

    @property
    def priority(self) -> str:
        return "high" if self.value >= HIGH else "medium" if self.value >= MEDIUM else "low"


def together(scores: Iterable[Score]) -> Score:
    """The terms of all of them."""
    every = list(scores)
    return Score({name: sum(each.terms[name] for each in every) for name in TERMS})


def score(dependency: Dependency) -> Score:
    endless = dependency.endless
    limited = [each for each in dependency.unprotected if each.call.limit != "none"]
    return Score(
        {
            "endless": len(endless),
            "endless_async": sum(each.call.is_async for each in endless),
            "endless_loops": sum(each.call.in_loop for each in endless),
            "unguarded": len(limited),
            "files": len(dependency.files) if endless or limited else 0,
        }
    )
