"""A policy that is known by its name until somebody needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy

__all__ = ["LatePolicy"]


class LatePolicy(Policy):
    """A policy that is `find()`, asked for at its first call. Raises then what `find` raises, and asks again at the
    next. It pickles if `find` does, which is asked again in the other process."""

    def __init__(self, find: Callable[[], Policy], *, name: str) -> None:
        super().__init__(name=name)
        self._again = functools.partial(type(self), find, name=name)
        self._find = find

    def bind(self) -> tuple[Strategy, ...]:
        if not self.strategies:  # neither found nor replaced
            self.become(Policy(self._find()))
        return super().bind()

    def renewed(self, new: Policy) -> Policy:
        """The new one, which finds what it is, with all state, where this one has found it."""
        return new

    def __reduce__(self) -> Any:
        return self._again, ()
