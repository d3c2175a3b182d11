"""The attempts of a retry, and of each request of a hedge, as spans tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from resilient_agents.simulate.calls import Round
from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span

__all__ = ["branches_of", "late_by", "round_of", "rounds_of"]


def rounds_of(span: Span, tries: Sequence[Span]) -> tuple[Round, ...]:
    found: list[list[Span]] = []
    for attempt in tries:
        if found and names.HEDGE_NUMBER in attempt.attributes:
            found[-1].append(attempt)
        else:
            found.append([attempt])
    return tuple(((each[0].start - span.start) / 1e9, (max(a.end for a in each) - span.start) / 1e9) for each in found)


def late_by(span: Span, rounds: Sequence[Round]) -> float:
    found = 0.0
    for event in span.events:
        attempt, delay = event.attributes.get(names.ATTEMPT), event.attributes.get(names.DELAY)
        if event.name == names.RETRY_SCHEDULED and isinstance(attempt, int) and attempt < len(rounds):
            found = max(found, rounds[attempt][0] - (event.at - span.start) / 1e9 - cast(float, delay))
    return found


def round_of(attempt: Span, tries: Sequence[Span]) -> int:
    before = tries[1 : tries.index(attempt) + 1]
    return 1 + sum(names.HEDGE_NUMBER not in each.attributes for each in before)


def branches_of(span: Span, tries: Sequence[Span]) -> tuple[tuple[Round, ...], ...]:
    numbers = sorted({cast(int, attempt.attributes.get(names.HEDGE_NUMBER, 0)) for attempt in tries})
    return tuple(
        tuple(
            ((attempt.start - span.start) / 1e9, (attempt.end - span.start) / 1e9)
            for attempt in tries
            if attempt.attributes.get(names.HEDGE_NUMBER, 0) == number
        )
        for number in numbers
    )
