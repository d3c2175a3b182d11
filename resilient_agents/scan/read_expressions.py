"""A syntax tree of `ast` as a Form: its expressions, and what they bind."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from resilient_agents.scan.form import (
    Binding,
    Block,
    Expression,
    Parameter,
    Scope,
    Site,
    dotted,
    either,
    item_path,
    named_key,
    set_path,
    starting,
)
from resilient_agents.scan.read_dicts import kept

__all__ = ["THREADS", "Expressions"]

LONGEST = 300
"""Characters of a text constant that are kept."""
LIMITERS = frozenset({"wait_for", "acall", "call", "run_until_complete"})
"""Names of callees that may limit what stands in their arguments: only there is it worth a block of its own."""
THREADS = frozenset({"to_thread", "run_in_executor", "run_sync", "run_in_threadpool"})
"""Those that run what they are given in a thread, and are awaited: as a lambda it stands in their arguments."""
NOTHING: dict[str, Expression] = {}
"""The keywords of all calls without any."""
COLLECTORS = frozenset({"append", "add", "appendleft", "put", "put_nowait", "register"})
SETTERS = frozenset({"setattr", "__setattr__"})
ANNOTATION = re.compile(r"[A-Za-z_][\w.]*(\s*[\[|].*)?\Z", re.DOTALL)


class Expressions:
    """The half of the reader that knows expressions; `scope`, `index` and `block` say where it is."""

    def __init__(self) -> None:
        self.scope = Scope("module", "", -1)
        self.scopes = [self.scope]
        self.imported: set[str] = set()
        self.stars: list[tuple[int, str]] = []
        self.index = 0
        self.block = 0
        self.order = 0
        self.shift = 0
        self.same: dict[Any, Expression] = {}  # names, constants and attributes of names, each once
        self.elsewhere: dict[tuple[int, str], int] = {}  # names that a scope declares global or nonlocal, and whose

    def bind(self, path: str, value: Expression, line: int) -> None:
        self.order += 1
        scope, order, block = self.scope, self.order, self.block
        if self.elsewhere and (owner := self.elsewhere.get((self.index, path))) is not None:
            value = ("in", self.index, value, order, block)
            scope, order, block = self.scopes[owner], 1 << 30, 0
        scope.bindings.setdefault(path, []).append(Binding(value, order, block, line + self.shift))

    def enter(self, kind: str, about: Expression = None) -> int:
        """Start a block; returns the one to come back to."""
        before = self.block
        self.scope.blocks.append(Block(before, kind, about))
        self.block = len(self.scope.blocks) - 1
        return before

    def expression(self, node: ast.AST | None) -> Expression:
        handler = EXPRESSIONS.get(type(node))
        if handler is not None:
            return handler(self, node)
        if node is not None:
            self.parts(node)
        return None

    def parts(self, node: ast.AST) -> None:
        """Of a node that says nothing itself: what is in it."""
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                for each in value:
                    self.part(each)
            elif isinstance(value, ast.AST):
                self.part(value)

    def part(self, node: Any) -> None:
        if isinstance(node, ast.expr):
            self.expression(node)
        elif isinstance(node, ast.AST):
            self.parts(node)

    def annotation(self, node: ast.expr | None) -> Expression:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ANNOTATION.match(node.value):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return None
        return self.expression(node)

    def target(self, node: ast.AST, value: Expression) -> None:
        if isinstance(node, ast.Name):
            self.bind(node.id, value, node.lineno)
        elif isinstance(node, (ast.Tuple, ast.List)):
            for index, element in enumerate(node.elts):
                self.target(element, value and ("part", value, index))
        elif isinstance(node, ast.Starred):
            self.target(node.value, None)
        else:
            path = dotted(self.expression(node))
            if path:
                self.bind(path, value, getattr(node, "lineno", 0))
            if path.endswith("[]") and isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                self.bind(item_path(path, node.slice.value), value, node.lineno)

    def parameters(self, arguments: ast.arguments) -> tuple[Parameter, ...]:
        found = []
        positional = arguments.posonlyargs + arguments.args
        defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
        for each, default in zip(positional, defaults, strict=True):
            found.append(self.parameter(each, default, "positional"))
        if arguments.vararg:
            found.append(self.parameter(arguments.vararg, None, "rest"))
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            found.append(self.parameter(each, default, "keyword"))
        if arguments.kwarg:
            found.append(self.parameter(arguments.kwarg, None, "options"))
        return tuple(found)

    def parameter(self, node: ast.arg, default: ast.expr | None, kind: str) -> Parameter:
        return Parameter(node.arg, self.annotation(node.annotation), self.expression(default), kind)

    def on_name(self, node: ast.Name) -> Expression:
        made = ("name", node.id)
        return self.same.setdefault(made, made)

    def on_attribute(self, node: ast.Attribute) -> Expression:
        value = self.expression(node.value)
        made = ("attr", value, node.attr)
        return self.same.setdefault(made, made) if value is not None and value[0] == "name" else made

    def on_constant(self, node: ast.Constant) -> Expression:
        value = node.value
        if isinstance(value, str):
            return self.constant(value) if len(value) <= LONGEST else None
        return self.constant(value) if value is None or isinstance(value, (bool, int, float)) else None

    def constant(self, value: object) -> Expression:
        return self.same.setdefault((type(value), value), ("const", value))

    def on_call(self, node: ast.Call) -> Expression:
        function = node.func
        callee = self.expression(function)
        name = function.attr if type(function) is ast.Attribute else getattr(function, "id", "")
        number = len(self.scope.calls)
        site = Site(
            callee,
            (),
            NOTHING,
            (),
            False,
            node.lineno + self.shift,
            node.col_offset,
            (node.end_lineno or node.lineno) + self.shift,
            node.end_col_offset or 0,
            0,
            self.block,
        )
        self.scope.calls.append(site)
        before = self.enter("argument", ("call", number)) if name in LIMITERS or name in THREADS else self.block
        self.arguments(site, node, name)
        self.block = before
        self.order += 1
        site.order = self.order
        if name in COLLECTORS and site.arguments and (path := dotted(callee)):
            self.bind(path.removesuffix(f".{name}") + "[]", site.arguments[0], node.lineno)
        if name in SETTERS and (path := set_path(site)):
            self.bind(path, site.arguments[-1], node.lineno)
        return ("call", number)

    def arguments(self, site: Site, node: ast.Call, name: str) -> None:
        if node.args:
            found = []
            for each in node.args:
                site.starred = site.starred or type(each) is ast.Starred
                value = self.expression(each.value if type(each) is ast.Starred else each)
                if not site.starred or name == "gather":  # nobody can tell positions behind a star; here none matters
                    found.append(value)
            site.arguments = tuple(found)
        if node.keywords:
            site.keywords = {}
        for keyword in node.keywords:
            value = self.expression(keyword.value)
            if keyword.arg is None:
                site.spread += (value,)
            else:
                site.keywords[keyword.arg] = value

    def on_await(self, node: ast.Await) -> Expression:
        value = self.expression(node.value)
        self.await_call(value)
        return value and ("await", value)

    def await_call(self, value: Expression) -> None:
        """Where an expression is a call, its result is awaited, entered or iterated by asynchronous code."""
        if value is not None and value[0] == "call":
            self.scope.calls[value[1]].awaited = True

    def on_either(self, node: ast.BoolOp) -> Expression:
        return either([self.expression(each) for each in node.values])

    def on_if_expression(self, node: ast.IfExp) -> Expression:
        self.expression(node.test)
        return either([self.expression(node.body), self.expression(node.orelse)])

    def on_binary(self, node: ast.BinOp) -> Expression:
        left, right = self.expression(node.left), self.expression(node.right)
        if type(node.op) is ast.Add and left is not None:
            lists = "seq" in (left[0], right and right[0])
            return ("joined", left, right) if lists else starting(left, right)
        return either([left, right]) if type(node.op) is ast.BitOr else None

    def on_text(self, node: ast.JoinedStr) -> Expression:
        found = [self.expression(each.value if type(each) is ast.FormattedValue else each) for each in node.values]
        return starting(found[0], found[-1]) if found else None

    def on_unary(self, node: ast.UnaryOp) -> Expression:
        value = self.expression(node.operand)
        if type(node.op) is ast.USub and value and value[0] == "const" and isinstance(value[1], (int, float)):
            return ("const", -value[1])
        return None

    def on_dict(self, node: ast.Dict) -> Expression:
        found: dict[str, Expression] = {}
        whole = True
        others: list[Expression] = []
        for key, each in zip(node.keys, node.values, strict=True):
            value = self.expression(each)
            if key is None:
                others.append(value)
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                found[key.value] = value
            else:
                whole = False
                found.setdefault(named_key(self.expression(key)), value)
        return ("dict", found, whole, tuple(others))

    def on_sequence(self, node: ast.Tuple | ast.List | ast.Set) -> Expression:
        return ("seq", tuple([self.expression(each) for each in node.elts]))

    def on_subscript(self, node: ast.Subscript) -> Expression:
        return ("item", self.expression(node.value), self.expression(node.slice))

    def on_walrus(self, node: ast.NamedExpr) -> Expression:
        value = self.expression(node.value)
        self.bind(node.target.id, value, node.lineno)
        return value

    def on_lambda(self, node: ast.Lambda) -> Expression:
        self.parameters(node.args)
        before = self.enter("lambda")
        value = self.expression(node.body)
        self.block = before
        return value and ("lambda", value)

    def on_yield(self, node: ast.Yield) -> Expression:
        value = self.expression(node.value)
        self.scope.yields = True
        if value is not None:
            self.order += 1
            self.scope.results.append(Binding(value, self.order, self.block, node.lineno))
        return None

    def on_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Expression:
        items: Expression = None
        for generator in node.generators:
            value = self.expression(generator.iter)
            items = items or value
            self.target(generator.target, value and ("each", value))
            for test in generator.ifs:
                self.expression(test)
        before = self.enter("each", items)
        if isinstance(node, ast.DictComp):
            self.expression(node.key)
            made = self.expression(node.value)
            value = kept(node, items, self.scope.calls) or (made and ("dict", {"": made}, False, ()))
        else:
            made = self.expression(node.elt)
            value = made and ("seq", (made,))
        self.block = before
        return value


EXPRESSIONS: dict[type, Callable[[Any, Any], Expression]] = {
    ast.Name: Expressions.on_name,
    ast.Attribute: Expressions.on_attribute,
    ast.Constant: Expressions.on_constant,
    ast.Call: Expressions.on_call,
    ast.Await: Expressions.on_await,
    ast.BoolOp: Expressions.on_either,
    ast.IfExp: Expressions.on_if_expression,
    ast.BinOp: Expressions.on_binary,
    ast.JoinedStr: Expressions.on_text,
    ast.UnaryOp: Expressions.on_unary,
    ast.Dict: Expressions.on_dict,
    ast.Tuple: Expressions.on_sequence,
    ast.List: Expressions.on_sequence,
    ast.Set: Expressions.on_sequence,
    ast.Subscript: Expressions.on_subscript,
    ast.NamedExpr: Expressions.on_walrus,
    ast.Lambda: Expressions.on_lambda,
    ast.Yield: Expressions.on_yield,
    ast.ListComp: Expressions.on_comprehension,
    ast.SetComp: Expressions.on_comprehension,
    ast.GeneratorExp: Expressions.on_comprehension,
    ast.DictComp: Expressions.on_comprehension,
}
