"""Recorded spans as a dependency: what each call met, attempt by attempt."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span
from resilient_agents.trace.tree import Operation, is_attempt, operations

__all__ = ["Recorded", "Step", "recorded", "shared"]


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the guarded function: how long it took, and what it ended in.

    `kind` is None for a result. `cut`: a limit of the policy or a cancellation ended it, so that nobody knows how long
    it would have taken. `bad`: it was a result that the policy took for a failure and handed out in the end.
    """

    takes: float
    kind: str | None = None
    status: int | None = None
    retry_after: float | None = None
    cut: bool = False
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call as it was recorded. Times are seconds: `start` by the clock of the process.

    `fell_back`: something answered in place of the function, or tried to. `steps`: what the function did each time it
    ran; attempts that the policy refused before it ran are in `attempts` only. `waits`: what the retry waited between
    attempts. `gave_up`: why it made no further one, where it says so.
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
    fell_back: bool = False


def recorded(spans: Iterable[Span], policy: str | None = None) -> list[Recorded]:
    """The calls of one policy in the order they began; without a name those of the only one.

    Calls that hedged and streams cannot be played again and are left out.

    Raises ValueError for spans of several policies and no name, and for none at all.
    """
    found = [operation for operation in operations(spans) if names.CLOCK in operation.span.attributes]
    policies = sorted({str(operation.span.attributes.get(names.POLICY)) for operation in found})
    if policy is None and len(policies) > 1:
        raise ValueError(f"there are spans of the policies {', '.join(policies)}: say whose calls are meant (--of)")
    chosen = [each for each in found if policy is None or each.span.attributes.get(names.POLICY) == policy]
    if not chosen:
        known = f"; there are: {', '.join(policies)}" if policies else ""
        raise ValueError(f"there are no spans that can be replayed{f' of {policy}' if policy else ''}{known}")
    calls = [_call(operation) for operation in chosen if _plays(operation)]
    return sorted(calls, key=lambda call: (call.start, call.sequence))


def shared(spans: Iterable[Span], calls: Iterable[Recorded]) -> dict[str, int]:
    """The named circuit breakers and limits that these calls passed and others did, too, which are not among them: how
    many others. What those did to them, the calls cannot say."""
    played = {call.sequence for call in calls}
    mine: set[str] = set()
    others: Counter[str] = Counter()
    for operation in operations(spans):
        passed = _passed(operation)
        if operation.span.attributes.get(names.SEQUENCE) in played:
            mine |= passed
        else:
            others.update(passed)
    return {name: others[name] for name in sorted(mine) if others[name]}


def _passed(operation: Operation) -> set[str]:
    """Names of what it passed, or what refused it."""
    told = [operation.span.attributes, *(event.attributes for event in operation.span.events)]
    told += [child.attributes for child in operation.below(operation.span) if is_attempt(child)]
    found = {str(each[name]) for each in told for name in names.NAMED_STRATEGIES.values() if name in each}
    return found - {names.UNNAMED}


def _plays(operation: Operation) -> bool:
    return not _has(operation, names.HEDGE) and names.ITEMS not in operation.span.attributes


def _has(operation: Operation, event: str) -> bool:
    return any(each.name == event for each in operation.span.events)


def _call(operation: Operation) -> Recorded:
    span = operation.span
    facts = span.attributes
    tries = [child for child in operation.below(span) if is_attempt(child)]
    steps = [step for step in map(_step, tries) if step is not None]
    if steps and steps[-1].kind is not None and facts.get(names.OUTCOME) == "success":
        steps[-1] = replace(steps[-1], bad=True)
    deadline = facts.get(names.DEADLINE)
    return Recorded(
        start=float(cast(float, facts[names.CLOCK])),
        sequence=int(cast(int, facts[names.SEQUENCE])),
        duration=(span.end - span.start) / 1e9,
        outcome=str(facts.get(names.OUTCOME)),
        kind=cast("str | None", facts.get(names.ERROR_TYPE)),
        attempts=operation.attempts,
        steps=tuple(steps),
        waits=_waits(tries),
        gave_up=str(facts.get(names.GAVE_UP, "")),
        deadline=float(deadline) if isinstance(deadline, int | float) else None,
        configuration=str(facts.get(names.CONFIGURATION, "")),
        fell_back=_has(operation, names.FALLBACK),
    )


def _step(attempt: Span) -> Step | None:
    """None for an attempt in which the function never ran."""
    facts = attempt.attributes
    outcome, kind = facts.get(names.OUTCOME), facts.get(names.ERROR_TYPE)
    lead = facts.get(names.FUNCTION_BEGAN)
    if not isinstance(lead, int | float):
        return None
    status, hint = facts.get(names.STATUS_CODE), facts.get(names.RETRY_AFTER)
    return Step(
        takes=max(0.0, (attempt.end - attempt.start) / 1e9 - lead),
        kind=None if kind is None else str(kind),
        status=status if isinstance(status, int) else None,
        retry_after=float(hint) if isinstance(hint, int | float) else None,
        cut=facts.get(names.STRATEGY) is not None or outcome == "cancelled",
    )


def _waits(tries: Sequence[Span]) -> tuple[float, ...]:
    """Between the end of an attempt and the beginning of the next: as it was, not as it was planned."""
    return tuple((after.start - before.end) / 1e9 for before, after in itertools.pairwise(tries))
