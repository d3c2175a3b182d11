"""What the handlers of a `try` do about a call that failed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

__all__ = ["stands_in"]

OTHERS = frozenset(
    [
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "BufferError",
        "CancelledError",
        "GeneratorExit",
        "ImportError",
        "IndexError",
        "JSONDecodeError",
        "KeyError",
        "KeyboardInterrupt",
        "LookupError",
        "ModuleNotFoundError",
        "NameError",
        "OverflowError",
        "StopIteration",
        "StopAsyncIteration",
        "SyntaxError",
        "SystemExit",
        "TypeError",
        "UnicodeDecodeError",
        "UnicodeError",
        "ValidationError",
        "ValueError",
        "ZeroDivisionError",
    ]
)
"""Errors of what is done with an answer, not of the call that got none."""
ENDS = frozenset(["exit", "_exit", "fail", "abort"])
"""Functions that do not return."""
INSIDE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def stands_in(handlers: Iterable[ast.ExceptHandler]) -> bool:
    """Whether one of them gives something in place of the answer: it returns, yields or sets
    what the code goes on with.

    One that raises, ends the program, or only notes the error gives nothing.
    """
    return any(_catches(each.type) and not _ends(each.body) and any(_gives(each)) for each in handlers)


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or _last(each) not in OTHERS for each in kinds)


def _ends(body: list[ast.stmt]) -> bool:
    last = body[-1] if body else None
    called = isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and _last(last.value.func) in ENDS
    return called or isinstance(last, ast.Raise)


def _gives(handler: ast.ExceptHandler) -> Iterator[bool]:
    waiting: list[ast.AST] = list(handler.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, INSIDE):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, (ast.Return, ast.Yield)):
            yield node.value is not None
        elif isinstance(node, ast.Assign):
            yield not _is_error(node.value, handler.name)


def _is_error(value: ast.expr, name: str | None) -> bool:
    return isinstance(value, ast.Name) and value.id == name


def _last(node: ast.expr | None) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")
