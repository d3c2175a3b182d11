"""Checks over the circuit breakers and bulkheads that are alive in this process.

One check for all of a kind, not one for each: keyed policies make a breaker per host or tenant, and neither a report
nor a metric may grow by them.

Severity: an open circuit to a third party degrades and no more. Taking the process out of traffic would not bring the
third party back, and with it everything would go that works without. So only what is named critical may be unhealthy. A
half-open circuit never is: a process without traffic would have nothing to probe with, and would stay out for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from resilient_agents.base import instances
from resilient_agents.health.check import HealthCheck, HealthStatus, Verdict

__all__ = ["experiments", "names_of", "open_circuits", "saturated_bulkheads"]

INTERVAL: Final = 5.0
SHOWN: Final = 5  # names in a message
UNNAMED: Final = "unnamed"

Severity = Callable[[Any], tuple[str, HealthStatus] | None]
"""What is wrong with a component in one word, and how bad that is where it is critical; None if nothing is."""


def open_circuits(*, critical: Iterable[str] = ()) -> HealthCheck:
    """Degraded while a circuit is open or half-open; unhealthy while one of a name in `critical` is open.

    Breakers that only watch (`shadow=True`) refuse nothing and are left out.
    """
    return _check("circuit_breakers", "circuit_breaker", critical, _circuit, "no call is refused by an open circuit")


def saturated_bulkheads(*, critical: Iterable[str] = ()) -> HealthCheck:
    """Degraded while all slots of a bulkhead are taken and calls wait or are refused; unhealthy while one of a name in
    `critical` refuses. Bulkheads that only watch (`shadow=True`) are left out."""
    return _check("bulkheads", "bulkhead", critical, _bulkhead, "slots are free where calls need them")


def experiments() -> HealthCheck:
    """Degraded as long as there is a `Chaos` anywhere in the process."""
    return _check("chaos", "chaos", (), lambda _: ("on", HealthStatus.DEGRADED), "no call fails on purpose")


def names_of(critical: Iterable[str]) -> frozenset[str]:
    """These names, checked. Raises TypeError for a lone string, whose letters would be taken for names."""
    names = list(critical) if not isinstance(critical, str) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"critical must be a collection of names, got {critical!r}")
    return frozenset(names)


def _check(name: str, kind: str, critical: Iterable[str], severity: Severity, description: str) -> HealthCheck:
    matters = names_of(critical)

    async def look() -> Verdict:  # async, so that it needs no thread: it waits for nothing
        return _worst(instances.each(kind), matters, severity)

    return HealthCheck(name, look, timeout=INTERVAL, interval=INTERVAL, critical=bool(matters), description=description)


def _circuit(breaker: Any) -> tuple[str, HealthStatus] | None:
    state = breaker.state
    if state == "closed" or breaker.shadow:
        return None
    return state, HealthStatus.UNHEALTHY if state == "open" else HealthStatus.DEGRADED


def _bulkhead(bulkhead: Any) -> tuple[str, HealthStatus] | None:
    if bulkhead.shadow:
        return None
    queued: int = bulkhead.queued
    refuses = bulkhead.queue is not None and queued >= bulkhead.queue
    if bulkhead.in_use < bulkhead.limit or not (queued or refuses):
        return None
    return ("refusing", HealthStatus.UNHEALTHY) if refuses else ("queueing", HealthStatus.DEGRADED)


def _worst(components: Iterable[Any], critical: frozenset[str], severity: Severity) -> Verdict:
    status = HealthStatus.HEALTHY
    wrong: dict[str, set[str]] = {}
    for component in components:
        found = severity(component)
        if found is None:
            continue
        what, where_critical = found
        wrong.setdefault(what, set()).add(component.name or UNNAMED)
        if status is not HealthStatus.UNHEALTHY:
            status = where_critical if component.name in critical else HealthStatus.DEGRADED
    return status, "; ".join(f"{what}: {_some(names)}" for what, names in sorted(wrong.items()))


def _some(names: set[str]) -> str:
    shown = sorted(names)
    more = len(shown) - SHOWN
    return ", ".join(shown[:SHOWN]) + (f" and {more} more" if more > 0 else "")
