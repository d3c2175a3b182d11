"""What happened to the calls of one run. The event loop and worker threads write to it alike, hence the lock."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from resilient_agents import events
from resilient_agents.demo.traffic import Kind

__all__ = ["Numbers", "Tally", "percentile"]

Did = Literal["attempts", "retries", "timeouts", "rejected", "fallbacks", "opened", "waited", "resumed"]


@dataclass(slots=True)
class Numbers:
    """The calls of one kind. `seconds`: how long each took that got an answer, be it a fallback's; `errors`: how many
    callers saw which kind."""

    started: int = 0
    seconds: list[float] = field(default_factory=list[float])
    errors: Counter[str] = field(default_factory=Counter[str])
    did: Counter[Did] = field(default_factory=Counter[Did])
    requests: int = 0
    requests_during_outage: int = 0
    tokens: int = 0  # that were sent
    thrown_away: int = 0  # those of streams that nobody got to the end of
    left_out: int = 0  # those that were not sent again to readers who had them
    longest_wait: float = 0.0  # of a reader, for a token or for the news that none comes, in seconds

    @property
    def ended(self) -> int:
        return len(self.seconds) + self.failed

    @property
    def answered(self) -> int:
        """By the server that was asked."""
        return len(self.seconds) - self.by_fallback

    @property
    def by_fallback(self) -> int:
        """Answered by a fallback in its place."""
        return self.did["fallbacks"]

    @property
    def failed(self) -> int:
        return self.errors.total()

    def share(self, count: int) -> float:
        """`count` of the calls that have ended, from 0 to 1; nan before the first one has."""
        return count / self.ended if self.ended else math.nan


class Tally:
    """One run in numbers, and the latest events as sentences."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.numbers: dict[Kind, Numbers] = {kind: Numbers() for kind in kinds}
        self.circuits: dict[str, str] = {}
        self.latest: deque[tuple[float, str]] = deque(maxlen=7)
        self.changes: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def start(self, kind: Kind) -> None:
        with self._lock:
            self.numbers[kind].started += 1

    def answer(self, kind: Kind, seconds: float) -> None:
        with self._lock:
            self.numbers[kind].seconds.append(seconds)

    def waited(self, kind: Kind, seconds: float) -> None:
        numbers = self.numbers[kind]
        with self._lock:
            numbers.longest_wait = max(seconds, numbers.longest_wait)

    def fail(self, kind: Kind, failure: str) -> None:
        with self._lock:
            self.numbers[kind].errors[failure] += 1

    def happened(self, kind: Kind, event: events.Event, at: float) -> None:
        """Count an event of a policy, `at` seconds into the run."""
        did, said = _told(kind, event)
        with self._lock:
            self.numbers[kind].did.update(did)
            if said is not None:
                self.latest.append((at, said))
            if isinstance(event, events.CircuitChanged):
                self.circuits[event.circuit_breaker] = event.to_state
                self.changes.append((at, said or ""))

    def said(self) -> list[tuple[float, str]]:
        """The latest events, oldest first."""
        with self._lock:
            return list(self.latest)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values do not exceed (nearest rank); nan of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def _told(kind: Kind, event: events.Event) -> tuple[list[Did], str | None]:
    """What an event counts as, and what is said of it."""
    did: list[Did] = []
    said = None
    match event:
        case events.AttemptStarted():
            did.append("attempts")
        case events.RetryScheduled(attempt=attempt, delay=delay, reason=reason, failure=failure):
            did.append("retries")
            what = failure.kind if failure else "result"
            why = "Retry-After" if reason == "retry_after" else "backoff"
            said = f"{kind}: attempt {attempt} failed ({what}), next in {delay:.2f} s ({why})"
        case events.TimeoutExpired(limit=limit):
            did.append("timeouts")
            said = f"{kind}: no answer in {limit:g} s, cut off"
        case events.CallRejected(strategy=strategy):
            did.append("rejected")
            said = f"{kind}: refused by the {strategy.replace('_', ' ')}, the server is spared"
        case events.FallbackUsed():
            said = f"{kind}: the fallback is asked"
        case events.CallEnded(outcome="fallback"):
            did.append("fallbacks")
        case events.CallEnded(parts=parts) if parts is not None and parts > 1:
            did.append("resumed")
            said = f"{kind}: broke off, and went on {'once' if parts == 2 else f'{parts - 1} times'}"
        case events.Waited(reason=None):
            did.append("waited")
        case events.CircuitChanged(circuit_breaker=circuit, from_state=before, to_state=after):
            if after == "open":
                did.append("opened")
            said = f"circuit {circuit}: {before} -> {after}"
        case _:
            pass
    return did, said
