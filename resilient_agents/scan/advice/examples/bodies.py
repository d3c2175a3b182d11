"""What a body binds, and what becomes of it when the work of the file is left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from resilient_agents.scan.advice.examples.guarded import Placed
from resilient_agents.scan.advice.examples.sources import FunctionNode, leaves

__all__ = [
    "awaited",
    "awaits",
    "bound",
    "defined",
    "entered",
    "imported",
    "kept_target",
    "laid_by",
    "looped",
    "lost",
    "names_waited_for",
    "shared_names",
    "target_of",
    "typed",
    "used",
    "without_results",
]

TASKS = frozenset(["create_task", "ensure_future"])
"""What makes a task of a call."""


def entered(item: ast.withitem) -> str:
    return item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else ""


def target_of(statement: ast.stmt) -> str:
    """The one name that a statement gives a value."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case _:
            return ""


def shared_names(node: FunctionNode) -> set[str]:
    """The names of a function that are those of its module, or of the function around it."""
    lines = [each for each in leaves(node.body) if isinstance(each, (ast.Global, ast.Nonlocal))]
    return {name for each in lines for name in each.names}


def kept_target(statement: ast.stmt, shared: set[str], *, method: bool) -> ast.Name | ast.Attribute | None:
    """What outlives the function and is given a value by a statement: an attribute of `self`, a name of the module."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    match targets:
        case [ast.Attribute(value=ast.Name(id="self" as first), attr=attr)] if method:
            return ast.Attribute(ast.Name(first, ast.Load()), attr, ast.Store())
        case [ast.Name(id=name)] if name in shared:
            return ast.Name(name, ast.Store())
        case _:
            return None


def bound(node: FunctionNode) -> dict[str, list[ast.expr]]:
    """What each name of a function may be; twice the same where it is bound by more than an assignment."""
    found: dict[str, list[ast.expr]] = {}
    shared = shared_names(node)
    for statement in leaves(node.body):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[statement.name] = [ast.Constant(...), ast.Constant(...)]
            continue
        name = target_of(statement)
        value = getattr(statement, "value", None)
        if name and value is not None:
            found.setdefault(name, []).append(value)
            continue
        items = getattr(statement, "items", [])
        for item in items:
            if entered(item):
                found.setdefault(entered(item), []).append(item.context_expr)
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        for each in (node for target in targets if target is not None for node in ast.walk(target)):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                found.setdefault(each.id, []).extend([each, each])
    return {name: values for name, values in found.items() if name not in shared}


def imported(node: FunctionNode) -> dict[str, ast.stmt]:
    lines = [each for each in leaves(node.body) if isinstance(each, (ast.Import, ast.ImportFrom))]
    return {alias.asname or alias.name.partition(".")[0]: line for line in lines for alias in line.names}


def _done(value: ast.expr) -> ast.expr:
    """A call without what is only looked at; the call of a task that nothing holds, or a guarded one, is waited for."""
    while isinstance(value, (ast.Attribute, ast.Subscript)):
        value = value.value
    guarded = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "acall"
    call = value if guarded else _of_task(value)
    return ast.Await(call) if call is not None else value


def _of_task(value: ast.expr) -> ast.expr | None:
    """What a task is made of; None for what is no task."""
    match value:
        case ast.Call(func=ast.Attribute(attr=attr), args=[call, *_]) if attr in TASKS:
            return call
        case _:
            return None


def _parts(value: ast.expr) -> Iterator[ast.expr]:
    """What a list or the like holds; the value itself where it is none."""
    match value:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) | ast.Dict(values=parts):
            for each in parts:
                yield from _parts(each)
        case ast.Call(func=ast.Name(id="given")):
            return  # it stands for what only the file has
        case _:
            yield value


def used(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without names that nothing looks at, once what the file does with them is left out."""
    for _ in range(2):  # what is looked at by nothing may be all that looks at something else
        names = (each for line in body for each in ast.walk(line) if isinstance(each, ast.Name))
        body = _used(body, {each.id for each in names if isinstance(each.ctx, ast.Load)})
    return body


def _used(lines: list[ast.stmt], loaded: set[str]) -> list[ast.stmt]:
    made: list[ast.stmt] = []
    shared: set[str] = set()
    for line in lines:
        if isinstance(line, (ast.With, ast.AsyncWith)):
            line.body = _used(line.body, loaded) or [ast.Pass()]
            items = [ast.withitem(item.context_expr, _kept(item, loaded)) for item in line.items]
            made.append(type(line)(items, line.body, lineno=0))
            continue
        shared |= set(line.names) if isinstance(line, ast.Global) else set()
        dropped = isinstance(line, ast.Expr) or target_of(line) not in {"", *shared, *loaded}
        value = getattr(line, "value", None)
        if not dropped or value is None:
            made.append(line)
        else:
            parts = (_done(each) for each in _parts(value))
            made += [ast.Expr(each) for each in parts if isinstance(each, (ast.Call, ast.Await))]
    return made


def _kept(item: ast.withitem, loaded: set[str]) -> ast.expr | None:
    return item.optional_vars if entered(item) in loaded else None


def typed(body: list[ast.stmt], kind: ast.expr) -> ast.expr:
    """Let what is returned have the type that the function says."""
    for block in [body, *(each.body for each in leaves(body) if isinstance(each, (ast.With, ast.AsyncWith)))]:
        last = block[-1] if block else None
        if isinstance(last, ast.Return) and last.value is not None:
            taken = {each.id for line in body for each in ast.walk(line) if isinstance(each, ast.Name)}
            name = "result" if "result" not in taken else "returned"
            block[-1:] = [
                ast.AnnAssign(ast.Name(name, ast.Store()), kind, last.value, 1),
                ast.Return(ast.Name(name, ast.Load())),
            ]
    return kind


def without_results(body: list[ast.stmt]) -> None:
    body[:] = [
        ast.Expr(each.value) if isinstance(each, ast.Return) and each.value is not None else each for each in body
    ]


def names_waited_for(node: FunctionNode) -> set[str]:
    """Names of a function that stand in what it awaits: `await asyncio.gather(*waiting)`."""
    awaited = (each for each in ast.walk(node) if isinstance(each, ast.Await))
    return {each.id for one in awaited for each in ast.walk(one) if isinstance(each, ast.Name)}


def looped(node: FunctionNode) -> set[int]:
    """By `id`, what an `async for` of a function goes over."""
    loops = (each for each in ast.walk(node) if isinstance(each, (ast.AsyncFor, ast.comprehension)))
    return {id(each.iter) for each in loops if isinstance(each, ast.AsyncFor) or each.is_async}


def laid_by(value: ast.expr, calls: list[Placed]) -> bool:
    """Whether a value is a call that is not awaited yet, or a task of one, or holds it among others."""
    waiting = [each.made for each in calls if each.waits]
    return any(each in waiting or _of_task(each) in waiting for each in _parts(value))


def lost(body: list[ast.stmt], calls: list[Placed], *, is_async: bool) -> str:
    """Why a body is not what a function does that makes these calls; "" where it is."""
    there = [each for line in body for each in ast.walk(line)]
    every = {id(each) for each in there}
    if not every.issuperset(id(each.made) for each in calls):
        return "what becomes of its answer is work of the file"
    if is_async:
        waited = {id(each) for one in there if isinstance(one, ast.Await) for each in ast.walk(one)}
    else:  # whoever calls it has what it returns to wait for
        waited = every - {id(each.value) for each in there if isinstance(each, ast.Expr)}
    left = not waited.issuperset(id(each.made) for each in calls if each.waits)
    return "it does not wait for what it calls" if left else ""


def awaited(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Await) else node


def awaits(node: ast.expr) -> bool:
    return any(isinstance(each, ast.Await) for each in ast.walk(node))


def defined(
    name: str, arguments: ast.arguments, body: list[ast.stmt], returns: ast.expr, *, is_async: bool = False
) -> FunctionNode:
    """A function with these parts."""
    made = ast.parse(f"{'async ' if is_async else ''}def {name}(): pass").body[0]
    assert isinstance(made, (ast.FunctionDef, ast.AsyncFunctionDef))
    made.args, made.returns = arguments, returns
    made.body = body or made.body
    return made
