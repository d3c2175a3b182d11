"""What ends a call that gets no answer: its arguments, what stands around it, its client, the library."""

from __future__ import annotations

from resilient_agents.scan.callers import handed_through
from resilient_agents.scan.guards import around, around_callers, polled
from resilient_agents.scan.libraries import Default
from resilient_agents.scan.made import client_limit, worded
from resilient_agents.scan.members import as_used
from resilient_agents.scan.protection import Protection
from resilient_agents.scan.records import Limit
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.stated import ending, found, given_limit
from resilient_agents.scan.values import Made, Opaque, Spot, Symbol
from resilient_agents.scan.versions import choose

__all__ = ["Limits", "by_symbol", "types_of"]

NEVER = (("const", None), ("const", 0))
UNKNOWN = Limit("unknown", "", "unknown")


class Limits:
    """Limits of sightings."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._ending = {path.partition(".")[0] for path in resolver.known.ends}
        """Modules with classes whose objects are limits."""

    def of(self, seen: Sighting, guard: Protection | None) -> Limit:
        """The first that says something: a socket that never waits, an argument, a block around, a poll, what guards
        it, the client."""
        said = self.never(seen) or self.flagged(seen) or self.argument(seen)
        if said is not None and said.value not in ("none", "unknown"):
            return said
        outside = around(self.resolver, seen) or polled(self.resolver, seen) or _protected(guard, "explicit")
        found = outside or self.stated(seen, said) or self.default(seen)
        if found.value != "none":
            return found
        return around_callers(self.resolver, seen) or _protected(guard, "unknown") or found

    def stated(self, seen: Sighting, said: Limit | None) -> Limit | None:
        """Options that cannot be told seldom take back what a client was given, and may well give what it was not."""
        if said is not None and said.value != "unknown":
            return said
        of_client = self.of_client(seen)
        return of_client if said is None or (of_client is not None and of_client.value == "explicit") else said

    # -- the call itself

    def never(self, seen: Sighting) -> Limit | None:
        operation = seen.operation
        if operation.by_argument and seen.owner is not None and seen.owner.made is not None:
            types = types_of(self.resolver, seen.owner.made, seen.owner.through, seen.spot)
            said = {by_symbol(operation.by_argument, path) for path in types} - {""}
            if said and all(by_symbol(operation.by_argument, path) for path in types):
                return self.said(said.pop(), f"a {types[0].rpartition('.')[2]} socket", True)
            if said:
                return Limit("unknown", "a socket of several types", "unknown")
        if operation.default is not None and len(operation.default.by_version) == 1:
            what = operation.default.by_version[0][1]
            return self.said(what, "", True) if what == "never" else None
        return None

    def flagged(self, seen: Sighting) -> Limit | None:
        """`recv(zmq.NOBLOCK)`, `acquire(blocking=False)`."""
        operation = seen.operation
        if not operation.flags:
            return None
        given, _ = found(seen.given, ("flags", "blocking"), operation.flags_at)
        if given == ("const", False) and "False" in operation.flags:
            return Limit("explicit", "without waiting")
        for value in self.resolver.evaluate(given, seen.spot):
            if isinstance(value, Symbol) and by_symbol(dict.fromkeys(operation.flags, "yes"), value.path):
                return Limit("explicit", value.path.rpartition(".")[2])
        return None

    def argument(self, seen: Sighting) -> Limit | None:
        operation = seen.operation
        if operation.returns_after is not None:
            name, at = operation.returns_after
            value, there = found(seen.given, (name,), at)
            return Limit("explicit", f"argument {name}") if there and value not in NEVER else None
        if not operation.limit:
            return self.of_statement(seen)
        client, names = seen.client, operation.limit
        said = given_limit(self.resolver, seen.given, names, operation.at, seen.spot, "argument", client.endless)
        return said or (worded(client, seen.given) if seen.owner is None else None)

    def of_statement(self, seen: Sighting) -> Limit | None:
        """What is asked may say how long that may take: `session.run(Query("RETURN 1", timeout=5))`."""
        if seen.client.name.partition(".")[0] not in self._ending:
            return None
        for first in seen.given.arguments[:1]:
            values = self.resolver.evaluate(first, seen.spot)
            if any(isinstance(each, Opaque) and each.path in self.resolver.known.ends for each in values):
                return ending(self.resolver, first, seen.spot, "argument timeout")
        return None

    # -- the client

    def of_client(self, seen: Sighting) -> Limit | None:
        if seen.owner is None or not seen.operation.client_limit:
            return None
        return client_limit(self, seen.owner, seen)

    # -- the library

    def default(self, seen: Sighting) -> Limit:
        default = seen.operation.default or seen.client.default or seen.client.library.default
        if default is None:
            return UNKNOWN
        return self.by_version(seen, default)

    def by_version(self, seen: Sighting, default: Default) -> Limit:
        package = seen.client.library.package
        pin = self.resolver.versions(seen.client, seen.spot)
        what, agreed = choose(default, pin)
        if what == "none" and not package and (said := self.of_process(seen)) is not None:
            return said
        if not agreed:
            return self.said(what, f"{package} {default}", False)
        return self.said(what, f"{package}{pin}" if pin and len(default.by_version) > 1 else "", True)

    def of_process(self, seen: Sighting) -> Limit | None:
        """`socket.setdefaulttimeout(5)` holds for every socket that says nothing; other files may be other programs."""
        if seen.client.kind not in ("http", "socket", "other_net") or seen.operation.is_async:
            return None
        for spot, index in seen.spot.file.calls_named("setdefaulttimeout"):
            callee = spot.within.calls[index].callee
            if Symbol("socket.setdefaulttimeout") in self.resolver.evaluate(callee, spot):
                return Limit("explicit", "setdefaulttimeout")
        return None

    def said(self, what: str, source: str, certain: bool) -> Limit:
        confidence = "certain" if certain else "likely"
        if what == "none":
            return Limit("none", source, confidence)
        if what == "never":
            return Limit("never_waits", source, confidence)
        if what == "unknown":
            return UNKNOWN
        return Limit("default", source or what, confidence)


def _protected(guard: Protection | None, limit: str) -> Limit | None:
    if guard is None or guard.limit != limit:
        return None
    return Limit(limit, guard.source, "certain" if limit == "explicit" else "unknown")


def types_of(resolver: Resolver, made: Made, through: Made | None, used: Spot) -> list[str]:
    """Symbols among the arguments of the call that made a socket: as whoever had it made gave them, as the class has
    them that uses it."""
    given = [(each, made.spot) for each in (*made.site.arguments, *made.site.keywords.values())]
    if through is not None:
        given = [handed_through(each, made.spot, through) for each, _ in given]
    values = [value for each, spot in given for value in as_used(resolver, each, spot, used)]
    return [value.path for value in values if isinstance(value, Symbol) and is_type(value.path)]


def is_type(path: str) -> bool:
    """Whether a symbol is a type of sockets: `zmq.PUB`, `socket.SOCK_DGRAM`."""
    name = path.rpartition(".")[2]
    return name.startswith("SOCK_") if path.startswith("socket.") else name.isupper()


def by_symbol(table: object, path: str) -> str:
    """An entry for a symbol, wherever its library is imported from: `zmq.REQ`, `zmq.asyncio.REQ`."""
    root, last = path.partition(".")[0], path.rpartition(".")[2]
    return table.get(f"{root}.{last}", "") if isinstance(table, dict) else ""
