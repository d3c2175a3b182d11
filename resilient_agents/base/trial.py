"""What a test or an experiment changes for every call of the process, for as long as it lasts.

It is looked at where a chain is composed, and after a failure: an ordinary call never comes here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Final

from resilient_agents.base.fork import Lock
from resilient_agents.base.now import changed

__all__ = ["VARIABLE", "Trial", "trial"]

VARIABLE: Final = "RESILIENT_AGENTS_CHAOS"
"""In the environment: an experiment that begins with the process (see registry/experiments.py)."""

_changing = Lock()


class Trial:
    """`attempts`: at most so many for each call of a retry, None for as many as it says; `waits`: do retries wait?
    `observers`: of every call, and of what happens outside of calls; `inside`: by the name of a policy the strategies
    that stand inside all of its own."""

    __slots__ = ("attempts", "inside", "observers", "waits")

    def __init__(self) -> None:
        self.attempts: int | None = None
        self.waits = True
        self.observers: tuple[Any, ...] = ()
        self.inside: dict[str, tuple[Any, ...]] = {}

    @contextlib.contextmanager
    def observed(self, subscription: Any) -> Generator[None, None, None]:
        """Until the block ends, `subscription` hears of everything."""
        try:
            with _changing:
                self.observers = (*self.observers, subscription)
            changed()
            yield
        finally:
            try:
                self._dismiss(subscription)
            except BaseException:  # from outside, in the midst of it
                self._dismiss(subscription)
                raise

    def _dismiss(self, subscription: Any) -> None:
        with _changing:
            self.observers = tuple(other for other in self.observers if other is not subscription)
        changed()

    @contextlib.contextmanager
    def placed(self, strategy: Any, name: str) -> Generator[None, None, None]:
        """Until the block ends, `strategy` stands inside the policy of this name."""
        try:
            with _changing:
                self.inside = {**self.inside, name: (*self.inside.get(name, ()), strategy)}
            changed()
            yield
        finally:
            try:
                self._take_out(strategy, name)
            except BaseException:  # from outside, in the midst of it
                self._take_out(strategy, name)
                raise

    def _take_out(self, strategy: Any, name: str) -> None:
        with _changing:
            left = tuple(other for other in self.inside.get(name, ()) if other is not strategy)
            self.inside = {**self.inside, name: left}
        changed()


trial: Final = Trial()
