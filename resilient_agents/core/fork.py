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


def reset_after_fork(thing: ForkAware) -> None:
    """Call `thing.after_fork()` in every child of a fork for as long as `thing` lives."""
    _live.add(thing)


def _in_child() -> None:
    for thing in list(_live):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Lock:
    """A reentrant lock for module-level state: free again in every forked child."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
