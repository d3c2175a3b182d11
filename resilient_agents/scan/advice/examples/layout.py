"""Lines of code as people lay them out: texts in double quotes, long calls with one argument a line."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Iterable, Iterator

__all__ = ["indented", "laid_out"]

WIDE = 100
INDENT = "    "
OPENING, CLOSING = "([{", ")]}"


def laid_out(lines: Iterable[str]) -> Iterator[str]:
    """Lines of which each is a statement, or the head of one."""
    for line in lines:
        yield from _folded(_quoted(line))


def _quoted(line: str) -> str:
    """With double quotes around texts that have none inside."""
    parts, last = [], 0
    for token in _tokens(line):
        text = token.string
        if token.type == tokenize.STRING and text[:1] == "'" and not {'"', "\\"} & set(text):
            parts += [line[last : token.start[1]], f'"{text[1:-1]}"']
            last = token.end[1]
    return "".join([*parts, line[last:]])


def _folded(line: str) -> Iterator[str]:
    pieces = _pieces(line) if len(line) > WIDE else None
    if pieces is None:
        yield line
        return
    head, arguments, tail, grouped = pieces
    indent = line[: len(line) - len(line.lstrip())]
    yield head
    for argument in arguments:
        comma = "" if grouped or (argument.startswith("**") and tail.lstrip().startswith(("}", "]"))) else ","
        yield from _folded(f"{indent}{INDENT}{argument}{comma}")
    yield f"{indent}{tail}"


def _pieces(line: str) -> tuple[str, list[str], str, bool] | None:
    """What stands before the last bracket that is opened outside of all others, its parts, and what follows; whether it
    only groups what a comma would make a tuple."""
    stack: list[int] = []
    outer: list[tuple[int, int]] = []
    commas: list[int] = []
    for token in _tokens(line):
        column = token.start[1]
        if token.type != tokenize.OP:
            continue
        if token.string in OPENING:
            stack.append(column)
        elif token.string in CLOSING and stack:
            start = stack.pop()
            if not stack:
                outer.append((start, column))
        elif token.string == "," and len(stack) == 1:
            commas.append(column)
    if stack or not outer:
        return None
    start, end = max(outer, key=lambda each: each[1] - each[0])
    inside = line[start + 1 : end]
    if not inside.strip() or " for " in inside:
        return None
    ends = [column for column in commas if start < column < end]
    starts = [start, *ends]
    parts = [line[a + 1 : b].strip() for a, b in zip(starts, [*ends, end], strict=True)]
    before = line[:start].rstrip()
    called = bool(re.search(r"[\w)\]]$", before)) and not keyword.iskeyword(re.split(r"\W", before)[-1])
    grouped = line[start] == "(" and not ends and not called
    return line[: start + 1], [part for part in parts if part], line[end:], grouped


def _tokens(line: str) -> list[tokenize.TokenInfo]:
    """Columns count from the start of the line, however it is indented."""
    try:
        indent = len(line) - len(line.lstrip())
        found = tokenize.generate_tokens(io.StringIO(line.lstrip()).readline)
        return [
            each._replace(start=(1, each.start[1] + indent), end=(1, each.end[1] + indent))
            for each in found
            if each.start[0] == 1
        ]
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return []


def indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{INDENT}{line}" if line else line for line in lines)
