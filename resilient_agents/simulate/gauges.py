"""How the circuits and bulkheads of simulated processes stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.policy import Policy

__all__ = ["Gauges"]

S = TypeVar("S")


class Gauges:
    """Circuits and bulkheads of all processes."""

    def __init__(self, policies: list[Policy]) -> None:
        self._circuits = [list(_inside(policy, CircuitBreaker)) for policy in policies]
        self._bulkheads = [bulkhead for policy in policies for bulkhead in _inside(policy, Bulkhead)]

    def read(self) -> tuple[float, int]:
        """The share of processes with a circuit that is not closed, and how many slots are taken."""
        broken = sum(any(circuit.state != "closed" for circuit in circuits) for circuits in self._circuits)
        return broken / len(self._circuits), sum(bulkhead.in_use for bulkhead in self._bulkheads)


def _inside(policy: Policy, kind: type[S]) -> Iterator[S]:
    for strategy in policy.strategies:
        if isinstance(strategy, kind):
            yield strategy
        if isinstance(strategy, Policy):
            yield from _inside(strategy, kind)
