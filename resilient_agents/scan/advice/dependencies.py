"""The calls of a code base, by what they talk to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from resilient_agents.scan.advice.addresses import Said
from resilient_agents.scan.advice.targets import Target, target
from resilient_agents.scan.advice.threads import Threads
from resilient_agents.scan.effects import repeatable, serves
from resilient_agents.scan.form import Expression
from resilient_agents.scan.habits import asks, renewed
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.known import Client
from resilient_agents.scan.protection import patterns_around
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.rules import blocks_the_loop
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import Data, Made, Opaque, Spot

__all__ = ["Dependency", "dependencies"]

BOUNDS = frozenset(["Semaphore", "BoundedSemaphore", "CapacityLimiter", "Lock", "Bulkhead"])
"""Classes of what lets only so many in."""
CONFIGURED = frozenset(["config", "http_client"])
"""Arguments of a client that may say how often it tries again."""
SAYS_LESS = {"http": 1, "bus": 1, "socket": 2}
"""Kinds that say less of what a server is than a library of its own does."""


@dataclass
class Dependency:
    """One thing that a code base talks to, and the calls that do."""

    target: Target
    found: list[Found] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    """Of the environment, that say where it is, whatever their defaults."""
    bounded: frozenset[int] = frozenset()
    """By `id`, those that a semaphore or the like holds within a number."""
    holding: frozenset[int] = frozenset()
    """By `id`, those that hold up an event loop."""
    threaded: frozenset[int] = frozenset()
    """By `id`, those that threads may make."""
    answers: Mapping[int, bool | None] = field(default_factory=dict)
    """By `id`, whether a call may be made twice."""
    served: frozenset[int] = frozenset()
    """By `id`, those that wait for whoever comes."""
    retried: Mapping[int, Client] = field(default_factory=dict)
    """By `id`, those that a client makes again by itself, and which."""
    requests: Mapping[int, bool] = field(default_factory=dict)
    """By `id`, those through a REQ socket, and whether it is there before: it takes a request only when it has the
    answer to the last."""
    there: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """By `id`, the patterns that stand around each in the code."""

    @property
    def name(self) -> str:
        return self.target.name

    @cached_property
    def libraries(self) -> list[str]:
        """By which it is talked to."""
        return sorted({each.call.dependency for each in self.found})

    @cached_property
    def files(self) -> list[str]:
        return sorted({each.call.path for each in self.found})

    @cached_property
    def talking(self) -> list[Found]:
        """Calls that talk, in place of handing something over."""
        return [each for each in self.found if each.call.limit != "never_waits"]

    @cached_property
    def waiting(self) -> list[Found]:
        """Calls that ask somebody and wait for the answer."""
        return [each for each in self.talking if id(each) not in self.served]

    @cached_property
    def serving(self) -> list[Found]:
        """Calls that wait for whoever comes, or talk to one who came."""
        return [each for each in self.talking if id(each) in self.served]

    @cached_property
    def endless(self) -> list[Found]:
        """Calls that can wait for ever for an answer."""
        return [each for each in self.waiting if each.call.limit == "none"]

    @cached_property
    def unprotected(self) -> list[Found]:
        """Calls that no policy guards."""
        return [each for each in self.waiting if each.call.protected_by is None]

    @cached_property
    def in_loops(self) -> list[Found]:
        return [each for each in self.waiting if each.call.in_loop]

    @cached_property
    def in_async(self) -> list[Found]:
        return [each for each in self.waiting if each.call.is_async]

    @cached_property
    def replaced(self) -> list[Found]:
        """Calls in whose place the code has something to go on with when they fail."""
        return [each for each in self.waiting if _replaced(each)]

    @cached_property
    def in_threads(self) -> list[Found]:
        """Calls that are handed to threads."""
        return [each for each in self.waiting if id(each) in self.threaded]

    @cached_property
    def blocking(self) -> list[Found]:
        """Calls that hold up the event loop they are made on."""
        return [each for each in self.in_async if id(each) in self.holding and each.call.limit != "unknown"]

    @cached_property
    def at_once(self) -> list[Found]:
        """Calls of which async code may have several under way, with nothing around them that says how many."""
        several = [each for each in self.in_async if each.seen.operation.is_async and not each.seen.runner]
        return [each for each in several if id(each) not in self.bounded]

    def having(self, pattern: str) -> list[Found]:
        """Calls that have a pattern around them in the code."""
        return [each for each in self.waiting if pattern in self.there.get(id(each), ())]

    def lacks(self, pattern: str) -> bool:
        """Whether a call does not have it."""
        return len(self.having(pattern)) < len(self.waiting)

    def only_once(self, call: Found) -> bool:
        """Whether a call is known not to be safe to make twice."""
        return self.answers[id(call)] is False

    def through_request_socket(self, *, held: bool) -> list[Found]:
        """Calls through a REQ socket that is there before them, or that is made for them."""
        return [each for each in self.waiting if self.requests.get(id(each)) is held]

    def repeatable(self, answer: bool | None) -> list[Found]:
        """Calls that are known to be (True), known not to be (False), or not known to be safe to make twice."""
        return [each for each in self.waiting if self.answers[id(each)] is answer]

    @cached_property
    def tries_again(self) -> list[Found]:
        """Calls that their client makes again by itself, where nothing in the code switches that off."""
        return [each for each in self.waiting if id(each) in self.retried]

    @property
    def tried_once(self) -> list[str]:
        """What these clients are given so that they try once."""
        return list(dict.fromkeys(filter(None, (self.retried[id(each)].once for each in self.tries_again))))

    @property
    def public(self) -> bool:
        """Whether it is somebody else's host, as far as its name says."""
        host = self.target.name.partition("/")[0].partition(":")[0] if self.target.name != self.target.library else ""
        if self.target.place == "service":
            return True
        return "." in host and not host.replace(".", "").isdigit() and not host.endswith((".local", ".internal"))


def dependencies(resolver: Resolver, found: Iterable[Found]) -> list[Dependency]:
    """In the order of their names."""
    clients: dict[Hashable, list[Said]] = {}
    said = [(*target(resolver, each, clients), each) for each in found]
    better = _said_elsewhere(said)
    threads = Threads(resolver)
    groups: dict[Hashable, list[tuple[Target, str, Found]]] = {}
    for first, variable, each in said:
        other = better.get(first.name, first)
        what = first._replace(name=other.name, place=other.place, port=other.port)
        groups.setdefault(what.key, []).append((what, variable, each))
    made = [_dependency(resolver, threads, group) for group in groups.values()]
    return sorted(made, key=lambda each: each.target)


def _said_elsewhere(said: list[tuple[Target, str, Found]]) -> dict[str, Target]:
    """By names that say less: a variable that has a default in another file, a service of which one region is named."""
    found = {f"${variable}": what for what, variable, _ in said if variable and what.name != f"${variable}"}
    regions: dict[str, set[Target]] = {}
    for what, _, _ in said:
        if what.place == "service" and "." in what.name:
            regions.setdefault(what.name.partition(".")[0], set()).add(what)
    return found | {service: next(iter(there)) for service, there in regions.items() if len(there) == 1}


def _dependency(resolver: Resolver, threads: Threads, group: list[tuple[Target, str, Found]]) -> Dependency:
    found = [each for _, _, each in group]
    requests = {id(each): held for each in found if (held := _held(each.seen, resolver)) is not None}
    times = Counter(what for what, _, _ in group)
    what = min(times, key=lambda each: (SAYS_LESS.get(each.kind, 0), -times[each], each))
    return Dependency(
        what,
        found,
        sorted({variable for _, variable, _ in group} - {""}),
        frozenset(id(each) for each in found if _bounded(resolver, each)),
        frozenset(id(each) for each in found if blocks_the_loop(each, resolver)),
        frozenset(id(each) for each in found if threads.make(each)),
        _answers(resolver, found, requests),
        frozenset(id(each) for each in found if serves(each.seen, resolver)),
        {id(each): client for each in found if (client := _tries_again(resolver, each)) is not None},
        requests,
        {id(each): patterns_around(resolver, each.seen) for each in found},
    )


def _answers(resolver: Resolver, found: list[Found], requests: Mapping[int, bool]) -> dict[int, bool | None]:
    """Whether each may be made twice: what stands in one line, as `producer.send(...).get()`, is repeated together."""
    alone = {id(each): False if requests.get(id(each)) else repeatable(each.seen, resolver) for each in found}
    refused = {(each.call.path, each.call.line) for each in found if alone[id(each)] is False}
    return {id(each): False if (each.call.path, each.call.line) in refused else alone[id(each)] for each in found}


def _bounded(resolver: Resolver, found: Found) -> bool:
    spot = found.seen.spot
    for block in spot.within.inside(found.seen.site.block) if found.call.is_async else ():
        values = resolver.evaluate(block.about, spot) if block.kind == "with" else ()
        if any(isinstance(value, Opaque) and value.path.rpartition(".")[2] in BOUNDS for value in values):
            return True
    return False


def _held(seen: Sighting, resolver: Resolver) -> bool | None:
    """Whether it goes through a REQ socket that is there before its function runs, and stays; None for other calls."""
    owner = seen.owner
    if owner is None or seen.client.kind != "socket" or not asks(seen, resolver):
        return None
    if any(made is not None and made.spot[:2] == seen.spot[:2] for made in (owner.made, owner.through)):
        return False
    return None if renewed(seen, resolver) else True


def _replaced(found: Found) -> bool:
    around = found.seen.spot.within.inside(found.seen.site.block)
    return any(block.kind == "try" and block.about == ("const", True) for block in around)


def _tries_again(resolver: Resolver, found: Found) -> Client | None:
    """The client that does so, or the one that made it, where nothing in the code says otherwise."""
    owner, retrying = found.seen.owner, found.seen.client
    made: list[tuple[Mapping[str, Expression], Spot]] = [(found.seen.given.keywords, found.seen.spot)]
    while owner is not None:
        options = _unpacked(resolver, owner.made) if owner.made is not None else None
        if owner.made is None or options is None:
            return None
        made += [(owner.made.site.keywords, owner.made.spot), *options]
        retrying = owner.client if retrying.retries is None and retrying.inherits else retrying
        owner = owner.of
    if retrying.retries is None or len(made) == 1:
        return None
    said = next((each[name] for each, _ in made for name in retrying.retry_limit if name in each), None)
    configured = any(
        _configured(resolver, each[name], spot) for each, spot in made for name in CONFIGURED & each.keys()
    )
    return retrying if said != ("const", 0) and not configured else None


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
