"""Objects of the types that annotations name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_agents.scan.form import Expression, dotted, last_name, named
from resilient_agents.scan.values import (
    ClassValue,
    ClientValue,
    Data,
    FunctionValue,
    Instance,
    Many,
    Spot,
    Symbol,
    Value,
    Values,
    union,
)

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["CLASSES", "annotated", "is_data", "objects", "provided"]

WRAPPERS = {"Optional", "Union", "Annotated", "Final", "ClassVar"}
CLASSES = {"Type", "type"}
DATA = {"str", "bytes", "int", "float", "bool", "dict", "list", "tuple", "set", "Dict", "List", "Tuple", "Set"}


def annotated(resolver: Resolver, expression: Expression, spot: Spot) -> Values:
    """Objects of the types that an annotation names."""
    if expression is None:
        return ()
    kind = expression[0]
    if kind == "either":
        return union([annotated(resolver, each, spot) for each in expression[1]])
    if kind == "item":
        return _subscripted(resolver, expression, spot)
    if kind == "const" and isinstance(expression[1], str):
        expression = named(expression[1])
    elif kind not in ("name", "attr"):
        return resolver.evaluate(expression, spot) if kind == "call" else ()
    return objects(resolver, resolver.evaluate(expression, spot))


def _subscripted(resolver: Resolver, expression: tuple[Any, ...], spot: Spot) -> Values:
    """`Optional[Client]`, `Annotated[Client, Depends(make)]`, `dict[str, Client]`."""
    inner = expression[2]
    parts = inner[1] if inner is not None and inner[0] == "seq" else (inner,)
    base = dotted(expression[1]).rpartition(".")[2]
    if base == "Annotated" and (given := union([provided(resolver, each, spot) for each in parts[1:]] or [()])):
        return given
    if base in CLASSES:
        return union([_classes(resolver, each, spot) for each in parts])
    if base in WRAPPERS:
        return union([annotated(resolver, each, spot) for each in parts])
    if own := annotated(resolver, expression[1], spot):
        return own
    held = union([annotated(resolver, each, spot) for each in parts])
    return (Many(held),) if held else ()


def _classes(resolver: Resolver, expression: Expression, spot: Spot) -> Values:
    """What `type[Client]` and `Type[Union[Client, Other]]` name: the classes themselves."""
    if expression is not None and expression[0] == "either":
        return union([_classes(resolver, each, spot) for each in expression[1]])
    if expression is not None and expression[0] == "item":
        inner = expression[2]
        parts = inner[1] if inner is not None and inner[0] == "seq" else (inner,)
        return union([_classes(resolver, each, spot) for each in parts])
    return resolver.evaluate(expression, spot) if expression is not None and expression[0] in ("name", "attr") else ()


def provided(resolver: Resolver, expression: Expression, spot: Spot) -> Values:
    """What `Depends(get_client)` stands for."""
    if expression is None or expression[0] != "call":
        return ()
    site = spot.within.calls[expression[1]]
    if last_name(site.callee) not in ("Depends", "Security") or not site.arguments:
        return ()
    functions = [each for each in resolver.evaluate(site.arguments[0], spot) if isinstance(each, FunctionValue)]
    return union([resolver.returned(each) for each in functions] or [()])


def is_data(expression: Expression) -> bool:
    """Whether an annotation names nothing but data of Python's own: `dict[str, str] | None`."""
    if expression is None:
        return False
    if expression[0] == "either":
        return all(is_data(each) for each in expression[1])
    if expression[0] == "item" and last_name(expression[1]) in WRAPPERS - {"Annotated"}:
        inner = expression[2]
        return all(is_data(each) for each in (inner[1] if inner is not None and inner[0] == "seq" else (inner,)))
    return expression == ("const", None) or last_name(expression[1] if expression[0] == "item" else expression) in DATA


def _alias(resolver: Resolver, alias: Data) -> Values:
    """A type that has a name, and may be made of itself: `JSON = Union[str, list["JSON"]]`."""
    return resolver.once((alias, "type"), lambda: annotated(resolver, alias.expression, alias.spot))


def objects(resolver: Resolver, values: Values) -> Values:
    found: list[Value] = []
    for value in values:
        if isinstance(value, ClassValue):
            found.append(Instance(value))
        elif isinstance(value, Symbol):
            known, path = resolver.known, resolver.known.canonical.get(value.path, value.path)
            if client := known.clients.get(path) or known.generated(path):
                found.append(ClientValue(client, path=path))
        elif isinstance(value, Data) and value.expression is not None and value.expression[0] == "item":
            found += _alias(resolver, value)
    return tuple(found)
