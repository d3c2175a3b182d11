"""The OpenTelemetry bridge: spans and metrics for every call, attempt and state change, through the OpenTelemetry API only."""

from __future__ import annotations

from resilient_agents.telemetry.bridge import active, recorder

__all__ = ["active", "recorder"]
