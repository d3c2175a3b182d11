"""Limits as they are written: an argument, what stands behind `**`, an object that stands for limits, None."""

from __future__ import annotations

from collections.abc import Mapping

from resilient_agents.scan.form import Expression
from resilient_agents.scan.libraries import Ends
from resilient_agents.scan.options import entry
from resilient_agents.scan.records import Limit
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Given, given_of
from resilient_agents.scan.values import Data, Opaque, Spot

__all__ = ["ending", "found", "given_limit", "inside_limit"]


def found(given: Given, names: tuple[str, ...], at: int | None) -> tuple[Expression, bool]:
    """The first of these arguments that is given, by keyword or for the first of them by position."""
    for name in names:
        if name in given.keywords:
            return given.keywords[name], True
    if at is not None and at < len(given.arguments) and not given.starred:
        return given.arguments[at], True
    return None, False


def given_limit(
    resolver: Resolver,
    given: Given,
    names: tuple[str, ...],
    at: int | None,
    spot: Spot,
    where: str,
    endless: tuple[object, ...] = (),
) -> Limit | None:
    """What the arguments of a call say, if they say something; `endless` are values that mean None."""
    value, there = found(given, names, at)
    name = next((name for name in names if name in given.keywords), names[0])
    if there:
        return ending(resolver, value, spot, f"{where} {name}", endless)
    for each in given.spread:
        if put := entry(resolver, each, names, spot):
            if not put.name:
                return Limit("unknown", f"{where}s behind **", "unknown")
            return ending(resolver, put.value, put.spot, f"{where} {put.name}", endless)
    if given.starred and at is not None:
        return Limit("unknown", f"{where}s behind *", "unknown")
    return None


def ending(resolver: Resolver, value: Expression, spot: Spot, source: str, endless: tuple[object, ...] = ()) -> Limit:
    """A limit that is given: None is none, and an object that stands for limits is what its arguments say."""
    if is_none(value, spot):
        return Limit("none", f"{source} is None")
    if value is not None and value[0] == "const" and value[1] in endless and not isinstance(value[1], bool):
        return Limit("none", f"{source} is {value[1]}")
    for each in resolver.evaluate(value, spot):
        if isinstance(each, Opaque) and (ends := resolver.known.ends.get(each.path)):
            return _object_ends(ends, each, source)
    return Limit("explicit", source)


def _object_ends(ends: Ends, value: Opaque, source: str) -> Limit:
    given = given_of(value.made.site)
    if given.spread or given.starred:
        return Limit("explicit", source)
    arguments = (ends.decides,) if ends.decides in given.keywords else ends.arguments
    stated = [found(given, (name,), ends.at if name == ends.arguments[0] else None) for name in arguments]
    said = [is_none(expression, value.made.spot) for expression, there in stated if there]
    if not said:
        return Limit(ends.default, source if ends.default == "explicit" else f"{source} limits no wait")
    return Limit("none", f"{source} is None") if all(said) else Limit("explicit", source)


def is_none(value: Expression, spot: Spot, depth: int = 3) -> bool:
    """Whether it is None for certain: written so, or a name that is never anything else."""
    if value is None or depth == 0:
        return False
    if value[0] == "const":
        return value[1] is None or (value[1] == -1 and not isinstance(value[1], bool))
    if value[0] == "first":
        return is_none(value[1][0], spot, depth - 1)
    if value[0] == "seq" and value[1]:  # (to connect, to read)
        return is_none(value[1][-1], spot, depth - 1)
    if value[0] != "name":
        return False
    index = spot.scope
    scopes = spot.file.form.scopes
    while index >= 0:
        if bindings := scopes[index].bindings.get(value[1]):
            return all(is_none(b.value, Spot(spot.file, index, b.order, b.block), depth - 1) for b in bindings)
        index = scopes[index].parent
    return False


def inside_limit(
    resolver: Resolver, given: Given, arguments: Mapping[str, tuple[str, ...]], spot: Spot
) -> Limit | None:
    """A limit in a dict that is an argument: `connect_args={"timeout": 5}`, `kraken({"timeout": 5000})`."""
    for argument, names in arguments.items():
        value, there = found(given, (argument,), 0)
        for data in resolver.evaluate(value, spot) if there else ():
            if isinstance(data, Data) and data.expression is not None and data.expression[0] == "dict":
                entries = data.expression[1]
                if name := next((name for name in names if name in entries), None):
                    return ending(resolver, entries[name], data.spot, f"{argument} {name}")
    return None
