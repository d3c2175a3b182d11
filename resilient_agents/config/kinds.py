"""The strategies that a configuration can name, and where they stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.config.factory import Factory
from resilient_agents.idempotency import Writes
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.hedge import Hedge
from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["CODE", "KINDS", "MAKERS", "SECTIONS", "SHARED", "SLOTS", "made", "short_form"]

KINDS: dict[str, type] = {
    "timeout": Timeout,
    "retry": Retry,
    "hedge": Hedge,
    "circuit_breaker": CircuitBreaker,
    "gate": Gate,
    "rate_limit": RateLimit,
    "bulkhead": Bulkhead,
    "stream_timeout": StreamTimeout,
    "chaos": Chaos,
}
MAKERS: dict[str, type] = {**KINDS, "policy": Writes}
"""What is made of tables: strategies, and what a policy itself is told."""

CODE: dict[str, str] = {"fallback": "Fallback(handler)", "resume": "Resume(continue_with)"}
"""Strategies that are made of a function of the program's, and how."""

SLOTS: dict[str, str] = {
    "timeout": "timeout",
    "retry": "retry",
    "hedge": "hedge",
    "circuit_breaker": "circuit_breaker",
    "gate": "gate",
    "rate_limit": "rate_limit",
    "bulkhead": "bulkhead",
    "attempt_timeout": "timeout",
    "stream_timeout": "stream_timeout",
}
"""The keys of a policy in canonical order, outermost first, and the kind of each."""

SECTIONS: dict[str, str] = {
    "circuit_breakers": "circuit_breaker",
    "bulkheads": "bulkhead",
    "rate_limits": "rate_limit",
    "gates": "gate",
}
"""Where shared components stand, and their kind."""

SHARED = frozenset(SECTIONS.values())
"""The kinds of strategies that may be shared by name."""


def short_form(kind: str) -> str | None:
    """The option that a single value in place of a table stands for; None where it names a shared one."""
    first = Factory.of(KINDS[kind]).first
    return _SHORT.get(kind, None if first == "name" else first)


_SHORT = {"gate": "max_wait", "stream_timeout": "idle"}


def made(kind: str, options: Mapping[str, Any]) -> Any:
    """A new strategy with these options, which are plain data, or what a policy is told."""
    return Factory.of(MAKERS[kind]).make(options)
