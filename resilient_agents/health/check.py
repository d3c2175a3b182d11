"""One health check, and what its function's answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from resilient_agents.base.durations import seconds
from resilient_agents.base.spelling import Spelled

__all__ = ["Answer", "CheckResult", "HealthCheck", "HealthStatus", "Verdict", "failed", "judge"]

LONGEST_MESSAGE = 500


class HealthStatus(StrEnum):
    """`unknown`: has not run yet, has not run for a long time, or cannot tell."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


Answer = bool | HealthStatus | str | tuple[bool | HealthStatus | str, str]
"""What a check function returns; a str is the value of a status."""

Verdict = tuple[HealthStatus, str]


@dataclass(frozen=True, slots=True)
class HealthCheck(Spelled):
    """A function that says how something is doing, and how often it is asked.

    `check` takes no arguments and is sync or async. It returns a bool, a `HealthStatus` (or its value), or a pair of
    one of these and a message for the report; raising is unhealthy. `timeout` and `interval` in seconds (or a
    timedelta): an answer that takes longer is unhealthy; asked every so often, measured from start to start.
    `critical`: its failure makes the whole system unhealthy; that of any other only degraded.

    Raises TypeError or ValueError for options of a wrong type or value.
    """

    name: str
    check: Callable[[], Answer | Awaitable[Answer]]
    timeout: float = 10.0
    interval: float = 30.0
    critical: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a non-empty string, got {self.name!r}")
        if not callable(self.check):
            raise TypeError(f"check must be a function without arguments, got {type(self.check).__name__}")
        if not isinstance(self.critical, bool):
            raise TypeError(f"critical must be True or False, got {self.critical!r}")
        if not isinstance(self.description, str):
            raise TypeError(f"description must be a string, got {type(self.description).__name__}")
        for option in ("timeout", "interval"):
            value: float | timedelta = getattr(self, option)
            object.__setattr__(self, option, seconds(value, option, zero=False))


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check ended: `at` is when it began (UTC), `duration` in seconds."""

    status: HealthStatus
    message: str
    at: datetime
    duration: float


def judge(answer: Any) -> Verdict:
    """What the answer of a check function means."""
    message = ""
    if isinstance(answer, tuple) and len(answer) == 2:
        answer, message = answer
    if isinstance(answer, bool):
        status = HealthStatus.HEALTHY if answer else HealthStatus.UNHEALTHY
    else:
        try:
            status = HealthStatus(answer)
        except ValueError:
            return HealthStatus.UNKNOWN, f"the check returned {type(answer).__name__}, not a bool or a status"
    return status, str(message)[:LONGEST_MESSAGE]


def failed(error: BaseException, *, show: bool) -> Verdict:
    """What an error means. Its message may hold anything, keys included: it is left out unless asked for."""
    kind = type(error).__name__
    return HealthStatus.UNHEALTHY, f"{kind}: {error}"[:LONGEST_MESSAGE] if show else kind
