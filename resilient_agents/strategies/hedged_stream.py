"""The race of a hedged stream, up to the first item: the winner goes on in the task or thread that reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from resilient_agents.core.branches import Branch
from resilient_agents.core.call import NEUTRAL, Call, Neutral, Proceed
from resilient_agents.core.driver import drive
from resilient_agents.core.opening import Opened, give_up, not_blocking
from resilient_agents.core.race import Race
from resilient_agents.core.threads import Workers
from resilient_agents.strategies.moving import changes, movable

__all__ = ["race_streams"]

Choose = Callable[[Proceed, Call, Race], Awaitable[Branch | None]]


async def race_streams(call: Call, proceed: Proceed, workers: Workers, choose: Choose) -> Opened:
    """The stream whose first item came first, as `choose` decides; the others are closed."""
    entering = partial(_enter, proceed)
    won: _Entrant | Opened = await Race(call).run(entering, workers, partial(choose, entering, call))
    return won.hand_over(call) if isinstance(won, _Entrant) else won


async def _enter(proceed: Proceed, branch: Call) -> Any:
    if not isinstance(branch, Branch):  # no thread was to be had
        return await proceed(branch)
    branch.closers = []
    branch.look_at_opening = movable
    before = copy_context()
    try:
        opened: Opened = await proceed(branch)
    finally:
        branch.look_at_opening = None
    return _Entrant(branch, opened, list(changes(before)))


class _Entrant:
    """A stream that one branch has opened. `close` and `aclose` are for one that lost."""

    __slots__ = ("_branch", "_left_set", "_opened")

    def __init__(self, branch: Branch, opened: Opened, left_set: list[Any]) -> None:
        self._branch = branch
        self._opened = opened
        self._left_set = left_set  # by layers of ours: movable streams leave nothing

    def hand_over(self, call: Call) -> Opened:
        """The stream, for the call that it is now the stream of."""
        branch = self._branch
        for variable, value in self._left_set:
            variable.set(value)
        assert call.closers is not None
        closers, branch.closers = branch.closers or [], []
        call.closers += [*closers, partial(_hand_back, call, branch)]
        return self._opened

    def close(self) -> None:
        drive(self.aclose(), not_blocking)

    async def aclose(self) -> None:
        await give_up(self._branch, self._opened, 0, NEUTRAL)


def _hand_back(call: Call, branch: Branch, _: Exception | Neutral | None) -> None:
    """What the layers outside want to know of the steps of the winner."""
    call.abandoned += tuple(worker for worker in branch.abandoned if worker not in call.abandoned)
    call.cut_short = branch.cut_short
