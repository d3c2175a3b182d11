"""RA302: as many requests at once as there are items, in the function of the call or in one that calls it."""

from __future__ import annotations

from resilient_agents.scan.callers import reaches
from resilient_agents.scan.form import Expression, Scope, last_name
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.values import Data, FunctionValue, Opaque, Spot, Symbol

__all__ = ["unbounded_fan_out"]

BOUNDS = frozenset({"Semaphore", "BoundedSemaphore", "CapacityLimiter", "AsyncLimiter", "Lock", "Bulkhead"})
TASKS = frozenset({"create_task", "ensure_future", "start_soon"})
KEEPING = frozenset({"append", "add", "put", "put_nowait", "add_done_callback"})
TOGETHER = frozenset({"asyncio.gather", "asyncio.wait", "asyncio.as_completed", "asyncio.create_task"})


def unbounded_fan_out(found: Found, resolver: Resolver) -> str | None:
    seen = found.seen
    spot, scope = seen.spot, seen.spot.within
    if not seen.operation.is_async or found.call.protected_by or _held(resolver, spot, seen.site.block):
        return None
    message = f"as many {found.call.callee} at once as there are items; put a bulkhead around it"
    if not seen.site.awaited and _spreads(resolver, spot, seen.index):
        return message
    if scope.kind != "function" or not scope.is_async or scope.decorators or scope.yields:
        return None  # a generator runs as far as it is asked to
    function = FunctionValue(spot.file, spot.scope)
    for caller, index in resolver.tree.calls_of(scope.name, spot.file):
        site = caller.within.calls[index]
        if site.awaited or not _spreads(resolver, caller, index) or _held(resolver, caller, site.block):
            continue
        if reaches(resolver, resolver.evaluate(site.callee, caller), function):
            return message
    return None


def _spreads(resolver: Resolver, spot: Spot, index: int) -> bool:
    """Whether the call is made for each of some items, and all of them run at once."""
    scope, site = spot.within, spot.within.calls[index]
    around = [block for block in scope.inside(site.block) if block.kind in ("each", "loop")]
    if not around or (around[0].about is not None and _few(resolver, around[0].about, spot)):
        return False
    if any(_goes_on(scope, number, index) for number in range(len(scope.calls))):
        return True
    return around[0].kind == "each" and any(_gathers(resolver, spot, number) for number in range(len(scope.calls)))


def _goes_on(scope: Scope, number: int, index: int) -> bool:
    """Whether a call starts a task of what another gives, and the next round of the loop does not replace it.

    A task that has a name and is put nowhere is the only one: the loop waits for it.
    """
    site = scope.calls[number]
    if last_name(site.callee) not in TASKS or not _hands(site.arguments, index) or site.awaited:
        return False
    names = [path for path, bindings in scope.bindings.items() if any(b.value == ("call", number) for b in bindings)]
    names = [name for name in names if not name.endswith("]")]
    return not names or any(
        last_name(other.callee) in KEEPING and argument == ("name", name)
        for other in scope.calls
        for argument in other.arguments
        for name in names
    )


def _hands(arguments: tuple[object, ...], index: int) -> bool:
    return bool(arguments) and arguments[0] == ("call", index)


def _gathers(resolver: Resolver, spot: Spot, number: int) -> bool:
    site = spot.within.calls[number]
    if last_name(site.callee) not in ("gather", "wait", "as_completed") or not (site.starred or site.arguments):
        return False
    values = resolver.evaluate(site.callee, spot)
    return any(isinstance(value, Symbol) and value.path in TOGETHER for value in values)


def _few(resolver: Resolver, items: Expression, spot: Spot) -> bool:
    """Whether the items are written one by one, so that there are as many as one sees."""
    values = resolver.evaluate(items, spot)
    return bool(values) and all(
        isinstance(value, Data)
        and value.expression is not None
        and value.expression[0] in ("seq", "dict")
        and _written(value.expression)
        for value in values
    )


def _written(expression: Expression) -> bool:
    """Not one that a comprehension makes, which holds one element as it is written."""
    assert expression is not None
    return bool(expression[1]) and (bool(expression[2]) if expression[0] == "dict" else len(expression[1]) > 1)


def _held(resolver: Resolver, spot: Spot, block: int) -> bool:
    """Whether a semaphore or the like lets only so many in."""
    for each in spot.within.inside(block):
        if each.kind == "with":
            values = resolver.evaluate(each.about, spot)
            names = [v.path for v in values if isinstance(v, (Opaque, Symbol))]
            if any(name.rpartition(".")[2] in BOUNDS for name in names):
                return True
            if any(word in last_name(each.about).lower() for word in ("sem", "limit", "throttle")):
                return True
    return False
