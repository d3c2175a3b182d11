"""The OpenTelemetry bridge: spans and metrics for every call, attempt and state change, through its API only.

It needs no setting up: install an SDK, before or after this package is imported, and it records there. `configure` is
for the few things people change. `names` holds the table of everything that is sent. `LogObserver` tells the same story
to `logging`.
"""

from __future__ import annotations

from resilient_agents.telemetry.bridge import active, configure, recorder
from resilient_agents.telemetry.logs import LogObserver

__all__ = ["LogObserver", "active", "configure", "recorder"]
