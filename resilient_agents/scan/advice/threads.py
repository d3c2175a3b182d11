"""Which calls threads make: those handed to a pool, those in functions that are, and in handlers of servers."""

from __future__ import annotations

from resilient_agents.scan.callers import reaches
from resilient_agents.scan.form import Expression, last_name
from resilient_agents.scan.index import MAPPING
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import FunctionValue, Opaque, Spot, Symbol

__all__ = ["Threads"]

ONE = frozenset(["Thread", "Timer", "Process"])
"""What runs its function once."""
POLICY = frozenset(["call", "acall", "stream"])
ELSEWHERE = frozenset(["partial", "Process"])
"""What is given a function and runs it later or in a process of its own."""
SERVERS = frozenset(["fastapi", "flask"])
"""Libraries of servers that call a handler in a thread where it is a plain function."""
ROUTES = frozenset(["route", "api_route", "get", "head", "options", "post", "put", "patch", "delete"])
"""Decorators that register a handler of requests."""
DEPTH = 3
"""How many functions away from the call a pool is looked for."""


class Threads:
    """Looks for them. `resolver` knows who calls whom."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[tuple[SourceFile, int], bool] = {}

    def make(self, found: Found) -> bool:
        """Whether threads may make several of a call at once."""
        runner, callee = found.seen.runner, found.seen.site.callee
        if not runner:
            return not found.call.is_async and self._handed(found.seen.spot, DEPTH)
        if runner in ONE and not (found.repeated or found.call.is_async):
            return False
        return runner not in POLICY and (runner != "map" or (callee is not None and callee[0] != "name"))

    def _handed(self, inside: Spot, depth: int) -> bool:
        """Whether the function around is handed to threads, or one that calls it."""
        key = inside.file, inside.scope
        if depth and inside.within.kind == "function" and key not in self._known:
            self._known[key] = False  # a function that calls itself is asked once
            self._known[key] = self._asked(FunctionValue(*key), depth)
        return self._known.get(key, False)

    def _asked(self, function: FunctionValue, depth: int) -> bool:
        tree, name = self._resolver.tree, function.within.name
        if self._serves(function):
            return True
        for spot, index in tree.calls_of(f"{name}()", function.file):
            site = spot.within.calls[index]
            given = (each for each in (*site.arguments, *site.keywords.values()) if last_name(each) == name)
            if self._several(spot, index) and any(self._is(function, each, spot) for each in given):
                return True
        for spot, index in tree.calls_of(name, function.file):
            if self._handed(spot, depth - 1) and self._is(function, spot.within.calls[index].callee, spot):
                return True
        return False

    def _serves(self, function: FunctionValue) -> bool:
        """Whether a server calls it for each request, each in a thread."""
        scope = function.within
        outside = Spot(function.file, scope.parent, 1 << 30, 0)
        values = [value for each in scope.decorators for value in self._resolver.evaluate(each, outside)]
        paths = [value.path for value in values if isinstance(value, Opaque)]
        return any(path.partition(".")[0] in SERVERS and path.rpartition(".")[2] in ROUTES for path in paths)

    def _is(self, function: FunctionValue, expression: Expression, spot: Spot) -> bool:
        return reaches(self._resolver, self._resolver.evaluate(expression, spot), function)

    def _several(self, spot: Spot, index: int) -> bool:
        """Whether what is handed a function runs it in several threads."""
        site = spot.within.calls[index]
        name = last_name(site.callee)
        if name in ELSEWHERE:
            return False
        if name in ONE:
            return spot.within.is_async or any(each.kind in ("loop", "each") for each in spot.within.inside(site.block))
        values = self._resolver.evaluate(site.callee, spot)
        paths = [value.path for value in values if isinstance(value, (Symbol, Opaque))]
        return (
            any("Thread" in path for path in paths) if name in MAPPING else not any("Process" in path for path in paths)
        )
