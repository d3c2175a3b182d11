"""A stream is one call: the chain opens it and brings its first item, a driver hands out the rest.

The driver is itself the generator that the user iterates, so that `send`, `throw` and the return value pass through.
Blocking and async generators are different things of the language, which is why there are two drivers here and two of
nothing else. What strategies hold until the end of the stream stands in `call.closers`.

A driver does the handing out, and what it hands out is a `Reading`. As long as nobody watches, no layer wants to see
the items and no deadline is in force, a driver asks the source itself: then nothing is to be done between two items but
to look for a deadline. (`send` is what costs least, a frame less than `next`, and keeps what a generator returns.) What
is raised there was thrown in, unless it has ended the source. Where all that a layer wants is a limit for each step of
an async stream, it hands the items out as a generator, which is the source then: a coroutine for each step would cost
half as much again. Tests hold the ways equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from resilient_agents.base.clock import clock
from resilient_agents.core.bounds import bounded, deadline_exceeded
from resilient_agents.core.call import NEUTRAL, STOPPED, Boxed, Call, Neutral
from resilient_agents.core.driver import drive
from resilient_agents.core.interrupt import Interrupt
from resilient_agents.core.loops import running_loop
from resilient_agents.core.opening import Opened, not_blocking, open_source
from resilient_agents.core.pace import Pace
from resilient_agents.core.runtime import ASYNC, BLOCKING, Expired, Runtime
from resilient_agents.core.steps import Over, Step
from resilient_agents.deadline import current, in_force
from resilient_agents.events.recorder import SILENT

__all__ = ["Begin", "async_driver", "blocking_driver"]

Begin = Callable[[Runtime, tuple[Any, ...], dict[str, Any]], Call]
"""Makes the call, with the plan in force when the first item is asked for."""


class Reading:
    """A stream that is handed out, as both drivers see it.

    `quick`: what a driver may ask itself, because nobody wants to know of its items, None where it may not. `limited`:
    the layer that merely limits the steps, where that is all that anybody wants of them.
    """

    __slots__ = ("_interrupt", "_recorder", "_step", "call", "limited", "quick")

    in_force = staticmethod(in_force)
    """Drivers find it here: cloudpickle takes the globals of a generator function along, and a context variable cannot
    be pickled."""

    def __init__(self, call: Call, interrupt: Interrupt | None = None) -> None:
        self.call = call
        call.closers = []
        self.quick: Any = None
        self._interrupt = interrupt
        self._recorder = SILENT
        self._step: Step

    async def open(self) -> Opened | Over:
        """The stream with its first item; `Over` if it was closed meanwhile."""
        if self._interrupt is None or running_loop() is not None:
            return await self._open(None)
        opened: Opened | Over = await self._interrupt.around(lambda *_: self._open(self._interrupt))(None, None)
        return opened

    async def _open(self, around: Interrupt | None) -> Opened:
        call = self.call
        try:
            opened = call.opened = await open_source(call, await call.plan.enter(call)(call))
        except Boxed as boxed:
            raise RuntimeError(STOPPED) from boxed.error
        if around is not None:
            opened.step = around.around(opened.step or opened.read)
        self._step = opened.step or opened.read
        if call.audience is not None:
            self._recorder = call.audience.recorder
            self._step = Pace(opened, call.audience).step
        elif opened.step is None:
            self.quick = _quick(opened.iterator, blocking=call.runtime.blocking)
        elif opened.limited is not None and opened.step == opened.limited.step:
            self.quick = opened.limited.flow()
        return opened

    def was_thrown(self, error: BaseException) -> bool:
        """Has the consumer thrown in what was raised while a driver asked the source or handed out, for the source to
        see? Else it came from there, or closes the stream."""
        frame = getattr(self.quick, "gi_frame", None) or getattr(self.quick, "ag_frame", None)
        return (frame is not None or self.quick is None) and not isinstance(error, GeneratorExit)

    def step(self, sent: Any, thrown: BaseException | None) -> Awaitable[Any]:
        """The consumer is back, perhaps with a deadline: what the stream answers."""
        self._recorder.resume()
        return self._step(sent, thrown) if in_force() is None else self._in_time(sent, thrown)

    async def _in_time(self, sent: Any, thrown: BaseException | None) -> Any:
        """A step held to the deadline that its caller has set, if any. In blocking code an item that comes late is
        handed out; there is no step after it."""
        call, limit = self.call, current()
        try:
            blocking = call.runtime.blocking
            if (
                limit is None
                or not isinstance(thrown, Exception | None)
                or (not blocking and limit.owner == call.runtime.owner())  # whoever set it cuts this off
            ):
                return await self._step(sent, thrown)
            if not blocking:
                call.error = thrown
                return await bounded(lambda _: self._step(sent, thrown), limit, call)
            if limit.at > clock.monotonic():
                try:
                    return await self._step(sent, thrown)
                except Expired:  # in its thread
                    pass
            raise deadline_exceeded(call, limit) from thrown
        finally:
            thrown = None

    async def end(self, outcome: Exception | Neutral | None) -> None:
        """Close what was opened, then give back what is held for it."""
        call = self.call
        try:
            self._recorder.resume()
            if call.opened is not None:
                if call.opened.limited is not None and self.quick is not None:
                    await self.quick.aclose()
                await call.opened.end(outcome, blocking=call.runtime.blocking)
        except Exception as error:
            outcome = outcome if isinstance(outcome, Exception) else error
            raise
        finally:
            call.close(outcome)
            outcome = None

    def leave(self) -> None:
        """Nothing of ours stays current, however far the end has come."""
        self._recorder.end()


def _quick(iterator: Any, *, blocking: bool) -> Any:
    """The iterator, if a driver may ask it itself: a generator, or an async one that takes nothing thrown in."""
    if blocking:
        return iterator if isinstance(iterator, GeneratorType) else None
    takes = isinstance(iterator, AsyncGeneratorType) or not (hasattr(iterator, "asend") or hasattr(iterator, "athrow"))
    return iterator if takes and hasattr(iterator, "__anext__") and hasattr(iterator, "__aiter__") else None


def blocking_driver(begin: Begin) -> Callable[..., Generator[Any, Any, Any]]:
    """The generator function that hands out a blocking stream."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        reading, in_force = Reading(begin(BLOCKING, args, kwargs)), Reading.in_force
        outcome: Exception | Neutral | None = NEUTRAL
        try:
            opened: Opened = drive(reading.open(), not_blocking)
            item, quick = opened.first, reading.quick
            while not opened.over:
                sent = thrown = None
                try:
                    sent = yield item
                    if quick is not None and sent is None:
                        take = quick.send
                        while in_force() is None:
                            sent = yield take(sent)
                except BaseException as error:
                    if not reading.was_thrown(error):
                        if not isinstance(error, StopIteration):
                            raise
                        item = error.value
                        break
                    thrown = error
                try:
                    item = drive(reading.step(sent, thrown), not_blocking)
                finally:
                    thrown = None
                if type(item) is Over:
                    item = item.value
                    break
            outcome, opened.over = None, True
            return item
        except Exception as error:
            outcome = error
            raise
        finally:
            try:
                drive(reading.end(outcome), not_blocking)
            except BaseException:  # from outside, perhaps
                reading.leave()
                raise
            finally:
                outcome = None

    return guarded


def async_driver(begin: Begin, interrupt: Interrupt | None = None) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The async generator function that hands out an async stream. `interrupt`: how it may be closed while it is
    read."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        reading, in_force = Reading(begin(ASYNC, args, kwargs), interrupt), Reading.in_force
        outcome: Exception | Neutral | None = NEUTRAL
        try:
            opened = await reading.open()
            if isinstance(opened, Over):
                return
            item, quick = opened.first, reading.quick
            while not opened.over:
                sent = thrown = None
                try:
                    sent = yield item
                    if quick is not None and sent is None and in_force() is None:
                        async for item in quick:
                            sent = yield item
                            if sent is not None or in_force() is not None:
                                break
                        else:
                            break
                except BaseException as error:
                    if not reading.was_thrown(error):
                        raise
                    thrown = error
                try:
                    item = await reading.step(sent, thrown)
                finally:
                    thrown = None
                if type(item) is Over:
                    break
            if interrupt is None or not interrupt.wished:
                outcome, opened.over = None, True
        except Exception as error:
            outcome = error
            raise
        except asyncio.CancelledError:
            if interrupt is None or not interrupt.heard():
                raise
        finally:
            if interrupt is not None:
                interrupt.ends()
            try:
                await reading.end(outcome)
            except BaseException:  # from outside, perhaps
                reading.leave()
                raise
            finally:
                outcome = None

    return guarded
