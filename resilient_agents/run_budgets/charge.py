"""One attempt under a budget: paid for before it starts, settled when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from functools import partial
from typing import Any

from resilient_agents.base.warn import warn_once
from resilient_agents.core.call import Call, Neutral, Proceed, unboxed
from resilient_agents.core.tap import tap
from resilient_agents.deadline import in_force
from resilient_agents.errors import Rejected
from resilient_agents.run_budgets.budget import RunBudget, ambient, current
from resilient_agents.run_budgets.usage import Gathered, Usage, usage_of

__all__ = ["charged", "paid"]


class Charge:
    """What one attempt pays for: reserved while it runs, settled once, and the mark by which attempts inside it are
    known to be inside.

    `over`: it has ended; the mark counts in no context any more.
    """

    __slots__ = ("_expected", "_inside", "_outer", "_stream", "budget", "over", "settled")

    def __init__(self, budget: RunBudget, expected: tuple[float, float], outer: Charge | None) -> None:
        self.budget = budget
        self._expected = expected
        self._outer = outer
        self._inside: tuple[float, float] | None = None
        self._stream: Gathered | None = None
        self.settled = False
        self.over = False

    def release(self) -> None:
        """An attempt inside reserves for itself. Called under the lock."""
        self.budget.settle(self._expected, 0, 0)
        self._expected = (0, 0)
        self._inside = self._inside or (0, 0)

    def add_inside(self, tokens: float, cost: float) -> None:
        """What an attempt inside has paid, so that it is not paid for twice. Called under the lock."""
        charge: Charge | None = self
        while charge is not None:
            before = charge._inside or (0, 0)  # noqa: SLF001 - the same class
            charge._inside = (before[0] + tokens, before[1] + cost)  # noqa: SLF001
            charge = charge._outer  # noqa: SLF001

    def gather(self, item: Any) -> None:
        """An item of a stream, which may say what it came to so far."""
        if self._stream is None:
            self._stream = Gathered(self.budget.terms.read)
        self._stream.add(item)

    def succeeded(self, call: Call, result: Any) -> None:
        self._settle(call, self.budget.terms.read(result))

    def ended(self, call: Call, source: Any, end: Exception | Neutral | None) -> None:
        """A stream ended: what its items said, or the stream itself."""
        usage = None if self._stream is None else self._stream.usage
        if usage is None:
            usage = usage_of(source)
        if usage is None and isinstance(end, Exception):
            self.failed(call, unboxed(end))
        else:
            self._settle(call, usage, told=end is not None)

    def failed(self, call: Call, error: Exception | None) -> None:
        """Nothing was used where the answer was an error, or nothing was sent; else nobody knows, as with a call that
        was cancelled (`error` is None)."""
        usage = None if error is None else usage_of(error)
        failure = None if error is None else call.failure(error)
        if usage is None and failure is not None:
            lost = failure.kind in ("timeout", "connection") and failure.status is None and not failure.unsent
            usage = None if lost and not isinstance(error, Rejected) else Usage()
        self._settle(call, usage, told=True)

    def _settle(self, call: Call, usage: Usage | None, *, told: bool = False) -> None:
        if self.settled:
            return
        self.settled = self.over = True
        if usage is None and self._inside is None and not told:
            warn_once(
                ("run budget", call.name),
                lambda: (
                    f"the results of {call.name!r} do not say what they used: the budget of the run is charged what "
                    f"was expected. Ask the server for it (stream_options={{'include_usage': True}}), or pass usage= "
                    f"to run_budget"
                ),
                call.fn,
            )
        tokens, cost = self._expected
        inside = self._inside or (0, 0)
        if usage is not None:
            tokens = max(0, usage.tokens - inside[0])
            cost = max(0, self.budget.terms.price(usage) - inside[1]) if self.budget.counts_money else 0
        with self.budget.lock:
            self.budget.settle(self._expected, tokens, cost)
            if usage is not None:
                self.budget.terms.learn(tokens, cost)
            if self._outer is not None and not self._outer.over:
                self._outer.add_inside(tokens, cost)

    def resume(self) -> None:
        """Mark this context, in which the attempt goes on."""
        if not self.over:
            _attempt.set(self)

    def suspend(self) -> None:
        """Take the mark out of this context."""
        if _attempt.get() is self:
            _attempt.set(self._outer)


_attempt: ContextVar[Charge | None] = ContextVar("resilient_agents_charged_attempt", default=None)


def charged(proceed: Proceed, call: Call) -> Awaitable[Any]:
    """One attempt, inside the innermost Retry or Hedge, under the budget in force."""
    budget = ambient.get()
    if budget is None or not budget.active:
        budget = current()
        if budget is None:
            return proceed(call)
    audience = call.rare.audience
    if audience is not None:
        audience.budget = budget
    if budget.reads_usage:
        return _metered(budget, proceed, call)
    if next(budget.ready, None) is None and not budget.take():
        raise budget.exceeded(call, 0, 1.0)
    return proceed(call)


def paid() -> bool:
    """Pay for an attempt of which nothing else has to be known, if one is ready in the budget that the context carries
    and there is no deadline. False where more has to be looked at."""
    budget = ambient.get()
    return (
        budget is not None
        and in_force() is None
        and budget.active
        and not budget.reads_usage
        and next(budget.ready, None) is not None
    )


async def _metered(budget: RunBudget, proceed: Proceed, call: Call) -> Any:
    """An attempt whose result says what it used."""
    inside = _attempt.get()
    if inside is not None and (inside.over or inside.budget.lock is not budget.lock):
        inside = None
    charge = Charge(budget, budget.pay(call, inside), inside)
    lasting = False
    try:
        if call.runtime.blocking:  # it may yet go on in another context
            call.marks = {**(call.marks or {}), _attempt: charge}
        charge.resume()
        try:
            result = await proceed(call)
        except Exception as error:
            charge.failed(call, unboxed(error))
            raise
        if call.closers is None:
            charge.succeeded(call, result)
        else:
            charge.gather(result.first)
            tap(result, charge, charge.gather)
            call.closers.append(partial(charge.ended, call, result.source))
            lasting = True
        return result
    finally:
        if not lasting:
            charge.over = True  # first, and without a function call: the mark ends in every context
            if not charge.settled:  # it was cancelled
                charge.failed(call, None)
        charge.suspend()
