"""What limits a client: what was set on it, how it was made, what it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.form import Expression, Site, last_name
from resilient_agents.scan.holders import settings
from resilient_agents.scan.known import Known
from resilient_agents.scan.libraries import Client, Operation
from resilient_agents.scan.members import bases
from resilient_agents.scan.records import Limit
from resilient_agents.scan.sightings import Given, Sighting, given_of
from resilient_agents.scan.stated import found, given_limit, inside_limit
from resilient_agents.scan.values import ClassValue, ClientValue, Data, Opaque, Spot

if TYPE_CHECKING:
    from resilient_agents.scan.limits import Limits
    from resilient_agents.scan.resolve import Resolver

__all__ = ["carrier_of", "client_limit", "making", "worded"]


def client_limit(limits: Limits, owner: ClientValue, seen: Sighting, depth: int = 4) -> Limit | None:
    """None where nothing is said, so that it is as the library does it."""
    client = owner.client
    if client.settable and (said := settings(limits, owner, seen)) is not None:
        return said
    if owner.subclass is not None and (said := _of_subclass(limits, owner, owner.subclass)) is not None:
        return said
    if owner.made is None and owner.of is None and _limitable(owner, seen):
        return Limit("unknown", "a client that is handed in", "unknown")
    if (
        owner.made is not None
        and owner.subclass is None
        and (said := _constructed(limits, owner, seen, depth)) is not None
    ):
        return said
    if owner.of is not None and client.inherits and depth:
        return client_limit(limits, owner.of, seen, depth - 1)
    return None


def _of_subclass(limits: Limits, owner: ClientValue, cls: ClassValue) -> Limit | None:
    """What a class of the tree says for its calls: in its constructor, or perhaps in a call that it overrides."""
    client = owner.client
    unknown = Limit("unknown", f"{cls.within.name} is a class of its own", "unknown")
    family = [cls, *bases(limits.resolver, cls)]
    if any(not client.operations.keys().isdisjoint(each.within.bindings) for each in family):
        return unknown
    if not (client.limit or client.carriers):
        return None
    if any(name in each.file.attributes_of(each.scope) for each in family for name in client.limit):
        return unknown
    own = next((each for each in family if "__init__" in each.within.bindings), None)
    sites = [] if owner.made is None else [(owner.made.site, owner.made.spot)]
    if own is not None:
        sites += _of_constructor(own)
    given = [(given_of(site), spot) for site, spot in sites]
    if not given or any(carrier in each.keywords for each, _ in given for carrier in client.carriers):
        return unknown
    at = client.at if own is None else None
    found = [given_limit(limits.resolver, each, client.limit, at, spot, "client argument") for each, spot in given]
    stated = [each for each in found if each is not None]
    if own is not None and len(given) == 2 and not given[0][0].spread and stated and stated[-1].value == "unknown":
        stated = stated[:-1]  # what stands behind ** there are the arguments that were read here
    return stated[-1] if stated else None if owner.made is not None else unknown


def _of_constructor(cls: ClassValue) -> list[tuple[Site, Spot]]:
    """`super().__init__(…)` in the constructor of a class."""
    found = []
    for number in cls.file.functions_of(cls.scope):
        scope = cls.file.form.scopes[number]
        if scope.name == "__init__" and scope.parent == cls.scope:
            calls = [site for site in scope.calls if last_name(site.callee) == "__init__"]
            found += [(site, Spot(cls.file, number, site.order, site.block)) for site in calls[:1]]
    return found


def _limitable(owner: ClientValue, seen: Sighting) -> bool:
    """Whether whoever made it may have limited it; nobody does so with what only makes others, a context of sockets."""
    client = owner.client
    by_hand = client.limit or client.carriers or (client.settable and client.operations)
    return bool(by_hand or (client.library.package and owner is seen.owner and not client.alike))


def _constructed(limits: Limits, owner: ClientValue, seen: Sighting, depth: int) -> Limit | None:
    """What the call that made it says: its arguments, a text among them, a client among them."""
    assert owner.made is not None
    client, spot, resolver = owner.client, owner.made.spot, limits.resolver
    given = given_of(owner.made.site)
    said = None
    if client.limit:
        place = making(resolver.known, owner) or client
        at = place.at if client.starred or not given.starred else None
        said = given_limit(resolver, given, client.limit, at, spot, "client argument", client.endless)
    said = said or inside_limit(resolver, given, client.limit_in, spot) or worded(client, given)
    return said or _carried(limits, owner, given, seen, depth) or _by_url(limits, owner, given)


def making(known: Known, owner: ClientValue) -> Operation | None:
    """The function that made it and takes the same limit, in a place of its own: `create_connection(address, 10)`."""
    maker, name = known.functions.get(owner.path, (None, ""))
    operation = maker.operation(name) if maker is not None else None
    return operation if operation is not None and set(operation.limit) & set(owner.client.limit) else None


def worded(client: Client, given: Given) -> Limit | None:
    """`redis://host?socket_timeout=5`, `options="-c statement_timeout=5000"`."""
    words: list[str] = []
    for text in _texts([*given.arguments, *given.keywords.values()]):
        words = words or [*client.limit_words, *(f"{name}=" for name in client.limit[:1])]
        if word := next((word for word in words if word in text), None):
            return Limit("explicit", f"{word.rstrip('=')} in a text")
    return None


def _texts(expressions: Iterable[Expression]) -> Iterator[str]:
    for each in expressions:
        if each is not None and each[0] == "const" and isinstance(each[1], str):
            yield each[1]
        elif each is not None and each[0] == "dict":
            yield from _texts(each[1].values())


def _carried(limits: Limits, owner: ClientValue, given: Given, seen: Sighting, depth: int) -> Limit | None:
    """The limit of a pool, an engine or a transport that it was made with."""
    name, carrier = carrier_of(limits.resolver, owner, given)
    if carrier is not None and depth:
        return client_limit(limits, carrier, seen, depth - 1)
    return Limit("unknown", f"client argument {name}", "unknown") if name else None


def carrier_of(resolver: Resolver, owner: ClientValue, given: Given) -> tuple[str, ClientValue | None]:
    """The argument by which it got a pool, an engine or a transport, "" for none; and that, where it can be told."""
    assert owner.made is not None
    for name in owner.client.carriers:
        value, there = found(given, (name,), owner.client.carrier_at)
        if there:
            values = resolver.evaluate(value, owner.made.spot)
            return name, next((v for v in values if isinstance(v, ClientValue) and v.made is not None), None)
    return "", None


def _by_url(limits: Limits, owner: ClientValue, given: Given) -> Limit | None:
    """What the driver that a URL names does: `create_engine("sqlite:///x.db")`; else the only one that is there."""
    drivers = owner.client.by_url
    if not drivers or not given.arguments:
        return None
    assert owner.made is not None
    texts = [*_urls(limits.resolver, given.arguments[0], owner.made.spot)]
    for text in texts:
        if start := next((start for start in drivers if text.startswith(start)), ""):
            return limits.said(drivers[start], f"the driver of {start}", True)
    return _by_driver(limits, owner.client, owner.made.spot) if not any("://" in text for text in texts) else None


def _urls(resolver: Resolver, expression: Expression, spot: Spot, depth: int = 3) -> Iterator[str]:
    """Texts, and what calls of others make of texts: `os.getenv("URL", "sqlite://")`, `URL.create("postgresql")`."""
    for value in resolver.evaluate(expression, spot) if depth else ():
        if isinstance(value, Opaque):
            site = value.made.site
            for each in (*site.arguments, site.keywords.get("drivername")):
                yield from _urls(resolver, each, value.made.spot, depth - 1)
        written = value.expression if isinstance(value, Data) else None
        if written is not None and written[0] == "starts":
            written = written[1]
        if written is not None and written[0] == "const" and isinstance(written[1], str):
            yield written[1]


def _by_driver(limits: Limits, client: Client, spot: Spot) -> Limit | None:
    """What the drivers do that the tree imports or its project requires, if all of them do the same."""
    resolver = limits.resolver
    there = [name for name in client.drivers if resolver.has(name, spot)]
    said = {client.by_url[client.drivers[name]] for name in there}
    return limits.said(said.pop(), f"the driver {there[0]}", False) if len(said) == 1 else None
