"""One strategy as a source has it: its short forms, one table over another, and the spec that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.base.spelling import nearest
from resilient_agents.config.factory import WAITS, Factory
from resilient_agents.config.kinds import KINDS, MAKERS, SHARED, short_form
from resilient_agents.config.model import StrategySpec
from resilient_agents.config.tree import Node, Problems
from resilient_agents.config.values import MISSING, parse_duration

__all__ = ["long_form", "merged", "read_strategy"]


def long_form(kind: str, node: Node, *, shared: bool = False) -> Node:
    """A strategy's value with short forms written out: `retry = 3` is `retry = { attempts = 3 }`.

    Where a `shared` component is described, a name does not stand for another one.

    What comes out holds False (switched off) or a table; what cannot be read is left for `read_strategy` to refuse.
    """
    value: Any = node.value
    if isinstance(value, dict):
        return replace(node, value=_long_options(kind, value))
    if value is False or (value is None and node.broken is None):
        return replace(node, value=False)
    if value is True:
        return replace(node, value={})
    option = short_form(kind)
    if not shared and (option is None or (kind in _BY_NAME and isinstance(value, str) and not parse_duration(value))):
        return Node({"use": node}, node.place)
    return Node(_long_options(kind, {option or Factory.of(KINDS[kind]).first: node}), node.place)


_BY_NAME = frozenset(["bulkhead", "gate"])
"""Kinds of which a single value is an option where it is a number, and a name where it is text."""


def merged(base: Node | None, over: Node) -> Node:
    """One table over another, both in long form. A shared component and options replace each other."""
    if base is None or over.value is False or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if not over.value:
        return base
    if "use" in over.value or "use" in base.value or "kind" in over.value:
        return over
    if ("in_flight" in over.value) is not ("in_flight" in base.value):
        return over  # a budget that counts in another way
    table: dict[str, Node] = dict(base.value)
    for key, node in over.value.items():
        table[key] = merged(table[key], node) if key in table and key in ("wait", "budget") else node
    return replace(over, value=table)


def read_strategy(
    kind: str, table: Node, problems: Problems, shared: Mapping[str, Any] | None = None, *, partial: bool = False
) -> StrategySpec | None:
    """The spec that a table in long form describes, None after having said what is wrong.

    `shared`: the names that `use` may have; None where `use` is not allowed. `partial`: see `Factory.read`.
    """
    options: dict[str, Node] = table.value
    if "use" in options and shared is not None and kind in SHARED:
        return _used(kind, options, problems, shared)
    read = Factory.of(MAKERS[kind]).read(table, problems, untried=frozenset(["name"]), partial=partial)
    if read is not MISSING and read.get("name") == "":
        problems.add(options["name"], 'must be a non-empty string or "none"')
        return None
    if read is MISSING:
        return None
    return StrategySpec(
        kind,
        read,
        places={key: _origin(node) for key, node in options.items()},
        secrets=frozenset(key for key, node in options.items() if any(leaf.secret for leaf in node.leaves())),
    )


def _used(kind: str, options: dict[str, Node], problems: Problems, shared: Mapping[str, Any]) -> StrategySpec | None:
    use = options["use"]
    section = f"{kind}s"
    for key, node in options.items():
        if key != "use":
            problems.add(node, f"stands beside use; a shared component has its options in [{section}]")
    if use.broken is not None:
        problems.add(use, use.broken)
    elif not isinstance(use.value, str):
        problems.add(use, f"must be a table, true, false, or the name of one in [{section}]")
    elif use.value not in shared:
        known = nearest(use.value, shared) if shared else "there is none in this configuration"
        problems.add(use, f"is not in [{section}]; {known}")
    elif len(options) == 1:
        return StrategySpec(kind, use=use.value, places={"use": _origin(use)})
    return None


def _long_options(kind: str, options: dict[str, Node]) -> dict[str, Node]:
    long = dict(options)
    if kind == "retry" and "wait" in long:
        long["wait"] = _long_wait(long["wait"])
    if kind in ("retry", "hedge"):
        budget = long.get("budget")
        if budget is not None and budget.value is True:
            long["budget"] = replace(budget, value={})
        elif budget is not None and budget.value is False:
            long["budget"] = replace(budget, value=None)
    rate = long.get("rate")
    if kind == "rate_limit" and rate is not None and isinstance(rate.value, str) and "per" not in long:
        # Taken apart, so that a layer above may change one of the two.
        try:
            limit = RateLimit(rate.value)
        except (TypeError, ValueError, ArithmeticError):
            return long  # the constructor will say so again, with everything else that is wrong
        long["rate"], long["per"] = replace(rate, value=limit.rate), replace(rate, value=limit.per)
    return long


def _long_wait(node: Node) -> Node:
    value: Any = node.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        delay: Node | None = node
    else:
        delay = node if isinstance(value, str) and parse_duration(value) is not None else None
    if delay is not None and node.broken is None:
        return Node({"kind": Node("fixed", node.place), "delay": delay}, node.place)
    if isinstance(value, str) and node.broken is None and value in WAITS:
        return Node({"kind": node}, node.place)
    return node


def _origin(node: Node) -> str:
    """Where a value was written; the parts of a wait may come from several layers."""
    return ", ".join(dict.fromkeys(str(leaf.place) for leaf in node.leaves())) or str(node.place)
