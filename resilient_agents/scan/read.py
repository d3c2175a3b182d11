"""A syntax tree of `ast` as a Form: its statements.

One pass and one dispatch a node: this is most of the time of a scan.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable
from typing import Any

from resilient_agents.scan.form import SERVED, Binding, Expression, Form, Scope
from resilient_agents.scan.handlers import handled
from resilient_agents.scan.read_expressions import Expressions
from resilient_agents.scan.repair import Shifted

__all__ = ["read"]

PRAGMA = re.compile(r"#\s*resilient:\s*ignore\b.*")


def read(tree: ast.Module, text: str) -> Form:
    """The Form of a tree; `text` is what it was made from, for its comments."""
    reader = _Statements()
    reader.statements(tree.body)
    if ".state." in text or "lifespan" in text:
        reader.imported.add(SERVED)
    form = Form(reader.scopes, reader.stars, frozenset(reader.imported))
    if PRAGMA.search(text):
        form.comments.update((number, found[0]) for number, line in _comments(text) if (found := PRAGMA.search(line)))
    return form


def _comments(text: str) -> list[tuple[int, str]]:
    """The comments of a file, and where they stand; its lines, if it cannot be told what of them is one."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return list(enumerate(text.split("\n"), 1))
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


class _Statements(Expressions):
    def statements(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            handler = STATEMENTS.get(type(node))
            if handler is not None:
                handler(self, node)
            else:
                self.parts(node)

    def within(self, kind: str, about: Expression, body: Iterable[ast.stmt]) -> None:
        before = self.enter(kind, about)
        self.statements(body)
        self.block = before

    def on_import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imported.add(alias.name)
            if alias.asname:
                self.bind(alias.asname, ("import", alias.name), node.lineno)
            else:
                self.bind(alias.name.split(".", 1)[0], ("import", alias.name.split(".", 1)[0]), node.lineno)

    def on_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            self.imported.add(f"{module}:{alias.name}")
            if alias.name == "*":
                self.stars.append((node.level, node.module or ""))
            else:
                self.bind(alias.asname or alias.name, ("from", node.level, node.module or "", alias.name), node.lineno)

    def on_expr(self, node: ast.Expr) -> None:
        self.expression(node.value)

    def on_assign(self, node: ast.Assign) -> None:
        value = self.expression(node.value)
        for target in node.targets:
            self.target(target, value)

    def on_annotated(self, node: ast.AnnAssign) -> None:
        annotation = self.annotation(node.annotation)
        value = self.expression(node.value)
        typed = annotation and ("typed", annotation)
        self.target(node.target, ("first", (value, typed)) if value and typed else value or typed)

    def on_augmented(self, node: ast.AugAssign) -> None:
        value = self.expression(node.value)
        if type(node.op) is ast.BitOr and type(node.target) is ast.Name and value and value[0] in ("dict", "call"):
            self.target(node.target, ("dict", {}, True, (self.expression(node.target), value)))

    def on_for(self, node: ast.For | ast.AsyncFor) -> None:
        before = self.enter("loop")
        loop = self.enter("head")
        value = self.expression(node.iter)
        self.block = loop
        if value is not None and value[0] == "call":  # what gives what is gone over itself may ask for each item
            self.scope.calls[value[1]].block = loop
        if type(node) is ast.AsyncFor:
            self.await_call(value)
        self.target(node.target, value and ("each", value))
        self.statements(node.body)
        self.statements(node.orelse)
        self.block = before

    def on_while(self, node: ast.While) -> None:
        before = self.enter("loop")
        test = self.expression(node.test)
        self.within("while", test, node.body)
        self.statements(node.orelse)
        self.block = before

    def on_if(self, node: ast.If) -> None:
        test = self.expression(node.test)
        self.within("if", test, node.body)
        if node.orelse:
            self.within("other", test, node.orelse)

    def on_with(self, node: ast.With | ast.AsyncWith) -> None:
        before = self.block
        for item in node.items:
            value = self.expression(item.context_expr)
            if type(node) is ast.AsyncWith:
                self.await_call(value)
            self.enter("with", value)
            if item.optional_vars is not None:
                self.target(item.optional_vars, value and ("enter", value))
        self.statements(node.body)
        self.block = before

    def on_try(self, node: ast.Try) -> None:
        if node.handlers:
            self.within("try", ("const", handled(node.body, node.handlers)), node.body)
        else:
            self.statements(node.body)
        for handler in node.handlers:
            if handler.type is not None:
                self.expression(handler.type)
            self.within("other", None, handler.body)
        if node.orelse:
            self.within("other", None, node.orelse)
        self.statements(node.finalbody)

    def on_return(self, node: ast.Return) -> None:
        value = self.expression(node.value)
        if value is not None:
            self.order += 1
            self.scope.results.append(Binding(value, self.order, self.block, node.lineno))

    def on_global(self, node: ast.Global) -> None:
        for name in node.names:
            self.elsewhere[self.index, name] = 0

    def on_nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            owner = self.scope.parent
            while owner > 0 and name not in self.scopes[owner].bindings:
                owner = self.scopes[owner].parent
            self.elsewhere[self.index, name] = max(owner, 0)

    def on_class(self, node: ast.ClassDef) -> None:
        decorators = tuple(self.expression(each) for each in node.decorator_list)
        bases = tuple(self.expression(each) for each in node.bases)
        for keyword in node.keywords:
            self.expression(keyword.value)
        scope = Scope("class", node.name, self.index, node.lineno + self.shift, decorators=decorators, bases=bases)
        self.inner(scope, node.body)

    def on_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = tuple(self.expression(each) for each in node.decorator_list)
        parameters = self.parameters(node.args)
        returns = self.annotation(node.returns)
        is_async = type(node) is ast.AsyncFunctionDef
        scope = Scope(
            "function", node.name, self.index, node.lineno + self.shift, is_async, parameters, decorators, (), returns
        )
        for position, parameter in enumerate(parameters):
            scope.bindings[parameter.name] = [Binding(("param", position), 0, 0, node.lineno)]
        self.inner(scope, node.body)

    def inner(self, scope: Scope, body: Iterable[ast.stmt]) -> None:
        number = len(self.scopes)
        self.bind(scope.name, ("scope", number), scope.line - self.shift)
        self.scopes.append(scope)
        before = self.scope, self.index, self.block, self.order
        self.scope, self.index, self.block, self.order = scope, number, 0, 0
        self.statements(body)
        self.scope, self.index, self.block, self.order = before

    def on_shifted(self, node: Shifted) -> None:
        before = self.shift
        self.shift = node.shift
        self.statements(node.body)
        self.shift = before

    def on_match(self, node: ast.Match) -> None:
        self.expression(node.subject)
        for case in node.cases:
            self.within("other", self.expression(case.guard), case.body)


STATEMENTS: dict[type, Callable[[Any, Any], None]] = {
    ast.Import: _Statements.on_import,
    ast.ImportFrom: _Statements.on_from,
    ast.Expr: _Statements.on_expr,
    ast.Assign: _Statements.on_assign,
    ast.AnnAssign: _Statements.on_annotated,
    ast.AugAssign: _Statements.on_augmented,
    ast.For: _Statements.on_for,
    ast.AsyncFor: _Statements.on_for,
    ast.While: _Statements.on_while,
    ast.If: _Statements.on_if,
    ast.With: _Statements.on_with,
    ast.AsyncWith: _Statements.on_with,
    ast.Try: _Statements.on_try,
    ast.TryStar: _Statements.on_try,
    ast.Match: _Statements.on_match,
    Shifted: _Statements.on_shifted,
    ast.Return: _Statements.on_return,
    ast.Global: _Statements.on_global,
    ast.Nonlocal: _Statements.on_nonlocal,
    ast.ClassDef: _Statements.on_class,
    ast.FunctionDef: _Statements.on_function,
    ast.AsyncFunctionDef: _Statements.on_function,
}
