"""What ends a call that gets no answer: its arguments, what stands around it, its client, the library."""

from __future__ import annotations

from collections.abc import Callable

from resilient_agents.scan.form import Expression
from resilient_agents.scan.guards import around, polled, protection
from resilient_agents.scan.holders import settings
from resilient_agents.scan.known import Client, Default, Ends
from resilient_agents.scan.records import Limit
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Given, Sighting
from resilient_agents.scan.values import ClientValue, Data, Opaque, Spot, Symbol
from resilient_agents.scan.versions import choose, normal

__all__ = ["Limits"]

Pin = Callable[[str, str], str]
"""The versions of a distribution that the project of a file admits."""

UNKNOWN = Limit("unknown", "", "unknown")


class Limits:
    """Limits of sightings; `pin` says which version of a library counts for a file."""

    def __init__(self, resolver: Resolver, pin: Pin) -> None:
        self.resolver = resolver
        self.pin = pin

    def of(self, seen: Sighting) -> Limit:
        """The first that says something: a socket that never waits, an argument, a block around, a poll, the client."""
        said = self.never(seen) or self.flagged(seen) or self.argument(seen)
        if said is not None and said.value != "none":
            return said
        outside = around(self.resolver, seen) or polled(self.resolver, seen) or self.protected(seen)
        return outside or said or self.of_client(seen) or self.default(seen)

    def protected(self, seen: Sighting) -> Limit | None:
        guard = protection(self.resolver, seen)
        return Limit("explicit", guard.source) if guard is not None and guard.limits else None

    # -- the call itself

    def never(self, seen: Sighting) -> Limit | None:
        operation = seen.operation
        if operation.by_argument and seen.owner is not None and seen.owner.made is not None:
            made = seen.owner.made
            for argument in made.site.arguments:
                for value in self.resolver.evaluate(argument, made.spot):
                    if isinstance(value, Symbol) and (what := by_symbol(operation.by_argument, value.path)):
                        return self.said(what, f"a {value.path.rpartition('.')[2]} socket", True)
        if operation.default is not None and len(operation.default.by_version) == 1:
            what = operation.default.by_version[0][1]
            return self.said(what, "", True) if what == "never" else None
        return None

    def flagged(self, seen: Sighting) -> Limit | None:
        """`recv(zmq.NOBLOCK)`."""
        operation = seen.operation
        if not operation.flags:
            return None
        given, _ = found(seen.given, ("flags",), operation.flags_at)
        for value in self.resolver.evaluate(given, seen.spot):
            if isinstance(value, Symbol) and by_symbol(dict.fromkeys(operation.flags, "yes"), value.path):
                return Limit("explicit", value.path.rpartition(".")[2])
        return None

    def argument(self, seen: Sighting) -> Limit | None:
        operation = seen.operation
        if not operation.limit:
            return None
        return self.given(seen.given, operation.limit, operation.at, seen.spot, "argument")

    def given(self, given: Given, names: tuple[str, ...], at: int | None, spot: Spot, where: str) -> Limit | None:
        """What the arguments of a call say, if they say something."""
        value, there = found(given, names, at)
        name = next((name for name in names if name in given.keywords), names[0])
        if there:
            return self.ending(value, spot, f"{where} {name}")
        for each in given.spread:
            options = [v for v in self.resolver.evaluate(each, spot) if isinstance(v, Data)]
            if not options:
                return Limit("unknown", f"{where}s behind **", "unknown")
            for data in options:
                kind, *rest = data.expression or ("",)
                if kind != "dict":
                    continue
                if inside := next((name for name in names if name in rest[0]), None):
                    return self.ending(rest[0][inside], data.spot, f"{where} {inside}")
                if rest[2] or not rest[1]:
                    return Limit("unknown", f"{where}s behind **", "unknown")
        if given.starred and at is not None:
            return Limit("unknown", f"{where}s behind *", "unknown")
        return None

    def ending(self, value: Expression, spot: Spot, source: str) -> Limit:
        """A limit that is given: None is none, and an object that stands for limits is what its arguments say."""
        if self.is_none(value, spot):
            return Limit("none", f"{source} is None")
        for each in self.resolver.evaluate(value, spot):
            if isinstance(each, Opaque) and (ends := self.resolver.known.ends.get(each.path)):
                return self.object_ends(ends, each, source)
        return Limit("explicit", source)

    def object_ends(self, ends: Ends, value: Opaque, source: str) -> Limit:
        site = value.made.site
        given = Given(site.arguments, site.keywords, site.spread, site.starred)
        if given.spread or given.starred:
            return Limit("explicit", source)
        stated = [found(given, (name,), ends.at if name == ends.arguments[0] else None) for name in ends.arguments]
        said = [self.is_none(expression, value.made.spot) for expression, there in stated if there]
        if not said:
            return (
                Limit("explicit", source) if ends.default == "explicit" else Limit("none", f"{source} limits no wait")
            )
        return Limit("explicit", source) if not all(said) else Limit("none", f"{source} is None")

    def is_none(self, value: Expression, spot: Spot, depth: int = 3) -> bool:
        """Whether it is None for certain: written so, or a name that is never anything else."""
        if value is None or depth == 0:
            return False
        if value[0] == "const":
            return value[1] is None or (value[1] == -1 and not isinstance(value[1], bool))
        if value[0] != "name":
            return False
        index = spot.scope
        scopes = spot.file.form.scopes
        while index >= 0:
            if bindings := scopes[index].bindings.get(value[1]):
                return all(self.is_none(b.value, Spot(spot.file, index, b.order, b.block), depth - 1) for b in bindings)
            index = scopes[index].parent
        return False

    # -- the client

    def of_client(self, seen: Sighting) -> Limit | None:
        if seen.owner is None or not seen.operation.client_limit:
            return None
        return self.client_limit(seen.owner, seen)

    def client_limit(self, owner: ClientValue, seen: Sighting, depth: int = 4) -> Limit | None:
        client = owner.client
        if (client.setters or client.options) and (said := settings(self, owner, seen)) is not None:
            return said
        if owner.subclass is not None and client.limit + client.carriers:
            return Limit("unknown", f"{owner.subclass.within.name} is a class of its own", "unknown")
        by_hand = client.limit or client.carriers or client.setters or client.options
        limitable = by_hand or (client.library.package and owner is seen.owner)
        if owner.made is None and owner.of is None and limitable:
            return Limit("unknown", "a client that is handed in", "unknown")
        constructed = self.constructed(owner, client, depth) if owner.made and not owner.subclass else None
        if constructed is not None:
            return constructed
        if owner.of is not None and depth:
            return self.client_limit(owner.of, seen, depth - 1)
        return None

    def constructed(self, owner: ClientValue, client: Client, depth: int) -> Limit | None:
        assert owner.made is not None
        site, spot = owner.made.site, owner.made.spot
        given = Given(site.arguments, site.keywords, site.spread, site.starred)
        if client.limit:
            if (said := self.given(given, client.limit, client.at, spot, "client argument")) is not None:
                return said
            for argument in site.arguments:  # redis://host?socket_timeout=5
                if argument and argument[0] == "const" and f"{client.limit[0]}=" in str(argument[1]):
                    return Limit("explicit", f"{client.limit[0]} in the URL")
        for carrier in client.carriers:
            value, there = found(given, (carrier,), None)
            if not there:
                continue
            for each in self.resolver.evaluate(value, spot):
                if isinstance(each, ClientValue) and each.made is not None and depth:
                    return self.constructed(each, each.client, depth - 1)
            return Limit("unknown", f"client argument {carrier}", "unknown")
        return None

    # -- the library

    def default(self, seen: Sighting) -> Limit:
        default = seen.operation.default or seen.client.default or seen.client.library.default
        if default is None:
            return UNKNOWN
        return self.by_version(seen, default)

    def by_version(self, seen: Sighting, default: Default) -> Limit:
        package = seen.client.library.package
        pin = self.pin(seen.spot.file.path, normal(package)) if package else ""
        what, agreed = choose(default, pin)
        if not agreed:
            return self.said(what, f"{package} {default}", False)
        return self.said(what, f"{package}{pin}" if pin and len(default.by_version) > 1 else "", True)

    def said(self, what: str, source: str, certain: bool) -> Limit:
        confidence = "certain" if certain else "likely"
        if what == "none":
            return Limit("none", source, confidence)
        if what == "never":
            return Limit("never_waits", source, confidence)
        if what == "unknown":
            return UNKNOWN
        return Limit("default", source or what, confidence)


def found(given: Given, names: tuple[str, ...], at: int | None) -> tuple[Expression, bool]:
    """The first of these arguments that is given, by keyword or for the first of them by position."""
    for name in names:
        if name in given.keywords:
            return given.keywords[name], True
    if at is not None and at < len(given.arguments) and not given.starred:
        return given.arguments[at], True
    return None, False


def by_symbol(table: object, path: str) -> str:
    """An entry for a symbol, wherever its library is imported from: `zmq.REQ`, `zmq.asyncio.REQ`."""
    root, last = path.partition(".")[0], path.rpartition(".")[2]
    return table.get(f"{root}.{last}", "") if isinstance(table, dict) else ""
