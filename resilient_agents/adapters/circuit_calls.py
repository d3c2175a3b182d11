"""The path of a call through a circuit, the same for our breaker and a native one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from resilient_agents import events
from resilient_agents.adapters.circuit import Circuit
from resilient_agents.adapters.circuit_states import FOREVER, Era, Open, Refusal
from resilient_agents.adapters.counts import Verdict
from resilient_agents.adapters.outcomes import is_slow
from resilient_agents.base.clock import clock
from resilient_agents.classify import Failure, classify_result
from resilient_agents.core.call import Call, Neutral, Proceed, unboxed
from resilient_agents.core.closing import close_lost
from resilient_agents.core.invoke import PLAIN
from resilient_agents.core.match import ask
from resilient_agents.core.opening import Opened
from resilient_agents.core.tap import tap
from resilient_agents.deadline import expired
from resilient_agents.errors import CircuitOpenError, PolicyTimeoutError, Rejected, circuit_open

__all__ = ["NEARLY", "QUICK", "SLOW", "Breaker"]


class Heard(Protocol):
    """A gate that somebody else may hear answers for."""

    pace: Any
    counts: Any

    def execute(self, proceed: Proceed, call: Call, /) -> Awaitable[Any]: ...
    def failed(self, call: Call, error: BaseException, batch: int, /) -> None: ...
    def answered(self, result: Any, batch: int, /) -> None: ...
    def note(self, number: int, /) -> None: ...


NEARLY: Final = 0.1
"""Share of `slow_call` by which a call may miss it for it to be told whether it was slow."""

SLOW: Final = "slow"
QUICK: Final = "quick"


class Breaker(Circuit):
    """Admits, runs, judges and records. What a breaker adds is its verdict and its options."""

    __slots__ = ()

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        era = self._era
        if not era.untimed and type(era) is Open and not self.shadow:
            # Refused before there is a coroutine, and without a lock.
            left = era.until - clock.monotonic()
            if left > 0:
                self._outcomes.rejections += 1
                raise self._refused(call, era.reason, left)
        return self._run(proceed, call, era)

    def execute_around(self, gate: Heard, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """`execute` around a gate that `proceed` is inside of. While nobody waits there it is heard for from here,
        which spares it a layer of its own."""
        era, pace = self._era, gate.pace
        if pace.shut or (not era.untimed and type(era) is Open):
            return self.execute(partial(gate.execute, proceed), call)
        return self._run(proceed, call, era, gate, pace.batch)

    async def _run(self, proceed: Proceed, call: Call, era: Era, gate: Heard | None = None, batch: int = 0) -> Any:
        since: float | None = None
        lasting = False
        try:
            if era.untimed:
                era.untimed -= 1
            else:
                if not era.closed:
                    era = self._admit(call, era)
                since = clock.monotonic() - call.rare.waited
            try:
                result = await proceed(call)
                if gate is not None:
                    if type(result) not in PLAIN:
                        gate.answered(result, batch)
                    else:
                        counts = gate.counts
                        counts.at_once = number = counts.at_once + 1
                        if number >= gate.pace.answers.due:
                            gate.note(number)
            except Exception as error:
                if gate is not None:
                    gate.failed(call, error, batch)
                self._failed(call, era, unboxed(error), _taken(call, since))
                raise
            except BaseException:
                self._interrupted(call, era, _taken(call, since))
                raise
            if call.rare.closers is not None:
                # How long its consumer takes is not the dependency's affair.
                call.rare.closers.append(partial(self._closed, call, era, _taken(call, since)))
                lasting = True
                if isinstance(result, Opened) and (probe := self._probe_of(call)) is not None:
                    tap(result, probe)
            elif since is None and (era.calm_until is FOREVER or clock.monotonic() < era.calm_until):
                self._outcomes.successes += 1
            else:
                try:
                    self._succeeded(call, era, result, since)
                except Exception:
                    await close_lost(call, result)
                    raise
            return result
        finally:
            if call.rare.marks is not None and self in call.rare.marks:
                probe = call.rare.marks[self]
                if not lasting:
                    probe.over = True  # first, and without a function call, after which an exception might land
                probe.suspend()

    def recheck(self, call: Call) -> None:
        """A call that waited further inside asks again: the circuit may have opened, and queueing is no probe time."""
        era = self._era
        if not era.closed and not self.shadow:
            self._admit(call, era, again=True)

    def _admit(self, call: Call, seen: Era, *, again: bool = False) -> Era:
        admitted = self._let_in(call, again=again)
        self._deliver(call.audience)
        if not isinstance(admitted, Refusal):
            return admitted
        refused = self._refused(call, admitted.reason, admitted.retry_after)
        if self.shadow:
            return seen
        raise refused

    def _refused(self, call: Call, reason: str, wait: float) -> CircuitOpenError:
        audience = call.rare.audience
        if audience is not None:
            audience.tell(events.CallRejected(audience.policy, "circuit_breaker", wait, self.name, self.shadow))
        policy = call.plan.name or call.name
        return circuit_open(self.name or policy, reason, policy, wait)

    def _succeeded(self, call: Call, era: Era, result: Any, since: float | None) -> None:
        now = clock.monotonic()
        seconds = None if since is None else now - call.rare.waited - since
        slow = self.slow_call is not None and seconds is not None and self._slow(call, seconds)
        if now < era.calm_until and not slow:
            self._outcomes.successes += 1
            self._outcomes.keep(era, self, now, seconds, failed=False)
            return
        when = self.when
        verdict: Verdict = "neutral"  # also where a predicate of the user's raises, whose error then comes out
        failure: Failure | None = None
        try:
            verdict = "failure" if when is not None and ask(when, result) else "success"
            if verdict == "failure":
                failure = classify_result(result)
        finally:
            if verdict != "success":
                hint = None if failure is None else failure.retry_after
                self._tell(call, "result" if verdict == "failure" else verdict, hint)
            self._record(call, era, verdict, None, failure, seconds, slow=slow)

    def _failed(self, call: Call, era: Era, error: Exception, seconds: float | None) -> None:
        verdict: Verdict = "neutral"
        failure = call.failure(error)
        try:
            verdict = self._verdict(error, failure)
        finally:
            if self.asks and not isinstance(error, Rejected):
                self._tell(call, verdict)
            self._record(call, era, verdict, error, failure, seconds)

    def _tell(self, call: Call, what: str, hint: float | None = None) -> None:
        audience = call.rare.audience
        if audience is not None:
            audience.decided(self, what, hint=hint)

    def _slow(self, call: Call, seconds: float) -> bool:
        """Did it take `slow_call` seconds? Where it nearly did, or hardly, that is told: times alone would not tell."""
        limit = self.slow_call
        if limit is None:
            return False
        slow = is_slow(seconds, limit)
        if abs(seconds - limit) <= limit * NEARLY:
            self._tell(call, SLOW if slow else QUICK)
        return slow

    def _closed(self, call: Call, era: Era, seconds: float | None, end: Exception | Neutral | None) -> None:
        """A stream ended, which took `seconds` until its first item."""
        if isinstance(end, Exception):
            self._failed(call, era, unboxed(end), seconds)
        else:
            self._record(call, era, "neutral" if isinstance(end, Neutral) else "success", None, None, seconds)

    def _interrupted(self, call: Call, era: Era, seconds: float | None) -> None:
        """Cancelled: neutral, unless a time limit of our own did it and the attempt had all the time it was due."""
        if call.cut_short or not any(limit.own for limit in expired()):
            self._record(call, era, "neutral", None, None, seconds)
        else:
            self._failed(call, era, PolicyTimeoutError("cancelled by a time limit"), seconds)

    def _record(
        self,
        call: Call,
        era: Era,
        verdict: Verdict,
        error: Exception | None,
        failure: Failure | None,
        seconds: float | None,
        *,
        slow: bool | None = None,
    ) -> None:
        if slow is None:
            slow = self.slow_call is not None and seconds is not None and self._slow(call, seconds)
        self._note(call, era, verdict, error, failure, seconds, slow=slow)

    @property
    @abstractmethod
    def asks(self) -> bool:
        """Does a function of the user's say which errors are failures?"""

    @abstractmethod
    def _verdict(self, error: Exception, failure: Failure) -> Verdict:
        """What an error says about the dependency; `failure` is what it was classified as."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds live state and cannot be pickled: make one in each process")


def _taken(call: Call, since: float | None) -> float | None:
    """Seconds that it took so far, without queueing; None for a call that is not timed. `since`: when it would have
    begun if it had never waited."""
    return None if since is None else clock.monotonic() - call.rare.waited - since
