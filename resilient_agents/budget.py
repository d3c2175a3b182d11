"""A retry budget: retries may be a share of the traffic, whatever each call would like.

Three attempts a call are three times the load on a dependency that is already failing. A budget shared by every policy
that talks to one dependency bounds that: while most calls succeed nobody notices it, and in an outage the retries
shrink to a share of the calls. Hedges are paid from it like retries. There are two ways to count:

    budget = RetryBudget(0.2, per_second=1.0)      # in any 10 s: at most 20 % of the calls, plus 10
    budget = RetryBudget(in_flight=0.2)            # at any time: at most 20 % of the calls under way, or 3
    read = Policy(Retry(3, budget=budget), Hedge(0.5))
    write = Policy(Retry(2, budget=budget))

Sources: Finagle's `RetryBudget` (a leaky token bucket: deposits and withdrawals expire, a reserve of
`minRetriesPerSec * ttl` stays; ratio 0.2 and 10 s are its defaults), nopanic's, whose floor of one a second is ours,
and for what is in flight failsafe-go's (a share of 20 % is exceeded by the fourth retry at the earliest).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NoReturn

from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import number, seconds, share
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.base.spelling import Spelled

__all__ = ["RetryBudget", "UnderWay", "followed"]

_SLICES = 10
_SHORTEST_WINDOW = 0.001
_ROUNDING = 1e-9  # 100 calls at a ratio of 0.29 allow 29 retries, not the 28.999999999999996 of float arithmetic
_ALWAYS_IN_FLIGHT = 3
_DEFAULTS: Final = {"ratio": 0.2, "per_second": 1.0, "window": 10.0}


class UnderWay:
    """A call, a retry or a hedge that a budget counts as being in flight: until `end()`, at the latest until nobody
    refers to it any more, so that none is counted for ever where an exception from outside came before `end()`."""

    __slots__ = ("_among",)

    def __init__(self, among: dict[int, None]) -> None:
        self._among = among
        among[id(self)] = None

    @property
    def lasts(self) -> bool:
        """Does it matter when it ends?"""
        return self is not _NOT_COUNTED

    def end(self, closers: list[Callable[[Any], None]] | None = None) -> None:
        """It is over; a stream, whose `closers` run when it is closed, then."""
        if closers is None or not self.lasts:
            self._among.pop(id(self), None)
        else:
            closers.append(lambda _: self.end())

    def __del__(self) -> None:
        among: dict[int, None] | None = getattr(self, "_among", None)
        if among is not None:
            among.pop(id(self), None)


_NOT_COUNTED: Final = UnderWay({})
"""Of a budget that counts what happened in a window, and not how long it lasts."""


class RetryBudget(Spelled):
    """At most `ratio` retries per call, plus `per_second` retries a second, over any `window` seconds; or, with
    `in_flight`, at most this share of the calls under way being retried or hedged at the same time.

    One object may serve any number of policies, threads and event loops; together they keep to one budget. Memory and
    time per operation are constant. After `fork` the child starts with an empty window and so with the full reserve,
    and with nothing in flight. It does not pickle or copy, because a copy would be a second budget.

    Locking: the window is read and changed under `_lock` only, for a few additions; nothing waits while holding it. A
    signal handler may go through the same budget in the midst of that, or end it with an exception: so the lock is
    reentrant, what is counted is one step of the interpreter, and a retry is counted before it is known whether there
    is one, and taken back if not.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_lock",
        "_newest",
        "_retries",
        "_slices",
        "in_flight",
        "per_second",
        "ratio",
        "window",
    )

    def __init__(
        self,
        ratio: float = 0.2,
        *,
        per_second: float = 1.0,
        window: float | timedelta = 10.0,
        in_flight: float | None = None,
    ) -> None:
        """Build a budget with an empty window, and nothing in flight.

        Args:
            ratio: Retries allowed per call (default 0.2; 0 leaves only `per_second`; more than 1 is allowed).
            per_second: Retries a second allowed without any call, for clients with little traffic (default 1). What a
                window of them adds up to may be spent at once.
            window: How long a call counts in favour and a retry against, in seconds or as a `timedelta` (default 10 s,
                at least 1 ms).
            in_flight: In place of these three: which share of the calls under way may be retries and hedges, more than
                0 and at most 1. A call is under way from its beginning to its end, a stream until it is closed; a
                retry from the wait before it to its end. Three are allowed at any time, so that a client with little
                traffic may retry at all. None (default): the window counts.

        Raises:
            TypeError, ValueError: An argument is of a wrong type or value, `in_flight` stands beside one of the others,
                or all of them together never allow a retry although `per_second` is not 0; the message names it.
        """
        self.ratio = number(ratio, "ratio")
        self.per_second = number(per_second, "per_second")
        self.window = seconds(window, "window")
        self.in_flight = None if in_flight is None else share(in_flight, "in_flight")
        if self.in_flight is None:
            self._check_window()
        else:
            self._refuse_beside()
        self._lock = Lock()
        self.after_fork()
        reset_after_fork(self)
        follow_clock(self)

    def _check_window(self) -> None:
        if self.window < _SHORTEST_WINDOW:
            raise ValueError(f"window must be at least {_SHORTEST_WINDOW} seconds, got {self.window:g}")
        if not math.isfinite(self.per_second * self.window):
            raise ValueError(f"per_second must be a finite number over the window, got {self.per_second:g}")
        if self.ratio == 0 < self.per_second and self._allowance(0) < 1:
            raise ValueError(
                f"window must be at least 1 / per_second ({1 / self.per_second:g} seconds) when ratio is 0, "
                f"or no retry is ever allowed, got {self.window:g}"
            )

    def _refuse_beside(self) -> None:
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                raise ValueError(
                    f"in_flight takes the place of ratio, per_second and window, got {name}={value:g} beside it"
                )

    def deposit(self) -> UnderWay:
        """Count a call that begins. Its retries are not calls. Hold what comes back until the call is over, and then
        `end()` it: with `in_flight` the call counts that long."""
        if self.in_flight is not None:
            return UnderWay(self._calls)
        with self._lock:
            self._now().calls += 1
            return _NOT_COUNTED

    def withdraw(self) -> UnderWay | None:
        """Take one retry or hedge out of the budget if there is one, which `end()` ends; None means: do not retry, and
        nothing was taken."""
        with self._lock:
            if self.in_flight is not None:
                retry = UnderWay(self._retries)
                if len(self._retries) <= self._most_in_flight():
                    return retry
                retry.end()
                return None
            now = self._now()
            now.retries += 1
            calls, retries = self._counts()
            if retries <= self._allowance(calls):
                return _NOT_COUNTED
            now.retries -= 1
            return None

    def put_back(self, retry: UnderWay) -> None:
        """Undo the `withdraw` that this came from: the retry was not made."""
        retry.end()
        if retry.lasts:
            return
        with self._lock:
            for each in reversed(list(self._slices.values())):  # the newest first, where it was just now
                if each.retries:
                    each.retries -= 1
                    return

    @property
    def remaining(self) -> int:
        """How many retries could be taken at this moment."""
        with self._lock:
            if self.in_flight is not None:
                return max(0, self._most_in_flight() - len(self._retries))
            self._now()
            calls, retries = self._counts()
            return max(0, math.floor(self._allowance(calls)) - retries)

    def reconfigure(self, new: RetryBudget) -> None:
        """Take over the numbers of `new`, which is made for this and not used otherwise. Calls and retries stay
        counted; in a window of another length each keeps its relative age."""
        with self._lock:
            self._now()
            self.ratio, self.per_second, self.window = new.ratio, new.per_second, new.window
            self.in_flight = new.in_flight
            self._renumber(self._slice_now())

    def describe(self) -> dict[str, Any]:
        """Return options and live state as plain data that `json.dumps` takes: those of the way it counts."""
        if self.in_flight is not None:
            return {
                "in_flight": self.in_flight,
                "calls": len(self._calls),
                "retries": len(self._retries),
                "remaining": self.remaining,
            }
        return {
            "ratio": self.ratio,
            "per_second": self.per_second,
            "window": self.window,
            "remaining": self.remaining,
        }

    def after_fork(self) -> None:
        """Start again in a forked child: an empty window, nothing in flight."""
        self._calls: dict[int, None] = {}
        self._retries: dict[int, None] = {}
        self._slices: dict[int, _Slice] = {}
        self._newest = self._slice_now()

    def clock_changed(self, shift: float) -> None:
        """Start anew with an empty window. What is in flight stays."""
        self._slices = {}
        self._newest = self._slice_now()

    def __repr__(self) -> str:
        if self.in_flight is not None:
            return f"RetryBudget(in_flight={self.in_flight!r})"
        return f"RetryBudget({self.ratio!r}, per_second={self.per_second!r}, window={self.window!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "RetryBudget holds live state and cannot be pickled or copied; share the object, "
            "or build one in each process"
        )

    # The window is cut into slices of a tenth. A call counts in ten slices, the current one included, and a retry in
    # eleven: calls expire up to a slice early and retries up to a slice late, so the promise holds exactly in every
    # window, wherever it begins, and an error of a slice only ever costs a retry.

    def _now(self) -> _Slice:
        """The current slice."""
        # The clock is read under the lock, so it only goes back when somebody has replaced it; nothing expires then.
        now = self._slice_now()
        if now < self._newest:
            self._renumber(now)
        elif now > self._newest:
            self._newest = now
            for number in [number for number in list(self._slices) if number < now - _SLICES]:
                self._slices.pop(number, None)
        current = self._slices.get(now)
        return self._slices.setdefault(now, _Slice()) if current is None else current

    def _counts(self) -> tuple[int, int]:
        """Calls and retries that count now."""
        slices, oldest = list(self._slices.items()), self._newest - _SLICES
        calls = sum([each.calls for number, each in slices if number > oldest])
        return calls, sum([each.retries for _, each in slices])

    def _renumber(self, newest: int) -> None:
        shift = newest - self._newest
        self._slices = {number + shift: each for number, each in self._slices.items()}
        self._newest = newest

    def _slice_now(self) -> int:
        return int(clock.monotonic() * _SLICES // self.window)

    def _allowance(self, calls: int) -> float:
        return self.ratio * calls + self.per_second * self.window + _ROUNDING

    def _most_in_flight(self) -> int:
        return max(_ALWAYS_IN_FLIGHT, math.floor((self.in_flight or 0) * len(self._calls) + _ROUNDING))


def followed(old: RetryBudget | None, new: RetryBudget | None) -> RetryBudget | None:
    """What a layer with the budget `new` goes on with where it takes the place of one with `old`: what is counted stays
    counted."""
    if new is None or old is None or new is old:
        return new
    old.reconfigure(new)
    return old


class _Slice:
    """What happened in a tenth of the window."""

    __slots__ = ("calls", "retries")

    def __init__(self) -> None:
        self.calls = self.retries = 0
