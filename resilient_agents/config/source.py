"""Files, texts, dicts and variables as trees of values that know their place, with `${NAME}` in them replaced."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from resilient_agents.config.lines import KeyPath, key_lines
from resilient_agents.config.redact import looks_secret
from resilient_agents.config.tree import ConfigError, Node, Place, Problem, Problems

__all__ = ["Source", "read_file", "typed"]

DEEPEST = 12
"""Levels of nesting; no valid configuration has as many, and a dict may contain itself."""

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")


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
    problems: Problems = field(default_factory=Problems)
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])

    def toml(self, text: str, *within: str) -> Node:
        """The tree of a TOML text, which stands `within` these keys. Raises ConfigError where it is no TOML."""
        text = text.removeprefix("\ufeff")
        try:
            plain, lines = _parsed(text), {(*within, *path): line for path, line in key_lines(text).items()}
            return Source(self.name, self.env, self.problems, lines).tree(plain, within)
        except (ValueError, RecursionError) as error:
            place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
            line = None if place is None else int(place[1] or text.count("\n") + 1)
            why = str(error).replace(place[0] if place else "", "")
            why = "nested too deeply" if isinstance(error, RecursionError) else why
            raise ConfigError([Problem(self.name, line, "", None, f"is not TOML: {why}")]) from None

    def tree(self, value: Any, path: KeyPath = (), line: int | None = None, secret: bool = False) -> Node:
        """Plain data as a tree. What has no line of its own has `line`, that of the nearest key above it; all of it is
        `secret`, or what the names of the keys above it say."""
        place = Place(self.name, self.lines.get(path, line), path, self.problems)
        if isinstance(value, Mapping | list | tuple) and len(path) > DEEPEST:
            place.say(f"is nested more than {DEEPEST} levels deep")
            return Node(None, place, broken="is nested too deeply")
        if isinstance(value, list | tuple):
            return Node([self.tree(item, (*path, at), place.line, secret) for at, item in enumerate(value)], place)
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    place.say(f"keys must be strings, got {type(key).__name__}")
            items = {key: item for key, item in value.items() if isinstance(key, str)}
            return Node({key: self.tree(item, (*path, key), place.line, secret) for key, item in items.items()}, place)
        return self._scalar(value, place, secret or _is_secret(path, value))

    def _scalar(self, value: Any, place: Place, secret: bool) -> Node:
        if self.env is not None and isinstance(value, str) and "${" in value:
            return self._replaced(value, self.env, place, secret)
        too_large = isinstance(value, int) and abs(value) >= 2**63  # TOML promises 64 bits, and a dict may hold more
        return Node(value, place, secret, "is too large: a number has at most 64 bits" if too_large else None)

    def _replaced(self, value: str, env: Mapping[str, str], place: Place, secret: bool) -> Node:
        """What a text with references means: one that is nothing but one reference becomes a number, a boolean, an
        array or a table if the variable spells one. It is not looked at for references again."""
        broken: str | None = None

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

        text = _REFERENCE.sub(replaced, value)
        if broken is not None:
            return Node(value, place, secret, broken)
        meant = typed(text) if _REFERENCE.fullmatch(value) else text
        return Source(self.name, problems=self.problems).tree(meant, place.key, place.line, secret)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # an int of more digits than Python converts; one that is merely too large has a place
        return tomllib.loads(re.sub(r"\d[\d_]{4000,}", str(10**30), text))


def _is_secret(path: KeyPath, value: Any) -> bool:
    """By what the keys above it are called. The names that a user chose for policies, components and profiles say
    nothing about what is inside of them; a text where a table belongs may be anything."""
    start = 2 if path[:1] == ("profiles",) else 0
    keys = [*path[start : start + 1], *path[start + 2 :], *(path[-1:] if isinstance(value, str) else ())]
    return any(isinstance(key, str) and looks_secret(key) for key in keys)


def typed(text: str) -> Any:
    """The text of an environment variable as the TOML value that it spells, and as itself if it spells none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = parsed.get("value")
    return text if len(parsed) != 1 or isinstance(value, str | date | time) else value
