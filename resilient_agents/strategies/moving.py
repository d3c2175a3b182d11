"""A stream that one task or thread opens and another one reads: can it be moved?

What a generator holds across its `yield` may belong to the task that it began in: a cancel scope or a task group can be
left there alone, a context variable be reset there alone. So a stream that is to be moved is looked at where it was
opened, and closed there if it cannot be.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from types import AsyncGeneratorType
from typing import Any

import anyio

from resilient_agents.core.call import NEUTRAL, Call
from resilient_agents.core.opening import Opened

__all__ = ["changes", "movable"]

_OF_A_TASK = (asyncio.Timeout, asyncio.TaskGroup)


def changes(before: Context) -> Iterator[tuple[ContextVar[Any], Any]]:
    """The variables that have other values here than they had then."""
    for variable, value in copy_context().items():
        if before.get(variable) is not value:
            yield variable, value


async def movable(call: Call, opening: Awaitable[Opened]) -> Opened:
    """What `opening` gives. Raises TypeError, having closed it, if it can be read only where it was opened."""
    before = copy_context()
    around = None if call.runtime.blocking else anyio.CancelScope()
    if around is not None:
        around.__enter__()
    try:
        opened = await opening
    except BaseException as error:
        if around is not None:
            around.__exit__(type(error), error, error.__traceback__)
        raise
    held = _held(before, around, opened)
    if held is None:
        return opened
    try:
        await opened.end(NEUTRAL, blocking=around is None)
    except* (GeneratorExit, Exception):  # a task group raises what closed it
        pass
    finally:
        if around is not None:
            with suppress(RuntimeError):  # it has been left
                around.__exit__(None, None, None)
    raise TypeError(
        f"the stream of {call.name!r} cannot be hedged: it holds {held} across its items, which belongs to the task "
        f"that opened it, while the winner of a hedge is read by another; let the function leave it before its first "
        f"item, or give the stream a policy without a Hedge"
    )


def _parts(iterator: Any) -> Iterator[Any]:
    """What an iterator refers to, and the async generators that it reads, in their turn. What an object that is none
    has deeper than in its attributes is not seen."""
    own = getattr(iterator, "__dict__", None)
    holders = [iterator]
    for holder in holders:
        for part in gc.get_referents(holder):
            holds = isinstance(part, AsyncGeneratorType) or (part is own and own is not None)
            if holds and not any(part is known for known in holders):
                holders.append(part)
            yield part


def _held(before: Context, around: anyio.CancelScope | None, opened: Opened) -> str | None:
    """What of its task's the stream holds, in words."""
    if around is not None:
        try:
            around.__exit__(None, None, None)  # refused while there is a scope inside
        except RuntimeError:
            return "a cancel scope or a task group"
        for part in _parts(opened.iterator):
            owner = getattr(part, "__self__", part)
            if isinstance(owner, _OF_A_TASK):
                return f"an asyncio.{type(owner).__name__}"
    variable = next((variable for variable, _ in changes(before)), None)
    return None if variable is None else f"the context variable {variable.name!r} set"
