"""Changes put into the text of a file with libcst: nothing but the lines that are meant differs."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from resilient_agents.scan.importing import importing, named

if TYPE_CHECKING:
    from resilient_agents.scan.wanted import Argument, Changes

__all__ = ["edited"]

LINE_END = re.compile("\r\n|\r|\n")
"""As `ast` counts lines; `str.splitlines` knows more ends."""


def edited(text: str, changes: Changes) -> str:
    """The text with the changes; as it was where the result would not parse."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(text))
        first = min((each.line for each in changes.decorators), default=0)
        name, missing = named(ast.parse(text), first) if first else ("", "")
        editor = _Editor(changes, LINE_END.split(text), name)
        new = wrapper.visit(editor)
        if editor.decorated and missing:
            new = importing(new, missing)
        ast.parse(new.code)
    except (cst.ParserSyntaxError, SyntaxError):
        return text
    # A last line that "\r" ends is one that libcst leaves open.
    return new.code + "\r" if text.endswith("\r") and not new.code.endswith("\r") else new.code


class _Editor(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, changes: Changes, lines: Sequence[str], policy: str) -> None:
        super().__init__()
        self.policy = policy
        self.arguments: dict[tuple[tuple[int, int], tuple[int, int]], dict[str, Argument]] = {}
        for each in changes.arguments:  # one call may get several: its own limit, and that of what it makes
            place = _characters(lines, *each.start), _characters(lines, *each.end)
            self.arguments.setdefault(place, {})[each.name] = each
        self.statements = [(_characters(lines, *each.behind), each.text) for each in changes.statements]
        self.decorators = {(each.line, each.name): each for each in changes.decorators}
        self.decorated = False

    def place(self, node: cst.CSTNode) -> CodeRange:
        found = self.get_metadata(PositionProvider, node)
        assert isinstance(found, CodeRange)
        return found

    def behind(self, node: cst.CSTNode) -> list[str]:
        """Statements that follow what is made in there."""
        if not self.statements:
            return []
        place = self.place(node)
        start, end = (place.start.line, place.start.column), (place.end.line, place.end.column)
        return [text for at, text in self.statements if start <= at < end]

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        place = self.place(original_node)
        key = (place.start.line, place.start.column), (place.end.line, place.end.column)
        for wanted in self.arguments.get(key, {}).values():
            updated_node = _with_argument(updated_node, wanted)
        return updated_node

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        *before, last = original_node.body
        added = [cst.parse_statement(text) for text in self.behind(last)]
        line = updated_node.with_changes(body=self.joined(updated_node.body, before))
        return cst.FlattenSentinel([line, *added]) if added else line

    def leave_SimpleStatementSuite(
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        return updated_node.with_changes(body=self.joined(updated_node.body, original_node.body))

    def joined(
        self, line: Sequence[cst.BaseSmallStatement], parts: Sequence[cst.BaseSmallStatement]
    ) -> Sequence[cst.BaseSmallStatement]:
        """With what follows these parts of a line, as they were, in the same line."""
        body: list[cst.BaseSmallStatement] = []
        for index, part in enumerate(line):
            added = self.behind(parts[index]) if index < len(parts) else []
            body += [part, *(_small(text) for text in added)]
        return _ended(body) if len(body) > len(line) else line

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> cst.With:
        added = [text for item in original_node.items for text in self.behind(item)]
        if not added:
            return updated_node
        body = updated_node.body
        first = [cst.parse_statement(text) for text in added]
        if isinstance(body, cst.SimpleStatementSuite):
            return updated_node.with_changes(body=body.with_changes(body=_ended([*map(_small, added), *body.body])))
        return updated_node.with_changes(body=body.with_changes(body=[*first, *body.body]))

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        name = original_node.name
        wanted = self.decorators.get((self.place(name).start.line, name.value))
        if wanted is None:
            return updated_node
        self.decorated = True
        policy = cst.parse_expression(f'{self.policy}("{wanted.policy}")')
        # Innermost, so that what registers the function registers the guarded one.
        return updated_node.with_changes(decorators=[*updated_node.decorators, cst.Decorator(policy)])


def _small(text: str) -> cst.BaseSmallStatement:
    line = cst.parse_statement(text)
    assert isinstance(line, cst.SimpleStatementLine)
    return line.body[0]


def _ended(body: Sequence[cst.BaseSmallStatement]) -> list[cst.BaseSmallStatement]:
    """With a semicolon behind each part of a line that has none, but for the last."""
    end = cst.Semicolon(whitespace_after=cst.SimpleWhitespace(" "))
    known = [part if isinstance(part.semicolon, cst.Semicolon) else part.with_changes(semicolon=end) for part in body]
    return [*known[:-1], body[-1]]


def _characters(lines: Sequence[str], line: int, column: int) -> tuple[int, int]:
    """`ast` counts bytes."""
    return line, len(lines[line - 1].encode()[:column].decode("utf-8", "ignore"))


def _with_argument(call: cst.Call, wanted: Argument) -> cst.Call:
    value = cst.parse_expression(wanted.value)
    arguments = list(call.args)
    for index, each in enumerate(arguments):
        if wanted.in_place_of in (index, each.keyword and each.keyword.value) and wanted.in_place_of is not None:
            arguments[index] = each.with_changes(value=value)
            return call.with_changes(args=arguments)
    if any(isinstance(each.value, cst.GeneratorExp) and not each.value.lpar for each in arguments):
        return call
    plain = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    new = cst.Arg(value, cst.Name(wanted.name), plain)
    if not arguments:
        return call.with_changes(args=[new])
    last = arguments[-1]
    trailing = last.comma if isinstance(last.comma, cst.Comma) else None
    before = call.whitespace_before_args
    between = _between(arguments) or (before if trailing is not None else cst.SimpleWhitespace(" "))
    end = trailing.whitespace_after if trailing is not None else last.whitespace_after_arg
    if isinstance(end, cst.ParenthesizedWhitespace) and end.first_line.comment is not None:
        inner = end.with_changes(last_line=cst.SimpleWhitespace(f"{end.last_line.value}    "))
        like = next((each for each in (between, before) if isinstance(each, cst.ParenthesizedWhitespace)), inner)
        # A comment stays in the line of the argument that it speaks of.
        between, end = end.with_changes(indent=like.indent, last_line=like.last_line), _uncommented(end)
    comma = cst.Comma(whitespace_after=between if not between.empty else cst.SimpleWhitespace(" "))
    if trailing is not None:  # stays one: the lines of the call stay as they are
        arguments[-1] = last.with_changes(comma=comma)
        new = new.with_changes(comma=trailing.with_changes(whitespace_after=end))
    else:
        arguments[-1] = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
        new = new.with_changes(whitespace_after_arg=end)
    return call.with_changes(args=[*arguments, new])


def _between(arguments: Sequence[cst.Arg]) -> cst.BaseParenthesizableWhitespace | None:
    """What stands between the last two arguments, without the comment that may stand there."""
    if len(arguments) < 2 or not isinstance(arguments[-2].comma, cst.Comma):
        return None
    after = arguments[-2].comma.whitespace_after
    return _uncommented(after) if isinstance(after, cst.ParenthesizedWhitespace) else after


def _uncommented(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    plain = cst.TrailingWhitespace(newline=space.first_line.newline)
    return space.with_changes(first_line=plain, empty_lines=[])
