"""Which event loop, task and thread this is."""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # in `__all__` for event loops
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["Loop", "Owner", "on_event_loop", "running_loop", "running_trio", "task_on", "this_task_or_thread"]

Loop: TypeAlias = asyncio.AbstractEventLoop

Owner: TypeAlias = "weakref.ref[Any]"
"""A task or thread, by a weak reference: never equal to one to a later task or thread."""

running_loop = _get_running_loop
"""The asyncio loop that runs in this thread, or None. The public function raises instead, which is dear."""

task_on: Callable[[Loop | None], asyncio.Task[Any] | None]
"""The task that runs on this asyncio loop, which must be the one that runs in this thread."""

if sys.version_info >= (3, 12):
    task_on = asyncio.current_task
else:  # the public function is written in Python there, at four times the price of what it looks at
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    task_on = _current_tasks.get


def running_trio() -> Any:
    """The module `trio` if it runs in this thread, or None."""
    trio: Any = sys.modules.get("trio")
    if not hasattr(trio, "lowlevel"):  # or not yet, while another thread is importing it
        return None
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return trio


def on_event_loop() -> bool:
    """Does an event loop run in this thread, so that blocking it would block the loop?"""
    return running_loop() is not None or running_trio() is not None


def this_task_or_thread() -> Owner:
    """Who runs here."""
    trio = running_trio()
    task = trio.lowlevel.current_task() if trio is not None else None
    if task is None and running_loop() is not None:
        task = asyncio.current_task()
    return weakref.ref(task or threading.current_thread())
