"""On which line of a TOML text does each key stand? tomllib does not say.

`key_lines` reads a text that tomllib has accepted, so it need not judge: it has only to know where strings, comments
and brackets begin and end. It is proven against tomllib on generated documents. A parser that keeps positions (tomlkit)
would be a dependency, and slower, for this one thing.
"""

from __future__ import annotations

import re
import tomllib
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
_AFTER_A_VALUE = frozenset([",", "]", "}", "\n", ""])


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key, table and array element of a valid TOML document, by its path."""
    document = _Document(text)
    table: KeyPath = ()
    while document.next_after_line_ends():
        if document.next() == "[":
            table = document.header()
        else:
            document.pair(table)
    return document.lines


class _Document:
    """Its tokens, comments aside, read from the first to the last."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._tables: dict[KeyPath, int] = {}  # of an array of tables: the number of the last one
        self._tokens: list[tuple[str, int]] = []
        self._at = 0
        line, counted = 1, 0
        for found in _TOKEN.finditer(text):
            line += text.count("\n", counted, found.start())
            counted = found.start()
            if not found[0].startswith("#"):
                self._tokens.append((found[0], line))
        self._tokens += [("", line)] * 2

    def next(self) -> str:
        return self._tokens[self._at][0]

    def next_after_line_ends(self) -> str:
        while self.next() == "\n":
            self._at += 1
        return self.next()

    def header(self) -> KeyPath:
        """`[a.b]`, or `[[a.b]]`, which begins another table of an array."""
        many = self._tokens[self._at + 1][0] == "["
        self._at += 2 if many else 1
        path: KeyPath = ()
        while self.next() != "]":
            path = self._key(path)
            if many and self.next() == "]":
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path = (*path, self._tables[path])
                self._note(path, self._at - 1)
        self._at += 2 if many else 1
        return path

    def pair(self, path: KeyPath) -> None:
        """`a.b = value`, in a table at this path."""
        while self.next() != "=":
            path = self._key(path)
        self._at += 1
        self._value(path)

    def _key(self, path: KeyPath) -> KeyPath:
        """One part of a key, and the dot after it."""
        text = self.next()
        path = (*path, tomllib.loads(f"key = {text}")["key"] if text[0] in "\"'" else text)
        self._note(path, self._at)
        self._at += 1
        if self.next() == ".":
            self._at += 1
        return path

    def _value(self, path: KeyPath) -> None:
        opening = self.next()
        if opening not in ("[", "{"):
            while self.next() not in _AFTER_A_VALUE:
                self._at += 1
            return
        self._at += 1
        number = 0
        while self.next_after_line_ends() not in ("]", "}"):
            if opening == "{":
                self.pair(path)
            else:
                self._note((*path, number), self._at)
                self._value((*path, number))
                number += 1
            if self.next_after_line_ends() == ",":
                self._at += 1
        self._at += 1

    def _note(self, path: KeyPath, token: int) -> None:
        self.lines.setdefault(path, self._tokens[token][1])
