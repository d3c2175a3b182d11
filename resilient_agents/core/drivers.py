"""A stream is one call: the chain opens it and brings its first item, a driver hands out the rest.

The driver is itself the generator that the user iterates, so that `send`, `throw` and the return value pass through.
Blocking and async generators are different things of the language, which is why there are two drivers here and two of
nothing else. What strategies hold until the end of the stream stands in `call.closers`.

As long as nobody watches, no layer wants to see the items, no deadline is in force and nothing is sent or thrown in,
the rest of a stream is handed out by `yield from` or `async for`: then nothing is to be done between two items. Where
all that a layer wants is a limit for each step of an async stream, the driver takes the steps itself: a coroutine for
each would cost half as much again. A test holds the ways equal. (A blocking stream therefore heeds a deadline that is
in force when its first item is asked for, not one that begins later.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from resilient_agents.base.now import now
from resilient_agents.core.call import NEUTRAL, Boxed, Call, Neutral
from resilient_agents.core.driver import drive
from resilient_agents.core.interrupt import Interrupt
from resilient_agents.core.loops import running_loop
from resilient_agents.core.opening import Opened, not_blocking, open_source
from resilient_agents.core.pace import Pace
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime
from resilient_agents.core.steps import Bounded, Over
from resilient_agents.events import Recorder

__all__ = ["Begin", "async_driver", "blocking_driver"]

Begin = Callable[[Runtime, tuple[Any, ...], dict[str, Any]], Call]
"""Makes the call, with the plan in force when the first item is asked for."""


def blocking_driver(begin: Begin) -> Callable[..., Generator[Any, Any, Any]]:
    """The generator function that hands out a blocking stream."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(BLOCKING, args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        bounded: Bounded | None = None
        try:
            opened = call.opened = drive(_opened(call), not_blocking)
            item, iterator, recorder = opened.first, opened.iterator, _recorder(call)
            step = opened.step or opened.read if call.audience is None else Pace(opened, call.audience).step
            quick = call.audience is None and opened.step is None and hasattr(iterator, "__iter__")
            while not opened.over:
                sent = thrown = None
                try:
                    if recorder is not None:
                        recorder.suspend()
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `throw` forwards whatever the consumer throws in, as `yield from` does
                    thrown = error
                finally:
                    if recorder is not None:
                        recorder.resume()
                if quick and sent is None and thrown is None and now.deadline() is None:
                    item = yield from iterator
                    break
                if bounded is None and now.deadline() is not None:
                    bounded = Bounded(call, step)
                    step = bounded.step
                try:
                    item = drive(step(sent, thrown), not_blocking)
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
            _end(call, outcome, bounded)
            outcome = None

    return guarded


def async_driver(begin: Begin, interrupt: Interrupt | None = None) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The async generator function that hands out an async stream. `interrupt`: how it may be closed while it is
    read."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(ASYNC, args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        bounded: Bounded | None = None
        try:
            on_trio = interrupt is not None and running_loop() is None
            if interrupt is None or not on_trio:
                opened = await _unboxing(_opened(call))
            else:
                opened = await interrupt.around(lambda *_: _unboxing(_opened(call)))(None, None)
                if type(opened) is Over:
                    return
                opened.step = interrupt.around(opened.step or opened.read)
            call.opened = opened
            item, iterator, recorder = opened.first, opened.iterator, _recorder(call)
            step = opened.step or opened.read if call.audience is None else Pace(opened, call.audience).step
            quick = call.audience is None and opened.step is None
            quick = quick and hasattr(iterator, "__anext__") and hasattr(iterator, "__aiter__")
            limited = opened.limited if call.audience is None else None
            if limited is not None and running_loop() is None:
                limited = None  # on trio a step has a scope, beside which a coroutine is nothing
            while not opened.over:
                sent = thrown = None
                try:
                    if recorder is not None:
                        recorder.suspend()
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `athrow` forwards whatever the consumer throws in
                    thrown = error
                finally:
                    if recorder is not None:
                        recorder.resume()
                plain = sent is None and thrown is None and now.deadline() is None
                if quick and plain:
                    async for item in iterator:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            thrown = error
                        if sent is not None or thrown is not None or now.deadline() is not None:
                            break
                    else:
                        break
                while plain and limited is not None and not limited.due:
                    limit = limited.limit
                    try:
                        limit.begin(limited.idle)
                        item = await anext(iterator)
                    except BaseException as error:
                        item = limited.raised(error)
                    finally:
                        limit.active = False
                        limit.finish()
                    limited.items += 1
                    if type(item) is not limited.blank:
                        if type(item) is Over:
                            break
                        limited.see(item)
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        thrown = error
                        break
                    plain = sent is None and now.deadline() is None
                if type(item) is Over:
                    break
                if bounded is None and now.deadline() is not None:
                    bounded = Bounded(call, step)
                    step = bounded.step
                try:
                    item = await step(sent, thrown)
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
            await _aend(call, outcome, bounded)
            outcome = None

    return guarded


async def _opened(call: Call) -> Opened:
    return await open_source(call, await call.plan.enter(call)(call))


async def _unboxing(opening: Any) -> Opened:
    try:
        opened: Opened = await opening
        return opened
    except Boxed as boxed:
        raise RuntimeError("the function raised StopIteration") from boxed.error


def _recorder(call: Call) -> Recorder | None:
    return None if call.audience is None else call.audience.recorder


def _end(call: Call, outcome: Exception | Neutral | None, bounded: Bounded | None) -> None:
    """Close what was opened, then give back what is held for it."""
    try:
        if bounded is not None:
            bounded.end()
        if call.opened is not None:
            call.opened.close(outcome)
    except Exception as error:
        outcome = outcome if isinstance(outcome, Exception) else error
        raise
    finally:
        call.close(outcome)
        outcome = None


async def _aend(call: Call, outcome: Exception | Neutral | None, bounded: Bounded | None) -> None:
    try:
        if bounded is not None:
            bounded.end()
        if call.opened is not None:
            await call.opened.aclose(outcome)
    except Exception as error:
        outcome = outcome if isinstance(outcome, Exception) else error
        raise
    finally:
        call.close(outcome)
        outcome = None
