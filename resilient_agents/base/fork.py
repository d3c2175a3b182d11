"""After `os.fork` the child has one thread: locks, queues and permits of the parent's other threads mean nothing there.

What holds such things registers itself here and is told in the child, before any other code of the child runs.
(Jitter needs nothing: CPython seeds the `random` module anew in each child.)
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["ForkAware", "Lock", "reset_after_fork"]


class ForkAware(Protocol):
    def after_fork(self) -> None:
        """Start again with fresh locks, empty queues and full capacity."""
        ...


_live: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()


def reset_after_fork(thing: ForkAware) -> None:
    """Call `thing.after_fork()` in every child of a fork for as long as `thing` lives. Every `Lock` is free by then."""
    _live.add(thing)


def _in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as `threading` resets its own
    for thing in list(_live):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def Lock() -> threading.RLock:
    """A reentrant lock for module-level state: free again in every forked child.

    It is a lock of the interpreter's own, in C all the way: an exception from outside finds no line of ours between
    taking it and being bound to release it.
    """
    lock = threading.RLock()
    _locks.add(lock)
    return lock
