"""Readers of single values: a number, a duration, one word of several, code by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import Any, Protocol, cast

from resilient_agents.base.spelling import nearest
from resilient_agents.config import names
from resilient_agents.config.tree import Node, Problems

__all__ = [
    "DURATION",
    "DURATION_FORMS",
    "MISSING",
    "Choice",
    "Duration",
    "Named",
    "OrNone",
    "Plain",
    "Reader",
    "Value",
    "frozen",
    "is_none",
    "parse_duration",
    "thawed",
]

MISSING: Any = object()
"""What a reader returns after it has reported a problem."""

_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d)"
DURATION = r"\s*(?:(?:\d+(?:\.\d+)?)\s*(?:ms|sec|s|min|m|h|d)\s*)+"
_DURATION = re.compile(DURATION, re.ASCII)
DURATION_FORMS = 'seconds as a number, or text such as "200ms", "1.5s", "2m" or "1h 30m"'


class Reader(Protocol):
    """How one option is read and made."""

    def read(self, node: Node, problems: Problems) -> Any:
        """Plain data, or MISSING after having said what is wrong."""
        ...

    def make(self, plain: Any) -> Any:
        """The constructor's argument."""
        ...


@dataclass(frozen=True)
class OrNone:
    """A base for readers of what may be "none", too, where it is `nullable`, and is given as it was read."""

    nullable: bool

    def read(self, node: Node, problems: Problems) -> Any:
        return None if self.nullable and is_none(node.value) else self.read_given(node, problems)

    def read_given(self, node: Node, problems: Problems) -> Any:
        raise NotImplementedError

    def make(self, plain: Any) -> Any:
        return plain


def parse_duration(text: str) -> float | None:
    """Seconds of "200ms", "1.5s", "2m", "1h 30m"; None for anything else."""
    if _DURATION.fullmatch(text) is None:
        return None
    parts = [(float(amount), _SECONDS[unit]) for amount, unit in re.findall(_PART, text)]
    # 200 ms are 0.2 s, not 0.2 and a rounding error
    return sum(amount / 1000 if unit == 0.001 else amount * unit for amount, unit in parts)


@dataclass(frozen=True)
class Plain(OrNone):
    """A number, a boolean or a string as it is. Its range is the constructor's to check."""

    types: tuple[type, ...]

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if isinstance(value, bool):
            fits = bool in self.types
        elif isinstance(value, int):
            fits = int in self.types or float in self.types
        else:
            fits = isinstance(value, self.types)
        if not fits:
            problems.add(node, f"must be {self._allowed()}")
            return MISSING
        return value if _is_moderate(node, problems) else MISSING

    def _allowed(self) -> str:
        spelled = {bool: "true or false", float: "a number", int: "a whole number", str: "a string"}
        words = [
            text for kind, text in spelled.items() if kind in self.types and not (kind is int and float in self.types)
        ]
        return " or ".join([*words, *(['"none"'] if self.nullable else [])])


@dataclass(frozen=True)
class Duration(OrNone):
    """A length of time, in seconds."""

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if _is_moderate(node, problems) else MISSING
        parsed = parse_duration(value) if isinstance(value, str) else None
        if parsed is None:
            problems.add(node, f"must be {DURATION_FORMS}" + (', or "none"' if self.nullable else ""))
            return MISSING
        return parsed


@dataclass(frozen=True)
class Choice(OrNone):
    words: tuple[Any, ...]

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if not isinstance(value, str) or value not in self.words:
            words = [*self.words, *(["none"] if self.nullable else [])]
            problems.add(node, f"must be one of: {', '.join(words)}")
            return MISSING
        return value


@dataclass(frozen=True)
class Named(OrNone):
    """Code by name (see names.py). `on` takes several names, and `cost` a number, too."""

    option: str

    def read_given(self, node: Node, problems: Problems) -> Any:
        value: Any = node.value
        if self.option == "cost" and isinstance(value, int | float) and not isinstance(value, bool):
            return value if _is_moderate(node, problems) else MISSING
        several = self.option == "on" and isinstance(value, list)
        items: list[Node] = cast(list[Node], value) if several else [node]
        if not items:
            problems.add(node, f"must name at least one. {nearest('', names.known(self.option))}")
        read = [self._one(item, problems) for item in items]
        if not items or MISSING in read:
            return MISSING
        return tuple(read) if self.option == "on" else read[0]

    def make(self, plain: Any) -> Any:
        if not isinstance(plain, str | tuple):
            return plain
        things = [names.look_up(self.option, name) for name in ((plain,) if isinstance(plain, str) else plain)]
        if None in things:
            raise ValueError(f"{self.option} names {plain!r}, which is not defined any more")
        return things[0] if len(things) == 1 else tuple(things)

    def _one(self, node: Node, problems: Problems) -> Any:
        name = node.value
        if node.broken is not None:
            problems.add(node, node.broken)
        elif isinstance(name, str) and names.look_up(self.option, name) is not None:
            return name
        elif not isinstance(name, str):
            problems.add(node, f"must be a name. {nearest('', names.known(self.option))}")
        elif re.search(r"\w[.:]\w", name):
            short = re.split(r"[.:]", name)[-1]
            problems.add(
                node,
                f"a configuration imports no code: call define({short!r}, {self.option}={short}) in the program and "
                f"write {short!r} here",
            )
        else:
            python = ", a built-in exception of Python's, or what define() named" if self.option == "on" else ""
            problems.add(node, f"is not known; {nearest(name, names.known(self.option))}{python}")
        return MISSING


@dataclass(frozen=True)
class Value(OrNone):
    """Anything that TOML has."""

    def read_given(self, node: Node, problems: Problems) -> Any:
        for leaf in node.leaves():
            if leaf.broken is not None:
                problems.add(leaf, leaf.broken)
            elif not isinstance(leaf.value, str | int | float | date | time):
                problems.add(
                    leaf, "must be something that TOML has: text, a number, true, false, a date, a list, a table"
                )
            elif _is_moderate(leaf, problems):
                continue
            return MISSING
        return _data(node)

    def make(self, plain: Any) -> Any:
        return thawed(plain)


def _data(node: Node) -> Any:
    value: Any = node.value
    if isinstance(value, dict):
        return {key: _data(item) for key, item in cast(dict[str, Node], value).items()}
    return [_data(item) for item in cast(list[Node], value)] if isinstance(value, list) else value


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


def is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "none")


def _is_moderate(node: Node, problems: Problems) -> bool:
    """TOML promises 64 bits, and a dict may hold more."""
    if isinstance(node.value, int) and abs(node.value) >= 2**63:
        problems.add(node, "is too large: a number has at most 64 bits", shown=False)
        return False
    return True
