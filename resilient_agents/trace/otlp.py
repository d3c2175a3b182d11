"""Reads OTLP JSON lines: one `{"resourceSpans": [...]}` a line, as the collector's file exporter writes them.

Metrics and logs are passed over. What is not OTLP is named and never fatal: the file may still be written to.
Format: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from resilient_agents.trace.spans import Moment, Span

__all__ = ["Reading", "read"]

_Json = Any  # what does not have the expected shape raises, and `read` reports it
_WRONG = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)

LATEST: Final = 2**64 - 1  # what OTLP has room for
LARGEST: Final = 2**63 - 1


@dataclass(slots=True)
class Reading:
    """What a file held. `problems`: one sentence for each line that could not be read."""

    spans: list[Span] = field(default_factory=list[Span])
    problems: list[str] = field(default_factory=list[str])


def read(lines: Iterable[str]) -> Reading:
    """Read spans from lines of OTLP JSON. A span that was exported twice counts once; one that is none is passed
    over."""
    reading = Reading()
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip("\ufeff \t\r\n"):
            continue
        broken = 0
        try:
            for scope, raw in _spans(json.loads(line.removeprefix("\ufeff"))):
                try:
                    span = _span(scope, raw)
                except _WRONG:
                    broken += 1
                    continue
                if (span.trace_id, span.span_id) not in seen:
                    seen.add((span.trace_id, span.span_id))
                    reading.spans.append(span)
        except _WRONG:
            reading.problems.append(f"line {number} is not OTLP JSON")
        else:
            if broken:
                reading.problems.append(f"line {number} holds {broken} span{'s' * (broken > 1)} that cannot be read")
    return reading


def _spans(document: Any) -> Iterator[tuple[str, _Json]]:
    """Each span with the name of its scope."""
    if not any(signal in document for signal in ("resourceSpans", "resourceMetrics", "resourceLogs")):
        raise KeyError("resourceSpans")
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            name = str(scope.get("scope", {}).get("name", ""))
            for span in scope.get("spans", ()):
                yield name, span


def _span(scope: str, span: _Json) -> Span:
    return Span(
        trace_id=str(span["traceId"]),
        span_id=str(span["spanId"]),
        parent_id=str(span["parentSpanId"]) if span.get("parentSpanId") else None,
        scope=scope,
        name=str(span.get("name", "")),
        start=_time(span["startTimeUnixNano"]),
        end=_time(span["endTimeUnixNano"]),
        attributes=_attributes(span),
        events=tuple(_moment(event) for event in span.get("events", ())),
        error=span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),  # some writers spell out what should be 2
    )


def _time(nanoseconds: _Json) -> int:
    return min(max(int(nanoseconds), 0), LATEST)


def _moment(event: _Json) -> Moment:
    return Moment(str(event.get("name", "")), _time(event["timeUnixNano"]), _attributes(event))


def _attributes(owner: _Json) -> dict[str, Any]:
    return {str(pair["key"]): _value(pair.get("value", {})) for pair in owner.get("attributes", ())}


def _value(value: _Json) -> Any:
    if "intValue" in value:
        return min(max(int(value["intValue"]), -LARGEST), LARGEST)  # 64 bits travel as a string
    if "doubleValue" in value:
        return float(value["doubleValue"])
    if "arrayValue" in value:
        return [_value(item) for item in value["arrayValue"].get("values", ())]
    return value.get("stringValue", value.get("boolValue"))
