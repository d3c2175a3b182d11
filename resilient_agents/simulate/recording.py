"""Recorded spans as a dependency: what each call met, attempt by attempt."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span
from resilient_agents.trace.tree import Operation, is_attempt, operations

__all__ = ["Recorded", "Step", "recorded"]

_DAY = 86_400_000_000_000
"""Nanoseconds."""


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the guarded function: how long it took, and what it ended in.

    `kind` is None for a result. `cut`: a limit of the policy or a cancellation ended it, so that nobody knows how long
    it would have taken.
    """

    takes: float
    kind: str | None = None
    status: int | None = None
    retry_after: float | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call as it was recorded. Times are seconds: `start` since the midnight (UTC) before the first call.

    `steps`: what the function did each time it ran; attempts that the policy refused before it ran are in `attempts`
    only. `waits`: what the retry waited between attempts. `gave_up`: why it made no further one, where it says so.
    """

    start: float
    sequence: int
    duration: float
    outcome: str
    kind: str | None
    attempts: int
    steps: tuple[Step, ...]
    waits: tuple[float, ...]
    gave_up: str
    deadline: float | None
    configuration: str


def recorded(spans: Iterable[Span], policy: str | None = None) -> list[Recorded]:
    """The calls of one policy in the order they began; without a name those of the only one.

    Calls that hedged cannot be played again and are left out.

    Raises ValueError for spans of several policies and no name, and for none at all.
    """
    found = [operation for operation in operations(spans) if names.SEQUENCE in operation.span.attributes]
    policies = sorted({str(operation.span.attributes.get(names.POLICY)) for operation in found})
    if policy is None and len(policies) > 1:
        raise ValueError(f"there are spans of the policies {', '.join(policies)}: name one")
    chosen = [each for each in found if policy is None or each.span.attributes.get(names.POLICY) == policy]
    if not chosen:
        known = f"; there are: {', '.join(policies)}" if policies else ""
        raise ValueError(f"there are no spans that can be replayed{f' of {policy}' if policy else ''}{known}")
    midnight = min(operation.span.start for operation in chosen) // _DAY * _DAY
    calls = [_call(operation, midnight) for operation in chosen if _plays(operation)]
    return sorted(calls, key=lambda call: (call.start, call.sequence))


def _plays(operation: Operation) -> bool:
    return not any(event.name == names.HEDGE for event in operation.span.events)


def _call(operation: Operation, midnight: int) -> Recorded:
    span = operation.span
    facts = span.attributes
    tries = [child for child in operation.below(span) if is_attempt(child)]
    steps = (_step(attempt) for attempt in tries)
    deadline = facts.get(names.DEADLINE)
    return Recorded(
        start=(span.start - midnight) / 1e9,
        sequence=int(cast(int, facts[names.SEQUENCE])),
        duration=(span.end - span.start) / 1e9,
        outcome=str(facts.get(names.OUTCOME)),
        kind=cast("str | None", facts.get(names.ERROR_TYPE)),
        attempts=operation.attempts,
        steps=tuple(step for step in steps if step is not None),
        waits=_waits(tries),
        gave_up=str(facts.get(names.GAVE_UP, "")),
        deadline=float(deadline) if isinstance(deadline, int | float) else None,
        configuration=str(facts.get(names.CONFIGURATION, "")),
    )


def _step(attempt: Span) -> Step | None:
    """None for an attempt that the policy refused before the function ran."""
    facts = attempt.attributes
    outcome, kind = facts.get(names.OUTCOME), facts.get(names.ERROR_TYPE)
    if outcome == "rejected":
        return None
    waited = facts.get(names.WAITED)
    queued = float(waited) if isinstance(waited, int | float) else 0.0
    status, hint = facts.get(names.STATUS_CODE), facts.get(names.RETRY_AFTER)
    return Step(
        takes=max(0.0, (attempt.end - attempt.start) / 1e9 - queued),
        kind=None if kind is None else str(kind),
        status=status if isinstance(status, int) else None,
        retry_after=float(hint) if isinstance(hint, int | float) else None,
        cut=facts.get(names.STRATEGY) is not None or outcome == "cancelled",
    )


def _waits(tries: Sequence[Span]) -> tuple[float, ...]:
    """Between the end of an attempt and the beginning of the next: as it was, not as it was planned."""
    return tuple((after.start - before.end) / 1e9 for before, after in itertools.pairwise(tries))
