"""Readers of single values: a number, a duration, one word of several, code by its name. Each also gives its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import Any

from resilient_agents.base.durations import DURATION, DURATION_FORMS, parse_duration
from resilient_agents.base.spelling import nearest
from resilient_agents.config import names
from resilient_agents.config.redact import HIDDEN, redacted
from resilient_agents.config.tree import MISSING, Node
from resilient_agents.core.options import Check, Count, Number, Seconds, Share

__all__ = ["Named", "Reader", "Scalar", "Schema", "frozen", "thawed"]

Schema = dict[str, Any]

_TYPES = {bool: ("true or false", "boolean"), float: ("a number", "number"), int: ("a whole number", "integer"),
          str: ("a string", "string")}  # fmt: skip
"""What a scalar is called in errors, and in a schema."""


@dataclass(frozen=True)
class Reader:
    """How one option is read and made; this one takes anything that TOML has.

    `nullable`: it may be "none", too. `check`: the constructor's, whose range the schema repeats.
    """

    nullable: bool = False
    check: Check | None = None

    def read(self, node: Node) -> Any:
        """Plain data of what is not "none", or MISSING after having said what is wrong."""
        for leaf in node.leaves():
            fits = isinstance(leaf.value, str | int | float | date | time)
            if leaf.broken is not None or not fits:
                allowed = "must be something that TOML has: text, a number, true, false, a date, a list, a table"
                return leaf.refuse(leaf.broken or allowed, shown=not fits)
        return node.plain()

    def long(self, node: Node) -> Node:
        """The value with short forms written out, so that options of it may be changed one by one."""
        return node

    def complete(self, plain: Any) -> Any:
        """Plain data with all defaults."""
        return plain

    def make(self, plain: Any) -> Any:
        """The constructor's argument."""
        return thawed(plain)

    def forms(self) -> list[Schema]:
        """Schemas of what it may be, "none" aside."""
        return [{}]


@dataclass(frozen=True)
class Scalar(Reader):
    """A number, a boolean, a string, a duration where `timedelta` is one of the types, in seconds; or one of some
    `words`. Its range is the constructor's to check."""

    types: tuple[type, ...] = ()
    words: tuple[str, ...] = ()

    def read(self, node: Node) -> Any:
        value: Any = node.value
        if timedelta in self.types:
            value = value.total_seconds() if isinstance(value, timedelta) else value
            value = parse_duration(value) if isinstance(value, str) else value
        if isinstance(value, str) and self.words:
            fits = value in self.words
        elif isinstance(value, bool):
            fits = bool in self.types
        else:
            fits = isinstance(value, (*self.types, int) if float in self.types else self.types)
        return value if fits else node.refuse(f"must be {self._allowed()}")

    def _allowed(self) -> str:
        if self.words:
            return f"one of: {', '.join([*self.words, *['none'] * self.nullable])}"
        if timedelta in self.types:
            return DURATION_FORMS + ', or "none"' * self.nullable
        named = [name for kind, (name, _) in _TYPES.items() if kind in self.types]
        return " or ".join([*named, *['"none"'] * self.nullable])

    def forms(self) -> list[Schema]:
        if self.words:
            return [{"enum": list(self.words)}]
        if timedelta in self.types:
            return [{"type": "number", **_range(self.check)}, {"type": "string", "pattern": f"^(?:{DURATION})$"}]
        ranges = {int: _range(self.check), float: _range(self.check)}
        return [{"type": _TYPES[kind][1], **ranges.get(kind, {})} for kind in self.types]


def _range(check: Check | None) -> Schema:
    match check:
        case Seconds(zero=zero):
            return {"minimum": 0} if zero else {"exclusiveMinimum": 0}
        case Count(minimum=minimum):
            return {"minimum": minimum}
        case Number():
            return {"exclusiveMinimum": 0}
        case Share():
            return {"exclusiveMinimum": 0, "maximum": 1}
        case _:
            return {}


@dataclass(frozen=True)
class Named(Reader):
    """Code by name (see names.py). `on` takes several names, and `cost` a number, too."""

    option: str = ""

    def read(self, node: Node) -> Any:
        value: Any = node.value
        if self.option == "cost" and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if self.option != "on":
            return self._one(node)
        items: list[Node] = value if isinstance(value, list) else [node]
        if not items:
            return node.refuse(f"must name at least one. {nearest('', names.known(self.option))}")
        read = tuple(self._one(item) for item in items)
        return MISSING if MISSING in read else read

    def _one(self, node: Node) -> Any:
        name = node.value
        if node.broken is None and isinstance(name, str) and names.look_up(self.option, name) is not None:
            return name
        return node.refuse(node.broken or self._unknown(HIDDEN if node.secret else name))

    def _unknown(self, name: object) -> str:
        if not isinstance(name, str):
            return f"must be a name. {nearest('', names.known(self.option))}"
        shown: str = redacted(name)
        if re.fullmatch(r"[^\W\d]\w*([.:][^\W\d]\w*)+", name):
            short = re.split(r"[.:]", shown)[-1]
            how = f"call define({short!r}, {self.option}={short}) in the program and write {short!r} here"
            return f"a configuration imports no code: {how}"
        known = names.known(self.option)
        if not known:
            return f"is not known; the program must call define({shown!r}, {self.option}=...) before it reads this"
        python = ", a built-in exception of Python's, or what define() named" if self.option == "on" else ""
        return f"is not known; {nearest(shown, known)}{python}"

    def make(self, plain: Any) -> Any:
        if not isinstance(plain, str | tuple):
            return plain
        things = [names.look_up(self.option, name) for name in ((plain,) if isinstance(plain, str) else plain)]
        if None in things:
            raise ValueError(f"{self.option} names {plain!r}, which is not defined any more")
        return things[0] if len(things) == 1 else tuple(things)

    def forms(self) -> list[Schema]:
        name: Schema = {"type": "string", "examples": list(names.known(self.option))}
        several: list[Schema] = [{"type": "array", "items": name, "minItems": 1}] if self.option == "on" else []
        return [name, *several, *([{"type": "number"}] if self.option == "cost" else [])]


def thawed(value: Any) -> Any:
    """Frozen plain data as dicts and lists, which `json.dumps` takes."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple | list) else value


def frozen(value: Any) -> Any:
    """The same the other way round, so that nobody changes it."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value
