"""Constructors as their signatures describe them: which options they take, how each is read and made, and which of them
a configuration can name.

The annotation decides: a parameter that takes a `timedelta` takes "1.5s", a `Literal` its words, one that may be None
"none". An option that a strategy gains is thereby configurable without a second place that names it, and its range is
checked by the strategy itself.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from resilient_agents import backoff
from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.durations import parse_duration
from resilient_agents.base.spelling import nearest
from resilient_agents.budget import RetryBudget
from resilient_agents.config.names import NAMED, Named
from resilient_agents.config.redact import without_values
from resilient_agents.config.source import MISSING, Node
from resilient_agents.config.values import Reader, Scalar, Schema
from resilient_agents.core.match import When
from resilient_agents.core.options import Check
from resilient_agents.idempotency import Writes
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.hedge import Hedge
from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["FACTORIES", "KINDS", "REFERENCE", "SECTIONS", "SLOTS", "WAITS", "Factory", "table_schema", "told_kind"]

REFERENCE: Schema = {"type": "string", "pattern": r"\$\{"}
"""An environment variable may stand for any value."""


class Factory(Reader):
    """A constructor as its signature describes it, which reads a table of its options."""

    def __init__(self, make: Callable[..., Any], nullable: bool = False) -> None:
        super().__init__(nullable)
        self.makes = make
        self.parameters = dict(inspect.signature(make, eval_str=True).parameters)
        checks: Mapping[str, Check] = getattr(make, "OPTIONS", {})
        found = {name: _reader(name, part.annotation, checks.get(name)) for name, part in self.parameters.items()}
        self.readers: dict[str, Reader] = {name: reader for name, reader in found.items() if reader is not None}
        self.code = found.keys() - self.readers.keys()
        """Options that only Python can give."""
        self.first = next(iter(found))
        self.defaults = {name: part.default for name, part in self.parameters.items() if part.default is not part.empty}
        self.required = [name for name in found if name not in self.defaults]

    def make(self, plain: Any) -> Any:
        given = {name: None if value is None else self.readers[name].make(value) for name, value in plain.items()}
        return self.makes(**given)

    def default(self, option: str) -> Any:
        """As a file would say it, None for "none"."""
        value = self.defaults[option]
        if isinstance(value, backoff.Backoff):
            return self.readers[option].complete({"kind": "exponential"})  # which is what Retry's default is
        return next(name for name, code in NAMED[option].items() if code is value) if callable(value) else value

    def complete(self, plain: Any) -> Any:
        return {**self.defaults, **plain}

    def long(self, node: Node) -> Node:
        """True is a table without options, and false is None."""
        if isinstance(node.value, bool):
            return node.here({} if node.value else None)
        if not isinstance(node.value, dict):
            return node
        anything = Reader()
        return node.here({name: self.readers.get(name, anything).long(item) for name, item in node.value.items()})

    def read(self, node: Node, *, partial: bool = False) -> Any:
        """The options in a table as plain data that the constructor accepts, or MISSING.

        A name is not given to the constructor: there may be a breaker of that name alive. `partial`: what the options
        lie on could not be found, so that none of them is missing.
        """
        if not isinstance(node.value, dict):
            return node.refuse(f"must be a table, true or false. {nearest('', self.readers)}")
        options: dict[str, Node] = node.value
        read = {name: value for name, option in options.items() if (value := self._option(name, option)) is not MISSING}
        lacking = [name for name in self.required if name not in options]
        if lacking and not partial:
            node.refuse(f"{' and '.join(lacking)} must be given", shown=bool(options))
        tried = {name: value for name, value in read.items() if name != "name"}
        fits = self._fits(tried, node, wrong=options.keys() - read.keys())
        return read if fits and len(read) == len(options) and not lacking else MISSING

    def _option(self, name: str, node: Node) -> Any:
        reader = self.readers.get(name)
        if name in self.code:
            return node.refuse("is code and can be given in Python only", shown=False)
        if reader is None:
            return node.refuse(f"is not an option here; {nearest(name, self.readers)}")
        if node.broken is not None:
            return node.refuse(node.broken, shown=not isinstance(node.value, int))
        value = node.value  # of a plain dict it may be anything, also what refuses to be compared
        none = value is None or (isinstance(value, str) and value == "none")
        return None if none and reader.nullable else reader.read(node)

    def _fits(self, left: dict[str, Any], table: Node, wrong: set[str]) -> bool:
        """Does the constructor accept them? Reports each option that it refuses, not only the first one. What is
        compared with one that is `wrong` already may only seem so."""
        filled = dict.fromkeys(self.required, 1)  # all of them are numbers, and 1 is in range
        culprit = ""
        while True:
            try:
                self.make({**filled, **left})
            except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
                said, first = str(error), not culprit
            else:
                return not culprit
            culprit = said.split(" ", 1)[0]
            if (culprit in left or first) and wrong.isdisjoint(re.findall(r"\w+", said)):
                secret = any(leaf.secret for leaf in table.leaves())
                node = table.value[culprit] if culprit in left else table
                node.refuse(without_values(said) if secret else said, shown=node is not table)
            if culprit not in left:
                return False
            wrong.add(culprit)
            del left[culprit]

    def forms(self) -> list[Schema]:
        return [{"type": "boolean"}, self.schema()]

    def schema(self, **more: Schema) -> Schema:
        """Of a table of these options. What is required may stand in what a policy extends."""
        properties: Schema = {}
        for name, reader in self.readers.items():
            none = [{"const": "none"}] * reader.nullable
            properties[name] = {"anyOf": [*reader.forms(), *none, REFERENCE]}
            if name in self.defaults:
                default = self.default(name)
                properties[name]["default"] = "none" if default is None else default
        return table_schema({**properties, **more})


def table_schema(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def told_kind(table: Node, makes: Mapping[str, Any], what: str, default: str = "") -> tuple[str, Node] | None:
    """Which of several a table says that it is, and the rest of it; None after having said what is wrong."""
    options: dict[str, Node] = dict(table.value)
    kind = options.pop("kind", None)
    name: Any = default if kind is None else kind.value
    if kind is not None and not (isinstance(name, str) and name in makes):
        kind.refuse(kind.broken or f"is no kind of {what}; {nearest(str(name), makes)}")
        return None
    return name, table.here(options)


class _Wait(Reader):
    """A wait of backoff.py: `{ kind = "exponential", base = 0.5 }`."""

    def read(self, node: Node) -> Any:
        if not isinstance(node.value, dict):
            word = node.value if isinstance(node.value, str) else ""
            return node.refuse(f"must be a wait, a table with its kind, or a duration; {nearest(word, WAITS)}")
        told = told_kind(node, WAITS, "wait", "exponential")
        read = MISSING if told is None else WAITS[told[0]].read(told[1])
        return MISSING if told is None or read is MISSING else {"kind": told[0], **read}

    def long(self, node: Node) -> Node:
        value: Any = node.value
        if node.broken is not None or isinstance(value, bool) or not isinstance(value, str | int | float):
            return node
        if not isinstance(value, str) or parse_duration(value) is not None:
            return node.here({"kind": node.here("fixed"), "delay": node})
        return node.here({"kind": node}) if value in WAITS else node

    def complete(self, plain: Any) -> Any:
        return {"kind": plain["kind"], **WAITS[plain["kind"]].complete(plain)}

    def make(self, plain: Any) -> Any:
        return WAITS[plain["kind"]].make({key: value for key, value in plain.items() if key != "kind"})

    def forms(self) -> list[Schema]:
        kinds = [wait.schema(kind={"const": kind}) for kind, wait in WAITS.items()]
        others = [{**schema, "required": ["kind"]} for schema in kinds[1:]]
        return [{"type": "number", "minimum": 0}, {"type": "string"}, kinds[0], *others]


def _reader(name: str, hint: Any, check: Check | None) -> Reader | None:
    """What reads an option with this annotation, None if only code can give it."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    nullable = type(None) in members
    if name in NAMED and (name != "when" or When in members):  # that of Chaos chooses calls, not results
        return Named(nullable, name)
    if name == "wait":
        return _Wait()
    if hint is Any:
        return Reader(nullable=True)
    if RetryBudget in members:
        return Factory(RetryBudget, nullable)
    words = tuple(word for part in members if typing.get_origin(part) is Literal for word in typing.get_args(part))
    plain = tuple(member for member in members if member in (bool, int, float, str, timedelta))
    return Scalar(nullable, plain, words, check) if words or plain else None


_WAITS = (backoff.exponential, backoff.linear, backoff.fibonacci, backoff.fixed)
WAITS = {wait.__name__: Factory(wait) for wait in _WAITS}

_STRATEGIES = (Timeout, Retry, Hedge, CircuitBreaker, Gate, RateLimit, Bulkhead, StreamTimeout, Chaos)
KINDS = {strategy.strategy: Factory(strategy) for strategy in _STRATEGIES}
FACTORIES = {**KINDS, "policy": Factory(Writes)}
"""What makes strategies of each kind; "policy": what a policy itself is told."""

_KEYS = ("timeout", "retry", "hedge", "circuit_breaker", "gate", "rate_limit", "bulkhead", "attempt_timeout",
         "stream_timeout")  # fmt: skip
SLOTS: dict[str, str] = {key: key.removeprefix("attempt_") for key in _KEYS}
"""The keys of a policy in canonical order, outermost first, and the kind of each."""

SECTIONS: dict[str, str] = {f"{kind}s": kind for kind in ("circuit_breaker", "bulkhead", "rate_limit", "gate")}
"""Where strategies that may be shared by name stand, and their kind."""
