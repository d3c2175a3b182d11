"""Values that know their place in a source, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from resilient_agents.config.lines import KeyPath
from resilient_agents.config.redact import HIDDEN, redacted, without_userinfo

__all__ = ["ConfigError", "Node", "Place", "Problem", "Problems"]


@dataclass(frozen=True, slots=True)
class Place:
    source: str
    line: int | None
    key: KeyPath = ()

    def dotted(self) -> str:
        text = ""
        for part in self.key:
            spelled = part if isinstance(part, int) or re.fullmatch(r"[\w-]+", part) else repr(part)
            text += f"[{part}]" if isinstance(part, int) else f".{spelled}"
        return text.removeprefix(".")

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a source: a scalar, a `dict[str, Node]` or a `list[Node]`, where it stands, and what is special."""

    value: Any
    place: Place
    secret: bool = False
    broken: str | None = None
    """Why there is no value, such as an environment variable that is not set. It is a problem only if it is needed."""

    def plain(self, *, hide: bool = False) -> Any:
        """The value without places; `hide` secrets, to show it."""
        if isinstance(self.value, dict):
            return {key: node.plain(hide=hide) for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain(hide=hide) for node in self.value]
        return HIDDEN if hide and self.secret else self.value

    def leaves(self) -> Iterator[Node]:
        """Every scalar below, or this one."""
        below: Iterable[Any] = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for node in below:
                yield from node.leaves()
        else:
            yield self


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: The file, "<string>", "<dict>", "preset 'http'", "environment variable X" or "change of X".
        line: Its line in the file, or None where there are no lines.
        key: The dotted key, such as "policies.openai.retry.attempts"; "" for the source as a whole.
        value: What stands there, as text; None where the problem is not about one value. Secrets are hidden.
        allowed: What is wrong, and what is allowed instead.
    """

    source: str
    line: int | None
    key: str
    value: str | None
    allowed: str

    def __str__(self) -> str:
        what = self.key if self.value is None else f"{self.key} = {self.value}"
        return ": ".join(part for part in (str(Place(self.source, self.line)), what, self.allowed) if part)


class ConfigError(ValueError):
    """A configuration that cannot be used. `.problems` holds all that is wrong with it, in the order of the source."""

    what: ClassVar[str] = "the configuration"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        heading = f"{self.what} has {'a problem' if count == 1 else f'{count} problems'}"
        return "\n  ".join([f"{heading}:", *map(str, self.problems)])


class Problems:
    """All that is wrong so far."""

    def __init__(self) -> None:
        self.found: dict[Problem, None] = {}

    def add(self, node: Node, allowed: str, *, shown: bool = True) -> None:
        """`allowed` may quote the value; where it is a secret the quotation is hidden, too."""
        for leaf in node.leaves():
            if leaf.secret and leaf.value not in (None, ""):
                allowed = allowed.replace(repr(leaf.value), HIDDEN).replace(str(leaf.value), HIDDEN)
        self.say(node.place, allowed, _shown(node) if shown else None)

    def say(self, place: Place, allowed: str, value: str | None = None) -> None:
        problem = Problem(place.source, place.line, without_userinfo(place.dotted()), value, redacted(allowed))
        self.found.setdefault(problem)

    def raise_if_any(self) -> None:
        if self.found:
            ordered = sorted(self.found, key=lambda problem: (problem.source, problem.line or 0))
            raise ConfigError(ordered)


def _shown(node: Node) -> str:
    try:
        text = repr(redacted(node.plain(hide=True)))
    except Exception:  # a value of a plain dict may be anything
        text = f"<{type(node.value).__name__}>"
    text = {"True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else f"{text[:77]}..."
