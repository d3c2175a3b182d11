"""Texts that say where something connects to, as far as they are written down: constants, defaults, the environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from resilient_agents.scan.callers import handed_through
from resilient_agents.scan.form import Expression, Site, last_name
from resilient_agents.scan.members import external, member
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.values import Data, Instance, Made, Opaque, Spot, Symbol, Value

__all__ = ["Said", "said", "stated"]

READS = frozenset(["os.environ.get", "os.getenv", "os.environ.setdefault", "os.environ.pop", "decouple.config"])
"""Functions that take the name of a variable of the environment, and what counts where it is not set."""
KEEPS = frozenset(
    [
        *("URL", "AnyUrl", "AnyHttpUrl", "HttpUrl", "RedisDsn", "PostgresDsn", "MongoDsn", "Path", "str", "int"),
        *(
            "os.path.abspath",
            "os.path.expanduser",
            "urljoin",
            "urllib.request.Request",
            "urllib2.Request",
            "ConnectionParameters",
            "URLParameters",
        ),
    ]
)
"""Classes and functions that keep what they are given first, by their last word or in full."""
JOINS = frozenset(["join", "joinpath", "with_name"])
"""Functions that make a path, whose last argument is its name."""
CREATES = frozenset([f"sqlalchemy.{module}URL.create" for module in ("", "engine.", "engine.url.")])
"""Functions that make a URL of its parts."""
PARTS = ("drivername", "username", "password", "host", "port", "database")
DRESSES = frozenset(
    [
        *("strip", "rstrip", "lstrip", "lower", "split", "removesuffix", "removeprefix", "format"),
        *("as_posix", "get_secret_value"),
    ]
)
"""Methods of a text that leave its host as it is."""
ADDRESSES = (
    *("base_url", "url", "host", "hostname", "dsn", "uri", "endpoint_url", "bootstrap_servers", "bootstrap.servers"),
    *("server", "servers", "hosts", "broker", "path"),
)
"""Arguments that say where a client connects to."""
DATABASES = ("dbname", "database", "db")
"""Arguments that say which database of a server is meant."""
DEPTH = 6


class Said(NamedTuple):
    """`variable` of the environment may say otherwise; without a text it alone says it."""

    text: str
    variable: str = ""


def said(resolver: Resolver, expressions: Iterable[Expression], spot: Spot, depth: int = DEPTH) -> Iterator[Said]:
    """What these can be, or what of them is whole; nothing for one that can be several."""
    for expression in expressions if depth else ():
        if expression is None:
            continue
        if expression[0] == "const":
            if isinstance(expression[1], str):
                yield Said(expression[1])
            continue
        texts = [each for value in resolver.evaluate(expression, spot) for each in _of(resolver, value, depth - 1)]
        variable = _setting(resolver, expression, spot)
        if variable:
            texts = [Said(each.text, each.variable or variable) for each in texts] or [Said("", variable)]
        if len({_host(each.text) for each in texts if each.text}) > 1:
            continue
        yield from texts or _unresolved(resolver, expression, spot, depth - 1)


def stated(
    resolver: Resolver,
    keywords: Mapping[str, Expression],
    arguments: tuple[Expression, ...],
    spot: Spot,
    *,
    databases: bool = False,
    through: Made | None = None,
    depth: int = DEPTH,
) -> Iterator[Said]:
    """What the arguments of one call say: a URL, a host with the port and the database that others of them say.

    What stands for a parameter is what it was given `through` the call that led there.
    """

    def asked(*expressions: Expression) -> Iterator[Said]:
        for each in expressions:
            given, where = handed_through(each, spot, through) if through is not None else (each, spot)
            yield from said(resolver, (given,), where, depth)

    more: str | None = None
    names = [name for name in ADDRESSES if name in keywords] if keywords else []
    for each in asked(*(keywords[name] for name in names), *arguments[:1]):
        if not each.text or set("/:=,") & set(each.text):
            yield each
            continue
        if more is None:  # a bare host, which the rest of the arguments belongs to
            port = keywords.get("port", arguments[1] if len(arguments) > 1 else None)
            given, where = handed_through(port, spot, through) if through is not None else (port, spot)
            named = [keywords[name] for name in DATABASES if name in keywords] if databases else []
            database = next((name.text for name in asked(*named)), "")
            more = f":{_number(resolver, given, where, depth)}/{database}"
        yield each._replace(text=f"//{each.text}{more}") if more != ":/" else each


def _number(resolver: Resolver, expression: Expression, spot: Spot, depth: int) -> str:
    """A port, as a number or as the default of the environment has it."""
    consts = (value.expression for value in resolver.evaluate(expression, spot) if isinstance(value, Data))
    numbers = [str(each[1]) for each in consts if each is not None and each[0] == "const" and type(each[1]) is int]
    texts = (each.text for each in said(resolver, (expression,), spot, depth))
    return next((each for each in (*numbers, *texts) if each.isdecimal()), "")


def _several(resolver: Resolver, parts: tuple[Expression, ...], spot: Spot, depth: int) -> Iterator[Said]:
    """A host and its port; of a list of hosts, which are one cluster, the first."""
    first = parts[0] if parts else None
    port = _number(resolver, parts[1], spot, depth) if len(parts) == 2 else ""
    if first is not None and first[0] == "dict":
        return stated(resolver, first[1], (), spot, depth=depth)
    return stated(resolver, {"port": parts[1]} if port else {}, (first,), spot, depth=depth)


def _of(resolver: Resolver, value: Value, depth: int) -> Iterator[Said]:
    if isinstance(value, Data) and value.expression is not None:
        kind, text = value.expression[:2]
        if kind in ("starts", "joined"):
            found = said(resolver, (text,), value.spot, depth)
            const = text is not None and text[0] == "const"
            yield from (each for each in map(_whole, found) if each.text) if const else found
        elif kind == "const" and isinstance(text, str):
            yield Said(text)
        elif kind == "seq" and text:
            yield from _several(resolver, text, value.spot, depth)
        elif kind == "item":
            yield from _variable(resolver, value.expression, value.spot)
    elif isinstance(value, Opaque):
        site, name = value.made.site, value.path.rpartition(".")[2]
        if value.path in CREATES:
            yield _created(resolver, site, value.made.spot, depth)
        elif value.path in READS:
            yield from _read(resolver, site, value.made.spot, depth)
        elif name in KEEPS or value.path in KEEPS:
            yield from stated(resolver, site.keywords, site.arguments[:1], value.made.spot, depth=depth)
        elif name in JOINS:
            yield from said(resolver, site.arguments[-1:], value.made.spot, depth)
        elif name in DRESSES:
            yield from _dressed(resolver, site, value.made.spot, depth)


def _variable(resolver: Resolver, item: Any, spot: Spot) -> Iterator[Said]:
    """`os.environ[name]`."""
    _, base, key = item
    values = resolver.evaluate(base, spot)
    if key is not None and key[0] == "const" and any(v.path == "os.environ" for v in values if isinstance(v, Symbol)):
        yield Said("", str(key[1]))


def _read(resolver: Resolver, site: Site, spot: Spot, depth: int) -> Iterator[Said]:
    """A variable of the environment, and its default."""
    variable = next((each.text for each in said(resolver, site.arguments[:1], spot, depth)), "")
    default = site.keywords.get("default", site.arguments[1] if len(site.arguments) > 1 else None)
    texts = [Said(each.text, variable) for each in said(resolver, (default,), spot, depth) if each.text]
    yield from texts or [Said("", variable)]


def _unresolved(resolver: Resolver, expression: Expression, spot: Spot, depth: int) -> Iterator[Said]:
    """Methods of a text."""
    if expression is not None and expression[0] == "call":
        site = spot.within.calls[expression[1]]
        if last_name(site.callee) in DRESSES:
            yield from _dressed(resolver, site, spot, depth)


def _created(resolver: Resolver, site: Site, spot: Spot, depth: int) -> Said:
    """A URL whose parts are given; a variable of the environment may say the host."""
    given = {**dict(zip(PARTS, site.arguments, strict=False)), **site.keywords}
    scheme, host, database = (
        next(said(resolver, (given.get(name),), spot, depth), Said("")) for name in ("drivername", "host", "database")
    )
    port = _number(resolver, given.get("port"), spot, depth)
    whole = f"{scheme.text}://{host.text}{':' if port else ''}{port}/{database.text}"
    return Said(whole if scheme.text and (host.text or not host.variable) else "", host.variable)


def _dressed(resolver: Resolver, site: Site, spot: Spot, depth: int) -> Iterator[Said]:
    callee = site.callee
    return said(resolver, (callee[1],), spot, depth) if callee is not None and callee[0] == "attr" else iter(())


def _setting(resolver: Resolver, expression: Expression, spot: Spot) -> str:
    """The variable of the environment that fills a field of pydantic's settings."""
    if expression is None or expression[0] != "attr":
        return ""
    for value in resolver.evaluate(expression[1], spot):
        if isinstance(value, Instance) and any(path.endswith("BaseSettings") for path in external(resolver, value.of)):
            config = member(resolver, value.of, "model_config")
            given = [each.made.site.keywords.get("env_prefix") for each in config if isinstance(each, Opaque)]
            prefix = next((each[1] for each in given if each is not None and each[0] == "const"), "")
            return f"{prefix}{expression[2]}".upper()
    return ""


def _host(text: str) -> str:
    """What tells two texts apart: the path of a URL does not."""
    return text.partition("://")[2].partition("/")[0] or text


def _whole(start: Said) -> Said:
    """Of how a text begins what is whole: a URL as far as its last slash, words but the last one."""
    text = start.text
    if "://" in text:
        address, query, _ = text.partition("?")
        return Said(address if query else text[: text.rindex("/") + 1] if text.count("/") > 2 else "", start.variable)
    return Said(text.rpartition(" ")[0], start.variable)
