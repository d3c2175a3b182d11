"""A retry budget: retries may be a share of the traffic, whatever each call would like.

Three attempts a call are three times the load on a dependency that is already failing. A budget shared by every policy
that talks to one dependency bounds that: while most calls succeed nobody notices it, and in an outage the retries
shrink to `ratio` of the calls.

    budget = RetryBudget(0.2, per_second=1.0)      # in any 10 s: at most 20 % of the calls, plus 10
    read = Policy(Retry(3, budget=budget))
    write = Policy(Retry(2, budget=budget))

Source: Finagle's `RetryBudget` (a leaky token bucket: deposits and withdrawals expire, a reserve of
`minRetriesPerSec * ttl` stays; ratio 0.2 and 10 s are its defaults). Relatives: nopanic's `RetryBudget`, whose floor of
one a second is ours; failsafe-go's budget, which limits the share of retries *in flight* instead.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, NoReturn

from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.durations import number, seconds
from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.base.spelling import Spelled

__all__ = ["RetryBudget"]

_SLICES = 10
_SHORTEST_WINDOW = 0.001
_ROUNDING = 1e-9  # 100 calls at a ratio of 0.29 allow 29 retries, not the 28.999999999999996 of float arithmetic


class RetryBudget(Spelled):
    """At most `ratio` retries per call, plus `per_second` retries a second, over any `window` seconds.

    One object may serve any number of policies, threads and event loops; together they keep to one budget. Memory and
    time per operation are constant. After `fork` the child starts with an empty window and so with the full reserve.
    It does not pickle or copy, because a copy would be a second budget.

    Locking: the window is read and changed under `_lock` only, for a few additions; nothing waits while holding it. A
    signal handler may go through the same budget in the midst of that, or end it with an exception: so the lock is
    reentrant, what is counted is one step of the interpreter, and a retry is counted before it is known whether there
    is one, and taken back if not.
    """

    __slots__ = ("__weakref__", "_lock", "_newest", "_slices", "per_second", "ratio", "window")

    def __init__(self, ratio: float = 0.2, *, per_second: float = 1.0, window: float | timedelta = 10.0) -> None:
        """Build a budget with an empty window.

        Args:
            ratio: Retries allowed per call (default 0.2; 0 leaves only `per_second`; more than 1 is allowed).
            per_second: Retries a second allowed without any call, for clients with little traffic (default 1). What a
                window of them adds up to may be spent at once.
            window: How long a call counts in favour and a retry against, in seconds or as a `timedelta` (default 10 s,
                at least 1 ms).

        Raises:
            TypeError, ValueError: An argument is of a wrong type or value, or all of them together never allow a
                retry although `per_second` is not 0; the message names it.
        """
        self.ratio = number(ratio, "ratio")
        self.per_second = number(per_second, "per_second")
        self.window = seconds(window, "window")
        if self.window < _SHORTEST_WINDOW:
            raise ValueError(f"window must be at least {_SHORTEST_WINDOW} seconds, got {self.window:g}")
        if not math.isfinite(self.per_second * self.window):
            raise ValueError(f"per_second must be a finite number over the window, got {self.per_second:g}")
        if self.ratio == 0 < self.per_second and self._allowance(0) < 1:
            raise ValueError(
                f"window must be at least 1 / per_second ({1 / self.per_second:g} seconds) when ratio is 0, "
                f"or no retry is ever allowed, got {self.window:g}"
            )
        self._lock = Lock()
        self.after_fork()
        reset_after_fork(self)
        follow_clock(self)

    def deposit(self) -> None:
        """Count a call that begins. Its retries are not calls."""
        with self._lock:
            self._now().calls += 1

    def withdraw(self) -> bool:
        """Take one retry out of the budget if there is one; False means: do not retry, and nothing was taken."""
        with self._lock:
            now = self._now()
            now.retries += 1
            calls, retries = self._counts()
            if retries <= self._allowance(calls):
                return True
            now.retries -= 1
            return False

    @property
    def remaining(self) -> int:
        """How many retries could be taken at this moment."""
        with self._lock:
            self._now()
            calls, retries = self._counts()
            return max(0, math.floor(self._allowance(calls)) - retries)

    def reconfigure(self, new: RetryBudget) -> None:
        """Take over the numbers of `new`, which is made for this and not used otherwise. Calls and retries stay
        counted; in a window of another length each keeps its relative age."""
        with self._lock:
            self._now()
            self.ratio, self.per_second, self.window = new.ratio, new.per_second, new.window
            self._renumber(self._slice_now())

    def describe(self) -> dict[str, Any]:
        """Return options and live state as plain data that `json.dumps` takes."""
        return {
            "ratio": self.ratio,
            "per_second": self.per_second,
            "window": self.window,
            "remaining": self.remaining,
        }

    def after_fork(self) -> None:
        """Start again in a forked child: an empty window."""
        self._slices: dict[int, _Slice] = {}
        self._newest = self._slice_now()

    def clock_changed(self, shift: float) -> None:
        """Start anew with an empty window."""
        self.after_fork()

    def __repr__(self) -> str:
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


class _Slice:
    """What happened in a tenth of the window."""

    __slots__ = ("calls", "retries")

    def __init__(self) -> None:
        self.calls = self.retries = 0
