"""When may the next call start? The generic cell rate algorithm, as decisions that take `now` and return a value.

aiolimiter lets up to twice the rate through in one window, small requests overtake waiting ones, and it cannot say how
long a caller would wait. One number can: the *theoretical arrival time*, the moment at which all that has started would
be paid for at the steady rate. A call may start as long as that moment, the call included, lies at most `burst / rate`
ahead. (Source: the virtual scheduling form of the GCRA in ITU-T I.371.)

Those who have to wait stand in line. Each is told when it is due: after everything that started and everybody before
it. That is a plan, and two things cross it:

- Someone leaves. The line then moves up: the first in it is told its new, earlier time (`moved_up`), the next one when
  that one has started, and so on. Newcomers count only those who still stand there.
- Someone comes late, because its event loop was blocked, or never, because that was closed. Its turn passes, little by
  little, and it holds up nobody. When it does come, it goes first among those that are there, as the rate allows.

Whatever was told, nothing starts against `spent`, what has really started.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

__all__ = ["ROUNDING", "Reservation", "Schedule"]

ROUNDING = 1e-9
"""Seconds by which a timer may be early: the resolution of event loops, and more than float arithmetic loses."""


class Reservation:
    """A place in line: `due` is when its holder should come to start (monotonic seconds).

    `here`: the holder is back and about to ask. `reachable`: it will come when it is due, though that was changed; a
    thread that sleeps until the time it was told first is not. `waiter` is the holder's own, to be woken by.
    """

    __slots__ = ("due", "here", "number", "price", "reachable", "waiter")

    def __init__(self, number: int, price: float, due: float, waiter: Any) -> None:
        self.number = number
        self.price = price
        self.due = due
        self.here = False
        self.reachable = waiter is not None
        self.waiter = waiter


class Schedule:
    """In any window of T seconds, starts that cost at most `burst + rate * T` in all.

    Costs are at most `burst`. Not thread-safe: whoever shares a schedule locks it, and reads the clock under the lock.
    But the garbage collector may run `cancel` and `moved_up` for a stranded waiter in the midst of any other method, on
    the same thread: so each change to the line is one step, and none relies on the step before it.
    """

    __slots__ = ("_numbers", "_priced", "interval", "line", "spent", "tolerance", "waiting")

    def __init__(self, rate: float, burst: float) -> None:
        self.interval = 1.0 / rate
        self.tolerance = burst / rate
        self.spent = -math.inf
        self.line: list[Reservation] = []  # by number, without those who let their turn pass
        self._priced = 0.0  # what the line costs in all
        self._numbers = itertools.count()
        self.waiting = 0

    def take(self, now: float, cost: float) -> bool:
        """Start at once, if no one before this caller would be hurt by it. False changes nothing."""
        price = cost * self.interval
        if self._planned(now) + price - self.tolerance > now + ROUNDING:
            return False
        self.spent = max(self.spent, now) + price
        return True

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
        reservation = Reservation(next(self._numbers), price, due, waiter)
        self.waiting += 1
        self._priced += price
        self.line.append(reservation)
        return reservation

    def come_back(self, reservation: Reservation) -> None:
        """The holder is back and about to ask: those who came after it and ask first are put behind it."""
        reservation.here = reservation.reachable = True
        if reservation not in self.line:
            place = 0
            for other in self.line:
                if other.number > reservation.number:
                    break
                place += 1
            self._priced += reservation.price
            self.line.insert(place, reservation)

    def start(self, reservation: Reservation, now: float) -> bool:
        """True if the holder starts now, False if it has to come back when it is due, which is later now."""
        ahead = 0.0
        for other in self.line:
            if other.number >= reservation.number:
                break
            # One that let its time pass does not count: its loop may be blocked for long.
            if other.here or (other.reachable and other.due >= now):
                ahead += other.price
        spent = max(self.spent, now)
        due = spent + ahead + reservation.price - self.tolerance
        if due <= now + ROUNDING:
            self._leave(reservation)
            self.waiting -= 1
            self.spent = spent + reservation.price
            return True
        self.come_back(reservation)
        reservation.here = False
        reservation.due = due
        return False

    def cancel(self, reservation: Reservation) -> None:
        """The holder will not come. What it would have taken is there for the others."""
        self._leave(reservation)
        self.waiting -= 1

    def moved_up(self, now: float) -> Reservation | None:
        """The first in line that can be told, if its time has come nearer: wake it. To be asked when one has started,
        was put back or has left."""
        self._drop_passed(now, 0.0)
        for first in self.line:
            if first.here:
                return None
            if first.waiter is not None and first.due >= now:
                due = max(now, self.spent + first.price - self.tolerance)
                if first.due - due <= ROUNDING:
                    return None
                first.due = due
                return first
        return None

    def lost(self, reservation: Reservation) -> None:
        """The holder could not be woken, for its loop was closed: it will hardly come."""
        self._leave(reservation)

    def _planned(self, now: float) -> float:
        """The moment at which all would be paid for that has started or stands in line."""
        spent = max(self.spent, now)
        if not self.line:
            return spent
        self._drop_passed(now, 1.0)
        for first in self.line:
            unused = 0.0 if first.here else max(0.0, now - first.due)  # its turn is passing
            return spent + self._priced - unused
        return spent

    def _drop_passed(self, now: float, share: float) -> None:
        """Take those out of the head of the line whose turn, or such a share of it, has passed."""
        for first in list(self.line):
            if first.here or first.due + share * first.price >= now:
                return
            self._leave(first)

    def _leave(self, reservation: Reservation) -> None:
        reservation.here = False
        try:
            self.line.remove(reservation)
        except ValueError:  # it let its turn pass
            return
        self._priced = self._priced - reservation.price if self.line else 0.0
