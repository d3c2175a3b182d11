"""How many answers came by when, for next to nothing each: most are only counted, and a few times a second it is noted
how many there were by then."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["History"]

SHARED: Final = 16
"""Of the answers that come in a second, one in so many at least has its time noted."""

SPARSEST: Final = 256
"""One in so many at least, however many come."""


class History:
    """A number that only grows, and its past. Not thread-safe but for `due`, which is read without a lock.

    `due`: the number of the answer, as they count themselves, with which the time is to be noted again. While few
    answers come that is each of them; where one has shared its time with others, these are taken to have come evenly.
    """

    __slots__ = ("_begun", "_count", "_noted", "_pace", "due")

    def __init__(self, count: Callable[[], int]) -> None:
        """`count()`: how many answers there were up to now."""
        self._count = count
        self._noted: deque[tuple[float, int]] = deque(maxlen=1000)
        self._begun = (-math.inf, 0)  # when the present second began, and with how many
        self._pace = 0.0  # answers in the second before
        self.due = 0

    def note(self, now: float, number: int) -> None:
        """The answer of this number came now."""
        count = self._count()
        if not self._noted:
            self._noted.append((now, count - 1))
        self._noted.append((now, count))
        since, before = self._begun
        if now - since >= 1.0:
            self._pace = (count - before) / (now - since)
            self._begun = since, before = now, count
        self.due = number + int(max(1, min(max(self._pace, count - before) / SHARED, SPARSEST)))

    def since(self, when: float, now: float) -> tuple[int, float]:
        """How many came after that time, and when the first of them; `now` if there were none."""
        count = self._count()
        first, found = now, 0
        later, total = now, count
        for earlier, before in reversed(list(self._noted)):  # a copy: a signal handler may note one in the midst of it
            came = total - before
            if came > 0:
                if later <= when:
                    break
                gap = (later - earlier) / came
                part = came if earlier >= when else min(came, max(1, round((later - when) / gap)))
                found += part
                first = later - (part - 1) * gap
            later, total = earlier, before
        return found, first
