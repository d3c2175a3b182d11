"""Policies for calls that fail: tenacity, pybreaker, anyio and aiolimiter as one `Policy`, visible in OpenTelemetry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import exponential, fibonacci, fixed, linear
from resilient_agents.budget import RetryBudget
from resilient_agents.classify import Failure, classify, counts_against_dependency, http_failure, is_transient, register
from resilient_agents.core.managed import opened
from resilient_agents.deadline import deadline, remaining
from resilient_agents.decorator import bulkhead, circuit_breaker, rate_limit, resilient, retry, timeout
from resilient_agents.errors import (
    BudgetExceededError,
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceeded,
    PolicyTimeoutError,
    RateLimitedError,
    Rejected,
    ResilienceError,
    StreamFailedError,
    StreamTimeoutError,
    StreamTruncatedError,
)
from resilient_agents.policy import Policy

if TYPE_CHECKING:
    from resilient_agents.health import (
        HealthCheck,
        HealthMonitor,
        HealthStatus,
        get_health_monitor,
        require_healthy,
    )
    from resilient_agents.idempotency import idempotency_key
    from resilient_agents.registry import (
        Registry,
        get_bulkhead,
        get_circuit_breaker,
        get_gate,
        get_policy,
        get_rate_limit,
        registry,
    )
    from resilient_agents.run_budgets import Usage, run_budget, usage_of
    from resilient_agents.strategies.chaos import Chaos, chaos
    from resilient_agents.strategies.fallback import Fallback
    from resilient_agents.strategies.gate import Gate
    from resilient_agents.strategies.hedge import Hedge
    from resilient_agents.strategies.resume import Resume
    from resilient_agents.strategies.stream_text import json_lines, sse_done
    from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = [
    "BudgetExceededError",
    "Bulkhead",
    "BulkheadFullError",
    "Chaos",
    "CircuitBreaker",
    "CircuitOpenError",
    "DeadlineExceeded",
    "Failure",
    "Fallback",
    "Gate",
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
    "Resume",
    "Retry",
    "RetryBudget",
    "StreamFailedError",
    "StreamTimeout",
    "StreamTimeoutError",
    "StreamTruncatedError",
    "Timeout",
    "Usage",
    "bulkhead",
    "chaos",
    "circuit_breaker",
    "classify",
    "counts_against_dependency",
    "deadline",
    "exponential",
    "fibonacci",
    "fixed",
    "get_bulkhead",
    "get_circuit_breaker",
    "get_gate",
    "get_health_monitor",
    "get_policy",
    "get_rate_limit",
    "http_failure",
    "idempotency_key",
    "is_transient",
    "json_lines",
    "linear",
    "opened",
    "rate_limit",
    "register",
    "registry",
    "remaining",
    "require_healthy",
    "resilient",
    "retry",
    "run_budget",
    "sse_done",
    "timeout",
    "usage_of",
]

_LATER = {
    name: room
    for room, names in {
        "health": ("HealthCheck", "HealthMonitor", "HealthStatus", "get_health_monitor", "require_healthy"),
        "idempotency": ("idempotency_key",),
        "registry": (
            "Registry",
            "get_bulkhead",
            "get_circuit_breaker",
            "get_gate",
            "get_policy",
            "get_rate_limit",
            "registry",
        ),
        "run_budgets": ("Usage", "run_budget", "usage_of"),
        "strategies.chaos": ("Chaos", "chaos"),
        "strategies.fallback": ("Fallback",),
        "strategies.gate": ("Gate",),
        "strategies.hedge": ("Hedge",),
        "strategies.resume": ("Resume",),
        "strategies.stream_text": ("json_lines", "sse_done"),
        "strategies.stream_timeout": ("StreamTimeout",),
    }.items()
    for name in names
}
"""What is imported when it is asked for, with its room: it would be twice as much to import."""


if not TYPE_CHECKING:  # to a type checker it would say that any name is there

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


importlib.import_module(f"{__name__}.registry")
globals().pop("registry", None)  # the room, if it is new; so called is the registry itself
