"""What a parameter may be: what its callers in the tree hand in, its default, its annotation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resilient_agents.scan.annotations import provided
from resilient_agents.scan.called_back import given_back
from resilient_agents.scan.form import Expression, Scope, Site, last_name
from resilient_agents.scan.index import MAPPING, PACKED, outline_of
from resilient_agents.scan.members import constructor, is_static, last_decorator
from resilient_agents.scan.tree import MOST_CALLS, SourceFile
from resilient_agents.scan.values import (
    ClassValue,
    Data,
    FunctionValue,
    Instance,
    Made,
    Spot,
    Value,
    Values,
    best,
    union,
)

if TYPE_CHECKING:
    from resilient_agents.scan.resolve import Resolver

__all__ = ["ENDLESS", "argument", "calls_to", "handed_on", "handed_through", "own_object", "parameter", "reaches"]

MOST = 40
"""Callers that are looked at."""
HEIRS = 20
ENDLESS = 1 << 30
"""The order of what stands behind all of a scope."""


def parameter(resolver: Resolver, file: SourceFile, index: int, position: int) -> Values:
    if position == 0 and (own := own_object(file, index)) is not None:
        return own
    scope = file.form.scopes[index]
    function = FunctionValue(file, index)
    given = scope.parameters[position]
    if given.kind in ("rest", "options"):
        return ()

    def make() -> Values:
        around = Spot(file, scope.parent, ENDLESS, 0)
        with resolver.hop() as further:
            handed = handed_in(resolver, function, position) if further else []
            found = [resolver.evaluate(each, spot) for each, spot in handed]
        found.append(provided(resolver, given.default, around) or resolver.evaluate(given.default, around))
        known = best(union(found), resolver.annotated(given.annotation, around))
        if any(not isinstance(each, Data) for each in known):
            return known
        return given_back(resolver, function, position) or known

    return resolver.once((file, index, position, "parameter"), make)


def own_object(file: SourceFile, index: int) -> Values | None:
    """What the first parameter of a method is, its object or its class; None for what is no method."""
    scope = file.form.scopes[index]
    if file.form.scopes[scope.parent].kind != "class":
        return None
    cls = ClassValue(file, scope.parent)
    if not scope.decorators and scope.name != "__new__":  # nearly always
        return (Instance(cls),)
    function = FunctionValue(file, index)
    if is_static(function):
        return None
    of_class = last_decorator(function, {"classmethod", "validator", "field_validator"}) or scope.name == "__new__"
    return (cls,) if of_class else (Instance(cls),)


def handed_in(resolver: Resolver, function: FunctionValue, position: int) -> list[tuple[Expression, Spot]]:
    """The arguments for a parameter, at every call in the tree that is known to reach the function."""
    scope = function.within
    name = scope.parameters[position].name
    owner = function.file.form.scopes[scope.parent]
    method = owner.kind == "class"
    shift = 1 if method and not is_static(function) else 0
    found: list[tuple[Expression, Spot]] = []
    for called in _names(resolver, function, owner):
        key = function.file, function.scope, called
        callers = resolver.callers.get(key)
        if callers is None:
            callers = resolver.tree.calls_of(called, function.file)[:MOST]
        possible = []
        for spot, index in callers:
            site = spot.within.calls[index]
            before = shift and not _names_self(resolver, site, spot)
            given, known = argument(site, name, position - before)
            there = (known and given is not None) or bool(site.spread)
            reached, sure = _reached(resolver, function, spot, index) if there else (False, False)
            if reached and given is not None:
                found.append((given, spot))
            elif reached:
                found += _behind(resolver, site, spot, name)
            if reached or not sure:
                possible.append((spot, index))
        resolver.callers[key] = possible
    for spot, index in resolver.tree.calls_of(f"{scope.name}()", function.file)[:MOST]:
        found += _handed_on(resolver, function, spot, index, name, position - shift)
    for callee, at in _given_away(resolver, function, method):
        found += _called_by(callee, at, name, position - shift)
    return found


def calls_to(resolver: Resolver, function: FunctionValue) -> list[tuple[Site, Spot]]:
    """Every call in the tree that reaches the function; none where there may be more than were looked for."""
    owner = function.file.form.scopes[function.within.parent]
    found: list[tuple[Site, Spot]] = []
    for called in _names(resolver, function, owner):
        sites = resolver.tree.calls_of(called, function.file)
        if len(sites) >= MOST_CALLS:
            return []
        found += [(s.within.calls[i], s) for s, i in sites if _reached(resolver, function, s, i)[0]]
    return found


def _names_self(resolver: Resolver, site: Site, spot: Spot) -> bool:
    """Whether a method is given its object as an argument: `Base.__init__(self, sock)`."""
    callee, parameters = site.callee, spot.within.parameters
    if callee is None or callee[0] != "attr" or not parameters or site.arguments[:1] != (("name", parameters[0].name),):
        return False
    return any(isinstance(value, ClassValue) for value in resolver.evaluate(callee[1], spot))


def _behind(resolver: Resolver, site: Site, spot: Spot, name: str) -> list[tuple[Expression, Spot]]:
    """What stands under the name in a dict that is handed in as `**options`."""
    written = [value for each in site.spread for value in resolver.evaluate(each, spot) if isinstance(value, Data)]
    dicts = [(data.expression, data.spot) for data in written if data.expression and data.expression[0] == "dict"]
    return [(entries[1][name], where) for entries, where in dicts if name in entries[1]]


def _names(resolver: Resolver, function: FunctionValue, owner: Scope) -> list[str]:
    """What callers write for it: for a constructor also the classes that inherit it."""
    name = function.within.name
    if name != "__init__" or owner.kind != "class":
        return [name]
    names = {owner.name: None}
    for each in names.copy():
        heirs = [file.form.scopes[number] for file, number in resolver.tree.heirs_of(each, function.file)[:HEIRS]]
        names.update((heir.name, None) for heir in heirs if "__init__" not in heir.bindings)
    return [*names, "cls", "__init__"]


def _reached(resolver: Resolver, function: FunctionValue, spot: Spot, index: int) -> tuple[bool, bool]:
    """Whether a call reaches the function, and whether that is so whoever asks."""
    return resolver.sure(lambda: reaches(resolver, resolver.callee(spot, index), function))


def reaches(resolver: Resolver, values: Values, function: FunctionValue) -> bool:
    for value in values:
        if isinstance(value, FunctionValue) and (value.file, value.scope) == (function.file, function.scope):
            return True
        if isinstance(value, ClassValue):
            init = constructor(resolver, value)
            if init is not None and (init.file, init.scope) == (function.file, function.scope):
                return True
    return False


def argument(site: Site, name: str, position: int) -> tuple[Expression, bool]:
    """(what is given for a parameter, whether that can be told)."""
    if name in site.keywords:
        return site.keywords[name], True
    if 0 <= position < len(site.arguments):
        return site.arguments[position], True
    return None, not (site.spread or (site.starred and position >= 0))


def handed_through(expression: Expression, spot: Spot, call: Made) -> tuple[Expression, Spot]:
    """A parameter of a function as one call of it has it: what is given there, else its default."""
    function = FunctionValue(spot.file, spot.scope)
    parameters = [each.name for each in function.within.parameters]
    if expression is None or expression[0] != "name" or expression[1] not in parameters:
        return expression, spot
    if len(spot.within.bindings[expression[1]]) > 1:  # it is given another value
        return expression, spot
    method = spot.file.form.scopes[function.within.parent].kind == "class" and not is_static(function)
    position = parameters.index(expression[1])
    given, told = argument(call.site, expression[1], position - method)
    if given is not None:
        return given, call.spot
    return (function.within.parameters[position].default, spot) if told else (expression, spot)


def _handed_on(
    resolver: Resolver, function: FunctionValue, spot: Spot, index: int, name: str, position: int
) -> list[tuple[Expression, Spot]]:
    """`Thread(target=function, args=(a, b))`, `submit(function, a, b)`, `partial(function, a)`."""
    site = spot.within.calls[index]
    if last_name(site.callee) in MAPPING:
        return []
    target: Value | None = None
    first = 0
    for number, each in enumerate(site.arguments):
        if last_name(each) == function.within.name and reaches(resolver, resolver.evaluate(each, spot), function):
            target, first = function, number + 1
            break
    keyword, given = site.keywords.get("target"), site.arguments[first:]
    if target is None and keyword is not None and reaches(resolver, resolver.evaluate(keyword, spot), function):
        target, given = function, (site.keywords.get("args"),)
    elif target is None:
        return []
    options = site.keywords.get("kwargs", site.keywords.get("kwds"))
    named = {**site.keywords, **(options[1] if options is not None and options[0] == "dict" else {})}
    if name in named:
        return [(named[name], spot)]
    if keyword is not None or last_name(site.callee) in PACKED:
        args = site.keywords.get("args", given[0] if given else None)
        given = args[1] if args is not None and args[0] == "seq" else ()
    return [(given[position], spot)] if 0 <= position < len(given) else []


def _given_away(resolver: Resolver, function: FunctionValue, method: bool) -> Iterator[tuple[FunctionValue, int]]:
    """(function of the tree that is given this one in its file, position): `self.guarded(self.ask, (key,))`."""
    file, name = function.file, function.within.name
    if name not in outline_of(file.form).handed:
        return
    for number, scope in enumerate(file.form.scopes):
        for index, at in file.given_to(number).get(f"self.{name}" if method else name, ()):
            site = scope.calls[index]
            spot = Spot(file, number, site.order, site.block)
            if reaches(resolver, resolver.evaluate(site.arguments[at], spot), function):
                for callee in resolver.callee(spot, index):
                    if isinstance(callee, FunctionValue):
                        yield callee, at


def _called_by(callee: FunctionValue, given: int, name: str, position: int) -> list[tuple[Expression, Spot]]:
    """What a function of the tree gives a function that it is given: `method(*args, link=self.link)`."""
    parameters = callee.within.parameters[given + callee.bound :]
    sites = [each for each in callee.within.calls if parameters and each.callee == ("name", parameters[0].name)]
    handed = [(argument(each, name, position)[0], each) for each in sites]
    return [(each, Spot(callee.file, callee.scope, at.order, at.block)) for each, at in handed if each is not None]


def handed_on(resolver: Resolver, path: str, spot: Spot) -> Iterator[tuple[SourceFile, int, str]]:
    """What a name holds, as functions call it that were given it above the spot: `configure(sock)`, `fill(options)`."""
    for number, position in spot.file.given_to(spot.scope).get(path, ()):
        site = spot.within.calls[number]
        if site.order >= spot.order:
            continue
        for value in resolver.callee(spot._replace(order=site.order, block=site.block), number):
            if isinstance(value, FunctionValue):
                shifted = position + value.bound
                if shifted < len(value.within.parameters):
                    yield value.file, value.scope, value.within.parameters[shifted].name
