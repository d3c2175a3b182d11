"""`Hedge`: a second request when the first is slow, and the answer of whichever is first."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from resilient_agents.base.clock import clock
from resilient_agents.budget import RetryBudget, UnderWay, followed
from resilient_agents.classify import is_transient
from resilient_agents.core.branches import Branch
from resilient_agents.core.call import Call, Proceed, unboxed
from resilient_agents.core.match import Match, ask, matcher
from resilient_agents.core.options import Configured, Count, Errors, Made, Seconds
from resilient_agents.core.race import Race
from resilient_agents.core.threads import Workers
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected
from resilient_agents.events import CallRejected, HedgeStarted
from resilient_agents.strategies.hedged_stream import race_streams

__all__ = ["Hedge"]

MAX_THREADS = 256
"""Blocking requests that one Hedge runs at a time."""

MAX_ABANDONED = 32
"""Blocking requests that lost and still run; at this many, calls are made without a hedge."""


class Hedge(Configured):
    """When no answer has come `after` seconds (float or timedelta), ask again without giving up on the first request.

    At most `extra` further requests (hedges; default 1) start, one each `after` seconds, and one at once when a request
    fails with an error that `on` chooses (a type, a predicate or a tuple of these; default: transient ones). The first
    result is the result of the call; the other requests are cancelled and awaited, and results that come all the same
    are closed (`aclose` or `close`). When all fail, the error of the first request comes out. An error outside of `on`
    ends the call at once. A hedge that a layer inside refuses (no slot, no token, open circuit) changes nothing for
    the other requests, but no further ones start. `after=0` starts all of them at once.

    `budget`: a `RetryBudget`, out of which each hedge is paid before it starts; by default that of the `Retry` around
    it, if that has one. When it is spent no further hedges start; those that have started go on.

    The function must bear being called twice at the same time with the same arguments; in a policy with
    `idempotent=False` a hedge starts only once the function has asked for its `idempotency_key()`, or when no request
    is in flight and none can have taken effect. In async code each request is a
    task. In blocking code each is a daemon thread with the caller's context variables; a thread cannot be stopped, so a
    request that lost runs to its end behind the caller's back, and what is held for it comes back then. With 32 of
    those, or 256 running ones, calls are made without a hedge, in the caller's own thread.

    A stream is hedged until its first item, the first that means something where a `StreamTimeout` stands inside; the
    others are closed, and what reads the stream goes on with the winner. One that holds something of the task that
    opened it across its items (a cancel scope, a task group, a context variable that it has set) cannot be: TypeError.
    So is a plain function that returns an awaitable in a blocking call. Raises TypeError or ValueError, when built, for
    options of a wrong type or value.
    """

    strategy = "hedge"
    OPTIONS = MappingProxyType({"after": Seconds(), "extra": Count(), "on": Errors(), "budget": Made(type=RetryBudget)})
    owns_attempts: ClassVar[bool] = True
    races: ClassVar[bool] = True

    after: float
    extra: int
    on: Match
    budget: RetryBudget | None

    def __init__(
        self,
        after: float | timedelta,
        *,
        extra: int = 1,
        on: Match = is_transient,
        budget: RetryBudget | None = None,
    ) -> None:
        self.take(locals())
        self._matches = matcher(on)
        self.workers = Workers(MAX_THREADS, MAX_ABANDONED, "hedge")

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        counted = closers = None
        try:
            if self.budget is not None and self.budget is not self._budget_around(call):
                counted = self.budget.deposit()
            if call.closers is None:
                return await Race(call).run(proceed, self.workers, partial(self._choose, proceed, call))
            opened = await race_streams(call, proceed, self.workers, self._choose)
            closers = call.closers
            return opened
        finally:
            if counted is not None:
                counted.end(closers)

    async def _choose(self, proceed: Proceed, call: Call, race: Race) -> Branch | None:
        """Start one after the other and return the branch that decides; None when not even the first found a thread."""
        primary = Branch(call, self)
        if not race.start(primary, proceed):
            return None
        began = clock.monotonic()
        started = failed = 0
        left, write = self.extra, call.write
        if write is not None:
            write.on_free(race.look)
        while True:
            due = left and (write is None or write.free)
            ended = await race.next(max(0.0, began + self.after - clock.monotonic()) if due else None)
            if ended is None and (not due or clock.monotonic() < began + self.after):
                continue  # it may be asked twice from now on
            if ended is not None:
                if self._decides(call, ended, first=ended is primary):
                    return ended
                failed += 1
                refused = isinstance(ended.outcome, Rejected) and ended is not primary
                if refused or (left and write is not None and not write.may_repeat()):
                    left = 0
            if left:
                now = clock.monotonic()
                if self._start(proceed, call, race, started + 1, now - began):
                    began = now
                    started += 1
                    left -= 1
                else:
                    left = 0
            if failed > started:
                return primary

    def _start(self, proceed: Proceed, call: Call, race: Race, number: int, after: float) -> bool:
        """Start a hedge. False where the budget is spent, or no thread is to be had: then no further one will."""
        budget = self.budget or self._budget_around(call)
        paid = None if budget is None else budget.withdraw()
        if budget is not None and paid is None:
            call.tell(CallRejected, "retry_budget")
            return False
        if race.start(Branch(call, self), partial(_hedge, proceed, number, after, paid)):
            return True
        if budget is not None and paid is not None:
            budget.put_back(paid)
        return False

    def _budget_around(self, call: Call) -> RetryBudget | None:
        """That of the retry around it, whose calls it counts already."""
        found: RetryBudget | None = None
        for layer in call.plan.layers:
            if layer is self:
                break
            found = getattr(layer, "budget", None) or found
        return found

    def _decides(self, call: Call, ended: Branch, *, first: bool) -> bool:
        """Does the end of this branch settle the call?"""
        error = ended.outcome
        try:
            if not isinstance(error, Exception):
                return True
            error = unboxed(error)
            if isinstance(error, Rejected) and not first:
                return False
            chosen = ask(self._matches, error, error)
            if call.audience is not None and self.on is not is_transient:
                call.audience.decided(self, "yes" if chosen else "no")
            if not chosen:
                return True
            if current() is not None:
                call.error = error
            return False
        finally:
            error = None

    def take_over(self, old: Hedge) -> None:
        """Go on with the threads of the hedge whose place this one takes, so that the requests left behind stay
        counted, and with its budget."""
        self.workers = old.workers
        self.budget = followed(old.budget, self.budget)

    def live(self) -> dict[str, Any]:
        return {"abandoned": self.workers.abandoned}  # blocking requests that lost and still run


async def _hedge(proceed: Proceed, number: int, after: float, paid: UnderWay | None, branch: Call) -> Any:
    """A hedge, told where it runs, so that what it does comes after. `paid`: what its budget counts until it ends, here
    too, where a thread that nobody waits for is the last to know."""
    assert isinstance(branch, Branch)
    branch.hedge = number
    closers = None
    try:
        if branch.audience is not None:
            branch.audience.tell(HedgeStarted(branch.audience.policy, number, after))
        result = await proceed(branch)
        closers = branch.closers
        return result
    finally:
        if paid is not None:
            paid.end(closers)
