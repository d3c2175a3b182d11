"""What one file says, as plain data: scopes with their names, their calls, and the blocks that these stand in.

Everything that follows (types, limits, rules, fixes) reads this and never the file itself, so that it does not matter
whether `ast` could read the file as it is or only in pieces.

An expression is a tuple whose first item says what it is, or None for one that nothing can be learnt from:

    ("name", identifier)          ("attr", expression, name)       ("call", index in Scope.calls)
    ("const", value)              ("item", expression, key)        ("await", expression)
    ("enter", expression)         ("each", expression)             ("part", expression, index)
    ("seq", (expression, ...))    ("either", (expression, ...))    ("first", (expression, ...)), the first that is known
    ("dict", {key: expression}, whether these are all its keys, (expression behind **, ...)); "=name" for a key that
        is a name
    ("starts", expression, text), a string that begins with the one and ends with the other, "" where that is not known
    ("joined", expression, expression), a list of the one and the other
    ("param", index)              ("scope", index in Form.scopes)  ("lambda", expression)
    ("import", module)            ("from", dots, module, name)     ("typed", annotation)
    ("in", index in Form.scopes, expression, order, block), one that a nested scope bound
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = [
    "ROOT",
    "SERVED",
    "Binding",
    "Block",
    "Expression",
    "Form",
    "Outline",
    "Parameter",
    "Scope",
    "Site",
    "declares",
    "dotted",
    "either",
    "item_path",
    "last_name",
    "named",
    "named_key",
    "nesting",
    "set_path",
    "source_of",
    "starting",
]

Expression = tuple[Any, ...] | None

SERVED = ":state"
"""Stands among the imports of a file that may share what a server holds: its state, and what its lifespan yields."""
ROOT = 0
"""The block that a scope itself is."""


class Binding(NamedTuple):
    """A name, or a dotted path such as `self.client` or `clients[]`, that is given a value."""

    value: Expression
    order: int
    """Counts bindings and calls of a scope as they are evaluated; parameters have 0."""
    block: int
    line: int


class Block(NamedTuple):
    """What part of a scope a statement stands in."""

    parent: int
    kind: str
    """scope, try (a body with a handler), other (a handler, `else`, a case), loop, while (the body of one), each, if,
    with, lambda, argument"""
    about: Expression
    """The test of an if or while, the item of a with, the items of a comprehension, the call whose argument it is; of a
    try whether a handler gives something in place of what failed."""


class Parameter(NamedTuple):
    name: str
    annotation: Expression
    default: Expression
    kind: str
    """positional, keyword, rest, options"""


@dataclass(slots=True)
class Site:
    """A call expression."""

    callee: Expression
    arguments: tuple[Expression, ...]
    keywords: dict[str, Expression]
    spread: tuple[Expression, ...]
    """What stands behind `**`."""
    starred: bool
    """Something stands behind `*`, so that positions are unknown."""
    line: int
    column: int
    end_line: int
    end_column: int
    order: int
    block: int
    awaited: bool = False
    """By `await`, `async with` or `async for`."""


Body = tuple[dict[str, list[Binding]], list[Site], list[Binding], list[Block]]


@dataclass(slots=True)
class Scope:
    """A module, a class or a function; what stands in it may still be packed, and is unpacked when it is asked for."""

    kind: str
    """module, class or function"""
    name: str
    parent: int
    line: int = 0
    is_async: bool = False
    parameters: tuple[Parameter, ...] = ()
    decorators: tuple[Expression, ...] = ()
    bases: tuple[Expression, ...] = ()
    returns: Expression = None
    """The annotation."""
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    calls: list[Site] = field(default_factory=list)
    results: list[Binding] = field(default_factory=list)
    """What it returns, and what it yields."""
    yields: bool = False
    blocks: list[Block] = field(default_factory=lambda: [Block(-1, "scope", None)])
    body: Callable[[], Body] | None = field(default=None, repr=False, compare=False)
    """Gives bindings, calls, results and blocks where these are not set."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in ("bindings", "calls", "results", "blocks") and self.body is not None:
                self.bindings, self.calls, self.results, self.blocks = self.body()
                self.body = None
                return getattr(self, name)
            raise AttributeError(name)

    def inside(self, block: int) -> list[Block]:
        """The blocks around something, innermost first."""
        found = []
        while block >= 0:
            found.append(self.blocks[block])
            block = self.blocks[block].parent
        return found

    def repeats(self, block: int) -> bool:
        """Whether a loop runs what stands there more than once; each head belongs to one loop around it."""
        around = [each.kind for each in self.inside(block)]
        return around.count("loop") > around.count("head")

    def encloses(self, outer: int, block: int) -> bool:
        """Whether what stands in `outer` has run whenever something later in `block` runs."""
        while block > outer:  # a block is made after its parent
            block = self.blocks[block].parent
        return block == outer


class Outline(NamedTuple):
    """What is asked about many files of which little else is."""

    calls: dict[str, list[tuple[int, int]]]
    """(scope, index) of its calls, by the last word of the callee and by `name()` of what they hand on."""
    given: frozenset[str]
    """The dotted paths that are given a value in it but for those of `self`, and the last words of all of them."""
    handed: frozenset[str]
    """Last words of what may be a function that is handed over to be called back."""


@dataclass(slots=True)
class Form:
    """A file."""

    scopes: list[Scope]
    stars: list[tuple[int, str]] = field(default_factory=list)
    """(dots, module) of each `from module import *`."""
    imported: frozenset[str] = frozenset()
    """What it imports: `a.b` for `import a.b`, `..a:b` for `from ..a import b`; and SERVED."""
    comments: dict[int, str] = field(default_factory=dict)
    """Line and text of the comments that speak to the scanner."""
    outline: Outline | None = field(default=None, repr=False, compare=False)
    """Once it was made."""

    def class_around(self, index: int) -> int:
        """The innermost class around what stands in a scope, or that scope; -1 for none."""
        while index >= 0 and self.scopes[index].kind != "class":
            index = self.scopes[index].parent
        return index

    def function(self, index: int) -> Scope | None:
        """The innermost `def` around what stands in a scope."""
        while index >= 0:
            scope = self.scopes[index]
            if scope.kind == "function":
                return scope
            index = scope.parent
        return None

    def qualified(self, index: int) -> str:
        names = []
        while index > 0:
            names.append(self.scopes[index].name)
            index = self.scopes[index].parent
        return ".".join(reversed(names))


def dotted(expression: Expression) -> str:
    """`self.client` as it is written, `clients[]` for an item; empty for anything that is more than names."""
    if expression is None:
        return ""
    kind = expression[0]
    if kind == "name":
        return str(expression[1])
    if kind == "attr":
        base = dotted(expression[1])
        return f"{base}.{expression[2]}" if base else ""
    if kind == "item":
        base = dotted(expression[1])
        return f"{base}[]" if base else ""
    return ""


def item_path(path: str, key: object) -> str:
    """`clients['a']` for a key of `clients[]`; what is put into an object's `__dict__` is an attribute of it."""
    owner = path.removesuffix(".__dict__[]")
    return f"{owner}.{key}" if owner != path and isinstance(key, str) else f"{path[:-1]}{key!r}]"


def set_path(site: Site) -> str:
    """`self.client` of `setattr(self, "client", …)`, and of `super().__setattr__("client", …)`; "" where it is open."""
    if not 2 <= len(site.arguments) <= 3 or site.starred:
        return ""
    owner = "self" if len(site.arguments) == 2 else dotted(site.arguments[0])
    name = site.arguments[-2]
    text = name[1] if name is not None and name[0] == "const" else None
    return f"{owner}.{text}" if owner and isinstance(text, str) else ""


def source_of(expression: Expression) -> str:
    """The name that stands for what a name is given, in a loop `names[]` for what holds it; "" for all the rest."""
    if expression is None or expression[0] == "call":
        return ""
    return f"{dotted(expression[1])}[]" if expression[0] == "each" else dotted(expression)


def named(path: str) -> Expression:
    """The expression that is written so: names, and nothing else."""
    first, *rest = path.split(".")
    found: Expression = ("name", first)
    for word in rest:
        found = ("attr", found, word)
    return found


def declares(expression: Expression) -> bool:
    """Whether it only says what a name will be: `client: Client` and `client: Client | None = None`."""
    if expression is not None and expression[0] == "first":
        return bool(expression[1][0] == ("const", None))
    return expression is not None and expression[0] == "typed"


def last_name(expression: Expression) -> str:
    """`get` of `requests.get`, of `get` and of `client().get`."""
    if expression is None:
        return ""
    if expression[0] == "attr":
        return str(expression[2])
    return str(expression[1]) if expression[0] == "name" else ""


def named_key(key: Expression) -> str:
    """How a dict of a form keeps a key that is a name of something, `=zmq.RCVTIMEO`; "" for what cannot be told."""
    path = dotted(key)
    return f"={path}" if path and "[]" not in path else ""


def either(values: list[Expression]) -> Expression:
    """One of several, as far as they are known."""
    known = tuple([value for value in values if value is not None])
    if len(known) < len(values) and all(value == ("const", None) for value in known):
        return None  # it may be what nothing is known of
    return None if not known else known[0] if len(known) == 1 else ("either", known)


def starting(first: Expression, last: Expression) -> Expression:
    """A string that is put together, by its two ends."""
    end = last[1] if last is not None and last[0] == "const" and isinstance(last[1], str) else ""
    return ("starts", first, end) if first is not None else None


def nesting(form: Form) -> int:
    """Levels of its deepest expression: calls of calls, attributes of attributes."""
    deepest = 0
    for scope in form.scopes:
        calls: list[int] = []
        for site in scope.calls:  # a callee is made of calls that stand before it
            calls.append(_levels(site.callee, calls))
        values = [binding.value for bindings in scope.bindings.values() for binding in bindings]
        values += [each for site in scope.calls for each in (*site.arguments, *site.keywords.values())]
        deepest = max(deepest, *calls, *(_levels(each, calls) for each in values), 0)
    return deepest


def _levels(expression: Expression, calls: list[int]) -> int:
    deepest = 0
    left: list[tuple[Any, int]] = [(expression, 1)]
    while left:
        each, level = left.pop()
        known = isinstance(each, tuple) and each[:1] == ("call",) and each[1] < len(calls)
        deepest = max(deepest, level + (calls[each[1]] if known else 0))
        parts = each.values() if isinstance(each, dict) else each if isinstance(each, tuple) else ()
        left += [(part, level + 1) for part in parts if isinstance(part, (tuple, dict))]
    return deepest
