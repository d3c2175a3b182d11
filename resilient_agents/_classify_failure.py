"""What the classifier answers, and what a rule says about the dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilient_agents._classify_tables import TRANSIENT, Kind, Rule, Verdict

__all__ = ["Failure", "failure_of"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about one failure: plain data, without the error, its message or a URL."""

    kind: Kind
    transient: bool
    """Whether another try may succeed."""
    status: int | None
    """The HTTP status, 400 to 599."""
    code: str | None
    """The dependency's own code: `insufficient_quota`, `ThrottlingException`, `UNAVAILABLE`, `40001`."""
    retry_after: float | None
    """Seconds that the server asked to wait, at least 0."""
    type: str
    """Name of the class of the error (or result) that was classified."""
    verdict: Verdict
    """What it says about the dependency."""


_FAILING: Final = frozenset[Kind](("timeout", "connection", "overload", "server", "unknown"))


def failure_of(
    rule: Rule,
    name: str,
    *,
    status: int | None = None,
    code: str | None = None,
    retry_after: float | None = None,
    decided: bool | None = None,
) -> Failure:
    """The Failure that a rule makes of an error of the class `name`; `decided` overrides whether it is transient."""
    kind = rule.kind
    transient = decided if decided is not None else rule.transient
    verdict: Verdict = "neutral"
    if not rule.neutral and kind not in ("rate_limit", "rejected"):
        if kind in _FAILING:
            verdict = "failure"
        elif (rule.answered or status is not None) and status not in (408, 429):
            verdict = "success"
    return Failure(
        kind, kind in TRANSIENT if transient is None else transient, status, code, retry_after, name, verdict
    )
