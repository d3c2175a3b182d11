"""A file as a syntax tree in which calls, functions and names are found by their place in the file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from resilient_agents.scan.form import Site
from resilient_agents.scan.quotes import requoted
from resilient_agents.scan.repair import Shifted, repair
from resilient_agents.scan.source import decode, load

__all__ = ["FunctionNode", "Source", "blocks_of", "leaves"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """What `ast` says of a file; of one that does not parse, what could be read of it. Raises what `load` raises."""

    def __init__(self, path: Path) -> None:
        text, _ = decode(load(path))
        self.whole = True
        """Whether it parses: else its expressions are not as they were written."""
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            tree, self.whole = repair(requoted(text)), False
        self.body = list(_flat(tree.body, 0))

    @cached_property
    def _calls(self) -> dict[tuple[int, int, int, int], ast.Call]:
        return {
            (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0): node
            for statement in self.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Call)
        }

    @cached_property
    def _functions(self) -> dict[int, FunctionNode]:
        found = (node for statement in self.body for node in ast.walk(statement))
        return {node.lineno: node for node in found if isinstance(node, FunctionNode)}

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The statements outside of functions and classes that bind a name."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in leaves(self.body):
            for name in _bound(statement):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """All that anything in the file is called, parameters among them."""
        found = set(self.bindings)
        for statement in self.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    found.add(node.id)
                elif isinstance(node, ast.arg):
                    found.add(node.arg)
        return frozenset(found)

    def unpacked(self, call: ast.Call) -> list[str]:
        """The names that take the parts of its answer, `_` for what is more than a name: `reader, writer = ...`."""
        found = next((names for inside, names in self._unpacked if id(call) in inside), [])
        return list(found)

    @cached_property
    def _unpacked(self) -> list[tuple[set[int], list[str]]]:
        """The nodes of what a tuple of names is given, and these."""
        return [
            ({id(each) for each in ast.walk(node.value)}, [_last(each) for each in target.elts])
            for statement in self.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Assign) and not isinstance(node.value, (ast.Tuple, ast.List))
            for target in node.targets
            if isinstance(target, (ast.Tuple, ast.List))
        ]

    def call(self, site: Site) -> ast.Call | None:
        return self._calls.get((site.line, site.column, site.end_line, site.end_column))

    def function(self, line: int) -> FunctionNode | None:
        return self._functions.get(line)


def leaves(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements in a body and in its blocks; functions and classes inside it are one each."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for block in blocks_of(statement):
            yield from leaves(block)


def blocks_of(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """What stands indented below a statement."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        inside = getattr(statement, name, None) or []
        if name in ("handlers", "cases"):
            yield from (each.body for each in inside)
        elif inside:
            yield inside


def _last(target: ast.expr) -> str:
    return getattr(target, "attr", "") or getattr(target, "id", "_")


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    else:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            for node in ast.walk(target) if target is not None else ():
                if isinstance(node, ast.Name):
                    yield node.id


def _flat(body: list[ast.stmt], shift: int) -> Iterator[ast.stmt]:
    """With the lines of the file in place of those of the pieces that were parsed alone."""
    for statement in body:
        if isinstance(statement, Shifted):
            yield from _flat(statement.body, statement.shift)
        else:
            _move(statement, shift)
            yield statement


def _move(node: ast.AST, shift: int) -> None:
    if shift and isinstance(node, (ast.stmt, ast.expr)) and hasattr(node, "lineno"):
        node.lineno += shift
        node.end_lineno = (node.end_lineno or 0) + shift
    for name, value in list(ast.iter_fields(node)):
        if isinstance(value, list) and any(isinstance(each, ast.stmt) for each in value):
            setattr(node, name, list(_flat(value, shift)))
        else:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    _move(each, shift)
