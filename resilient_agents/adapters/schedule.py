"""When may the next call start? The generic cell rate algorithm, as decisions that take `now` and return a value.

aiolimiter lets up to twice the rate through in one window, small requests overtake waiting ones, and it cannot say how
long a caller would wait. One number can: the *theoretical arrival time*, the moment at which all that has started would
be paid for at the steady rate. A call may start as long as that moment, the call included, lies at most `burst / rate`
ahead. (Source: the virtual scheduling form of the GCRA in ITU-T I.371.)

Those who have to wait stand in line. Each is told when it is due: after everything that started and everybody before
it. That is a plan, and two things cross it:

- Someone leaves. The line then moves up: the first in it is told its new, earlier time (`moved_up`), the next one when
  that one has started, and so on. Newcomers count only those who still stand there.
- Someone comes late, because its event loop was blocked, or never, because that was closed. Its turn passes, and it
  holds up nobody. When it does come, it goes first among those that are there, as the rate allows.

Whatever was told, nothing starts against `spent`, what has really started.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

__all__ = ["ROUNDING", "Reservation", "Schedule"]

ROUNDING = 1e-9
"""Seconds by which a timer may be early: the resolution of event loops, and more than float arithmetic loses."""


ASKING = 0.05
"""Seconds for which one that is back may keep others from asking first: longer than the turn of an event loop takes,
unless something blocks it."""


class Reservation:
    """A place in line: `due` is when its holder should come to start (monotonic seconds).

    `standing`: it is in line, and has not let its turn pass. `here`: the holder is back (since `due`) and about to ask.
    `told`: it came and was given another time. `waiter`: how to tell it of an earlier one; a thread sleeps until the
    time it knows and has none.
    """

    __slots__ = ("cost", "due", "here", "number", "price", "standing", "told", "waiter")

    def __init__(self, number: int, cost: float, price: float, due: float, waiter: Any) -> None:
        self.number = number
        self.cost = cost
        self.price = price
        self.due = due
        self.waiter = waiter
        self.standing = True
        self.here = self.told = False


class Schedule:
    """In any window of T seconds, starts that cost at most `burst + rate * T` in all.

    Costs are at most `burst`. Not thread-safe: whoever shares a schedule locks it, and reads the clock under the lock.
    But the garbage collector may run `cancel` and `moved_up` for a stranded waiter in the midst of any other method, on
    the same thread. So who leaves the line is marked, and taken out of the list only where it is at the head, or where
    most of the list is such.
    """

    __slots__ = ("_line", "_numbers", "_priced", "_standing", "interval", "spent", "tolerance", "waiting")

    def __init__(self, rate: float, burst: float) -> None:
        self.interval = 1.0 / rate
        self.tolerance = burst / rate
        self.spent = -math.inf
        self.waiting = 0
        self._line: list[Reservation] = []  # by number
        self._standing = 0
        self._priced = 0.0  # what those that stand in line cost in all
        self._numbers = itertools.count()

    def change(self, now: float, rate: float, burst: float) -> None:
        """Another rate and burst from now on. What has started stays counted, in units of cost, so there is no second
        burst; those who wait keep their order. What costs more than the new burst takes all of it."""
        interval, tolerance = 1.0 / rate, burst / rate
        used = max(0.0, self.spent - now) / self.interval
        self.interval, self.tolerance, self.spent = interval, tolerance, now + used * interval
        for other in list(self._line):
            price = other.cost * interval
            if price > tolerance:
                price = tolerance
            # Without a call from here on, during which the garbage collector might run `cancel`.
            if other.standing:
                self._priced += price - other.price
                other.price = price

    def take(self, now: float, cost: float) -> bool:
        """Start at once, if no one before this caller would be hurt by it. False changes nothing."""
        price = cost * self.interval
        if self._planned(now) + price - self.tolerance > now + ROUNDING:
            return False
        self.spent = max(self.spent, now) + price
        return True

    def charge(self, now: float, cost: float) -> None:
        """Somebody starts at whatever time: what it takes is missing for the others."""
        self.spent = max(self.spent, now) + cost * self.interval

    def forgive(self, now: float) -> None:
        """Nothing has started that the burst would not have allowed."""
        self.spent = min(self.spent, now + self.tolerance)

    def all_due(self, now: float) -> list[Reservation]:
        """Let all come at once that can be told: wake these."""
        early = [other for other in self._line if other.waiter is not None and other.due > now]
        for other in early:
            other.due = now
        return early

    def delay(self, now: float, cost: float) -> float:
        """Seconds until a caller that came now would start."""
        return max(0.0, self._planned(now) + cost * self.interval - self.tolerance - now)

    def available(self, now: float) -> float:
        """What could start at once, in units of cost."""
        return max(0.0, (now + self.tolerance - self._planned(now)) / self.interval)

    def reserve(self, now: float, cost: float, waiter: Any = None) -> Reservation:
        """Line up behind everyone else. The holder comes back when it is due, to `start`, or else to `cancel`.

        With a `waiter` it can be told that the line moved up.
        """
        price = cost * self.interval
        due = max(now, self._planned(now) + price - self.tolerance)
        reservation = Reservation(next(self._numbers), cost, price, due, waiter)
        self.waiting += 1
        self._standing += 1
        self._priced += price
        self._line.append(reservation)
        return reservation

    def come_back(self, reservation: Reservation, now: float) -> None:
        """The holder is back and about to ask: those who came after it and ask first are put behind it."""
        reservation.here = True
        reservation.due = max(reservation.due, now)
        if reservation.standing:
            return
        reservation.price = min(reservation.cost * self.interval, self.tolerance)  # of now: nothing told it of a change
        reservation.standing = True
        self._standing += 1
        self._priced += reservation.price
        place = 0
        for other in self._line:
            if other.number >= reservation.number:
                if other is reservation:
                    return
                break
            place += 1
        self._line.insert(place, reservation)

    def start(self, reservation: Reservation, now: float) -> bool:
        """True if the holder starts now, False if it has to come back when it is due, which is later now."""
        if not reservation.standing:
            reservation.price = min(reservation.cost * self.interval, self.tolerance)
        ahead = 0.0
        for other in self._line:
            if other.number >= reservation.number:
                break
            # One that let its time pass does not count: its loop may be blocked for long.
            if other.standing and ((other.due >= now and _comes(other)) or (other.here and not _passed(other, now))):
                ahead += other.price
        spent = max(self.spent, now)
        due = spent + ahead + reservation.price - self.tolerance
        if due <= now + ROUNDING:
            self.cancel(reservation)
            self.spent = spent + reservation.price
            return True
        self.come_back(reservation, now)
        reservation.here, reservation.told = False, True
        reservation.due = due
        return False

    def cancel(self, reservation: Reservation) -> None:
        """The holder will not come. What it would have taken is there for the others."""
        self.waiting -= 1
        self.lost(reservation)
        if len(self._line) > 2 * self._standing + 8:
            self._line = [other for other in self._line if other.standing]

    def lost(self, reservation: Reservation) -> None:
        """The holder is not to be counted on: its turn has passed, or its loop was closed."""
        reservation.here = False
        if reservation.standing:
            reservation.standing = False
            self._standing -= 1
            self._priced = self._priced - reservation.price if self._standing else 0.0

    def moved_up(self, now: float) -> Reservation | None:
        """The first in line that can be told, if its time has come nearer: wake it. To be asked whenever one has
        started, was put back or has left."""
        self._drop_passed(now)
        ahead = 0.0
        for other in self._line:
            if not other.standing:
                continue
            passed = _passed(other, now)
            if other.here and not passed:
                return None  # it asks first, and then this is asked again
            if passed:
                continue
            if other.due < now:  # it is about to come, or dead
                ahead += other.price
            elif other.waiter is not None:
                due = max(now, self.spent + ahead + other.price - self.tolerance)
                if other.due - due <= ROUNDING:
                    return None
                other.due = due
                return other
            elif other.told:
                ahead += other.price
        return None

    def _planned(self, now: float) -> float:
        """The moment at which all would be paid for that has started or stands in line."""
        spent = max(self.spent, now)
        if not self._standing:
            return spent
        self._drop_passed(now)
        return spent + self._priced

    def _drop_passed(self, now: float) -> None:
        """Take those out of the head of the line who left, or whose turn has passed."""
        line = self._line
        while line:
            first = line[0]
            if first.standing:
                if not _passed(first, now):
                    return
                self.lost(first)
            del line[0]


def _passed(reservation: Reservation, now: float) -> bool:
    """Has it let its turn pass, so that the next one is due?"""
    patience = reservation.price
    if reservation.here and patience < ASKING:
        patience = ASKING
    return reservation.due + patience <= now


def _comes(reservation: Reservation) -> bool:
    """Will it come when it is due, though others before it have left? Not a thread that sleeps for as long as it was
    told at first."""
    return reservation.told or reservation.waiter is not None
