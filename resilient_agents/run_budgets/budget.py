"""A budget in force, and which one that is."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from operator import length_hint
from typing import TYPE_CHECKING, Final

from resilient_agents import events
from resilient_agents.base.fork import Lock
from resilient_agents.core.call import Call
from resilient_agents.errors import BudgetExceededError
from resilient_agents.run_budgets.accounts import Account, Amounts, Entry, book, entry
from resilient_agents.run_budgets.terms import Terms
from resilient_agents.run_budgets.usage import Usage

if TYPE_CHECKING:
    from resilient_agents.run_budgets.charge import Charge

__all__ = ["RunBudget", "ambient", "current"]


_BATCH: Final = 64

OVER: Final = 1
SETTLED: Final = 2
"""How an attempt may have ended."""

NOTHING: Final[tuple[float, float]] = (0, 0)  # whole numbers stay whole


class RunBudget:
    """A budget in force: what was spent inside its block so far, and what is left of it.

    Locking: one lock for a budget and all that are nested in it, as an amount is often booked in several. One that is
    `alone`, neither nested nor with others nested in it, needs none where tokens and money are booked, which is one
    step of the interpreter; its attempts, if it limits nothing else, are `ready` in small batches, booked as spent,
    which an iterator gives away one by one. `unpriced`: why nobody can tell what was spent, once that is so.
    """

    def __init__(self, limits: Amounts, terms: Terms, outer: RunBudget | None) -> None:
        self.outer = outer
        self.terms = terms
        self.active = True
        self.lock: threading.RLock = Lock() if outer is None else outer.lock
        self.reads_usage: bool = limits[1:] != (None, None) or (outer is not None and outer.reads_usage)
        self.counts_money: bool = limits.cost is not None or (outer is not None and outer.counts_money)
        self.unpriced: list[str] = outer.unpriced if outer is not None and outer.counts_money else []
        self.ready: Iterator[int] = iter(())
        self._alone = outer is None
        around = (None, None, None) if outer is None else outer.accounts
        self.accounts: tuple[Account, ...] = tuple(map(Account, Amounts._fields, limits, around))
        self.attempts = self.accounts[0]

    def open(self) -> None:
        """Begin. A nested one takes its limits out of what is left around it."""
        if self.outer is not None:
            with self.lock:
                self.outer.has_nested()
                for account in self.accounts:
                    account.open()

    @property
    def spent(self) -> Amounts:
        """What was spent inside the block so far. Tokens and money are counted where a limit needs them."""
        with self.lock:
            attempts, tokens, cost = (account.spent for account in self.accounts)
            return Amounts(attempts - length_hint(self.ready), tokens, cost)

    @property
    def left(self) -> Amounts:
        """What may still be spent, without what is reserved for calls in flight and for inner budgets."""
        with self.lock:
            amounts: list[float] = [max(0, account.left) for account in self.accounts]
            amounts[0] += length_hint(self.ready)
        attempts, tokens, cost = (None if math.isinf(amount) else amount for amount in amounts)
        return Amounts(attempts, tokens, cost)

    def facts(self) -> dict[str, float]:
        """For the event of an operation's end: what is spent and left of what is limited, here or around."""
        told: dict[str, float] = {}
        for name, spent, left in zip(Amounts._fields, self.spent, self.left, strict=True):
            if left is not None:
                told[f"{name}.spent"], told[f"{name}.left"] = spent or 0, left
        return told

    def __repr__(self) -> str:
        return f"RunBudget(spent={self.spent}, left={self.left})"

    def close(self) -> None:
        """The block ended: it binds nobody any more."""
        with self.lock:
            for account in self.accounts:
                account.close()

    def take(self) -> bool:
        """Pay for an attempt, when none was ready. False where there is none left."""
        with self.lock:
            if next(self.ready, None) is not None:  # another thread has seen to it
                return True
            attempts = self.attempts
            if not attempts.allows(1):
                return False
            if self._alone:
                more = int(min(_BATCH, attempts.left))
                ready = iter(range(1, more))
                attempts.spent += more  # one step from here on
                self.ready = ready
                return True
            entries = (entry(attempts, 0, 1),)
            try:
                book(entries)
            except BaseException:  # from outside, in the midst of it
                book(entries)
                raise
            return True

    def has_nested(self) -> None:
        """There are nested ones: from now on all is booked under the lock, which is held now, and exactly."""
        self._alone = False
        for _ in self.ready:
            self.attempts.spent -= 1

    def pay(self, charge: Charge, call: Call) -> None:
        """Pay for an attempt and reserve the tokens and the money that it may come to. Raises BudgetExceededError when
        that is more than is left. What is reserved for a call around it is used by those inside."""
        terms = self.terms
        tokens, cost = terms.largest if terms.estimate is None else terms.expected(call, money=self.counts_money)
        outer = charge.outer
        attempts, of_tokens, of_money = self.accounts
        if self._alone:  # one step from here to the end
            held = 0 if outer is None else outer.tokens
            left = of_tokens.limit - of_tokens.spent - of_tokens.reserved + held  # type: ignore[operator]
            if tokens >= left and (left <= 0 or tokens > left + of_tokens.slack):
                short, amount = 1, tokens
            elif self.counts_money and (
                cost
                > (
                    money := of_money.limit  # type: ignore[operator]
                    - of_money.spent
                    - of_money.reserved
                    + (0 if outer is None else outer.cost)
                )
                + of_money.slack
                or money <= 0
                or self.unpriced
            ):
                short, amount = 2, cost
            elif attempts.spent >= attempts.limit:  # type: ignore[operator]
                short, amount = 0, 1
            else:
                attempts.spent += 1
                of_tokens.reserved += tokens - held
                charge.tokens = tokens
                charge.cost = 0
                charge.inside = None
                if self.counts_money:
                    of_money.reserved += cost if outer is None else cost - outer.cost
                    charge.cost = cost
                if outer is not None:
                    outer.tokens, outer.cost, outer.inside = 0, 0, outer.inside or NOTHING
                return
            raise self.exceeded(call, short, amount)
        charge.tokens = charge.cost = 0
        charge.inside = None
        try:
            with self.lock:
                held, held_money = (0, 0) if outer is None else self._held_by(outer)
                if not of_tokens.allows(tokens, held):
                    short, amount = 1, tokens
                elif self.unpriced or not of_money.allows(cost, held_money):
                    short, amount = 2, cost
                elif not attempts.allows(1):
                    short, amount = 0, 1
                else:
                    self._pay(charge, tokens, cost)
                    return
        except BaseException:  # from outside: the attempt does not start
            self.settle(charge, 0, 0)
            raise
        raise self.exceeded(call, short, amount)

    def _held_by(self, charge: Charge) -> tuple[float, float]:
        """What is reserved for it of the accounts that limit this budget. Called under the lock."""
        _, of_tokens, of_money = self.accounts
        _, its_tokens, its_money = charge.budget.accounts
        return (
            charge.tokens if its_tokens.limiting is of_tokens.limiting else 0,
            charge.cost if its_money.limiting is of_money.limiting else 0,
        )

    def _pay(self, charge: Charge, tokens: float, cost: float) -> None:
        """Called under the lock, when there is enough of all."""
        _, of_tokens, of_money = (account.limiting for account in self.accounts)
        outer = charge.outer
        entries: tuple[Entry, ...] = (entry(self.attempts, 0, 1),)
        if outer is not None:
            of_outer = outer.entries(0, 0)
            entries = (*entries, *of_outer)
            of_outer[0].reserved, of_outer[1].reserved = outer.tokens, outer.cost  # one step from here on
            outer.tokens, outer.cost, outer.inside = 0, 0, outer.inside or NOTHING
        charge.tokens, charge.cost = tokens, cost
        of_tokens.reserved += tokens
        of_money.reserved += cost
        try:
            book(entries)
        except BaseException:  # from outside, in the midst of it
            book(entries)
            raise

    def settle(self, charge: Charge, tokens: float, cost: float) -> None:
        """What was reserved for an attempt came to so much, and it has ended."""
        if self._alone:  # one step from here to the end
            if charge.over == SETTLED:
                return
            _, of_tokens, of_money = self.accounts
            charge.over = SETTLED
            charge.call = None
            of_tokens.reserved -= charge.tokens
            of_tokens.spent += tokens
            if self.counts_money:
                of_money.reserved -= charge.cost
                of_money.spent += cost
            charge.tokens = charge.cost = 0
            return
        with self.lock:
            if charge.over != SETTLED:
                entries = charge.entries(tokens, cost)
                charge.over = SETTLED  # one step from here on
                charge.call = None
                entries[0].reserved, entries[1].reserved = charge.tokens, charge.cost
                charge.tokens = charge.cost = 0
                try:
                    book(entries)
                except BaseException:  # from outside, in the midst of it
                    book(entries)
                    raise

    def price(self, usage: Usage, reserved: float) -> float:
        """What an attempt has cost. Where nobody can tell it is what was expected; where nothing was, no attempt may
        follow, for it might cost anything."""
        terms = self.terms
        cost = terms.price(usage)
        if cost is None:
            cost = max(reserved, terms.largest[1])
            if not cost and not self.unpriced:
                self.unpriced.append(f"nobody can tell what {usage.model or 'its model'} costs; give it prices=")
        return cost

    def exceeded(self, call: Call, short: int, amount: float) -> BudgetExceededError:
        """The refusal of an attempt for which one of the accounts has not enough; whoever watches is told."""
        with self.lock:
            account = self.accounts[short].limiting
            spent, reserved, left = account.spent, account.reserved, max(0, account.left)
        call.tell(events.CallRejected, "run_budget", None, None)
        limit = spent + reserved + left
        money = account.name == "cost"
        allowed = f"cost {limit:g}: {spent:g} spent" if money else f"use {limit:g} {account.name}: {spent:g} used"
        flight = f", {reserved:g} reserved" if reserved else ""
        needed = f", and this call may {'cost' if money else 'take'} {amount:g}" if left > 0 else ""
        unknown = f", and {self.unpriced[0]}" if money and self.unpriced else ""
        error = BudgetExceededError(
            f"the run may {allowed}{flight}{unknown or needed}",
            policy=call.name,
            strategy="run_budget",
        )
        error.budget, error.spent, error.limit = account.name, spent, limit
        return error


ambient: ContextVar[RunBudget | None] = ContextVar("resilient_agents_run_budget", default=None)


def current() -> RunBudget | None:
    """The innermost budget still in force."""
    found = ambient.get()
    while found is not None and not found.active:
        found = found.outer
    return found
