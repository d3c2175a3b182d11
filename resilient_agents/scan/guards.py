"""Limits that stand around a call: a timeout block, `wait_for`, a poll that has waited already."""

from __future__ import annotations

from itertools import pairwise

from resilient_agents.scan.callers import reaches
from resilient_agents.scan.form import Expression, Scope, Site, dotted, last_name
from resilient_agents.scan.members import receiver
from resilient_agents.scan.read_expressions import THREADS
from resilient_agents.scan.records import Limit
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import FunctionValue, Method, Spot, Symbol, Value

__all__ = ["around", "around_callers", "awaitable", "polled"]


def around(resolver: Resolver, seen: Sighting) -> Limit | None:
    """A block or a call around it that ends it: of what is awaited only, since nothing else can be ended so."""
    return _around(resolver, seen.spot, seen.index) if awaitable(seen) else None


def awaitable(seen: Sighting) -> bool:
    """Whether its caller awaits it, and can stop to: a coroutine, or what a thread runs."""
    if seen.operation.is_async or seen.runner in THREADS:
        return True
    if not seen.site.block:
        return False
    scope = seen.spot.within
    for block, outside in pairwise(scope.inside(seen.site.block)):
        if block.kind == "lambda" and outside.kind == "argument" and outside.about is not None:
            return last_name(scope.calls[outside.about[1]].callee) in THREADS
    return False


def around_callers(resolver: Resolver, seen: Sighting) -> Limit | None:
    """Where every call of its coroutine in the tree is ended, it is, too: `await wait_for(read(), 5)`."""
    spot, scope = seen.spot, seen.spot.within
    if not (awaitable(seen) and scope.kind == "function" and scope.is_async):
        return None
    if any(last_name(each) not in ("classmethod", "staticmethod") for each in scope.decorators):
        return None
    function, called = FunctionValue(spot.file, spot.scope), False
    for caller, index in resolver.tree.calls_of(scope.name, spot.file):
        if reaches(resolver, resolver.callee(caller, index), function):
            called = True
            if _around(resolver, caller, index) is None:
                return None
    return Limit("explicit", f"around each call of {scope.name}") if called else None


def _around(resolver: Resolver, spot: Spot, index: int) -> Limit | None:
    for block in spot.within.inside(spot.within.calls[index].block):
        if block.kind == "with":
            for path, site in _called(resolver, block.about, spot):
                limited = resolver.known.blocks.get(path)
                if limited is not None and _stated(site, *limited):
                    return Limit("explicit", path)
        elif block.kind == "argument":
            for path, site in _called(resolver, block.about, spot):
                limited = resolver.known.waits.get(path)
                if limited is not None and _stated(site, *limited):
                    return Limit("explicit", path)
    return _waited_later(resolver, spot, index)


def _called(resolver: Resolver, expression: Expression, spot: Spot) -> list[tuple[str, Site]]:
    while expression is not None and expression[0] == "await":
        expression = expression[1]
    if expression is None or expression[0] != "call":
        return []
    site = spot.within.calls[expression[1]]
    return [(value.path, site) for value in resolver.evaluate(site.callee, spot) if isinstance(value, Symbol)]


def _stated(site: Site, names: tuple[str, ...], at: int) -> bool:
    """Whether a limit is given that is not None."""
    given = next((site.keywords[name] for name in names if name in site.keywords), None)
    if given is None and at < len(site.arguments):
        given = site.arguments[at]
    elif given is None:
        return False
    return given != ("const", None)


def _waited_later(resolver: Resolver, spot: Spot, index: int) -> Limit | None:
    """`task = create_task(call()); await wait_for(task, 5)`: the name stands for the call."""
    scope = spot.within
    names = {
        name
        for name, bindings in scope.bindings.items()
        for binding in bindings
        if index in _calls_in(binding.value, scope.calls)
    }
    if not names:
        return None
    names |= {
        name
        for name, bindings in scope.bindings.items()
        if any(_gathers(each.value, names, scope) for each in bindings)
    }
    for site in scope.calls:
        if site.order > scope.calls[index].order and site.arguments and _stands_for(site.arguments[0], names, scope):
            for value in resolver.evaluate(site.callee, spot):
                limited = resolver.known.waits.get(value.path) if isinstance(value, Symbol) else None
                if limited is not None and _stated(site, *limited):
                    return Limit("explicit", value.path)  # type: ignore[union-attr]
    return None


def _stands_for(expression: Expression, names: set[str], scope: Scope) -> bool:
    """Whether it is one of these names, or several of what is waited for with one of them in it."""
    if expression is not None and expression[0] == "seq":
        return any(dotted(each) in names for each in expression[1])
    return dotted(expression) in names or _gathers(expression, names, scope)


def _gathers(expression: Expression, names: set[str], scope: Scope) -> bool:
    """`gather(*tasks)`: what ends it ends what it is given."""
    if expression is None or expression[0] != "call":
        return False
    site = scope.calls[expression[1]]
    return last_name(site.callee) == "gather" and any(dotted(each) in names for each in site.arguments)


def _calls_in(expression: Expression, calls: list[Site]) -> set[int]:
    """The call that an expression is, and those that it hands on to run; what was awaited is over."""
    if expression is not None and expression[0] in ("seq", "first"):
        return {number for each in expression[1] for number in _calls_in(each, calls)}
    if expression is None or expression[0] != "call":
        return set()
    site = calls[expression[1]]
    handed = site.arguments if last_name(site.callee) in ("create_task", "ensure_future", "gather") else ()
    return {expression[1]} | {number for each in handed for number in _calls_in(each, calls)}


def polled(resolver: Resolver, seen: Sighting) -> Limit | None:
    """A poll above it in the same function, of the same socket or of a poller: what comes after it does not wait."""
    guards = seen.operation.guards
    if not guards or (seen.owner is None and not seen.given.arguments):
        return None
    mine = receiver(seen.site.callee) if seen.owner is not None else dotted(seen.given.arguments[0])
    return _polled_above(resolver, guards, mine, seen.spot, seen.site) or _callers_poll(resolver, guards, mine, seen)


def _polled_above(resolver: Resolver, guards: tuple[str, ...], mine: str, spot: Spot, here: Site) -> Limit | None:
    scope = spot.within
    polls: dict[int, Site] = {}
    for site in scope.calls:
        callee = _meant(scope, site)
        if site.order >= here.order or not _asks(callee, site, guards):
            continue
        above = Spot(spot.file, spot.scope, site.order, site.block)
        same = bool(mine) and receiver(callee) == mine
        watches = any(_polls(value) for value in resolver.evaluate(callee, above))
        if same or (watches and _registered(spot, receiver(callee), mine)):
            polls.setdefault(site.block, site)
    for block, site in _run(scope, polls).items():
        if scope.encloses(block, here.block):
            return Limit("explicit", f"{last_name(site.callee)} in line {site.line}")
    return None


def _meant(scope: Scope, site: Site) -> Expression:
    """The method that a name stands for: `look = poller.poll`."""
    bindings = scope.bindings.get(site.callee[1], ()) if site.callee is not None and site.callee[0] == "name" else ()
    return next((each.value for each in bindings if each.value is not None and each.value[0] == "attr"), site.callee)


def _asks(callee: Expression, site: Site, guards: tuple[str, ...]) -> bool:
    """Whether it is one of these: `poll`, or with its argument `getsockopt EVENTS`."""
    name = last_name(callee)
    return name in guards or f"{name} {last_name(site.arguments[0]) if site.arguments else ''}" in guards


def _run(scope: Scope, polls: dict[int, Site]) -> dict[int, Site]:
    """The blocks in which one of them has run: a `try` counts as run with its body, an `if` with both its branches."""
    ran: dict[int, Site] = {}
    left = list(polls.items())
    while left:
        block, site = left.pop(0)
        if block in ran:
            continue
        ran[block] = site
        parent, kind, _ = scope.blocks[block]
        if kind in ("try", "head") or (kind in ("if", "other") and _branch_beside(scope, block) in ran):
            left.append((parent, site))
    return ran


def _branch_beside(scope: Scope, block: int) -> int:
    """Of an `if` and its `else` the other one; -1 for none."""
    parent, kind, _ = scope.blocks[block]
    beside = [number for number, each in enumerate(scope.blocks) if each.parent == parent]
    at = beside.index(block) + (1 if kind == "if" else -1)
    wanted = "other" if kind == "if" else "if"
    return beside[at] if 0 <= at < len(beside) and scope.blocks[beside[at]].kind == wanted else -1


def _callers_poll(resolver: Resolver, guards: tuple[str, ...], mine: str, seen: Sighting) -> Limit | None:
    """A method that its object calls only after a poll: `if self.inbox in ready: self.on_inbox()`."""
    spot, scope = seen.spot, seen.spot.within
    around = spot.file.form.class_around(spot.scope)
    handed_on = resolver.tree.calls_of(f"{scope.name}()", spot.file)
    if not mine.startswith("self.") or scope.kind != "function" or around < 0 or handed_on:
        return None
    function, found = FunctionValue(spot.file, spot.scope), None
    for caller, index in resolver.tree.calls_of(scope.name, spot.file):
        if not reaches(resolver, resolver.callee(caller, index), function):
            continue
        own = caller.file is spot.file and caller.file.form.class_around(caller.scope) == around
        found = _polled_above(resolver, guards, mine, caller, caller.within.calls[index]) if own else None
        if found is None:
            return None
    return found


def _registered(spot: Spot, poller: str, mine: str) -> bool:
    """Whether a poller watches this socket; it counts as watched where that cannot be told."""
    if not poller or not mine.startswith("self."):
        return True
    form, index = spot.file.form, spot.scope
    found = [(index, each) for each in form.scopes[index].bindings.get(f"{poller}[]", ())]
    index = form.class_around(index)
    if index >= 0:
        name = f"{poller.partition('.')[2]}[]"
        found += spot.file.attributes_of(index).get(name, ())
    watched = {name for scope, binding in found for name in _listed(form.scopes[scope], binding.value)}
    # `self.recv = self.inbox.recv` is called as a method of what has the socket
    return not watched or any(name == mine or name.startswith(f"{mine}.") for name in watched)


def _listed(scope: Scope, expression: Expression) -> list[str]:
    """The name that is watched; for one that a loop takes from a list, those in the list."""
    name = dotted(expression)
    listed = [
        dotted(each)
        for binding in scope.bindings.get(name, ())
        if binding.value is not None and binding.value[0] == "each" and binding.value[1][0] == "seq"
        for each in binding.value[1][1]
    ]
    return listed or [name]


def _polls(value: Value) -> bool:
    if isinstance(value, Method):
        return "recv" not in value.owner.client.operations  # a poller, not another socket
    return isinstance(value, Symbol) and value.path.startswith(("select.", "selectors."))
