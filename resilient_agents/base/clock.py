"""The one place that knows what time it is and how to sleep in a thread.

Every module reads `clock.monotonic()` late, so that a test can swap both functions at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "clock"]


class Clock:
    """Monotonic seconds, and sleeping in the calling thread."""

    __slots__ = ("monotonic", "sleep")

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep


clock = Clock()
