"""Rules about retries that others wrote around a call: RA201, RA202, RA203."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from resilient_agents.scan.callers import reaches
from resilient_agents.scan.effects import repeatable
from resilient_agents.scan.form import Site
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.repeating import tried_again
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.values import ClassValue, FunctionValue, Opaque, Spot, Symbol, Value

__all__ = ["endless_retry", "nested_retry", "repeated_write"]

RETRIES = {
    "tenacity.retry": "stop",
    "backoff.on_exception": "max_tries",
    "stamina.retry": "",
    "retrying.retry": "stop_max_attempt_number",
    "retry.retry": "tries",
    "resilient_agents.retry": "",
}
"""Decorators that try again, and the argument without which they do so for ever; "" for those that end anyway."""
ENDS = {"stop", "max_tries", "max_time", "stop_max_attempt_number", "stop_max_delay", "tries"}
UNSENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "NewConnectionError",
    "ConnectionRefusedError",
    "ClientConnectorError",
}
"""Errors after which nothing was sent."""
BENEATH = {
    "requests": ("urllib3",),
    "httpx": ("httpcore",),
    "boto3": ("botocore",),
    "openai": ("httpx",),
    "anthropic": ("httpx",),
}
"""Libraries whose errors come through another one."""
CALLERS = 3
"""How many functions may lie between a call and the retry around it, counted from the one that makes it."""
EVERYTHING = {"builtins.BaseException"}


def retries_around(found: Found, resolver: Resolver) -> Iterator[tuple[str, Site | None, Spot]]:
    """(decorator, the call that made it or None for a bare one, where) of the function that the call stands in."""
    return _retries_of(found.seen.spot, resolver)


def _retries_behind(found: Found, resolver: Resolver) -> Iterator[tuple[str, Site | None, Spot]]:
    """Those of the function that the call stands in, of the functions that call it, and so on."""
    spots, known = [found.seen.spot], set()
    for _ in range(CALLERS):
        for spot in spots:
            yield from _retries_of(spot, resolver)
        known |= {(spot.file, spot.scope) for spot in spots}
        callers = [caller for spot in spots for caller in _callers(spot, resolver)]
        spots = [caller for caller in callers if (caller.file, caller.scope) not in known]


def _callers(spot: Spot, resolver: Resolver) -> list[Spot]:
    scope, function = spot.within, FunctionValue(spot.file, spot.scope)
    called = resolver.tree.calls_of(scope.name, spot.file) if scope.kind == "function" else ()
    return [caller for caller, index in called if reaches(resolver, resolver.callee(caller, index), function)]


def _retries_of(spot: Spot, resolver: Resolver) -> Iterator[tuple[str, Site | None, Spot]]:
    scope = spot.within
    if scope.kind != "function":
        return
    outside = Spot(spot.file, scope.parent, 1 << 30, 0)
    for decorator in scope.decorators:
        for value in resolver.evaluate(decorator, outside):
            if isinstance(value, Symbol) and value.path in RETRIES:
                yield value.path, None, outside
            elif isinstance(value, Opaque) and value.path in RETRIES:
                yield value.path, value.made.site, value.made.spot


def endless_retry(found: Found, resolver: Resolver) -> str | None:
    for path, site, spot in retries_around(found, resolver):
        ends = not RETRIES[path] or (site is not None and (ENDS & site.keywords.keys() or site.spread))
        if not ends:
            return f"{path} around {found.call.callee} tries again for ever; give it {RETRIES[path]}"
        given = [*site.arguments, *site.keywords.values()] if site is not None else []
        for each in given:
            if any(isinstance(v, Symbol) and v.path in EVERYTHING for v in resolver.evaluate(each, spot)):
                return f"{path} around {found.call.callee} tries again on what should end the program"
    return None


def nested_retry(found: Found, resolver: Resolver) -> str | None:
    again = tried_again(resolver, found.seen)
    if again is None:
        return None
    times = f" up to {again.times} times" if again.times else ""
    for path, _, _ in _retries_behind(found, resolver):
        return f"{path} repeats {found.call.callee}, which repeats itself{times}"
    return None


def repeated_write(found: Found, resolver: Resolver) -> str | None:
    if repeatable(found.seen, resolver) is not False:
        return None
    library = found.call.callee.partition(".")[0]
    for path, site, spot in _retries_behind(found, resolver):
        if site is None or not _about_others(site, resolver, spot, library):
            return f"{path} repeats {found.call.callee}, which may do its work twice"
    return None


def _about_others(site: Site, resolver: Resolver, spot: Spot, library: str) -> bool:
    """Whether a retry is only for errors after which nothing was sent, or that are none of this library's."""
    given = [*site.arguments, *site.keywords.values()]
    errors: list[str] = []
    for each in given:
        inner = [each]
        if each is not None and each[0] == "call":  # retry_if_exception_type(…)
            inner = list(spot.within.calls[each[1]].arguments)
        for one in inner:
            several = one[1] if one is not None and one[0] == "seq" else (one,)
            errors += [name for part in several for v in resolver.evaluate(part, spot) if (name := _error(v))]
    return bool(errors) and not any(_may_be_of(error, library, resolver) for error in errors)


def _error(value: Value) -> str:
    """The path of a class; "" for what is none."""
    path = value.path if isinstance(value, Symbol) else f".{value.within.name}" if isinstance(value, ClassValue) else ""
    return path if path.rpartition(".")[2][:1].isupper() else ""


def _may_be_of(error: str, library: str, resolver: Resolver) -> bool:
    """Whether a call of a library that was sent may end in it: the errors of other libraries in the table, and those
    of the tree, come from what is done beside it."""
    root = error.partition(".")[0]
    if not root or error.rpartition(".")[2] in UNSENT:
        return False
    others = resolver.known.modules - {library, *BENEATH.get(library, ())} - sys.stdlib_module_names
    return root not in others
