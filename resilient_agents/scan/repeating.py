"""Clients that make a call again by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from resilient_agents.scan.form import Expression
from resilient_agents.scan.libraries import Client
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import ClientValue, Data, Made, Opaque, Spot
from resilient_agents.scan.versions import admitted

__all__ = ["Again", "tried_again"]

CONFIGURED = frozenset(["config", "connection_pool", "http_client"])
"""Arguments of a client that may say how often it tries again."""
OFF = (("const", 0), ("const", None))
NOT_SAID: Expression = ("nothing",)


class Again(NamedTuple):
    """Who makes a call again, and how often at most; "" where the code does not say."""

    client: Client
    times: str


def tried_again(resolver: Resolver, seen: Sighting) -> Again | None:
    """The client that makes it again, or the one that made that client, where nothing in the code says otherwise."""
    client = seen.client
    for owner in _owners(seen):
        client = owner.client if client.retries is None and client.inherits else client
    makers = resolver.known.makers if client.retries_by_class else ()
    if client.retries is None or any(each.client is client and each.path in makers for each in _owners(seen)):
        return None
    made: list[tuple[Mapping[str, Expression], Spot]] = [(seen.given.keywords, seen.spot)]
    for owner in _owners(seen):
        options = _unpacked(resolver, owner.made) if owner.made is not None else None
        if owner.made is None or options is None:
            return None
        made += [(owner.made.site.keywords, owner.made.spot), *options]
    if len(made) == 1:
        return None
    times = admitted(client.retries, resolver.versions(client, seen.spot))
    said = next((each[name] for each, _ in made for name in client.retry_limit if name in each), NOT_SAID)
    if "none" in times or said in OFF or (said is not None and said[0] == "call"):
        return None
    if any(_configured(resolver, each[name], spot) for each, spot in made for name in CONFIGURED & each.keys()):
        return None
    if said is NOT_SAID:
        return Again(client, times[0] if len(times) == 1 else "")
    return Again(client, str(said[1]) if said is not None and said[0] == "const" else "")


def _owners(seen: Sighting) -> Iterator[ClientValue]:
    """What it is made on, and what made that."""
    owner = seen.owner
    while owner is not None:
        yield owner
        owner = owner.of


def _unpacked(resolver: Resolver, made: Made) -> list[tuple[Mapping[str, Expression], Spot]] | None:
    """What `**options` hold; None where that is not all written down."""
    found: list[tuple[Mapping[str, Expression], Spot]] = []
    for each in made.site.spread:
        for value in resolver.evaluate(each, made.spot) or (None,):
            if not isinstance(value, Data) or value.expression is None or value.expression[0] != "dict":
                return None
            _, entries, whole, others = value.expression
            if not whole or others:
                return None
            found.append((entries, value.spot))
    return found


def _configured(resolver: Resolver, expression: Expression, spot: Spot) -> bool:
    """Whether it may say how often: a `Config` that is made here without `retries` does not."""
    made = [value.made.site for value in resolver.evaluate(expression, spot) if isinstance(value, Opaque)]
    return not made or any("retries" in site.keywords or site.spread or site.starred for site in made)
