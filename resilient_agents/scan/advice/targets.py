"""What a call talks to: a host, a database, a program, an address; else the library, where the code does not say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

from resilient_agents.scan.form import Expression
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.known import Client
from resilient_agents.scan.resolve import Resolver
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


def target(resolver: Resolver, found: Found) -> Target:
    """What the call talks to."""
    seen, library = found.seen, found.call.dependency
    if seen.client.library.address == "service":
        return Target(found.call.kind, library, library, "service")
    if found.call.kind == "subprocess":
        program = _first(_programs(resolver, seen.given.arguments, seen.spot))
        return Target("subprocess", library, program or library, "program")
    address = seen.client.library.address
    name = ""
    if seen.owner is None:
        first = _texts(resolver, seen.given.arguments[:2], seen.spot)
        named = _texts(resolver, _addresses(seen.given.keywords), seen.spot)
        bare = address in ("file", "host") or _connects(resolver, seen.callee)
        said = [*named, *(text for text in first if bare or "://" in text)]
        said = said if address != "host" else [text for text in said if text.lower() not in _METHODS]
        name = _first(filter(None, map(_file if address == "file" else _host, said)))
    else:
        texts = _texts(resolver, seen.given.arguments[:2], seen.spot)
        name = _first(filter(None, (_host(text) for text in texts if "://" in text)))
        name = name or _of_client(resolver, seen.owner, seen.client)
    return Target(found.call.kind, library, name or library, "" if address == "host" else address)


def _of_client(resolver: Resolver, owner: ClientValue | None, client: Client, depth: int = 4) -> str:
    """What the call that made the client was given."""
    if owner is None or depth == 0:
        return ""
    if owner.made is not None and not _answer(owner):
        site, spot = owner.made.site, owner.made.spot
        for text in _texts(resolver, (*_addresses(site.keywords), *site.arguments[:1]), spot):
            name = _file(text) if client.library.address in ("file", "process") else _host(text)
            if name:
                return name
    return _of_client(resolver, owner.of, client, depth - 1)


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


def _texts(resolver: Resolver, expressions: tuple[Expression, ...], spot: Spot, depth: int = 4) -> Iterator[str]:
    """The strings that these can be, or what of them is whole, as far as they are written down."""
    for expression in expressions if depth else ():
        for value in resolver.evaluate(expression, spot):
            if not isinstance(value, Data) or value.expression is None:
                continue
            kind, text = value.expression[:2]
            if kind == "starts":
                found = _texts(resolver, (text,), value.spot, depth - 1)
                yield from filter(None, map(_whole, found)) if text and text[0] == "const" else found
            elif kind == "const" and isinstance(text, str):
                yield text


def _whole(start: str) -> str:
    """Of how a text begins what is whole: a URL as far as its last slash, words but the last one."""
    if "://" in start:
        return start[: start.rindex("/") + 1] if start.count("/") > 2 else ""
    return start.rpartition(" ")[0]


def _programs(resolver: Resolver, expressions: tuple[Expression, ...], spot: Spot) -> Iterator[str]:
    if not expressions or expressions[0] is None:
        return
    first = expressions[0]
    if first[0] == "seq" and first[1]:
        yield from map(_file, _texts(resolver, first[1][:1], spot))
        return
    for text in _texts(resolver, (first,), spot):
        try:
            words = shlex.split(text)
        except ValueError:
            words = text.split()
        if words:
            yield _file(words[0])


def _host(text: str) -> str:
    """The host of a URL or an address; no credentials, no path."""
    if "://" not in text and not re.fullmatch(r"[\w.-]+(:\d+)?", text):
        return ""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = f":{parts.port}" if parts.port is not None and parts.scheme not in ("http", "https") else ""
        database = parts.path.strip("/") if parts.scheme.partition("+")[0] in _WITH_DATABASES else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = "" if host.isdigit() or host in ("http", "https") else host
    return f"{host}{port}{'/' + database if database else ''}" if host else ""


def _file(text: str) -> str:
    return PurePath(text).name


def _first(names: Iterator[str]) -> str:
    return next(iter(names), "")
