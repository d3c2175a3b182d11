"""What each policy did, in a line: how often it was called, how that went, and where the time was spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span
from resilient_agents.trace.terminal import UNICODE, Glyphs, Line, clip, seconds
from resilient_agents.trace.tree import is_attempt, is_operation, is_wait

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
    policies: dict[str, _Policy] = {}
    owners: dict[tuple[str, str], str] = {}
    below: list[Span] = []
    for span in spans:
        if is_operation(span):
            name = span.name.removeprefix(names.OPERATION_PREFIX)
            owners[span.trace_id, span.span_id] = name
            policy = policies.setdefault(name, _Policy())
            policy.calls += 1
            policy.successes += span.attributes.get(names.OUTCOME) == "success"
        elif is_attempt(span) or is_wait(span):
            below.append(span)
    for span in below:
        if is_attempt(span):
            owner = owners.get((span.trace_id, span.parent_id or ""))
            if owner is not None:
                owners[span.trace_id, span.span_id] = owner  # for the waits beneath it
                policies[owner].attempts += 1
                policies[owner].attempting += max(span.end - span.start, 0)
    for span in below:
        owner = owners.get((span.trace_id, span.parent_id or ""))
        if is_wait(span) and owner is not None:
            _add_wait(policies[owner], span)
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


def _row(figures: Iterable[str]) -> str:
    return "".join(f"{figure:>{width}}" for figure, width in zip(figures, COLUMNS.values(), strict=True))


def _add_wait(policy: _Policy, span: Span) -> None:
    spent = max(span.end - span.start, 0)
    if span.name.removeprefix(names.WAIT_PREFIX) in ("backoff", "retry_after"):
        policy.between += spent
        return
    policy.in_line += spent
    policy.attempting = max(policy.attempting - spent, 0)
