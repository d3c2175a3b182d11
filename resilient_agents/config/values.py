"""Readers of single values: a number, a duration, one word of several. Each also gives its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import Any

from resilient_agents.base.durations import DURATION, DURATION_FORMS, parse_duration
from resilient_agents.config.source import Node
from resilient_agents.core.options import Check, Count, Number, Seconds, Share

__all__ = ["Reader", "Scalar", "Schema", "frozen", "thawed"]

Schema = dict[str, Any]

_TYPES = {bool: ("true or false", "boolean"), float: ("a number", "number"), int: ("a whole number", "integer"),
          str: ("a string", "string")}  # fmt: skip
"""What a scalar is called in errors, and in a schema."""


@dataclass(eq=False)
class Reader:
    """How one option is read and made; this one takes anything that TOML has.

    `nullable`: it may be "none", too, which is None and nobody's to read, make or complete.
    """

    nullable: bool = False

    def read(self, node: Node) -> Any:
        """Plain data, or MISSING after having said what is wrong."""
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
        """Schemas of what it may be."""
        return [{}]


@dataclass
class Scalar(Reader):
    """A number, a boolean, a string, a duration where `timedelta` is one of the types, in seconds; or one of some
    `words`. Its range is the constructor's to `check`, and the schema repeats it."""

    types: tuple[type, ...] = ()
    words: tuple[str, ...] = ()
    check: Check | None = None

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
        bounds: Schema = {}
        match self.check:
            case Count(minimum=minimum):
                bounds = {"minimum": minimum}
            case Seconds(zero=True):
                bounds = {"minimum": 0}
            case Share():
                bounds = {"exclusiveMinimum": 0, "maximum": 1}
            case Seconds() | Number():
                bounds = {"exclusiveMinimum": 0}
            case _:
                pass
        if timedelta in self.types:
            return [{"type": "number", **bounds}, {"type": "string", "pattern": f"^(?:{DURATION})$"}]
        return [{"type": _TYPES[kind][1], **(bounds if kind in (int, float) else {})} for kind in self.types]


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
