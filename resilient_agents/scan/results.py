"""What a call gives: a client that it makes, what a function of the tree returns, what is merely handed on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resilient_agents.scan.annotations import CLASSES, objects
from resilient_agents.scan.callers import argument
from resilient_agents.scan.containers import enter
from resilient_agents.scan.form import Site, dotted, last_name, named
from resilient_agents.scan.members import attribute, receiver
from resilient_agents.scan.read_expressions import THREADS
from resilient_agents.scan.values import (
    ClassValue,
    ClientValue,
    Data,
    FunctionValue,
    Instance,
    Made,
    Many,
    Method,
    Opaque,
    Parents,
    Partial,
    Spot,
    Symbol,
    Value,
    Values,
    best,
    union,
)

if TYPE_CHECKING:
    from resilient_agents.scan.known import Known
    from resilient_agents.scan.libraries import Client
    from resilient_agents.scan.resolve import Resolver

__all__ = ["result", "runner_of"]

TAKING = frozenset({"get", "get_nowait", "pop", "popleft", "setdefault", "values", "items", "copy"})
"""Methods of containers and queues that give what they hold."""


def result(resolver: Resolver, spot: Spot, index: int) -> Values:
    site = spot.within.calls[index]
    # The same spot for whoever asks: a call is evaluated where it stands.
    made = Made(Spot(spot.file, spot.scope, site.order, site.block), index)
    callees = resolver.evaluate(site.callee, made.spot)
    found = [_of(resolver, callee, made) for callee in callees]
    if last_name(site.callee) in TAKING and (taken := _taken(resolver, site, made.spot)):
        return taken
    at = resolver.known.passing.get(f".{last_name(site.callee)}")
    if at is not None and at < len(site.arguments) and all(isinstance(each, Symbol) for each in callees):
        given = resolver.evaluate(site.arguments[at], made.spot)
        entered = last_name(site.callee) in ("enter_context", "enter_async_context")
        return union([enter(resolver, each) for each in given] or [()]) if entered else given
    if last_name(site.callee) in THREADS and (ran := _ran(resolver, callees, made)):
        return ran
    return union(found) if found else ()


def runner_of(known: Known, callees: Values, site: Site) -> tuple[str, int] | None:
    """How a callee that runs functions is given one."""
    for value in callees:
        path = value.path if isinstance(value, Symbol) else ""
        if isinstance(value, Method):
            path = f"{value.owner.client.name}.{value.name}"
        if path in known.runners:
            return known.runners[path]
    runner = known.runners.get(f".{last_name(site.callee)}")
    return runner if runner is not None and all(isinstance(value, Symbol) for value in callees) else None


def _ran(resolver: Resolver, callees: Values, made: Made) -> Values:
    """What a function gives that is run in a thread: `await asyncio.to_thread(redis.Redis, host="cache")`."""
    _, at = runner_of(resolver.known, callees, made.site) or ("", len(made.site.arguments))
    inside = made._replace(before=at + 1)
    return union([_of(resolver, each, inside) for each in _argument(resolver, made, at)] or [()])


def _taken(resolver: Resolver, site: Site, spot: Spot) -> Values:
    """What a container gives: `sockets.get(name)`, `pool.get_nowait()`, `sockets.values()`."""
    base = site.callee[1] if site.callee is not None and site.callee[0] == "attr" else None
    owners = resolver.evaluate(base, spot)
    if base is None or not all(_holds(each) for each in owners):
        return ()
    name, arguments = last_name(site.callee), site.arguments
    if name == "items" and (pairs := [pair for each in owners for pair in _pairs(resolver, each)]):
        return (Many(tuple(pairs)),)
    if name in ("values", "items", "copy"):
        held = resolver.each(("each", base), spot)
        return (Many((Many(held),) if name == "items" else held),) if held else ()
    found = [resolver.item(("item", base, arguments[0] if arguments else None), spot)]
    found += [resolver.evaluate(each, spot) for each in arguments[1:2]]
    return union(found)


def _holds(value: Value) -> bool:
    """Whether it is a container, as far as can be told."""
    return isinstance(value, (Data, Many, Opaque)) or (isinstance(value, ClientValue) and _is_dict(value.client))


def _is_dict(client: Client) -> bool:
    """A dict that a library gives: it holds clients and makes no calls."""
    return bool(client.items) and not client.operations


def _pairs(resolver: Resolver, value: Value) -> Values:
    """Keys and values of a dict whose keys are written as names of something: `{zmq.RCVTIMEO: 1000}`."""
    if not isinstance(value, Data) or value.expression is None or value.expression[0] != "dict":
        return ()
    expression, spot = value.expression, value.spot
    pairs = [("seq", (named(key[1:]), each)) for key, each in expression[1].items() if key.startswith("=")]
    return resolver.once((value, "pairs"), lambda: tuple([Data(pair, spot) for pair in pairs]))


def _of(resolver: Resolver, callee: Value, made: Made) -> Values:
    match callee:
        case Symbol(path):
            return _of_symbol(resolver, path, made)
        case Method(owner, name):
            return _of_method(resolver, owner, name, made)
        case ClientValue():
            return _of_method(resolver, callee, "", made)
        case ClassValue():
            return (Instance(callee, made),)
        case FunctionValue():
            if given := _of_given_class(resolver, callee, made):
                return given
            return tuple([_through(value, callee, made) for value in resolver.returned(callee)])
        case Partial():
            return _of(resolver, callee.target, callee.made._replace(before=1))
        case Instance():
            called = attribute(resolver, callee, "__call__")
            return union([resolver.returned(each) for each in called if isinstance(each, FunctionValue)] or [()])
        case Data(expression=("lambda", body)):
            return resolver.evaluate(body, callee.spot)
        case _:
            return ()


def _of_given_class(resolver: Resolver, function: FunctionValue, made: Made) -> Values:
    """`def local(of: type[T]) -> T`: an object of the class that it is given, whatever stands for it."""
    scope = function.within
    for position, parameter in enumerate(scope.parameters if dotted(scope.returns) else ()):
        said = parameter.annotation
        if said is not None and said[0] == "item" and said[2] == scope.returns and last_name(said[1]) in CLASSES:
            given, _ = argument(made.site, parameter.name, position - function.bound)
            return objects(resolver, resolver.evaluate(given, made.spot))
    return ()


def _through(value: Value, function: FunctionValue, made: Made) -> Value:
    """A client that a function made itself, with the call that it was made for: `self._socket(zmq.REP, 5555)`."""
    if not isinstance(value, ClientValue) or value.made is None or value.through is not None:
        return value
    spot = value.made.spot
    inside = (spot.file, spot.scope) == (function.file, function.scope) and function.within.parameters
    return replace(value, through=made) if inside else value


def _of_method(resolver: Resolver, owner: ClientValue, name: str, made: Made) -> Values:
    if name in ("__enter__", "__aenter__"):
        return enter(resolver, owner)
    client = resolver.known.clients.get(owner.client.makes.get(name, ""))
    if client is not None:
        return (owner.gives(client, made, f"{owner.client.name}.{name}"),)
    if name in owner.client.watching:
        names = _names_of(owner.made) if owner.made is not None else ()
        places = [(receiver(made.site.callee), made.spot), *((each, made.spot) for each in names)]
        watched = union([resolver.collected(*each) for each in places if each[0]] or [()])
        return (Many((Many(watched),)),) if watched else ()
    return (owner,) if owner.client.chains and owner.client.operation(name) is None else ()


def _names_of(made: Made) -> list[str]:
    """What is given the result of a call as such: the poller whose method has a name, `look = poller.poll`."""
    bindings = made.spot.within.bindings.items()
    return [name for name, given in bindings if any(each.value == ("call", made.number) for each in given)]


def _of_symbol(resolver: Resolver, path: str, made: Made) -> Values:
    known = resolver.known
    called, path = path, known.canonical.get(path, path)
    client = known.clients.get(path) or known.clients.get(known.makers.get(path, "")) or known.generated(path)
    if client is not None:
        for value in _argument(resolver, made, 0) if client.variants else ():
            if isinstance(value, ClientValue) and value.client.name in client.variants:
                client = known.clients[client.variants[value.client.name]]
        # Of two names of one class, each may take a limit in a place of its own.
        return (ClientValue(client, made, None, None, called if called in known.functions else path),)
    if path in known.passing:
        return _argument(resolver, made, known.passing[path])
    special = SPECIAL.get(path)
    return special(resolver, made) if special else (Opaque(path, made),)


def _argument(resolver: Resolver, made: Made, at: int) -> Values:
    site = made.site
    return resolver.evaluate(site.arguments[at], made.spot) if at < len(site.arguments) else ()


def _partial(resolver: Resolver, made: Made) -> Values:
    found = _argument(resolver, made, 0)
    return tuple([each if isinstance(each, Partial) and each.made == made else Partial(each, made) for each in found])


def _dict(resolver: Resolver, made: Made) -> Values:
    site = made.site
    for value in _argument(resolver, made, 0):
        if isinstance(value, Many) and value.values and all(isinstance(each, Many) for each in value.values):
            return value.values  # pairs: their first parts are what a loop over the dict gives
    written = ("dict", site.keywords, True, (*site.arguments, *site.spread))
    return resolver.once((made, "dict"), lambda: (Data(written, made.spot),))


def _super(resolver: Resolver, made: Made) -> Values:
    index = made.spot.file.form.class_around(made.spot.scope)
    return (Parents(ClassValue(made.spot.file, index)),) if index >= 0 else ()


def _type(resolver: Resolver, made: Made) -> Values:
    return tuple(value.of for value in _argument(resolver, made, 0) if isinstance(value, Instance))


def _getattr(resolver: Resolver, made: Made) -> Values:
    site: Site = made.site
    name = site.arguments[1] if len(site.arguments) > 1 else None
    if name is None or name[0] != "const":
        return tuple([each for value in _argument(resolver, made, 0) if (each := _chosen(resolver.known, value))])
    found = [attribute(resolver, value, str(name[1])) for value in _argument(resolver, made, 0)]
    return union(found) if found else ()


def _chosen(known: Known, value: Value) -> Value | None:
    """What a name in a variable chooses: `getattr(ccxt, exchange)`, `getattr(session, method)` of a request, and of a
    client whose attributes are all alike one of these: `getattr(salesforce, kind)`."""
    if isinstance(value, ClientValue):
        if value.client.open_attributes:
            return value.gives(known.clients[value.client.items], None)
        return Method(value, "request") if "request" in value.client.operations else None
    if not isinstance(value, Symbol):
        return None
    function = f"{value.path}.request"
    path = known.chosen.get(value.path) or (function if function in known.functions else None)
    return Symbol(path) if path else None


def _cast(resolver: Resolver, made: Made) -> Values:
    said = made.site.arguments[0] if made.site.arguments else None
    return best(_argument(resolver, made, 1), resolver.annotated(said, made.spot))


def _field(resolver: Resolver, made: Made) -> Values:
    factory = made.site.keywords.get("default_factory")
    found = [_of(resolver, value, Made(made.spot, made.number)) for value in resolver.evaluate(factory, made.spot)]
    if not found:
        said = made.site.keywords.get("default", made.site.arguments[0] if made.site.arguments else None)
        found = [resolver.evaluate(said, made.spot)]
    return union(found)


def _select(resolver: Resolver, made: Made) -> Values:
    """What is ready is some of what it was given to watch."""
    watched = union([resolver.each(("each", each), made.spot) for each in made.site.arguments[:3]])
    return (Many((Many(watched),)),) if watched else ()


SPECIAL = {
    "select.select": _select,
    "zmq.select": _select,
    "functools.partial": _partial,
    "builtins.dict": _dict,
    "builtins.super": _super,
    "builtins.type": _type,
    "builtins.getattr": _getattr,
    "typing.cast": _cast,
    "dataclasses.field": _field,
    "pydantic.Field": _field,
    "attrs.field": _field,
}
