"""`require_healthy`: a strategy that refuses calls which should not start while the service is unhealthy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from resilient_agents import events
from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected
from resilient_agents.health.check import HealthStatus
from resilient_agents.health.monitor import HealthMonitor, get_health_monitor
from resilient_agents.policy import Policy

__all__ = ["RequireHealthy", "require_healthy"]

F = TypeVar("F", bound=Callable[..., Any])


class RequireHealthy:
    """What `require_healthy` makes: a strategy, and a decorator that is a policy of this one strategy."""

    def __init__(self, monitor: HealthMonitor | None, checks: tuple[str, ...], *, degraded: bool) -> None:
        self.monitor = monitor
        self.checks = checks
        self.degraded = degraded

    def __call__(self, fn: F) -> F:
        """Guard `fn` with nothing but this."""
        return Policy(self)(fn)

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        """Go on unless what is required is unhealthy now."""
        monitor = self.monitor or get_health_monitor()
        wrong = self._wrong(monitor)
        if wrong is None:
            return proceed(call)
        retry_after = monitor.next_check_in
        call.tell(events.CallRejected, "require_healthy", retry_after)
        raise Rejected(
            f"{call.name!r} does not start: {wrong}",
            policy=call.name,
            strategy="require_healthy",
            retry_after=retry_after,
        )

    def _wrong(self, monitor: HealthMonitor) -> str | None:
        if not self.checks:
            status = monitor.overall_status
            return f"the service is {status.value}" if self._refuses(status) else None
        statuses = monitor.statuses()
        for name in self.checks:
            if name not in statuses:  # a misspelt name must not switch the guard off
                raise LookupError(f"there is no health check {name!r}, only {', '.join(map(repr, statuses)) or 'none'}")
            if self._refuses(statuses[name]):
                return f"{name!r} is {statuses[name].value}"
        return None

    def _refuses(self, status: HealthStatus) -> bool:
        return status is HealthStatus.UNHEALTHY or (status is HealthStatus.DEGRADED and not self.degraded)

    def describe(self) -> dict[str, Any]:
        """Options and live state as plain data."""
        monitor = self.monitor or get_health_monitor()
        return {
            "strategy": "require_healthy",
            "checks": list(self.checks),
            "degraded": self.degraded,
            "overall_status": monitor.overall_status.value,
        }

    def __repr__(self) -> str:
        return f"require_healthy({', '.join([*map(repr, self.checks), f'degraded={self.degraded}'])})"


def require_healthy(*checks: str, monitor: HealthMonitor | None = None, degraded: bool = True) -> RequireHealthy:
    """Refuse calls while the service is unhealthy: `Policy(require_healthy(), Retry(3))`, or `@require_healthy()`.

    `checks`: names of checks that matter to these calls; without any it is the overall status. `monitor`: by default
    that of the process. `degraded=False` refuses them while degraded too. What is unknown is let through: nobody has
    said that anything is wrong. It only looks at what the monitor found, and never runs a check.

    A check that the monitor does not have is a LookupError when a call starts.
    A call that is refused raises `Rejected` before anything inside it ran, with `retry_after` until the next check.
    Put it outside of a `Retry`, which does not retry rejections.
    """
    for name in checks:
        if not isinstance(name, str):
            raise TypeError(f"require_healthy takes names of checks (@require_healthy()), got {type(name).__name__}")
    if monitor is not None and not isinstance(monitor, HealthMonitor):
        raise TypeError(f"monitor must be a HealthMonitor or None, got {type(monitor).__name__}")
    if not isinstance(degraded, bool):
        raise TypeError(f"degraded must be True or False, got {degraded!r}")
    return RequireHealthy(monitor, checks, degraded=degraded)
