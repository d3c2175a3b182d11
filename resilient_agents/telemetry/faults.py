"""Whatever fails in here stays in here: a tracing backend must not be able to break a call."""

from __future__ import annotations

import logging

__all__ = ["Faults"]

logger = logging.getLogger("resilient_agents.telemetry")


class Faults:
    """Logs the first failure of each part of the telemetry; later ones of the same part are dropped silently."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def log(self, part: str, consequence: str) -> None:
        """Call it inside `except`. Says what failed, what that means, and that no call is affected."""
        if part in self._seen:
            return
        self._seen.add(part)
        logger.warning(
            "telemetry: %s failed; %s; calls are not affected, and further failures of it are not logged",
            part,
            consequence,
            exc_info=True,  # noqa: LOG014 - the caller is inside `except`
        )
