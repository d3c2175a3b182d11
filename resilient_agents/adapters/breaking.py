"""The path of a call through a circuit, the same for our breaker and a native one."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from resilient_agents import events
from resilient_agents.adapters.circuit import (
    Circuit,
    Era,
    Probing,
    Refused,
    Verdict,
    begin_probe,
    end_probe,
)
from resilient_agents.core.call import Call, Neutral, Proceed, unboxed
from resilient_agents.core.clock import clock
from resilient_agents.core.match import When, ask
from resilient_agents.deadline import expired
from resilient_agents.errors import CircuitOpenError, PolicyTimeoutError

__all__ = ["Breaking"]


class Breaking:
    """Admits, runs, judges and records. What a breaker adds is its circuit, its verdict and its options."""

    _circuit: Circuit
    _shadow = False
    _slow_call: float | None = None
    _when: When | None = None

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        era = self._circuit.era
        probing: Probing | None = None
        if not era.closed:
            era = self._admit(call, era)
            probing = begin_probe(era)
        slow_call = self._slow_call  # as it is now: it may change meanwhile
        started = waited = 0.0
        if slow_call is not None:
            started, waited = clock.monotonic(), call.waited
        finished = False
        try:
            result = await proceed(call)
            finished = True
        except Exception as error:
            finished = True
            self._failed(call, era, unboxed(error), slow=_slow(slow_call, call, started, waited))
            raise
        finally:
            if probing is not None:
                end_probe(probing)
            if not finished:
                self._interrupted(call, era)
        if era.idle and call.closers is None and call.permits is None:
            return result
        if call.closers is not None:
            call.closers.append(partial(self._closed, call, era, slow=_slow(slow_call, call, started, waited)))
        else:
            slow = _slow(slow_call, call, started, waited)
            when = self._when
            verdict: Verdict = "neutral"
            try:
                verdict = "failure" if when is not None and ask(when, result) else "success"
            finally:
                self._record(call, era, verdict, None, slow=slow)
        return result

    def recheck(self, call: Call) -> None:
        """A call that waited further inside asks again: the circuit may have opened, and queueing is no probe time."""
        era = self._circuit.era
        if not era.closed and not self._shadow:
            self._admit(call, era)

    def _admit(self, call: Call, seen: Era) -> Era:
        circuit = self._circuit
        try:
            return circuit.admit(call)
        except Refused as refused:
            name = circuit.name or call.name
            if call.audience is not None:
                call.audience.tell(
                    events.CallRejected(
                        call.audience.policy, "circuit_breaker", refused.retry_after, circuit.name, self._shadow
                    )
                )
            if self._shadow:
                return seen
            reason, wait = refused.reason, max(0.0, refused.retry_after)
        finally:
            if circuit.untold:
                circuit.deliver(call.audience)
        raise CircuitOpenError(
            f"{name!r} is {reason}; next probe in {wait:.1f} s",
            policy=call.name,
            strategy="circuit_breaker",
            retry_after=wait,
        )

    def _failed(self, call: Call, era: Era, error: Exception, *, slow: bool) -> None:
        verdict: Verdict = "neutral"  # also where a predicate of the user's raises, whose error then comes out
        try:
            verdict = self._verdict(error)
        finally:
            self._record(call, era, verdict, error, slow=slow)

    def _record(self, call: Call, era: Era, verdict: Verdict, error: Exception | None, *, slow: bool) -> None:
        self._circuit.record(call, era, verdict, error, slow=slow)
        if self._circuit.untold:
            self._circuit.deliver(call.audience)

    def _closed(self, call: Call, era: Era, end: Exception | Neutral | None, *, slow: bool) -> None:
        """A stream ended."""
        if isinstance(end, Exception):
            self._failed(call, era, unboxed(end), slow=slow)
        else:
            self._record(call, era, "neutral" if isinstance(end, Neutral) else "success", None, slow=slow)

    def _interrupted(self, call: Call, era: Era) -> None:
        """Cancelled: neutral, unless a time limit of our own did it and the attempt had all the time it was due."""
        if call.cut_short or not any(limit.own for limit in expired()):
            self._record(call, era, "neutral", None, slow=False)
        else:
            self._failed(call, era, PolicyTimeoutError("cancelled by a time limit"), slow=False)

    def _verdict(self, error: Exception) -> Verdict:
        raise NotImplementedError

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds live state and cannot be pickled: make one in each process")


def _slow(slow_call: float | None, call: Call, started: float, waited: float) -> bool:
    return slow_call is not None and clock.monotonic() - started - (call.waited - waited) >= slow_call
