"""On which line of a TOML text does each key stand? tomllib does not say, so the keys are made to say it themselves.

Each key has its line put behind its name, each element of an array its line before it, and tomllib reads that, too. So
only strings, comments and brackets have to be known here; what tables and dotted keys mean is left to tomllib. A
parser that keeps positions (tomlkit) would be a dependency, and slower, for this one thing.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeAlias

__all__ = ["KeyPath", "key_lines"]

KeyPath: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}'
    r'|"(?:\\.|[^"\\])*"|\'[^\']*\''
    r"|#[^\n]*|\n|[^\S\n]+|[\[\]{}=.,]"
    r"|[^\s\[\]{}=.,\"'#]+",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key, table and array element of a valid TOML document, by its path."""
    lines: dict[KeyPath, int] = {}
    _spread(tomllib.loads(_marked(text)), (), 1, lines, {})
    del lines[()]
    return lines


def _marked(text: str) -> str:
    """The text with a line in each key and before each element of an array."""
    parts: list[str] = []
    line, within, awaits = 1, "", "key"  # the brackets that are open around a value; what may come next
    for token in _TOKEN.findall(text):
        marked = token
        if token[0] == "#" or token.isspace():
            awaits = "key" if token == "\n" and not within else awaits
        elif token == "=":
            awaits = ""
        elif token == ",":
            awaits = "key" if within[-1] == "{" else "element"
        elif token in "]}" and within:
            within, awaits = within[:-1], ""
        elif awaits != "key":
            marked = f"{line}, {token}" if awaits == "element" else token
            awaits = {"[": "element", "{": "key"}.get(token, "")
            within += token if awaits else ""
        elif token not in "[].":
            marked = _marked_key(token, line)
        parts.append(marked)
        line += token.count("\n")
    return "".join(parts)


def _marked_key(key: str, line: int) -> str:
    return f"{key[:-1]}@{line}{key[-1]}" if key[0] in "\"'" else f'"{key}@{line}"'


def _spread(value: Any, path: KeyPath, line: int, lines: dict[KeyPath, int], last: dict[KeyPath, int]) -> None:
    """Note the lines of a value and of all below it. `last`: of an array of tables, the number of the last one."""
    lines.setdefault(path, line)
    if isinstance(value, dict):
        inside = (*path, last[path]) if path in last else path
        for marked, item in value.items():
            name, _, at = marked.rpartition("@")
            _spread(item, (*inside, name), int(at), lines, last)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for table in value:
            last[path] = last.get(path, -1) + 1
            _spread(table, (*path, last[path]), line, lines, last)
    elif isinstance(value, list):
        for number, (at, item) in enumerate(zip(value[::2], value[1::2], strict=True)):
            _spread(item, (*path, number), at, lines, last)
