"""Policies for calls that fail: tenacity, pybreaker, anyio and aiolimiter as one `Policy`, every attempt visible in OpenTelemetry."""

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.classify import Failure, classify, counts_against_dependency, http_failure, is_transient, register
from resilient_agents.deadline import deadline, remaining
from resilient_agents.policy import Policy

__all__ = [
    "CircuitBreaker",
    "Failure",
    "Policy",
    "Timeout",
    "classify",
    "counts_against_dependency",
    "deadline",
    "http_failure",
    "is_transient",
    "register",
    "remaining",
]
