"""Values that know their place in a source, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from resilient_agents.config.lines import KeyPath
from resilient_agents.config.redact import HIDDEN, redacted, without_userinfo

__all__ = ["MISSING", "ConfigError", "Node", "Place", "Problem", "Problems"]

MISSING: Any = object()
"""What stands for a value after a problem with it has been said."""


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
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        what = self.key if self.value is None else f"{self.key} = {self.value}"
        return ": ".join(part for part in (place, what, self.allowed) if part)


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

    def raise_if_any(self) -> None:
        if self.found:
            raise ConfigError(sorted(self.found, key=lambda problem: (problem.source, problem.line or 0)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, and what keeps the problems with it."""

    source: str
    line: int | None
    key: KeyPath
    problems: Problems = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def say(self, allowed: str, value: str | None = None) -> None:
        """What is wrong here, without what looks like a secret in it."""
        key = ""
        for part in self.key:
            spelled = part if isinstance(part, int) or re.fullmatch(r"[\w-]+", part) else repr(part)
            key += f"[{part}]" if isinstance(part, int) else f".{spelled}"
        key = without_userinfo(key.removeprefix("."))
        self.problems.found.setdefault(Problem(self.source, self.line, key, value, redacted(allowed)))


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

    def table(self) -> dict[str, Node]:
        """What a table holds; nothing after having said that it must be one."""
        if isinstance(self.value, dict):
            return self.value
        self.refuse(self.broken or "must be a table")
        return {}

    def leaves(self) -> Iterator[Node]:
        """Every scalar below, or this one."""
        below: Iterable[Any] = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for node in below:
                yield from node.leaves()
        else:
            yield self

    def refuse(self, allowed: str, *, shown: bool = True) -> Any:
        """Say what is wrong with it, its value `shown`, and return MISSING. Where `allowed` quotes a secret that is
        hidden, too."""
        for leaf in self.leaves():
            if leaf.secret and leaf.value not in (None, ""):
                allowed = allowed.replace(repr(leaf.value), HIDDEN).replace(str(leaf.value), HIDDEN)
        self.place.say(allowed, self._shown() if shown else None)
        return MISSING

    def _shown(self) -> str:
        try:
            text = repr(redacted(self.plain(hide=True)))
        except Exception:  # a value of a plain dict may be anything
            text = f"<{type(self.value).__name__}>"
        text = {"True": "true", "False": "false"}.get(text, text)
        return text if len(text) <= 80 else f"{text[:77]}..."
