"""The kinds of failure, what a rule says, and what the classifier answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

__all__ = [
    "BROKEN_REPLY",
    "CANCELLED",
    "KINDS",
    "SPECIFIC",
    "TRANSIENT",
    "UNKNOWN",
    "Failure",
    "Kind",
    "Phase",
    "Rule",
    "Verdict",
    "failure_of",
    "verdict_of",
]

Kind = Literal[
    "timeout",
    "connection",
    "rate_limit",
    "overload",
    "server",
    "conflict",
    "quota",
    "auth",
    "not_found",
    "validation",
    "context_length",
    "content_filter",
    "rejected",
    "control",
    "unknown",
]
Verdict = Literal["failure", "success", "neutral"]
Phase = Literal["pool", "connect", "send", "read"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TRANSIENT: Final = frozenset[Kind](("timeout", "connection", "rate_limit", "overload", "server", "conflict"))
# Kinds that tell more than a status does: a 429 whose code is `insufficient_quota` is `quota`.
SPECIFIC: Final = frozenset[Kind](("quota", "context_length", "content_filter"))


class Rule(NamedTuple):
    """What one class, code or status means."""

    kind: Kind
    transient: bool | None = None  # None: as the kind says
    answered: bool = False  # only a dependency that is alive can have sent this
    neutral: bool = False  # says nothing about the dependency, whatever the kind
    sure: bool = False  # of a class: says more than a status does


UNKNOWN: Final = Rule("unknown")
CANCELLED: Final = Rule("unknown", neutral=True)
BROKEN_REPLY: Final = Rule("connection")


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
    phase: Phase | None = None
    """How far the request had come: waiting for a connection (`pool`), connecting (`connect`), sending (`send`), or
    waiting for the answer (`read`); None where nobody can tell."""

    @property
    def unsent(self) -> bool:
        """Whether it is proven that the dependency never got the request: a refusal of a policy's own, or a failure
        before there was a connection. False where nobody can tell."""
        return self.kind == "rejected" or self.phase in ("pool", "connect")


_FAILING: Final = frozenset[Kind](("timeout", "connection", "overload", "server", "unknown"))
_MUTE: Final = frozenset[Kind](("rate_limit", "rejected", "control"))


def verdict_of(kind: Kind, status: int | None, *, answered: bool = False) -> Verdict:
    """What a failure of this kind says about the dependency, where no more is known of it than this."""
    if kind in _FAILING:
        return "failure"
    alive = (answered or status is not None) and status not in (408, 429)
    return "success" if alive and kind not in _MUTE else "neutral"


def failure_of(
    rule: Rule,
    name: str,
    *,
    status: int | None = None,
    code: str | None = None,
    retry_after: float | None = None,
    decided: bool | None = None,
    phase: Phase | None = None,
) -> Failure:
    """The Failure that a rule makes of an error of the class `name`; `decided` overrides whether it is transient."""
    kind = rule.kind
    transient = decided if decided is not None else rule.transient
    verdict: Verdict = "neutral" if rule.neutral else verdict_of(kind, status, answered=rule.answered)
    if transient is None:
        transient = kind in TRANSIENT
    return Failure(kind, transient, status, code, retry_after, name, verdict, phase)
