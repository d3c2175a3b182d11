"""Where a fake takes the place of what a call of an example is made on."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Fake", "fake_of"]


class Fake(NamedTuple):
    """Where a call goes: `owner` is global, self, param or module, `path` leads from the name to what is called."""

    owner: str
    name: str
    path: tuple[str, ...]
    is_async: bool


def fake_of(
    target: ast.expr,
    made: Mapping[str, tuple[ast.expr, str]],
    answered: Mapping[str, Fake],
    calls: Mapping[int, Fake | None],
    parameters: set[str],
    is_async: bool,
) -> Fake | None:
    """Where what is called has to be replaced; None where that cannot be said.

    `made`: clients of the function itself, and the method by which `with` enters them. `answered`: what it keeps of the
    answers of calls that are replaced. `calls`: where those go on which the target stands, by the `id` of the node.
    """
    path: list[str] = []
    node = target
    while True:
        match node:
            case ast.Await(value=value) if id(value) in calls:
                node = value
            case _ if id(node) in calls:
                behind = calls[id(node)]
                return behind and Fake(
                    behind.owner, behind.name, (*behind.path, "return_value", *reversed(path)), is_async
                )
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                return Fake("self", attr, tuple(reversed(path)), is_async)
            case ast.Attribute(value=value, attr=attr):
                path.append(attr)
                node = value
            case ast.Call(func=function):
                path.append("return_value")
                node = function
            case ast.Name(id=name) if name in made:
                node, entered = made[name]
                path += ["return_value", entered] if entered else []
            case ast.Name(id=name) if name in answered:
                owner, name, before, _ = answered[name]
                return Fake(owner, name, (*before, "return_value", *reversed(path)), is_async)
            case ast.Name(id="asyncio") if len(path) == 1:
                return Fake("module", "asyncio", tuple(path), is_async)  # the event loop needs the rest of it
            case ast.Name(id="asyncio"):
                return None
            case ast.Name(id=name):
                return Fake("param" if name in parameters else "global", name, tuple(reversed(path)), is_async)
            case _:
                return None
