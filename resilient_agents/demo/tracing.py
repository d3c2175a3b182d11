"""The real OpenTelemetry SDK: keeps the spans of the run and, if asked to, exports them to a file or an endpoint."""

from __future__ import annotations

import logging
import os
import textwrap
import threading
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from resilient_agents.trace import Operation, from_sdk, operations

__all__ = ["Tracing", "endpoint"]

PATIENCE = 4.0  # seconds for the last export


def endpoint() -> str | None:
    """Where the standard environment variables ask spans to be sent."""
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """Sets up the SDK for this process. Raises OSError if `export`, a file, cannot be written."""

    def __init__(self, export: str | None = None) -> None:
        self.host = urlsplit(endpoint() or "").netloc.rpartition("@")[2]  # an endpoint may hold a password
        self._trouble = _Trouble()
        self._memory = InMemorySpanExporter()
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "resilient-agents-demo")})
        # The sampler is given because the environment may ask for one that drops what we came to see.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._memory))
        if export is not None:
            from resilient_agents.trace.exporter import JsonLinesExporter

            self._provider.add_span_processor(SimpleSpanProcessor(JsonLinesExporter(export)))
        if endpoint():
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self._trouble)
        logger.propagate = False  # what an exporter has to say is said once, at the end
        trace.set_tracer_provider(self._provider)

    def finish(self) -> str | None:
        """End all exports, in bounded time. Returns what went wrong, in a sentence."""
        last = threading.Thread(target=self._provider.shutdown, name="demo-last-export", daemon=True)
        last.start()
        last.join(PATIENCE)
        if last.is_alive() or self._trouble.seen:
            return f"Spans could not be exported to {self.host}: {self._trouble.seen or 'it does not answer'}"
        return None

    def operations(self) -> list[Operation]:
        """Everything that the policies did."""
        return operations(from_sdk(self._memory.get_finished_spans()))


class _Trouble(logging.Handler):
    """Keeps the first thing that an exporter complained of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = self.seen or textwrap.shorten(record.getMessage(), 100, placeholder=" …")
