"""For each pattern whether a dependency is a candidate for it, in one sentence with the lines that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from resilient_agents.scan.advice.dependencies import Dependency
from resilient_agents.scan.counts import counted
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.protection import NAMED

__all__ = ["PATTERNS", "Verdict", "verdicts"]

MOST_LINES = 3

Judged = tuple[Sequence[Found], str]
"""The calls that would gain by a pattern, none where there is no candidate, and why or why not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a dependency is a candidate for a pattern, or why not."""

    pattern: str
    calls: Sequence[Found]
    """Those that would gain by it."""
    why: str

    @property
    def candidate(self) -> bool:
        return bool(self.calls)


def lines(found: Sequence[Found]) -> str:
    """`a.py:3, b.py:7 and 2 more`."""
    places = list(dict.fromkeys((each.call.path, each.call.line) for each in found))
    more = len(places) - MOST_LINES
    return ", ".join(f"{path}:{line}" for path, line in places[:MOST_LINES]) + (f" and {more} more" if more > 0 else "")


def _calls(found: Sequence[Found]) -> str:
    return f"{counted(len(found), 'call')} ({lines(found)})"


def _that(found: Sequence[Found], verb: str) -> str:
    """That they do something."""
    return f"{_calls(found)} {verb}{'s' if len(found) == 1 else ''}"


def _time_limit(it: Dependency) -> Judged:
    endless = it.endless
    unknown = [each for each in it.waiting if each.call.limit == "unknown"]
    if endless:
        return endless + unknown, f"{_calls(endless)} can wait for ever"
    if unknown:
        return unknown, f"nothing in the code says what ends {_calls(unknown)}"
    but = " that asks for an answer" if it.serving else ""
    by_version = dict.fromkeys(each.call.limit_source for each in it.waiting if each.call.confidence == "likely")
    which = f", if the version that runs has one: {'; '.join(by_version)}" if by_version else ""
    return (), f"every call{but} has a limit, its own or its library's{which}"


def _retry(it: Dependency) -> Judged:
    if it.target.place == "program":
        return (), "a command that failed may have done a part of its work, and nothing says that it may run again"
    if it.target.place == "process":
        return (), "work in this process that failed fails again"
    if it.target.local:
        return (), "a file on this machine is not away for a moment; a lock is waited for by the library itself"
    again, switch = it.tries_again, it.tried_once
    off = f" ({', '.join(switch)})" if switch else ""
    writes, held = it.repeatable(False), it.through_request_socket(held=True)
    once = [each for each in writes if each not in held]
    if writes and len(writes) == len(it.waiting):
        lost = f"{_calls(once)} may not be made twice: one whose answer was lost may have taken effect" if once else ""
        lost += "; " if once and held else ""
        lost += f"{_calls(held)} {_request_socket(held)}" if held else ""
        return (), f"{lost}; the client tries again by itself, so switch that off{off}" if again else lost
    but = f"; not {_calls(once)}, which may not be made twice" if once else ""
    but += f"; not {_calls(held)}, which {_request_socket(held)}" if held else ""
    anew = it.through_request_socket(held=False)
    go = "goes" if len(anew) == 1 else "go"
    but += f"; {_calls(anew)} {go} through a REQ socket made in the function: repeat all of it" if anew else ""
    but += f"; {_that(it.serving, 'wait')} for what comes by itself" if it.serving else ""
    reads, unsaid = it.repeatable(True), it.repeatable(None)
    calls = [*reads, *unsaid]
    if again:
        reads, unsaid = ([each for each in some if each not in again] for some in (reads, unsaid))
        unseen = f"the client makes {_calls(again)} again by itself, unseen"
        also = f"; {_calls(reads)} may be made twice" if reads else ""
        also += f"; of {_calls(unsaid)} the code does not say so" if unsaid else ""
        return calls, f"{unseen}: switch that off{off} and let one policy own the retries{also}{but}"
    if not reads:
        return calls, f"where a call may be made twice, which the code does not say: {_calls(unsaid)}{but}"
    cost = ", each time at its price" if it.target.kind == "model" and it.target.place == "" else ""
    open_ = f"; of {_calls(unsaid)} the code does not say so" if unsaid else ""
    return calls, f"{_calls(reads)} may be made twice{cost}{open_}{but}"


def _request_socket(held: Sequence[Found]) -> str:
    go = "goes" if len(held) == 1 else "go"
    return f"{go} through a REQ socket that takes no request before it has the last one's answer: make one per attempt"


def _circuit_breaker(it: Dependency) -> Judged:
    if it.target.place == "program":
        return (), "it is started anew each time; nothing in the code says that it needs what can be down"
    if it.target.local:
        return (), f"{_here(it)} has no outage that callers could spare"
    if len(it.waiting) == 1 and not it.in_loops and not it.in_async and not it.in_threads:
        return (), "one call, outside of loops and async code: nothing in the code says that it is made often"
    if not it.target.known:
        return it.waiting, f"one for each address (the code does not say which): while one is down, {_anew(it)}"
    return it.waiting, f"while it is down, {_anew(it)}"


def _anew(it: Dependency) -> str:
    return f"{_calls(it.waiting)} would find that out anew each time"


def _here(it: Dependency) -> str:
    return "what runs in this process" if it.target.place == "process" else "a file on this machine"


def _bulkhead(it: Dependency) -> Judged:
    if it.target.place == "file":
        return (), "a file on this machine takes one writer at a time by itself"
    at_once, in_threads = it.at_once, it.in_threads
    if at_once:
        why = f"nothing in the code says how many of these may be under way at once: {_calls(at_once)}"
        return at_once + in_threads, why
    if in_threads:
        return in_threads, f"threads may make several of these at once: {_calls(in_threads)}"
    if blocking := it.blocking:
        return (), f"{_that(blocking, 'hold')} up the event loop, so that nothing else on it runs meanwhile"
    if it.bounded:
        return (), "what stands around its calls says how many may be under way at once"
    return (), "its calls are made one after another as far as the code shows"


def _rate_limit(it: Dependency) -> Judged:
    if it.target.kind == "model" and not it.target.local and (it.target.place != "own" or it.public):
        return it.waiting, f"model APIs have quotas: {_calls(it.waiting)}"
    if it.target.kind == "http" and it.public and it.in_loops:
        return it.in_loops, f"a loop calls somebody else's service: {_calls(it.in_loops)}"
    return (), "nothing in the code says that it has a quota"


def _fallback(it: Dependency) -> Judged:
    if replaced := it.replaced:
        return replaced, f"the code already has something in place of the answer at {lines(replaced)}"
    return (), "nothing in the code says what would do in place of its answer"


def _health_check(it: Dependency) -> Judged:
    if it.target.place == "program":
        return (), "a program is there or is not"
    if it.target.local:
        return (), f"{_here(it)} fails with the machine"
    if len(it.waiting) > 1 or it.target.kind in ("database", "redis", "bus"):
        return it.waiting, f"whoever runs this wants to know before {_that(it.waiting, 'fail')}"
    return (), "one call finds out by itself"


def _nobody(it: Dependency) -> str:
    """Why there is nothing to guard where no call asks for anything."""
    if not it.serving:
        return "its calls hand something over and wait for nobody"
    return f"{_that(it.serving, 'wait')} for what comes by itself: nobody is asked, so there is nobody to ask again"


PATTERNS: dict[str, Callable[[Dependency], Judged]] = {
    "time limit": _time_limit,
    "retry": _retry,
    "circuit breaker": _circuit_breaker,
    "bulkhead": _bulkhead,
    "rate limit": _rate_limit,
    "fallback": _fallback,
    "health check": _health_check,
}


OF_POLICIES = frozenset(["retry", "circuit breaker", "bulkhead", "rate limit", "fallback"])
"""Patterns that a policy may have, beside limits of time, of which the scan itself says what it knows."""


def verdicts(dependency: Dependency) -> list[Verdict]:
    """One for each pattern. A dependency whose calls never wait is a candidate for none."""
    if not dependency.waiting:
        why = _nobody(dependency)
        return [Verdict(pattern, (), why) for pattern in PATTERNS]
    guarded = dependency.guarded
    found = [
        Verdict(pattern, *(judge(dependency) if pattern not in guarded else _by_the_others(dependency, pattern)))
        for pattern, judge in PATTERNS.items()
    ]
    named = guarded.get(NAMED, ())
    has = f"{_calls(named)} {'has' if len(named) == 1 else 'have'} a policy by name, and its configuration may have one"
    return [
        replace(each, why=f"{each.why}; {has}") if named and each.candidate and each.pattern in OF_POLICIES else each
        for each in found
    ]


def _by_the_others(dependency: Dependency, pattern: str) -> Judged:
    """By the calls that do not have it in the code."""
    there = dependency.guarded[pattern]
    has = f"{_calls(there)} {'has' if len(there) == 1 else 'have'} one in the code"
    once = [each for each in there if pattern == "retry" and dependency.only_once(each)]
    which = _calls(once) if len(once) < len(there) else "it" if len(once) == 1 else "they"
    has += f", though {which} may not be made twice" if once else ""
    having = set(map(id, there))
    rest = replace(dependency, found=[each for each in dependency.found if id(each) not in having])
    if not rest.waiting:
        return (), has
    calls, why = PATTERNS[pattern](rest)
    return calls, f"{why}; {has}"
