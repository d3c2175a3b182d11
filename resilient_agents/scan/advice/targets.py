"""What a call talks to: a host, a database, a program, an address; else the library, where the code does not say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Hashable, Iterator, Mapping
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

from resilient_agents.scan.advice.addresses import Said, said
from resilient_agents.scan.form import Expression, last_name
from resilient_agents.scan.holders import sites_on
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.members import receiver
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import ClientValue, Data, Spot

__all__ = ["Target", "target"]


_HERE = ("file", "program", "process")


class Target(NamedTuple):
    """One dependency: the same for all calls that talk to the same thing, in whichever file."""

    kind: str
    library: str
    name: str
    """`api.example.com`, `app.db`, `git`; the library's name where nothing more is known."""
    place: str = ""
    """ "file" or "program": on this machine; "process": in this one; "own" and "service" as in the table."""

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


ADDRESSES = (
    "base_url",
    "url",
    "host",
    "hostname",
    "dsn",
    "uri",
    "endpoint_url",
    "bootstrap_servers",
    "bootstrap.servers",
    "server",
    "servers",
    "hosts",
    "broker",
    "path",
)
"""Arguments that say where a client connects to."""
_METHODS = frozenset(["get", "head", "options", "post", "put", "patch", "delete"])
"""Of HTTP: what some functions take before the address."""
_WITH_DATABASES = frozenset(["postgresql", "postgres", "mysql", "mariadb", "mongodb"])
"""Schemes of URLs that name a database of their host."""
_PORTS = {
    "http": (80,), "https": (443,), "redis": (6379,), "postgresql": (5432,), "postgres": (5432,), "mysql": (3306,),
    "mongodb": (27017,), "amqp": (5672,), "nats": (4222,), "ws": (80,), "wss": (443,),
}  # fmt: skip
"""Ports that need no saying, by scheme."""
_CONNECTING = frozenset(["socket", "bus", "other_net"])
"""Kinds of clients that are made first and connected later."""
_WORDS = re.compile(r"\b(host|dbname)=([\w.-]+)")
_FILES = frozenset(["sqlite", "duckdb"])
"""Schemes of URLs that name a file."""


def target(resolver: Resolver, found: Found, known: dict[Hashable, list[Said]]) -> tuple[Target, str]:
    """What the call talks to, and the variable of the environment that may say otherwise, "" where none does.

    `known` keeps what is found out about clients for the next call.
    """
    seen, library, kind = found.seen, found.call.dependency, found.call.kind
    address = seen.client.library.address
    if address == "class":
        name = last_name(seen.owner.made.site.callee) if seen.owner is not None and seen.owner.made is not None else ""
        return Target(kind, library, name if name.islower() else library, "service"), ""
    if address == "service":
        return Target(kind, library, library, "service"), ""
    if kind == "subprocess":
        program = next(filter(None, _programs(resolver, seen.given.arguments, seen.spot)), "")
        return Target(kind, library, program or library, "program"), ""
    place, variable = _Place("", ""), ""
    for each in _everything(resolver, seen, known):
        there = _place(each.text, address) if each.text else place
        variable = each.variable if there.name else variable or each.variable
        if there.name:
            place = there
            break
    where = place.where or ("" if address == "host" else address)
    return Target(kind, library, place.name or (f"${variable}" if variable else library), where), variable


def _everything(resolver: Resolver, seen: Sighting, known: dict[Hashable, list[Said]]) -> Iterator[Said]:
    """What may say it, what is nearest to the call first."""
    if seen.owner is None:
        yield from _of_call(resolver, seen)
        return
    yield from _of_argument(resolver, seen)
    if seen.owner not in known:
        known[seen.owner] = list(_of_client(resolver, seen.owner))
    yield from known[seen.owner]
    if seen.client.kind in _CONNECTING and "connect" in seen.spot.file.calls_by_name():
        here = (seen.owner, seen.spot.file, receiver(seen.site.callee), seen.owner.made is None and seen.spot.scope)
        if here not in known:
            known[here] = _connected(resolver, seen.owner, seen)
        yield from known[here]


def _of_call(resolver: Resolver, seen: Sighting) -> Iterator[Said]:
    """What a function is given."""
    address = seen.client.library.address
    yield from said(resolver, _addresses(seen.given.keywords), seen.spot)
    bare = address in ("file", "host") or _connects(resolver, seen.callee)
    for each in said(resolver, seen.given.arguments[:2], seen.spot):
        method = address == "host" and each.text.lower() in _METHODS
        if not method and (bare or "://" in each.text):
            yield each


def _of_argument(resolver: Resolver, seen: Sighting) -> Iterator[Said]:
    """The URL that a client is asked for."""
    return (each for each in said(resolver, seen.given.arguments[:2], seen.spot) if "://" in each.text)


def _of_client(resolver: Resolver, owner: ClientValue | None, depth: int = 4) -> Iterator[Said]:
    """What the call that made the client was given, or the call that made what it is made with."""
    if owner is None or depth == 0:
        return
    if owner.made is not None and not _answer(owner):
        site, spot, client = owner.made.site, owner.made.spot, owner.client
        yield from said(resolver, (*_addresses(site.keywords), *site.arguments[:1]), spot)
        for value in (value for each in site.arguments[:1] for value in resolver.evaluate(each, spot)):
            if isinstance(value, Data) and value.expression is not None and value.expression[0] == "dict":
                yield from said(resolver, _addresses(value.expression[1]), value.spot)
        carriers = [site.keywords[name] for name in client.carriers if name in site.keywords]
        at = client.carrier_at
        carriers += site.arguments[at or 0 : (at or 0) + 1]
        for value in (value for each in carriers for value in resolver.evaluate(each, spot)):
            if isinstance(value, ClientValue):
                yield from _of_client(resolver, value, depth - 1)
    yield from _of_client(resolver, owner.of, depth - 1)


def _connected(resolver: Resolver, owner: ClientValue, seen: Sighting) -> list[Said]:
    """What the one call of `connect` was given: a URL, a host, host and port; nothing where there are more."""
    found: set[Said] = set()
    for site, spot in sites_on(resolver, owner, seen, "connect"):
        first = site.arguments[0] if site.arguments else None
        host, port = first[1] if first is not None and first[0] == "seq" and len(first[1]) == 2 else (first, None)
        number = f":{port[1]}" if port is not None and port[0] == "const" else ""
        texts = [each for each in said(resolver, (host,), spot) if each.text or each.variable]
        if not texts:
            return []
        found.update(Said(f"{each.text}{number}", each.variable) for each in texts)
    return list(found) if len(found) == 1 else []


class _Place(NamedTuple):
    name: str
    where: str
    """"file" or "process"; "" for what is reached by a network."""


def _place(text: str, address: str) -> _Place:
    """What a text names."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.partition("+")[0] in _FILES:
        return _file_or_memory(rest.partition("/")[2])
    if address == "file":
        return _file_or_memory(text)
    return _Place(_file(text), "process") if address == "process" else _Place(_host(text), "")


def _file_or_memory(path: str) -> _Place:
    """`file:` begins a URI of SQLite; what has no name is kept in memory."""
    name = path.removeprefix("file:").partition("?")[0] if path.startswith("file:") else path.partition("?")[0]
    memory = not name or name == ":memory:" or "mode=memory" in path
    return _Place(":memory:", "process") if memory else _Place(_file(name), "file")


def _connects(resolver: Resolver, path: str) -> bool:
    """Whether a function makes a client: it takes what the client talks to."""
    known = resolver.known
    full = known.canonical.get(path, path)
    return full in known.clients or full in known.makers


def _answer(owner: ClientValue) -> bool:
    """Whether it is what a call of another client gave: its arguments say what was asked, not whom."""
    maker, method = owner.of, owner.path.rpartition(".")[2]
    if maker is None:
        return False
    return maker.client.operation(method) is not None or method in maker.client.not_calls


def _addresses(keywords: Mapping[str, Expression]) -> tuple[Expression, ...]:
    return tuple(keywords[name] for name in ADDRESSES if name in keywords)


def _programs(resolver: Resolver, expressions: tuple[Expression, ...], spot: Spot) -> Iterator[str]:
    if not expressions or expressions[0] is None:
        return
    first = expressions[0]
    if first[0] == "seq" and first[1]:
        yield from (_file(each.text) for each in said(resolver, first[1][:1], spot))
        return
    for each in said(resolver, (first,), spot):
        try:
            words = shlex.split(each.text)
        except ValueError:
            words = each.text.split()
        if words:
            yield _file(words[0])


def _host(text: str) -> str:
    """The host of a URL or an address; no credentials, no path."""
    if words := dict(_WORDS.findall(text)):  # of libpq
        return f"{words['host']}/{words['dbname']}" if words.keys() >= {"host", "dbname"} else words.get("host", "")
    if text.startswith("ipc://"):
        return _file(text)
    if "://" not in text and not re.fullmatch(r"[\w.-]+(:\d+)?", text):
        return ""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        scheme = parts.scheme.partition("+")[0]
        port = f":{parts.port}" if parts.port not in (None, *_PORTS.get(scheme, ())) else ""
        database = parts.path.strip("/") if scheme in _WITH_DATABASES else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = "" if host.isdigit() or host in ("http", "https") else host
    return f"{host}{port}{'/' + database if database else ''}" if host else ""


def _file(text: str) -> str:
    return PurePath(text).name
