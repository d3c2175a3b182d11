"""What stands behind `**`: a dict as it is written, and what was put into it since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resilient_agents.scan.callers import ENDLESS, calls_to, handed_on
from resilient_agents.scan.form import Expression, dotted
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.values import Data, FunctionValue, Spot

__all__ = ["Entry", "entry"]

DEEPEST = 4
"""Dicts that are put into each other."""


class Entry(NamedTuple):
    """An entry of a dict, and where it is written; one without a name may be anything."""

    name: str
    value: Expression
    spot: Spot


def entry(
    resolver: Resolver, options: Expression, names: tuple[str, ...], spot: Spot, depth: int = DEEPEST
) -> Entry | None:
    """The entry of the first of these names; None where there is none for certain."""
    if depth == 0:
        return Entry("", None, spot)
    path = dotted(options)
    if path and (put := _put_into(resolver, path, names, spot, depth)):
        return put
    if (function := _options_of(options, spot)) is not None:
        return _handed_in(resolver, function, names, spot, depth)
    if _from_outside(resolver, options, spot, depth):
        return Entry("", None, spot)
    written = [value for value in resolver.evaluate(options, spot) if isinstance(value, Data)]
    for data in written:
        if data.expression is not None and data.expression[0] == "seq" and data.expression[1]:
            return Entry("", None, spot)  # pairs
        if data.expression is not None and data.expression[0] == "dict":
            if found := _inside(resolver, data, names, depth):
                return found
            here = (data.spot.file, data.spot.scope) == (spot.file, spot.scope)
            until = data.spot._replace(order=spot.order if here else ENDLESS)
            for holder in _holders(data):
                if (holder != path or not here) and (put := _put_into(resolver, holder, names, until, depth)):
                    return put
    return None if written else Entry("", None, spot)


def _options_of(options: Expression, spot: Spot) -> FunctionValue | None:
    """The function whose own `**options` they are."""
    bound = (
        spot.reaching(spot.within.bindings.get(options[1], [])) if options is not None and options[0] == "name" else []
    )
    values = [each.value for each in bound]
    if len(values) != 1 or values[0] is None or values[0][0] != "param":
        return None
    is_rest = spot.within.parameters[values[0][1]].kind == "options"
    return FunctionValue(spot.file, spot.scope) if is_rest else None


def _handed_in(
    resolver: Resolver, function: FunctionValue, names: tuple[str, ...], spot: Spot, depth: int
) -> Entry | None:
    """What all callers in the tree put into them, if they agree on whether it is there."""
    own = {each.name for each in function.within.parameters}
    left = tuple(name for name in names if name not in own)
    said: list[Entry | None] = []
    for site, where in calls_to(resolver, function) if left else ():
        if name := next((name for name in left if name in site.keywords), ""):
            said.append(Entry(name, site.keywords[name], where))
        else:
            spread = (entry(resolver, each, left, where, depth - 1) for each in site.spread)
            said.append(next((found for found in spread if found), None))
    if said and not any(said):
        return None
    return said[0] if said and all(each and each.name for each in said) else Entry("", None, spot)


def _from_outside(resolver: Resolver, options: Expression, spot: Spot, depth: int) -> bool:
    """Whether it may be a parameter of which the tree knows no more than its default."""
    if options is None or depth == 0:
        return False
    if options[0] in ("either", "first"):
        return any(_from_outside(resolver, each, spot, depth) for each in options[1])
    if options[0] == "param":
        default = spot.within.parameters[options[1]].default
        values = resolver.evaluate(options, spot)
        return all(isinstance(each, Data) and each.expression is default for each in values)
    bound = spot.reaching(spot.within.bindings.get(options[1], [])) if options[0] == "name" else []
    return any(
        _from_outside(resolver, each.value, spot._replace(order=each.order, block=each.block), depth - 1)
        for each in bound
    )


def _inside(resolver: Resolver, data: Data, names: tuple[str, ...], depth: int) -> Entry | None:
    """As it is written, with the dicts behind its own `**`."""
    assert data.expression is not None
    _, entries, whole, others = data.expression
    if name := next((name for name in names if name in entries), ""):
        return Entry(name, entries[name], data.spot)
    if not whole:
        return Entry("", None, data.spot)
    return next((found for each in others if (found := entry(resolver, each, names, data.spot, depth - 1))), None)


def _holders(data: Data) -> Iterator[str]:
    """The names that it was given where it was made."""
    scope, written = data.spot.within, data.expression
    assert written is not None
    for path, bindings in scope.bindings.items():
        for binding in bindings:
            value = binding.value
            if value is not None and value[0] == "first":
                value = value[1][0]
            if value is not None and value[0] == "call":  # `dict(…)`
                made = value[1] < len(scope.calls) and scope.calls[value[1]].keywords is written[1]
            else:
                made = value is written
            if made:
                yield path


def _put_into(resolver: Resolver, path: str, names: tuple[str, ...], spot: Spot, depth: int) -> Entry | None:
    """`options["timeout"] = 5`, `options.setdefault("timeout", 5)`, `options.update(…)`, `fill(options)` above it."""
    prefix, scope = f"{path}[", spot.within
    for target, bindings in scope.bindings.items():
        if target.startswith(prefix) and target != f"{prefix}]" and target[len(prefix) + 1 : -2] in names:
            for binding in bindings:
                if binding.order < spot.order:
                    return Entry(target[len(prefix) + 1 : -2], binding.value, spot)
    for site in scope.calls:
        callee = site.callee
        if callee is None or callee[0] != "attr" or site.order >= spot.order or dotted(callee[1]) != path:
            continue
        at = spot._replace(order=site.order, block=site.block)
        if callee[2] == "setdefault" and len(site.arguments) == 2:
            key = site.arguments[0]
            if key is not None and key[0] == "const" and key[1] in names:
                return Entry(key[1], site.arguments[1], at)
        if callee[2] == "update":
            if name := next((name for name in names if name in site.keywords), ""):
                return Entry(name, site.keywords[name], at)
            for each in (*site.arguments, *site.spread):
                if found := entry(resolver, each, names, at, depth - 1):
                    return found
    for file, number, name in handed_on(resolver, path, spot) if depth else ():
        if put := _put_into(resolver, name, names, Spot(file, number, ENDLESS, 0), depth - 1):
            return put
    return Entry("", None, spot) if _unnamed(spot, prefix) else None


def _unnamed(spot: Spot, prefix: str) -> bool:
    """Whether something was put into it by a name that cannot be told: `options[name] = 5`."""
    bindings, any_item = spot.within.bindings, f"{prefix}]"
    named = [put for target, put in bindings.items() if target.startswith(prefix) and target != any_item]
    after = {each.order - 1 for put in named for each in put}  # a name that is told is bound next, by itself
    return any(each.order < spot.order and each.order not in after for each in bindings.get(any_item, ()))
