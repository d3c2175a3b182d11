"""What an expression may be: a client, a method of one, a class or function of the tree, something outside.

Nothing changes a value once it is made. They are not frozen all the same: to make a frozen one takes twice as long, and
a scan makes some for each expression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from resilient_agents.scan.form import Binding, Expression, Scope, Site
    from resilient_agents.scan.libraries import Client
    from resilient_agents.scan.tree import SourceFile

__all__ = [
    "ClassValue",
    "ClientValue",
    "Data",
    "FunctionValue",
    "Instance",
    "Made",
    "Many",
    "Method",
    "ModuleValue",
    "Opaque",
    "Parents",
    "Partial",
    "Spot",
    "Symbol",
    "Value",
    "Values",
    "best",
    "made",
    "union",
]

MOST = 12
"""Values that one expression may have before the rest is left out."""


class Spot(NamedTuple):
    """Where something is evaluated."""

    file: SourceFile
    scope: int
    order: int
    block: int

    @property
    def within(self) -> Scope:
        return self.file.form.scopes[self.scope]

    def reaching(self, bindings: list[Binding]) -> list[Binding]:
        """Those that may have run last before the spot; all of them if none stands above it, as in a loop."""
        before = [binding for binding in bindings if binding.order < self.order]
        if not before:
            return bindings
        chosen = []
        for binding in reversed(before):
            chosen.append(binding)
            if self.within.encloses(binding.block, self.block):
                break
        return chosen


class Made(NamedTuple):
    """The call that made an object."""

    spot: Spot
    number: int
    """Index in the calls of its scope."""
    before: int = 0
    """How many of its arguments come before those of what it calls: 1 of `to_thread(redis.Redis, host="cache")`."""

    @property
    def site(self) -> Site:
        site = self.spot.within.calls[self.number]
        if not self.before:
            return site
        return replace(site, callee=site.arguments[self.before - 1], arguments=site.arguments[self.before :])


@dataclass(slots=True, unsafe_hash=True)
class Symbol:
    """A module, class or function outside of the tree, by its dotted path."""

    path: str


@dataclass(slots=True, unsafe_hash=True)
class ClientValue:
    """An object of a class in the table; `made` is None for one that was handed in."""

    client: Client
    made: Made | None = None
    of: ClientValue | None = None
    """The client that made it."""
    subclass: ClassValue | None = None
    """The class of the tree that it really is an object of."""
    path: str = ""
    """The symbol that was called for it."""
    through: Made | None = None
    """The call of the function of the tree that made it."""

    def gives(self, client: Client, made: Made | None, path: str = "") -> ClientValue:
        """What it makes, has or holds; what a loop makes of itself (`row = row.parent`) is made once."""
        each: ClientValue | None = self
        while each is not None:
            if each.client is client and each.made == made:
                return each
            each = each.of
        return ClientValue(client, made, self, None, path)


@dataclass(slots=True, unsafe_hash=True)
class Method:
    """What stands behind a client: `get`, `chat.completions.create`."""

    owner: ClientValue
    name: str


@dataclass(slots=True, unsafe_hash=True)
class ModuleValue:
    file: SourceFile


@dataclass(slots=True, unsafe_hash=True)
class ClassValue:
    file: SourceFile
    scope: int

    @property
    def within(self) -> Scope:
        return self.file.form.scopes[self.scope]


@dataclass(slots=True, unsafe_hash=True)
class Instance:
    of: ClassValue
    made: Made | None = None


@dataclass(slots=True, unsafe_hash=True)
class Parents:
    """`super()` in a method of the class."""

    of: ClassValue


@dataclass(slots=True, unsafe_hash=True)
class FunctionValue:
    file: SourceFile
    scope: int
    bound: bool = False
    """Whether its first parameter is given already."""

    @property
    def within(self) -> Scope:
        return self.file.form.scopes[self.scope]


@dataclass(slots=True, unsafe_hash=True)
class Partial:
    """`functools.partial(target, …)`; `made` is that call."""

    target: Value
    made: Made


@dataclass(slots=True, unsafe_hash=True)
class Opaque:
    """What calling something outside of the tree and of the table gave."""

    path: str
    made: Made


@dataclass(slots=True, unsafe_hash=True)
class Many:
    """A container, by what it holds."""

    values: tuple[Value, ...]


@dataclass(slots=True, eq=False)
class Data:
    """A constant, a dict, a sequence, a lambda, a type or a variable of the environment as it is written."""

    expression: Expression
    spot: Spot

    def __eq__(self, other: object) -> bool:
        """Whether it stands in the same place."""
        return isinstance(other, Data) and self.expression is other.expression and self.spot == other.spot

    def __hash__(self) -> int:
        return hash((id(self.expression), self.spot))


Value = (
    Symbol
    | ClientValue
    | Method
    | ModuleValue
    | ClassValue
    | Instance
    | Parents
    | FunctionValue
    | Partial
    | Opaque
    | Many
    | Data
)
Values = tuple[Value, ...]


def best(*choices: Values) -> Values:
    """The first that says what something is: an object of this tree or of the table; else the first that says anything.

    What comes from outside of both tells less than an annotation does.
    """
    for values in choices:
        if any(_tells(value) for value in values):
            return values
    return next((values for values in choices if values), ())


def _tells(value: Value) -> bool:
    if isinstance(value, Data):  # a container, whatever is put into it
        return value.expression is not None and value.expression[0] in ("dict", "seq")
    return not isinstance(value, (Symbol, Opaque))


def made(values: Values) -> Values:
    """All but what an annotation says, which does not know how it was made: `queue: Queue[Connection]`."""
    return tuple([value for value in values if not (isinstance(value, ClientValue) and value.made is None)])


def union(found: list[Values]) -> Values:
    """All of them, each once, in order."""
    if len(found) < 2:
        return found[0] if found else ()
    some = [values for values in found if values]
    if len(some) < 2 and (not some or len(some[0]) == 1):  # nearly always, and it takes time to compare values
        return some[0] if some else ()
    return tuple(dict.fromkeys(value for values in some for value in values))[:MOST]
