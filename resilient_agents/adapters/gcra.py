"""When may the next call start? The generic cell rate algorithm, as decisions that take `now` and return a value.

aiolimiter lets up to twice the rate through in one window, small requests overtake waiting ones, and it cannot say how
long a caller would wait. Two numbers can: how much has started and is not paid for yet (`level`), and when that was
(`at`). It is paid off at the steady rate, and a call may start as long as the level, the call included, is at most the
burst. (Source: the continuous-state leaky bucket form of the GCRA in ITU-T I.371, which is equivalent to virtual
scheduling. All is counted in units of cost, so that no sum of small times is added to a large one.)

Those who have to wait stand in line. Each is told when it is due: after everything that started and everybody before
it. That is a plan, and two things cross it:

- Someone leaves. The line then moves up: the first in it is told its new, earlier time (`moved_up`), the next one when
  that one has started, and so on. Newcomers count only those who still stand there.
- Someone comes late, because its event loop was blocked, or never, because that was closed. Its turn passes, and it
  holds up nobody. When it does come, it goes first among those that are there, as the rate allows.

Whatever was told, nothing starts against the level, which tells what has really started.
"""

from __future__ import annotations

import itertools

from resilient_agents.core.loops import Loop
from resilient_agents.core.waiters import Waiter

__all__ = ["ROUNDING", "Gcra", "Reservation"]

ROUNDING = 1e-9
"""Seconds by which a timer may be early, the resolution of event loops, and share of the burst that float arithmetic
may lose."""


ASKING = 0.05
"""Seconds for which one that is back may keep others from asking first: longer than the turn of an event loop takes,
unless something blocks it."""


class Reservation:
    """A place in line, for what costs `cost`: `due` is when its holder should come to start (monotonic seconds).

    `waits`: its holder has neither started nor left. `standing`: it is in line, and has not let its turn pass. `here`:
    the holder is back (since `due`) and about to ask. `waiter`: how to tell it of an earlier time.
    """

    __slots__ = ("cost", "due", "here", "number", "standing", "waiter", "waits")

    # What `reserve` sets:
    number: int
    due: float

    def __init__(self, cost: float, waiter: Waiter) -> None:
        self.cost = cost
        self.waiter = waiter
        self.waits = self.standing = self.here = False


class Gcra:
    """In any window of T seconds, starts that cost at most `burst + rate * T` in all.

    Not thread-safe: whoever shares one locks it, and reads the clock under the lock. But on the same thread the garbage
    collector may run `cancel` and `moved_up` for a stranded waiter in the midst of any other method, a signal handler
    may go through any of them, and its exception may end any of them. All of these happen at a call or the turn of a
    loop, so what belongs together is written without one in between ("one step"). Nor does the interpreter change
    threads elsewhere: `level` and `at` may be changed without the lock in one step, by whoever starts while nobody
    waits. (A moment before `at`, of a thread that read the clock and was held up, is as good as any: the level falls in
    a straight line.) Who leaves the line is marked, and taken out of the list only where it is at the head, or where
    most of the list is such.
    """

    __slots__ = (
        "_late",
        "_line",
        "_loops",
        "_numbers",
        "_standing",
        "_wanted",
        "at",
        "burst",
        "level",
        "most",
        "rate",
        "waiting",
    )

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.most = burst + ROUNDING * (rate + burst)
        self.level = 0.0
        self.at = 0.0
        self.waiting = 0
        self._line: list[Reservation] = []  # by number
        self._late: dict[Reservation, None] = {}  # those who let their turn pass and have not come yet
        self._loops: set[Loop] = set()  # those of asyncio on which somebody may wait
        self._standing = 0
        self._wanted = 0.0  # what those that stand in line cost in all
        self._numbers = itertools.count(1)

    def change(self, now: float, rate: float, burst: float) -> None:
        """Another rate and burst from now on. What has started stays counted, in units of cost, so there is no second
        burst; those who wait keep their order. What costs more than the new burst takes all of it."""
        self.level, self.at = self._level(now), now
        self.rate, self.burst, self.most = rate, burst, burst + ROUNDING * (rate + burst)
        for other in [*self._line, *self._late]:
            if other.cost > burst:  # one step
                if other.standing:
                    self._wanted -= other.cost - burst
                other.cost = burst

    def take(self, now: float, cost: float) -> bool:
        """Start at once, if no one before this caller would be hurt by it. False changes nothing."""
        ahead = self._ahead(now)
        level = self._level(now)  # one step from here on
        if level + ahead + cost > self.most:
            return False
        self.level = level + cost
        self.at = now
        return True

    def correct(self, now: float, cost: float) -> None:
        """What has started, whenever it did, cost so much more than was charged, or less where it is negative."""
        level = self.level - (now - self.at) * self.rate  # one step from here on
        level = cost if level < 0.0 else level + cost
        self.level, self.at = (level if level > 0.0 else 0.0), now  # noqa: FURB136 - `max` would end the step

    def leave(self, now: float, left: float) -> None:
        """No more can start at once than `left`: what is beyond has started elsewhere."""
        ahead = self._ahead(now)
        level = self._level(now)  # one step from here on
        beyond = self.burst - level - ahead - left
        if beyond > 0.0:
            self.level, self.at = level + beyond, now

    def forgive(self, now: float) -> None:
        """Nothing has started that the burst would not have allowed."""
        level = self._level(now)  # one step from here on
        if level > self.burst:
            level = self.burst
        self.level, self.at = level, now

    def all_due(self, now: float) -> list[Reservation]:
        """Let all come at once: wake these."""
        early = [other for other in self._line if other.due > now]
        for other in early:
            other.due = now
        return early

    def in_line(self) -> list[Reservation]:
        """Those who wait for their turn, and perhaps some who do not any more."""
        return list(self._line)

    def delay(self, now: float, cost: float) -> float:
        """Seconds until a caller that came now would start."""
        over = self._level(now) + self._ahead(now) + cost - self.burst
        return over / self.rate if over > 0.0 else 0.0

    def available(self, now: float) -> float:
        """What could start at once, in units of cost."""
        return max(0.0, self.burst - self._level(now) - self._ahead(now))

    def reserve(self, reservation: Reservation, now: float) -> None:
        """Line up behind everyone else. The holder comes back when it is due, to `start`, or else to `cancel`."""
        reservation.due = now + self.delay(now, reservation.cost)
        reservation.number = next(self._numbers)
        reservation.waits = reservation.standing = True  # one step from here on
        self.waiting += 1
        self._standing += 1
        self._wanted += reservation.cost
        self._line.append(reservation)
        if reservation.waiter.loop is not None:
            self._loops.add(reservation.waiter.loop)

    def come_back(self, reservation: Reservation, now: float) -> None:
        """The holder is back and about to ask: those who came after it and ask first are put behind it."""
        self._sweep()
        reservation.here = True
        if reservation.due < now:
            reservation.due = now
        if reservation.standing:
            return
        self._late.pop(reservation, None)
        place = 0
        for other in self._line:  # `bisect` is a call: a handler could change the line before its answer is kept
            if other.number >= reservation.number:
                break
            place += 1
        if not reservation.standing:  # one step from here on
            reservation.standing = True
            self._standing += 1
            self._wanted += reservation.cost
        if self._line[place : place + 1] != [reservation]:  # it may not have been taken out yet
            self._line.insert(place, reservation)

    def start(self, reservation: Reservation, now: float) -> bool:
        """True if the holder starts now, False if it has to come back when it is due, which is later now."""
        ahead = 0.0
        for other in self._line:
            if other.number >= reservation.number:
                break
            # One that let its time pass does not count: its loop may be blocked for long.
            if other.standing and (other.due >= now or (other.here and not self._passed(other, now))):
                ahead += other.cost
        level = self._level(now)  # one step from here on
        wanted = level + ahead + reservation.cost
        if wanted <= self.most:
            self.level = level + reservation.cost
            self.at = now
            self.cancel(reservation)
            return True
        self.come_back(reservation, now)
        reservation.here = False
        reservation.due = now + (wanted - self.burst) / self.rate
        return False

    def cancel(self, reservation: Reservation) -> None:
        """The holder will not come. What it would have taken is there for the others."""
        if reservation.waits:  # one step, to the next call
            reservation.waits = False
            self.waiting -= 1
        self._leave_line(reservation)
        self._late.pop(reservation, None)
        if not self.waiting:
            self._loops = set()  # none is kept alive by a line in which nobody waits
        if len(self._line) > 2 * self._standing + 8:
            self._line = [other for other in self._line if other.standing]

    def forget_stranded(self) -> None:
        """A loop that was closed under its tasks never lets them `cancel`."""
        for other in [*self._line, *self._late]:
            if other.waiter.loop is not None and other.waiter.loop.is_closed():
                self.cancel(other)
        self._loops = {loop for loop in list(self._loops) if not loop.is_closed()} if self.waiting else set()

    def moved_up(self, now: float) -> Reservation | None:
        """The first in line, if its time has come nearer: wake it. To be asked whenever one has started, was put back
        or has left."""
        self._drop_passed(now)
        level = self._level(now)
        ahead = 0.0
        for other in self._line:
            if not other.standing:
                continue
            passed = self._passed(other, now)
            if other.here and not passed:
                return None  # it asks first, and then this is asked again
            if passed:
                continue
            if other.due < now:  # it is about to come, or dead
                ahead += other.cost
                continue
            over = level + ahead + other.cost - self.burst
            due = now + over / self.rate if over > 0.0 else now
            if other.due - due <= ROUNDING:
                return None
            other.due = due
            return other
        return None

    def _sweep(self) -> None:
        """Whenever the line is looked at: has somebody been stranded in it?"""
        if any(loop.is_closed() for loop in list(self._loops)):
            self.forget_stranded()

    def _level(self, now: float) -> float:
        level = self.level - (now - self.at) * self.rate  # one step, with what the caller makes of it
        if level < 0.0:
            level = 0.0
        return level

    def _ahead(self, now: float) -> float:
        """What those that stand in line cost in all."""
        if self.waiting:
            self._drop_passed(now)
        return self._wanted

    def _drop_passed(self, now: float) -> None:
        """Take those out of the head of the line who left, or whose turn has passed, and the stranded wherever they
        stand."""
        self._sweep()
        line = self._line
        while line:
            first = line[0]
            if first.standing:
                if not self._passed(first, now):
                    return
                self._late[first] = None
                self._leave_line(first)
            if line and line[0] is first:
                del line[0]

    def _passed(self, reservation: Reservation, now: float) -> bool:
        """Has it let its turn pass, so that the next one is due?"""
        patience = reservation.cost / self.rate
        if reservation.here and patience < ASKING:
            patience = ASKING
        return reservation.due + patience <= now

    def _leave_line(self, reservation: Reservation) -> None:
        reservation.here = False
        if reservation.standing:  # one step
            reservation.standing = False
            self._standing -= 1
            self._wanted = self._wanted - reservation.cost if self._standing else 0.0
