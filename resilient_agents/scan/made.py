"""What limits a client: what was set on it, how it was made, what it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.form import Expression
from resilient_agents.scan.holders import settings
from resilient_agents.scan.known import Client
from resilient_agents.scan.members import bases
from resilient_agents.scan.records import Limit
from resilient_agents.scan.sightings import Given, Sighting
from resilient_agents.scan.stated import found, given_limit, given_of, inside_limit
from resilient_agents.scan.values import ClassValue, ClientValue, Data

if TYPE_CHECKING:
    from resilient_agents.scan.limits import Limits

__all__ = ["client_limit"]


def client_limit(limits: Limits, owner: ClientValue, seen: Sighting, depth: int = 4) -> Limit | None:
    """None where nothing is said, so that it is as the library does it."""
    client = owner.client
    if client.settable and (said := settings(limits, owner, seen)) is not None:
        return said
    if owner.subclass is not None and _decides(limits, owner.subclass, client):
        return Limit("unknown", f"{owner.subclass.within.name} is a class of its own", "unknown")
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


def _decides(limits: Limits, cls: ClassValue, client: Client) -> bool:
    """Whether a class of the tree may give its calls a limit: in its constructor, or in a call that it overrides."""
    if client.limit or client.carriers:
        return True
    family = [cls, *bases(limits.resolver, cls)]
    return any(not client.operations.keys().isdisjoint(each.within.bindings) for each in family)


def _limitable(owner: ClientValue, seen: Sighting) -> bool:
    client = owner.client
    by_hand = client.limit or client.carriers or client.settable
    return bool(by_hand or (client.library.package and owner is seen.owner))


def _constructed(limits: Limits, owner: ClientValue, seen: Sighting, depth: int) -> Limit | None:
    """What the call that made it says: its arguments, a text among them, a client among them."""
    assert owner.made is not None
    client, spot, resolver = owner.client, owner.made.spot, limits.resolver
    given = given_of(owner.made.site)
    said = None
    if client.limit:
        said = given_limit(resolver, given, client.limit, client.at, spot, "client argument", client.endless)
    said = said or inside_limit(resolver, given, client.limit_in, spot) or _worded(client, given)
    return said or _carried(limits, owner, given, seen, depth) or _by_url(limits, owner, given)


def _worded(client: Client, given: Given) -> Limit | None:
    """`redis://host?socket_timeout=5`, `options="-c statement_timeout=5000"`."""
    words = [*client.limit_words, *(f"{name}=" for name in client.limit[:1])]
    for text in _texts([*given.arguments, *given.keywords.values()]):
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
    assert owner.made is not None
    for carrier in owner.client.carriers:
        value, there = found(given, (carrier,), owner.client.carrier_at)
        if not there:
            continue
        for each in limits.resolver.evaluate(value, owner.made.spot):
            if isinstance(each, ClientValue) and each.made is not None and depth:
                return client_limit(limits, each, seen, depth - 1)
        return Limit("unknown", f"client argument {carrier}", "unknown")
    return None


def _by_url(limits: Limits, owner: ClientValue, given: Given) -> Limit | None:
    """What the driver that a URL names does: `create_engine("sqlite:///x.db")`."""
    if not owner.client.by_url or not given.arguments:
        return None
    assert owner.made is not None
    for value in limits.resolver.evaluate(given.arguments[0], owner.made.spot):
        expression = value.expression if isinstance(value, Data) else None
        if expression is not None and expression[0] == "starts":
            expression = expression[1]
        if expression is not None and expression[0] == "const":
            for start, what in owner.client.by_url.items():
                if str(expression[1]).startswith(start):
                    return limits.said(what, f"the driver of {start}", True)
    return None
