"""Signatures of a file as an example has them: the same names in the same order, typed as far as the file says it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from resilient_agents.scan.advice.examples.clients import Held
from resilient_agents.scan.advice.examples.expressions import plain, short
from resilient_agents.scan.advice.examples.sources import FunctionNode

__all__ = ["annotation", "parameters", "sample", "signature"]

ANY = ast.Name("Any", ast.Load())
SCALARS = frozenset(["str", "int", "float", "bool", "bytes", "object", "Any"])
BARE = {"dict": 2, "list": 1, "set": 1, "frozenset": 1, "Dict": 2, "List": 1, "Set": 1}
"""Generic types, and how many parameters they want."""
TYPING = {"Dict": "dict", "List": "list", "Set": "set", "Tuple": "tuple"}
SAMPLES = {
    "str": "'example'", "int": "1", "float": "1.0", "bool": "True", "bytes": "b'example'", "dict": "{}", "list": "[]",
    "set": "set()", "tuple": "()", "frozenset": "frozenset()", "None": "None",
}  # fmt: skip


def parameters(node: FunctionNode) -> list[ast.arg]:
    """All of them, in order."""
    it = node.args
    rest = [each for each in (it.vararg, it.kwarg) if each is not None]
    return [*it.posonlyargs, *it.args, *it.kwonlyargs, *rest]


def annotation(node: ast.expr | None) -> ast.expr:
    """A type that needs no import but those of `typing.Any`; Any for all others."""
    found = _annotation(node)
    return found if found is not None else ANY


def _annotation(node: ast.expr | None) -> ast.expr | None:
    match node:
        case ast.Constant(value=None):
            return node
        case ast.Constant(value=str() as text):
            try:
                return _annotation(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return None
        case ast.Name(id=name) if name in SCALARS:
            return node
        case ast.Name(id=name) if name in BARE:
            return ast.parse(f"{TYPING.get(name, name)}[{', '.join(['Any'] * BARE[name])}]", mode="eval").body
        case ast.Subscript(value=ast.Name(id="Optional"), slice=item):
            return ast.BinOp(annotation(item), ast.BitOr(), ast.Constant(None))
        case ast.Subscript(value=ast.Name(id=name), slice=item) if name in BARE:
            items = item.elts if isinstance(item, ast.Tuple) else [item]
            made = [annotation(each) for each in items]
            inside = made[0] if len(made) == 1 else ast.Tuple(made, ast.Load())
            return ast.Subscript(ast.Name(TYPING.get(name, name), ast.Load()), inside, ast.Load())
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = _annotation(left), _annotation(right)
            return ast.BinOp(sides[0], ast.BitOr(), sides[1]) if sides[0] and sides[1] else None
        case _:
            return None


def signature(node: FunctionNode, clients: Mapping[str, Held], *, method: bool) -> ast.arguments:
    """With a type for each parameter; `clients` are those that are one."""
    it = node.args
    positional = [*it.posonlyargs, *it.args]
    defaults: dict[str, ast.expr | None] = dict(
        zip((each.arg for each in positional[len(positional) - len(it.defaults) :]), it.defaults, strict=True)
    )
    defaults |= {each.arg: value for each, value in zip(it.kwonlyargs, it.kw_defaults, strict=True)}

    def typed(each: ast.arg) -> ast.arg:
        if method and each is positional[0]:
            return ast.arg(each.arg, None)
        if each.arg in clients:
            return ast.arg(each.arg, clients[each.arg].type)
        found = annotation(each.annotation)
        return ast.arg(each.arg, found if _fits(defaults.get(each.arg), found) else ANY)

    def default(value: ast.expr) -> ast.expr:
        return value if plain(value) is not None else ast.Constant(...)

    return ast.arguments(
        [typed(each) for each in it.posonlyargs],
        [typed(each) for each in it.args],
        it.vararg and typed(it.vararg),
        [typed(each) for each in it.kwonlyargs],
        [value and default(value) for value in it.kw_defaults],
        it.kwarg and typed(it.kwarg),
        [default(value) for value in it.defaults],
    )


def _fits(default: ast.expr | None, kind: ast.expr) -> bool:
    """Whether a default may have that type, as far as both are plain."""
    if default is None or kind is ANY:
        return True
    said = short(kind)
    if not isinstance(default, ast.Constant):
        return False
    names = {part.strip() for part in said.split("|")}
    return {"object", "Any"} & names != set() or type(default.value).__name__.replace("NoneType", "None") in names


def sample(each: ast.arg, node: FunctionNode) -> ast.expr:
    """A value for a parameter, of its type or as the function uses it, for a call that shows the function."""
    first = short(annotation(each.annotation)).partition("|")[0].partition("[")[0].strip()
    unpacked = "{}" if _unpacks(node, each.arg) else "'example'"
    return ast.parse(SAMPLES.get(first, unpacked), mode="eval").body


def _unpacks(node: FunctionNode, name: str) -> bool:
    """Whether it has `f(**name)` or `{**name}`."""
    for inside in ast.walk(node):
        match inside:
            case ast.keyword(arg=None, value=ast.Name(id=unpacked)) if unpacked == name:
                return True
            case ast.Dict(keys=keys, values=values):
                held = [value for key, value in zip(keys, values, strict=True) if key is None]
                if any(isinstance(value, ast.Name) and value.id == name for value in held):
                    return True
            case _:
                continue
    return False
