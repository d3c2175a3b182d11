"""The calls of a code base, by what they talk to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from resilient_agents.scan.advice.targets import Target, target
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver

__all__ = ["Dependency", "dependencies"]


@dataclass
class Dependency:
    """One thing that a code base talks to, and the calls that do."""

    target: Target
    found: list[Found] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.target.name

    @cached_property
    def files(self) -> list[str]:
        return sorted({each.call.path for each in self.found})

    @cached_property
    def waiting(self) -> list[Found]:
        """Calls that talk, in place of handing something over."""
        return [each for each in self.found if each.call.limit != "never_waits"]

    @cached_property
    def endless(self) -> list[Found]:
        """Calls that can wait for ever."""
        return [each for each in self.found if each.call.limit == "none"]

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
    def tried(self) -> list[Found]:
        """Calls whose failure the code handles."""
        return [each for each in self.waiting if each.call.in_try]

    def repeatable(self, answer: bool | None) -> list[Found]:
        """Calls that are known to be (True), known not to be (False), or not known to be safe to make twice."""
        return [each for each in self.waiting if each.seen.operation.idempotent is answer]

    @property
    def retries_inside(self) -> bool:
        """Whether its client tries again by itself."""
        return any(each.seen.client.retries is not None for each in self.found)

    @property
    def public(self) -> bool:
        """Whether it is somebody else's host, as far as its name says."""
        host = self.target.name.partition(":")[0]
        return "." in host and not host.replace(".", "").isdigit() and not host.endswith((".local", ".internal"))


def dependencies(resolver: Resolver, found: Iterable[Found]) -> list[Dependency]:
    """In the order of their names."""
    known: dict[Target, Dependency] = {}
    for each in found:
        what = target(resolver, each)
        known.setdefault(what, Dependency(what)).found.append(each)
    return [known[what] for what in sorted(known)]
