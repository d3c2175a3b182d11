"""The accounts of a budget: how much there is, what is reserved, what was spent. Bookkeeping and nothing else."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

__all__ = ["Account", "Amounts"]

ROUNDING: Final = 1e-9


class Amounts(NamedTuple):
    """So many of each; None where there is no limit to tell it from."""

    attempts: float | None
    tokens: float | None
    cost: float | None


class Account:
    """One number of one budget. Locking: all of it under the lock of the outermost budget, but for what a budget that
    stands alone does in one step.

    `limit`: None for an inner account that is not limited itself, infinite for an outermost one. `reserved`: of what is
    in flight, and of what inner accounts have taken. `held`: what this one has taken out of `outer` and not spent.
    `slack`: what float arithmetic may lose.
    """

    __slots__ = ("_closed", "held", "limit", "name", "outer", "reserved", "slack", "spent")

    def __init__(self, name: str, limit: float | None, outer: Account | None) -> None:
        self.name = name
        self.outer = outer
        self.spent: float = 0
        self.reserved: float = 0
        self.held: float = 0
        self._closed = False
        self.limit = math.inf if limit is None and outer is None else limit
        if limit is not None and outer is not None:
            self.limit = self.held = min(limit, max(0, outer.left))
            outer.reserve(self.held)
        self.slack = ROUNDING * (self.limit or 1.0)

    @property
    def limiting(self) -> Account:
        """The one whose limit binds this one: itself, or one around it."""
        return self if self.limit is not None or self.outer is None else self.outer.limiting

    @property
    def left(self) -> float:
        """What may still be reserved."""
        account = self.limiting
        return (account.limit or 0) - account.spent - account.reserved

    def allows(self, amount: float, free: float = 0) -> bool:
        """Is there anything left, and so much? `free`: of what is reserved so much may be used for it."""
        left = self.left + free
        return left > 0 and amount <= left + self.limiting.slack

    def take(self) -> bool:
        """One more is spent at once. False, and nothing is, where none is left."""
        limit = self.limit
        if limit is not None and self.spent + self.reserved + 1 > limit:
            return False
        outer = self.outer
        if outer is not None:
            if limit is None:
                if not outer.take():
                    return False
            else:
                self.held -= 1
                outer.settle(1, 1)
        self.spent += 1
        return True

    def reserve(self, amount: float) -> None:
        self.reserved += amount
        if self.limit is None and self.outer is not None:
            self.outer.reserve(amount)

    def settle(self, reserved: float, spent: float) -> None:
        """So much is in flight no longer, and so much was spent."""
        self.reserved -= reserved
        self.spent += spent
        if self.outer is not None:
            if self.limit is None:
                self.outer.settle(reserved, spent)
            else:
                covered = min(spent, self.held)
                self.held -= covered
                self.outer.settle(covered, spent)
                if self._closed:
                    self.close()

    def close(self) -> None:
        """Hand back what was not used, but for what is still in flight."""
        self._closed = True
        if self.limit is not None and self.outer is not None:
            unused = max(0, self.held - self.reserved)
            self.held -= unused
            self.outer.settle(unused, 0)
