"""What a call can do wrong. A rule is a function from what was found to the message of a finding, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from resilient_agents.scan.habits import client_per_call, reused_request_socket, unbounded_fan_out
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.retrying import endless_retry, nested_retry, repeated_write

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
    operation, client = found.seen.operation, found.seen.client
    argument = operation.limit[0] if operation.limit else client.limit[0] if client.limit else operation.option
    advice = f"; give it {argument}" if argument else "; put a policy with a time limit around it"
    return f"{call.callee} can wait for ever{f' ({call.limit_source})' if call.limit_source else ''}{advice}"


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
