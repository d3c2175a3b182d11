"""Answers to questions that lead to further questions, some of them back to themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable

from resilient_agents.scan.values import Values

__all__ = ["Answers"]

DEEPEST = 60
"""Steps from an expression to what it comes from, one inside the other."""


class Answers:
    """What was answered already; each question is made of what tells it from others."""

    def __init__(self) -> None:
        self._memo: dict[Hashable, Values] = {}
        self._active: set[Hashable] = set()
        self._for_now: dict[Hashable, Values] = {}
        self._times: dict[Hashable, int] = {}
        self._settled: dict[Hashable, Values] = {}
        self._cuts = 0
        self._provisional = 0
        self._asked = 0

    def forget(self) -> None:
        """Of all answers: those to questions that come back to themselves depend on what was asked before."""
        self._memo.clear()
        self._times.clear()
        self._settled.clear()

    def once(self, key: Hashable, make: Callable[[], Values]) -> Values:
        """Remember what was made; what comes back to itself has no values there.

        What was seen from within a circle may lack what the circle adds: it counts until the question that led there
        is answered, and for good when it came out for the third time.
        """
        known = self._memo.get(key)
        if known is not None:
            return known
        known = self._for_now.get(key)
        if known is not None:
            self._provisional += 1
            return known
        if key in self._active or len(self._active) > DEEPEST:
            self._cuts += 1
            return ()
        before = self._cuts
        self._active.add(key)
        try:
            found = make()
        finally:
            self._active.discard(key)
            if not self._active:
                self._for_now.clear()
        if self._cuts == before or not self._active:
            self._memo[key] = found
        else:
            self._for_now[key] = found
            times = self._times[key] = self._times.get(key, 0) + 1
            if times == 3:
                self._memo[key] = found
        return found

    def settled(self, key: Hashable, make: Callable[[], Values]) -> Values:
        """Remember what is made of answers that count for good, for those that are asked for often."""
        known = self._settled.get(key)
        if known is None:
            before = self._cuts, self._provisional
            known = make()
            if before == (self._cuts, self._provisional):
                self._settled[key] = known
        return known

    @contextlib.contextmanager
    def asking_callers(self, at_most: int) -> Generator[bool, None, None]:
        """Whether callers may be asked: not when that is what it came from too often."""
        if self._asked >= at_most:
            self._cuts += 1
            yield False
            return
        self._asked += 1
        try:
            yield True
        finally:
            self._asked -= 1
