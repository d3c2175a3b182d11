"""Files, texts, dicts and variables as trees of values that know their place, and what is wrong with them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, time
from typing import Any, ClassVar

from resilient_agents.config.lines import KeyPath, key_lines
from resilient_agents.config.redact import HIDDEN, looks_secret, redacted, without_userinfo

__all__ = ["MISSING", "ConfigError", "Node", "Problem", "Source", "place_of", "read_file", "typed"]

MISSING: Any = object()
"""What stands for a value after a problem with it has been said."""

DEEPEST = 12
"""Levels of nesting; no valid configuration has as many, and a dict may contain itself."""

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")


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
        return ": ".join(part for part in (place_of(self), what, self.allowed) if part)


def place_of(thing: Problem | Node) -> str:
    """The source and the line."""
    return thing.source if thing.line is None else f"{thing.source}:{thing.line}"


class ConfigError(ValueError):
    """A configuration that cannot be used. `.problems` holds all that is wrong with it, in the order of the source."""

    what: ClassVar[str] = "the configuration"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.source, problem.line or 0)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        heading = f"{self.what} has {'a problem' if count == 1 else f'{count} problems'}"
        return "\n  ".join([f"{heading}:", *map(str, self.problems)])


@dataclass(slots=True)
class Node:
    """A value of a source: a scalar, a `dict[str, Node]` or a `list[Node]`; where it stands, what keeps the problems
    with it, and what is special."""

    value: Any
    source: str
    line: int | None
    key: KeyPath
    problems: dict[Problem, None]
    secret: bool = False
    broken: str | None = None
    """Why there is no value, such as an environment variable that is not set. It is a problem only if it is needed."""

    def here(self, value: Any, broken: str | None = None) -> Node:
        """Another value in the same place."""
        return replace(self, value=value, secret=False, broken=broken)

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
        self.say(allowed, self._shown() if shown else None)
        return MISSING

    def say(self, allowed: str, value: str | None = None) -> None:
        """What is wrong here, without what looks like a secret in it."""
        key = ""
        for part in self.key:
            spelled = part if isinstance(part, int) or re.fullmatch(r"[\w-]+", part) else repr(part)
            key += f"[{part}]" if isinstance(part, int) else f".{spelled}"
        key = without_userinfo(key.removeprefix("."))
        self.problems.setdefault(Problem(self.source, self.line, key, value, redacted(allowed)))

    def _shown(self) -> str:
        try:
            text = repr(redacted(self.plain(hide=True)))
        except Exception:  # a value of a plain dict may be anything
            text = f"<{type(self.value).__name__}>"
        text = {"True": "true", "False": "false"}.get(text, text)
        return text if len(text) <= 80 else f"{text[:77]}..."


def read_file(path: str | os.PathLike[str]) -> str:
    """The text of a file, without the byte order mark that some editors put first. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8-sig") as content:
            return content.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeError):
            utf16 = getattr(error, "object", b"")[:2] in (b"\xff\xfe", b"\xfe\xff")
            why = f"is not text in UTF-8{' but in UTF-16' if utf16 else ''}"
        raise ConfigError([Problem(os.fsdecode(path), None, "", None, f"cannot be read: {why}")]) from error


@dataclass(frozen=True)
class Source:
    """What makes trees of TOML and of plain data.

    `name`: what errors call it. `env`: for `${NAME}` and `${NAME:-default}` in strings; None leaves them as they are.
    `lines`: where keys stand.
    """

    name: str
    env: Mapping[str, str] | None = None
    problems: dict[Problem, None] = field(default_factory=dict[Problem, None])
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])

    def toml(self, text: str, *within: str) -> Node:
        """The tree of a TOML text, which stands `within` these keys. Raises ConfigError where it is no TOML."""
        text = text.removeprefix("\ufeff")
        try:
            plain, lines = _parsed(text)
            own = {(*within, *path): line for path, line in lines.items()}
            return Source(self.name, self.env, self.problems, own).tree(plain, within)
        except (ValueError, RecursionError) as error:
            place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
            line = None if place is None else int(place[1] or text.count("\n") + 1)
            why = str(error).replace(place[0] if place else "", "")
            why = "nested too deeply" if isinstance(error, RecursionError) else why
            raise ConfigError([Problem(self.name, line, "", None, f"is not TOML: {why}")]) from None

    def tree(self, value: Any, path: KeyPath = (), line: int | None = None, secret: bool = False) -> Node:
        """Plain data as a tree. What has no line of its own has `line`, that of the nearest key above it; all of it is
        `secret`, or what stands under a key whose name says so."""
        node = Node(value, self.name, self.lines.get(path, line), path, self.problems, secret)
        if not isinstance(value, Mapping | list | tuple):
            return self._scalar(node, value)
        if len(path) > DEEPEST:
            node.say(f"is nested more than {DEEPEST} levels deep")
            return node.here(None, broken="is nested too deeply")
        if isinstance(value, list | tuple):
            return node.here([self.tree(item, (*path, at), node.line, secret) for at, item in enumerate(value)])
        # the names that a user chose for policies, components and profiles say nothing about what is inside of them
        chosen = len(path) == 1 or (len(path) == 3 and path[0] == "profiles")
        items: dict[str, Node] = {}
        for key, item in value.items():
            if isinstance(key, str):
                hidden = secret or (not chosen and looks_secret(key))
                items[key] = self.tree(item, (*path, key), node.line, hidden)
            else:
                node.say(f"keys must be strings, got {type(key).__name__}")
        return node.here(items)

    def _scalar(self, node: Node, value: Any) -> Node:
        if isinstance(value, str):
            node.secret = node.secret or (
                node.key != () and looks_secret(str(node.key[-1]))
            )  # where a table belongs, too
            return node if self.env is None or "${" not in value else self._replaced(node, self.env)
        if isinstance(value, int) and abs(value) >= 2**63:  # TOML promises 64 bits, and a dict may hold more
            node.broken = "is too large: a number has at most 64 bits"
        return node

    def _replaced(self, node: Node, env: Mapping[str, str]) -> Node:
        """What a text with references means: one that is nothing but one reference becomes a number, a boolean, an
        array or a table if the variable spells one. It is not looked at for references again."""

        def replaced(found: re.Match[str]) -> str:
            name, default = found["name"], found["default"]
            if found[0] == "$$":
                return "$"
            if name is None:
                node.broken = "write ${NAME} or ${NAME:-default}, and $${ for ${ itself"
                return ""
            text = env.get(name) or (default if default is not None else env.get(name))
            node.secret = node.secret or (looks_secret(name) and bool(text))
            if text is None:
                node.broken = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            return text or ""

        text = _REFERENCE.sub(replaced, node.value)
        if node.broken is not None:
            return node
        meant = typed(text) if _REFERENCE.fullmatch(node.value) else text
        return Source(self.name, problems=self.problems).tree(meant, node.key, node.line, node.secret)


def _parsed(text: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), key_lines(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # an int of more digits than Python converts; one that is merely too large has a place
        text = re.sub(r"\d[\d_]{4000,}", str(10**30), text)
        return tomllib.loads(text), key_lines(text)


def typed(text: str) -> Any:
    """The text of an environment variable as the TOML value that it spells, and as itself if it spells none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = parsed.get("value")
    return text if len(parsed) != 1 or isinstance(value, str | date | time) else value
