"""What a `with`, a loop or an index gets out of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_agents.scan.form import Expression
from resilient_agents.scan.members import attribute
from resilient_agents.scan.values import ClientValue, Data, FunctionValue, Instance, Many, Spot, Value, Values, union

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["element", "elements", "enter", "inside"]


def enter(resolver: Resolver, value: Value) -> Values:
    if isinstance(value, ClientValue):
        other = value.client.enters
        return (value.gives(resolver.known.clients[other], value.made),) if other else (value,)
    if isinstance(value, Instance):
        for method in ("__enter__", "__aenter__"):
            for found in attribute(resolver, value, method):
                if isinstance(found, FunctionValue) and (entered := resolver.returned(found)):
                    return entered
    if isinstance(value, Many):
        return value.values
    return (value,)


def elements(resolver: Resolver, value: Value) -> Values:
    if isinstance(value, Many):
        return value.values
    if isinstance(value, ClientValue) and value.client.items:
        return (value.gives(resolver.known.clients[value.client.items], value.made),)
    if isinstance(value, Data) and value.expression is not None:
        if value.expression[0] == "seq":
            return union([inside(resolver, each, value.spot) for each in value.expression[1]])
        if value.expression[0] == "dict":
            return union([inside(resolver, each, value.spot) for each in value.expression[1].values()])
        if value.expression[0] == "joined":
            return union([_listed(resolver, each, value.spot) for each in value.expression[1:]])
    return ()


def element(resolver: Resolver, value: Value, index: int) -> Values:
    if isinstance(value, Data) and value.expression is not None and value.expression[0] == "seq":
        items = value.expression[1]
        return inside(resolver, items[index], value.spot) if -len(items) <= index < len(items) else ()
    if isinstance(value, ClientValue) and (name := value.client.attributes.get(str(index)) or value.client.items):
        return (value.gives(resolver.known.clients[name], value.made),)
    return value.values if isinstance(value, Many) else ()


def inside(resolver: Resolver, expression: Expression, spot: Spot) -> Values:
    """What a container holds, which may be made of itself: `items = [items[0]]`."""
    return resolver.once((Data(expression, spot), "inside"), lambda: resolver.evaluate(expression, spot))


def _listed(resolver: Resolver, part: Expression, spot: Spot) -> Values:
    """What one part of a list holds, which may be the list itself: `known = known + [client]` of a global name."""
    return resolver.once((Data(part, spot), "each"), lambda: resolver.each(("each", part), spot))
