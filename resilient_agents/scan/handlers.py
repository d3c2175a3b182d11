"""What the handlers of a `try` do about a call that failed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

__all__ = ["stands_in"]

OTHERS = frozenset(
    [
        *("ArithmeticError", "AssertionError", "AttributeError", "BufferError", "CancelledError", "GeneratorExit"),
        *("ImportError", "IndexError", "IntegrityError", "JSONDecodeError", "KeyError", "KeyboardInterrupt"),
        *("LookupError", "ModuleNotFoundError", "NameError", "OverflowError", "StopAsyncIteration", "StopIteration"),
        *("SyntaxError", "SystemExit", "TypeError", "UnicodeDecodeError", "UnicodeError", "ValidationError"),
        *("ValueError", "WatchError", "ZeroDivisionError"),
    ]
)
"""Errors of what is done with an answer or that are one, not of the call that got none."""
ANSWERS = re.compile(r"(?<!File)NotFound|Exist|NoSuch")
"""Words in the names of errors that are an answer."""
SAYS_SO = re.compile(r"\b(errors?|fail(s|ed|ure)?|could not|couldn't|cannot|can't|unable)\b", re.IGNORECASE)
"""Words of a text that tells of a failure."""
TELLS = frozenset(["str", "repr", "format", "format_exc", "format_exception", "exc_info"])
"""Functions that make a text of an error."""
ENDS = frozenset(["exit", "_exit", "fail", "abort"])
"""Functions that do not return."""
INSIDE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def stands_in(handlers: Iterable[ast.ExceptHandler]) -> bool:
    """Whether one of them gives something in place of the answer: it returns, yields or sets
    what the code goes on with.

    One that raises, ends the program, or only notes or tells of the error gives nothing.
    """
    return any(_catches(each.type) and not _ends(each.body) and any(_gives(each)) for each in handlers)


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or not (_last(each) in OTHERS or ANSWERS.search(_last(each))) for each in kinds)


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
            yield node.value is not None and not _tells(node.value, handler.name)
        elif isinstance(node, ast.Assign):
            flag = isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool)
            yield not flag and not _tells(node.value, handler.name)


def _tells(value: ast.expr | None, error: str | None) -> bool:
    """Whether a value is the error or tells of it, and is nothing to go on with: `{"error": str(error)}`."""
    match value:
        case ast.Name(id=name):
            return name == error
        case ast.Constant(value=str(text)):
            return bool(SAYS_SO.search(text))
        case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return any(_tells(each, error) for each in parts)
        case ast.FormattedValue(value=inner) | ast.Attribute(value=inner) | ast.Subscript(value=inner):
            return _tells(inner, error)
        case ast.BinOp(left=left, right=right):
            return _tells(left, error) or _tells(right, error)
        case ast.Dict(keys=keys, values=values):
            said = [each.value for each in keys if isinstance(each, ast.Constant)]
            return any(str(each).lower() in ("error", "errors") for each in said) or any(
                _tells(each, error) for each in values
            )
        case ast.Call(func=function, args=arguments, keywords=keywords):
            # A function that is given the error itself may have something in place of the answer.
            handed = [each for each in arguments if _last(function) in TELLS or not isinstance(each, ast.Name)]
            named = any(each.arg in ("error", "errors") for each in keywords)
            parts = [function, *handed, *(each.value for each in keywords)]
            return (
                named
                or _last(function) in TELLS - {"str", "repr", "format"}
                or any(_tells(each, error) for each in parts)
            )
        case _:
            return False


def _last(node: ast.expr | None) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")
