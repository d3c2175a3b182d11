"""The one place that knows what time it is and how to sleep in a thread.

Every module reads `clock.monotonic()` late, so that a test can swap both functions at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Clock", "clock"]

_AT_ONCE: Final = 1e6
"""Seconds that every platform can sleep at once."""


def _sleep(seconds: float) -> None:
    while seconds > _AT_ONCE:
        time.sleep(_AT_ONCE)
        seconds -= _AT_ONCE
    time.sleep(seconds)  # looked up late: who patches `time.sleep` in a test means this one, too


class Clock:
    """Monotonic seconds, and sleeping in the calling thread."""

    __slots__ = ("monotonic", "sleep")

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = _sleep


clock = Clock()
