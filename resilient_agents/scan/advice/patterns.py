"""For each pattern whether a dependency is a candidate for it, in one sentence with the lines that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from resilient_agents.scan.advice.dependencies import Dependency
from resilient_agents.scan.counts import counted
from resilient_agents.scan.inventory import Found

__all__ = ["OF_ALL", "PATTERNS", "Verdict", "verdicts"]

MOST_LINES = 3


@dataclass(frozen=True)
class Verdict:
    """`candidate`, and why or why not."""

    pattern: str
    candidate: bool
    why: str


def lines(found: Sequence[Found]) -> str:
    """`a.py:3, b.py:7 and 2 more`."""
    places = list(dict.fromkeys(f"{each.call.path}:{each.call.line}" for each in found))
    more = len(places) - MOST_LINES
    return ", ".join(places[:MOST_LINES]) + (f" and {more} more" if more > 0 else "")


def _calls(found: Sequence[Found]) -> str:
    return f"{counted(len(found), 'call')} ({lines(found)})"


def _that(found: Sequence[Found], verb: str) -> str:
    """That they do something."""
    return f"{_calls(found)} {verb}{'s' if len(found) == 1 else ''}"


def _time_limit(it: Dependency) -> tuple[bool, str]:
    if it.endless:
        return True, f"{_calls(it.endless)} can wait for ever"
    unknown = [each for each in it.waiting if each.call.limit == "unknown"]
    if unknown:
        return True, f"nothing in the code says what ends {_calls(unknown)}"
    but = " that asks for an answer" if it.serving else ""
    return False, f"every call{but} has a limit, its own or its library's"


def _retry(it: Dependency) -> tuple[bool, str]:
    if it.target.place == "program":
        return False, "a command that failed may have done a part of its work, and nothing says that it may run again"
    if it.target.place == "process":
        return False, "work in this process that failed fails again"
    if it.target.local:
        return False, "a file on this machine is not away for a moment; a lock is waited for by the library itself"
    off = f" ({', '.join(it.tried_once)})" if it.tried_once else ""
    writes, held = it.repeatable(False), it.through_request_socket(held=True)
    once = [each for each in writes if each not in held]
    if writes and len(writes) == len(it.waiting):
        lost = f"{_calls(once)} may not be made twice: one whose answer was lost may have taken effect" if once else ""
        lost += "; " if once and held else ""
        lost += f"{_calls(held)} {_request_socket(held)}" if held else ""
        return False, f"{lost}; the client tries again by itself, so switch that off{off}" if it.tries_again else lost
    but = f"; not {_calls(once)}, which may not be made twice" if once else ""
    but += f"; not {_calls(held)}, which {_request_socket(held)}" if held else ""
    anew = it.through_request_socket(held=False)
    go = "goes" if len(anew) == 1 else "go"
    but += f"; {_calls(anew)} {go} through a REQ socket made in the function: repeat all of it" if anew else ""
    but += f"; {_that(it.serving, 'wait')} for what comes by itself" if it.serving else ""
    reads, unsaid = it.repeatable(True), it.repeatable(None)
    if it.tries_again:
        reads, unsaid = ([each for each in some if each not in it.tries_again] for some in (reads, unsaid))
        unseen = f"the client makes {_calls(it.tries_again)} again by itself, unseen"
        also = f"; {_calls(reads)} may be made twice" if reads else ""
        also += f"; of {_calls(unsaid)} the code does not say so" if unsaid else ""
        return True, f"{unseen}: switch that off{off} and let one policy own the retries{also}{but}"
    if not reads:
        return True, f"where a call may be made twice, which the code does not say: {_calls(unsaid)}{but}"
    cost = ", each time at its price" if it.target.kind == "model" and it.target.place == "" else ""
    open_ = f"; of {_calls(unsaid)} the code does not say so" if unsaid else ""
    return True, f"{_calls(reads)} may be made twice{cost}{open_}{but}"


def _request_socket(held: Sequence[Found]) -> str:
    go = "goes" if len(held) == 1 else "go"
    return f"{go} through a REQ socket that takes no request before it has the last one's answer: make one per attempt"


def _circuit_breaker(it: Dependency) -> tuple[bool, str]:
    if it.target.place == "program":
        return False, "it is started anew each time; nothing in the code says that it needs what can be down"
    if it.target.local:
        return False, f"{_here(it)} has no outage that callers could spare"
    if len(it.waiting) == 1 and not it.in_loops and not it.in_async:
        return False, "one call, outside of loops and async code: nothing in the code says that it is made often"
    if not it.target.known:
        return True, f"one for each address (the code does not say which): while one is down, {_anew(it)}"
    return True, f"while it is down, {_anew(it)}"


def _anew(it: Dependency) -> str:
    return f"{_calls(it.waiting)} would find that out anew each time"


def _here(it: Dependency) -> str:
    return "what runs in this process" if it.target.place == "process" else "a file on this machine"


def _bulkhead(it: Dependency) -> tuple[bool, str]:
    if it.target.place == "file":
        return False, "a file on this machine takes one writer at a time by itself"
    if it.at_once:
        return True, f"nothing in the code says how many of these may be under way at once: {_calls(it.at_once)}"
    if it.in_threads:
        return True, f"threads may make several of these at once: {_calls(it.in_threads)}"
    if it.blocking:
        return False, f"{_that(it.blocking, 'hold')} up the event loop, so that nothing else on it runs meanwhile"
    if it.bounded:
        return False, "what stands around its calls says how many may be under way at once"
    return False, "its calls are made one after another as far as the code shows"


def _rate_limit(it: Dependency) -> tuple[bool, str]:
    if it.target.kind == "model" and not it.target.local and (it.target.place != "own" or it.public):
        return True, f"model APIs have quotas: {_calls(it.waiting)}"
    if it.target.kind == "http" and it.public and it.in_loops:
        return True, f"a loop calls somebody else's service: {_calls(it.in_loops)}"
    return False, "nothing in the code says that it has a quota"


def _fallback(it: Dependency) -> tuple[bool, str]:
    if it.replaced:
        return True, f"the code already has something in place of the answer at {lines(it.replaced)}"
    return False, "nothing in the code says what would do in place of its answer"


def _health_check(it: Dependency) -> tuple[bool, str]:
    if it.target.place == "program":
        return False, "a program is there or is not"
    if it.target.local:
        return False, f"{_here(it)} fails with the machine"
    if len(it.waiting) > 1 or it.target.kind in ("database", "redis", "bus"):
        return True, f"whoever runs this wants to know before {_that(it.waiting, 'fail')}"
    return False, "one call finds out by itself"


def _nobody(it: Dependency) -> str:
    """Why there is nothing to guard where no call asks for anything."""
    if not it.serving:
        return "its calls hand something over and wait for nobody"
    return f"{_that(it.serving, 'wait')} for what comes by itself: nobody is asked, so there is nobody to ask again"


PATTERNS: dict[str, Callable[[Dependency], tuple[bool, str]]] = {
    "time limit": _time_limit,
    "retry": _retry,
    "circuit breaker": _circuit_breaker,
    "bulkhead": _bulkhead,
    "rate limit": _rate_limit,
    "fallback": _fallback,
    "health check": _health_check,
}

OF_ALL = frozenset(["circuit breaker", "health check"])
"""Patterns that are one for all callers of a dependency."""


def verdicts(dependency: Dependency) -> list[Verdict]:
    """One for each pattern. A dependency whose calls never wait is a candidate for none."""
    if not dependency.waiting:
        return [Verdict(pattern, False, _nobody(dependency)) for pattern in PATTERNS]
    return [Verdict(pattern, *_judged(dependency, pattern)) for pattern in PATTERNS]


def _judged(dependency: Dependency, pattern: str) -> tuple[bool, str]:
    """By the calls that do not have it in the code."""
    there = dependency.having(pattern)
    if not there:
        return PATTERNS[pattern](dependency)
    has = f"{_calls(there)} {'has' if len(there) == 1 else 'have'} one in the code"
    once = [each for each in there if pattern == "retry" and dependency.only_once(each)]
    which = _calls(once) if len(once) < len(there) else "it" if len(once) == 1 else "they"
    has += f", though {which} may not be made twice" if once else ""
    rest = replace(dependency, found=[each for each in dependency.found if each not in there])
    if not rest.waiting:
        return False, has
    candidate, why = PATTERNS[pattern](rest)
    return candidate, f"{why}; {has}"
