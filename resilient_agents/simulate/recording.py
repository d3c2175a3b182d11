"""Recorded spans as a dependency: the calls that they tell of."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, cast

from resilient_agents.simulate.calls import Inner, Recorded, Step, every
from resilient_agents.simulate.rounds import branches_of, late_by, round_of, rounds_of
from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Moment, Span
from resilient_agents.trace.tree import Operation, is_attempt, is_operation, operations

__all__ = ["played_by", "recorded", "shared"]

ROUNDING: Final = 1e-8
"""Seconds by which two moments may differ that are one: spans have nanoseconds."""

HELP: Final = f"{names.WAIT_PREFIX}fallback"


def recorded(spans: Iterable[Span], *policies: str) -> list[Recorded]:
    """The calls of these policies, of all without a name, in the order they began. What they call in their course, and
    what is called in place of their function, stands in them.

    Raises ValueError where there is none.
    """
    found = operations(spans)
    calls = [_call(each, policies) for operation in found for each in _outermost(operation, policies)]
    if not calls:
        known = played_by(spans)
        told = f" of {', '.join(policies)}; there are: {', '.join(known)}" if policies and known else ""
        raise ValueError(f"there are no spans that can be replayed{told}")
    return sorted(calls, key=lambda call: (call.start, call.sequence))


def played_by(spans: Iterable[Span]) -> list[str]:
    """The policies whose calls can be played again."""
    found = (each.span for outer in operations(spans) for each in _with_inner(outer))
    return sorted({_policy(span) for span in found if _plays(span, ())})


def shared(spans: Iterable[Span], calls: Iterable[Recorded]) -> dict[str, int]:
    """The named circuit breakers and limits that these calls passed and others did, too, which are not among them: how
    many others. What those did to them, the calls cannot say."""
    played = {each.sequence for call in calls for each in every(call)}
    mine: set[str] = set()
    others: Counter[str] = Counter()
    for operation in (each for outer in operations(spans) for each in _with_inner(outer)):
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


# ------------------------------------------------------------------------------------------- operations in operations


def _policy(span: Span) -> str:
    return str(span.attributes.get(names.POLICY))


def _clock(span: Span) -> float:
    return float(cast(float, span.attributes[names.CLOCK]))


def _plays(span: Span, policies: Sequence[str]) -> bool:
    return names.CLOCK in span.attributes and (not policies or _policy(span) in policies)


def _outermost(operation: Operation, policies: Sequence[str]) -> Iterator[Operation]:
    """The operation, or those in it that are in none of these policies."""
    if _plays(operation.span, policies):
        yield operation
    else:
        for inner in _inside(operation, operation.span):
            yield from _outermost(inner, policies)


def _inside(operation: Operation, span: Span) -> Iterator[Operation]:
    """Operations beneath `span`, but those in one of them."""
    for child in operation.below(span):
        yield from _at_or_inside(operation, child)


def _at_or_inside(operation: Operation, span: Span) -> Iterator[Operation]:
    if is_operation(span):
        yield Operation(span, operation.children)
    else:
        yield from _inside(operation, span)


def _with_inner(operation: Operation) -> Iterator[Operation]:
    yield operation
    for inner in _inside(operation, operation.span):
        yield from _with_inner(inner)


def _calls(operation: Operation, span: Span, since: float, policies: Sequence[str]) -> tuple[Inner, ...]:
    """The calls beneath `span`, from the moment `since` on, by the clock of the process: a wall clock tells less."""
    found = [_call(each, policies) for inner in _at_or_inside(operation, span) for each in _outermost(inner, policies)]
    calls = [(max(0.0, call.start - since), call) for call in found]
    return tuple(sorted(calls, key=lambda call: (call[0], call[1].sequence)))


# ------------------------------------------------------------------------------------------------------ one operation


def _call(operation: Operation, policies: Sequence[str]) -> Recorded:
    span, facts = operation.span, operation.span.attributes
    tried = [child for child in operation.below(span) if is_attempt(child)]
    tried.sort(key=lambda child: (child.start, child.attributes.get(names.ATTEMPT, 0)))
    tries = [child for child in tried if names.FALLBACK_BY not in child.attributes]
    turns = [event for event in span.events if event.name == names.FALLBACK]
    deadline = facts.get(names.DEADLINE)
    refusals = list(_refusals(span.events))
    return Recorded(
        start=_clock(span),
        sequence=int(cast(int, facts[names.SEQUENCE])),
        duration=(span.end - span.start) / 1e9,
        outcome=str(facts.get(names.OUTCOME)),
        kind=cast("str | None", facts.get(names.ERROR_TYPE)),
        attempts=operation.attempts,
        steps=_steps(operation, tries, policies),
        rounds=(rounds := rounds_of(span, tries)),
        gave_up=str(facts.get(names.GAVE_UP, "")),
        deadline=float(deadline) if isinstance(deadline, int | float) else None,
        configuration=str(facts.get(names.CONFIGURATION, "")),
        fell_back=bool(turns),
        policy=_policy(span),
        called=str(facts.get(names.CALLED, "")),
        branches=branches_of(span, tries),
        helps=_helps(operation, turns, tried, policies),
        costs=tuple(each for told in (facts, *(a.attributes for a in tries)) for each in _number(told.get(names.COST))),
        late=late_by(span, rounds),
        decided=sum(map(_decided, [span, *(each for each in tries if _began(each) is None)]), ()),
        refused=tuple(by for turn, by, _ in refusals if turn is None),
        refused_after=max(((at - span.start) / 1e9 for turn, _, at in refusals if turn is None), default=0.0),
        chaos=any(names.CHAOS in each.attributes for each in (span, *tried)),
        left_out=names.LEFT_OUT in facts,
        replaced=bool(turns) and names.ERROR_TYPE not in turns[0].attributes,
    )


def _refusals(events: Iterable[Moment]) -> Iterator[tuple[int | None, str, int]]:
    """Those by what is not played: whose, by what and when. From when a fallback asked others until the call was tried
    again they are those of the others, whose turn it was; else the call's own, None."""
    turns, theirs = 0, False
    for event in events:
        by = event.attributes.get(names.STRATEGY) if event.name == names.REJECTED else None
        if event.name == names.FALLBACK:
            turns, theirs = turns + 1, True
        elif event.name == names.RETRY_SCHEDULED:
            theirs = False
        elif by in ("run_budget", "require_healthy"):
            yield (turns - 1 if theirs else None), str(by), event.at


def _number(value: object) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else ()


def _steps(operation: Operation, tries: Sequence[Span], policies: Sequence[str]) -> tuple[Step, ...]:
    span, facts = operation.span, operation.span.attributes
    begun = [
        (_clock(span) + (attempt.start - span.start) / 1e9 + lead, attempt)
        for attempt in tries
        if (lead := _began(attempt)) is not None
    ]
    begun.sort(key=lambda each: each[0])
    steps: list[Step] = []
    for at, attempt in begun:
        step, calls = _step(operation, attempt), _calls(operation, attempt, at, policies)
        if step.helped:  # the rest of its course is somebody else's
            calls = tuple(call for call in calls if call[0] < step.takes)
        if step.kind is None and not step.bad and _counted(_decided(span)):  # by a circuit around all attempts
            step = replace(step, counted=True, retry_after=next(iter(_number(facts.get(names.RETRY_AFTER))), None))
        steps.append(replace(step, round=round_of(attempt, tries), calls=calls))
    gap = facts.get(names.LONGEST_GAP)
    if facts.get(names.PARTS) == 1 and isinstance(gap, int | float):
        steps = [step if step.first is None or step.cut else replace(step, gap=float(gap)) for step in steps]
    return tuple(steps)


def _began(attempt: Span) -> float | None:
    lead = attempt.attributes.get(names.FUNCTION_BEGAN)
    return lead if isinstance(lead, int | float) else None


def _decided(span: Span) -> tuple[str, ...]:
    return tuple(map(str, cast("Sequence[object]", span.attributes.get(names.DECIDED, ()))))


def _counted(decided: Sequence[str]) -> bool:
    """Did a circuit breaker take the result for a failure?"""
    return any(word.startswith("circuit_breaker") and word.endswith(" result") for word in decided)


def _step(operation: Operation, attempt: Span) -> Step:
    """What came of a run of the function."""
    facts = attempt.attributes
    lead = cast(float, facts[names.FUNCTION_BEGAN])
    first, decided = facts.get(names.FIRST_ITEM), _decided(attempt)
    helped = _helped(operation.span, attempt)
    ended, failed = (attempt.end, facts) if helped is None else (helped.at, helped.attributes)
    kind, status, hint = failed.get(names.ERROR_TYPE), failed.get(names.STATUS_CODE), failed.get(names.RETRY_AFTER)
    transient, verdict = failed.get(names.TRANSIENT), failed.get(names.VERDICT)
    return Step(
        takes=max(0.0, (ended - attempt.start) / 1e9 - lead),
        helped=helped is not None,
        kind=None if kind is None else str(kind),
        status=status if isinstance(status, int) else None,
        retry_after=float(hint) if isinstance(hint, int | float) else None,
        cut=facts.get(names.STRATEGY) is not None or facts.get(names.OUTCOME) == "cancelled",
        bad=any(word.startswith("retry") and word.endswith(" result") for word in decided),
        counted=_counted(decided),
        transient=transient if isinstance(transient, bool) else None,
        verdict=None if verdict is None else str(verdict),
        decided=decided,
        settled=next(iter(_number(facts.get(names.SETTLED))), None),
        limit=_limit(operation.span, attempt),
        first=max(0.0, first - lead) if isinstance(first, int | float) else None,
    )


def _helped(span: Span, attempt: Span) -> Moment | None:
    """Where something else answered in the course of this attempt, or tried to: when, and for which error."""
    if names.FALLBACK_BY in attempt.attributes:
        return None
    until = attempt.end + (attempt.attributes.get(names.OUTCOME) == "success")
    turns = (event for event in span.events if event.name == names.FALLBACK and names.ERROR_TYPE in event.attributes)
    return next((turn for turn in turns if attempt.start <= turn.at < until), None)


def _limit(span: Span, attempt: Span) -> float | None:
    """The one that ended this attempt."""
    strategy = attempt.attributes.get(names.STRATEGY)
    limits = [
        event.attributes.get(names.LIMIT)
        for event in span.events
        if event.name == names.TIMEOUT
        and event.attributes.get(names.STRATEGY) == strategy
        and attempt.start <= event.at <= attempt.end
    ]
    return float(limits[-1]) if limits and isinstance(limits[-1], int | float) else None


# ------------------------------------------------------------------------------------------ who answers in its place


def _helps(
    operation: Operation, turns: Sequence[Moment], tried: Sequence[Span], policies: Sequence[str]
) -> tuple[Step, ...]:
    """What those did whose turn it was: a handler, whose wait is a span, or one of several, of which each but the last
    one failed."""
    span = operation.span
    within = [each for each in tried if _helped(span, each) is not None]
    spans = [each for each in tried if names.FALLBACK_BY in each.attributes] + within
    spans += [each for each in operation.below(span) if not is_attempt(each)]
    calls = [inner for each in spans for inner in _calls(operation, each, _clock(span), policies)]
    did = [each for each in spans if each.name == HELP or (is_attempt(each) and each not in within)]
    did += [each for attempt in within for each in operation.below(attempt) if each.name == HELP]
    failed = span.attributes.get(names.OUTCOME) in ("failure", "rejected")
    found: list[Step] = []
    begins = [(turn.at - span.start) / 1e9 for turn in turns]
    refused = {turn for turn, _, _ in _refusals(span.events)}
    for at, until in itertools.pairwise([*begins, math.inf]):
        mine = [each for each in calls if at - ROUNDING <= each[0] < until - ROUNDING]
        ends = [(each.end, each.attributes.get(names.ERROR_TYPE)) for each in did if at <= _since(span, each) < until]
        ended = [((end - span.start) / 1e9, kind) for end, kind in ends]
        ended += [(offset + call.duration, call.kind) for offset, call in mine]
        end, kind = max(ended, key=lambda each: each[0], default=(at, None))
        around = next((each for each in within if at <= (each.end - span.start) / 1e9 < until), None)
        if len(found) in refused and not ended:
            kind = "rejected"
        elif around is not None:
            kind = around.attributes.get(names.ERROR_TYPE)
        elif until == math.inf:
            kind = span.attributes.get(names.ERROR_TYPE) if failed else None
        else:
            kind = kind or "server"
        helped = tuple((max(0.0, offset - at), call) for offset, call in mine)
        found.append(Step(max(0.0, end - at), None if kind is None else str(kind), calls=helped))
    return tuple(found)


def _since(span: Span, other: Span) -> float:
    return (other.start - span.start) / 1e9
