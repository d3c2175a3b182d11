"""When may the next call start? The generic cell rate algorithm, as decisions that take `now` and return a value.

aiolimiter lets up to twice the rate through in one window, small requests overtake waiting ones, and it cannot say how
long a caller would wait. One number can: the *theoretical arrival time*, the moment at which all that was admitted so
far would be paid for at the steady rate. A call may start as long as that moment, the call included, lies at most
`burst / rate` ahead. (Source: the virtual scheduling form of the GCRA in ITU-T I.371.)

Reservations alone do not keep the promise: callers of a loop that was blocked wake late, and together. So there are two
such moments, and a list:

- `planned`: after the last reservation. New arrivals line up here, and learn their waiting time before they wait.
- `started`: after what has really started. Nothing starts against it, however late it wakes.
- the latecomers: those who are back and about to ask (an event loop wakes its tasks in any order it likes), and those
  who asked, found that it was not their turn, and were told a later one. They go in the order in which they first came.

A caller that does not come, because its loop is blocked or was closed, thus holds up nobody: its turn passes, and
nothing was started for it.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect, insort

__all__ = ["ROUNDING", "Reservation", "Schedule"]

ROUNDING = 1e-9
"""Seconds by which a timer may be early: the resolution of event loops, and more than float arithmetic loses."""


class Reservation:
    """A place in the plan: `due` is when its holder should come to start (monotonic seconds)."""

    __slots__ = ("before", "due", "here", "number", "price", "shift", "tat", "told")

    def __init__(self, number: int, price: float, due: float, tat: float, before: float, shift: float) -> None:
        self.number = number
        self.price = price
        self.due = due
        self.tat = tat
        self.before = before
        self.shift = shift
        self.here = False
        self.told = False


class Schedule:
    """In any window of T seconds, starts that cost at most `burst + rate * T` in all.

    Costs are at most `burst`. Not thread-safe: whoever shares a schedule locks it, and reads the clock under the lock.

    While nobody waits, `planned` says all and `started` is stale; the first reservation brings it up to date. From then
    on `started <= planned`.
    """

    __slots__ = ("_interval", "_latecomers", "_numbers", "_planned", "_shift", "_started", "_tolerance", "waiting")

    def __init__(self, rate: float, burst: float) -> None:
        self._interval = 1.0 / rate
        self._tolerance = burst / rate
        self._planned = self._started = -math.inf
        self._latecomers: list[Reservation] = []  # by number
        self._numbers = itertools.count()
        self._shift = 0.0
        self.waiting = 0

    def take(self, now: float, cost: float) -> bool:
        """Start at once, if no one before this caller would be hurt by it. False changes nothing."""
        tat = self._planned
        if tat < now:
            tat = now
        tat += cost * self._interval
        if tat - self._tolerance > now + ROUNDING:
            return False
        self._planned = tat
        if self.waiting:
            self._started = max(self._started, now) + cost * self._interval
        return True

    def delay(self, now: float, cost: float) -> float:
        """Seconds until a caller that came now would start."""
        return max(0.0, max(self._planned, now) + cost * self._interval - self._tolerance - now)

    def available(self, now: float) -> float:
        """What could start at once, in units of cost."""
        return max(0.0, (now + self._tolerance - max(self._planned, now)) / self._interval)

    def reserve(self, now: float, cost: float) -> Reservation:
        """Line up behind everyone else. The holder comes back when it is due, to `start`, or else to `cancel`."""
        before = self._planned
        if not self.waiting:
            self._started = before
        self.waiting += 1
        price = cost * self._interval
        self._planned = tat = max(before, now) + price
        return Reservation(next(self._numbers), price, max(now, tat - self._tolerance), tat, before, self._shift)

    def come_back(self, reservation: Reservation) -> None:
        """The holder is back and about to ask: those who came after it and ask first are put behind it."""
        self._leave(reservation)
        reservation.here = True
        insort(self._latecomers, reservation, key=_number)

    def start(self, reservation: Reservation, now: float) -> bool:
        """True if the holder starts now, False if it has to come back when it is due, which is later now."""
        self._leave(reservation)
        place = bisect(self._latecomers, reservation.number, key=_number)
        # One that was told a time and let it pass does not count: its loop may be blocked for long.
        ahead = sum(other.price for other in self._latecomers[:place] if other.here or other.due >= now)
        price = reservation.price
        tat = max(self._started, now) + ahead + price
        if tat - self._tolerance <= now + ROUNDING:
            self._started = max(self._started, now) + price
            self._planned = max(self._planned, self._started)
            self.waiting -= 1
            return True
        # Those who reserved after it come after it still, so the plan moves: by as much as this one was put back, but
        # by no more than its own price, for one that missed its turn only squeezes in. `_shift` keeps what was moved
        # since each of them reserved.
        moved = min(price, max(0.0, tat - (reservation.tat + self._shift - reservation.shift)))
        self._shift += moved
        self._planned = max(self._planned + moved, tat)
        reservation.tat, reservation.shift, reservation.told = tat, self._shift, True
        reservation.due = tat - self._tolerance
        insort(self._latecomers, reservation, key=_number)
        return False

    def cancel(self, reservation: Reservation) -> None:
        """The holder will not come. Only the newest reservation is handed back: those after any other have their times
        already, and a newcomer planned into the gap would meet the last of them."""
        self._leave(reservation)
        self.waiting -= 1
        if not reservation.told and reservation.tat + (self._shift - reservation.shift) == self._planned:
            self._planned = max(reservation.before + (self._shift - reservation.shift), self._started)

    def _leave(self, reservation: Reservation) -> None:
        if reservation.here or reservation.told:
            reservation.here = False
            try:
                self._latecomers.remove(reservation)
            except ValueError:  # it has asked, and gone
                pass


def _number(reservation: Reservation) -> int:
    return reservation.number
