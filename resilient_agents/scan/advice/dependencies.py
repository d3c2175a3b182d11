"""The calls of a code base, by what they talk to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from resilient_agents.scan.advice.facts import Facts, facts
from resilient_agents.scan.advice.places import serves_models
from resilient_agents.scan.advice.targets import Target, Targets
from resilient_agents.scan.advice.threads import Threads
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver

__all__ = ["Dependency", "dependencies"]

SAYS_LESS = {"http": 1, "bus": 1, "socket": 2}
"""Kinds that say less of what a server is than a library of its own does."""


@dataclass
class Dependency:
    """One thing that a code base talks to, and the calls that do."""

    target: Target
    found: list[Found]
    variables: list[str]
    """Of the environment, that say where it is, whatever their defaults."""
    facts: Mapping[int, Facts]
    """By `id`, of each call."""

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
        return [each for each in self.talking if not self.facts[id(each)].serves]

    @property
    def serving(self) -> list[Found]:
        """Calls that wait for what comes by itself, or talk to one who came."""
        return [each for each in self.talking if self.facts[id(each)].serves]

    @cached_property
    def endless(self) -> list[Found]:
        """Calls that can wait for ever for an answer."""
        return [each for each in self.waiting if each.call.limit == "none"]

    @property
    def unprotected(self) -> list[Found]:
        """Calls that no policy guards."""
        return [each for each in self.waiting if each.call.protected_by is None]

    @property
    def in_loops(self) -> list[Found]:
        return [each for each in self.waiting if each.repeated]

    @property
    def in_async(self) -> list[Found]:
        return [each for each in self.waiting if each.call.is_async]

    @property
    def replaced(self) -> list[Found]:
        """Calls in whose place the code has something to go on with when they fail."""
        return [each for each in self.waiting if self.facts[id(each)].replaced]

    @property
    def in_threads(self) -> list[Found]:
        """Calls that are handed to threads."""
        return [each for each in self.waiting if self.facts[id(each)].threaded]

    @property
    def bounded(self) -> bool:
        """Whether something says of a call how many may be under way at once."""
        return any(each.bounded for each in self.facts.values())

    @property
    def blocking(self) -> list[Found]:
        """Calls that hold up the event loop they are made on."""
        return [each for each in self.in_async if self.facts[id(each)].holds and each.call.limit != "unknown"]

    @property
    def at_once(self) -> list[Found]:
        """Calls of which async code may have several under way, with nothing around them that says how many."""
        several = [each for each in self.in_async if each.seen.operation.is_async and not each.seen.runner]
        return [each for each in several if not self.facts[id(each)].bounded]

    @cached_property
    def guarded(self) -> dict[str, list[Found]]:
        """By pattern, the calls that have it around them in the code."""
        found: dict[str, list[Found]] = {}
        for each in self.waiting:
            for pattern in self.facts[id(each)].patterns:
                found.setdefault(pattern, []).append(each)
        return found

    def only_once(self, call: Found) -> bool:
        """Whether a call is known not to be safe to make twice."""
        return self.facts[id(call)].repeatable is False

    def through_request_socket(self, *, held: bool) -> list[Found]:
        """Calls through a REQ socket that is there before them, or that is made for them."""
        return [each for each in self.waiting if self.facts[id(each)].through_request is held]

    def repeatable(self, answer: bool | None) -> list[Found]:
        """Calls that are known to be (True), known not to be (False), or not known to be safe to make twice."""
        return [each for each in self.waiting if self.facts[id(each)].repeatable is answer]

    @property
    def tries_again(self) -> list[Found]:
        """Calls that their client makes again by itself, where nothing in the code switches that off."""
        return [each for each in self.waiting if self.facts[id(each)].retrying is not None]

    @property
    def tried_once(self) -> list[str]:
        """What these clients are given so that they try once."""
        again = (self.facts[id(each)].retrying for each in self.waiting)
        return list(dict.fromkeys(each.client.once for each in again if each is not None and each.client.once))

    @property
    def public(self) -> bool:
        """Whether it is somebody else's host, as far as its name says."""
        host = self.target.name.partition("/")[0].partition(":")[0] if self.target.name != self.target.library else ""
        if self.target.place == "service":
            return True
        return "." in host and not host.replace(".", "").isdigit() and not host.endswith((".local", ".internal"))


def dependencies(resolver: Resolver, found: Iterable[Found]) -> list[Dependency]:
    """In the order of their names."""
    targets = Targets(resolver)
    said = [(*targets.of(each), each) for each in found]
    better = _said_elsewhere(said)
    threads = Threads(resolver)
    groups: dict[Hashable, list[tuple[Target, str, Found]]] = {}
    for first, variable, each in said:
        other, what = better.get(first.name), first
        if other is not None:
            what = first._replace(name=other.name, place=other.place, port=other.port)
        if what.kind == "http" and serves_models(what.name):
            what = what._replace(kind="model")
        groups.setdefault(what.key, []).append((what, variable, each))
    made = [_dependency(resolver, threads, group) for group in groups.values()]
    return sorted(made, key=lambda each: each.target)


def _said_elsewhere(said: list[tuple[Target, str, Found]]) -> dict[str, Target]:
    """By names that say less: a variable that has a default in another file, a service of which one region is named."""
    found = {f"${variable}": what for what, variable, _ in said if variable and what.name != f"${variable}"}
    regions: dict[str, set[Target]] = {}
    for what, _, _ in said:
        if what.place == "service" and "." in what.name and what.name != what.library:
            regions.setdefault(what.name.partition(".")[0], set()).add(what)
    return found | {service: next(iter(there)) for service, there in regions.items() if len(there) == 1}


def _dependency(resolver: Resolver, threads: Threads, group: list[tuple[Target, str, Found]]) -> Dependency:
    found = [each for _, _, each in group]
    times = Counter(what for what, _, _ in group)
    what = min(times, key=lambda each: (SAYS_LESS.get(each.kind, 0), -times[each], each))
    variables = sorted({variable for _, variable, _ in group} - {""})
    return Dependency(what, found, variables, facts(resolver, threads, found))
