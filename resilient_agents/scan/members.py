"""Attributes: of modules, classes, objects and clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from resilient_agents.scan.form import Expression, declares, dotted, last_name
from resilient_agents.scan.values import (
    ClassValue,
    ClientValue,
    FunctionValue,
    Instance,
    Method,
    ModuleValue,
    Opaque,
    Parents,
    Spot,
    Symbol,
    Value,
    Values,
    best,
    union,
)

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["as_used", "attribute", "bases", "constructor", "is_static", "member"]

PROPERTIES = {"property", "cached_property", "classproperty", "hybrid_property"}
ENDLESS = 1 << 30
LONGEST = 5
"""Names behind each other, that a loop may add to for ever: `node = node.parent`."""


def attribute(resolver: Resolver, value: Value, name: str) -> Values:
    """What stands behind a value under this name."""
    find = BEHIND.get(type(value))
    return find(resolver, value, name) if find is not None else ()


def _of_method(_: Resolver, method: Method, name: str) -> Values:
    return (Method(method.owner, f"{method.name}.{name}"),) if method.name.count(".") < LONGEST else ()


def _of_opaque(_: Resolver, value: Opaque, name: str) -> Values:
    return (Symbol(f"{value.path}().{name}" if value.path.count("().") < LONGEST else value.path),)


def _of_module(resolver: Resolver, module: ModuleValue, name: str) -> Values:
    return resolver.global_of(module.file, name)


def _of_instance(resolver: Resolver, instance: Instance, name: str) -> Values:
    cls = instance.of
    if name == "__class__":
        return (cls,)
    return (
        _bound(resolver, member(resolver, cls, name), instance)
        or _inherited(resolver, instance, name)
        or _delegated(resolver, cls, name)
    )


def _delegated(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    """What its `__getattr__` takes from another object: `return getattr(self._socket, name)`."""
    if name.startswith("__"):
        return ()

    def make() -> Values:
        found = []
        for function in member(resolver, cls, "__getattr__"):
            calls = function.within.calls if isinstance(function, FunctionValue) else ()
            for site in calls:
                if last_name(site.callee) == "getattr" and site.arguments:
                    spot = Spot(function.file, function.scope, site.order, site.block)  # type: ignore[union-attr]
                    found += [attribute(resolver, each, name) for each in resolver.evaluate(site.arguments[0], spot)]
        return union(found) if found else ()

    return resolver.once((cls.file, cls.scope, name, "delegated"), make)


def _of_parents(resolver: Resolver, parents: Parents, name: str) -> Values:
    cls = parents.of
    found = [_bound(resolver, member(resolver, base, name), Instance(base)) for base in bases(resolver, cls)]
    return union(found) if any(found) else _inherited(resolver, Instance(cls), name)


def _of_decorated(resolver: Resolver, function: FunctionValue, name: str) -> Values:
    if not function.within.decorators:
        return ()
    key = (function.file, function.scope, name, "decorated")
    return resolver.once(key, lambda: _of_function(resolver, function, name))


def _of_function(resolver: Resolver, function: FunctionValue, name: str) -> Values:
    """What a decorator of a library makes of a function: `task.delay` of a Celery task."""
    known, found = resolver.known, []
    around = Spot(function.file, function.within.parent, ENDLESS, 0)
    for decorator in function.within.decorators:
        for value in resolver.evaluate(decorator, around):
            made, maker = "", None
            if isinstance(value, Method):
                made, maker = value.owner.client.makes.get(value.name, ""), value.owner
            elif isinstance(value, Symbol):
                made = known.makers.get(known.canonical.get(value.path, value.path), "")
            client = ClientValue(known.clients[made], None, maker) if made else value
            if isinstance(client, ClientValue):
                found.append(attribute(resolver, client, name))
    return union(found) if found else ()


def _of_client(resolver: Resolver, value: ClientValue, name: str) -> Values:
    client = value.client
    made = client.attributes.get(name)
    if made is None and client.open_attributes and not client.starts(name) and name not in client.makes:
        made = client.items
    return (value.gives(resolver.known.clients[made], None),) if made else (Method(value, name),)


def _of_symbol(resolver: Resolver, symbol: Symbol, name: str) -> Values:
    path = symbol.path
    return resolver.symbol(f"{resolver.known.canonical.get(path, path)}.{name}")


def _of_class(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    found: list[Value] = []
    for value in member(resolver, cls, name):
        if isinstance(value, FunctionValue) and last_decorator(value, {"classmethod"}):
            found.append(FunctionValue(value.file, value.scope, True))
        else:
            found.append(value)
    if found:
        return tuple(found)
    return tuple(Symbol(f"{base}.{name}") for base in external(resolver, cls))


def _bound(resolver: Resolver, values: Values, owner: Instance) -> Values:
    """Members as an object shows them: methods bound, properties computed."""
    found: list[Values] = []
    for value in values:
        if isinstance(value, FunctionValue) and value.within.parent == value.file.form.scopes[value.scope].parent:
            parent = value.file.form.scopes[value.within.parent]
            if parent.kind != "class":
                found.append((value,))
            elif last_decorator(value, PROPERTIES):
                found.append(resolver.returned(value))
            else:
                found.append((FunctionValue(value.file, value.scope, not is_static(value)),))
        else:
            found.append((value,))
    return union(found) if found else ()


def last_decorator(function: FunctionValue, names: set[str]) -> bool:
    return any(last_name(decorator) in names for decorator in function.within.decorators)


def is_static(function: FunctionValue) -> bool:
    return last_decorator(function, {"staticmethod"})


def bases(resolver: Resolver, cls: ClassValue) -> Sequence[ClassValue]:
    """The bases that stand in the tree."""
    if not cls.within.bases:
        return ()

    def make() -> Sequence[ClassValue]:
        return [value for value in _bases(resolver, cls) if isinstance(value, ClassValue) and value != cls]

    return resolver.settled((cls.file, cls.scope, "bases"), make)


def _bases(resolver: Resolver, cls: ClassValue) -> Values:
    """What its bases are, wherever they stand."""
    spot = Spot(cls.file, cls.within.parent, ENDLESS, 0)
    return tuple([value for base in cls.within.bases for value in resolver.evaluate(_plain(base), spot)])


def _plain(base: object) -> tuple[object, ...] | None:
    """`Generic` of `Generic[T]`."""
    if isinstance(base, tuple):
        return base[1] if base[0] == "item" else base
    return None


def external(resolver: Resolver, cls: ClassValue) -> Sequence[str]:
    """Paths of the classes of others that it comes from."""
    if not cls.within.bases:
        return ()
    return resolver.settled((cls.file, cls.scope, "external"), lambda: _external(resolver, cls, frozenset()))


def _external(resolver: Resolver, cls: ClassValue, seen: frozenset[ClassValue]) -> list[str]:
    if cls in seen:
        return []
    canonical, values = resolver.known.canonical, _bases(resolver, cls)
    found = [canonical.get(value.path, value.path) for value in values if isinstance(value, Symbol)]
    found += [f"{value.owner.client.name}.{value.name}" for value in values if isinstance(value, Method)]  # `db.Model`
    for base in bases(resolver, cls):
        found += _external(resolver, base, seen | {cls})
    return found


def _inherited(resolver: Resolver, instance: Instance, name: str) -> Values:
    """What an object of the tree has from a class in the table."""
    found: list[Value] = []
    for path in external(resolver, instance.of):
        client = resolver.known.clients.get(path)
        if client is not None:
            owner = ClientValue(client, instance.made, None, instance.of, path)
            found += attribute(resolver, owner, name)
    return tuple(found)


def member(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    """What a class, its methods or its bases in the tree bind to the name; else those that inherit from it."""

    def make() -> Values:
        return (
            _own(resolver, cls, name)
            or next((found for base in bases(resolver, cls) if (found := member(resolver, base, name))), ())
            or _of_heirs(resolver, cls, name)
            or _handed_in(resolver, cls, name)
        )

    return resolver.once((cls.file, cls.scope, name, "member"), make)


def _own(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    assigned: list[Values] = []
    declared: list[Values] = []
    for scope, binding in cls.file.attributes_of(cls.scope).get(name, ()):
        values = resolver.evaluate(binding.value, Spot(cls.file, scope, binding.order, binding.block))
        (declared if declares(binding.value) else assigned).append(values)
    said = union(declared or [()])
    if not assigned and any(isinstance(value, ClientValue) for value in said):
        assigned.append(_handed_in(resolver, cls, name))  # an annotation does not say how it was made
    return best(union(assigned or [()]), said)


def _of_heirs(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    """A method of a base uses what its subclasses set."""
    found: list[Values] = []
    for file, number in resolver.tree.heirs_of(cls.within.name, cls.file)[:30]:
        if name not in file.attributes_of(number):
            continue
        heir = ClassValue(file, number)
        if heir != cls and cls in bases(resolver, heir):
            found.append(resolver.once((heir, name, "own"), lambda heir=heir: _own(resolver, heir, name)))  # type: ignore[misc]
    return union(found) if found else ()


def _handed_in(resolver: Resolver, cls: ClassValue, name: str) -> Values:
    """The field of a class without a constructor of its own, as its callers give it."""
    if "__init__" in cls.within.bindings or not cls.within.bindings.get(name):
        return ()
    declared = {key: each[0].value for key, each in cls.within.bindings.items()}
    fields = [key for key, value in declared.items() if value and value[0] in ("typed", "first")]
    found: list[Values] = []
    for spot, index in resolver.tree.calls_of(cls.within.name, cls.file)[:30]:
        site = spot.within.calls[index]
        given = site.keywords.get(name)
        position = fields.index(name) if name in fields else -1
        if given is None and 0 <= position < len(site.arguments):
            given = site.arguments[position]
        if given is not None and cls in resolver.evaluate(site.callee, spot):
            found.append(resolver.evaluate(given, spot))
    return union(found) if found else ()


def as_used(resolver: Resolver, expression: Expression, spot: Spot, used: Spot) -> Values:
    """What `self.kind` in a base is for the class that something is used in; in the base itself also what heirs say."""
    if expression is None or expression[:2] != ("attr", ("name", "self")):
        return resolver.evaluate(expression, spot)
    name = expression[2]
    base, user = (ClassValue(each.file, each.file.form.class_around(each.scope)) for each in (spot, used))
    if user.scope >= 0 and user != base and base in _ancestors(resolver, user):
        return member(resolver, user, name)
    return union([resolver.evaluate(expression, spot), _of_heirs(resolver, base, name) if base.scope >= 0 else ()])


def _ancestors(resolver: Resolver, cls: ClassValue, depth: int = 5) -> list[ClassValue]:
    found = [*bases(resolver, cls)]
    return [*found, *(each for base in found for each in _ancestors(resolver, base, depth - 1))] if depth else found


def constructor(resolver: Resolver, cls: ClassValue) -> FunctionValue | None:
    for value in member(resolver, cls, "__init__"):
        if isinstance(value, FunctionValue):
            return value
    return None


def receiver(expression: object) -> str:
    """`self.socket` of `self.socket.recv`."""
    return dotted(expression[1]) if isinstance(expression, tuple) and expression[0] == "attr" else ""


BEHIND: dict[type, Callable[[Resolver, Any, str], Values]] = {
    Symbol: _of_symbol,
    ClientValue: _of_client,
    Method: _of_method,
    Opaque: _of_opaque,
    ModuleValue: _of_module,
    Instance: _of_instance,
    ClassValue: _of_class,
    Parents: _of_parents,
    FunctionValue: _of_decorated,
}
