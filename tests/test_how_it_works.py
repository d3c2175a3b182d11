"""What docs/pages/how-it-works.md says of the size of the code is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "resilient_agents"
PAGE = ROOT / "docs" / "pages" / "how-it-works.md"

ROW = re.compile(r"^\| (?P<what>[^|`]+) \| (?P<modules>`[^|]+`) \| (?P<figure>[\d,]+) \|$", re.MULTILINE)
CLOSE = 0.05
"""How far a figure of the page may be off, as a share: code changes, and the page is not to change with each line."""


def counted(node: ast.AST) -> int:
    """Statements but docstrings, imports, declarations, and what exists for type checkers only."""
    return sum(isinstance(child, ast.stmt) + counted(child) for child in ast.iter_child_nodes(node) if not idle(child))


def idle(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]):
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec"))):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case _:
            return False


def modules(words: str) -> set[Path]:
    return {path for word in re.findall(r"`([^`]+)`", words) for path in PACKAGE.glob(word)}


def test_the_table_of_statements_is_right() -> None:
    """Each module of core, adapters and the policy belongs to one row, and each row has as many statements as it says,
    within a twentieth."""
    rows = [
        (row["what"], modules(row["modules"]), int(row["figure"].replace(",", "")))
        for row in ROW.finditer(PAGE.read_text("utf-8"))
    ]
    named = [path for _, found, _ in rows for path in found]
    every = {*PACKAGE.glob("core/*.py"), *PACKAGE.glob("adapters/**/*.py"), PACKAGE / "policy.py"}
    assert len(named) == len(set(named))
    assert {path for path in every if counted(ast.parse(path.read_text("utf-8")))} <= set(named) <= every
    for what, found, said in rows:
        there = sum(counted(ast.parse(path.read_text("utf-8"))) for path in found)
        assert abs(there - said) <= CLOSE * there, f"{what}: {there:,} statements, and the page says {said:,}"
