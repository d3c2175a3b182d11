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
from resilient_agents.run_budgets.accounts import Account, Amounts
from resilient_agents.run_budgets.terms import Terms

if TYPE_CHECKING:
    from resilient_agents.run_budgets.charge import Charge

__all__ = ["RunBudget", "ambient", "current"]


_BATCH: Final = 64


class RunBudget:
    """A budget in force: what was spent inside its block so far, and what is left of it.

    Locking: one lock for a budget and all that are nested in it, as an amount is often booked in several. Attempts of
    one that is not nested and limits nothing else are `ready` in small batches, booked as spent, which an iterator
    gives away one by one without the lock.
    """

    def __init__(self, limits: Amounts, terms: Terms, outer: RunBudget | None) -> None:
        self.outer = outer
        self.terms = terms
        self.active = True
        self.lock: threading.RLock = Lock() if outer is None else outer.lock
        self.reads_usage: bool = limits[1:] != (None, None) or (outer is not None and outer.reads_usage)
        self.counts_money: bool = limits.cost is not None or (outer is not None and outer.counts_money)
        self.ready: Iterator[int] = iter(())
        self._batches = outer is None
        with self.lock:
            if outer is not None:
                outer.stop_batches()
            around = (None, None, None) if outer is None else outer.accounts
            self.accounts: tuple[Account, ...] = tuple(map(Account, Amounts._fields, limits, around))
        self.attempts = self.accounts[0]

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
            if not self.attempts.take():
                return False
            if self._batches:
                more = int(min(_BATCH, self.attempts.left))
                ready = iter(range(more))
                self.attempts.spent += more  # one step from here on
                self.ready = ready
            return True

    def stop_batches(self) -> None:
        """There are nested ones: from now on the accounts are exact. Called under the lock."""
        self._batches = False
        for _ in self.ready:
            self.attempts.spent -= 1

    def pay(self, call: Call, inside: Charge | None) -> tuple[float, float]:
        """Pay for an attempt and reserve the tokens and the money that it may come to, which are the answer. Raises
        BudgetExceededError when that is more than is left."""
        terms = self.terms
        tokens, cost = terms.largest if terms.estimate is None else terms.expected(call, money=self.counts_money)
        attempts, of_tokens, of_money = self.accounts
        with self.lock:
            if inside is not None:  # what is reserved for a call is used by those inside it
                inside.release()
            if not of_tokens.allows(tokens):
                short, amount = 1, tokens
            elif not of_money.allows(cost):
                short, amount = 2, cost
            elif not attempts.take():
                short, amount = 0, 1
            else:
                if tokens:
                    of_tokens.reserve(tokens)
                if cost:
                    of_money.reserve(cost)
                return tokens, cost
        raise self.exceeded(call, short, amount)

    def settle(self, expected: tuple[float, float], tokens: float, cost: float) -> None:
        """So much was expected, and came to so much. Called under the lock."""
        _, of_tokens, of_money = self.accounts
        if tokens or expected[0]:
            of_tokens.settle(expected[0], tokens)
        if cost or expected[1]:
            of_money.settle(expected[1], cost)

    def exceeded(self, call: Call, short: int, amount: float) -> BudgetExceededError:
        """The refusal of an attempt for which one of the accounts has not enough; whoever watches is told."""
        account = self.accounts[short]
        with self.lock:
            while account.limit is None and account.outer is not None:
                account = account.outer
            spent, reserved, left = account.spent, account.reserved, max(0, account.left)
        if call.audience is not None:
            call.audience.tell(events.CallRejected(call.audience.policy, "run_budget", None, None))
        what = "of money" if account.name == "cost" else account.name
        flight = f", {reserved:g} reserved" if reserved else ""
        needed = f", and this call may take {amount:g}" if left > 0 else ""
        error = BudgetExceededError(
            f"the run may use {spent + reserved + left:g} {what}: {spent:g} used{flight}{needed}",
            policy=call.name,
            strategy="run_budget",
        )
        error.budget, error.spent, error.limit = account.name, spent, spent + reserved + left
        return error


ambient: ContextVar[RunBudget | None] = ContextVar("resilient_agents_run_budget", default=None)


def current() -> RunBudget | None:
    """The innermost budget still in force."""
    found = ambient.get()
    while found is not None and not found.active:
        found = found.outer
    return found
