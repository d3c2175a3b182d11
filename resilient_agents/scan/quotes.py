"""Quotes inside of f-strings, as Python 3.12 allows them and older ones do not: `f"{names["first"]}"`.

The inner quotes become the other kind, which leaves every position where it was.
"""

from __future__ import annotations

import re

__all__ = ["requoted"]

START = re.compile(
    r"\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|#[^\n]*|(?P<f>\b[rR]?[fF][rR]?[\"'])"
    r"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'",
    re.DOTALL,
)


def requoted(text: str) -> str:
    """The text with the same number of characters in the same lines."""
    characters: list[str] | None = None
    at = 0
    while (match := START.search(text, at)) is not None:
        at = match.end()
        if match["f"] is None or text[at : at + 2] == text[at - 1] * 2:
            continue
        inner, end = _inside(text, at, text[at - 1])
        if end < 0:
            continue
        if inner:
            characters = characters or list(text)
            other = "'" if text[at - 1] == '"' else '"'
            for position in inner:
                characters[position] = other
        at = end
    return "".join(characters) if characters is not None else text


def _inside(text: str, at: int, quote: str) -> tuple[list[int], int]:
    """(positions of the same quote within braces, the end of the string); -1 if it has none in its line."""
    depth = 0
    found: list[int] = []
    while at < len(text) and text[at] != "\n":
        character = text[at]
        if (character == "\\" and not depth) or (
            character in "{}" and not depth and text[at : at + 2] == character * 2
        ):
            at += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth = max(depth - 1, 0)
        elif character == quote:
            if not depth:
                return found, at + 1
            found.append(at)
        at += 1
    return [], -1
