"""What leaves the process over OTLP/HTTP, as a receiver in another process decodes it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from resilient_agents import telemetry
from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import CircuitOpenError
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.policy import Policy
from resilient_agents.telemetry import metric_table, names
from tests.conftest import ManualClock, swapped_clock
from tests.telemetry.test_spans import HTTPError

# Before 1.32 the SDK forgets an instrument's boundaries where the exporter names an aggregation, as this one does.
SDK_KEEPS_BOUNDARIES = tuple(map(int, importlib.metadata.version("opentelemetry-sdk").split(".")[:2])) >= (1, 32)


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    """URL of the receiver."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("receiver.py"))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def plain(value: dict[str, Any]) -> Any:
    """An OTLP AnyValue as what it means."""
    ((kind, content),) = value.items()
    return int(content) if kind == "intValue" else content


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: plain(pair["value"]) for pair in of.get("attributes", [])}


class Told:
    """A strategy in which a call waits for a slot, and around a client that retries by itself."""

    def execute(self, proceed: Proceed, call: Call) -> Any:
        assert call.audience is not None
        call.audience.tell_of_wait("bulkhead", 0.5)
        call.audience.attempt_ended(7, 0.0, "failure", None, 2, None)
        return proceed(call)


@pytest.fixture(scope="module")
def exported(receiver: str) -> dict[str, Any]:
    """A saved, a failing and a refused operation, sent through the real exporters; what the receiver got."""
    resource = Resource({"service.name": "agents"})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver}/v1/metrics"), 3_600_000)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    undo = telemetry.configure(tracer_provider=tracers, meter_provider=meters)
    breaker, bulkhead = CircuitBreaker("openai", failures=3), Bulkhead(8)
    policy = Policy(Retry(3, wait=fixed(0.5, jitter=None)), breaker, RateLimit(1, per=2), bulkhead, name="chat")
    left = [2]

    def work() -> str:
        with tracers.get_tracer("client").start_as_current_span("GET /chat"):
            left[0] -= 1
            if left[0] >= 0:
                raise HTTPError(503)
            return "ok"

    monitor = HealthMonitor([HealthCheck("db", lambda: True)], builtin=False)
    time = ManualClock()
    try:
        monitor.refresh()
        with swapped_clock(time, time.sleep):
            with tracers.get_tracer("app").start_as_current_span("request"):
                policy.call(work)
            left[0] = 3
            with pytest.raises(HTTPError):
                policy.call(work)
            with pytest.raises(CircuitOpenError):
                policy.call(work)
            Policy(Told(), name="other").call(int)
            assert list(Policy(name="stream").stream(iter, "ab")) == ["a", "b"]
    finally:
        undo()
    tracers.shutdown()
    meters.shutdown()
    with urllib.request.urlopen(receiver) as answer:
        found: dict[str, Any] = json.load(answer)
    del breaker, bulkhead, monitor
    return found


@pytest.fixture(scope="module")
def spans(exported: dict[str, Any]) -> list[dict[str, Any]]:
    found = [
        {**span, "scope": scope["scope"]["name"]}
        for request in exported["/v1/traces"]
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    return sorted(found, key=lambda span: int(span["startTimeUnixNano"]))


def test_the_tree_arrives_as_it_was(spans: list[dict[str, Any]]) -> None:
    """Request, operation, attempts and the user's own spans arrive with their parents."""
    by_id = {span["spanId"]: span["name"] for span in spans}
    trace = [span for span in spans if span["traceId"] == spans[0]["traceId"]]
    assert sorted((span["name"], by_id.get(span.get("parentSpanId", ""), "")) for span in trace) == sorted(
        [
            ("request", ""),
            ("policy chat", "request"),
            ("attempt 1", "policy chat"),
            ("GET /chat", "attempt 1"),
            ("wait backoff", "policy chat"),
            ("attempt 2", "policy chat"),
            ("wait rate_limit", "attempt 2"),
            ("GET /chat", "attempt 2"),
            ("wait backoff", "policy chat"),
            ("attempt 3", "policy chat"),
            ("wait rate_limit", "attempt 3"),
            ("GET /chat", "attempt 3"),
        ]
    )
    assert {span["scope"] for span in spans if span["name"].startswith(("attempt ", "wait ", "policy "))} == {
        names.SCOPE
    }


def test_spans_arrive_with_kind_status_and_attributes(spans: list[dict[str, Any]]) -> None:
    """The saved operation has no status, the failing one ERROR and why in two words; both are INTERNAL."""
    saved, failed, _ = (span for span in spans if span["name"] == "policy chat")
    assert {span["kind"] for span in (saved, failed)} == {"SPAN_KIND_INTERNAL"}
    assert saved["status"] == {}
    said = attributes(saved)
    assert said.pop(names.SEQUENCE) < attributes(failed).pop(names.SEQUENCE)
    assert said.pop(names.CLOCK) < attributes(failed).pop(names.CLOCK)
    assert said.pop(names.CONFIGURATION) == attributes(failed).pop(names.CONFIGURATION)
    assert said.pop(names.CALLED) == "blocking"
    assert said == {
        names.POLICY: "chat",
        names.ATTEMPT_COUNT: 3,
        names.OUTCOME: "success",
        names.WAITED: 3.0,
        names.RETRY_WAITED: 1.0,
        names.FAILED: {"values": [{"stringValue": "overload"}]},
    }
    assert failed["status"] == {"code": "STATUS_CODE_ERROR", "message": "overload 503"}
    assert attributes(failed)[names.ERROR_TYPE] == "overload"
    assert attributes(failed)[names.STATUS_CODE] == 503


def test_span_events_arrive(spans: list[dict[str, Any]]) -> None:
    """Scheduled retries and the circuit that opened are events of the operation."""
    saved, failed, _ = (span for span in spans if span["name"] == "policy chat")
    assert [event["name"] for event in saved["events"]] == [names.RETRY_SCHEDULED] * 2
    assert attributes(saved["events"][0]) == {
        names.DELAY: 0.5,
        names.ATTEMPT: 1,
        names.REASON: "backoff",
        names.ERROR_TYPE: "overload",
        names.STATUS_CODE: 503,
    }
    assert names.STATE_CHANGE in [event["name"] for event in failed["events"]]


def test_no_secret_arrives(exported: dict[str, Any]) -> None:
    """The key in the error's message is nowhere in what was sent under our scope."""
    ours = [
        scope
        for request in exported["/v1/traces"]
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        if scope["scope"]["name"] == names.SCOPE
    ]
    assert ours
    assert "SECRET" not in json.dumps(ours)
    assert "SECRET" not in json.dumps(exported["/v1/metrics"])


def test_metrics_arrive_with_unit_and_type(exported: dict[str, Any]) -> None:
    """All metrics arrive under their names, as what they are."""
    found = {
        metric["name"]: metric
        for request in exported["/v1/metrics"]
        for resource in request["resourceMetrics"]
        for scope in resource["scopeMetrics"]
        if scope["scope"]["name"] == names.SCOPE
        for metric in scope["metrics"]
    }
    assert set(found) == {metric.name for metric in metric_table.METRICS}
    for metric in metric_table.METRICS:
        arrived = found[metric.name]
        kind = {"counter": "sum", "histogram": "histogram", "gauge": "gauge"}[metric.kind]
        assert arrived.get("unit", "") == metric.unit
        assert arrived["description"] == metric.description
        for point in arrived[kind]["dataPoints"]:
            assert set(attributes(point)) <= set(metric.attributes)
            if metric.kind != "histogram" or SDK_KEEPS_BOUNDARIES:
                assert tuple(point.get("explicitBounds", ())) == metric.boundaries


def test_views_bring_boundaries_to_any_sdk() -> None:
    """With the views of the docs the boundaries of the table hold, whatever the exporter prefers."""
    exporter = OTLPMetricExporter("http://127.0.0.1:9/never/asked")
    reader = InMemoryMetricReader(preferred_aggregation=exporter._preferred_aggregation)
    views = [
        View(instrument_name=metric.name, aggregation=ExplicitBucketHistogramAggregation(metric.boundaries))
        for metric in metric_table.METRICS
        if metric.boundaries
    ]
    meters = MeterProvider([reader], views=views, shutdown_on_exit=False)
    undo = telemetry.configure(meter_provider=meters)
    try:
        Policy(name="p").call(int)
    finally:
        undo()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric.data for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    found: Any = metrics[metric_table.POLICY_DURATION.name]
    assert [tuple(point.explicit_bounds) for point in found.data_points] == [metric_table.SECONDS]
    meters.shutdown()
    exporter.shutdown()


def test_exemplars_arrive(exported: dict[str, Any], spans: list[dict[str, Any]]) -> None:
    """The measurement of a duration carries the trace of its operation."""
    traces = {span["traceId"] for span in spans if span["name"].startswith("policy ")}
    exemplars = [
        exemplar["traceId"]
        for request in exported["/v1/metrics"]
        for resource in request["resourceMetrics"]
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        if metric["name"] == metric_table.POLICY_DURATION.name
        for point in metric["histogram"]["dataPoints"]
        for exemplar in point.get("exemplars", [])
    ]
    assert exemplars
    assert set(exemplars) <= traces
