"""Finds the external calls of a file: which client or function each call expression reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from resilient_agents.scan.annotations import is_data
from resilient_agents.scan.form import Expression, Scope, Site, last_name
from resilient_agents.scan.known import Known
from resilient_agents.scan.libraries import Client, Operation
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.results import runner_of
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import (
    ClientValue,
    Method,
    Partial,
    Spot,
    Symbol,
    Value,
    Values,
)

__all__ = ["Given", "Sighting", "given_of", "sightings"]


CALLED = (Symbol, Method, ClientValue, Partial)
"""What may be a call to the outside when it is called."""


class Given(NamedTuple):
    """The arguments of a call."""

    arguments: tuple[Expression, ...]
    keywords: Mapping[str, Expression]
    spread: tuple[Expression, ...]
    starred: bool


def given_of(site: Site) -> Given:
    """The arguments of a call as it is written."""
    return Given(site.arguments, site.keywords, site.spread, site.starred)


@dataclass(slots=True)
class Sighting:
    """An external call as it stands in the file: what is called, and what with."""

    spot: Spot
    index: int
    client: Client
    name: str
    """Of the operation: `get`, `chat.completions.create`; "" for calling the object."""
    operation: Operation
    owner: ClientValue | None
    """None for a function of a module."""
    given: Given
    runner: str = ""
    """The callee that runs it: `to_thread`; it then waits elsewhere, and this call only for the runner."""

    @property
    def site(self) -> Site:
        return self.spot.within.calls[self.index]

    @property
    def callee(self) -> str:
        cls = self.owner.path if self.client.of_many and self.owner is not None else ""
        return f"{cls or self.client.name}.{self.name}" if self.name else self.client.name


def sightings(resolver: Resolver, file: SourceFile) -> Iterator[list[Sighting]]:
    """For each external call what it may be: usually one thing, several where a client was chosen in a branch."""
    names = resolver.words.callable_in(file, resolver.tree.by_name.groups)
    given = file.given()  # `self.fetch = requests.get` is called as `fetch`
    python = resolver.words.python if not file.form.stars else frozenset[str]()
    for number, scope in enumerate(file.form.scopes):
        for index, site in enumerate(scope.calls):
            callee = site.callee
            if callee is None:
                continue
            if names is not None and callee[0] == "attr" and not _asked(callee, names) and callee[2] not in given:
                continue
            if callee[0] == "attr" and _of_data(callee[1], file.form.scopes, number):
                continue
            if callee[0] == "name" and callee[1] in python and not _is_bound(callee[1], file.form.scopes, number):
                continue
            spot = Spot(file, number, site.order, site.block)
            found = _reached(resolver, resolver.evaluate(callee, spot), spot, index)
            if found:
                yield _fitting(found, site.awaited, scope.is_async)


def _asked(callee: tuple[Any, ...], names: frozenset[str]) -> bool:
    """Whether a call by this attribute may be one of these; with `*` each that stands behind another attribute may."""
    owner = callee[1]
    return callee[2] in names or ("*" in names and owner is not None and owner[0] == "attr")


def _is_bound(name: str, scopes: list[Scope], index: int) -> bool:
    """Whether the file gives a name of Python's own to something else, for who uses it in this scope."""
    while index >= 0:
        if name in scopes[index].bindings:
            return True
        index = scopes[index].parent
    return False


def _of_data(owner: Expression, scopes: list[Scope], index: int) -> bool:
    """Whether something is a parameter that is declared to be data of Python's own, so that nobody need be asked."""
    bindings = scopes[index].bindings.get(owner[1]) if owner is not None and owner[0] == "name" else None
    value = bindings[0].value if bindings is not None and len(bindings) == 1 else None
    return value is not None and value[0] == "param" and is_data(scopes[index].parameters[value[1]].annotation)


def _reached(resolver: Resolver, callees: Values, spot: Spot, index: int) -> list[Sighting]:
    """The external calls that a call may be, as it is or through a function that runs what it is given."""
    found = [each for value in callees if type(value) in CALLED and (each := _seen(resolver, value, spot, index))]
    if found:
        return [] if found[0].operation.entered and not _entered(spot, index) else found
    runner = runner_of(resolver.known, callees, spot.within.calls[index])
    return _run(resolver, runner, spot, index) if runner is not None else []


def _entered(spot: Spot, index: int) -> bool:
    """Whether a `with` enters what the call returns."""
    return any(block.kind == "with" and block.about == ("call", index) for block in spot.within.blocks)


def _fitting(found: list[Sighting], awaited: bool, in_async: bool) -> list[Sighting]:
    """Of a blocking client and its asynchronous twin the one that is used so."""
    if found[0].runner or (not awaited and in_async):
        return found  # it may be awaited later
    return [each for each in found if each.operation.is_async == awaited] or found


def _seen(
    resolver: Resolver, value: Value, spot: Spot, index: int, given: Given | None = None, runner: str = ""
) -> Sighting | None:
    """The external call that calling a value is, with the arguments that are written there if it is given none."""
    if isinstance(value, Partial):
        bound, given = value.made.site, given or given_of(spot.within.calls[index])
        given = Given(
            (*bound.arguments[1:], *given.arguments),
            {**bound.keywords, **given.keywords},
            bound.spread + given.spread,
            bound.starred or given.starred,
        )
        value = value.target
    owner = None
    if isinstance(value, Symbol):
        client, name = resolver.known.function(value.path)
        if client is None and "." in value.path and (cls := _class(resolver.known, value.path)) is not None:
            client, name, owner, given = _unbound(cls, value.path, given or given_of(spot.within.calls[index]))
    elif isinstance(value, Method):
        client, name, owner = value.owner.client, value.name, value.owner
    elif isinstance(value, ClientValue):
        client, name, owner = value.client, "", value
    else:
        return None
    operation = client.operation(name) if client is not None else None
    if client is None or operation is None:
        return None
    return Sighting(spot, index, client, name, operation, owner, given or given_of(spot.within.calls[index]), runner)


def _class(known: Known, path: str) -> Client | None:
    """The class that a path is an attribute of."""
    cls = path.rpartition(".")[0]
    return known.clients.get(known.canonical.get(cls, cls))


def _unbound(client: Client, path: str, given: Given) -> tuple[Client | None, str, ClientValue | None, Given]:
    """A method that is called on its class: `socket.socket.connect(self, address)`."""
    if not given.arguments:
        return None, "", None, given
    return client, path.rpartition(".")[2], ClientValue(client), given._replace(arguments=given.arguments[1:])


def _run(resolver: Resolver, runner: tuple[str, int], spot: Spot, index: int) -> list[Sighting]:
    """The calls that a runner makes of a function that stands outside of the tree."""
    site = spot.within.calls[index]
    keyword, at = runner
    keywords = site.keywords
    if keyword in keywords:
        target, args, options = keywords[keyword], keywords.get("args"), keywords.get("kwargs")
        arguments = args[1] if args is not None and args[0] == "seq" else ()
        given = Given(arguments, options[1] if options is not None and options[0] == "dict" else {}, (), False)
    elif at < len(site.arguments):
        target = site.arguments[at]
        given = Given(site.arguments[at + 1 :], keywords, site.spread, site.starred)
    else:
        return []
    name = last_name(site.callee)
    found = [_seen(resolver, value, spot, index, given, name) for value in resolver.evaluate(target, spot)]
    return [each for each in found if each is not None]
