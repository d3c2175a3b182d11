"""Sources as trees in which every value knows its place, `${NAME}` in them, and what is wrong with them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from typing import Any, ClassVar

from resilient_agents.config.lines import KeyPath
from resilient_agents.config.redact import HIDDEN, looks_secret, redacted, without_userinfo

__all__ = ["ConfigError", "Node", "Place", "Problem", "Problems", "expand", "nodes", "typed"]

DEEPEST = 12
"""Levels of nesting; no valid configuration has as many, and a dict may contain itself."""

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")


@dataclass(frozen=True, slots=True)
class Place:
    source: str
    line: int | None
    key: KeyPath

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


def nodes(
    value: Any,
    source: str,
    lines: Mapping[KeyPath, int],
    problems: Problems,
    path: KeyPath = (),
    *,
    line: int | None = None,
    secret: bool = False,
) -> Node:
    """Plain data as a tree. What has no line of its own has `line`, that of the nearest key above it; all of it is
    `secret`, or what the names of the keys above it say."""
    place = Place(source, lines.get(path, line), path)

    def below(key: str | int, item: Any) -> Node:
        return nodes(item, source, lines, problems, (*path, key), line=place.line, secret=secret)

    if isinstance(value, Mapping | list | tuple) and len(path) > DEEPEST:
        problems.say(place, f"is nested more than {DEEPEST} levels deep")
        return Node(None, place, broken="is nested too deeply")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                problems.say(place, f"keys must be strings, got {type(key).__name__}")
        return Node({key: below(key, item) for key, item in value.items() if isinstance(key, str)}, place)
    if isinstance(value, list | tuple):
        return Node([below(number, item) for number, item in enumerate(value)], place)
    too_large = isinstance(value, int) and abs(value) >= 2**63  # TOML promises 64 bits, and a dict may hold more
    broken = "is too large: a number has at most 64 bits" if too_large else None
    return Node(value, place, secret or _is_secret(path, value), broken)


def _is_secret(path: KeyPath, value: Any) -> bool:
    """By what the keys above it are called. The names that a user chose for policies, components and profiles say
    nothing about what is inside of them; a text where a table belongs may be anything."""
    start = 2 if path[:1] == ("profiles",) else 0
    keys = [*path[start : start + 1], *path[start + 2 :]]
    if isinstance(value, str):
        keys.append(path[-1])
    return any(isinstance(key, str) and looks_secret(key) for key in keys)


def expand(node: Node, env: Mapping[str, str], problems: Problems) -> Node:
    """The tree with `${NAME}` and `${NAME:-default}` in its strings replaced. Keys stay as they are.

    A string that is nothing but one reference becomes a number, a boolean, an array or a table if its text spells one.
    """
    if isinstance(node.value, dict):
        return replace(node, value={key: expand(item, env, problems) for key, item in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[expand(item, env, problems) for item in node.value])
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    secret, broken = node.secret, None

    def replaced(found: re.Match[str]) -> str:
        nonlocal secret, broken
        name, default = found["name"], found["default"]
        if found[0] == "$$":
            return "$"
        if name is None:
            broken = "write ${NAME} or ${NAME:-default}, and $${ for ${ itself"
            return ""
        text = env.get(name) or (default if default is not None else env.get(name))
        secret = secret or (looks_secret(name) and bool(text))
        if text is None:
            broken = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
        return text or ""

    text = _REFERENCE.sub(replaced, node.value)
    if broken is not None:
        return replace(node, broken=broken, secret=secret)
    value = typed(text) if _REFERENCE.fullmatch(node.value) else text
    return nodes(value, node.place.source, {}, problems, node.place.key, line=node.place.line, secret=secret)


def typed(text: str) -> Any:
    """The text of an environment variable as the TOML value that it spells, and as itself if it spells none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = parsed.get("value")
    return text if len(parsed) != 1 or isinstance(value, str | date | time) else value


def _shown(node: Node) -> str:
    try:
        text = repr(redacted(node.plain(hide=True)))
    except Exception:  # a value of a plain dict may be anything
        text = f"<{type(node.value).__name__}>"
    text = {"True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else f"{text[:77]}..."
