"""Attributes that were given a value elsewhere: by another function, in a `state`, by what a server lives with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_agents.scan.containers import inside
from resilient_agents.scan.members import member
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import ClassValue, Data, FunctionValue, Spot, Values, union

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["in_life", "in_path", "in_state"]


def in_path(resolver: Resolver, path: str, spot: Spot) -> Values:
    """A dotted path that was given a value as such: here, around, or where else the same is meant."""
    scopes = spot.file.form.scopes
    index = spot.scope
    while index >= 0:
        bindings = scopes[index].bindings.get(path)
        if bindings is not None and (found := resolver.bound(path, bindings, spot.file, index, None)):
            return found
        index = scopes[index].parent
    root, _, rest = path.partition(".")
    if root == "self":
        return _in_class(resolver, rest, spot) if "." in rest else ()
    return _in_module(resolver, root, path, spot)


def _in_class(resolver: Resolver, name: str, spot: Spot) -> Values:
    """`self.state.client`, as any method of the class has set it."""
    index = spot.file.form.class_around(spot.scope)
    return member(resolver, ClassValue(spot.file, index), name) if index >= 0 else ()


def _in_module(resolver: Resolver, root: str, path: str, spot: Spot) -> Values:
    """`local.client`, as any function of the file has set it on what is global there."""
    file, index = spot.file, spot.scope
    if path not in file.given():
        return ()
    scopes = file.form.scopes
    while index > 0:
        if root in scopes[index].bindings:
            return ()
        index = scopes[index].parent

    def make() -> Values:
        found = []
        for number, scope in enumerate(scopes):
            if scope.kind == "function" and path in scope.bindings and root not in scope.bindings:
                spots = [(each.value, Spot(file, number, each.order, each.block)) for each in scope.bindings[path]]
                found += [resolver.evaluate(*each) for each in spots]
        return union(found) if found else ()

    return resolver.once((file, path, "globally"), make)


def in_state(resolver: Resolver, name: str, near: SourceFile) -> Values:
    """`request.app.state.client`, as any `app.state.client = …` of the tree has set it; `request.state.client`, as
    the lifespan of a server yields it."""

    def make() -> Values:
        return union([resolver.evaluate(value, spot) for value, spot in resolver.tree.shared(name)] or [()])

    if found := resolver.once((name, "state"), make):
        return found
    held = [
        inside(resolver, value.expression[1].get(name), value.spot)
        for value in in_life(resolver, near)
        if isinstance(value, Data) and value.expression is not None and value.expression[0] == "dict"
    ]
    return union(held) if held else ()


def in_life(resolver: Resolver, near: SourceFile) -> Values:
    """`context.request_context.lifespan_context`: what the `lifespan=` of a server yields."""

    def make() -> Values:
        found = []
        for name in resolver.known.servers:
            for spot, index in resolver.tree.calls_of(name, near):
                if (given := spot.within.calls[index].keywords.get("lifespan")) is not None:
                    values = resolver.evaluate(given, spot)
                    found += [resolver.returned(value) for value in values if isinstance(value, FunctionValue)]
        return union(found) if found else ()

    return resolver.once((near, "life"), make)
