"""Readers of single values: a number, a duration, one word of several, code by its name. Each also gives its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import Any, cast

from resilient_agents.base.spelling import nearest
from resilient_agents.config import names
from resilient_agents.config.redact import HIDDEN
from resilient_agents.config.tree import Node, Problems
from resilient_agents.core.options import Check, Count, Number, Seconds, Share

__all__ = ["DURATION_FORMS", "MISSING", "Named", "Reader", "Scalar", "Schema", "Value", "frozen", "parse_duration",
           "thawed"]  # fmt: skip

Schema = dict[str, Any]

MISSING: Any = object()
"""What a reader returns after it has reported a problem."""

_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d)"
_DURATION = r"\s*(?:(?:\d+(?:\.\d+)?)\s*(?:ms|sec|s|min|m|h|d)\s*)+"
DURATION_FORMS = 'seconds as a number, or text such as "200ms", "1.5s", "2m" or "1h 30m"'

_TYPES = {bool: ("true or false", "boolean"), float: ("a number", "number"), int: ("a whole number", "integer"),
          str: ("a string", "string")}  # fmt: skip
"""What a scalar is called in errors, and in a schema."""


def parse_duration(text: str) -> float | None:
    """Seconds of "200ms", "1.5s", "2m", "1h 30m"; None for anything else."""
    if re.fullmatch(_DURATION, text, re.ASCII) is None:
        return None
    parts = [(float(amount), _SECONDS[unit]) for amount, unit in re.findall(_PART, text)]
    # 200 ms are 0.2 s, not 0.2 and a rounding error
    return sum(amount / 1000 if unit == 0.001 else amount * unit for amount, unit in parts)


@dataclass(frozen=True)
class Reader:
    """How one option is read and made. `nullable`: it may be "none", too."""

    nullable: bool = False

    def read(self, node: Node, problems: Problems) -> Any:
        """Plain data, or MISSING after having said what is wrong."""
        none = node.value is None or (isinstance(node.value, str) and node.value == "none")
        return None if self.nullable and none else self.read_given(node, problems)

    def read_given(self, node: Node, problems: Problems) -> Any:
        """The same for what is not "none"."""
        raise NotImplementedError

    def long(self, node: Node) -> Node:
        """The value with short forms written out, so that options of it may be changed one by one."""
        return node

    def complete(self, plain: Any) -> Any:
        """Plain data with all defaults."""
        return plain

    def make(self, plain: Any) -> Any:
        """The constructor's argument."""
        return plain

    def forms(self, check: Check | None) -> list[Schema]:
        """Schemas of what it may be, "none" aside; `check`: the constructor's."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scalar(Reader):
    """A number, a boolean, a string, a duration where `timedelta` is one of the types, in seconds; or one of some
    `words`. Its range is the constructor's to check."""

    types: tuple[type, ...] = ()
    words: tuple[str, ...] = ()

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if timedelta in self.types and isinstance(value, timedelta):
            return value.total_seconds()
        if timedelta in self.types and isinstance(value, str):
            value = parse_duration(value)
            fits = value is not None
        elif isinstance(value, str) and self.words:
            fits = value in self.words
        elif isinstance(value, bool):
            fits = bool in self.types
        else:
            fits = isinstance(value, (*self.types, int) if float in self.types else self.types)
        if fits:
            return value
        problems.add(node, f"must be {self._allowed()}")
        return MISSING

    def _allowed(self) -> str:
        none = ["none"] if self.nullable else []
        if self.words:
            return f"one of: {', '.join([*self.words, *none])}"
        if timedelta in self.types:
            return DURATION_FORMS + ', or "none"' * self.nullable
        return " or ".join(
            [*(_TYPES[kind][0] for kind in _TYPES if kind in self.types), *(f'"{word}"' for word in none)]
        )

    def forms(self, check: Check | None) -> list[Schema]:
        if self.words:
            return [{"enum": list(self.words)}]
        if timedelta in self.types:
            return [{"type": "number", **_range(check)}, {"type": "string", "pattern": f"^(?:{_DURATION})$"}]
        return [{"type": _TYPES[kind][1], **(_range(check) if kind in (int, float) else {})} for kind in self.types]


def _range(check: Check | None) -> Schema:
    match check:
        case Seconds(zero=zero):
            return {"minimum": 0} if zero else {"exclusiveMinimum": 0}
        case Count(minimum=minimum):
            return {"minimum": minimum}
        case Number(minimum=minimum, above=above):
            return {"exclusiveMinimum" if above else "minimum": minimum}
        case Share():
            return {"exclusiveMinimum": 0, "maximum": 1}
        case _:
            return {}


@dataclass(frozen=True)
class Named(Reader):
    """Code by name (see names.py). `on` takes several names, and `cost` a number, too."""

    option: str = ""

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if self.option == "cost" and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        several = self.option == "on" and isinstance(value, list)
        items: list[Node] = cast(list[Node], value) if several else [node]
        if not items:
            problems.add(node, f"must name at least one. {nearest('', names.known(self.option))}")
        read = [self._one(item, problems) for item in items]
        if not items or MISSING in read:
            return MISSING
        return tuple(read) if self.option == "on" else read[0]

    def _one(self, node: Node, problems: Problems) -> Any:
        name = node.value
        if node.broken is None and isinstance(name, str) and names.look_up(self.option, name) is not None:
            return name
        problems.add(node, node.broken or self._unknown(HIDDEN if node.secret else name))
        return MISSING

    def _unknown(self, name: object) -> str:
        if not isinstance(name, str):
            return f"must be a name. {nearest('', names.known(self.option))}"
        if re.search(r"\w[.:]\w", name):
            short = re.split(r"[.:]", name)[-1]
            return (
                f"a configuration imports no code: call define({short!r}, {self.option}={short}) in the program and "
                f"write {short!r} here"
            )
        python = ", a built-in exception of Python's, or what define() named" if self.option == "on" else ""
        return f"is not known; {nearest(name, names.known(self.option))}{python}"

    def make(self, plain: Any) -> Any:
        if not isinstance(plain, str | tuple):
            return plain
        things = [names.look_up(self.option, name) for name in ((plain,) if isinstance(plain, str) else plain)]
        if None in things:
            raise ValueError(f"{self.option} names {plain!r}, which is not defined any more")
        return things[0] if len(things) == 1 else tuple(things)

    def forms(self, check: Check | None) -> list[Schema]:
        name: Schema = {"type": "string", "examples": list(names.known(self.option))}
        several: list[Schema] = [{"type": "array", "items": name, "minItems": 1}] if self.option == "on" else []
        return [name, *several, *([{"type": "number"}] if self.option == "cost" else [])]


@dataclass(frozen=True)
class Value(Reader):
    """Anything that TOML has."""

    nullable: bool = True

    def read_given(self, node: Node, problems: Problems) -> Any:
        for leaf in node.leaves():
            fits = isinstance(leaf.value, str | int | float | date | time)
            if leaf.broken is not None or not fits:
                allowed = "must be something that TOML has: text, a number, true, false, a date, a list, a table"
                problems.add(leaf, leaf.broken or allowed, shown=not fits)
                return MISSING
        return node.plain()

    def make(self, plain: Any) -> Any:
        return thawed(plain)

    def forms(self, check: Check | None) -> list[Schema]:
        return [{}]


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
