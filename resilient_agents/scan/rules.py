"""What a call can do wrong. A rule is a function from what was found to the message of a finding, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from resilient_agents.scan.fan_out import unbounded_fan_out
from resilient_agents.scan.habits import client_per_call, reused_request_socket
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.retrying import endless_retry, nested_retry, repeated_write
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import ClientValue

__all__ = ["DEFAULT", "RULES", "Rule", "broken"]


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    title: str
    check: Callable[[Found, Resolver], str | None]
    default: bool = False


def can_wait_for_ever(found: Found, _: Resolver) -> str | None:
    call = found.call
    if call.limit != "none" or call.confidence == "unknown":
        return None
    source = f" ({call.limit_source})" if call.limit_source else ""
    return f"{call.callee} can wait for ever{source}; {_way_out(found.seen)}"


def _way_out(seen: Sighting) -> str:
    """What to give a limit: the call, the object that it is made on, the client behind that."""
    operation, owner = seen.operation, seen.owner
    limited = owner is not None and (owner.client.settable or owner.client.limit)
    if operation.serves is True and not operation.limit and not limited:
        return "it goes on until it is stopped: see that something stops it"
    if operation.limit:
        return f"give it {operation.limit[0]}"
    if operation.client_limit and owner is not None:
        if operation.option and not owner.client.limit:
            return f"set {operation.option} on its {_short(owner)}"
        if owner.client.setters:
            return f"call {next(iter(owner.client.setters))} on its {_short(owner)}"
        while owner is not None:
            if owner.client.limit:
                return f"give its {_short(owner)} {owner.client.limit[0]}"
            owner = owner.of if owner.client.inherits else None
    return "put a policy with a time limit around it"


def _short(owner: ClientValue) -> str:
    return owner.client.name.rpartition(".")[2]


def blocks_the_loop(found: Found, _: Resolver) -> str | None:
    call, seen = found.call, found.seen
    if not call.is_async or seen.operation.is_async or seen.runner or call.limit == "never_waits":
        return None
    if any(block.kind == "lambda" for block in seen.spot.within.inside(seen.site.block)):
        return None  # runs when it is called, wherever that is
    if seen.site.awaited or any(flag.rpartition(".")[2] == call.limit_source for flag in seen.operation.flags):
        return None
    if "setblocking" in seen.client.setters and (call.limit == "unknown" or call.limit_source == "setblocking(False)"):
        return None  # it may have been told not to wait
    return f"{call.callee} blocks the event loop of `async def {call.function}`; await an async client, or a thread"


RULES = {
    rule.id: rule
    for rule in (
        Rule("RA101", "can wait for ever", can_wait_for_ever, True),
        Rule("RA102", "blocking call in async code", blocks_the_loop, True),
        Rule("RA201", "retry without end or on everything", endless_retry),
        Rule("RA202", "retry inside retry", nested_retry),
        Rule("RA203", "retry of a call that is not idempotent", repeated_write),
        Rule("RA301", "client made per call", client_per_call),
        Rule("RA302", "unbounded fan-out", unbounded_fan_out),
        Rule("RA401", "REQ socket used again after a timeout", reused_request_socket),
    )
}
DEFAULT = frozenset(rule.id for rule in RULES.values() if rule.default)


def broken(found: Iterable[Found], resolver: Resolver, on: frozenset[str]) -> Iterator[tuple[Rule, str, Found]]:
    """The rules that calls break, in the order of the calls."""
    chosen = [rule for name, rule in RULES.items() if name in on]
    for each in found:
        for rule in chosen:
            message = rule.check(each, resolver)
            if message is not None:
                yield rule, message, each
