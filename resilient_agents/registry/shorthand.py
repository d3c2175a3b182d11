"""The registry of the process, and functions for the common case."""

from __future__ import annotations

from typing import Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.policy import Policy
from resilient_agents.registry.names import Registry
from resilient_agents.strategies.gate import Gate

__all__ = ["get_bulkhead", "get_circuit_breaker", "get_gate", "get_policy", "get_rate_limit", "registry"]

registry = Registry()
"""The registry of this process, which `@resilient("name")` looks into."""


def _default() -> Registry:
    return registry


registry.found_by = _default


def get_policy(name: str) -> Policy:
    """`registry.policy(name)`."""
    return registry.policy(name)


def get_circuit_breaker(name: str, **options: Any) -> CircuitBreaker:
    """`registry.circuit_breaker(name)`."""
    return registry.circuit_breaker(name, **options)


def get_bulkhead(name: str, limit: int | None = None, **options: Any) -> Bulkhead:
    """`registry.bulkhead(name)`."""
    return registry.bulkhead(name, limit, **options)


def get_rate_limit(name: str, rate: float | str | None = None, **options: Any) -> RateLimit:
    """`registry.rate_limit(name)`."""
    return registry.rate_limit(name, rate, **options)


def get_gate(name: str, **options: Any) -> Gate:
    """`registry.gate(name)`."""
    return registry.gate(name, **options)
