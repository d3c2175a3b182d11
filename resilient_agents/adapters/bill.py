"""What a call really cost, as its result tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from resilient_agents.events import logger

__all__ = ["Bill"]


class Bill:
    """`reserved`: what was charged at the start. `kept`: there was a result; else all is handed back. `lasts`: it is a
    stream, and not over yet."""

    __slots__ = ("_real", "_settle", "kept", "lasts", "reserved")

    def __init__(self, settle: Callable[[Any], float | None], reserved: float) -> None:
        self.reserved = reserved
        self.kept = self.lasts = False
        self._settle = settle
        self._real: float | None = None

    def gather(self, result: Any) -> None:
        """Ask what this came to. Of several answers the largest counts."""
        try:
            real = self._settle(result)
            if real is None:
                return
            if isinstance(real, bool) or not math.isfinite(real) or real < 0:
                raise ValueError(f"settle must return a number of at least 0 or None, got {real!r}")
        except Exception:
            _complain()
        else:
            self._real = real if self._real is None else max(self._real, real)

    def difference(self) -> float:
        """What is to be charged on top, or handed back where it is negative."""
        if self._real is not None:
            return self._real - self.reserved
        return 0.0 if self.kept else -self.reserved

    def watch(self, opened: Any) -> None:
        """Ask each item of a stream."""
        from resilient_agents.run_budgets.charge import tap  # only then

        taps: Any = tap
        taps(opened, self)

    def resume(self) -> None:
        """Nothing is in force while an item is made."""

    suspend = resume


_complained: list[None] = []


def _complain() -> None:
    if not _complained:
        _complained.append(None)
        logger.exception("settle= failed, and the cost stays as it was reserved; further failures are not logged")
