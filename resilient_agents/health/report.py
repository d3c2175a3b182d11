"""What many checks mean together: decisions only, on plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

from resilient_agents.health.check import HealthStatus

__all__ = ["CheckReport", "HealthReport", "HealthSummary", "overall", "ready", "report"]

Standing = tuple[HealthStatus, bool]
"""The status of a check, and whether it is critical."""


class CheckReport(TypedDict):
    """One check. `last_check` is ISO 8601 in UTC, `duration` in seconds; both None if it has not run."""

    status: str
    last_check: str | None
    message: str
    duration: float | None
    critical: bool


class HealthSummary(TypedDict):
    """How many checks there are of each kind."""

    total_checks: int
    healthy_checks: int
    degraded_checks: int
    unhealthy_checks: int
    unknown_checks: int


class HealthReport(TypedDict):
    """Plain data that `json.dumps` takes."""

    overall_status: str
    checks: dict[str, CheckReport]
    summary: HealthSummary


def overall(standings: Iterable[Standing]) -> HealthStatus:
    """One status for all.

    Unhealthy if a critical check is; else unknown if a critical one is; else degraded if any check fails or is
    degraded. A check that is not critical and unknown says nothing, unless there is no other.
    """
    standings = list(standings)
    critical = {status for status, is_critical in standings if is_critical}
    found = {status for status, _ in standings}
    if HealthStatus.UNHEALTHY in critical:
        return HealthStatus.UNHEALTHY
    if HealthStatus.UNKNOWN in critical or found == {HealthStatus.UNKNOWN}:
        return HealthStatus.UNKNOWN
    if found & {HealthStatus.UNHEALTHY, HealthStatus.DEGRADED}:
        return HealthStatus.DEGRADED
    return HealthStatus.HEALTHY


def ready(standings: Iterable[Standing]) -> bool:
    """Should this process get traffic? Unless a critical check fails or has not said anything yet."""
    blind = (HealthStatus.UNHEALTHY, HealthStatus.UNKNOWN)
    return not any(critical and status in blind for status, critical in standings)


def report(checks: Mapping[str, CheckReport]) -> HealthReport:
    """The report over these checks."""
    standings = [(HealthStatus(check["status"]), check["critical"]) for check in checks.values()]
    statuses = [status for status, _ in standings]
    return {
        "overall_status": overall(standings).value,
        "checks": dict(checks),
        "summary": {
            "total_checks": len(statuses),
            "healthy_checks": statuses.count(HealthStatus.HEALTHY),
            "degraded_checks": statuses.count(HealthStatus.DEGRADED),
            "unhealthy_checks": statuses.count(HealthStatus.UNHEALTHY),
            "unknown_checks": statuses.count(HealthStatus.UNKNOWN),
        },
    }
