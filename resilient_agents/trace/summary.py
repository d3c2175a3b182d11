"""What each policy did, in a line: how often it was called, how that went, and where the time was spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span
from resilient_agents.trace.terminal import UNICODE, Glyphs, Line, clip, seconds
from resilient_agents.trace.tree import attempts_of, is_attempt, is_operation, is_wait

__all__ = ["summary"]

MOST = 20  # policies
COLUMNS = {"calls": 8, "success": 9, "attempts/call": 15, "in attempts": 13, "between": 11, "in line": 11}


@dataclass(slots=True)
class _Policy:
    """Times are nanoseconds, of all calls together: within attempts, waits between them, waits for slots and tokens."""

    calls: int = 0
    successes: int = 0
    attempts: int = 0
    attempting: int = 0
    between: int = 0
    in_line: int = 0

    @property
    def spent(self) -> int:
        return self.attempting + self.between + self.in_line


def summary(spans: Iterable[Span], *, width: int = 80, glyphs: Glyphs = UNICODE) -> list[Line]:
    """A headline and a line for each policy, those first that took most of the time."""
    policies = _policies(spans)
    named = max(width - sum(COLUMNS.values()), 12)
    lines: list[Line] = [[(clip("policy", named, glyphs.ellipsis) + _row(COLUMNS), "dim")]]
    ranked = sorted(policies.items(), key=lambda item: (-item[1].spent, item[0]))
    for name, policy in ranked[:MOST]:
        figures = (
            f"{policy.calls:,}",
            f"{policy.successes / policy.calls:.0%}",
            f"{policy.attempts / policy.calls:.2f}",
            *(seconds(spent) for spent in (policy.attempting, policy.between, policy.in_line)),
        )
        lines.append([(clip(name, named, glyphs.ellipsis), "bold"), (_row(figures), "")])
    if len(ranked) > MOST:
        lines.append([(f"and {len(ranked) - MOST} more policies", "dim")])
    return lines


def _policies(spans: Iterable[Span]) -> dict[str, _Policy]:
    """Where the time of each policy went."""
    policies: dict[str, _Policy] = {}
    calls: dict[tuple[str, str], Span] = {}
    attempts: dict[tuple[str, str], list[Span]] = {}
    waits: dict[tuple[str, str], int] = {}
    for span in spans:
        above = span.trace_id, span.parent_id or ""
        if is_operation(span):
            calls[span.trace_id, span.span_id] = span
        elif is_attempt(span):
            attempts.setdefault(above, []).append(span)
        elif is_wait(span):
            waits[above] = waits.get(above, 0) + span.end - span.start
    for key, span in calls.items():
        policy = policies.setdefault(span.name.removeprefix(names.OPERATION_PREFIX), _Policy())
        in_line, between = _nanoseconds(span, names.WAITED), _nanoseconds(span, names.RETRY_WAITED)
        made = attempts.get(key, [])
        counted = attempts_of(span, len(made))
        policy.calls += 1
        policy.successes += span.attributes.get(names.OUTCOME) == "success"
        policy.attempts += counted
        policy.between += between
        policy.in_line += in_line
        if counted > len(made):  # not each has a span: what is left of the call
            policy.attempting += max(span.end - span.start - between - in_line, 0)
            continue
        for attempt in made:
            waited = waits.get((attempt.trace_id, attempt.span_id), 0)
            policy.attempting += max(attempt.end - attempt.start - waited, 0)
    return policies


def _row(figures: Iterable[str]) -> str:
    return "".join(f"{figure:>{width}}" for figure, width in zip(figures, COLUMNS.values(), strict=True))


def _nanoseconds(span: Span, name: str) -> int:
    value = span.attributes.get(name)
    return round(value * 1e9) if isinstance(value, int | float) else 0
