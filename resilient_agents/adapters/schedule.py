"""When may the next call start? The generic cell rate algorithm, as decisions that take `now` and return a value.

aiolimiter lets up to twice the rate through in one window, small requests overtake waiting ones, and it cannot say how
long a caller would wait. One number can: the *theoretical arrival time*, the moment at which all that was admitted so
far would be paid for at the steady rate. A call may start as long as that moment, the call included, lies at most
`burst / rate` ahead. (Source: the virtual scheduling form of the GCRA in ITU-T I.371.)

Reservations alone do not keep the promise: callers of a loop that was blocked wake late, and together. So there are
three such moments:

- `planned`: after the last reservation. New arrivals line up here, and may learn their waiting time before they wait.
- `started`: after what has really started. Nothing starts against it, however late it wakes.
- `promised`: after the last of those who found the gate closed when they came and were told a later time. They keep
  their order among themselves, and others who wake queue behind them, not between them.

A caller that never comes (its loop is blocked or was closed) thus holds up nobody: its turn is over, and nothing was
started for it.
"""

from __future__ import annotations

__all__ = ["ROUNDING", "Reservation", "Schedule"]

ROUNDING = 1e-9
"""Seconds by which a timer may be early: the resolution of event loops, and more than float arithmetic loses."""


class Reservation:
    """A place in the plan: `due` is when its holder should come to start (monotonic seconds)."""

    __slots__ = ("before", "cost", "due", "shift", "tat", "told")

    due: float
    tat: float
    before: float
    shift: float

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.told = False


class Schedule:
    """In any window of T seconds, starts that cost at most `burst + rate * T` in all.

    Costs are at most `burst`. Not thread-safe: whoever shares a schedule locks it, and reads the clock under the lock.

    While nobody waits, `planned` says all and the other two are stale; the first reservation brings them up to date.
    From then on `started <= planned` and `promised <= planned`.
    """

    __slots__ = ("_interval", "_line", "_planned", "_promised", "_shift", "_started", "_tolerance")

    def __init__(self, rate: float, burst: float) -> None:
        self._interval = 1.0 / rate
        self._tolerance = burst / rate
        self._planned = self._promised = self._started = float("-inf")
        self._shift = 0.0
        self._line: dict[Reservation, None] = {}

    @property
    def waiting(self) -> int:
        """Holders of reservations."""
        return len(self._line)

    def change(self, now: float, rate: float, burst: float) -> None:
        """Another rate and burst from now on. What has started stays counted, in units of cost, so there is no second
        burst; those who wait keep their order and get new times, on the reservations that they have. One that costs
        more than the new burst takes all of it."""
        used = max(0.0, (self._started if self._line else self._planned) - now) / self._interval
        self._interval = 1.0 / rate
        self._tolerance = burst / rate
        self._planned = self._promised = self._started = now + used * self._interval
        self._shift = 0.0
        for reservation in list(self._line):
            if reservation in self._line:  # or it was cancelled by the garbage collector just now
                reservation.cost = min(reservation.cost, burst)
                reservation.told = False
                self._place(reservation, now)

    def take(self, now: float, cost: float) -> bool:
        """Start at once, if no one before this caller would be hurt by it. False changes nothing."""
        tat = self._planned
        if tat < now:
            tat = now
        tat += cost * self._interval
        if tat - self._tolerance > now + ROUNDING:
            return False
        self._planned = tat
        if self._line:
            self._started = max(self._started, now) + cost * self._interval
        return True

    def delay(self, now: float, cost: float) -> float:
        """Seconds until a caller that came now would start."""
        return max(0.0, max(self._planned, now) + cost * self._interval - self._tolerance - now)

    def available(self, now: float) -> float:
        """What could start at once, in units of cost."""
        return max(0.0, (now + self._tolerance - max(self._planned, now)) / self._interval)

    def reserve(self, now: float, cost: float) -> Reservation:
        """Line up behind everyone else. The holder comes back with `start` when it is due, or with `cancel`."""
        if not self._line:
            self._started = self._promised = self._planned
        reservation = Reservation(cost)
        self._place(reservation, now)
        self._line[reservation] = None
        return reservation

    def _place(self, reservation: Reservation, now: float) -> None:
        """Behind all that is planned."""
        reservation.before = before = self._planned
        reservation.tat = self._planned = tat = max(before, now) + reservation.cost * self._interval
        reservation.due = max(now, tat - self._tolerance)
        reservation.shift = self._shift

    def start(self, reservation: Reservation, now: float) -> bool:
        """The holder came: True if it starts now, False if it has to come again when it is due, which is later now."""
        price = reservation.cost * self._interval
        gate = self._started if reservation.told else max(self._started, self._promised)
        if max(gate, now) + price - self._tolerance <= now + ROUNDING:
            self._started = max(self._started, now) + price
            self._planned = max(self._planned, self._started)
            self._line.pop(reservation, None)
            return True
        self._promised = tat = max(self._promised, self._started) + price
        # Those who reserved after it come after it still, so the plan moves: by as much as this one was put back, but
        # by no more than its own price, for one that missed its turn only squeezes in. `_shift` keeps what was moved
        # since each of them reserved.
        moved = min(price, max(0.0, tat - (reservation.tat + self._shift - reservation.shift)))
        self._shift += moved
        self._planned = max(self._planned + moved, tat)
        reservation.tat, reservation.shift = tat, self._shift
        reservation.due = tat - self._tolerance
        reservation.told = True
        return False

    def cancel(self, reservation: Reservation) -> None:
        """The holder will not come. Only the newest reservation is handed back: those after any other have their times
        already, and a newcomer planned into the gap would meet the last of them."""
        self._line.pop(reservation, None)
        if not reservation.told and reservation.tat + (self._shift - reservation.shift) == self._planned:
            self._planned = max(reservation.before + (self._shift - reservation.shift), self._started, self._promised)
