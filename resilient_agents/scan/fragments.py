"""The calls in a line that does not parse, from its tokens.

Names, attributes, calls and items are put together as far as they go, as nodes of `ast`; operators and keywords between
them are passed over, and what is never closed ends with the line.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

__all__ = ["fragment", "header_arguments"]

PARAMETER = re.compile(r"(\*{0,2}[A-Za-z_]\w*)\s*(?::[^,=()]*)?(=[^,]*)?")
KEYWORDS = (frozenset(keyword.kwlist) - {"None", "True", "False"}) | {"print", "exec"}
N = TypeVar("N", bound=ast.expr | ast.stmt)
CLOSERS = {"(": ")", "[": "]", "{": "}"}


class Token(NamedTuple):
    kind: str
    text: str
    line: int
    column: int


def fragment(code: str, column: int = 0) -> list[ast.stmt]:
    """Statements that hold the calls of a broken line; it starts at this column, and its lines count from 1."""
    return _Chains(list(_tokens(code, column))).statements()


def header_arguments(code: str) -> list[str]:
    """The parameters of a broken `def`, as far as they can be told."""
    inside = code.partition("(")[2].rpartition(")")[0] or code.partition("(")[2]
    names: list[str] = []
    for part in inside.split(","):
        match = PARAMETER.match(part.strip())
        name = match[1].lstrip("*") if match else ""
        if name and name not in KEYWORDS and name not in names and not part.strip().startswith("*"):
            names.append(name)
    return names


def _tokens(code: str, column: int) -> Iterator[Token]:
    from parso.python.token import PythonTokenTypes
    from parso.python.tokenize import tokenize
    from parso.utils import parse_version_string

    kept = {
        PythonTokenTypes.NAME: "name",
        PythonTokenTypes.NUMBER: "number",
        PythonTokenTypes.STRING: "string",
        PythonTokenTypes.FSTRING_START: "text",
        PythonTokenTypes.OP: "operator",
        PythonTokenTypes.ERRORTOKEN: "error",
    }
    for token in tokenize(code, version_info=parse_version_string("3.11"), start_pos=(1, column)):
        kind = kept.get(token.type)
        if kind is not None:
            yield Token(kind, token.string, *token.start_pos)


class _Chains:
    """A parser that never fails: what it does not know it leaves out."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.comma = False
        """Whether the last brackets held a comma, or not one thing: a tuple, then."""

    def peek(self, ahead: int = 0) -> Token:
        position = self.at + ahead
        return self.tokens[position] if position < len(self.tokens) else Token("end", "", 0, 0)

    def statements(self) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        while self.peek().kind != "end":
            before = self.at
            values = self.expressions(("",))
            while self.peek().text == ",":
                self.at += 1
                values += self.expressions(("",))
            simple = bool(values) and all(isinstance(each, (ast.Name, ast.Attribute)) for each in values)
            if simple and self.peek().text == "=":
                self.at += 1
                target = values[0] if len(values) == 1 else ast.Tuple(values, ast.Store())
                value = _together(self.expressions(("",)))
                found.append(_placed(ast.Assign([target], value, lineno=1), self.tokens[before]))
            else:
                found += [_placed(ast.Expr(value), self.tokens[before]) for value in values]
                self.at += self.peek().kind != "end"
            self.at = max(self.at, before + 1)
        return found

    def expressions(self, until: tuple[str, ...]) -> list[ast.expr]:
        """The chains up to a comma, an `=`, a closing bracket or one of these."""
        found: list[ast.expr] = []
        while True:
            token = self.peek()
            if token.kind == "end" or token.text in (",", "=", ")", "]", "}", ";") or token.text in until:
                return found
            chain = self.chain()
            if chain is not None:
                found.append(chain)
            else:
                self.at += 1

    def chain(self) -> ast.expr | None:
        token = self.peek()
        node: ast.expr | None = self.atom(token)
        if node is None:
            return None
        while True:
            after = self.peek()
            if after.text == "." and self.peek(1).kind == "name":
                node = _placed(ast.Attribute(node, self.peek(1).text, ast.Load()), token)
                self.at += 2
            elif after.text == "(":
                node = self.call(node, token)
            elif after.text == "[":
                node = _placed(ast.Subscript(node, _together(self.inside("[")), ast.Load()), token)
            else:
                return node

    def atom(self, token: Token) -> ast.expr | None:
        if token.kind == "name":
            if token.text in KEYWORDS:
                return None
            self.at += 1
            constants: dict[str, Any] = {"None": None, "True": True, "False": False}
            if token.text in constants:
                return _placed(ast.Constant(constants[token.text]), token)
            return _placed(ast.Name(token.text, ast.Load()), token)
        if token.kind in ("string", "number", "text"):
            self.at += 1
            return _placed(ast.Constant(_literal(token.text)), token)
        if token.text in CLOSERS:
            found = self.inside(token.text)
            whole = ast.Tuple(found, ast.Load()) if token.text != "{" else _together(found)
            return _placed(found[0] if token.text == "(" and not self.comma else whole, token)
        return None

    def inside(self, opening: str) -> list[ast.expr]:
        """What stands between brackets, without keys."""
        self.at += 1
        found: list[ast.expr] = []
        comma = False
        while (token := self.peek()).kind != "end":
            if token.text in (")", "]", "}"):
                self.at += 1
                break
            found += self.expressions((CLOSERS[opening],))
            comma = comma or self.peek().text == ","
            self.at += self.peek().text in (",", "=", ";")
        self.comma = comma or len(found) != 1
        return found

    def call(self, function: ast.expr, token: Token) -> ast.expr:
        self.at += 1
        arguments: list[ast.expr] = []
        keywords: list[ast.keyword] = []
        while (here := self.peek()).kind != "end":
            if here.text in (")", "]", "}"):
                self.at += 1
                break
            if here.text in (",", ";", "="):
                self.at += 1
            elif here.kind == "name" and self.peek(1).text == "=":
                self.at += 2
                keywords.append(ast.keyword(here.text, _together(self.expressions(()))))
            elif here.text == "**":
                self.at += 1
                keywords.append(ast.keyword(None, _together(self.expressions(()))))
            else:
                arguments.append(_together(self.expressions(())))
        return _placed(ast.Call(function, arguments, keywords), token)


def _together(found: list[ast.expr]) -> ast.expr:
    """One expression as it is; several, with operators between them, as something that is only known to hold them."""
    if len(found) == 1:
        return found[0]
    return ast.Compare(ast.Constant(0), [ast.Eq() for _ in found], found) if found else ast.Constant(...)


def _placed(node: N, token: Token) -> N:
    node.lineno = node.end_lineno = token.line
    node.col_offset = node.end_col_offset = token.column
    return node


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ...
