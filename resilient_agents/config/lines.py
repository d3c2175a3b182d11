"""On which line of a TOML text does each key stand? tomllib does not say.

`key_lines` reads a text that tomllib has accepted, so it need not judge: it has only to know where strings, comments
and brackets begin and end. It is proven against tomllib on generated documents. A parser that keeps positions (tomlkit)
would be a dependency, and slower, for this one thing.
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from typing import TypeAlias

__all__ = ["KeyPath", "key_lines"]

KeyPath: TypeAlias = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|#[^\n]*|\n|[\[\]{}=.,]"
    r"|[^\s\[\]{}=.,\"'#]+",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key, table and array element of a valid TOML document, by its path."""
    document = _Document(text)
    table: KeyPath = ()
    while first := document.next_after_line_ends():
        if first == "[":
            document.take()
            table = document.keys((), "]")
        else:
            document.value(document.keys(table, "="))
    return document.lines


class _Document:
    """Its tokens, comments aside, read from the first to the last."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._numbers: dict[KeyPath, int] = {}  # of an array of tables: the number of the last one
        self._tokens: deque[tuple[str, int]] = deque()
        line = 1
        for token in _TOKEN.findall(text):
            if not token.startswith("#"):
                self._tokens.append((token, line))
            line += token.count("\n")
        self._tokens.append(("", line))

    def take(self) -> str:
        return self._tokens.popleft()[0]

    def next_after_line_ends(self) -> str:
        while self._tokens[0][0] == "\n":
            self.take()
        return self._tokens[0][0]

    def keys(self, path: KeyPath, end: str) -> KeyPath:
        """`path`, and below it the keys of `a.b =`, of `a.b]`, or of `[a.b]]`: another table of an array."""
        many = self._tokens[0][0] == "["
        if many:
            self.take()
        while self._tokens[0][0] != end:
            text, line = self._tokens.popleft()
            if text != ".":
                path = (*path, tomllib.loads(f"key = {text}")["key"] if text[0] in "\"'" else text)
                self.lines.setdefault(path, line)
                if many and self._tokens[0][0] == end:
                    self._numbers[path] = self._numbers.get(path, -1) + 1
                if path in self._numbers:
                    path = (*path, self._numbers[path])
                    self.lines.setdefault(path, line)
        for _ in range(2 if many else 1):
            self.take()
        return path

    def value(self, path: KeyPath) -> None:
        opening = self.take()
        if opening not in ("[", "{"):
            while self._tokens[0][0] not in (",", "]", "}", "\n", ""):
                self.take()
            return
        number = 0
        while (first := self.next_after_line_ends()) not in ("]", "}"):
            if first == ",":
                self.take()
            elif opening == "{":
                self.value(self.keys(path, "="))
            else:
                self.lines.setdefault((*path, number), self._tokens[0][1])
                self.value((*path, number))
                number += 1
        self.take()
