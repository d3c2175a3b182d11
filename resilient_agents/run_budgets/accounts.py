"""The accounts of a budget: how much there is, what is reserved, what was spent. Bookkeeping and nothing else."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

__all__ = ["Account", "Amounts", "Entry", "book", "entry"]

ROUNDING: Final = 1e-9


class Amounts(NamedTuple):
    """So many of each; None where there is no limit to tell it from."""

    attempts: float | None
    tokens: float | None
    cost: float | None


class Account:
    """One number of one budget. Locking: all of it under the lock of the outermost budget, but for what a budget that
    stands alone does in one step.

    An exception from outside, a signal handler's, may come wherever a function begins or a loop turns. So what belongs
    together is written in one step, without a call, and what takes several (`book`) knows how far it has come.

    `limit`: None for an inner account that is not limited itself, infinite for an outermost one. `limiting`: the one
    whose limit binds this one, itself or one around it, where all that is in flight is `reserved`, beside what inner
    accounts have taken. `held`: what this one has taken out of those around it and not spent. `slack`: what float
    arithmetic may lose.
    """

    __slots__ = ("closed", "held", "limit", "limiting", "name", "outer", "reserved", "slack", "spent")

    limiting: Account

    def __init__(self, name: str, limit: float | None, outer: Account | None) -> None:
        self.name = name
        self.outer = outer
        self.spent: float = 0
        self.reserved: float = 0
        self.held: float = 0
        self.closed = False
        self.limit = math.inf if limit is None and outer is None else limit
        self.limiting = self if outer is None or limit is not None else outer.limiting
        self.slack = ROUNDING * (self.limit or 1.0)

    def open(self) -> None:
        """Take the limit out of what is left around it. Nothing is booked before."""
        outer, limit = self.outer, self.limit
        if outer is None or limit is None:
            return
        limit = min(limit, max(0, outer.left))
        around = outer.limiting
        self.slack = ROUNDING * (limit or 1.0)  # one step from here on
        self.limit = self.held = limit
        around.reserved += limit

    @property
    def left(self) -> float:
        """What may still be reserved."""
        account = self.limiting
        return (account.limit or 0) - account.spent - account.reserved

    def allows(self, amount: float, free: float = 0) -> bool:
        """Is there anything left, and so much? `free`: of what is reserved so much may be used for it."""
        left = self.left + free
        return left > 0 and amount <= left + self.limiting.slack

    def close(self) -> None:
        """Hand back what was not used, but for what is still in flight: that when it has landed."""
        outer = self.outer
        self.closed = True
        if outer is not None:
            around = outer.limiting
            unused = self.held - self.reserved  # one step from here on
            if unused > 0:
                self.held -= unused
                around.reserved -= unused


class Entry:
    """So much is in flight no longer and so much was spent, in `account` and, from there on, in those around it."""

    __slots__ = ("account", "reserved", "spent")

    account: Account | None
    reserved: float
    spent: float


def entry(account: Account, reserved: float, spent: float) -> Entry:
    made = Entry()
    made.account, made.reserved, made.spent = account, reserved, spent
    return made


def book(entries: tuple[Entry, ...]) -> None:
    """Book them where they are not booked yet: who is interrupted in the midst of it calls it again, before anybody
    else looks."""
    for each in entries:
        while each.account is not None:
            account, reserved, spent = each.account, each.reserved, each.spent
            account.spent += spent  # one step from here on
            if account.limiting is account:
                account.reserved -= reserved
                held = account.held
                reserved = spent if spent < held else held  # noqa: FURB136 - `min` would end the step
                if account.closed and held - reserved > account.reserved:
                    reserved = held - account.reserved
                account.held = held - reserved
            each.reserved = reserved
            each.account = account.outer
