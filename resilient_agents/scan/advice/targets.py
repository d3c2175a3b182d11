"""What a call talks to: a host, a database, a program, an address; else the library, where the code does not say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from resilient_agents.scan.advice.addresses import Said, said, stated
from resilient_agents.scan.advice.places import Place, file_name, place
from resilient_agents.scan.callers import handed_through
from resilient_agents.scan.form import Expression, Site, last_name
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.libraries import Client
from resilient_agents.scan.members import receiver
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import ClientValue, Data, Method, Spot

__all__ = ["Target", "Targets"]

_HERE = ("file", "program", "process")


class Target(NamedTuple):
    """What a call talks to."""

    kind: str
    library: str
    name: str
    """`api.example.com`, `app.db`, `git`; the library's name where nothing more is known."""
    place: str = ""
    """ "file" or "program": on this machine; "process": in this one; "own" and "service" as in the table."""
    port: int = 0
    """Where a server is reached; 0 where nothing says it."""

    @property
    def key(self) -> Hashable:
        """The same for all calls that talk to the same thing, in whichever file, by whichever library."""
        if self.name.startswith("$") or (self.place in ("file", "program") and self.name != self.library):
            return self.place, self.name
        host = self.name.partition("/")[0].partition(":")[0]
        if self.port and host:
            return host, self.port, self.name.partition("/")[2]
        return self.kind, self.library, self.name, self.place

    @property
    def local(self) -> bool:
        """Whether it is on this machine and cannot be away."""
        return self.place in _HERE

    @property
    def known(self) -> bool:
        """Whether the code says what it is, and not only by which library it is talked to."""
        return self.name != self.library or self.kind == "model" or self.place in ("service", *_HERE)

    @property
    def slug(self) -> str:
        """A name that a configuration can use."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or self.library


_METHODS = frozenset(["get", "head", "options", "post", "put", "patch", "delete"])
"""Of HTTP: what some functions take before the address."""
_CONNECTING = frozenset(["socket", "bus", "other_net"])
"""Kinds of clients that are made first and connected later."""


class Targets:
    """Says it. What was found out about a client, or the connections that a file makes, is kept for the next call."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[Hashable, tuple[Target, str]] = {}
        self._connected: dict[SourceFile, dict[Hashable, list[tuple[Site, Spot]]]] = {}

    def of(self, found: Found) -> tuple[Target, str]:
        """What the call talks to, and the variable of the environment that may say otherwise, "" where none does."""
        seen = found.seen
        if seen.owner is None or seen.client.library.address == "host":
            return self._of(seen)
        connected = seen.client.kind in _CONNECTING
        key = seen.owner, (seen.spot.file, _which(seen.owner, seen.site, seen.spot)) if connected else None
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._of(seen)
        return known

    def _of(self, seen: Sighting) -> tuple[Target, str]:
        library, kind, address = seen.client.library.name, seen.client.kind, seen.client.library.address
        if address == "class":
            made = seen.owner.made if seen.owner is not None else None
            name = last_name(made.site.callee) if made is not None else ""
            return Target(kind, library, name if name.islower() else library, "service"), ""
        if address == "service":
            return Target(kind, library, library, "service"), ""
        if kind == "subprocess":
            return Target(kind, library, _program(self._resolver, seen) or library, "program"), ""
        there, variable = _first(seen.client, self._texts(seen))
        if address == "named" and not there.name:
            name = _service(self._resolver, seen.owner)
            return Target(kind, library, name or library, "service" if name else ""), ""
        where = there.where or ("" if address in ("host", "named") else address)
        name = there.name or (f"${variable}" if variable else library)
        return Target(kind, library, name, where, there.port), variable

    def _texts(self, seen: Sighting) -> Iterator[Said]:
        """What may say it, what is nearest to the call first."""
        resolver, owner, client = self._resolver, seen.owner, seen.client
        if owner is None:
            yield from _of_call(resolver, seen)
            return
        if client.library.address == "host":
            yield from _of_argument(resolver, seen)
        yield from _of_client(resolver, owner)
        yield from _of_client(resolver, _current(resolver, owner, seen.spot.file))
        if client.kind in _CONNECTING:
            yield from self._of_connection(owner, seen)

    def _of_connection(self, owner: ClientValue, seen: Sighting) -> Iterable[Said]:
        """What the one call of `connect` was given: a URL, a host, host and port; nothing where there are more."""
        which = _which(owner, seen.site, seen.spot)
        files = {seen.spot.file: None} if owner.made is None else {seen.spot.file: None, owner.made.spot.file: None}
        found: set[Said] = set()
        for site, spot in (each for file in files for each in self._connections(file).get(which, ())):
            here = owner.made is not None and owner.made.spot[:2] == spot[:2]
            through = owner.through if here else None
            texts = stated(self._resolver, site.keywords, site.arguments[:2], spot, through=through)
            found.update([each for each in texts if each != NOTHING] or [NOTHING])
        return found if len(found) == 1 else ()

    def _connections(self, file: SourceFile) -> dict[Hashable, list[tuple[Site, Spot]]]:
        """The calls of `connect` in a file, by what they connect."""
        found = self._connected.get(file)
        if found is None:
            found = self._connected[file] = {}
            for spot, index in file.calls_named("connect"):
                site = spot.within.calls[index]
                for each in self._resolver.callee(spot, index):
                    if isinstance(each, Method) and each.owner.client.kind in _CONNECTING:
                        found.setdefault(_which(each.owner, site, spot), []).append((site, spot))
        return found


NOTHING = Said("")


def _first(client: Client, texts: Iterable[Said]) -> tuple[Place, str]:
    """The first place that texts name which a client is given, and the variable that may say otherwise; the first
    variable where none does."""
    address, port, unnamed = client.library.address, client.library.port, ""
    for text, variable in texts:
        if address == "named" and "://" not in text:
            continue
        there = place(text, address, port) if text else NOWHERE
        if there.name:
            return there, variable
        unnamed = unnamed or variable
    return NOWHERE, unnamed


NOWHERE = Place("")


def _program(resolver: Resolver, seen: Sighting) -> str:
    """What is run, or was started."""
    arguments, spot = seen.given.arguments, seen.spot
    if seen.owner is not None:
        made = seen.owner.made
        arguments, spot = (made.site.arguments, made.spot) if made is not None else ((), spot)
    return next(filter(None, _programs(resolver, arguments[:1], spot)), "")


def _service(resolver: Resolver, owner: ClientValue | None) -> str:
    """`s3`, `sqs.eu-west-1`: what the client was given that made all others, and its region."""
    makers = []
    while owner is not None:
        makers += [owner] if owner.made is not None and owner.client.operations else []
        owner = owner.of
    made = makers[-1].made if makers else None
    if made is None:
        return ""
    site, through = made.site, makers[-1].through
    first = site.keywords.get("service_name", site.arguments[0] if site.arguments else None)
    region = site.keywords.get("region_name", site.arguments[1] if len(site.arguments) > 1 else None)
    parts = []
    for each in (first, region):
        given, where = handed_through(each, made.spot, through) if through is not None else (each, made.spot)
        parts.append(next((each.text for each in said(resolver, (given,), where) if each.text), ""))
    return ".".join(filter(None, parts)) if parts[0] else ""


def _of_call(resolver: Resolver, seen: Sighting) -> Iterator[Said]:
    """What a function is given."""
    address, given = seen.client.library.address, seen.given
    connects = _connects(resolver, seen.callee)
    databases = seen.client.kind == "database"
    arguments = given.arguments[: _with_port(seen.client)] if connects else ()
    yield from stated(resolver, given.keywords, arguments, seen.spot, databases=databases)
    yield from _unpacked(resolver, given.spread if connects else (), seen.spot, databases=databases)
    for value in (value for each in given.arguments[:1] for value in resolver.evaluate(each, seen.spot)):
        if isinstance(value, ClientValue):  # `execute_values(cursor, …)`
            yield from _of_client(resolver, value)
    for each in said(resolver, given.arguments[:2], seen.spot):
        method = address == "host" and each.text.lower() in _METHODS
        if not method and (address in ("file", "host") or "://" in each.text):
            yield each


def _of_argument(resolver: Resolver, seen: Sighting) -> Iterator[Said]:
    """The URL that a client is asked for."""
    given = (*seen.given.arguments[:2], seen.given.keywords.get("url"))
    return (each for each in said(resolver, given, seen.spot) if "://" in each.text or not each.text)


def _of_client(resolver: Resolver, owner: ClientValue | None, depth: int = 4) -> Iterator[Said]:
    """What the call that made the client was given, or the call that made what it is made with."""
    if owner is None or depth == 0:
        return
    if owner.made is not None and not _answer(owner):
        site, spot, client = owner.made.site, owner.made.spot, owner.client
        first = () if client.titled else site.arguments[: _with_port(client)]
        found = stated(resolver, site.keywords, first, spot, databases=client.kind == "database", through=owner.through)
        # What a client makes talks to what that talks to, unless it is given a URL.
        yield from (each for each in found if owner.of is None or "://" in each.text)
        at = client.carrier_at or 0
        for position, each in enumerate(site.arguments[: at + 1]):
            for value in resolver.evaluate(each, spot):
                if position == 0 and isinstance(value, Data):
                    yield from _of_dict(resolver, value)
                elif position == at and isinstance(value, ClientValue):
                    yield from _of_client(resolver, value, depth - 1)
        yield from _unpacked(resolver, site.spread, spot, databases=client.kind == "database")
        for name in client.carriers:
            for value in resolver.evaluate(site.keywords.get(name), spot):
                if isinstance(value, ClientValue):
                    yield from _of_client(resolver, value, depth - 1)
    yield from _of_client(resolver, owner.of, depth - 1)


def _current(resolver: Resolver, owner: ClientValue, near: SourceFile) -> ClientValue | None:
    """The one client of its kind that the tree makes, for what is of no other: the app of a `@shared_task`."""
    while owner.of is not None:
        owner = owner.of
    name = owner.client.current
    sites = resolver.tree.calls_of(name.rpartition(".")[2], near, everywhere=True) if name else ()
    found = {value for spot, number in sites for value in resolver.evaluate(("call", number), spot)}
    apps = [value for value in found if isinstance(value, ClientValue) and value.client.name == name]
    return apps[0] if len(apps) == 1 else None


def _unpacked(resolver: Resolver, spread: tuple[Expression, ...], spot: Spot, *, databases: bool) -> Iterator[Said]:
    """What `**options` say."""
    for value in (value for each in spread for value in resolver.evaluate(each, spot)):
        if isinstance(value, Data):
            yield from _of_dict(resolver, value, databases=databases)


def _of_dict(resolver: Resolver, value: Data, *, databases: bool = False) -> Iterator[Said]:
    if value.expression is not None and value.expression[0] == "dict":
        yield from stated(resolver, value.expression[1], (), value.spot, databases=databases)


def _with_port(client: Client) -> int:
    """How many arguments may say where it connects: a host and its port, or a file."""
    return 1 if client.library.address in ("file", "process") else 2


def _which(owner: ClientValue, site: Site, spot: Spot) -> Hashable:
    """The object that a call is made on, by what made it; one that was handed in is known by its name alone."""
    name = receiver(site.callee)
    return owner.made or (owner.client, name, -1 if name.startswith("self.") else spot.scope)


def _connects(resolver: Resolver, path: str) -> bool:
    """Whether a function makes a client: it takes what the client talks to."""
    known = resolver.known
    full = known.canonical.get(path, path)
    return full in known.clients or full in known.makers


def _answer(owner: ClientValue) -> bool:
    """Whether it is what a call of another client gave: its arguments say what was asked, not whom.

    A session of HTTP is asked for a URL, which says whom.
    """
    maker, method = owner.of, owner.path.rpartition(".")[2]
    if maker is None or maker.client.library.address == "host":
        return False
    return maker.client.operation(method) is not None or method in maker.client.not_calls


def _programs(resolver: Resolver, expressions: tuple[Expression, ...], spot: Spot) -> Iterator[str]:
    for expression in expressions:
        values = [value for value in resolver.evaluate(expression, spot) if isinstance(value, Data)]
        lists = [(each[1], v.spot) for v in values if (each := v.expression) is not None and each[0] == "seq"]
        for words, where in lists if len(lists) == 1 else ():
            yield from (file_name(each.text) for each in said(resolver, words[:1], where))
        for each in said(resolver, expressions, spot) if not lists else ():
            try:
                words = shlex.split(each.text)
            except ValueError:
                words = each.text.split()
            if words:
                yield file_name(words[0])
