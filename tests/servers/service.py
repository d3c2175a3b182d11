"""What all of these applications guard, made at import: in the parent, where the server forks its workers.

While the server forks, a thread of the parent holds every lock that there is, so that a worker that inherited one would
hang. The state of a process is told by `state`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import threading
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from resilient_agents import Bulkhead, CircuitBreaker, Policy, Retry, Timeout, telemetry
from resilient_agents.health import HealthCheck, HealthMonitor, open_circuits
from tests.servers import SLOTS

breaker = CircuitBreaker("upstream", reset_timeout=3600)
bulkhead = Bulkhead(SLOTS)
policy = Policy(Timeout(30), Retry(2), breaker, bulkhead, name="service")
checked_by: set[int] = set()


def check() -> tuple[bool, str]:
    checked_by.add(os.getpid())
    return True, f"pid {os.getpid()}"


monitor = HealthMonitor(
    [
        HealthCheck("db", check, interval=0.05, critical=True),
        dataclasses.replace(open_circuits(critical=["upstream"]), interval=0.05),
    ],
    builtin=False,
)

_held = threading.Event()
_LOCKS = (type(threading.Lock()), type(threading.RLock()))


def _hold_all_locks() -> None:
    inside = threading.Event()

    def held() -> None:
        inside.set()
        threading.Event().wait()

    threading.Thread(target=policy.call, args=(held,), daemon=True).start()  # and a slot
    inside.wait()
    with contextlib.ExitStack() as locks:
        for lock in _locks(monitor, policy):
            locks.enter_context(lock)
        _held.set()
        threading.Event().wait()


def _locks(*owners: object) -> list[Any]:
    """Every lock of the library that can be reached from these objects."""
    found, seen, left = [], set[int](), list(owners)
    while left:
        thing: Any = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, _LOCKS):
            found.append(thing)
        elif type(thing).__module__.startswith("resilient_agents") or isinstance(thing, dict | list | tuple | set):
            left += gc.get_referents(thing)
    return found


def be_a_busy_parent() -> None:
    """Run the monitor, take a slot and hold all locks: none of it may reach a worker."""
    monitor.start()
    threading.Thread(target=_hold_all_locks, daemon=True).start()
    if not _held.wait(30):
        raise RuntimeError("the locks are not held")


_metrics: dict[int, InMemoryMetricReader] = {}


def measured() -> None:
    """Metrics of this process, as an application sets them up in each worker."""
    if os.getpid() not in _metrics:
        reader = _metrics[os.getpid()] = InMemoryMetricReader()
        telemetry.configure(meter_provider=MeterProvider([reader], shutdown_on_exit=False))


def work() -> str:
    """One guarded call."""
    measured()
    return policy.call(lambda: "done")


def attempts() -> int:
    """Attempts that this process made."""
    measured()
    data = _metrics[os.getpid()].get_metrics_data()
    return sum(
        point.value  # type: ignore[union-attr]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "resilient_agents.attempts"
        for point in metric.data.data_points
    )


def state() -> dict[str, Any]:
    """What this process knows."""
    return {
        "pid": os.getpid(),
        "running": monitor.running,
        "checked_by": sorted(checked_by),
        "message": monitor.report()["checks"]["db"]["message"],
        "circuit": breaker.state,
        "in_use": bulkhead.in_use,
        "attempts": attempts(),
    }
