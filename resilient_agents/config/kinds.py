"""The strategies that a configuration can name, where they stand in it, and their short forms."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.durations import parse_duration
from resilient_agents.config.factory import Factory
from resilient_agents.config.source import Node
from resilient_agents.idempotency import Writes
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.hedge import Hedge
from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["CODE", "KINDS", "SECTIONS", "SLOTS", "factory_of", "long_form", "merged", "short_form"]

_STRATEGIES = (Timeout, Retry, Hedge, CircuitBreaker, Gate, RateLimit, Bulkhead, StreamTimeout, Chaos)
KINDS: dict[str, type] = {strategy.strategy: strategy for strategy in _STRATEGIES}

_HOW = (
    'is a function of the program\'s, which a configuration cannot name: put Policy({}, get_policy("...")) around the '
    "policy in Python"
)
CODE: dict[str, str] = {"fallback": _HOW.format("Fallback(handler)"), "resume": _HOW.format("Resume(continue_with)")}
"""What is said of strategies that are made of code."""

_KEYS = ("timeout", "retry", "hedge", "circuit_breaker", "gate", "rate_limit", "bulkhead", "attempt_timeout",
         "stream_timeout")  # fmt: skip
SLOTS: dict[str, str] = {key: key.removeprefix("attempt_") for key in _KEYS}
"""The keys of a policy in canonical order, outermost first, and the kind of each."""

SECTIONS: dict[str, str] = {f"{kind}s": kind for kind in ("circuit_breaker", "bulkhead", "rate_limit", "gate")}
"""Where strategies that may be shared by name stand, and their kind."""

_SHORT = {"circuit_breaker": None, "gate": "max_wait", "stream_timeout": "idle"}
_BY_NAME = frozenset(["bulkhead", "gate"])
"""Kinds of which a single value is an option where it is a number, and a name where it is text."""


def factory_of(kind: str) -> Factory:
    """What makes strategies of this kind; "policy": what a policy itself is told."""
    return Factory.of(Writes if kind == "policy" else KINDS[kind])


def short_form(kind: str) -> str | None:
    """The option that a single value in place of a table stands for; None where it names a shared one."""
    return _SHORT.get(kind, factory_of(kind).first)


def long_form(kind: str, node: Node, *, shared: bool = False) -> Node:
    """A strategy's value with short forms written out: `retry = 3` is `retry = { attempts = 3 }`.

    Where a `shared` component is described, a name does not stand for another one.

    What comes out holds False (switched off) or a table; what cannot be read is left for its reader to refuse.
    """
    value: Any = node.value
    if isinstance(value, bool) or (value is None and node.broken is None):
        return replace(node, value={} if value else False)
    factory = factory_of(kind)
    if not isinstance(value, dict):
        option = short_form(kind)
        named = kind in _BY_NAME and isinstance(value, str) and not parse_duration(value)
        if not shared and (option is None or named):
            return node.here({"use": node})
        node = node.here({option or factory.first: node})
    return _apart(factory.long(node)) if kind == "rate_limit" else factory.long(node)


def _apart(node: Node) -> Node:
    """A rate such as "60/min" taken apart, so that a layer above may change one of the two."""
    rate = node.value.get("rate")
    if rate is not None and isinstance(rate.value, str) and "per" not in node.value:
        with contextlib.suppress(TypeError, ValueError, ArithmeticError):  # which the reader will come upon
            limit = RateLimit(rate.value)
            both = {"rate": replace(rate, value=limit.rate), "per": replace(rate, value=limit.per)}
            return replace(node, value={**node.value, **both})
    return node


def merged(base: Node | None, over: Node) -> Node:
    """One table over another, option by option, both in long form: strategies, what they consist of, and policies.

    A shared component and options replace each other, a list of strategies replaces all that is below it, and a wait
    with a kind of its own, or a budget that counts in another way, takes nothing from the one below.
    """
    if base is None or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    below: dict[str, Node] = base.value
    if not over.value:
        return base
    if "kind" in over.value or any((key in over.value) is not (key in below) for key in ("use", "in_flight")):
        return over
    if "strategies" in over.value:
        below = {key: node for key, node in below.items() if key not in SLOTS}
    table = {key: node if key == "result" else merged(below.get(key), node) for key, node in over.value.items()}
    return replace(over, value={**below, **table})
