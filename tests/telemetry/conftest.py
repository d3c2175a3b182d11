"""A real SDK, in memory, for each test: no global state is touched, so tests do not see one another."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import INVALID_SPAN, SpanContext, get_current_span

from resilient_agents import telemetry


class Begun(SpanProcessor):
    """In which order spans began: on a test's clock many begin at the same moment."""

    def __init__(self) -> None:
        self.order: dict[int, int] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.order[span.context.span_id] = len(self.order)


class Sdk:
    """A tracer provider and a meter provider, and what has come out of them."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self._begun = Begun()
        self.tracer_provider.add_span_processor(self._begun)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("the user's")

    def configure(self, **options: Any) -> Any:
        return telemetry.configure(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order of their beginning."""
        return tuple(
            sorted(
                self.exporter.get_finished_spans(),
                key=lambda span: (span.start_time or 0, self._begun.order[identity(span).span_id]),
            )
        )

    def spans_begun(self) -> int:
        return len(self._begun.order)

    @property
    def operation(self) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name.startswith("policy ")]
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith("attempt ")]

    @property
    def waits(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith("wait ")]

    def span(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Events on the operation span."""
        return [(event.name, dict(event.attributes or {})) for event in self.operation.events]

    def metrics(self) -> dict[str, Any]:
        """Metrics of this moment, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """(attributes, value) of a metric; for a histogram the value is its count."""
        metric = self.metrics().get(name)
        if metric is None:
            return []
        return [
            (dict(point.attributes), point.count if hasattr(point, "count") else point.value)
            for point in metric.data.data_points
        ]

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    """The SDK that policies of this test record into."""
    made = Sdk()
    undo = made.configure()
    yield made
    undo()
    made.close()


@pytest.fixture(autouse=True)
def clean(caplog: pytest.LogCaptureFixture) -> Generator[None, None, None]:
    """No test may leave a span current or make OpenTelemetry complain: of a lost context, a span used after its end."""
    assert get_current_span() is INVALID_SPAN
    yield
    assert get_current_span() is INVALID_SPAN, "a span was left current"
    complaints = [record for record in caplog.get_records("call") if record.name.startswith("opentelemetry")]
    assert [record.getMessage() for record in complaints] == []


def told(span: ReadableSpan) -> dict[str, Any]:
    """What a span says, but for what only a replay needs."""
    needed = [f"resilient_agents.{name}" for name in ("sequence", "clock", "configuration", "called", "function_began")]
    return {name: value for name, value in (span.attributes or {}).items() if name not in needed}


def identity(span: ReadableSpan) -> SpanContext:
    """Trace and span id."""
    context = span.get_span_context()
    assert context is not None
    return context


def parent_of(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> str | None:
    """Name of the parent span, None for a root."""
    if span.parent is None:
        return None
    for other in spans:
        if identity(other).span_id == span.parent.span_id:
            return other.name
    return "?"


def faults(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "resilient_agents.telemetry"]
