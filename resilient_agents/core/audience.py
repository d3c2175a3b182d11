"""Those who watch a call, and what its operation adds up for them."""

from __future__ import annotations

from typing import Any, Final

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.base.told import Fields
from resilient_agents.classify import Failure
from resilient_agents.events.recorder import Course

__all__ = ["Audience", "Helping"]

_counting = Lock()
"""Held while an operation's sums change: the requests of a hedged call run in several threads."""

_NO_STREAM: Final = (None, None, None, None)
"""How a call went that is none, in place of its `Pace`."""


class Audience(Fields):
    """Those who watch one call. Absent on the call, not merely silent, when nobody does.

    What an operation adds up stands here: its attempts, how many `failed` by kind, seconds `waited` for slots and
    tokens and `retry_waited` between attempts. `pace`: how a stream went; `finish`: why it ended, by its own account;
    `budget`: what paid for its last attempt; `fell_back`: who answered in its place; `unknown_outcome`: what may not be
    done twice may have taken effect all the same. Times are the policy's clock's.

    What every call goes through has a method here, which tells a recorder directly: an event is made of it only where
    somebody observes. All else is told as an event.
    """

    policy: str
    observers: tuple[events.Observer, ...]
    recorder: events.Recorder
    started: float
    configuration: str
    deadline: float | None
    failed: dict[str, int]
    attempts: int = 0
    waited: float = 0.0
    retry_waited: float = 0.0
    unknown_outcome: bool = False
    fell_back: str | None = None
    finish: str | None = None
    pace: Any = None
    budget: Any = None
    judged: tuple[Any, bool] | None = None

    def attempt_started(self, hedge: int, at: float, course: Course) -> int:
        """An attempt begins. Returns its number, counted from 1."""
        with _counting:
            number = self.attempts = self.attempts + 1
        self.recorder.attempt_started(number, hedge, at, course)
        if self.observers:
            self.show(events.AttemptStarted(self.policy, number, hedge))
        return number

    def attempt_ended(
        self,
        number: int,
        started: float,
        outcome: events.Outcome,
        failure: Failure | None,
        inner_retries: int | None,
        began: float | None,
    ) -> None:
        """The attempt that began at `started` is over, in which the function `began` then, None if it did not."""
        if failure is not None:
            with _counting:
                self.failed[failure.kind] = self.failed.get(failure.kind, 0) + 1
        at = clock.monotonic()
        lead = None if began is None else began - started
        self.recorder.attempt_ended(number, at, outcome, at - started, failure, inner_retries, lead)
        if self.observers:
            self.show(events.AttemptEnded(self.policy, number, outcome, at - started, failure, inner_retries))

    def costs(self, amount: float, *, settled: bool = False) -> None:
        """The present attempt takes so much of a rate limit that asks what it costs, or has done so."""
        self.recorder.costs(amount, settled=settled)

    def decided(self, layer: object, what: str, *, of_attempt: bool = False, hint: float | None = None) -> None:
        """A function of the user's that this layer has was asked, or a clock, and this came of it. `of_attempt`: it is
        about the present attempt, though the layer is around all attempts. `hint`: the seconds after which a result
        says that trying again makes sense."""
        self.recorder.decided(layer, what, of_attempt=of_attempt, hint=hint)

    def tell_of_wait(self, strategy: str, seconds: float, reason: events.WaitReason | None = None) -> None:
        """A wait is over, however it ended."""
        with _counting:
            if strategy == "retry":
                self.retry_waited += seconds
            else:
                self.waited += seconds
        self.recorder.waited_for(strategy, seconds, reason)
        if self.observers:
            self.show(events.Waited(self.policy, strategy, seconds, reason))

    def call_ended(self, outcome: events.Outcome, failure: Failure | None) -> None:
        """The operation is over."""
        duration = clock.monotonic() - self.started
        self.recorder.call_ended(self, outcome, duration, failure)
        if self.observers:
            pace = self.pace
            paced = _NO_STREAM if pace is None else (pace.first_item, pace.items, pace.longest_gap, pace.parts)
            sums = (self.attempts, duration, failure, self.waited, self.retry_waited, self.failed, self.fell_back)
            spent = None if self.budget is None else self.budget.facts()
            facts: tuple[Any, ...] = (*sums, *paced, self.finish, self.unknown_outcome, spent)
            self.show(events.CallEnded(self.policy, outcome, *facts))

    def tell(self, event: events.Event) -> None:
        self.recorder.record(event)
        if self.observers:
            self.show(event)

    def show(self, event: events.Event) -> None:
        """Tell those who observe, of what a recorder knows already."""
        for observer in self.observers:
            observer(event)


class Helping(Fields):
    """A block in which code of the user's runs that is no attempt: a fallback's handler, a retry's hook, or what looks
    up what an attempt has done. Spans alone say how long that took: it is no wait in line."""

    _audience: Audience | None
    _what: str

    def __enter__(self) -> None:
        if self._audience is not None:
            self._began = clock.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._audience is not None:
            self._audience.recorder.waited_for(self._what, clock.monotonic() - self._began, None)
