"""What the web endpoints say, whatever protocol carries it: health as `application/health+json`, refusals and limits as
`application/problem+json`.

No message of an exception is ever in it unless asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from resilient_agents.errors import DeadlineExceeded, PolicyTimeoutError, Rejected
from resilient_agents.health import HealthMonitor, HealthReport, HealthStatus

__all__ = ["HEALTH", "LIVE", "PATHS", "READY", "Answer", "health", "live", "not_allowed", "not_found", "problem"]

LIVE: Final = "/livez"
READY: Final = "/readyz"
HEALTH: Final = "/health"
PATHS: Final = (LIVE, READY, HEALTH)

SOONEST: Final = 1  # seconds of Retry-After where nobody can know
LATEST: Final = 86_400

# The words of the media type (draft-inadarei-api-health-check); it has none for unknown.
_WORDS: Final = {
    HealthStatus.HEALTHY: "pass",
    HealthStatus.DEGRADED: "warn",
    HealthStatus.UNKNOWN: "warn",
    HealthStatus.UNHEALTHY: "fail",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: status, headers and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def phrase(self) -> str:
        """What the status means."""
        return HTTPStatus(self.status).phrase

    @property
    def line(self) -> str:
        """The status with its phrase."""
        return f"{self.status} {self.phrase}"


def live() -> Answer:
    """200: this process answers, which is all that is asked. A dependency that is down is no reason to restart it."""
    return _health(200, {"status": "pass"})


def health(monitor: HealthMonitor, path: str, *, details: bool) -> Answer:
    """What is known, for `/readyz` and `/health`: 503 where the process should not get traffic, or is unhealthy."""
    known: HealthReport = monitor.report()
    overall = HealthStatus(known["overall_status"])
    if path == READY:
        ready = monitor.ready
        return _health(200 if ready else 503, {"status": "pass" if ready else "fail"})
    body: dict[str, Any] = {"status": _WORDS[overall], "overall_status": overall.value}
    if details:
        body |= known
    return _health(503 if overall is HealthStatus.UNHEALTHY else 200, body)


def problem(error: BaseException, *, messages: bool = False) -> Answer | None:
    """The answer to an error of a policy, None for any other: 503 with Retry-After where a call was rejected, 504 where
    a time limit or deadline ended it (RFC 9457).

    An exception group is one of these if all its leaves are: 503 with the longest wait if any was rejected, else 504.
    `messages=True` puts the error's message, which names the policy and the reason, into `detail`.
    """
    leaves = list(_leaves(error))
    if not all(isinstance(leaf, Rejected | PolicyTimeoutError) for leaf in leaves):
        return None
    rejected = [leaf for leaf in leaves if isinstance(leaf, Rejected)]
    if not rejected:
        return _problem(504, str(leaves[0]) if messages else None)
    last = max(rejected, key=_wait)
    return _problem(503, str(last) if messages else None, ("retry-after", str(_wait(last))))


def out_of_time(error: BaseException) -> DeadlineExceeded | None:
    """The deadline that ended it: the error itself, or the first in a group of nothing else, as a task group raises."""
    leaves = list(_leaves(error))
    return leaves[0] if all(isinstance(leaf, DeadlineExceeded) for leaf in leaves) else None  # type: ignore[return-value]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    todo = [error]
    while todo:
        found = todo.pop()
        if isinstance(found, BaseExceptionGroup):
            todo += reversed(found.exceptions)
        else:
            yield found


def _wait(rejected: Rejected) -> int:
    seconds = rejected.retry_after
    if seconds is None or not math.isfinite(seconds):
        return SOONEST
    return min(max(SOONEST, math.ceil(seconds)), LATEST)


def not_found() -> Answer:
    return _problem(404)


def not_allowed() -> Answer:
    return _problem(405, None, ("allow", "GET, HEAD"))


def _problem(status: int, detail: str | None = None, *headers: tuple[str, str]) -> Answer:
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail is not None:
        body["detail"] = detail
    return _answer(status, "application/problem+json", body, *headers)


def _health(status: int, body: dict[str, Any]) -> Answer:
    return _answer(status, "application/health+json", body, ("cache-control", "no-store"))


def _answer(status: int, media_type: str, body: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    content = json.dumps(body).encode()
    return Answer(status, (("content-type", media_type), ("content-length", str(len(content))), *headers), content)
