"""The waterfall of one operation: time runs to the right, what happened runs down.

A bar is an attempt, a wait or a span of the user's; a mark is something that happened at one moment.
Bars differ by texture and outcomes by a sign, so that the picture reads the same without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Moment, Span
from resilient_agents.trace.terminal import UNICODE, Glyphs, Line, Role, cells, clip, clock, seconds
from resilient_agents.trace.tree import Operation, is_attempt, is_operation, is_wait

__all__ = ["waterfall"]

NARROWEST = 60
DEEPEST = 12  # a trace may nest without end; a picture may not
BROADEST = 200  # rows below one span, and
LONGEST = 1000  # in all
FIGURES = 10  # columns for the duration at the right


@dataclass(slots=True, frozen=True)
class _Row:
    """A bar from `start` to `end`, its part until `queued` spent waiting; a mark if start and end are one."""

    label: str
    role: Role
    glyph: str
    start: int
    end: int
    figure: str
    span: Span | None = None
    queued: int = 0


def waterfall(operation: Operation, *, width: int = 80, glyphs: Glyphs = UNICODE) -> list[Line]:
    """Draw `operation` in `width` columns (at least 60): a headline, a time axis, a row for all that happened."""
    width = max(width, NARROWEST)
    root = operation.span
    rows = list(islice(_tree(operation, root, glyphs), LONGEST))
    scale = _Scale(root.start, _end(operation, root), 0)
    labels = min(max(cells(prefix + row.label) for prefix, row in rows), round(width * 0.47))
    scale.columns = width - labels - FIGURES - 1
    lines: list[Line] = [*_headline(operation, glyphs, width), [], scale.axis(labels + 1, glyphs)]
    for prefix, row in rows:
        label = clip(prefix + row.label, labels, glyphs.ellipsis)
        role: Role = "bold" if row.span is root else row.role
        shape: Line = [(label[: len(prefix)], "dim"), (label[len(prefix) :], role), (" ", "")]
        lines.append([*shape, *scale.draw(row, glyphs), (f"{row.figure:>{FIGURES}}", "")])
    return [*lines, _legend(labels + 1, glyphs)]


def _legend(indent: int, glyphs: Glyphs) -> Line:
    meanings = ((glyphs.good, "went well"), (glyphs.bad, "failed"), (glyphs.wait, "waited"))
    return [(" " * indent + "  ".join(f"{glyph} {meaning}" for glyph, meaning in meanings), "dim")]


def _headline(operation: Operation, glyphs: Glyphs, width: int) -> Iterator[Line]:
    span = operation.span
    outcome = str(span.attributes.get(names.OUTCOME, "failure" if span.error else "success"))
    attempts = operation.attempts
    tries = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    yield [
        (clip(span.name, min(cells(span.name[:width]), width - 44), glyphs.ellipsis), "bold"),
        (": ", ""),
        (outcome[:9], "good" if outcome in ("success", "fallback") else "bad"),
        (f" after {tries} in {seconds(span.end - span.start)}", ""),
    ]
    under = f", under {operation.under}" if operation.under else ""
    yield [(clip(f"trace {span.trace_id}, {_date(span.start)}{under}", width, glyphs.ellipsis), "dim")]


def _date(nanoseconds: int) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "at no date"


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
        # Waits have spans where attempts have; where attempts are events, so are the waits between them.
        told = {names.RETRY_SCHEDULED} if any(map(is_attempt, children)) else frozenset[str]()
        rows += [_moment(event, span, glyphs) for event in span.events if event.name not in told]
    rows.sort(key=lambda row: row.start)
    if (more := len(rows) - BROADEST) > 0:
        rows[BROADEST // 2 : -BROADEST // 2] = [_left_out(more, rows, glyphs)]
    for number, row in enumerate(rows, 1):
        branch, trunk = (glyphs.last, " " * len(glyphs.trunk)) if number == len(rows) else (glyphs.branch, glyphs.trunk)
        if row.span is None:
            yield indent + branch, row
        else:
            yield from _tree(operation, row.span, glyphs, indent + branch, indent + trunk, depth + 1)


def _left_out(number: int, rows: list[_Row], glyphs: Glyphs) -> _Row:
    left = rows[BROADEST // 2 : -BROADEST // 2]
    start, end = left[0].start, max(row.end for row in left)
    return _Row(f"{glyphs.ellipsis} {number:,} more", "dim", glyphs.other, start, end, seconds(end - start))


def _bar(span: Span, glyphs: Glyphs) -> _Row:
    failed = span.error or names.ERROR_TYPE in span.attributes
    role: Role = "bad" if failed else ""
    figure = seconds(span.end - span.start)
    label, glyph, queued = span.name, glyphs.operation if is_operation(span) else glyphs.other, 0
    if is_wait(span):
        label, role, glyph = _wait_label(span.name.removeprefix(names.WAIT_PREFIX)), "wait", glyphs.wait
    elif is_attempt(span):
        label, role, glyph = _attempt(span.attributes, failed, glyphs)
        # Slots and tokens are waited for before the function runs, so this is how an attempt begins.
        queued = span.start + _nanoseconds(span.attributes.get(names.WAITED))
    return _Row(label, role, glyph, span.start, max(span.end, span.start + 1), figure, span, queued)


def _attempt(facts: Mapping[str, Any], failed: bool, glyphs: Glyphs) -> tuple[str, Role, str]:
    label = f"attempt {_word(facts.get(names.ATTEMPT, '?'))}"
    if names.HEDGE_NUMBER in facts:
        label += " (hedge)"
    inner = f" (+{_word(facts[names.INNER_RETRIES])} inside)" if names.INNER_RETRIES in facts else ""
    if not failed:
        return f"{label} {glyphs.ok}{inner}", "good", glyphs.good
    status = f" {_word(facts[names.STATUS_CODE])}" if names.STATUS_CODE in facts else ""
    return f"{label} {glyphs.no} {_word(facts.get(names.ERROR_TYPE, 'failed'))}{status}{inner}", "bad", glyphs.bad


def _word(value: Any) -> str:
    """An attribute's value, which may be anything, as part of a label."""
    return str(value)[:100]


def _moment(event: Moment, owner: Span, glyphs: Glyphs) -> _Row:
    """A mark; but a scheduled retry is a wait, and an attempt without a span of its own is a bar."""
    facts = event.attributes
    if event.name == names.RETRY_SCHEDULED:
        return _wait(event, owner, glyphs)
    if event.name == names.ATTEMPT_EVENT:
        label, role, glyph = _attempt(facts, names.ERROR_TYPE in facts, glyphs)
        took = _nanoseconds(facts.get(names.DURATION))
        return _Row(label, role, glyph, event.at - took, max(event.at, event.at - took + 1), seconds(took))
    label, figure = _telling(event, glyphs), f"at {seconds(event.at - owner.start)}"
    return _Row(label, "mark", glyphs.mark, event.at, event.at, figure)


def _wait(event: Moment, owner: Span, glyphs: Glyphs) -> _Row:
    """As long as it was planned to be."""
    end = min(event.at + _nanoseconds(event.attributes.get(names.DELAY)), owner.end)
    label = _wait_label(_word(event.attributes.get(names.REASON, "")))
    return _Row(label, "wait", glyphs.wait, event.at, max(end, event.at + 1), seconds(end - event.at))


def _wait_label(reason: str) -> str:
    return f"wait ({'Retry-After' if reason == 'retry_after' else reason})" if reason else "wait"


def _telling(event: Moment, glyphs: Glyphs) -> str:
    facts = event.attributes
    shadow = " (shadow)" if facts.get(names.SHADOW) else ""
    if event.name == names.STATE_CHANGE:
        name = facts.get(names.CIRCUIT_BREAKER, "circuit")
        return f"{name}: {facts.get(names.FROM)} {glyphs.arrow} {facts.get(names.TO)}{shadow}"
    if event.name == names.REJECTED:
        return f"rejected by {facts.get(names.STRATEGY, 'a strategy')}{shadow}"
    if event.name == names.TIMEOUT:
        limit = _nanoseconds(facts.get(names.LIMIT))
        return f"timeout of {seconds(limit)}" if limit else event.name
    return event.name


def _nanoseconds(value: Any) -> int:
    """Seconds as nanoseconds, as far as they make sense: from 0 to three centuries."""
    return round(min(max(value, 0), 1e10) * 1e9) if isinstance(value, int | float) and value == value else 0


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
        queued = min(max(self.column(row.queued), first), last)
        grid = [" "] * self.columns
        for column, _ in self.ticks():
            grid[column] = glyphs.grid
        return [
            ("".join(grid[:first]), "dim"),
            (glyphs.wait * (queued - first), "wait"),
            (row.glyph * (last - queued + 1), row.role),
            ("".join(grid[last + 1 :]), "dim"),
        ]
