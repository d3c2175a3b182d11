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
from resilient_agents.core.managed import Managed, is_manager
from resilient_agents.core.responses import close_one
from resilient_agents.core.runtime import settle
from resilient_agents.core.steps import Limited, Over, Step
from resilient_agents.core.threads import Worker, Workers, run_in_worker

__all__ = ["Opened", "aclose_one", "give_up", "invoke_stream", "not_blocking", "open_source"]

Outcome = BaseException | Neutral | None
_WHOLE = (str, bytes, dict)  # answers that could be iterated, and are not meant to be


class Opened(Fields):
    """A source with its first item. `over`: it has been read to its end; when it ended before a first item, `first` is
    what it returned.

    `source`: what is iterated, or has what is, and often a connection to close that its iterator knows nothing of; None
    for a plain answer, which belongs to whoever gets it. `asynchronous`: so is the iterator. `manager`: what was
    entered to come by the source. `step`: how the items after the first are come by, where a layer wants to see them;
    None for `read` alone. `limited`: a layer that wants nothing but to limit most steps, if its own is the step.
    `left_to`: the thread that still reads it, although nobody waits any more. `parts`: how many streams it is made of.
    `raised`: while it closes, what ended it: its own error, or that of the block around it.
    """

    source: Any = None
    iterator: Any = None
    first: Any = None
    asynchronous: bool = False
    manager: Any = None
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
                return await anext(iterator) if self.asynchronous else next(iterator)
            send, throw = ("asend", "athrow") if self.asynchronous else ("send", "throw")
            if thrown is None:
                answer = getattr(iterator, send)(sent)
            elif hasattr(iterator, throw):
                answer = getattr(iterator, throw)(thrown)
            else:
                raise thrown
            return await answer if self.asynchronous else answer
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
            try:
                await aclose_one(self.iterator, blocking=blocking)
            finally:
                if self.source is not self.iterator:
                    await aclose_one(self.source, blocking=blocking)
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


async def open_source(call: Call, source: Any) -> Opened:
    """Open what the user's function, or the handler of a fallback, gave."""
    if isinstance(source, Opened):
        return source
    opening = _open(call, source)
    return await (opening if call.look_at_opening is None else call.look_at_opening(call, opening))


async def _open(call: Call, given: Any) -> Opened:
    opened = Opened()
    try:
        source = given
        if not _is_iterable(given):
            source = await _entered(call, opened, given)
            if not _is_iterable(source):
                opened.first, opened.iterator = source, iter(())
                return opened
        if hasattr(source, "__aiter__") and not (call.runtime.blocking and hasattr(source, "__iter__")):
            await _leave_blocking(call, source)
            opened.asynchronous = True
        elif (reads := call.rare.reads) is not None:
            reads(source if opened.manager is None else opened.source)
        if opened.manager is None:
            opened.source = source
        opened.iterator = aiter(source) if opened.asynchronous else iter(source)
        opened.first = await opened.read()
        if type(opened.first) is Over:
            opened.first, opened.over = opened.first.value, True
        return opened
    except BaseException as error:
        await opened.end(error, blocking=call.runtime.blocking)
        raise


def _is_iterable(source: Any) -> bool:
    if hasattr(source, "__aiter__"):
        return True
    return hasattr(source, "__iter__") and not isinstance(source, _WHOLE) and not is_awaitable(source)


async def _entered(call: Call, opened: Opened, given: Any) -> Any:
    """What comes of what a function gave, where that cannot be iterated itself: awaited, or entered."""
    if isinstance(given, Managed):
        manager = given.manager if is_manager(given.manager) else await settle(call, given.manager)
        await _enter(call, opened, given.checked(manager))
        return given.stream_of(opened.source)
    source = await settle(call, given)
    if is_manager(source) and not _is_iterable(source):
        await _enter(call, opened, source)
        return opened.source
    return source


async def _enter(call: Call, opened: Opened, manager: Any) -> None:
    kind = type(manager)
    if hasattr(kind, "__aenter__") and not (call.runtime.blocking and hasattr(kind, "__enter__")):
        await _leave_blocking(call, manager)
        opened.source = await manager.__aenter__()
    else:
        opened.source = manager.__enter__()
    opened.manager = manager


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


async def aclose_one(thing: Any, *, blocking: bool = False) -> None:
    """Close it, if it can be closed, in this colour."""
    closes = getattr(thing, "aclose", None) or getattr(thing, "close", None)
    if blocking:
        close_one(thing)
    elif closes is not None:
        closing = closes()
        if is_awaitable(closing):
            await closing
