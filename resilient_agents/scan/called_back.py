"""What a library gives to the functions that it calls: a message to a handler, the client itself to a callback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.form import Expression, last_name, named
from resilient_agents.scan.libraries import Handler
from resilient_agents.scan.members import is_static
from resilient_agents.scan.values import ClientValue, FunctionValue, Method, Spot, Symbol, Value, Values

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["given_back"]

ENDLESS = 1 << 30
ON = "on_"


def given_back(resolver: Resolver, function: FunctionValue, position: int) -> Values:
    """What a parameter is, by the decorators of its function and by whom the function is handed to in its file."""
    known, scope = resolver.known, function.within
    name = scope.parameters[position].name
    method = function.file.form.scopes[scope.parent].kind == "class" and not is_static(function)
    around = Spot(function.file, scope.parent, ENDLESS, 0)
    if made := _made_by_decorators(resolver, function, position, around):
        return made
    for decorator in scope.decorators:
        for handler in _handlers(resolver, _callee(decorator, around), around):
            if client := _from(handler, scope.name, name, position - method):
                return (ClientValue(known.clients[known.canonical.get(client, client)]),)
    for target, spot in function.file.handed_to(known.handing, scope.name):
        if isinstance(target, str):  # an attribute: `client.on_message = f`
            values: Values = resolver.evaluate(named(target), spot)
        else:
            handlers = _handlers(resolver, spot.within.calls[target].callee, spot)
            found = [each for handler in handlers if (each := _from(handler, scope.name, name, position - method))]
            if found:
                return (ClientValue(known.clients[known.canonical.get(found[0], found[0])]),)
            values = resolver.evaluate(("call", target), spot)
        if position == method:
            clients = tuple([value for value in values if _calls_back(value)])
            if clients:
                return clients
    return ()


def _made_by_decorators(resolver: Resolver, function: FunctionValue, position: int, around: Spot) -> Values:
    """What decorators make and hand on behind the arguments of a call, or by a name: `@socket("inbox", zmq.PULL)`."""
    by_name: dict[str, Value] = {}
    behind: list[Value] = []
    called = [each for each in function.within.decorators if each is not None and each[0] == "call"]
    for decorator in called:
        for value in resolver.evaluate(decorator, around)[:1]:
            if isinstance(value, ClientValue) and value.path in resolver.known.handlers:
                site = around.within.calls[decorator[1]]
                name = site.keywords.get("name", site.arguments[0] if site.arguments else None)
                if name is not None and name[0] == "const":
                    by_name[str(name[1])] = value
                else:
                    behind.append(value)
    names = [each.name for each in function.within.parameters if each.name not in by_name]
    by_name.update(zip(names[::-1], behind[::-1], strict=False))
    wanted = function.within.parameters[position].name
    return (by_name[wanted],) if wanted in by_name else ()


def _callee(decorator: Expression, spot: Spot) -> Expression:
    return spot.within.calls[decorator[1]].callee if decorator is not None and decorator[0] == "call" else decorator


def _handlers(resolver: Resolver, callee: Expression, spot: Spot) -> Iterator[Handler]:
    handlers, canonical = resolver.known.handlers, resolver.known.canonical
    if last_name(callee) not in resolver.known.handing:
        return
    for value in resolver.evaluate(callee, spot):
        if isinstance(value, Method):
            yield from handlers.get(f"{value.owner.client.name}.{value.name}", ())
        elif isinstance(value, Symbol):
            yield from handlers.get(canonical.get(value.path, value.path), ())


def _from(handler: Handler, function: str, name: str, position: int) -> str:
    if handler.functions and function not in handler.functions:
        return ""
    if name in handler.by_name:
        return handler.by_name[name]
    return handler.gives[position] if 0 <= position < len(handler.gives) else ""


def _calls_back(value: Value) -> bool:
    return isinstance(value, ClientValue) and bool(value.client.callbacks)
