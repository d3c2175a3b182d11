"""Which event loop a native object belongs to, and what a fork and the end of that loop do to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from resilient_agents.base.fork import Lock, reset_after_fork
from resilient_agents.core.loops import running_loop, running_trio

__all__ = ["Owner", "loop_or_token", "shared"]

T = TypeVar("T")

_adapters: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_adapting = Lock()


def shared(thing: Any, make: Callable[[], T]) -> T:
    """The adapter of this object, which all policies share that use it, so that they are one limit or one circuit."""
    with _adapting:
        adapter: T | None = _adapters.get(id(thing))  # while it lives, so does the object
        if adapter is None:
            adapter = _adapters[id(thing)] = make()
        return adapter


def loop_or_token() -> Any:
    """What stands for the event loop of this thread: the asyncio loop, the token of trio, or None."""
    loop = running_loop()
    if loop is None and (trio := running_trio()) is not None:
        return trio.lowlevel.current_trio_token()
    return loop


class Owner:
    """The loop that an object belongs to, one at a time. `thing`: what it is; `shared`: why a second loop cannot have
    it meanwhile; `instead`: what to use there.

    Whoever calls `take` holds a lock, so that two loops cannot both think it theirs.
    """

    def __init__(self, thing: str, shared: str, instead: str) -> None:
        self._thing = thing
        self._shared = shared
        self._instead = instead
        self._loop: Any = None
        self._forked = False
        reset_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child the parent's loop does not run."""
        self._forked = self._loop is not None

    def take(self, loop: Any, *, free: Callable[[bool], bool]) -> None:
        """`loop` is about to use the object. `free(ended)`, asked where it is another loop than before: does nobody use
        the object any more? Where the one before has ended it may see to that. Raises TypeError where it is not free.
        """
        if loop is self._loop and not self._forked:
            return
        if self._loop is not None:
            ended = self._forked or (_backend(self._loop) == "asyncio" and self._loop.is_closed())
            if not free(ended):
                raise TypeError(f"this {self._thing} {self._shared}: use {self._instead}, which all may share")
            self._forked = False
            if _backend(loop) != _backend(self._loop):
                raise TypeError(
                    f"this {self._thing} was first used on {_backend(self._loop)} and cannot work on "
                    f"{_backend(loop)}: use {self._instead}, which works on both"
                )
        self._loop = loop

    def post(self, loop: Any, callback: Callable[[], None]) -> None:
        """Run `callback` on that loop, unless it has ended."""
        try:
            (loop.call_soon_threadsafe if _backend(loop) == "asyncio" else loop.run_sync_soon)(callback)
        except RuntimeError:  # and what it held with it
            pass


def _backend(loop: Any) -> str:
    return "asyncio" if hasattr(loop, "call_soon_threadsafe") else "trio"
