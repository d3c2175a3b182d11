"""Methods of a broken file that stand at the wrong column: they belong to the class that goes on behind them."""

from __future__ import annotations

import re

from resilient_agents.scan.lines import Line

__all__ = ["rejoin"]

METHOD = re.compile(r"(async\s+)?def\s+\w+\s*\(\s*(self|cls)\b")
ENDS = re.compile(r"(return|yield|raise|if|for|while|with|try|else|elif|except|finally)\b")


def rejoin(text: str, lines: list[Line]) -> None:
    """Give what stands out to the left in the midst of a class, or is a method behind it, the column of its members."""
    around: Line | None = None
    column = index = 0
    while index < len(lines):
        line = lines[index]
        if around is not None and line.column <= around.column and line.word != "class":
            end = _end(text, lines, index, around.column, column)
            if end > index:
                _push(lines, index, end, column)
            else:
                around = None
            index = max(end, index + 1)
            continue
        if line.word == "class" and (around is None or line.column <= around.column):
            column = _column_of_members(text, lines, index)
            around = line if column else None
        elif line.word == "def":
            _pull(text, lines, index)
        index += 1


def _column_of_members(text: str, lines: list[Line], index: int) -> int:
    """Where what a class holds begins: right below it, else where its next method is; 0 if it has none."""
    outer = lines[index].column
    for number, line in enumerate(lines[index + 1 :], index + 1):
        if line.column > outer and (number == index + 1 or _begins(METHOD, text, line)):
            return line.column
        if line.word == "class" and line.column <= outer:
            break
    return 0


def _end(text: str, lines: list[Line], start: int, outer: int, column: int) -> int:
    """Where what begins there ends, if it belongs to the class; `start` if it does not."""
    end = start + 1
    while end < len(lines) and lines[end].column > outer and not _member(text, lines, end, column):
        end += 1
    if _begins(METHOD, text, lines[start]):
        return end
    at = end
    while at < len(lines) and not _member(text, lines, at, column):
        if lines[at].word == "class" and lines[at].column <= outer:
            return start
        at += 1
    return end if at < len(lines) else start


def _member(text: str, lines: list[Line], index: int, column: int) -> bool:
    """Whether a method begins there, and not a function within a function, whose name something is done with below."""
    at = index
    while at < len(lines) - 1 and lines[at].word == "@" and lines[at].column == column:
        at += 1
    line = lines[at]
    if line.column != column or not _begins(METHOD, text, line):
        return False
    for below in lines[at + 1 :]:
        if below.column < column:
            return True
        if below.column == column and _begins(ENDS, text, below):
            return False
    return True


def _begins(pattern: re.Pattern[str], text: str, line: Line) -> bool:
    """Whether what a line says begins with it."""
    code = text[line.start : line.stop]
    return pattern.match(text, line.stop - len(code.lstrip())) is not None


def _push(lines: list[Line], start: int, end: int, column: int) -> None:
    """To the right: a header alone where its body is deep enough already."""
    shift = column - lines[start].column
    alone = end > start + 1 and lines[start + 1].column > column
    for line in lines[start : start + 1 if alone else end]:
        line.column += shift
        line.moved += shift


def _pull(text: str, lines: list[Line], index: int) -> None:
    """A header that stands in the column of its body, to the left: where other methods of its class stand."""
    line = lines[index]
    after = lines[index + 1] if index + 1 < len(lines) else None
    if after is None or after.column != line.column or after.word in ("def", "class", "@"):
        return
    around = next(
        (each for each in reversed(lines[:index]) if each.word == "class" and each.column < line.column), None
    )
    if around is None or not _begins(METHOD, text, line):
        return
    near = (*reversed(lines[:index]), *lines[index + 1 :])
    beside = (each.column for each in near if each.word == "def" and around.column < each.column < line.column)
    if (column := next(beside, None)) is not None:
        line.moved += column - line.column
        line.column = column
