"""What the handlers of a `try` do about a call that failed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["DROPPED", "REPLACED", "handled"]

REPLACED, DROPPED = "replaced", "dropped"

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
SAYS_SO = re.compile(
    r"\b(errors?|fail(s|ed|ure)?|could not|couldn't|cannot|can't|unable|un(available|healthy|reachable))\b",
    re.IGNORECASE,
)
"""Words of a text that tells of a failure."""
SPOKEN = 3
"""So many words in a text are said to somebody: nothing goes on with them."""
TELLS = frozenset(["str", "repr", "format", "format_exc", "format_exception", "exc_info"])
"""Functions that make a text of an error."""
ENDS = frozenset(["exit", "_exit", "fail", "abort"])
"""Functions that do not return."""
PASSED = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.Name, ast.Constant, ast.expr_context, ast.operator),
)
"""What does not run there, and what holds nothing that does."""


def handled(tried: list[ast.stmt], handlers: Iterable[ast.ExceptHandler]) -> str:
    """REPLACED where one of them gives something in place of the answer: it returns or yields, or sets what is set by
    what is tried. DROPPED where one never raises, so that nobody outside sees the error. "" otherwise.

    One that raises, ends the program, or only notes or tells of the error gives nothing.
    """
    chosen = [each for each in handlers if _catches(each.type) and not _ends(each.body)]
    if not chosen:
        return ""
    bodies = [list(_inside(each.body)) for each in chosen]
    sets = any(isinstance(node, ast.Assign) for nodes in bodies for node in nodes)
    wanted = {_last(each) for node in _inside(tried) for each in _targets(node)} - {""} if sets else set[str]()
    if any(any(_gives(each.name, nodes, wanted)) for each, nodes in zip(chosen, bodies, strict=True)):
        return REPLACED
    raising = [any(isinstance(node, ast.Raise) for node in nodes) for nodes in bodies]
    return "" if all(raising) else DROPPED


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or not (_last(each) in OTHERS or ANSWERS.search(_last(each))) for each in kinds)


def _ends(body: list[ast.stmt]) -> bool:
    last = body[-1] if body else None
    called = isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and _last(last.value.func) in ENDS
    return called or isinstance(last, ast.Raise)


def _gives(error: str | None, nodes: list[ast.AST], wanted: set[str]) -> Iterator[bool]:
    chosen = any(isinstance(node, ast.Raise) and node.exc is None for node in nodes)
    errors = {error or ""}
    for node in nodes:
        if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            # Nothing in place of one error, where others are raised, is what that error says.
            yield not (chosen and _is_nothing(node.value)) and not _tells(node.value, errors)
        elif isinstance(node, ast.Assign):
            names = {_last(each) for each in node.targets}
            if any(isinstance(each, ast.Name) and each.id in errors for each in ast.walk(node.value)):
                errors |= names
            flag = isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool)
            yield bool(names & wanted) and not flag and not _tells(node.value, errors)


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) else []


def _is_nothing(value: ast.expr) -> bool:
    if isinstance(value, ast.Tuple):
        return all(map(_is_nothing, value.elts))
    return isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, bool))


def _inside(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """What runs there and is more than a name or a constant, in its order."""
    left: list[Any] = body[::-1]
    while left:
        node = left.pop()
        if not isinstance(node, ast.AST) or isinstance(node, PASSED):
            continue
        yield node
        for name in reversed(node._fields):
            value = getattr(node, name, None)
            if type(value) is list:
                left += value[::-1]
            elif value is not None:
                left.append(value)


def _tells(value: ast.expr | None, errors: set[str]) -> bool:
    """Whether a value is the error or tells of it, and is nothing to go on with: `{"error": str(error)}`."""
    match value:
        case ast.Name(id=name):
            return name in errors
        case ast.Constant(value=str(text)):
            words = [each for each in text.split() if each.strip(",.;:!?()'\"").isalpha()]
            return len(words) >= SPOKEN or bool(SAYS_SO.search(text))
        case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return any(_tells(each, errors) for each in parts)
        case ast.FormattedValue(value=inner) | ast.Attribute(value=inner) | ast.Subscript(value=inner):
            return _tells(inner, errors)
        case ast.BinOp(left=left, right=right):
            return _tells(left, errors) or _tells(right, errors)
        case ast.Dict(keys=keys, values=values):
            said = {str(key.value).lower() if isinstance(key, ast.Constant) else "" for key in keys}
            flags = [each.value for each in values if isinstance(each, ast.Constant)] == [False]
            told = (flags and len(values) == 1) or not said.isdisjoint(("error", "errors"))
            return told or any(_tells(each, errors) for each in values)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            # A function that is given the error itself may have something in place of the answer; a class keeps it.
            plain = not (_last(function) in TELLS or _last(function)[:1].isupper())
            handed = [each for each in arguments if not (plain and isinstance(each, ast.Name))]
            named = any(each.arg in ("error", "errors") for each in keywords)
            parts = [function, *handed, *(each.value for each in keywords)]
            return (
                named
                or _last(function) in TELLS - {"str", "repr", "format"}
                or any(_tells(each, errors) for each in parts)
            )
        case _:
            return False


def _last(node: ast.expr | None) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")
