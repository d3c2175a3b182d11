"""How much a dependency can hurt, as a number that anybody can work out again from the formula that is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilient_agents.scan.inventory import Found

__all__ = ["FORMULA", "NOTHING", "PRIORITIES", "TERMS", "Score", "score"]

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

    def __add__(self, other: Score) -> Score:
        return Score({name: number + other.terms[name] for name, number in self.terms.items()})


NOTHING = Score(dict.fromkeys(TERMS, 0))


def score(waiting: Iterable[Found], files: int) -> Score:
    """Of the calls that wait for an answer of one dependency, of which so many files talk to it."""
    endless = is_async = in_loops = limited = 0
    for each in waiting:
        call = each.call
        if call.limit == "none":
            endless += 1
            is_async += call.is_async
            in_loops += each.repeated
        elif call.protected_by is None:
            limited += 1
    return Score(
        {
            "endless": endless,
            "endless_async": is_async,
            "endless_loops": in_loops,
            "unguarded": limited,
            "files": files if endless or limited else 0,
        }
    )
