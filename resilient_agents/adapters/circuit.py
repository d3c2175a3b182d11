"""Admission to one pybreaker circuit and the record of its outcomes, for any number of threads and event loops.

pybreaker keeps the state and counts. It cannot be asked to run the call: it would hold its lock meanwhile, would admit
everybody in half-open, and would credit a success from before an outage to the recovery after it (all three measured
with pybreaker 1.4.1). So a call is admitted here, runs outside of any lock, and its outcome is recorded afterwards.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pybreaker

from resilient_agents.adapters.circuit_changes import Changes
from resilient_agents.adapters.circuit_states import (
    Closed,
    Era,
    HalfOpen,
    Open,
    Opens,
    Outcome,
    Probe,
    Refusal,
    Rules,
    calm_until,
    decide,
    new_window,
    seconds_open,
    shown,
)
from resilient_agents.adapters.counts import Verdict
from resilient_agents.adapters.outcomes import Outcomes
from resilient_agents.base.clock import clock, follow_clock
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.classify import Failure
from resilient_agents.core.audience import Audience
from resilient_agents.core.call import Call
from resilient_agents.core.match import When

__all__ = ["Circuit", "Listener"]


class Circuit(Rules):
    """One circuit over one pybreaker object.

    Locking: `_lock`, which is pybreaker's own, guards the pybreaker object, the era's probes and the outcomes; no
    function of the user's ever runs under it. `_era` is replaced as a whole by the listener. Reading it takes no lock,
    which is all that a call in a healthy circuit does: one atomic read says both whether calls flow and which era this
    is, so there is no moment at which the two disagree. A call that reads a closed era just before the circuit opens
    runs, as any call does that started a moment earlier; its outcome is then compared with the present era under the
    lock and dropped. A success in a calm era is only counted: a failure that ends the calm at the same time is ordered
    after it.
    """

    __slots__ = ("_breaker", "_changes", "_era", "_lock", "_openings", "_outcomes", "_storage", "_why")

    name: str | None
    shadow = False
    when: When | None = None

    def _begin(self, native: pybreaker.CircuitBreaker | None = None) -> None:
        """What follows when the rules are known. `native`: an object of the user's, None for one of our own."""
        self._breaker = breaker = pybreaker.CircuitBreaker() if native is None else native
        self._lock = _inside(breaker, "_lock")
        self._storage = _inside(breaker, "_state_storage")
        self._outcomes = Outcomes()
        self._changes = Changes()
        self._why = Opens("")
        self._openings = 0
        self._era: Era = self._new_era(breaker.current_state)
        # weakly, where it is ours: a circle would have it live, and its name in use, until the garbage collector comes
        changed = type(self)._changed  # noqa: SLF001  # its own
        breaker.add_listener(Listener(weakref.ref(self) if native is None else lambda: self, changed))
        reset_after_fork(self)
        follow_clock(self)

    def _new_era(self, state: str) -> Era:
        why, self._why = self._why, Opens("")
        if state == "closed":
            self._openings = 0
            self._outcomes.begin(new_window(self))
            return Closed()
        self._outcomes.reconfigure(None)
        if state == "half-open":
            return HalfOpen()
        reason = f"open after {why.reason or f'{self._breaker.fail_counter} failures'}"
        return Open(self._open_until(why.hint), reason, why.hint)

    def _open_until(self, hint: float | None) -> float:
        return clock.monotonic() + seconds_open(self, self._openings, hint)

    def _calm(self, era: Closed) -> None:
        """Where a result may turn out to be a failure no success is only counted."""
        era.calm_until = -1.0 if self.when is not None else calm_until(self._outcome(), self)

    def _outcome(self, *, failed: bool = False, slow: bool = False) -> Outcome:
        breaker = self._breaker
        return Outcome(failed, slow, breaker.fail_counter, breaker.success_counter, self._outcomes.window)

    def _changed(self, old: str, new: str) -> None:
        """pybreaker changed state, on our order or (a native breaker) on somebody else's; it holds its lock meanwhile.

        Ordered into the state that it is in, the circuit begins that state again, and there is no change to tell of.
        """
        if new == "open" and old != new:
            self._openings += 1
        before, self._era = self._era, self._new_era(new)
        if isinstance(before, Closed):
            before.calm_until = -1.0
        if old != new:
            self._outcomes.transitions += 1
            self._changes.add(self.name or "", old, new, shadow=self.shadow)

    def _let_in(self, call: Call, *, again: bool) -> Era | Refusal:
        """The era in which `call` may run. In half-open it holds a permit afterwards, or is inside a call that does.
        `again`: it had been let in, and has waited; if it is refused now it counts as a rejection, and not as a call,
        too."""
        with self._lock:
            now = clock.monotonic()
            era = self._era  # once: a signal handler may call through this circuit, or close it, between two looks
            if isinstance(era, Open) and now >= era.until:
                self._breaker.half_open()
                era = self._era
            refusal = None
            if isinstance(era, Open):
                refusal = Refusal(era.reason, era.until - now)
            elif isinstance(era, HalfOpen):
                refusal = self._let_probe(call, era, now)
            if refusal is None:
                return era
            self._outcomes.rejections += 1
            if again:
                self._end_probe(call)
                call.marks = {**(call.marks or {}), self: Probe(None)}
            return refusal

    def _let_probe(self, call: Call, era: HalfOpen, now: float) -> Refusal | None:
        found = era.permit(self._probe_of(call), self.half_open_calls, now)
        if isinstance(found, Probe):
            # First, so that the end of the call takes it back, whatever happens next.
            call.marks = {**(call.marks or {}), self: found}
            era.lend(found, now + seconds_open(self, self._openings))
        return found if isinstance(found, Refusal) else None

    def _end_probe(self, call: Call) -> Probe | None:
        probe = self._probe_of(call)
        if probe is not None:
            probe.over = True
        return probe

    def _probe_of(self, call: Call) -> Probe | None:
        probe: Probe | None = None if call.marks is None else call.marks.get(self)
        return None if probe is None or probe.over else probe

    def _note(
        self,
        call: Call,
        era: Era,
        verdict: Verdict,
        error: Exception | None,
        failure: Failure | None,
        seconds: float | None,
        *,
        slow: bool,
    ) -> None:
        """The outcome of a call admitted in `era`. A neutral one only returns the permit, one of an earlier era is only
        counted. `seconds`: how long it took, None if it was not timed."""
        with self._lock:
            now = clock.monotonic()
            probe = self._end_probe(call)
            if probe is None or probe.era is not None or verdict != "neutral":  # else refused late, and counted as that
                self._outcomes.record(verdict, failure)
            if verdict != "neutral":
                failed = verdict == "failure"
                self._outcomes.keep(era, self, now, seconds, failed=failed)
                probed = None if probe is None else probe.era
                if probed is not None:  # also by one that took so long that it lost its permit: it is what is known
                    era = probed
                if era is self._era and not isinstance(era, Open) and (era.closed or era is probed):
                    self._conclude(era, now, error, failure if failed else None, slow=slow)
        self._deliver(call.audience)

    def _conclude(
        self, era: Closed | HalfOpen, now: float, error: Exception | None, failure: Failure | None, *, slow: bool
    ) -> None:
        """Count, decide, and act on it."""
        storage, failed = self._storage, failure is not None
        if isinstance(era, Closed):
            if self._outcomes.window is not None:
                self._outcomes.window.record(now, failed=failed, slow=slow)
            if failed:
                storage.increment_counter()
            elif storage.counter:
                storage.reset_counter()
        elif not failed and not slow:
            storage.increment_success_counter()
        match decide(era, self._outcome(failed=failed, slow=slow), self):
            case Opens(reason):
                self._why = Opens(reason, None if failure is None else failure.retry_after)
                self._breaker.open()
            case str():
                self._breaker.close()
            case None:
                if isinstance(era, Closed):
                    self._calm(era)

    def _order(self, change: Callable[[pybreaker.CircuitBreaker], object]) -> None:
        with self._lock:
            self._why = Opens("being opened by hand")
            change(self._breaker)
        self._deliver(None)

    def metrics(self) -> dict[str, Any]:
        """What happened so far, in one snapshot of plain data.

        - `state`, and `retry_after`, the seconds until an open circuit is half-open (None when it is not open).
        - Since the breaker was made or `reset_metrics` called: the `calls` that ended, which are `successes`,
          `failures` and `neutral` ones, and `rejections` (in shadow: those that would have been) and `transitions`. A
          call that queued inside and found the circuit open then is a rejection only.
        - Over the last `window` seconds or the last `window_calls` calls: `failure_rate`, `slow_rate`,
          `average_duration` and `p99_duration`, in seconds without those spent queueing; None where there is nothing to
          tell them from. A stream takes as long as its first item. They look at the newest 1,000 calls that were timed
          and were not neutral; where there are more than 1,000 a second, one in 31 is timed. The `failure_rate` and the
          `slow_rate` of a breaker with a window are those that it decides by, of all calls in it.
        - What the rules look at: `consecutive_failures`, `window` (None for a breaker that keeps none), and how many
          `probes` are out.
        - `recent_failures`: the last 50 as (Unix time, kind, status), the newest last.
        """
        with self._lock:
            now, era = clock.monotonic(), self._era
            state, retry_after = shown(era, now)
            return {
                "state": state,
                **self._outcomes.counts(),
                "consecutive_failures": self._breaker.fail_counter if era.closed else 0,
                **self._outcomes.figures(now, self),
                "probes": len(era.out(now)) if isinstance(era, HalfOpen) else 0,
                "retry_after": retry_after,
            }

    def reset_metrics(self) -> None:
        """Count from zero again. State and window, by which the breaker decides, stay."""
        with self._lock:
            self._outcomes.reset()

    def _deliver(self, audience: Audience | None) -> None:
        """Tell of the changes so far; called after every step that may have changed the state."""
        changes = self._changes
        if changes.waiting:
            with self._lock:
                changes.claim(audience)
            changes.tell()

    def after_fork(self) -> None:
        """In a forked child: the state stays, the permits of the parent's calls and all locks do not."""
        self._lock._at_fork_reinit()  # noqa: SLF001 - as `threading` resets its own
        self._changes = Changes()
        if isinstance(self._era, HalfOpen):
            self._era.probes.clear()

    def clock_changed(self, shift: float) -> None:
        """What is left of an opening stays; what a closed circuit has counted is forgotten."""
        with self._lock:
            era = self._era
            if isinstance(era, Closed):
                era.calm_until = -1.0
                self._era = self._new_era("closed")
            else:
                era.shift(shift)


def _inside(breaker: pybreaker.CircuitBreaker, name: str) -> Any:
    """What a pybreaker object has no public name for. Raises TypeError where it is not found: to go on with something
    in its place, such as a lock of our own, would work until it matters."""
    try:
        return getattr(breaker, name)
    except AttributeError:
        raise TypeError(
            f"this {type(breaker).__name__} of pybreaker has no {name}, which a policy needs: "
            f"use a release of pybreaker that has it, or resilient_agents.CircuitBreaker"
        ) from None


class Listener(pybreaker.CircuitBreakerListener):
    """Tells the circuit, as long as there is one."""

    def __init__(self, circuit: Callable[[], Circuit | None], changed: Callable[[Any, str, str], None]) -> None:
        self._circuit = circuit
        self._changed = changed

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        circuit = self._circuit()
        if circuit is not None:
            self._changed(circuit, old_state.name if old_state is not None else "closed", new_state.name)
