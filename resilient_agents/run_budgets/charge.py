"""One attempt under a budget: paid for before it starts, settled when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

from resilient_agents.base.durations import EXACT
from resilient_agents.base.warn import warn_once
from resilient_agents.core.call import Call, Closer, Neutral, Proceed, unboxed
from resilient_agents.core.opening import Opened
from resilient_agents.core.tap import tap
from resilient_agents.deadline import in_force
from resilient_agents.errors import Rejected
from resilient_agents.run_budgets.accounts import Entry, entry
from resilient_agents.run_budgets.budget import NOTHING, OVER, SETTLED, RunBudget, ambient, current
from resilient_agents.run_budgets.usage import Gathered, Usage, usage_of

__all__ = ["charged", "mark_of", "paid", "unmark"]


class Charge:
    """What one attempt pays for: reserved while it runs, settled once, and the mark by which attempts inside it are
    known to be inside.

    `outer`: that of the attempt around it; `tokens`, `cost`: what is reserved; `inside`: what attempts inside it have
    paid, so that it is not paid for twice, None where there are none. `over`: is it? The mark counts in no context any
    more then, and `call` is gone, whose arguments a context would keep.
    """

    __slots__ = ("budget", "call", "cost", "inside", "outer", "over", "tokens")

    # No constructor, which would cost more than what it sets: see `_metered` and `RunBudget.pay`.
    budget: RunBudget
    call: Call | None
    outer: Charge | None
    tokens: float
    cost: float
    inside: tuple[float, float] | None
    over: int

    def entries(self, tokens: float, cost: float) -> tuple[Entry, Entry]:
        """For the books: it has come to so much. What is reserved is set by who takes that away from it."""
        _, of_tokens, of_money = self.budget.accounts
        return entry(of_tokens, 0, tokens), entry(of_money, 0, cost)

    def succeeded(self, call: Call, used: Usage | float | None) -> None:
        """The result is there, and this is what `usage` says of it."""
        self.settle(call, self.budget.terms.checked(used))

    def failed(self, call: Call, error: Exception | None) -> None:
        """Nothing was used where the answer was an error, or nothing was sent; else nobody knows, as with a call that
        was cancelled (`error` is None)."""
        usage = None if error is None else usage_of(error)
        failure = None if error is None else call.failure(error)
        if usage is None and failure is not None:
            lost = failure.kind in ("timeout", "connection") and failure.status is None and not failure.unsent
            usage = None if lost and not isinstance(error, Rejected) else Usage()
        self.settle(call, usage, told=True)

    def settle(self, call: Call, usage: Usage | None, *, told: bool = False) -> None:
        """It has ended, and this is what it used; None where nobody says it, which is `told` or else warned of."""
        if self.over == SETTLED:
            return
        self.over = OVER
        if usage is None and self.inside is None and not told and not self.budget.terms.misread:
            warn_once(
                ("run budget", call.name),
                lambda: (
                    f"the results of {call.name!r} do not say what they used: the budget of the run is charged what "
                    f"was expected, at most what the largest call so far was. Ask the server for it "
                    f"(stream_options={{'include_usage': True}}), or pass a usage= to run_budget that reads it, or "
                    f"answers 0 for what is no model"
                ),
                call.fn,
            )
        tokens, cost, budget = self.tokens, self.cost, self.budget
        if usage is not None:
            inside = self.inside or NOTHING
            tokens = max(0, usage.tokens - inside[0])
            cost = max(0, budget.price(usage, cost) - inside[1]) if budget.counts_money else 0
        budget.settle(self, tokens, cost)
        if usage is not None:
            budget.terms.learn(tokens, cost)
        around = self.outer
        if around is not None and around.over:
            return
        while around is not None:
            inside = around.inside or NOTHING
            around.inside = inside[0] + tokens, inside[1] + cost  # one step with the line before
            around = around.outer

    def resume(self) -> None:
        """Mark this context, in which the attempt goes on."""
        if not self.over:
            _attempt.set(self)

    def suspend(self) -> None:
        """Take the mark out of this context."""
        if _attempt.get() is self:
            _attempt.set(self.outer)


class _Ending:
    """Settles the charge of a stream at its end, or when it is gone: an exception from outside may have kept the end
    from being told."""

    charge: Charge | None = None  # no constructor, which an exception from outside may end
    call: Call
    source: Any
    said: Gathered

    def __call__(self, end: Exception | Neutral | None) -> None:
        charge = self.charge
        if charge is None:
            return
        usage = self.said.usage or usage_of(self.source)
        if usage is None and isinstance(end, Exception):
            charge.failed(self.call, unboxed(end))
        else:
            charge.settle(self.call, usage, told=end is not None)

    def __del__(self) -> None:
        charge = self.charge
        if charge is not None and charge.over != SETTLED:
            charge.budget.settle(charge, charge.tokens, charge.cost)


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


def _around() -> Charge | None:
    """What marks this context. One that is over stays in it until the next: to take it out would cost as much as to put
    it in."""
    charge = _attempt.get()
    while charge is not None and charge.over:
        charge = charge.outer
    return charge


def unmark() -> None:
    """Leave no mark in this context that is over, and with it the budget."""
    if _attempt.get() is not None:
        _attempt.set(_around())


def mark_of(call: Call) -> tuple[Charge, ...]:
    """That of this call in the context, if there is one."""
    charge = _around()
    return () if charge is None or charge.call is not call else (charge,)


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
    around = _attempt.get()
    while around is not None and (around.over or around.budget.lock is not budget.lock):
        around = around.outer
    charge = Charge()
    charge.budget = budget
    charge.call = call
    charge.outer = around
    charge.over = 0
    budget.pay(charge, call)
    lasting = False
    try:
        _attempt.set(charge)
        try:
            result = await proceed(call)
        except Exception as error:
            charge.failed(call, unboxed(error))
            raise
        closers = call.rare.closers
        if closers is not None:
            _watch(result, charge, call, closers)
            lasting = True
            return result
        terms = budget.terms
        used: Any = None
        try:
            used = terms.usage(result)
        except Exception:
            terms.not_read()
        alone = around is None and charge.inside is None and not budget.counts_money
        if alone and type(used) is int and 0 <= used <= EXACT:
            budget.settle(charge, used, 0)
            if used > terms.largest[0]:
                terms.learn(used, 0)
        else:
            charge.succeeded(call, used)
        return result
    finally:
        if lasting:
            charge.suspend()
        elif charge.over != SETTLED:  # it was cancelled
            charge.over = OVER  # first, and without a function call: the mark ends in every context
            try:
                charge.failed(call, None)
            except BaseException:  # from outside, in the midst of it
                budget.settle(charge, charge.tokens, charge.cost)
                raise


def _watch(opened: Opened, charge: Charge, call: Call, closers: list[Closer]) -> None:
    """What a stream has used is known at its end."""
    ending = _Ending()
    ending.call, ending.source, ending.said = call, opened.source, Gathered(charge.budget.terms.read)
    ending.said.add(opened.first)
    tap(opened, charge, ending.said.add)
    closers.append(ending)
    ending.charge = charge
