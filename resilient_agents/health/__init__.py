"""How is this process doing: checks on their own intervals, one report, and whether it should get traffic.

State is per process: each worker of a server has its own, and a forked child starts with none.
"""

from __future__ import annotations

from resilient_agents.health.builtin import open_circuits, saturated_bulkheads
from resilient_agents.health.check import CheckResult, HealthCheck, HealthStatus
from resilient_agents.health.guard import RequireHealthy, require_healthy
from resilient_agents.health.monitor import HealthMonitor, get_health_monitor
from resilient_agents.health.report import CheckReport, HealthReport, HealthSummary

__all__ = [
    "CheckReport",
    "CheckResult",
    "HealthCheck",
    "HealthMonitor",
    "HealthReport",
    "HealthStatus",
    "HealthSummary",
    "RequireHealthy",
    "get_health_monitor",
    "open_circuits",
    "require_healthy",
    "saturated_bulkheads",
]
