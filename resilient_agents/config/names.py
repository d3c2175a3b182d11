"""Code by its name in a configuration: `on = ["transient", "stale"]`.

A file chooses among what the program offers; it never imports anything. Whoever may write a configuration file or set
an environment variable could otherwise run any code on the process's path.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilient_agents.base.spelling import nearest
from resilient_agents.classify import KINDS, classify, counts_against_dependency, http_failure, is_transient
from resilient_agents.config.redact import HIDDEN, redacted
from resilient_agents.config.source import MISSING, Node
from resilient_agents.config.values import Reader, Schema
from resilient_agents.core.match import Match, matcher
from resilient_agents.strategies.stream_text import json_lines, sse_done

__all__ = ["NAMED", "Named", "define"]

NAMED: dict[str, dict[str, Any]] = {
    "on": {"transient": is_transient, "counts_against_dependency": counts_against_dependency},
    "when": {"http_failure": http_failure},
    "cost": {},
    "settle": {},
    "complete": {"auto": "auto", "sse_done": sse_done, "json_lines": json_lines},
    "reconcile": {},
}
"""By the options of strategies and policies that are code: what a configuration may choose by name."""

_defined: dict[tuple[str, str], Any] = {}
"""The program's own, by option and name."""


def define(
    name: str,
    *,
    on: Match | None = None,
    when: Callable[[Any], object] | None = None,
    cost: Callable[..., float] | None = None,
    settle: Callable[[Any], float | None] | None = None,
    complete: Callable[[Any], object] | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> None:
    """Give code of the program a name that configurations may use, for the whole process.

    Call it before `load`. A name that is defined again has its last meaning; the ones that are built in stay.

    Args:
        name: What a configuration writes.
        on: What `on = ["name"]` chooses: an exception type, a predicate on errors, or a tuple of these.
        when: What `when = "name"` chooses: a predicate on results.
        cost: What `cost = "name"` of a rate limit means: a function of the call's arguments.
        settle: What `settle = "name"` of a rate limit means: a function of the result.
        complete: What `complete = "name"` of a stream's limits means: a predicate on items.
        reconcile: What `reconcile = "name"` of a policy means: a function of the call's arguments.

    Raises:
        TypeError, ValueError: there is nothing to name, it is no such code, or the name is empty or built in.
    """
    offered = locals()
    given = {option: offered[option] for option in NAMED if offered[option] is not None}
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")
    if not given:
        raise TypeError(f"define({name!r}) needs on=, when=, cost=, settle=, complete= or reconcile=")
    for option, thing in given.items():
        if option == "on":
            matcher(thing)
        elif not callable(thing):
            raise TypeError(f"{option} must be a function, got {thing!r}")
        if (option, name) not in _defined and _code_of(option, name) is not None:
            raise ValueError(f"{name!r} is built in: choose another name")
    _defined.update({(option, name): thing for option, thing in given.items()})


def _names_for(option: str) -> dict[str, Any]:
    """What an option may be told by name, apart from Python's own exceptions."""
    own = {name: thing for (of, name), thing in _defined.items() if of == option}
    return {**NAMED[option], **own, **(_OF_KIND if option == "on" else {})}


def _code_of(option: str, name: str) -> Any:
    """What a name stands for, None if for nothing."""
    python = getattr(builtins, name, None) if option == "on" else None
    return python if isinstance(python, type) and issubclass(python, Exception) else _names_for(option).get(name)


@dataclass
class Named(Reader):
    """Code by its name. `on` takes several names, and `cost` a number, too."""

    option: str = ""

    def read(self, node: Node) -> Any:
        value: Any = node.value
        if self.option == "cost" and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if self.option != "on":
            return self._one(node)
        items: list[Node] = value if isinstance(value, list) else [node]
        if not items:
            return node.refuse(f"must name at least one. {nearest('', _names_for('on'))}")
        read = tuple(self._one(item) for item in items)
        return MISSING if MISSING in read else read

    def _one(self, node: Node) -> Any:
        name = node.value
        if node.broken is None and isinstance(name, str) and _code_of(self.option, name) is not None:
            return name
        return node.refuse(node.broken or _unknown(self.option, HIDDEN if node.secret else name))

    def make(self, plain: Any) -> Any:
        if not isinstance(plain, str | tuple):
            return plain
        things = [_code_of(self.option, name) for name in ((plain,) if isinstance(plain, str) else plain)]
        if None in things:
            raise ValueError(f"{self.option} names {plain!r}, which is not defined any more")
        return things[0] if len(things) == 1 else tuple(things)

    def forms(self) -> list[Schema]:
        name: Schema = {"type": "string", "examples": list(_names_for(self.option))}
        several: list[Schema] = [{"type": "array", "items": name, "minItems": 1}] if self.option == "on" else []
        return [name, *several, *([{"type": "number"}] if self.option == "cost" else [])]


def _unknown(option: str, name: object) -> str:
    """What is said of a name that stands for nothing."""
    known = _names_for(option)
    if not isinstance(name, str):
        return f"must be a name. {nearest('', known)}"
    shown: str = redacted(name)
    if re.fullmatch(r"[^\W\d]\w*([.:][^\W\d]\w*)+", name):
        short = re.split(r"[.:]", shown)[-1]
        how = f"call define({short!r}, {option}={short}) in the program and write {short!r} here"
        return f"a configuration imports no code: {how}"
    if not known:
        return f"is not known; the program must call define({shown!r}, {option}=...) before it reads this"
    python = ", a built-in exception of Python's, or what define() named" if option == "on" else ""
    return f"is not known; {nearest(shown, known)}{python}"


def _of_kind(kind: str) -> Callable[[Exception], bool]:
    def is_of_kind(error: Exception) -> bool:
        return classify(error).kind == kind

    is_of_kind.__name__ = is_of_kind.__qualname__ = kind
    return is_of_kind


_OF_KIND: dict[str, Any] = {kind: _of_kind(kind) for kind in KINDS}
