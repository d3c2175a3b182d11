"""Writes spans as OTLP JSON lines, for `resilient-agents trace` and all that reads OTLP. Needs the extra `otel`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # protobuf brings no types
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from resilient_agents.base.fork import Lock

__all__ = ["JsonLinesExporter"]


class JsonLinesExporter(SpanExporter):
    """Appends to `path` one line for each batch of spans.

    `BatchSpanProcessor(JsonLinesExporter("spans.jsonl"))` in a program, `resilient-agents trace spans.jsonl` beside it.
    A line is written as a whole, so that processes may share a file; a forked child goes on writing to it.
    Raises OSError, when built, if the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        # Unbuffered: what a buffer holds at a fork would be written twice, and its lock might never be released.
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed by shutdown()
        self._torn = False
        self._lock = Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            line = json.dumps(to_json(spans), separators=(",", ":")).encode() + b"\n"
        except ValueError:  # a name with half a surrogate pair: that span is lost, and no other
            done = [self.export([span]) for span in spans] if len(spans) > 1 else []
            return SpanExportResult.SUCCESS if SpanExportResult.SUCCESS in done else SpanExportResult.FAILURE
        with self._lock:
            if self._file.closed:
                return SpanExportResult.FAILURE
            rest = memoryview(b"\n" + line if self._torn else line)
            self._torn = True
            while rest:
                rest = rest[self._file.write(rest) :]
            self._torn = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        with self._lock:
            self._file.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def to_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Spans as OTLP JSON, which differs from protobuf's own JSON in that ids are hexadecimal and enums are numbers."""
    document: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for span in _each(document):
        for owner in (span, *span.get("links", ())):
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in owner:
                    owner[key] = base64.b64decode(owner[key]).hex()
    return document


def _each(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    resources: Iterable[dict[str, Any]] = document.get("resourceSpans", ())
    for resource in resources:
        for scope in resource.get("scopeSpans", ()):
            yield from scope.get("spans", ())
