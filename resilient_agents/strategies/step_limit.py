"""How long each step of a stream may take.

A step is limited by one object for the whole stream, whose alarm looks when it rings whether the step that it was set
for is over: to set one for each step would cost as much as the step. No limit and no scope is in force while the
consumer has the item.
"""

from __future__ import annotations

import asyncio
import math
from threading import get_ident
from typing import Any, Protocol

from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.core.bounds import WHOLE
from resilient_agents.core.call import Call
from resilient_agents.core.loops import Loop, running_loop, task_on
from resilient_agents.core.runtime import BLOCKING, Expired
from resilient_agents.core.threads import Workers
from resilient_agents.deadline import Deadline, current, in_force, put_in_force

__all__ = ["Limits", "StepLimit"]


class Limits(Protocol):
    """The options that a stream needs of its `StreamTimeout`."""

    first_item: float | None
    idle: float | None
    total: float | None
    complete: Any
    preamble: Any
    thread: bool | None
    workers: Workers | None


class StepLimit(Deadline):
    """How long the step may take that a stream is in. One object serves all steps of a stream, one at a time.

    Each step is a path of every item, so that what `enter` and `leave` do stands here once more, spelled out.
    """

    __slots__ = ("_call", "_loop", "_requests", "_set_for", "_thread")

    def __init__(self, call: Call) -> None:
        super().__init__(0.0, 0.0, None, own=True)
        self.active = False
        self.call = call.origin
        self._call = call
        self._loop: Loop | None = None
        self._thread = 0
        self._set_for = math.inf  # when the alarm rings that is set
        self._requests = 0
        if call.rare.cut_short:
            call.cut_short = False

    def begin(self, seconds: float) -> float:
        """A step begins that may take so many seconds: when. To be called inside `try`; followed by `active = False`
        and `finish` in any case, by `cut_off` if it raises. Where a limit around it ends earlier, that is left to
        whoever set it."""
        now = clock.monotonic()
        self.at = at = now + seconds
        outer = in_force()
        if outer is not None and self._gives_way(now, outer := current()):
            return now
        self.outer = outer
        self.seconds = seconds
        self.active = True
        put_in_force(self)
        # To ask for the loop that runs is dear: where the task of the step before runs on, its loop does.
        if get_ident() != self._thread or task_on(self._loop) is not self.task or at < self._set_for:
            self._begin_elsewhere(at, seconds)
        return now

    def _begin_elsewhere(self, at: float, seconds: float) -> None:
        """In a task that has not run a step yet, or on trio, or in blocking code; or the alarm is to be set."""
        if self._call.runtime.blocking:
            self.owner = BLOCKING.owner()
            return
        self._loop = loop = running_loop()
        task = None if loop is None else task_on(loop)
        if loop is None or task is None:
            self._enter_scope(seconds)
            return
        if task is not self.task:
            self.task = task
            self.owner = id(task)
            self._thread = get_ident()
            self._set_for = math.inf
        if at < self._set_for:
            self._set_for = at
            timers.set_alarm(loop, seconds, self)

    def _gives_way(self, now: float, outer: Deadline | None) -> bool:
        if outer is None or outer.at > self.at:
            return False
        call = self._call
        if not call.runtime.blocking and outer.owner != call.runtime.owner():
            return False
        # Running into it tells nothing about the callee, unless it is this call's own and still whole.
        call.cut_short = outer.call != call.origin or outer.at - now < WHOLE * outer.seconds
        return True

    def _enter_scope(self, seconds: float) -> None:
        self.owner = self._call.runtime.owner()
        scope = timers.scope(seconds)
        scope.__enter__()
        self.scope = scope

    def cut_off(self, error: BaseException) -> bool:
        """Is this error of the step nothing but that its time was up?"""
        if self.rung and self.task is not None:
            self.rung = False
            uncancelled = self.task.uncancel() <= self._requests
            return uncancelled and isinstance(error, asyncio.CancelledError)
        scope, self.scope = self.scope, None
        if scope is not None:
            return bool(scope.__exit__(type(error), error, error.__traceback__))
        return isinstance(error, Expired) and error.limit is self

    def finish(self) -> None:
        """The step is over, and has said so: an exception from outside may keep this from beginning."""
        if self.rung:  # the step has taken the cancellation for itself, and given an item
            self.rung = False
            if self.task is not None:
                self.task.uncancel()
        if in_force() is self:
            put_in_force(self.outer)

    def ring(self) -> None:
        self._set_for = math.inf
        if not self.active:  # the consumer has the item: the next step sets the alarm anew
            return
        task = self.task
        left = self.at - clock.monotonic()
        if left > 0:
            self._set_for = self.at
            timers.set_alarm(task.get_loop(), left, self)
        else:
            self.rung = True
            self._requests = task.cancelling()
            task.cancel()

    def end(self) -> None:
        """There will be no further step."""
        self.entry = 0
        self.outer = self.task = None
