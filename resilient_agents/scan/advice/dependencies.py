"""The calls of a code base, by what they talk to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from resilient_agents.scan.advice.addresses import Said
from resilient_agents.scan.advice.targets import Target, target
from resilient_agents.scan.advice.threads import Threads
from resilient_agents.scan.effects import repeatable, serves
from resilient_agents.scan.form import Expression
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.rules import blocks_the_loop
from resilient_agents.scan.values import Opaque

__all__ = ["Dependency", "dependencies"]

BOUNDS = frozenset(["Semaphore", "BoundedSemaphore", "CapacityLimiter", "Lock", "Bulkhead"])
"""Classes of what lets only so many in."""
CONFIGURED = frozenset(["config", "http_client"])
"""Arguments of a client that may say how often it tries again."""


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

    @property
    def name(self) -> str:
        return self.target.name

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

    def only_once(self, call: Found) -> bool:
        """Whether a call is known not to be safe to make twice."""
        return self.answers[id(call)] is False

    def repeatable(self, answer: bool | None) -> list[Found]:
        """Calls that are known to be (True), known not to be (False), or not known to be safe to make twice."""
        return [each for each in self.waiting if self.answers[id(each)] is answer]

    @cached_property
    def tries_again(self) -> list[Found]:
        """Calls that their client makes again by itself, where nothing in the code switches that off."""
        return [each for each in self.waiting if _tries_again(each)]

    @property
    def public(self) -> bool:
        """Whether it is somebody else's host, as far as its name says."""
        host = self.target.name.partition(":")[0] if self.target.name != self.target.library else ""
        if self.target.place == "service":
            return True
        return "." in host and not host.replace(".", "").isdigit() and not host.endswith((".local", ".internal"))


def dependencies(resolver: Resolver, found: Iterable[Found]) -> list[Dependency]:
    """In the order of their names."""
    clients: dict[Hashable, list[Said]] = {}
    said = [(*target(resolver, each, clients), each) for each in found]
    # A variable without a default in one file may have one in another.
    hosts = {variable: what.name for what, variable, _ in said if variable and what.name != f"${variable}"}
    threads = Threads(resolver)
    known: dict[Target, list[Found]] = {}
    variables: dict[Target, set[str]] = {}
    for first, variable, each in said:
        elsewhere = first.name == f"${variable}" and variable in hosts
        what = first._replace(name=hosts[variable]) if elsewhere else first
        known.setdefault(what, []).append(each)
        variables.setdefault(what, set()).update({variable} - {""})
    return [
        Dependency(
            what,
            known[what],
            sorted(variables[what]),
            frozenset(id(each) for each in known[what] if _bounded(resolver, each)),
            frozenset(id(each) for each in known[what] if blocks_the_loop(each, resolver)),
            frozenset(id(each) for each in known[what] if threads.make(each)),
            {id(each): repeatable(each.seen, resolver) for each in known[what]},
            frozenset(id(each) for each in known[what] if serves(each.seen, resolver)),
        )
        for what in sorted(known)
    ]


def _bounded(resolver: Resolver, found: Found) -> bool:
    spot = found.seen.spot
    for block in spot.within.inside(found.seen.site.block) if found.call.is_async else ():
        values = resolver.evaluate(block.about, spot) if block.kind == "with" else ()
        if any(isinstance(value, Opaque) and value.path.rpartition(".")[2] in BOUNDS for value in values):
            return True
    return False


def _replaced(found: Found) -> bool:
    around = found.seen.spot.within.inside(found.seen.site.block)
    return any(block.kind == "try" and block.about == ("const", True) for block in around)


def _tries_again(found: Found) -> bool:
    client, owner = found.seen.client, found.seen.owner
    if client.retries is None or owner is None or owner.made is None:
        return False
    made: list[Mapping[str, Expression]] = [found.seen.given.keywords]
    while owner is not None:
        if owner.made is None or owner.made.site.spread:
            return False
        made.append(owner.made.site.keywords)
        owner = owner.of
    said = next((each[name] for each in made for name in client.retry_limit if name in each), None)
    return said != ("const", 0) and not any(CONFIGURED & each.keys() for each in made)
