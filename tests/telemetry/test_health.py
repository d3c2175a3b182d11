"""Health checks in metrics and logs."""

from __future__ import annotations

import gc
import logging

import pytest

from resilient_agents import events
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.telemetry import LogObserver, names
from tests.telemetry.conftest import Sdk


def test_each_run_is_recorded_by_what_it_found(sdk: Sdk) -> None:
    """A histogram of durations, whose counts are the successes and failures of each check."""
    answers = iter([True, False, True])
    monitor = HealthMonitor(
        [HealthCheck("recorded", lambda: next(answers), critical=True, interval=1e-9)], builtin=False
    )
    for _ in range(3):
        monitor.refresh()
    points = sdk.points("resilient_agents.health_check.duration")
    assert [
        (attributes[names.STATUS], attributes[names.CRITICAL], count)
        for attributes, count in points
        if attributes[names.HEALTH_CHECK] == "recorded"
    ] == [("healthy", True, 2), ("unhealthy", True, 1)]


def test_the_status_is_a_gauge(sdk: Sdk) -> None:
    """1 for the status that a check has now, 0 for the others; a monitor that is gone is gone."""

    def status() -> list[str]:
        points = sdk.points("resilient_agents.health_check.status")
        mine = [(a, value) for a, value in points if a[names.HEALTH_CHECK] == "gauged"]
        assert len(mine) in (0, 4)
        return [a[names.STATUS] for a, value in mine if value == 1]

    monitor = HealthMonitor([HealthCheck("gauged", lambda: "degraded")], builtin=False)
    monitor.refresh()
    assert status() == ["degraded"]
    del monitor
    gc.collect()
    assert status() == []


@pytest.mark.parametrize(
    ("status", "previous", "critical", "level"),
    [
        ("unhealthy", "healthy", True, logging.ERROR),
        ("unhealthy", "healthy", False, logging.WARNING),
        ("degraded", "healthy", True, logging.WARNING),
        ("healthy", "unhealthy", True, logging.INFO),
        ("unhealthy", "unhealthy", True, logging.DEBUG),
    ],
)
def test_a_change_of_status_is_logged(
    status: events.HealthState,
    previous: events.HealthState,
    critical: bool,
    level: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A check that goes on failing is logged once, not every interval."""
    observer = LogObserver(logging.getLogger("tests.health"))
    caplog.set_level(logging.DEBUG, "tests.health")
    observer(events.HealthChecked("", "db", status, previous, 0.25, critical))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, f"health check 'db' {previous} -> {status} in 0.25 s")
    assert record.__dict__[names.HEALTH_CHECK] == "db"
