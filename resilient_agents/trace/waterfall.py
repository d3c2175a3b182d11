"""The waterfall of one operation: time runs to the right, what happened runs down.

A bar is an attempt, a wait or a span of the user's; a mark is something that happened at one moment.
Bars differ by texture and outcomes by a sign, so that the picture reads the same without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resilient_agents.trace.spans import Moment, Span
from resilient_agents.trace.terminal import UNICODE, Glyphs, Line, Role, cells, clip, clock, seconds
from resilient_agents.trace.tree import SCOPE, Operation, is_attempt, is_operation

__all__ = ["waterfall"]

NARROWEST = 60
DEEPEST = 12  # a trace may nest without end; a picture may not
FIGURES = 10  # columns for the duration at the right


@dataclass(slots=True, frozen=True)
class _Row:
    """A bar from `start` to `end`, or a mark if these are the same."""

    label: str
    role: Role
    glyph: str
    start: int
    end: int
    figure: str
    span: Span | None = None


def waterfall(operation: Operation, *, width: int = 80, glyphs: Glyphs = UNICODE) -> list[Line]:
    """Draw `operation` in `width` columns (at least 60): a headline, a time axis, a row for each thing that happened."""
    width = max(width, NARROWEST)
    root = operation.span
    rows = list(_tree(operation, root, glyphs))
    scale = _Scale(root.start, _end(operation, root), 0)
    labels = min(max(cells(prefix + row.label) for prefix, row in rows), round(width * 0.47))
    scale.columns = width - labels - FIGURES - 2
    lines: list[Line] = [*_headline(operation, glyphs, width), [], scale.axis(labels + 1, glyphs)]
    for prefix, row in rows:
        label = clip(prefix + row.label, labels, glyphs.ellipsis)
        role: Role = "bold" if row.span is root else row.role
        shape: Line = [(label[: len(prefix)], "dim"), (label[len(prefix) :], role), (" ", "")]
        lines.append([*shape, *scale.draw(row, glyphs), (f"{row.figure:>{FIGURES}}", "")])
    return lines


def _headline(operation: Operation, glyphs: Glyphs, width: int) -> Iterator[Line]:
    span = operation.span
    outcome = str(_fact(span.attributes, "outcome") or ("failure" if span.error else "success"))
    attempts = operation.attempts
    tries = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    yield [
        (clip(span.name, min(len(span.name), width - 42), glyphs.ellipsis), "bold"),
        (": ", ""),
        (outcome, "good" if outcome in ("success", "fallback") else "bad"),
        (f" after {tries} in {seconds(span.end - span.start)}", ""),
    ]
    began = datetime.fromtimestamp(span.start / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    under = f", under {operation.under}" if operation.under else ""
    yield [(clip(f"trace {span.trace_id}, {began}{under}", width, glyphs.ellipsis), "dim")]


def _end(operation: Operation, span: Span, depth: int = 0) -> int:
    """When the last span below ended: a worker left behind by a timeout may outlive the operation."""
    below = operation.below(span) if depth < DEEPEST else []
    return max([span.end, *(_end(operation, child, depth + 1) for child in below)])


def _tree(
    operation: Operation, span: Span, glyphs: Glyphs, prefix: str = "", indent: str = "", depth: int = 0
) -> Iterator[tuple[str, _Row]]:
    yield prefix, _bar(span, glyphs)
    if depth == DEEPEST:
        return
    children = operation.below(span)
    rows = [_bar(child, glyphs) for child in children]
    if is_operation(span):
        rows += [_moment(event, span, children, glyphs) for event in span.events]
    rows.sort(key=lambda row: row.start)
    for number, row in enumerate(rows, 1):
        branch, trunk = (glyphs.last, " " * len(glyphs.trunk)) if number == len(rows) else (glyphs.branch, glyphs.trunk)
        if row.span is None:
            yield indent + branch, row
        else:
            yield from _tree(operation, row.span, glyphs, indent + branch, indent + trunk, depth + 1)


def _bar(span: Span, glyphs: Glyphs) -> _Row:
    kind = _fact(span.attributes, "error.type")
    failed = span.error or kind is not None
    label, role, glyph = span.name, "bad" if failed else "", glyphs.other
    if is_attempt(span):
        status = _fact(span.attributes, "http.response.status_code")
        why = f"{kind or 'failed'}{'' if status is None else f' {status}'}"
        label = f"attempt {_fact(span.attributes, 'attempt') or '?'} {f'{glyphs.no} {why}' if failed else glyphs.ok}"
        role, glyph = ("bad", glyphs.bad) if failed else ("good", glyphs.good)
    elif is_operation(span):
        glyph = glyphs.operation
    return _Row(label, role, glyph, span.start, max(span.end, span.start + 1), seconds(span.end - span.start), span)


def _moment(event: Moment, owner: Span, siblings: list[Span], glyphs: Glyphs) -> _Row:
    """A mark; or, for a scheduled retry, the wait until the next attempt really began: what the caller waited."""
    if event.name != "retry.scheduled":
        figure = f"at {seconds(event.at - owner.start)}"
        return _Row(_telling(event, glyphs), "mark", glyphs.mark, event.at, event.at, figure)
    delay = _fact(event.attributes, "delay")
    planned = event.at + round((delay if isinstance(delay, int | float) else 0.0) * 1e9)
    attempts = (span.start for span in siblings if is_attempt(span) and span.start >= event.at)
    end = min(attempts, default=min(planned, owner.end))
    reason = str(_fact(event.attributes, "reason") or "")
    label = f"wait ({'Retry-After' if reason == 'retry_after' else reason})" if reason else "wait"
    return _Row(label, "wait", glyphs.wait, event.at, max(end, event.at + 1), seconds(end - event.at))


def _telling(event: Moment, glyphs: Glyphs) -> str:
    facts = event.attributes
    if event.name == "circuit_breaker.state_change":
        name = _fact(facts, "circuit_breaker") or _fact(facts, "name")
        return f"{'circuit' if name is None else name}: {_fact(facts, 'from')} {glyphs.arrow} {_fact(facts, 'to')}"
    if event.name == "rejected":
        return f"rejected by {_fact(facts, 'strategy') or 'a strategy'}"
    if event.name == "timeout":
        limit = _fact(facts, "limit")
        return "timeout" if not isinstance(limit, int | float) else f"timeout of {seconds(limit * 1e9)}"
    return event.name


def _fact(attributes: Mapping[str, Any], name: str) -> Any:
    """An attribute by its name or, under our own prefix, by the end of its name."""
    if name in attributes:
        return attributes[name]
    ours = (value for key, value in attributes.items() if key.startswith(f"{SCOPE}.") and key.endswith(f".{name}"))
    return next(ours, None)


class _Scale:
    """Maps time to columns."""

    def __init__(self, start: int, end: int, columns: int) -> None:
        self.start = start
        self.length = max(end - start, 1)
        self.columns = columns

    def column(self, at: int) -> int:
        return min(max(round((at - self.start) / self.length * self.columns), 0), self.columns - 1)

    @property
    def unit(self) -> float:
        """Nanoseconds between ticks: 1, 2 or 5 times a power of ten, at most one tick to ten columns."""
        least = self.length * 10 / self.columns
        power = 10.0 ** math.floor(math.log10(least))
        return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)

    def ticks(self) -> Iterator[tuple[int, str]]:
        at = 0.0
        while at < self.length:
            yield self.column(self.start + round(at)), clock(at, self.unit)
            at += self.unit

    def axis(self, indent: int, glyphs: Glyphs) -> Line:
        drawn = [" "] * self.columns
        for column, text in self.ticks():
            label = glyphs.tick + text
            if column + len(label) <= self.columns:
                drawn[column : column + len(label)] = label
        return [(" " * indent + "".join(drawn), "dim")]

    def draw(self, row: _Row, glyphs: Glyphs) -> Line:
        first = self.column(row.start)
        last = max(self.column(row.end) - 1, first)
        grid = [" "] * self.columns
        for column, _ in self.ticks():
            grid[column] = glyphs.grid
        return [
            ("".join(grid[:first]), "dim"),
            (row.glyph * (last - first + 1), row.role),
            ("".join(grid[last + 1 :]), "dim"),
        ]
