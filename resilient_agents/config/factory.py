"""Constructors as their signatures describe them: which options they take, and how each is read and made.

The annotation decides: a parameter that takes a `timedelta` takes "1.5s", a `Literal` its words, one that may be None
"none". An option that a strategy gains is thereby configurable without a second place that names it, and its range is
checked by the strategy itself.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from resilient_agents import backoff
from resilient_agents.base.spelling import nearest
from resilient_agents.budget import RetryBudget
from resilient_agents.config import names
from resilient_agents.config.redact import without_values
from resilient_agents.config.tree import Node, Problems
from resilient_agents.config.values import MISSING, Choice, Duration, Named, OrNone, Plain, Reader, Value
from resilient_agents.core.match import When

__all__ = ["WAITS", "Factory", "Nested", "WaitReader"]

WAITS: dict[str, Callable[..., Any]] = {
    "exponential": backoff.exponential,
    "linear": backoff.linear,
    "fibonacci": backoff.fibonacci,
    "fixed": backoff.fixed,
}


class WaitReader:
    """A wait of backoff.py: `{ kind = "exponential", base = 0.5 }`."""

    def read(self, node: Node, problems: Problems) -> Any:
        if not isinstance(node.value, dict):
            word = node.value if isinstance(node.value, str) else ""
            problems.add(node, f"must be a wait, a table with its kind, or a duration; {nearest(word, WAITS)}")
            return MISSING
        options: dict[str, Node] = dict(node.value)
        kind = options.pop("kind", None)
        name: Any = "exponential" if kind is None else kind.value
        if kind is not None and (not isinstance(name, str) or name not in WAITS):
            problems.add(kind, kind.broken or f"is no kind of wait; {nearest(str(name), WAITS)}")
            return MISSING
        read = Factory.of(WAITS[name]).read(Node(options, node.place), problems)
        return MISSING if read is MISSING else {"kind": name, **read}

    def make(self, plain: Any) -> Any:
        kind = plain["kind"]
        return Factory.of(WAITS[kind]).make({key: value for key, value in plain.items() if key != "kind"})


@dataclass(frozen=True)
class Nested(OrNone):
    """An object that is made of a table, such as a `RetryBudget`."""

    type: type

    def read_given(self, node: Node, problems: Problems) -> Any:
        factory = Factory.of(self.type)
        if not isinstance(node.value, dict):
            problems.add(node, f"must be a table, true or false. {nearest('', factory.readers)}")
            return MISSING
        return factory.read(node, problems)

    def make(self, plain: Any) -> Any:
        return None if plain is None else Factory.of(self.type).make(plain)


class Factory:
    """A constructor as its signature describes it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(getattr(make, "__init__") if isinstance(make, type) else make)  # noqa: B009
        self._build = make
        self.parameters = {name: part for name, part in inspect.signature(make).parameters.items() if name != "self"}
        found = {name: _reader(name, hints[name]) for name in self.parameters}
        self.readers: dict[str, Reader] = {name: reader for name, reader in found.items() if reader is not None}
        self.code = frozenset(name for name, reader in found.items() if reader is None)
        """Options that only Python can give."""
        self.first = next(iter(self.parameters))

    @staticmethod
    @functools.cache
    def of(make: Callable[..., Any]) -> Factory:
        return Factory(make)

    def make(self, plain: Mapping[str, Any]) -> Any:
        return self._build(**{name: self.readers[name].make(value) for name, value in plain.items()})

    def read(
        self, table: Node, problems: Problems, *, untried: frozenset[str] = frozenset(), partial: bool = False
    ) -> Any:
        """The options in `table` as plain data that the constructor accepts, or MISSING.

        `untried` options are read, but not given to the constructor: a breaker's name, of which there may be one alive.
        `partial`: what the options lie on could not be found, so that none of them is missing.
        """
        options: dict[str, Node] = table.value
        read: dict[str, Any] = {}
        for name, node in options.items():
            value = self._option(name, node, problems)
            if value is not MISSING:
                read[name] = value
        lacking = [name for name in self.required if name not in options]
        if lacking and not partial:
            problems.add(table, f"{' and '.join(lacking)} must be given", shown=bool(options))
        tried = {name: value for name, value in read.items() if name not in untried}
        fits = self._try(tried, table, problems, wrong=options.keys() - read.keys())
        return read if fits and len(read) == len(options) and not lacking else MISSING

    @property
    def required(self) -> list[str]:
        return [name for name, part in self.parameters.items() if part.default is inspect.Parameter.empty]

    def _option(self, name: str, node: Node, problems: Problems) -> Any:
        reader = self.readers.get(name)
        if name in self.code:
            problems.add(node, "is code and can be given in Python only", shown=False)
        elif reader is None:
            problems.add(node, f"is not an option here; {nearest(name, self.readers)}")
        elif node.broken is not None:
            problems.add(node, node.broken)
        else:
            return reader.read(node, problems)
        return MISSING

    def _try(self, values: dict[str, Any], table: Node, problems: Problems, wrong: set[str]) -> bool:
        """Does the constructor accept them? Reports each option that it refuses, not only the first one. What is
        compared with one that is `wrong` already may only seem so."""
        options: dict[str, Node] = table.value
        secret = any(leaf.secret for leaf in table.leaves())
        filled = dict.fromkeys(self.required, 1)  # all of them are numbers, and 1 is in range
        left = dict(values)
        while (error := self._refusal({**filled, **left})) is not None:
            culprit = error.split(" ", 1)[0]
            if culprit in left or len(left) == len(values):
                node = options[culprit] if culprit in left else table
                if wrong.isdisjoint(re.findall(r"\w+", error)):
                    problems.add(node, without_values(error) if secret else error, shown=node is not table)
            if culprit not in left:
                return False
            wrong.add(culprit)
            del left[culprit]
        return len(left) == len(values)

    def _refusal(self, values: Mapping[str, Any]) -> str | None:
        try:
            self.make(values)
        except (TypeError, ValueError, ArithmeticError) as error:
            return str(error)
        return None


def _reader(name: str, hint: Any) -> Reader | None:
    """What reads an option with this annotation, None if only code can give it."""
    members = _members(hint)
    nullable = type(None) in members
    if name in names.NAMED and (name != "when" or When in members):  # that of Chaos chooses calls, not results
        return Named(nullable, name)
    if name == "wait":
        return WaitReader()
    if hint is Any:
        return Value(nullable=True)
    if timedelta in members:
        return Duration(nullable)
    words = tuple(
        word for member in members if typing.get_origin(member) is Literal for word in typing.get_args(member)
    )
    if words:
        return Choice(nullable, words)
    if RetryBudget in members:
        return Nested(nullable, RetryBudget)
    plain = tuple(member for member in members if member in (bool, int, float, str))
    return Plain(nullable, plain) if plain else None


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(hint) for member in _members(part))
    return (hint,)
