"""The expressions of a file as an example can have them: without anything that would do work of its own.

Constants, parameters, containers, what is imported and the calls of clients stay as they are written. For anything else
stands `given("…")` with its text: only the file itself can say what that is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from resilient_agents.scan.advice.examples.sources import Source

__all__ = ["GIVEN", "GIVEN_MORE", "RESERVED", "Kept", "Unfit", "Words", "short"]

LONGEST = 60
"""Characters of what `given` says."""
DEEPEST = 4
"""Names that stand for names."""

IMPORTED = ("Any", "CallEnded", "Event", "HealthCheck", "HealthMonitor", "Outage", "Policy", "Registry", "tomllib")
RESERVED = frozenset(
    ["given", "given_more", "policies", "monitor", "drill", "stand_in", "resilient", "patch", *IMPORTED]
)
"""Names that an example needs for itself."""

GIVEN = (
    "",
    "",
    "def given(source: str) -> Any:",
    '    """What stands in the file here; only the file can say what that is."""',
    "    return source",
)


GIVEN_MORE = (
    "",
    "",
    "def given_more(source: str) -> Any:",
    '    """What more stands in the file here; only the file can say what that is."""',
    "    return {}",
)
"""How an example defines what stands for what only its file has, and for what is unpacked there."""


class Unfit(Exception):
    """Why something cannot be part of an example."""


@dataclass
class Kept:
    """What an example takes over from the top of its file, in the order in which it is needed."""

    external: Collection[str]
    """Top-level modules whose imports it may take over."""
    imports: dict[str, ast.stmt] = field(default_factory=dict)
    constants: dict[str, ast.stmt] = field(default_factory=dict)


@dataclass
class Words:
    """The expressions of one function; of the top of a file where it has no parameters.

    `calls`: places of the calls that the example is about, and what becomes of each: it gets the call as rewritten.
    """

    source: Source
    kept: Kept
    parameters: Collection[str] = ()
    local: dict[str, list[ast.expr]] = field(default_factory=dict)
    """What names of the function are, as far as an assignment says it."""
    answers: set[str] = field(default_factory=set)
    """Names that hold something the example itself has."""
    calls: dict[int, Callable[[ast.Call], ast.expr]] = field(default_factory=dict)
    """By `id` of the node."""
    places: dict[int, ast.expr] = field(default_factory=dict)
    """What stands in place of a node, by its `id`: a client that the example makes in its own way."""
    foreign: Collection[int] = ()
    """Calls that leave the process and are not what the example is about."""
    imports: dict[str, ast.stmt] = field(default_factory=dict)
    """Those inside the function."""
    depth: int = 0

    def has_call(self, node: ast.AST) -> bool:
        return any(id(each) in self.calls for each in ast.walk(node))

    def outermost(self, node: ast.AST) -> Iterator[ast.Call]:
        """The calls in it that stand in no other of them."""
        if id(node) in self.calls and isinstance(node, ast.Call):
            yield node
            return
        for inside in ast.iter_child_nodes(node):
            yield from self.outermost(inside)

    def expression(self, node: ast.expr) -> ast.expr:
        """The expression as it is, with `given` for what is not for an example. Raises Unfit."""
        if id(node) in self.calls and isinstance(node, ast.Call):
            return self.calls[id(node)](node)
        if id(node) in self.places:
            return self.places[id(node)]
        made = self._made(node) if id(node) not in self.foreign else None
        if made is not None:
            return made
        if self.has_call(node):
            raise Unfit(f"what becomes of its answer is work of the file: {short(node)}")
        return self.given(node)

    def given(self, node: ast.expr) -> ast.expr:
        text = short(node) if self.source.whole else "..."
        return ast.Call(ast.Name("given", ast.Load()), [ast.Constant(text)], [])

    def spread(self, node: ast.expr) -> ast.expr:
        """What is unpacked: nothing stands for what only the file has."""
        made = self.expression(node)
        if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id == "given":
            made.func.id = "given_more"
        return made

    def _made(self, node: ast.expr) -> ast.expr | None:
        match node:
            case ast.Constant():
                return node
            case ast.Name(id=name):
                return self._name(name)
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                made = [self.expression(item) for item in items]
                return ast.Set(made) if isinstance(node, ast.Set) else type(node)(made, ast.Load())
            case ast.Dict():
                keys = [key and self.expression(key) for key in node.keys]
                pairs = zip(node.keys, node.values, strict=True)
                return ast.Dict(keys, [self.expression(each) if key else self.spread(each) for key, each in pairs])
            case ast.JoinedStr():
                return ast.JoinedStr([self._piece(each) for each in node.values])
            case ast.Starred(value=value):
                return ast.Starred(self.spread(value), ast.Load())
            case ast.Await(value=value) if self.has_call(value):
                return ast.Await(self.expression(value))
            case ast.BinOp(left=left, op=ast.Add(), right=right) if _text(left) or _text(right):
                return ast.BinOp(self.expression(left), ast.Add(), self.expression(right))
            case ast.UnaryOp(operand=ast.Constant()):
                return node
            case ast.Attribute() | ast.Call() | ast.Subscript():
                return self.chain(node)
            case _:
                return None

    def _name(self, name: str) -> ast.expr | None:
        if name in self.parameters or name in self.answers or name in ("True", "False", "None"):
            return ast.Name(name, ast.Load())
        if name in self.local:
            [value, *more] = self.local[name]
            empty = (isinstance(value, ast.List) and not value.elts) or (isinstance(value, ast.Dict) and not value.keys)
            if more or empty or self.depth > DEEPEST or self.has_call(value):
                return None
            self.depth += 1
            try:
                return self._made(value)
            finally:
                self.depth -= 1
        return ast.Name(name, ast.Load()) if self.keep(name) else None

    def to_thread(self) -> ast.expr:
        """`asyncio.to_thread`. Raises Unfit where the file has something else by that name."""
        if "asyncio" in self.source.bindings and not self._is_import("asyncio"):
            raise Unfit("it holds up the event loop, and asyncio is another name there")
        self.kept.imports.setdefault("asyncio", ast.Import([ast.alias("asyncio")]))
        return ast.Attribute(ast.Name("asyncio", ast.Load()), "to_thread", ast.Load())

    def keep(self, name: str) -> bool:
        """Take over what binds a name at the top of the file: an import of a library, or a constant."""
        bound = [self.imports[name]] if name in self.imports else self.source.bindings.get(name, [])
        if name in self.kept.imports or name in self.kept.constants:
            return True
        if name in RESERVED:
            return False
        found = [each for each in bound if isinstance(each, (ast.Import, ast.ImportFrom))]
        if found:
            lines = [self._import(each, name) for each in found]
            line = lines[0]
            if line is not None:
                more = [each.names for each in lines if isinstance(each, ast.Import)]
                if isinstance(line, ast.Import):  # `import a.b` and `import a.c` both bind `a`
                    line.names = [alias for names in more for alias in names]
                self.kept.imports[name] = line
            return line is not None
        if len(bound) == 1 and isinstance(bound[0], (ast.Assign, ast.AnnAssign)) and bound[0].value is not None:
            value = plain(bound[0].value)
            if value is not None:
                scalar = isinstance(value, ast.Constant)
                target = ast.Name(name, ast.Store())
                self.kept.constants[name] = (
                    ast.Assign([target], value, lineno=0)
                    if scalar
                    else ast.AnnAssign(target, ast.Name("Any", ast.Load()), value, 1)
                )
                return True
        return False

    def _import(self, node: ast.Import | ast.ImportFrom, name: str) -> ast.stmt | None:
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            module = alias.name if isinstance(node, ast.Import) else node.module or ""
            dots = node.level if isinstance(node, ast.ImportFrom) else 0
            if module.partition(".")[0] not in self.kept.external or dots:
                return None
            one = [ast.alias(alias.name, alias.asname)]
            return ast.Import(one) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, one, 0)
        return None

    def _piece(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.FormattedValue):
            value = self.expression(node.value)
            return ast.FormattedValue(value, node.conversion if node.format_spec is None else -1, None)
        return node

    def chain(self, node: ast.Attribute | ast.Call | ast.Subscript) -> ast.expr | None:
        """Attributes, calls and items of what is imported, of an answer, or of a call that the example is about."""
        base = self.root(node)
        fit = id(base) in self.calls or id(base) in self.places
        if not fit and not (isinstance(base, ast.Name) and (base.id in self.answers or self._is_import(base.id))):
            return None
        match node:
            case ast.Attribute(value=value, attr=attr):
                return ast.Attribute(self.expression(value), attr, ast.Load())
            case ast.Subscript(value=value, slice=item):
                return ast.Subscript(self.expression(value), self.expression(item), ast.Load())
            case ast.Call():
                made = self.called(node)
                around = [each for each in self._handed(node) if self.has_call(each)]
                if around and not all(each in around or plain(each) for each in self._handed(node)):
                    raise Unfit(f"what runs it is given what only the file has: {short(node)}")
                return made

    def _handed(self, node: ast.Call) -> list[ast.expr]:
        return [*node.args, *(word.value for word in node.keywords)]

    def root(self, node: ast.expr) -> ast.expr:
        """What a chain begins with: a name, or something that the example has an answer for."""
        while id(node) not in self.calls and id(node) not in self.places:
            match node:
                case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Await(value=inner):
                    node = inner
                case ast.Call(func=inner):
                    node = inner
                case _:
                    break
        return node

    def called(self, node: ast.Call) -> ast.Call:
        arguments = [self.expression(each) for each in node.args]
        keywords = [
            ast.keyword(each.arg, self.expression(each.value) if each.arg else self.spread(each.value))
            for each in node.keywords
        ]
        return ast.Call(self.expression(node.func), arguments, keywords)

    def _is_import(self, name: str) -> bool:
        return name not in self.local and name not in self.parameters and self.keep(name) and name in self.kept.imports


def plain(node: ast.expr) -> ast.expr | None:
    """A value that is written out; None for anything else."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return node


def short(node: ast.AST) -> str:
    try:
        text = " ".join(ast.unparse(node).split())
    except (AttributeError, ValueError, RecursionError):
        return "..."
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
