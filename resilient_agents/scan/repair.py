"""Text that does not parse, as a syntax tree all the same.

It is cut into logical lines, and blocks are told by indentation. What parses is parsed, in pieces as large as can be;
of the rest the headers are put together by hand and the calls in broken lines are kept. So one bad line costs itself.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from resilient_agents.scan.classes import rejoin
from resilient_agents.scan.fragments import fragment, header_arguments
from resilient_agents.scan.lines import Line, logical_lines

__all__ = ["Shifted", "repair"]

FOLLOWS = {"elif", "else", "except", "finally"}
NAMED = re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)")
ALWAYS = ast.Constant(True)


class Shifted(ast.stmt):
    """Statements of a piece that was parsed alone: `shift` leads from its line numbers to those of the file."""

    _fields = ("body",)

    def __init__(self, body: list[ast.stmt], shift: int) -> None:
        super().__init__()
        self.body = body
        self.shift = shift


def repair(text: str) -> ast.Module:
    """The tree of what can be read; never fails for what the text says, RecursionError where it nests too deeply."""
    lines = logical_lines(text)
    rejoin(text, lines)
    return ast.Module(_Pieces(text).block(lines), [])


def parsed(text: str) -> list[ast.stmt] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except (SyntaxError, ValueError):
        return None


class _Pieces:
    def __init__(self, text: str) -> None:
        self.text = text

    def block(self, lines: list[Line]) -> list[ast.stmt]:
        """Statements of lines that stand in one block."""
        if not lines:
            return []
        groups = _groups(lines)
        if len(groups) > 1:
            return self.halves(groups)
        whole = self.whole(lines)
        return whole if whole is not None else self.group(groups[0])

    def halves(self, groups: list[list[Line]]) -> list[ast.stmt]:
        """As much as parses in one piece; what does not is halved."""
        lines = [line for group in groups for line in group]
        whole = self.whole(lines)
        if whole is not None:
            return whole
        if len(groups) == 1:
            return self.group(groups[0])
        middle = len(groups) // 2
        return [*self.halves(groups[:middle]), *self.halves(groups[middle:])]

    def whole(self, lines: list[Line]) -> list[ast.stmt] | None:
        first = lines[0]
        if any(line.moved != first.moved for line in lines):
            return None
        text = self.text[first.start : lines[-1].end]
        if text[:1] in " \t":
            body = parsed(f"if 1:\n{text}")
            return [Shifted(body[0].body, first.number - 2)] if body and isinstance(body[0], ast.If) else None
        body = parsed(text)
        return [Shifted(body, first.number - 1)] if body is not None else None

    def group(self, lines: list[Line]) -> list[ast.stmt]:
        """One statement with its blocks, that did not parse as a whole."""
        parts: list[tuple[Line, list[Line]]] = []
        decorators: list[Line] = []
        for line in lines:
            if line.word == "@" and not parts:
                decorators.append(line)
            elif not parts or (line.word in FOLLOWS and line.column <= parts[0][0].column):
                parts.append((line, []))
            else:
                parts[-1][1].append(line)
        if not parts or not parts[0][0].header:
            alone = [*decorators, *(line for line, _ in parts)]
            below = [each for _, body in parts for each in self.block(body)]
            return [*(each for line in alone for each in self.simple(line)), *below]
        head = parts[0][0]
        whole = self.compound(head, parts)
        if isinstance(whole, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            whole.decorator_list = [each for line in decorators for each in self.decorator(line, head)]
        return [Shifted([whole], head.number - 1)]

    def decorator(self, line: Line, head: Line) -> list[ast.expr]:
        made = parsed(self.code(line).removeprefix("@"))
        if not made or not isinstance(made[0], ast.Expr):
            return []
        return [ast.increment_lineno(made[0].value, line.number - head.number)]

    def compound(self, head: Line, parts: list[tuple[Line, list[Line]]]) -> ast.stmt:
        body = self.block(parts[0][1]) or [ast.Pass()]
        if head.word in ("def", "class"):
            return self.definition(head, body)
        if head.word == "try":
            return self.attempt(parts, body)
        rest: list[ast.stmt] = []
        for line, lines in reversed(parts[1:]):
            rest = [Shifted([self.statement(line, self.block(lines) or [ast.Pass()], rest)], line.number - 1)]
        return self.statement(head, body, rest)

    def attempt(self, parts: list[tuple[Line, list[Line]]], body: list[ast.stmt]) -> ast.stmt:
        handlers, otherwise, finally_ = [], [], []
        for line, lines in parts[1:]:
            inside = [*([] if line.header else self.inline(line)), *self.block(lines)]
            if line.word == "except":
                handlers.append(ast.ExceptHandler(None, None, inside))
            elif line.word == "finally":
                finally_ += inside
            else:
                otherwise += inside
        return ast.Try(body, handlers, otherwise, finally_)

    def statement(self, line: Line, body: list[ast.stmt], rest: list[ast.stmt]) -> ast.stmt:
        """A header with its body: as it parses, else as an `if` or a loop with what calls its header has."""
        code = self.header(line)
        made = parsed(f"{code.removeprefix('el') if line.word == 'elif' else code} pass")
        if made and len(made) == 1 and hasattr(made[0], "body"):
            node: Any = made[0]
            node.body = body
            if hasattr(node, "orelse"):
                node.orelse = rest
                return node  # type: ignore[no-any-return]
            return ast.If(ALWAYS, [node], rest)
        inside = [*fragment(code, line.column), *body]
        if line.word in ("for", "while"):
            return ast.While(ALWAYS, inside, rest)
        return ast.If(ALWAYS, inside, rest)

    def definition(self, line: Line, body: list[ast.stmt]) -> ast.stmt:
        code = self.header(line)
        made = parsed(f"{code} pass")
        if made and isinstance(made[0], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made[0].body = body
            return made[0]
        name = NAMED.match(code)
        text = f"{'async ' if code.startswith('async') else ''}{line.word} {name[1] if name else '_'}"
        if line.word == "def":
            text += f"({', '.join(header_arguments(code))})"
        replaced: Any = ast.parse(f"{text}: pass").body[0]
        replaced.body = [*(fragment(code.partition("(")[2]) if line.word == "class" else ()), *body]
        return replaced  # type: ignore[no-any-return]

    def simple(self, line: Line) -> list[ast.stmt]:
        whole = self.whole([line])
        if whole is not None:
            return whole
        return self.inline(line)

    def inline(self, line: Line) -> list[ast.stmt]:
        """What stands behind the colon: `except KeyError: give_up()`."""
        return [Shifted(fragment(self.code(line), line.column), line.number - 1)]

    def header(self, line: Line) -> str:
        """With its colon."""
        code = self.code(line)
        return code if code.endswith(":") else f"{code}:"

    def code(self, line: Line) -> str:
        return self.text[line.start : line.stop].strip()


def _groups(lines: list[Line]) -> list[list[Line]]:
    """Statements of a block: a line with all that is indented more, its `else` and `except`, its decorators."""
    groups: list[list[Line]] = []
    head: Line | None = None
    for line in lines:
        if head is not None and (
            line.word in FOLLOWS or head.word == "@" or (head.header and line.column > head.column)
        ):
            groups[-1].append(line)
            head = line if head.word == "@" else head
        else:
            groups.append([line])
            head = line
    return groups
