"""Admission to one pybreaker circuit and the record of its outcomes, for any number of threads and event loops.

pybreaker keeps the state, counts, and decides when consecutive failures trip. It cannot be asked to run the call: it
would hold its lock meanwhile, would admit everybody in half-open, and would credit a success from before an outage to
the recovery after it (all three measured with pybreaker 1.4.1). So a call is admitted here, runs outside of any lock,
and pybreaker is told its outcome afterwards.

An *era* is the time between two changes of state. Each is an object of its own, so a call that remembers the era in
which it was admitted can tell whether its outcome still means anything, and what exists only while half-open stands on
the half-open era.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import pybreaker

from resilient_agents import events
from resilient_agents.adapters.sliding_window import Window
from resilient_agents.adapters.tally import BreakerTally, Ticks, Verdict, rates_and_durations
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure
from resilient_agents.core.call import Audience, Call
from resilient_agents.errors import CircuitOpenError

__all__ = [
    "Circuit",
    "Closed",
    "Era",
    "HalfOpen",
    "Listener",
    "Open",
    "Probe",
    "Refused",
    "Trip",
    "inside",
]


class Closed:
    """Calls flow. `idle`: a success changes nothing, so all there is to record is a tick. `timed`: is the next call to
    be timed?"""

    __slots__ = ("failing", "idle", "ticks", "timed", "window")
    closed: Final = True
    name: Final = "closed"

    def __init__(self, window: Window | None, ticks: Ticks, *, idle: bool) -> None:
        self.window = window
        self.ticks = ticks
        self.idle = idle
        self.timed = True
        self.failing = False


class Open:
    """Calls are refused `until` a moment of the monotonic clock."""

    __slots__ = ("reason", "until")
    closed: Final = False
    idle: Final = False
    timed: Final = True
    name: Final = "open"

    def __init__(self, until: float, reason: str) -> None:
        self.until = until
        self.reason = reason


class Probe:
    """The permit of one call in a half-open circuit, and the mark in the context by which the calls inside know that
    they are part of a probe: an agent and its tool may share a breaker, and the tool's call must not be refused for
    want of the permit that the agent's holds.

    `until`: when the permit is forfeited, so that a probe that hangs blocks nobody for ever. `over`: the call has
    ended. Setting it takes back the permit, and the mark in every context that has copied it, in one step that no
    exception from outside can divide.
    """

    __slots__ = ("era", "over", "until")

    def __init__(self, era: HalfOpen) -> None:
        self.era = era
        self.until = 0.0
        self.over = False

    def resume(self) -> None:
        """Mark this context, in which the call goes on."""
        marks = _probing.get()
        if not self.over and self not in marks:
            _probing.set((*(mark for mark in marks if not mark.over), self))

    def suspend(self) -> None:
        """Take the mark out of this context, in which the call does not go on for now, or any more."""
        marks = _probing.get()
        if self in marks:
            _probing.set(tuple(mark for mark in marks if mark is not self))


class HalfOpen:
    """A few calls probe."""

    __slots__ = ("probes",)
    closed: Final = False
    idle: Final = False
    timed: Final = True
    name: Final = "half-open"

    def __init__(self) -> None:
        self.probes: list[Probe] = []

    def out(self, now: float) -> list[Probe]:
        """The probes that hold a permit."""
        self.probes = [probe for probe in self.probes if not probe.over and probe.until > now]
        return self.probes

    def covers_caller(self) -> bool:
        """Is this asked from inside of a probe?"""
        return any(mark.era is self and not mark.over for mark in _probing.get())


Era = Closed | Open | HalfOpen

_probing: ContextVar[tuple[Probe, ...]] = ContextVar("resilient_agents_probing", default=())

_CHANGES: Final = {"open": events.CircuitOpened, "half-open": events.CircuitHalfOpened, "closed": events.CircuitClosed}


@dataclass(frozen=True, slots=True)
class Trip:
    """When a window trips: a share of at least `minimum_calls` failed, or was slow. None switches a rule off.

    Shares are quotients, as the rates are: 7 of 25 is the same number as 0.28, while 25 times 0.28 is more than 7.
    """

    failure_rate: float | None
    slow_rate: float | None
    minimum_calls: int

    def reason(self, window: Window) -> str | None:
        if window.calls < self.minimum_calls:
            return None
        if self.failure_rate is not None and _reaches(window.failures / window.calls, self.failure_rate):
            return f"{window.failures} of {window.calls} calls failed"
        if self.slow_rate is not None and _reaches(window.slow / window.calls, self.slow_rate):
            return f"{window.slow} of {window.calls} calls were slow"
        return None


class Refused(Exception):
    """No admission: why, and after how many seconds it is worth asking again."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Circuit:
    """One circuit over one pybreaker object.

    Locking: `_lock`, which is pybreaker's own, guards the pybreaker object, the era's permits and window, and the
    counters; no function of the user's ever runs under it. `era` is replaced as a whole by the listener. Reading it
    takes no lock, which is all that a call in a healthy circuit does: one atomic read says both whether calls flow and
    which era this is, so there is no moment at which the two disagree. A call that reads a closed era just before the
    circuit opens runs, as any call does that started a moment earlier; its outcome is then compared with the present
    era under the lock and dropped. A success in an idle era is not recorded at all: a failure that makes the era
    un-idle at the same time is ordered after it.
    """

    def __init__(
        self,
        breaker: pybreaker.CircuitBreaker,
        *,
        reset_after: Callable[[int], float],
        half_open_calls: int = 1,
        new_window: Callable[[], Window] | None = None,
        trip: Trip | None = None,
        judges_results: bool = False,
        opened_at: Callable[[], float] | None = None,
        tells_all: bool = False,
        shadow: bool = False,
    ) -> None:
        self.breaker = breaker
        self.half_open_calls = half_open_calls
        self.tally = BreakerTally()
        self.late: weakref.WeakSet[CircuitOpenError] = weakref.WeakSet()
        """Refusals of calls that had been admitted and queued inside: counted as rejections, and not as calls, too."""
        self._reset_after = reset_after
        self._opened_at = opened_at
        self._new_window = new_window
        self._trip = trip
        self._idle = new_window is None and not judges_results and not tells_all
        self._tells_all = tells_all
        self._shadow = shadow
        self._lock = _lock_of(breaker)
        self._openings = 0
        self._reason = ""
        self._changes: deque[events.CircuitChanged] = deque()
        self._pending: deque[tuple[events.CircuitChanged, Audience | None]] = deque()
        self._tellers: list[object] = []
        if breaker.current_state == "open":
            self._openings = 1
        self.era: Era = self._new_era(breaker.current_state)
        breaker.add_listener(Listener(self))

    @property
    def name(self) -> str | None:
        return self.breaker.name

    def _new_era(self, state: str) -> Era:
        if state == "closed":
            self._openings = 0
            self.tally.forget_durations()  # so that they are those of the window
            window = self._new_window() if self._new_window is not None else None
            return Closed(window, self.tally.ticks, idle=self._idle)
        if state == "half-open":
            return HalfOpen()
        reason, self._reason = self._reason, ""
        return Open(self._open_until(), reason or f"{self.breaker.fail_counter} failures")

    def _open_until(self) -> float:
        opened = clock.monotonic() if self._opened_at is None else self._opened_at()
        return opened + self._reset_after(max(1, self._openings))

    def changed(self, old: str, new: str) -> None:
        """pybreaker changed state, on our order or (a native breaker) on somebody else's; it holds its lock meanwhile.

        Ordered into the state that it is in, the circuit begins that state again, and there is no change to tell of.
        """
        if new == "open" and old != new:
            self._openings += 1
        self.era = self._new_era(new)
        if old != new:
            self.tally.transitions += 1
            change = _CHANGES[new]("", self.name or "", old, new, self._shadow)  # type: ignore[arg-type]  # its names
            self._changes.append(change)

    def admit(self, call: Call) -> Era:
        """The era in which `call` may run. In half-open it holds a permit afterwards. Raises Refused."""
        with self._lock:
            now = clock.monotonic()
            if isinstance(self.era, Open) and now >= self.era.until:
                self.breaker.half_open()
            era = self.era
            if isinstance(era, Open):
                self.tally.rejections += 1
                raise Refused(f"open after {era.reason}", era.until - now)
            if isinstance(era, HalfOpen):
                self._let_probe(call, era, now)
            return era

    def _let_probe(self, call: Call, era: HalfOpen, now: float) -> None:
        """Give the call a permit, a fresh lease of the one that it has, or neither where a call around it decides."""
        probe = self.probe_of(call)
        out = era.out(now)
        if probe is None or probe not in out:
            if probe is None and era.covers_caller():
                return
            if len(out) >= self.half_open_calls:
                self.tally.rejections += 1
                raise Refused("half-open and all its probes are taken", min(probe.until for probe in out) - now)
            if probe is None or probe.era is not era:
                if call.probes is None:
                    call.probes = {}
                call.probes[self] = probe = Probe(era)  # so that its end takes it back, whatever happens next
            out.append(probe)
        probe.until = now + self._reset_after(max(1, self._openings))
        probe.resume()

    def probe_of(self, call: Call) -> Probe | None:
        """What `call` probes this circuit with."""
        probe: Probe | None = None if call.probes is None else call.probes.get(self)
        return None if probe is None or probe.over else probe

    def record(
        self,
        call: Call,
        era: Era,
        verdict: Verdict,
        error: Exception | None,
        failure: Failure | None,
        *,
        seconds: float | None,
        slow: bool,
    ) -> None:
        """The outcome of a call admitted in `era`. A neutral one only returns the permit, one of an earlier era is only
        counted. `seconds`: how long it took, None if it was not timed."""
        with self._lock:
            ended = clock.monotonic()
            probe = self.probe_of(call)
            if probe is not None:
                probe.over = True
            if type(error) is not CircuitOpenError or error not in self.late:  # others may have no hash
                self.tally.record(verdict, failure)
            if verdict != "neutral":
                self._time(era, ended, seconds, failed=verdict == "failure")
            if probe is not None:
                era = probe.era
            if era is not self.era or verdict == "neutral" or isinstance(era, Open):
                return
            if isinstance(era, HalfOpen):
                if probe is not None:  # also a probe that took so long that it lost its permit: it is what is known
                    self._tell_breaker(failed=verdict == "failure" or slow, error=error)
                return
            failed = verdict == "failure"
            if era.window is not None:
                era.window.record(ended, failed=failed, slow=slow)
            if failed:
                era.failing, era.idle = True, False
            if failed or era.failing or self._tells_all:
                self._tell_breaker(failed=failed, error=error)
            if not failed and era.failing:
                era.failing, era.idle = False, self._idle
            if era is self.era and era.window is not None and self._trip is not None:
                reason = self._trip.reason(era.window)
                if reason is not None:
                    self._reason = reason
                    self.breaker.open()

    def _time(self, era: Era, ended: float, seconds: float | None, *, failed: bool) -> None:
        """Keep how long a call took; where the circuit is busy, of one in many."""
        tally = self.tally
        if isinstance(era, Closed) and (self._trip is None or self._trip.slow_rate is None):
            if seconds is not None:
                era.timed = tally.timed(ended, seconds, failed=failed)
            elif tally.one_in_many():
                era.timed = True
            return
        # Here all calls are timed, to tell the slow ones.
        if seconds is not None and (not tally.busy or tally.one_in_many()):
            tally.timed(ended, seconds, failed=failed)
        if isinstance(era, Closed):
            era.timed = True  # a reload may have brought that rule to a busy circuit

    def _tell_breaker(self, *, failed: bool, error: Exception | None) -> None:
        if failed and isinstance(self.era, HalfOpen):
            self._reason = "a failed probe"
        # A native breaker has exclusions and listeners, which are to see the user's own error.
        told = None if not failed else error if error is not None and self._tells_all else _Failure()
        traceback = None if told is None else told.__traceback__
        try:
            self.breaker.call(_end, told)
        except BaseException as raised:
            # What it was told, or in its place pybreaker's own; or an exception from outside, which goes on as itself.
            came = raised.__context__ if isinstance(raised, pybreaker.CircuitBreakerError) else raised
            if came is not None and came is not told and came is not error:
                raise came from None
        finally:
            if told is not None:
                BaseException.with_traceback(told, traceback)  # errors may refuse the assignment

    def open(self, reason: str) -> None:
        with self._lock:
            self._reason = reason
            self.breaker.open()
            self._reason = ""

    def close(self) -> None:
        with self._lock:
            self.breaker.close()

    def half_open(self) -> None:
        with self._lock:
            self.breaker.half_open()

    def shield(self, is_safe: Callable[[object], bool], shield: Callable[[Any], Any]) -> None:
        """Put `shield` around the listeners that are not safe yet. They are the last ones, added since the last
        look."""
        with self._lock:
            for listener in self.breaker.listeners:
                if not is_safe(listener):
                    self.breaker.remove_listener(listener)
                    self.breaker.add_listener(shield(listener))

    def reconfigure(self, new: Circuit) -> None:
        """Take over the numbers of `new`; state, window and counts stay. Nothing trips before the next outcome. An open
        circuit does not stay open longer than the new reset timeout from now on."""
        with self._lock:
            for number in ("fail_max", "reset_timeout", "success_threshold"):
                setattr(self.breaker, number, getattr(new.breaker, number))
            self.half_open_calls = new.half_open_calls
            self._reset_after = new._reset_after
            self._new_window = new._new_window
            self._trip = new._trip
            self._idle = new._idle
            self._shadow = new._shadow
            era = self.era
            if isinstance(era, Closed):
                fresh = self._new_window() if self._new_window is not None else None
                era.window = fresh if fresh is None else fresh.following(era.window)
                era.idle = self._idle and not era.failing
                era.timed = True  # the rules may look at that now
            elif isinstance(era, Open):
                era.until = min(era.until, clock.monotonic() + self._reset_after(max(1, self._openings)))

    def sync(self) -> None:
        """Notice what happened past the policy: a change of state or another opening in a storage shared with others,
        another `reset_timeout`."""
        if self.breaker.current_state != self.era.name:
            with self._lock:
                state = self.breaker.state.name  # tells the listeners, unless the object was made in that state
                if state != self.era.name:
                    self.changed(self.era.name, state)
        era = self.era
        if isinstance(era, Open):
            era.until = self._open_until()

    def metrics(self, reach: float, calls: int | None, slow_call: float | None) -> dict[str, Any]:
        """One snapshot. Rates and durations are those of the last `reach` seconds, or of the last `calls`."""
        with self._lock:
            now = clock.monotonic()
            era = self.era
            aged = isinstance(era, Open) and now >= era.until
            figures = rates_and_durations(self.tally.within(now - reach, calls), slow_call)
            window = era.window if isinstance(era, Closed) else None
            if window is not None:
                window.age(now)
                if window.calls:  # what it decides by, which may be more than the tally keeps
                    figures["failure_rate"] = window.failures / window.calls
                    if slow_call is not None:
                        figures["slow_rate"] = window.slow / window.calls
            return {
                "state": "half-open" if aged else era.name,
                **self.tally.counts(),
                "consecutive_failures": self.breaker.fail_counter if era.closed else 0,
                "window": None
                if window is None
                else {"calls": window.calls, "failures": window.failures, "slow": window.slow},
                **figures,
                "probes": len(era.out(now)) if isinstance(era, HalfOpen) else 0,
                "retry_after": era.until - now if isinstance(era, Open) and not aged else None,
                "recent_failures": list(self.tally.recent),
            }

    def reset_metrics(self) -> None:
        with self._lock:
            self.tally.reset()

    def deliver(self, audience: Audience | None) -> None:
        """Tell of the changes so far, each once and in order; called after every step that may have changed the state.

        Two threads that change the state one after the other must not tell of it in the other order. So the first of
        `_tellers` tells for all, while the others go on: nobody ever waits. Whoever adds a change after the teller's
        last look finds nobody telling. (It is no lock, as an exception from outside may land between taking one and
        the `try` that gives it back.)
        """
        with self._lock:
            while self._changes:
                self._pending.append((self._changes.popleft(), audience))
        tellers, me = self._tellers, object()
        while self._pending and not tellers:
            try:
                tellers.append(me)
                while tellers[0] is me and self._pending:
                    self._tell(*self._pending.popleft())
            finally:
                if me in tellers:
                    tellers.remove(me)

    def _tell(self, change: events.CircuitChanged, audience: Audience | None) -> None:
        if audience is None:
            events.publish(change)
        else:
            change.policy = audience.policy
            change.circuit_breaker = change.circuit_breaker or audience.policy
            audience.tell(change)

    @property
    def untold(self) -> bool:
        """Is there a change to deliver?"""
        return bool(self._changes or self._pending)

    def after_fork(self) -> None:
        """In a forked child: the state stays, the permits of the parent's calls and everybody's locks do not."""
        vars(self.breaker)["_lock"] = self._lock = threading.RLock()
        self._tellers = []
        self.tally.reset()
        if isinstance(self.era, HalfOpen):
            self.era.probes.clear()


def _lock_of(breaker: pybreaker.CircuitBreaker) -> threading.RLock:
    """pybreaker's own lock, so that there is one: a native object may also be used past the policy."""
    lock: threading.RLock = inside(breaker, "_lock")
    return lock


def inside(breaker: pybreaker.CircuitBreaker, name: str) -> Any:
    """What a pybreaker object has no public name for. Raises TypeError where it is not found: to go on with something
    in its place, such as a lock of our own, would work until it matters."""
    try:
        return getattr(breaker, name)
    except AttributeError:
        raise TypeError(
            f"this {type(breaker).__name__} of pybreaker has no {name}, which a policy needs: "
            f"use a release of pybreaker that has it, or resilient_agents.CircuitBreaker"
        ) from None


def _reaches(share: float, rate: float) -> bool:
    """Is it at least the rate? The billionth is for rates that were computed, such as 0.1 + 0.2."""
    return share >= rate * (1 - 1e-9)


class _Failure(Exception):
    """Stands for a failure in what pybreaker is told: it counts them, and need not see the user's."""


class Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._circuit.changed(old_state.name if old_state is not None else "closed", new_state.name)


def _end(error: Exception | None) -> None:
    if error is not None:
        raise error
