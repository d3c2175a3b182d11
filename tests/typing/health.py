"""Types of health: what checkers must accept, and what they must refuse."""

from __future__ import annotations

from typing import Any, assert_type

from resilient_agents import HealthCheck, HealthMonitor, HealthStatus, Policy, get_health_monitor, require_healthy
from resilient_agents.health import (
    CheckReport,
    CheckResult,
    HealthReport,
    HealthSummary,
    RequireHealthy,
    open_circuits,
    saturated_bulkheads,
)
from resilient_agents.integrations.asgi import ASGIApp, exception_handlers, health_app


def plain() -> bool:
    return True


def pair() -> tuple[HealthStatus, str]:
    return HealthStatus.DEGRADED, "slow"


async def asynchronous() -> tuple[str, str]:
    return "healthy", ""


def needs_something(number: int) -> bool:
    return number > 0


HealthCheck("a", plain)
HealthCheck("b", pair, timeout=1)
HealthCheck("c", asynchronous, 10.0, 30.0, True, "c")
HealthCheck("d", needs_something)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
HealthCheck("e", lambda: 3.0)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]

monitor = HealthMonitor([open_circuits(critical=["a"]), saturated_bulkheads()], builtin=False)
assert_type(get_health_monitor(), HealthMonitor)
assert_type(monitor.report(), HealthReport)
assert_type(monitor.report()["checks"]["a"], CheckReport)
assert_type(monitor.report()["summary"], HealthSummary)
assert_type(monitor.history("a"), tuple[CheckResult, ...])
assert_type(monitor.statuses(), dict[str, HealthStatus])
assert_type(monitor.overall_status, HealthStatus)
assert_type(require_healthy("a", monitor=monitor), RequireHealthy)
assert_type(health_app(monitor), ASGIApp)
Policy(require_healthy())
exception_handlers(messages=True)


@require_healthy()
def guarded(number: int) -> str:
    return str(number)


assert_type(guarded(3), str)


async def used() -> None:
    async with monitor as entered:
        assert_type(entered, HealthMonitor)
    assert_type(await monitor.arefresh(), HealthReport)


def blocking() -> Any:
    with monitor as entered:
        assert_type(entered, HealthMonitor)
    return monitor.refresh()["overall_status"]
