"""For each pattern whether a dependency is a candidate for it, in one sentence with the lines that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resilient_agents.scan.advice.dependencies import Dependency
from resilient_agents.scan.counts import counted
from resilient_agents.scan.inventory import Found

__all__ = ["PATTERNS", "Verdict", "verdicts"]

MOST_LINES = 3

UNREPEATABLE = frozenset(["bus", "subprocess"])
"""Kinds of which a call that failed may have taken effect, whatever it was."""


@dataclass(frozen=True)
class Verdict:
    """`candidate`, and why or why not."""

    pattern: str
    candidate: bool
    why: str


def lines(found: Sequence[Found]) -> str:
    """`a.py:3, b.py:7 and 2 more`."""
    told = [f"{each.call.path}:{each.call.line}" for each in found[:MOST_LINES]]
    more = len(found) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _calls(found: Sequence[Found]) -> str:
    return f"{counted(len(found), 'call')} ({lines(found)})"


def _time_limit(it: Dependency) -> tuple[bool, str]:
    if it.endless:
        return True, f"{_calls(it.endless)} can wait for ever"
    unknown = [each for each in it.waiting if each.call.limit == "unknown"]
    if unknown:
        return True, f"nothing in the code says what ends {_calls(unknown)}"
    return False, "every call has a limit, its own or its library's"


def _retry(it: Dependency) -> tuple[bool, str]:
    if it.target.kind == "subprocess":
        return False, "a command that failed fails again, and what it did before is done"
    if it.target.local:
        return False, "a file on this machine is not away for a moment; a lock is waited for by the library itself"
    if it.retries_inside:
        return (
            True,
            "the client tries again by itself, unseen: switch that off and let one policy own the retries",
        )
    writes = it.repeatable(False)
    if writes and len(writes) == len(it.waiting):
        return False, f"{_calls(writes)} may not be made twice: one whose answer was lost may have taken effect"
    if it.target.kind in UNREPEATABLE:
        return False, "a message that was sent may have arrived although its answer did not"
    reads = it.repeatable(True)
    if reads:
        but = f"; not {_calls(writes)}, which may not be made twice" if writes else ""
        return True, f"{_calls(reads)} may be made twice{but}"
    return True, f"where a call may be made twice, which the code does not say: {_calls(it.waiting)}"


def _circuit_breaker(it: Dependency) -> tuple[bool, str]:
    if it.target.local:
        what = (
            "a program that is started anew each time" if it.target.kind == "subprocess" else "a file on this machine"
        )
        return False, f"{what} has no outage that callers could spare"
    if len(it.waiting) > 1 or it.in_loops or it.in_async:
        return True, f"while it is down, {_calls(it.waiting)} would each find out on their own"
    return False, "a single call outside of loops and async code has nobody to tell"


def _bulkhead(it: Dependency) -> tuple[bool, str]:
    if it.target.local and it.target.kind != "subprocess":
        return False, "a file on this machine takes one writer at a time by itself"
    if it.in_async:
        return True, f"async code can have any number of these under way: {_calls(it.in_async)}"
    threads = [each for each in it.waiting if each.seen.runner]
    if threads:
        return True, f"threads can have any number of these under way: {_calls(threads)}"
    return False, "its calls are made one after another as far as the code shows"


def _rate_limit(it: Dependency) -> tuple[bool, str]:
    if it.target.kind == "model":
        return True, f"model APIs have quotas, and {_calls(it.waiting)} share one"
    if it.target.kind == "http" and it.public and it.in_loops:
        return True, f"a loop calls somebody else's service: {_calls(it.in_loops)}"
    return False, "nothing in the code says that it has a quota"


def _fallback(it: Dependency) -> tuple[bool, str]:
    if it.tried:
        return True, f"the code already says what to do instead at {lines(it.tried)}"
    return False, "nothing in the code says what would do in place of its answer"


def _health_check(it: Dependency) -> tuple[bool, str]:
    if it.target.kind == "subprocess":
        return False, "a program is there or is not"
    if it.target.local:
        return False, "a file on this machine fails with the machine"
    if len(it.waiting) > 1 or it.target.kind in ("database", "redis", "bus"):
        return True, f"{_calls(it.waiting)} need it: whoever runs this wants to know first"
    return False, "one call finds out by itself"


PATTERNS: dict[str, Callable[[Dependency], tuple[bool, str]]] = {
    "time limit": _time_limit,
    "retry": _retry,
    "circuit breaker": _circuit_breaker,
    "bulkhead": _bulkhead,
    "rate limit": _rate_limit,
    "fallback": _fallback,
    "health check": _health_check,
}


def verdicts(dependency: Dependency) -> list[Verdict]:
    """One for each pattern. A dependency whose calls never wait is a candidate for none."""
    if not dependency.waiting:
        return [Verdict(pattern, False, "its calls hand something over and wait for nobody") for pattern in PATTERNS]
    return [Verdict(pattern, *judge(dependency)) for pattern, judge in PATTERNS.items()]
