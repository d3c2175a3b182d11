"""How fast a server may be asked again that has said wait: decisions that take `now` and return a value.

Nothing starts before the time that the server named. Then one call asks; the others go when it was answered, or when
the answer takes so long that it is not "wait" again. They go one after another, at a rate:

- a server that counts requests (status 429) is asked at the rate that it let through: what it answered well in the time
  before it said wait, over that time and the wait it asked for. A rate that has held for a minute is doubled;
- one that was down (503 and the rest) at the rate that it answered before, and a tenth faster after each good answer:
  else a line that grew in an outage would never get shorter;
- where nothing was seen before, one a second, and twice as fast after each good answer.

(A server that says wait tells when, not how many. TCP's slow start and its halving answer the same question for
networks; a limit that is known needs neither.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from resilient_agents.adapters.gcra import Gcra, Reservation
from resilient_agents.strategies.history import History

__all__ = ["Pace"]

MARGIN: Final = 0.001
"""Seconds after the time that the server named: its clock and timers are no finer."""

PATIENCE: Final = 1.0
"""Seconds after which an answer that has not come will not say wait."""

SHORTEST: Final = 1.0
"""Seconds: a rate is not seen in less."""

HELD: Final = 60.0
"""Seconds after which a rate that held may be too low."""

FASTEST: Final = 1e6

UNKNOWN: Final = 2.0
RETURNING: Final = 1.1
LIMIT: Final = 1.0
"""How much faster after each good answer, by what is known of the server."""


class Pace:
    """Who may start when. Not thread-safe, as `gcra` is not; `shut`, `batch` and `answers.due` are read without a lock
    where nobody waits.

    `shut`: the server has said wait, and those that it held back have not all gone. `batch`: which wait a call began
    under; what those of one batch are told is one wait. `answers`: the good ones.
    """

    __slots__ = (
        "_growth",
        "_held_since",
        "_limited",
        "_probe",
        "_probe_due",
        "_shut_at",
        "_until",
        "answers",
        "batch",
        "gcra",
        "shut",
    )

    def __init__(self, answered: Callable[[], int]) -> None:
        """`answered()`: how many good answers there were up to now."""
        self.gcra = Gcra(1.0, 1.0)
        self.shut = False
        self.batch = 0
        self.answers = History(answered)
        self._shut_at = self._until = -math.inf
        self._growth = UNKNOWN
        self._limited = self._probe_due = False
        self._probe: Reservation | None = None
        self._held_since = 0.0

    def left(self, now: float) -> float:
        """Seconds until the time that the server named."""
        return max(0.0, self._until - now) if self.shut else 0.0

    def wait(self, now: float, seconds: float, batch: int, *, limited: bool = True) -> bool:
        """The server told a call of this batch to wait; `limited`: because it made too many requests. Is that news?"""
        until = now + seconds + MARGIN
        if batch == self.batch:
            self.batch += 1
            self._shut_at, self._until = now, max(self._until, until)
            self._limited = limited
            self._learn(now)
        elif until <= self._until:
            return False
        self._until = max(self._until, until)
        self._probe, self._probe_due = None, True
        self._hold(now, self._until)
        self.shut = True
        return True

    def arrives(self, now: float) -> bool:
        """May a call that comes now go past those in line? There are none: all have gone that were held back."""
        if self._probe_due or self.gcra.delay(now, 1.0) or self.gcra.waiting:  # in this order: asked first, it forgets
            return False
        self.shut = False
        return True

    def started(self, turn: Reservation, now: float) -> None:
        """One that waited starts. The first after a wait asks for all."""
        if self._probe_due:
            self._probe_due = False
            self._probe = turn
            self._learn(now)
            self._hold(now, now + max(PATIENCE, 1.0 / self.gcra.rate))
        elif now > self._held_since + HELD:
            self._held_since = now
            self._faster(now, UNKNOWN)

    def answered(self, turn: Reservation, now: float, *, well: bool) -> None:
        """The call of this turn has its answer, which does not say wait; `well`: it is a result."""
        if turn is self._probe:
            self._probe = None
            if well:
                self.gcra.forgive(now)
            else:  # cancelled, or another failure: ask again
                self._probe_due = True
                self.gcra.level, self.gcra.at = 0.0, now
        if well and self._growth > LIMIT:
            self._faster(now, self._growth)

    def _learn(self, now: float) -> None:
        """The rate, as far as it can be seen by now."""
        window = max(self._until - self._shut_at, SHORTEST)
        recent, first = self.answers.since(self._shut_at - window, now)
        if recent:
            self._growth = LIMIT if self._limited else RETURNING
            end = self._until if self._limited else self._shut_at
            self.gcra.change(now, recent / max(end - first, SHORTEST), 1.0)
        elif self._growth == UNKNOWN:
            self.gcra.change(now, 1.0, 1.0)
        self._held_since = self._until

    def _faster(self, now: float, times: float) -> None:
        self.gcra.change(now, min(times * self.gcra.rate, FASTEST), 1.0)
        if now < self._until:
            self._hold(now, self._until)

    def _hold(self, now: float, until: float) -> None:
        """Nothing starts before then."""
        self.gcra.level, self.gcra.at = (until - now) * self.gcra.rate, now
