"""What every call looks at first, in one place: is its chain still right, does anybody record, is there a deadline?

The answers are identities to compare, so that a call of which nobody wants to know anything pays for four comparisons.
Two of them are OpenTelemetry's: it tells nobody of a provider that is set, so its global variables are looked at. A
deadline belongs to a context, so there is no one thing that would change with all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["Now", "changed", "now"]


def _nothing() -> Any:
    return None


def _no_charge(_: Any) -> tuple[Any, ...]:
    return ()


class Now:
    """What is so at the moment. It pickles by name.

    `edition`: another object after each change of any policy. A chain belongs to the edition that it was composed in.
    `quiet_tracer`, `quiet_meter`: the global providers of OpenTelemetry with which nobody records.
    `deadline()`: what the context carries of deadlines and budgets, perhaps outlived; None when there is nothing to
    look at. `budget()`: the budget of a run that the context carries, perhaps outlived; `charged`: what is put around
    each attempt where there is one; `charge(call)`: what marks the context for calls inside that attempt; `paid()`:
    pays for an attempt, where that is all that there is to know, else False.
    """

    __slots__ = ("budget", "charge", "charged", "deadline", "edition", "paid", "quiet_meter", "quiet_tracer")

    def __init__(self) -> None:
        self.edition = object()
        self.quiet_tracer: Any = object()  # there is none yet
        self.quiet_meter: Any = self.quiet_tracer
        self.deadline = self.budget = _nothing
        self.charged: Any = None
        self.charge: Callable[[Any], tuple[Any, ...]] = _no_charge
        self.paid: Any = _nothing

    def __reduce__(self) -> str:
        return "now"


now: Final = Now()


def changed() -> None:
    """A policy is not what it was: from now on each chain is composed anew when it is entered. Call it after the
    change."""
    now.edition = object()
