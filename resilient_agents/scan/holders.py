"""Limits that are set on an object after it was made: `sock.settimeout(5)`, `sock.setsockopt(zmq.RCVTIMEO, 1000)`.

The object is known by the names that hold it: where it was made, where it is used, and in the functions that it is
handed to for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.callers import ENDLESS, handed_on, handed_through
from resilient_agents.scan.form import Binding, Expression, Scope, Site, last_name
from resilient_agents.scan.libraries import Client
from resilient_agents.scan.members import bases, receiver
from resilient_agents.scan.records import Limit
from resilient_agents.scan.sightings import Sighting, given_of
from resilient_agents.scan.stated import ending, found, given_limit, is_none
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import ClassValue, ClientValue, Instance, Method, Partial, Spot, Symbol

if TYPE_CHECKING:
    from resilient_agents.scan.limits import Limits
    from resilient_agents.scan.resolve import Resolver

__all__ = ["names_of", "settings", "sites_on"]

Place = tuple[SourceFile, int, str]
"""A function or module and a name in it."""


def settings(limits: Limits, owner: ClientValue, seen: Sighting) -> Limit | None:
    """What was set on the object for this operation: the last thing above the call in its function, else anything."""
    said: list[tuple[bool, int, Limit]] = []
    elsewhere: list[Limit] = []
    here = (seen.spot.file, seen.spot.scope)
    for file, index, path in _places(limits.resolver, owner, seen):
        scope = file.form.scopes[index]
        for order, limit in _set(limits, owner, seen, scope, Spot(file, index, 0, 0), path):
            above = (file, index) == here and order < seen.site.order
            said.append((above, order, limit))
            elsewhere += [limit] if (file, index) != here else []
    if not said:
        return None
    before = [each for each in said if each[0]]
    if before:
        return max(before, key=lambda each: each[1])[2]
    made = owner.made is not None and (owner.made.spot.file, owner.made.spot.scope) == here
    later = made and not any(block.kind == "loop" for block in seen.spot.within.inside(seen.site.block))
    own = owner.subclass is not None  # its constructor may have set something
    if later and not own and not _calls_ours(limits.resolver, owner.made.spot, seen.spot):  # type: ignore[union-attr]
        return None  # new, and nobody has had it yet
    counts = elsewhere if later else [limit for _, _, limit in said]
    return next((limit for limit in counts if limit.value == "explicit"), counts[0] if counts else None)


def _calls_ours(resolver: Resolver, made: Spot, used: Spot) -> bool:
    """Whether something that may have set a limit elsewhere runs between the two."""
    between = [number for number, site in enumerate(used.within.calls) if made.order < site.order < used.order]
    return any(not isinstance(value, (Symbol, Method)) for n in between for value in resolver.callee(used, n))


def sites_on(resolver: Resolver, owner: ClientValue, seen: Sighting, method: str) -> Iterator[tuple[Site, Spot]]:
    """The calls of a method of the object that an operation is made on, and where they stand."""
    for file, index, path in _places(resolver, owner, seen):
        for site in file.form.scopes[index].calls:
            if last_name(site.callee) == method and receiver(site.callee) == path:
                yield site, Spot(file, index, site.order, site.block)


def _places(resolver: Resolver, owner: ClientValue, seen: Sighting) -> Iterable[Place]:
    """Each once. All calls of a function that are made on one object ask for the same."""
    used = receiver(seen.site.callee) if seen.owner is owner else ""
    file, scope = seen.spot[:2] if used else (None, -1)
    key = file, scope, used, owner.made, owner.subclass, "places"
    return resolver.settled(key, lambda: dict.fromkeys(_held(resolver, owner, seen.spot, used)))


def _held(resolver: Resolver, owner: ClientValue, used_at: Spot, used: str) -> Iterator[Place]:
    spots = [(used_at, used)] if used else []
    if owner.made is not None:
        spots += [(owner.made.spot, name) for name in names_of(owner.made.spot, owner.made.number)]
    for spot, path in spots:
        for file, index in _scopes(resolver, spot, path):
            yield from _meant(resolver, file, index, path)
    for each in (owner.subclass, *bases(resolver, owner.subclass)) if owner.subclass is not None else ():
        yield from ((each.file, number, "self") for number in each.file.functions_of(each.scope))


def _meant(resolver: Resolver, file: SourceFile, index: int, path: str) -> list[Place]:
    """What a name is called in a scope, and in the functions that it is handed to there."""

    def make() -> list[Place]:
        found: list[Place] = []
        for name in (path, *file.sources_of(index).get(path, ())):
            found.append((file, index, name))
            found += handed_on(resolver, name, Spot(file, index, ENDLESS, 0))
        return found

    return resolver.settled((file, index, path, "meant"), make)


def names_of(spot: Spot, index: int) -> list[str]:
    """The names that are given the result of a call, and those given these names; `sockets[]` for what holds it."""
    found = []
    for path, bindings in spot.within.bindings.items():
        inside = [each for binding in bindings if (each := _holds(binding.value, index)) is not None]
        found += [f"{path}{each}" for each in dict.fromkeys(inside)]
    sources = spot.file.sources_of(spot.scope)
    aliases = {alias for path in found for alias in sources.get(path, ())}.difference(found)
    return found + [path for path in spot.within.bindings if path in aliases] if aliases else found


def _holds(expression: Expression, index: int) -> str | None:
    """What to append to the name of something for the result of a call: nothing, `[]` where it is in a container."""
    if expression is None:
        return None
    kind = expression[0]
    if kind == "call":
        return "" if expression[1] == index else None
    if kind in ("await", "enter", "part"):
        return _holds(expression[1], index)
    held = expression[1].values() if kind == "dict" else expression[1] if kind in ("either", "first", "seq") else ()
    found = next((each for part in held if (each := _holds(part, index)) is not None), None)
    return found if found is None or kind in ("either", "first") else f"{found}[]"


def _scopes(resolver: Resolver, spot: Spot, path: str) -> Iterator[tuple[SourceFile, int]]:
    """Where a name means the same: for an attribute of self all methods of its class, bases and heirs."""
    form = spot.file.form
    yield spot.file, spot.scope
    if not path.startswith(("self.", "cls.")):
        parent = form.scopes[spot.scope].parent
        while parent >= 0:
            yield spot.file, parent
            parent = form.scopes[parent].parent
        if spot.scope == 0:
            yield from ((spot.file, number) for number in range(1, len(form.scopes)))
        return
    index = form.class_around(spot.scope)
    if index < 0:
        return
    cls = ClassValue(spot.file, index)
    family = [cls, *bases(resolver, cls)]
    family += [ClassValue(*heir) for heir in resolver.tree.heirs_of(cls.within.name, cls.file)[:20]]
    for each in family:
        yield from ((each.file, number) for number in each.file.functions_of(each.scope))


def _set(
    limits: Limits, owner: ClientValue, seen: Sighting, scope: Scope, spot: Spot, path: str
) -> Iterator[tuple[int, Limit]]:
    client, option = owner.client, seen.operation.option
    setters = {**client.setters, **client.keeps} if client.keeps else client.setters
    for site in scope.calls:
        name = last_name(site.callee)
        if name in setters and option in ("", name) and receiver(site.callee) == path:
            if (said := _setter(limits, site, name, client, setters[name], spot)) is not None:
                yield site.order, said
        elif name in client.options and receiver(site.callee) == path and option and len(site.arguments) > 1:
            if _given_none(owner, site.arguments[1], spot):
                continue
            if (said := _option(limits, site, f"{name} {option}", option, spot)) is not None:
                yield site.order, said
        elif name in client.hooks and receiver(site.callee) == path and _own(limits, site, spot):
            yield site.order, Limit("unknown", f"what {name} was given", "unknown")
    for operation in client.operations if client.hooks else ():
        for binding in scope.bindings.get(f"{path}.{operation}", ()):
            here = spot._replace(order=binding.order, block=binding.block)
            yield binding.order, _replaced(limits, client.operations[operation].limit, here, binding)
    for attribute in (option, option.lower()) if option else ():
        for binding in scope.bindings.get(f"{path}.{attribute}", ()):
            yield binding.order, ending(limits.resolver, binding.value, spot, f"attribute {attribute}")


def _given_none(owner: ClientValue, value: Expression, spot: Spot) -> bool:
    """Whether the call that the object was made for gives None: `if timeout is not None: sock.setsockopt(…)`."""
    if owner.through is None or owner.made is None or owner.made.spot[:2] != spot[:2]:
        return False
    given, where = handed_through(value, spot, owner.through)
    return given is not value and is_none(given, where)


def _replaced(limits: Limits, names: tuple[str, ...], spot: Spot, binding: Binding) -> Limit:
    """`session.request = partial(session.request, timeout=5)`, which the other methods go through."""
    for value in limits.resolver.evaluate(binding.value, spot):
        if isinstance(value, Partial) and names:
            given = given_of(value.made.site)
            said = given_limit(limits.resolver, given, names, None, value.made.spot, "argument")
            if said is not None:
                return said
    return Limit("unknown", "a method that is replaced", "unknown")


def _own(limits: Limits, site: Site, spot: Spot) -> bool:
    """Whether an argument is an object of the tree's own classes, which may do anything."""
    here = Spot(spot.file, spot.scope, site.order, site.block)
    return any(isinstance(v, Instance) for each in site.arguments for v in limits.resolver.evaluate(each, here))


def _option(limits: Limits, site: Site, source: str, option: str, spot: Spot) -> Limit | None:
    """`setsockopt(zmq.RCVTIMEO, 1000)`, and what a variable may choose: `for each, value in OPTIONS.items(): …`."""
    chosen, value = site.arguments[0], site.arguments[1]
    here = Spot(spot.file, spot.scope, site.order, site.block)
    if last_name(chosen).removesuffix("_MS") == option:  # pycurl.TIMEOUT_MS
        return ending(limits.resolver, value, here, source)
    if last_name(chosen).isupper():
        return None
    named = [each for each in limits.resolver.evaluate(chosen, here) if isinstance(each, Symbol)]
    if not named:
        return Limit("unknown", "an option that is not written here", "unknown")
    chooses = any(each.path.rpartition(".")[2] == option for each in named)
    return ending(limits.resolver, value, here, source) if chooses else None


def _setter(limits: Limits, site: Site, name: str, client: Client, at: int, spot: Spot) -> Limit | None:
    value, said = found(given_of(site), client.limit, at)
    if not said:
        return None
    if name == "setblocking":
        blocks = value in (("const", True), ("const", 1))
        return Limit("none", "setblocking(True)") if blocks else Limit("explicit", "setblocking(False)")
    return ending(limits.resolver, value, spot, name, client.endless)
