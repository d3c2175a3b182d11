"""Policies for calls that fail: tenacity, pybreaker, anyio and aiolimiter as one `Policy`, visible in OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import exponential, fibonacci, fixed, linear
from resilient_agents.budget import RetryBudget
from resilient_agents.classify import Failure, classify, counts_against_dependency, http_failure, is_transient, register
from resilient_agents.deadline import deadline, remaining
from resilient_agents.decorator import bulkhead, circuit_breaker, rate_limit, resilient, retry, timeout
from resilient_agents.errors import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceeded,
    PolicyTimeoutError,
    RateLimitedError,
    Rejected,
    ResilienceError,
    StreamTruncatedError,
)
from resilient_agents.policy import Policy
from resilient_agents.registry import (
    Registry,
    get_bulkhead,
    get_circuit_breaker,
    get_policy,
    get_rate_limit,
    registry,
)
from resilient_agents.strategies.fallback import Fallback
from resilient_agents.strategies.hedge import Hedge

if TYPE_CHECKING:
    from resilient_agents.health import (
        HealthCheck,
        HealthMonitor,
        HealthStatus,
        get_health_monitor,
        require_healthy,
    )

__all__ = [
    "Bulkhead",
    "BulkheadFullError",
    "CircuitBreaker",
    "CircuitOpenError",
    "DeadlineExceeded",
    "Failure",
    "Fallback",
    "HealthCheck",
    "HealthMonitor",
    "HealthStatus",
    "Hedge",
    "Policy",
    "PolicyTimeoutError",
    "RateLimit",
    "RateLimitedError",
    "Registry",
    "Rejected",
    "ResilienceError",
    "Retry",
    "RetryBudget",
    "StreamTruncatedError",
    "Timeout",
    "bulkhead",
    "circuit_breaker",
    "classify",
    "counts_against_dependency",
    "deadline",
    "exponential",
    "fibonacci",
    "fixed",
    "get_bulkhead",
    "get_circuit_breaker",
    "get_health_monitor",
    "get_policy",
    "get_rate_limit",
    "http_failure",
    "is_transient",
    "linear",
    "rate_limit",
    "register",
    "registry",
    "remaining",
    "require_healthy",
    "resilient",
    "retry",
    "timeout",
]

_HEALTH = frozenset({"HealthCheck", "HealthMonitor", "HealthStatus", "get_health_monitor", "require_healthy"})


def __getattr__(name: str) -> Any:
    """What belongs to `health` is imported when it is asked for: it would be half as much again to import."""
    if name not in _HEALTH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resilient_agents import health

    return getattr(health, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
