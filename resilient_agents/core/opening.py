"""The beginning and the end of a stream: what a function gave is opened up to its first item, and closed.

A function that is streamed may give an iterable, an async one, an awaitable of these, a context manager that must be
entered first (`client.messages.stream`, httpx's `.stream`), or a plain answer, which is then the only item.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from resilient_agents.base.told import Fields
from resilient_agents.core.call import Call, Neutral
from resilient_agents.core.driver import SWITCH, discard, drive, is_awaitable
from resilient_agents.core.invoke import plainly
from resilient_agents.core.responses import close_one
from resilient_agents.core.steps import Limited, Over, Step
from resilient_agents.core.threads import Worker, Workers, run_in_worker

__all__ = ["Opened", "aclose", "close", "give_up", "invoke_stream", "not_blocking", "open_source"]

Outcome = BaseException | Neutral | None


class Opened(Fields):
    """A source with its first item. `over`: it has been read to its end; when it ended before a first item, `first` is
    what it returned.

    `source`: what is iterated, which often has a connection to close that its iterator knows nothing of; None for a
    plain answer, which belongs to whoever gets it. `manager`: what was entered to come by the source. `step`: how the
    items after the first are come by, where a layer wants to see them; None for `read` alone. `limited`: a layer that
    wants nothing but to limit most steps, if its own is the step. `left_to`: the thread that still reads it, although
    nobody waits any more. `parts`: how many streams it is made of. `raised`: while it closes, what ended it: its own
    error, or that of the block around it.
    """

    source: Any
    iterator: Any
    first: Any
    manager: Any
    over: bool = False
    parts: int = 1
    raised: BaseException | None = None
    step: Step | None = None
    limited: Limited | None = None
    left_to: Worker | None = None

    async def read(self, sent: Any = None, thrown: BaseException | None = None) -> Any:
        """The step without any layer: the item that the iterator answers with, `Over` at its end."""
        iterator = self.iterator
        try:
            if sent is None and thrown is None:
                return await anext(iterator) if hasattr(iterator, "__anext__") else next(iterator)
            throw = getattr(iterator, "athrow", None) or getattr(iterator, "throw", None)
            if thrown is None:
                answer = (getattr(iterator, "asend", None) or iterator.send)(sent)
            elif throw is None:
                raise thrown
            else:
                answer = throw(thrown)
            return await answer if hasattr(iterator, "__anext__") else answer
        except StopIteration as stop:
            return Over(stop.value)
        except StopAsyncIteration:
            return Over(None)
        finally:
            del thrown  # no cycle through the traceback

    async def end(self, outcome: Outcome, *, blocking: bool) -> None:
        """Close it, and leave what was entered for it, in this colour."""
        if self.left_to is not None and not self.left_to.done:
            reader, self.left_to = self.left_to, None
            reader.on_done(partial(self.close, None))  # a generator that runs cannot be closed
            return
        raised = self.raised = outcome if isinstance(outcome, BaseException) else self.raised
        try:
            await aclose(self.iterator, self.source) if not blocking else close(self.iterator, self.source)
        finally:
            self.raised = None
            if self.manager is not None:
                await _leave(self.manager, raised, blocking=blocking)

    def close(self, outcome: Outcome) -> None:
        """The same from blocking code."""
        drive(self.end(outcome, blocking=True), not_blocking)


async def give_up(call: Call, opened: Opened, kept: int, outcome: Exception | Neutral | None) -> None:
    """Close a stream that was opened and is not handed out, and run what the layers inside have left for its end: all
    closers but the first `kept`. What that raises gives way to the reason for it."""
    try:
        with suppress(Exception):
            await opened.end(outcome, blocking=call.runtime.blocking)
    finally:
        with suppress(Exception):
            call.close(outcome, kept)


async def invoke_stream(call: Call) -> Opened:
    """The innermost step for streams, in either colour: call the function and bring the first item."""
    if call.workers is not None and call.runtime.blocking:
        return await _open_in_worker(call, call.workers)
    return await open_source(call, plainly(call))


async def open_source(call: Call, source: Any, manager: Any = None) -> Opened:
    """Open what the user's function, or the handler of a fallback, gave. `manager`: what was entered to get it."""
    if isinstance(source, Opened):
        return source
    opening = _open(call, source, manager)
    return await (opening if call.look_at_opening is None else call.look_at_opening(call, opening))


async def _open(call: Call, source: Any, manager: Any) -> Opened:
    if is_awaitable(source) and not hasattr(source, "__aiter__"):
        await _leave_blocking(call, source)
        source = await source
    if hasattr(source, "__aiter__") and not (call.runtime.blocking and hasattr(source, "__iter__")):
        await _leave_blocking(call, source)
        return await _first_async(source, manager)
    if hasattr(source, "__iter__") and not isinstance(source, str | bytes | dict):
        if (reads := call.rare.reads) is not None:
            reads(source)
        return _first(source, manager)
    if manager is None and _is_manager(source):
        return await _enter(call, source)
    return Opened(None if manager is None else source, iter(()), source, manager)


def _is_manager(source: Any) -> bool:
    kind = type(source)
    return hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")


async def _enter(call: Call, manager: Any) -> Opened:
    kind = type(manager)
    if hasattr(kind, "__aenter__") and not (call.runtime.blocking and hasattr(kind, "__enter__")):
        await _leave_blocking(call, manager)
        entered = await manager.__aenter__()
    else:
        entered = manager.__enter__()
    try:
        return await _open(call, entered, manager)
    except BaseException as error:
        await _leave(manager, error, blocking=call.runtime.blocking)
        raise


async def _leave(manager: Any, error: BaseException | None, *, blocking: bool) -> None:
    seen = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    if hasattr(type(manager), "__aexit__") and not blocking:
        await manager.__aexit__(*seen)
    else:
        manager.__exit__(*seen)


async def _leave_blocking(call: Call, source: Any) -> None:
    if call.runtime.blocking:
        try:
            await SWITCH
        finally:
            discard(source)  # the driver of a blocking stream never comes back: there is nothing to await it with


async def _open_in_worker(call: Call, workers: Workers) -> Opened:
    """Open it in a thread of ours. One that is opened when nobody waits any more is closed at once."""
    settled: dict[str, Opened | None] = {}  # by whoever is first: the thread that opened it, or the caller who left

    def work() -> Opened:
        opened: Opened = drive(open_source(call, plainly(call)), not_blocking)
        if settled.setdefault("opened", opened) is not opened:
            opened.close(None)
        return opened

    came = False
    try:
        result: Opened = await run_in_worker(call, workers, work)
        came = True
        return result
    finally:
        if not came and (late := settled.setdefault("opened", None)) is not None:
            late.close(None)


def not_blocking(chain: Any) -> Any:
    """What a blocking driver answers to a stream that turns out to be asynchronous."""
    chain.close()
    raise TypeError("this stream is asynchronous: iterate it with `async for`")


def _first(source: Any, manager: Any) -> Opened:
    iterator: Any = None
    try:
        iterator = iter(source)
        return Opened(source, iterator, next(iterator), manager)
    except StopIteration as stop:
        return Opened(source, iterator, stop.value, manager, over=True)
    except BaseException:
        close(iterator, source)
        raise


async def _first_async(source: Any, manager: Any) -> Opened:
    iterator: Any = None
    try:
        iterator = aiter(source)
        return Opened(source, iterator, await anext(iterator), manager)
    except StopAsyncIteration:
        return Opened(source, iterator, None, manager, over=True)
    except BaseException:
        await aclose(iterator, source)
        raise


def close(iterator: Any, source: Any = None) -> None:
    """Close both, if they are two."""
    try:
        close_one(iterator)
    finally:
        if source is not iterator and not isinstance(source, list | tuple):
            close_one(source)


async def aclose(iterator: Any, source: Any = None) -> None:
    """The same for either kind of source, from async code."""
    try:
        await _aclose_one(iterator)
    finally:
        if source is not iterator:
            await _aclose_one(source)


async def _aclose_one(thing: Any) -> None:
    closes = getattr(thing, "aclose", None) or getattr(thing, "close", None)
    if closes is not None:
        closing = closes()
        if is_awaitable(closing):
            await closing
