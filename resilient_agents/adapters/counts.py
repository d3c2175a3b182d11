"""What components count, for whoever wants to look at it. Nothing is decided by it.

Every number is exact under threads, without a lock: to add to one is one step, as the interpreter changes threads, and
runs signal handlers, at calls only. So is to read all of them. Numbers only grow: to begin anew is to remember where
they stood. Sums are made when somebody looks, so that in each snapshot they are sums of what stands beside them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, Literal, TypeAlias

from resilient_agents.base.fork import reset_after_fork

__all__ = ["Counts", "LimitCounts", "RetryCounts", "Verdict", "share"]

Verdict: TypeAlias = Literal["failure", "success", "neutral"]

_NOTHING: Final = (0, 0, 0, 0, 0)


class Counts:
    """Five numbers to look at, which whoever makes one has set to 0. `_before`: what they were when it was to begin
    anew."""

    __slots__ = ("__weakref__", "_before")

    def __init__(self) -> None:
        self._before: tuple[Any, ...] = _NOTHING
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child nothing has happened yet."""
        self.reset()

    def reset(self) -> None:
        self._before = self._now()

    @abstractmethod
    def _now(self) -> tuple[Any, ...]:
        """The numbers, read in one step."""

    def _since(self) -> list[Any]:
        """What was added since the last reset."""
        before = self._before  # first: it may change meanwhile
        return [now - then for now, then in zip(self._now(), before, strict=True)]


class RetryCounts(Counts):
    """How the operations of one retry ended. `at_once`: those whose first attempt was good; `retries`: the attempts of
    the others that were not the first."""

    __slots__ = ("_failures", "_neutral", "_retries", "_saved", "at_once")

    def __init__(self) -> None:
        self.at_once = self._failures = self._neutral = self._retries = self._saved = 0
        super().__init__()

    def _now(self) -> tuple[int, ...]:
        return self.at_once, self._saved, self._failures, self._neutral, self._retries

    def record(self, ending: Verdict, attempts: int) -> None:
        """A call ended so, after so many attempts. In one step."""
        self._retries += attempts - 1
        if ending == "failure":
            self._failures += 1
        elif ending == "neutral":
            self._neutral += 1
        elif attempts > 1:
            self._saved += 1
        else:
            self.at_once += 1

    def metrics(self) -> dict[str, Any]:
        at_once, saved, failures, neutral, retries = self._since()
        successes = at_once + saved
        calls = successes + failures + neutral
        return {
            "calls": calls,
            "successes": successes,
            "failures": failures,
            "neutral": neutral,
            "attempts": calls + retries,
            "retries": retries,
            "saved": saved,
            "saved_rate": share(saved, calls),
        }


class LimitCounts(Counts):
    """How calls fared at a limit. `at_once`: those that it let through without a wait; `others`: those of them that are
    counted apart, as a gate numbers its good answers; `waits`: those that it made wait, of which as many as `_timed`
    waited `_seconds`."""

    __slots__ = ("_seconds", "_timed", "at_once", "others", "rejections", "waits")

    def __init__(self) -> None:
        self.at_once = self.others = self.rejections = self.waits = self._timed = 0
        self._seconds = 0.0
        super().__init__()

    def _now(self) -> tuple[float, ...]:
        return self.at_once + self.others + self.waits, self.rejections, self.waits, self._timed, self._seconds

    def made_wait(self, seconds: float | None) -> None:
        """A call was let through after waiting, or would have waited; None if nobody knows how long."""
        self.waits += 1
        if seconds is not None:
            self._timed += 1
            self._seconds += seconds

    def metrics(self) -> dict[str, Any]:
        calls, rejections, waits, timed, seconds = self._since()
        return {"calls": calls, "rejections": rejections, "waits": waits, "average_wait": share(seconds, timed)}


def share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
