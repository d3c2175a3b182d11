"""Text that does not parse, cut into logical lines: where each begins and ends, and how far it is indented.

Strings, comments and brackets are told apart as Python does. A bracket that is never closed ends where no expression
can go on: before a word that only begins statements, or where two expressions would stand side by side.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

__all__ = ["Line", "logical_lines"]

TOKEN = re.compile(
    r"""
    (?P<string>\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comment>\#[^\n]*)|(?P<joined>\\\n)|(?P<newline>\n)|(?P<stray>["'])
    """,
    re.VERBOSE | re.DOTALL,
)
STARTS = re.compile(
    r"(def|class|return|import|try|except|finally|with|while|raise|pass|break|continue|global|nonlocal|assert|del|elif)"
    r"\b(?!\s*[=.,)\]])|from\s+[.\w]+\s+import\b|@\w|(async\s+(def|with|for)\b)|<<<<<<<|=======|>>>>>>>"
)
GOES_ON = re.compile(
    r"[)\]},.:=+\-*/%|&^<>!~\"'@]|(and|or|not|in|is|if|else|for|async|await|from)\b|[rbfuRBFU]{1,2}[\"']"
)
EXPECTS = re.compile(r"([,(\[{=+\-*/%|&^<>:~.\\]|\b(and|or|not|in|is|if|else|lambda|await|yield|for|from))\Z")
CODE = re.compile(r"^[ \t]*(async def|def|class) \w.*:[ \t]*$", re.MULTILINE)
MARKER = re.compile(r"<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\||@@ |```")
DECORATOR = re.compile(r"@\s*\w")
HEADER = re.compile(r"(async\s+)?(def|class|if|elif|else|for|while|with|try|except|finally|match|case)\b")


@dataclass(slots=True)
class Line:
    """A logical line; `number` counts from 1, `column` counts a tab as going on to the next multiple of eight."""

    start: int
    end: int
    stop: int
    """Where its code ends: before a comment."""
    number: int
    column: int
    header: bool
    word: str
    """The keyword that it begins with, for a header: `def` for `async def`, too."""
    moved: int = 0
    """By how many columns, to where it belongs: not parsed in one piece with what stands where it is written."""


def logical_lines(text: str) -> list[Line]:
    found: list[Line] = []
    start = depth = 0
    number = first = 1
    comment = -1
    for token in TOKEN.finditer(_without_open_string(text)):
        kind = token.lastgroup
        if kind == "string":
            number += token[0].count("\n")
            comment = -1
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(depth - 1, 0)
        elif kind == "comment":
            comment = token.start()
        elif kind == "joined":
            number += 1
        elif kind == "newline":
            number += 1
            code_end = comment if comment >= 0 else token.start()
            comment = -1
            if depth and not _breaks(text, start, code_end, token.end()):
                continue
            _add(found, text, start, code_end, token.start(), first)
            start, first, depth = token.end(), number, 0
    _add(found, text, start, comment if comment >= 0 else len(text), len(text), first)
    for line, after in itertools.pairwise(found):
        # Without its colon it is a header all the same, if what follows is indented.
        line.header = line.header or (line.word not in ("", "@") and after.column > line.column)
    _let_go(found)
    _straighten(found)
    _indent_tries(found)
    return found


def _without_open_string(text: str) -> str:
    """The same text without the three quotes of a string that is never closed, which would hold code up to the next."""
    for quotes in ('"""', "'''"):
        if text.count(quotes) % 2:
            for token in TOKEN.finditer(text):
                if token[0].startswith(quotes) and CODE.search(token[0]):
                    return f"{text[: token.start()]}   {text[token.start() + 3 :]}"
    return text


def _breaks(text: str, start: int, code_end: int, following: int) -> bool:
    """Whether an open bracket must have been forgotten, seen where the next line follows."""
    end = text.find("\n", following)
    next_line = text[following : end if end >= 0 else len(text)]
    line = next_line.strip()
    if not line or line.startswith("#"):
        return False
    if STARTS.match(line):
        return True
    code = text[start:code_end].rstrip()
    last = code[code.rfind("\n") + 1 :].strip()
    if not last or last.startswith("#"):
        return False
    if last.endswith(":") and HEADER.match(code.lstrip()):
        return True
    before = code[: len(code) - len(code.lstrip())]
    begun = len(before) - before.rfind("\n") - 1
    if begun and line[0] not in ")]}" and len(next_line) - len(next_line.lstrip()) <= begun:
        return True  # what goes on is indented more
    return not (GOES_ON.match(line) or EXPECTS.search(last))


def _add(found: list[Line], text: str, start: int, code_end: int, end: int, number: int) -> None:
    code = text[start:code_end].rstrip()
    stripped = code.lstrip()
    if not stripped or MARKER.match(code):
        return
    before = code[: len(code) - len(stripped)]
    column = len(before.rpartition("\n")[2].expandtabs(8))
    match = HEADER.match(stripped)
    word = "@" if DECORATOR.match(stripped) else match[2] if match is not None else ""
    found.append(
        Line(start, end, start + len(code), number, column, match is not None and stripped.endswith(":"), word)
    )


def _straighten(lines: list[Line]) -> None:
    """Lines that stand out to the left in the midst of a block belong to it if they are no more than what follows."""
    for index in range(len(lines) - 1, 1, -1):
        column, start = lines[index].column, index
        while start and lines[start - 1].column < column and not (lines[start - 1].header or lines[start - 1].word):
            start -= 1
        if not 0 < start < index or not _goes_on(lines, start, column):
            continue
        end = next((at for at in range(index, len(lines)) if lines[at].column < column), len(lines))
        if index - start == 1 or index - start <= end - index:
            for line in lines[start:index]:
                line.column = column


def _goes_on(lines: list[Line], start: int, column: int) -> bool:
    """Whether a block of this column is open before the line at `start`, or could begin there."""
    before = lines[start - 1]
    if before.header:
        return True
    outer = before.column
    while start and outer > column:
        start -= 1
        outer = min(outer, lines[start].column)
    return outer == column


def _let_go(lines: list[Line]) -> None:
    """An `except` in the column of a `def` ends no `try`: what is below it belongs to the function."""
    for index, line in enumerate(lines[:-1]):
        if line.word not in ("except", "finally", "else", "elif") or lines[index + 1].column <= line.column:
            continue
        opener = next((lines[at] for at in range(index - 1, -1, -1) if lines[at].column <= line.column), None)
        if opener is not None and opener.column == line.column and opener.word in ("def", "class"):
            line.column, line.header, line.word = lines[index + 1].column, False, ""


def _indent_tries(lines: list[Line]) -> None:
    """What follows a `try:` without being indented, up to its `except`, is its body."""
    for index, line in enumerate(lines[:-1]):
        if line.word != "try" or lines[index + 1].column > line.column:
            continue
        for end in range(index + 1, len(lines)):
            after = lines[end]
            if after.column < line.column or (after.column == line.column and after.word in ("def", "class", "@")):
                break
            if after.column == line.column and after.word in ("except", "finally"):
                for each in lines[index + 1 : end]:
                    each.column += 1
                break
