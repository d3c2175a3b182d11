"""The changes: each one thing in one place of a module."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

__all__ = ["Mutant", "mutants"]

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one change. `name` says where and what, without line numbers, and is unique in the module."""

    name: str
    line: int
    """Where the statement begins that is changed."""
    make: Callable[[], ast.Module]
    """Only asked for those that are run: each copies the module's tree."""

    @property
    def tree(self) -> ast.Module:
        """The changed module."""
        return self.make()


def mutants(source: str, only: str | None = None) -> Iterator[Mutant]:
    """All changes of a module, or those in the function or class `only`."""
    tree = ast.parse(source)
    seen: dict[str, int] = {}
    for place, line, node in list(_places(tree, (), 0)):
        if only is not None and only not in place:
            continue
        for changed in _changes(node):
            before, after = (" ".join(ast.unparse(part).split()) for part in (node, changed))
            name = f"{'.'.join(place) or 'module'}: {_short(before)} => {_short(after)}"
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            yield Mutant(name, line, partial(_replaced, tree, node, changed))


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-25:]}"


def _places(node: ast.AST, place: tuple[str, ...], line: int) -> Iterator[tuple[tuple[str, ...], int, ast.AST]]:
    """What may be changed, with the names of the functions and classes around it and the line of its statement."""
    for child in _code_in(node):
        here = child.lineno if isinstance(child, ast.stmt | ast.ExceptHandler) else line
        inside = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = (*place, child.name)
        yield inside, here, child
        yield from _places(child, inside, here)


def _code_in(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that run: no annotations, docstrings, `__all__`, imports, or what only type checkers read."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_silent(child):
                yield child


def _is_silent(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id in ("__all__", "__slots__") for target in node.targets)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return False


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator, *_]):
            yield _with(node, ops=[_COMPARED[type(operator)](), *node.ops[1:]])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _COMPUTED:
            yield _with(node, op=_COMPUTED[type(node.op)]())
        case ast.AugAssign() if type(node.op) in _COMPUTED:
            yield _with(node, op=_COMPUTED[type(node.op)]())
            yield ast.Pass()
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If() | ast.IfExp() | ast.While() if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and not value.value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.Raise() | ast.Delete():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.ExceptHandler():
            yield _with(node, body=[ast.Raise()])
        case ast.Try(finalbody=[_, *_]):
            yield _with(node, finalbody=[ast.Pass()])
        case _:
            pass


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _replaced(tree: ast.Module, node: ast.AST, changed: ast.AST) -> ast.Module:
    """A copy of the tree with `changed` in the place of `node`."""

    def copied(found: Any) -> Any:
        if found is node:
            return copied_whole
        if isinstance(found, list):
            return [copied(item) for item in found]
        if not isinstance(found, ast.AST):
            return found
        own = copy.copy(found)
        for field, value in ast.iter_fields(found):
            setattr(own, field, copied(value))
        return own

    copied_whole = copy.deepcopy(changed)
    mutated = copied(tree)
    assert isinstance(mutated, ast.Module)
    return ast.fix_missing_locations(mutated)
