"""The OpenTelemetry bridge: spans and metrics for every call, attempt and state change, through its API only.

It needs no setting up: install an SDK, before or after this package is imported, and it records there. `configure` is
for the few things people change. `names`, `contract` and `metric_table` hold what is sent. `LogObserver` tells the same
story to `logging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_agents.telemetry.bridge import active, configure, recorder

if TYPE_CHECKING:
    from resilient_agents.telemetry.logs import LogObserver

__all__ = ["LogObserver", "active", "configure", "recorder"]


if not TYPE_CHECKING:  # to a type checker it would say that any name is there

    def __getattr__(name: str) -> Any:
        if name != "LogObserver":  # imported when somebody asks for it
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from resilient_agents.telemetry.logs import LogObserver

        globals()[name] = LogObserver
        return LogObserver
