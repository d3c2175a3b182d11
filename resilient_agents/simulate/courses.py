"""When things were in the course of a recorded call."""

from __future__ import annotations

from typing import Final

from resilient_agents.simulate.calls import Inner, Step

__all__ = ["TOLERANCE", "end_of", "reading", "together"]

TOLERANCE: Final = 0.005
"""Seconds by which the moments of a recording may be wrong: a span begins a little before what it tells of."""


def reading(step: Step, left: float) -> tuple[float, float]:
    """Of the seconds that are left after the first item: for how many the reader is busy, and for how many it waits."""
    if not step.cut:
        silent = left if any(offset >= (step.first or 0.0) for offset, _ in step.calls) else min(step.gap, left)
    elif step.limit is not None and step.limit <= left + TOLERANCE:
        silent = min(step.limit, left)  # one that runs while it waits
    else:
        silent = min(TOLERANCE, left)
    return left - silent, silent


def end_of(call: Inner) -> float:
    return call[0] + call[1].duration


def together(calls: list[Inner]) -> list[list[Inner]]:
    """Calls that overlap, in groups that follow one another."""
    found: list[list[Inner]] = []
    until = -1.0
    for offset, call in calls:
        if offset < until:
            found[-1].append((offset, call))
        else:
            found.append([(offset, call)])
        until = max(until, offset + call.duration)
    return found
