"""Policies, breakers and retries around a call: what they are, and whether they end one that hangs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resilient_agents.scan.form import Expression, Site
from resilient_agents.scan.guards import awaitable
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import Data, Opaque, Spot, Symbol, Value

__all__ = ["NAMED", "Protection", "patterns_around", "protection"]

POLICY = {"call", "acall", "stream"}
TIMEOUTS = ("timeout", "attempt_timeout")
LIMITS = {"Timeout", "StreamTimeout", "timeout"}
CERTAINTY = ("explicit", "unknown", "")
PATTERNS = {
    **dict.fromkeys(("retry", "Retry", "Retrying", "AsyncRetrying", "on_exception", "on_predicate"), "retry"),
    **dict.fromkeys(("breaker", "circuit_breaker", "CircuitBreaker", "circuit"), "circuit breaker"),
    **dict.fromkeys(("bulkhead", "Bulkhead"), "bulkhead"),
    **dict.fromkeys(("rate_limit", "RateLimit"), "rate limit"),
    **dict.fromkeys(("fallback", "Fallback"), "fallback"),
}
"""Classes, decorators and options of decorators, by their last word."""
NAMED = "named"
"""Stands for whatever a policy has that the code knows by name: `@resilient("prices")`."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What guards a call. `limit`: "explicit" where it ends one that hangs, "unknown" where that stands elsewhere."""

    source: str
    limit: str


@dataclass(frozen=True, slots=True)
class _Guard:
    """One that was found. `ends` says what a time limit of it can end: what is awaited, a plain function if it runs in
    a thread, or nothing."""

    value: Value
    path: str
    source: str
    ends: str


def protection(resolver: Resolver, seen: Sighting) -> Protection | None:
    """What guards the function that it stands in, or the call itself: `policy.call(requests.get, url)`."""
    if seen.runner not in POLICY and not _is_decorated(seen):  # as nearly always
        return None
    found = [Protection(each.source, _limit(resolver, each)) for each in _guards(resolver, seen)]
    return min(found, key=lambda each: CERTAINTY.index(each.limit)) if found else None


def _is_decorated(seen: Sighting) -> bool:
    """Whether anything stands before the functions that it is in."""
    scopes, index = seen.spot.file.form.scopes, seen.spot.scope
    while index >= 0 and scopes[index].kind == "function":
        if scopes[index].decorators:
            return True
        index = scopes[index].parent
    return False


def patterns_around(resolver: Resolver, seen: Sighting) -> frozenset[str]:
    """What of the patterns stands around it in the code: `retry` of `@resilient(Retry(3))`, NAMED of a named policy."""
    return frozenset(pattern for each in _guards(resolver, seen) for pattern in _patterns(resolver, each.value))


def _guards(resolver: Resolver, seen: Sighting) -> Iterator[_Guard]:
    spot, form, callee = seen.spot, seen.spot.file.form, seen.site.callee
    if seen.runner in POLICY and callee is not None and callee[0] == "attr":
        ends = "awaited" if awaitable(seen) else "plain"
        for value, path in _known(resolver, callee[1], spot):
            yield _Guard(value, path, f"{path}.{seen.runner}", ends)
    index = spot.scope
    while index >= 0 and form.scopes[index].kind == "function":
        scope = form.scopes[index]
        for decorator in scope.decorators:
            ends = "awaited" if awaitable(seen) else "nothing" if index == spot.scope else "elsewhere"
            outside = Spot(spot.file, scope.parent, 1 << 30, 0)
            for value, path in _known(resolver, decorator, outside):
                yield _Guard(value, path, path, ends if scope.is_async else "plain")
        index = scope.parent


def _known(resolver: Resolver, expression: Expression, spot: Spot) -> Iterator[tuple[Value, str]]:
    for value in resolver.evaluate(expression, spot):
        if isinstance(value, Symbol | Opaque) and value.path in resolver.known.protections:
            yield value, value.path


def _limit(resolver: Resolver, guard: _Guard) -> str:
    kind = resolver.known.protections[guard.path]
    if kind == "none" or (kind == "awaited" and guard.ends == "nothing"):
        return ""
    said = _limit_of(resolver, guard.value, guard.ends == "awaited" or kind == "all")
    if said == "unknown" and (guard.ends == "awaited" or kind == "all"):
        return "explicit"
    return "unknown" if said and guard.ends == "elsewhere" else said


def _limit_of(resolver: Resolver, value: Value, always: bool) -> str:
    """Of a strategy or policy, as far as it is written in the code; `always`: whether or not it runs in a thread."""
    if not isinstance(value, Opaque):
        return "unknown"
    site, spot = value.made.site, value.made.spot
    if value.path.rpartition(".")[2] in LIMITS:
        return "explicit" if always else _threaded(site)
    if value.path not in resolver.known.protections:
        return ""
    if site.spread or site.starred:
        return "unknown"
    parts = [*site.arguments, *(site.keywords[name] for name in TIMEOUTS if name in site.keywords)]
    found = [said for each in parts for said in _limits_in(resolver, each, spot, always)]
    return min(found, key=CERTAINTY.index, default="")


def _limits_in(resolver: Resolver, part: Expression, spot: Spot, always: bool) -> list[str]:
    if part is not None and part[0] == "const" and not isinstance(part[1], str):  # a name may have a limit
        return ["explicit" if always and part[1] is not None else ""]
    return [_limit_of(resolver, value, always) for value in resolver.evaluate(part, spot)] or ["unknown"]


def _threaded(site: Site) -> str:
    given = site.keywords.get("thread", ("const", None))
    if site.spread or given is None or given[0] != "const":
        return "unknown"
    return "explicit" if given[1] is True else ""


def _patterns(resolver: Resolver, value: Value) -> Iterator[str]:
    if isinstance(value, Data) and value.expression is not None and value.expression[0] == "const":
        yield from [NAMED] if isinstance(value.expression[1], str) else []
    if not isinstance(value, Symbol | Opaque):
        return
    name = value.path.rpartition(".")[2]
    if name in PATTERNS:
        yield PATTERNS[name]
    elif isinstance(value, Opaque) and value.path in resolver.known.protections:
        site = value.made.site
        yield from (PATTERNS[each] for each in site.keywords if each in PATTERNS)
        for part in site.arguments:
            for each in resolver.evaluate(part, value.made.spot):
                yield from _patterns(resolver, each)
