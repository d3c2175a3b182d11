"""Changes put into the text of a file with libcst: nothing but the lines that are meant differs."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

if TYPE_CHECKING:
    from resilient_agents.scan.fix import Argument, Changes

__all__ = ["edited"]

POLICY = "resilient"
IMPORT = f"from resilient_agents import {POLICY}"


def edited(text: str, changes: Changes) -> str:
    """The text with the changes; as it was where the result would not parse."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(text))
        editor = _Editor(changes, text.split("\n"))
        new = wrapper.visit(editor)
        if editor.decorated:
            new = _importing(new)
        ast.parse(new.code)
    except (cst.ParserSyntaxError, SyntaxError):
        return text
    return new.code


class _Editor(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, changes: Changes, lines: Sequence[str]) -> None:
        super().__init__()
        self.arguments = {
            (_characters(lines, *each.start), _characters(lines, *each.end)): each for each in changes.arguments
        }
        self.statements = changes.statements
        self.decorators = {(each.line, each.name): each for each in changes.decorators}
        self.decorated = False

    def place(self, node: cst.CSTNode) -> CodeRange:
        found = self.get_metadata(PositionProvider, node)
        assert isinstance(found, CodeRange)
        return found

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        place = self.place(original_node)
        key = (place.start.line, place.start.column), (place.end.line, place.end.column)
        wanted = self.arguments.get(key)
        return _with_argument(updated_node, wanted) if wanted is not None else updated_node

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        line = self.place(original_node).start.line
        added = [cst.parse_statement(each.text) for each in self.statements if each.after == line]
        return cst.FlattenSentinel([updated_node, *added]) if added else updated_node

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        name = original_node.name
        wanted = self.decorators.get((self.place(name).start.line, name.value))
        if wanted is None:
            return updated_node
        self.decorated = True
        policy = cst.parse_expression(f'{POLICY}("{wanted.policy}")')
        # Innermost, so that what registers the function registers the guarded one.
        return updated_node.with_changes(decorators=[*updated_node.decorators, cst.Decorator(policy)])


def _characters(lines: Sequence[str], line: int, column: int) -> tuple[int, int]:
    """`ast` counts bytes."""
    return line, len(lines[line - 1].encode()[:column].decode("utf-8", "ignore"))


def _with_argument(call: cst.Call, wanted: Argument) -> cst.Call:
    value = cst.parse_expression(wanted.value)
    arguments = list(call.args)
    for index, each in enumerate(arguments):
        if each.keyword is not None and each.keyword.value in wanted.in_place_of:
            arguments[index] = each.with_changes(value=value)
            return call.with_changes(args=arguments)
    if any(isinstance(each.value, cst.GeneratorExp) and not each.value.lpar for each in arguments):
        return call
    plain = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    new = cst.Arg(value, cst.Name(wanted.name), plain)
    if not arguments:
        return call.with_changes(args=[new])
    last = arguments[-1]
    if isinstance(last.comma, cst.Comma):  # a trailing comma stays one: the lines of the call stay as they are
        between = _like(arguments) or _comma(call.whitespace_before_args)
        arguments[-1] = last.with_changes(comma=between)
        new = new.with_changes(comma=last.comma)
    else:
        between = _like(arguments) or _comma(cst.SimpleWhitespace(" "))
        arguments[-1] = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
        new = new.with_changes(whitespace_after_arg=last.whitespace_after_arg)
    return call.with_changes(args=[*arguments, new])


def _like(arguments: Sequence[cst.Arg]) -> cst.Comma | None:
    """A comma as between the last two arguments, without the comment that may stand there."""
    if len(arguments) < 2 or not isinstance(arguments[-2].comma, cst.Comma):
        return None
    after = arguments[-2].comma.whitespace_after
    if isinstance(after, cst.ParenthesizedWhitespace):
        after = after.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])
    return _comma(after)


def _comma(after: cst.BaseParenthesizableWhitespace) -> cst.Comma:
    return cst.Comma(whitespace_after=after if not after.empty else cst.SimpleWhitespace(" "))


def _importing(module: cst.Module) -> cst.Module:
    """With the import of the policy behind the first imports of the module, if it has none."""
    if any(IMPORT in module.code_for_node(line) for line in module.body):
        return module
    at = 0
    for index, statement in enumerate(module.body):
        if not isinstance(statement, cst.SimpleStatementLine):
            break
        small = statement.body[0]
        text = isinstance(small, cst.Expr) and isinstance(small.value, (cst.SimpleString, cst.ConcatenatedString))
        if not (text or isinstance(small, (cst.Import, cst.ImportFrom))):
            break
        at = index + 1
    return module.with_changes(body=[*module.body[:at], cst.parse_statement(IMPORT), *module.body[at:]])
