"""The name by which a file calls `resilient`, and the import that gives it that name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import libcst as cst

__all__ = ["importing", "named"]

PACKAGE, POLICY = "resilient_agents", "resilient"
OF_FILE = re.compile(r"#!|#.*coding[:=]")
"""Comments that must stay where they are: in the first lines of a file."""


def named(module: ast.Module, line: int) -> tuple[str, str]:
    """(what stands for `resilient` from this line on, the import that it needs; "" where the file has it)."""
    taken = set(_bound(module))
    for each in module.body:
        if isinstance(each, ast.ImportFrom) and _is_ours(each) and each.lineno < line:
            known = {alias.asname or alias.name for alias in each.names if alias.name == POLICY} - taken
            if known:
                return known.pop(), ""
    if POLICY in taken:
        return f"{PACKAGE}.{POLICY}", f"import {PACKAGE}"
    return POLICY, f"from {PACKAGE} import {POLICY}"


def _is_ours(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == PACKAGE and not node.level


def _bound(module: ast.Module) -> Iterator[str]:
    """Names that anything in a file gives to what does not come from here."""
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names) if not _is_ours(node):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case _:
                continue


def importing(module: cst.Module, line: str) -> cst.Module:
    """With this import behind the first imports of the module."""
    at = 0
    for index, statement in enumerate(module.body):
        if not isinstance(statement, cst.SimpleStatementLine):
            break
        small = statement.body[0]
        text = isinstance(small, cst.Expr) and isinstance(small.value, (cst.SimpleString, cst.ConcatenatedString))
        if not (text or isinstance(small, (cst.Import, cst.ImportFrom))):
            break
        at = index + 1
    wanted = cst.parse_statement(line)
    if at:
        return module.with_changes(body=[*module.body[:at], wanted, *module.body[at:]])
    header = list(module.header)
    first = len(header)  # a comment without a line between speaks of what stands below it
    while first and header[first - 1].comment is not None and not OF_FILE.match(_text(header[first - 1])):
        first -= 1
    below = module.body[0]
    lines = [cst.EmptyLine(indent=False), cst.EmptyLine(indent=False), *header[first:], *_leading(below)]
    return module.with_changes(
        header=header[:first], body=[wanted, below.with_changes(leading_lines=lines), *module.body[1:]]
    )


def _text(line: cst.EmptyLine) -> str:
    return line.comment.value if line.comment is not None else ""


def _leading(statement: cst.BaseStatement | cst.SimpleStatementLine) -> list[cst.EmptyLine]:
    found: list[cst.EmptyLine] = list(getattr(statement, "leading_lines", ()))
    return found
