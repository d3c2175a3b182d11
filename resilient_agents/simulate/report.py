"""A simulation in a terminal: a table of figures, and its course over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from resilient_agents.simulate.replay import Replay
from resilient_agents.simulate.result import Result, Series
from resilient_agents.trace.terminal import Glyphs, Line, Role, clock, seconds

__all__ = ["comparison", "course", "seconds_of", "share", "table"]

_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = ".:-=+*%#"


_Figure = tuple[str, Callable[[Result], str], Callable[[Result], object] | None]

_FIGURES: tuple[_Figure, ...] = (
    ("calls", lambda result: f"{result.calls:,}", None),
    ("success", lambda result: share(result.success_rate), None),
    ("fallbacks", lambda result: share(_of(result.fallbacks, result.calls)), lambda result: result.fallbacks),
    ("refused by the policy", lambda result: share(_of(result.refused, result.calls)), None),
    ("p50", lambda result: seconds_of(result.p50), None),
    ("p95", lambda result: seconds_of(result.p95), None),
    ("p99", lambda result: seconds_of(result.p99), None),
    ("requests per call", lambda result: f"{result.attempts:.2f}", None),
    ("wasted services", lambda result: f"{result.wasted:,}", None),
    ("circuit opened after", lambda result: _moment(result.opened_after), None),
    ("recovered after", lambda result: _moment(result.recovered_after), None),
    ("unfinished calls", lambda result: f"{result.unfinished:,}", lambda result: result.unfinished),
    ("cost", lambda result: f"{result.cost:,.2f}", lambda result: result.cost),
)
"""Each with what makes it worth a row, None for all."""


def table(results: Mapping[str, Result]) -> list[str]:
    """One column a result: the figures that decide."""
    rows = [
        (name, [figure(result) for result in results.values()])
        for name, figure, worth_it in _FIGURES
        if worth_it is None or any(map(worth_it, results.values()))
    ]
    label = max(len(name) for name, _ in rows)
    widths = [max(len(name), *(len(cells[column]) for _, cells in rows)) for column, name in enumerate(results)]
    head = " " * label + "".join(f"  {name:>{width}}" for name, width in zip(results, widths, strict=True))
    lines = [head] if len(results) > 1 else []
    for name, cells in rows:
        lines.append(f"{name:<{label}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return [line.rstrip() for line in lines]


def comparison(result: Replay, shared: Mapping[str, int]) -> list[str]:
    """What was recorded beside what came out, and what the recording cannot know. `shared`: how many calls that are not
    played passed the same circuit breaker or limit, by its name."""
    policies = "the policies that were in force" if result.same_policy else "other policies than those in force"
    within = seconds_of(result.slower)
    lines = [
        f"{_calls(result.calls)} under {policies}: {result.same:,} went as recorded, times within {within}",
        f"{'':20}  {'recorded':>10}  {'now':>10}",
        f"{'success':20}  {share(result.recorded_success_rate):>10}  {share(result.success_rate):>10}",
        f"{'requests':20}  {result.recorded_requests:>10,}  {result.requests:>10,}",
    ]
    lines += [f"{change}: {count:,}" for change, count in result.changes.items()]
    if result.near:
        lines.append(
            f"{result.near:,} of them lie so near to a boundary that they did only when moved by up to "
            f"{seconds_of(result.tolerance)}"
        )
    for name, count in shared.items():
        lines.append(f"{_calls(count)} not played passed {name!r}, too: what they did to it is not known here")
    lines += result.notes
    if result.left:
        lines.append(
            f"{_calls(result.left)} of blocking code may have left a thread behind: how long it went on is not known"
        )
    if result.unknown:
        lines.append(
            f"{_calls(result.unknown)} came to a point of which the recording says nothing: a guess from there on"
        )
    return lines


def course(result: Result, *, width: int, glyphs: Glyphs) -> list[Line]:
    """What happened over time, a row each: the fuller the bar, the more of it."""
    series = result.series
    columns = max(20, min(width - 34, len(series)))
    levels = _LEVELS if glyphs.good == "█" else _ASCII_LEVELS
    peak = max(max(series.offered, default=0), max(series.sent, default=0), 1) / series.step
    rows: list[tuple[str, Role, Sequence[float], float, str]] = [
        ("calls offered", "", _rate(series, series.offered), peak, f"{peak:.4g}/s"),
        ("requests sent", "wait", _rate(series, series.sent), peak, f"{peak:.4g}/s"),
        ("errors answered", "bad", _rate(series, series.errors), peak, f"{peak:.4g}/s"),
        ("calls that succeed", "good", series.success(), 1.0, "100 %"),
        ("circuits not closed", "bad", series.open, 1.0, "100 %"),
    ]
    for name, gauge in (("slots in use", series.in_use), ("queue at dependency", series.waiting)):
        if highest := max(gauge, default=0):
            rows.append((name, "wait", gauge, float(highest), f"{highest:,}"))
    lines = [_axis(series, columns, glyphs)]
    for name, role, values, most, figure in rows:
        bar = "".join(_level(value / most, levels) for value in _resampled(values, columns))
        lines.append([(f"{name:<20}", ""), (bar, role), (f"  {figure}", "dim")])
    return lines


def _axis(series: Series, columns: int, glyphs: Glyphs) -> Line:
    length = len(series) * series.step * 1e9
    least = length * 12 / columns
    power = 10.0 ** math.floor(math.log10(least))
    unit = next(factor * power for factor in (1, 2, 3, 6, 10) if factor * power >= least * 0.999)
    drawn = [" "] * columns
    at = 0.0
    while at < length:
        column, label = int(at / length * columns), glyphs.tick + clock(at, unit)
        if column + len(label) <= columns:
            drawn[column : column + len(label)] = label
        at += unit
    return [(" " * 20 + "".join(drawn), "dim")]


def _level(share: float, levels: str) -> str:
    if math.isnan(share) or share <= 0:
        return " "
    return levels[min(int(share * len(levels)), len(levels) - 1)]


def _rate(series: Series, values: Sequence[float]) -> list[float]:
    return [value / series.step for value in values]


def _resampled(values: Sequence[float], columns: int) -> list[float]:
    """The mean of the values that fall into each column."""
    found: list[float] = []
    for column in range(columns):
        first = column * len(values) // columns
        last = max(first + 1, (column + 1) * len(values) // columns)
        known = [value for value in values[first:last] if not math.isnan(value)]
        found.append(sum(known) / len(known) if known else math.nan)
    return found


def _of(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value * 100:.2f} %"


def seconds_of(value: float) -> str:
    return "-" if math.isnan(value) else seconds(round(value * 1e9))


def _calls(number: int) -> str:
    return f"{number:,} call{'s' * (number != 1)}"


def _moment(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
