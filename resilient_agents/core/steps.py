"""What happens between two items of a stream: a step is one coroutine, in either colour, and may have a time limit.

A layer that wants to see items wraps the step of the stream that it opened. A step is limited by one object for the
whole stream, whose alarm looks when it rings whether the step that it was set for is over: to set one for each step
would cost as much as the step. No limit and no scope is in force while the consumer has the item.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from resilient_agents.base import timers
from resilient_agents.base.clock import clock
from resilient_agents.core.bounds import deadline_exceeded
from resilient_agents.core.call import Call
from resilient_agents.core.loops import Loop, running_loop
from resilient_agents.core.runtime import EXPIRED, Expired
from resilient_agents.deadline import Deadline, current, enter, in_force, suspend

__all__ = ["Over", "Step", "StepLimit", "Steps"]


class Over:
    """What a step gives in place of an item when the stream has ended. `value`: what a generator returned."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


Step = Callable[[Any, BaseException | None], Awaitable[Any]]
"""Gives the item that the stream answers with to what was sent or thrown in, `Over` at its end."""

Task: TypeAlias = "asyncio.Task[Any]"


class StepLimit(Deadline):
    """How long the step may take that a stream is in. One object serves all steps of a stream, one at a time."""

    __slots__ = ("_loop", "_requests", "_set_for")

    def __init__(self, call: Call, *, own: bool) -> None:
        super().__init__(0.0, 0.0, None, own=own)
        self.active = False
        self.call = call.origin
        self._loop: Loop | None = None
        self._set_for = math.inf
        self._requests = 0

    async def hold(self, call: Call, now: float, seconds: float, step: Step, sent: Any, thrown: Any) -> Any:
        """One step that begins `now` and may take so many seconds: what it gives, or `EXPIRED`.

        A limit around it that ends earlier is left to whoever set it.
        """
        loop = None if call.runtime.blocking else running_loop()
        task = None if loop is None else asyncio.current_task(loop)
        owner = call.runtime.owner() if task is None else id(task)
        outer = current() if in_force() is not None else None
        if outer is not None and outer.at <= now + seconds and (outer.owner == owner or call.runtime.blocking):
            return await step(sent, thrown)
        self.outer = outer
        self.at = now + seconds
        self.seconds = seconds
        self.owner = owner
        self.rung = False
        self.active = True
        try:
            enter(self)
            if loop is not None and task is not None:
                return await self._in_task(loop, task, step, sent, thrown)
            if not call.runtime.blocking:
                with timers.scope(seconds) as self.scope:
                    return await step(sent, thrown)
                return EXPIRED
            try:
                return await step(sent, thrown)
            except Expired as expired:
                if expired.limit is not self:
                    raise
                return EXPIRED
        finally:
            self.active = self.rung = False  # first, and without a call: see `leave`
            self.task = self.scope = None
            suspend(self)

    async def _in_task(self, loop: Loop, task: Task, step: Step, sent: Any, thrown: Any) -> Any:
        self.task = task
        if not self.entry or self.at < self._set_for or loop is not self._loop:
            self._loop = loop
            self._set_for = self.at
            timers.set_alarm(loop, self.seconds, self)
        try:
            item = await step(sent, thrown)
        except BaseException as error:
            if self.rung and task.uncancel() <= self._requests and isinstance(error, asyncio.CancelledError):
                return EXPIRED
            raise
        if self.rung:
            task.uncancel()
        return item

    def ring(self) -> None:
        task = self.task
        if task is None:  # the consumer has the item: the next step sets the alarm anew
            return
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
        self.outer = None


class Steps:
    """The steps of one stream, each held to the deadline that its caller has set, if any."""

    __slots__ = ("_call", "_limit", "_step")

    def __init__(self, call: Call, step: Step) -> None:
        self._call = call
        self._step = step
        self._limit: StepLimit | None = None

    def next(self, sent: Any, thrown: BaseException | None) -> Awaitable[Any]:
        """One step."""
        if in_force() is None:
            return self._step(sent, thrown)
        return self._bounded(sent, thrown)

    def end(self) -> None:
        """There will be no further step."""
        if self._limit is not None:
            self._limit.end()

    async def _bounded(self, sent: Any, thrown: BaseException | None) -> Any:
        """In blocking code an item that comes late is handed out; there is no step after it."""
        call = self._call
        outer = current()
        if outer is None or (not call.runtime.blocking and outer.owner == call.runtime.owner()):
            return await self._step(sent, thrown)
        now = clock.monotonic()
        if outer.at > now:
            if call.runtime.blocking:
                return await self._step(sent, thrown)
            limit = self._limit = self._limit or StepLimit(call, own=False)
            item = await limit.hold(call, now, outer.at - now, self._step, sent, thrown)
            if item is not EXPIRED:
                return item
        raise deadline_exceeded(call, outer)
