"""The branches of a race: several passes of one call at the same time; and what runs them in threads."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from resilient_agents.core.call import ORDINARY, Boxed, Call, Proceed, Strategy, name_of
from resilient_agents.core.driver import discard, drive
from resilient_agents.core.opening import not_blocking
from resilient_agents.core.responses import close_now
from resilient_agents.core.threads import Ended, Worker, Workers
from resilient_agents.errors import Rejected

__all__ = ["Branch", "InThreads"]


_INHERITED = ("plan", "runtime", "fn", "args", "kwargs", "audience", "hedge", "waited", "cut_short", "workers", "write")


class Branch(Call, Ended):
    """One of several passes of a call, through what is inside `strategy`, and how it ended.

    Layers outside know the call only as `parent`, so what they have a say in is that one's: the first `outside` of the
    layers that want a second look are asked about it. How it ended says `result`, or `outcome`, which is an error.
    `lost`: nobody wants it any more.
    """

    __slots__ = ("hedge", "look_at_opening", "lost", "outcome", "outside", "parent", "result")

    def __init__(self, parent: Call, strategy: Strategy) -> None:
        self.rare = ORDINARY
        for name in _INHERITED:
            setattr(self, name, getattr(parent, name))
        self.parent = parent
        self.outside = len(parent.outer_rechecks(strategy))
        self.lost = False
        self.result: Any = None
        self.outcome: BaseException | None = None

    @property
    def origin(self) -> int:
        origin: int = self.parent.origin
        return origin

    def recheck(self, strategy: Strategy, waited: float) -> None:
        self.waited += waited
        if self.lost:  # in a thread of its own, where nothing else can stop it
            raise Rejected(f"{self.name!r} was answered while this hedge waited", policy=self.name, strategy="hedge")
        for position, recheck in enumerate(self.outer_rechecks(strategy)):
            call: Call = self
            while isinstance(call, Branch) and position < call.outside:
                call = call.parent  # as the layer there knows it
            recheck(call)

    def drop(self) -> Any:
        self.error = None
        return super().drop()


class Ends(Protocol):
    """Who wants to know that branches have ended: the race. `kept`: the result that is not to be closed."""

    kept: Any

    def end(self, branch: Branch) -> bool: ...


class InThreads:
    """Branches that are worker threads, which nothing can stop."""

    def __init__(self, race: Ends, workers: Workers, call: Call) -> None:
        self._race = race
        self._workers = workers
        self._started: list[Worker] = []
        self._rare = call.own_rare()
        self._before = self._rare.abandoned

    def start(self, branch: Branch, proceed: Proceed) -> None:
        """Raises Rejected where there is no thread for it."""
        worker = self._workers.prepare(partial(self._run, branch, proceed))
        self._started.append(worker)
        # Before it begins: an exception from outside may keep `leave` from beginning.
        self._rare.abandoned = (*self._rare.abandoned, worker)
        self._workers.begin(worker, branch.name)
        worker.on_done(partial(self._done, branch))

    def leave(self) -> None:
        """Nobody waits any more for those that still run; the others are as if they had never been."""
        running = [worker for worker in self._started if not worker.done]
        for worker in running:
            self._workers.leave(worker)
        self._rare.abandoned = (*self._before, *running) if running else self._before

    def _run(self, branch: Branch, proceed: Proceed) -> None:
        try:
            branch.result = drive(proceed(branch), partial(_refuse_awaitable, branch))
        except StopIteration as stop:
            branch.outcome = Boxed(stop)
        except BaseException as error:  # carried to the thread that waits
            branch.outcome = error
        if branch.lost:  # here rather than when done: by then the thread counts as free
            self._close(branch)

    def _done(self, branch: Branch) -> None:
        if not self._race.end(branch):
            self._close(branch)

    def _close(self, branch: Branch) -> None:
        result = branch.drop()
        if result is not self._race.kept:
            close_now(result)


def _refuse_awaitable(call: Call, chain: Any) -> Any:
    if call.closers is not None:
        return not_blocking(chain)
    discard(chain)
    raise TypeError(
        f"{name_of(call.fn)} returned an awaitable, and what is hedged in a blocking call runs in threads: "
        f"use `await policy.acall(...)`, or decorate an async function"
    )
