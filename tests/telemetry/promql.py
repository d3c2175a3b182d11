"""Reads a PromQL expression far enough to check it against scraped series: which series it selects, which labels it
groups by.

Every word of an expression must be accounted for, as a function, a keyword, a metric or a label: what is none of these
raises ValueError. Whether Prometheus takes the expression as a whole is for Prometheus to say, see test_dashboards.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator

from tests.telemetry.traffic import Series

__all__ = ["Query", "Selector", "parse", "problems"]

TARGET = {"job", "instance"}  # labels that Prometheus adds to what it scrapes
GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS = {"and", "or", "unless", "offset", "bool"}
FUNCTIONS = {
    *("avg", "avg_over_time", "count", "histogram_quantile", "increase", "max", "max_over_time", "min", "rate", "sum"),
}

_TOKEN = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<variable>\$\{?\w+\}?)
      | (?P<number>\d+(?:\.\d+)?(?:ms|[smhdwy])?\b)
      | (?P<word>[A-Za-z_:][\w:]*)
      | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){}\[\],:@])""",
    re.VERBOSE,
)
_NEGATIVE = {"!=", "!~"}


@dataclasses.dataclass(slots=True)
class Selector:
    """A metric and its matchers: (label, operator, value)."""

    metric: str
    matchers: list[tuple[str, str, str]] = dataclasses.field(default_factory=list[tuple[str, str, str]])

    def __str__(self) -> str:
        inside = ", ".join(f'{label}{operator}"{value}"' for label, operator, value in self.matchers)
        return f"{self.metric}{{{inside}}}"

    def selects(self, series: Series) -> bool:
        return series.name == self.metric and all(
            _matches(series.labels.get(label, ""), operator, value)
            for label, operator, value in self.matchers
            if label not in TARGET
        )


@dataclasses.dataclass(slots=True)
class Query:
    """What an expression selects, and the labels by which it groups or joins."""

    selectors: list[Selector] = dataclasses.field(default_factory=list[Selector])
    labels: set[str] = dataclasses.field(default_factory=set[str])


def parse(expression: str) -> Query:
    """Read an expression, in which Grafana's variables may stand. Raises ValueError for what it does not know."""
    tokens = list(_tokens(expression))
    query = Query()
    position = 0
    while position < len(tokens):
        kind, text = tokens[position]
        position += 1
        after = tokens[position][1] if position < len(tokens) else ""
        if kind != "word":
            continue
        if text in GROUPINGS:
            if after == "(":
                end = tokens.index(("sign", ")"), position)
                query.labels |= {word for kind, word in tokens[position:end] if kind == "word"}
                position = end + 1
        elif text in KEYWORDS or (text in FUNCTIONS and (after == "(" or after in GROUPINGS)):
            pass
        elif after == "(":
            raise ValueError(f"unknown function {text} in {expression}")
        else:
            selector = Selector(text)
            query.selectors.append(selector)
            if after == "{":
                end = tokens.index(("sign", "}"), position)
                selector.matchers = list(_matchers(tokens[position + 1 : end]))
                position = end + 1
    return query


def problems(query: Query, scraped: Iterable[Series]) -> Iterator[str]:
    """What in a query does not exist in what was scraped: a metric, a label, a label's value, the combination."""
    scraped = list(scraped)
    known: set[str] = set(TARGET)
    for selector in query.selectors:
        series = [each for each in scraped if each.name == selector.metric]
        if not series:
            yield f"no metric {selector.metric}"
            continue
        known |= {label for each in series for label in each.labels}
        unknown = list(_unknown(selector, series))
        yield from unknown
        if not unknown and not any(selector.selects(each) for each in series):
            yield f"nothing matches {selector}"
    for label in query.labels - known:
        yield f"nothing selected has the label {label} to group by"


def _unknown(selector: Selector, series: list[Series]) -> Iterator[str]:
    """Labels and values of its matchers that no series of the metric has."""
    for label, operator, value in selector.matchers:
        if label in TARGET:
            continue
        if not any(label in each.labels for each in series):
            yield f"{selector.metric} has no label {label}"
            continue
        present = {each.labels.get(label, "") for each in series}
        for one in value.split("|") if operator in ("=~", "!~") else [value]:
            if not any(_matches(found, "=~", one) for found in present):
                yield f'{selector.metric} has no {label}="{one}"'


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(expression):
        found = _TOKEN.match(expression, position)
        if found is None:
            raise ValueError(f"cannot read {expression[position:]!r} in {expression}")
        position = found.end()
        if found.lastgroup != "blank":
            yield str(found.lastgroup), found.group()


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    for start in range(0, len(tokens), 4):  # label, operator, value, comma
        (kind, label), (_, operator), (value_kind, value) = tokens[start : start + 3]
        if kind != "word" or value_kind != "string" or operator not in ("=", "!=", "=~", "!~"):
            raise ValueError(f"not a matcher: {tokens[start : start + 3]}")
        # A variable of Grafana stands for what is chosen there, all of it by default.
        yield label, operator, re.sub(r"\$\{?\w+\}?", ".*", value[1:-1])


def _matches(found: str, operator: str, value: str) -> bool:
    same = re.fullmatch(value, found) is not None if operator in ("=~", "!~") else found == value
    return same is not (operator in _NEGATIVE)
