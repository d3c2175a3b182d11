"""One attempt under a budget: paid for before it starts, settled when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

from resilient_agents.base.warn import warn_once
from resilient_agents.core.call import Call, Neutral, Proceed, unboxed
from resilient_agents.core.tap import tap
from resilient_agents.deadline import in_force
from resilient_agents.errors import Rejected
from resilient_agents.run_budgets.accounts import Entry, entry
from resilient_agents.run_budgets.budget import RunBudget, ambient, current
from resilient_agents.run_budgets.usage import Gathered, Usage, usage_of

__all__ = ["charged", "mark_of", "paid"]


class Charge:
    """What one attempt pays for: reserved while it runs, settled once, and the mark by which attempts inside it are
    known to be inside.

    `outer`: that of the attempt around it; `tokens`, `cost`: what is reserved; `has_inside`, `inside`: there are
    attempts inside it, and what these have paid, so that it is not paid for twice. `over`: it has ended; the mark
    counts in no context any more.
    """

    # No constructor, and defaults of the class: one is made for each attempt, and is seldom asked for most of it.
    tokens: float = 0
    cost: float = 0
    has_inside = False
    inside: tuple[float, float] = (0, 0)
    settled = False
    over = False
    _stream: Gathered | None = None

    budget: RunBudget
    call: Call
    outer: Charge | None

    def entries(self, tokens: float, cost: float) -> tuple[Entry, Entry]:
        """For the books: it has come to so much. What is reserved is set by who takes that away from it."""
        _, of_tokens, of_money = self.budget.accounts
        return entry(of_tokens, 0, tokens), entry(of_money, 0, cost)

    def gather(self, item: Any) -> None:
        """An item of a stream, which may say what it came to so far."""
        if self._stream is None:
            self._stream = Gathered(self.budget.terms.read_item)
        self._stream.add(item)

    def succeeded(self, call: Call, result: Any) -> None:
        budget = self.budget
        used = budget.terms.read(result)
        if not isinstance(used, int):
            self._settle(call, used)
        elif self.outer is not None or self.has_inside or budget.counts_money:
            self._settle(call, Usage(0, used))
        else:
            budget.settle(self, used, 0)
            if used > budget.terms.largest[0]:
                budget.terms.learn(used, 0)

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
        self.over = True
        if usage is None and not self.has_inside and not told and not self.budget.terms.misread:
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
            tokens = max(0, usage.tokens - self.inside[0])
            cost = max(0, budget.price(usage, cost) - self.inside[1]) if budget.counts_money else 0
        budget.settle(self, tokens, cost)
        if usage is not None:
            budget.terms.learn(tokens, cost)
        around = self.outer
        if around is not None and around.over:
            return
        while around is not None:
            around.inside = around.inside[0] + tokens, around.inside[1] + cost  # one step
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

    def __call__(self, end: Exception | Neutral | None) -> None:
        if self.charge is not None:
            self.charge.ended(self.call, self.source, end)

    def __del__(self) -> None:
        charge = self.charge
        if charge is not None and not charge.settled:
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


def mark_of(call: Call) -> tuple[Charge, ...]:
    """That of this call in the context, if there is one."""
    charge = _attempt.get()
    return () if charge is None or charge.call is not call or charge.over else (charge,)


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
    charge = Charge()
    charge.budget = budget
    charge.call = call
    charge.outer = inside
    budget.pay(charge, call)
    lasting = False
    try:
        _attempt.set(charge)
        try:
            result = await proceed(call)
        except Exception as error:
            charge.failed(call, unboxed(error))
            raise
        if call.rare.closers is None:
            charge.succeeded(call, result)
        else:
            charge.gather(result.first)
            tap(result, charge, charge.gather)
            ending = _Ending()
            ending.call, ending.source = call, result.source
            call.rare.closers.append(ending)
            ending.charge, lasting = charge, True
        return result
    finally:
        if not lasting:
            charge.over = True  # first, and without a function call: the mark ends in every context
            if not charge.settled:  # it was cancelled
                try:
                    charge.failed(call, None)
                except BaseException:  # from outside, in the midst of it
                    budget.settle(charge, charge.tokens, charge.cost)
                    raise
        if _attempt.get() is charge:
            _attempt.set(inside)
