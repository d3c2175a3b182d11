"""What Prometheus scrapes: OpenTelemetry's exporter, asked over HTTP, its text parsed by Prometheus' own parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from resilient_agents import telemetry
from resilient_agents.telemetry import metric_table
from tests.conftest import Harness, run_on
from tests.telemetry.test_metrics import exercise


@pytest.fixture(scope="module")
def scraped() -> Iterator[dict[str, Metric]]:
    """Metric families by name, after traffic that touches every metric."""
    meters = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    server, thread = start_http_server(0, addr="127.0.0.1")
    undo = telemetry.configure(meter_provider=meters)
    text = ""

    async def traffic() -> None:
        nonlocal text
        alive = await exercise(Harness("blocking"))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:  # noqa: ASYNC210 - blocking runtime
            text = answer.read().decode()
        del alive

    try:
        run_on("blocking", traffic)
        yield {family.name: family for family in text_string_to_metric_families(text)}
    finally:
        undo()
        meters.shutdown()
        server.shutdown()
        server.server_close()
        thread.join()


def prometheus_name(metric: metric_table.Metric) -> str:
    """The documented name: dots become underscores, seconds a suffix; the parser takes the `_total` of counters off."""
    return metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")


@pytest.mark.parametrize("metric", metric_table.METRICS, ids=lambda metric: metric.name)
def test_each_metric_is_scraped(metric: metric_table.Metric, scraped: dict[str, Metric]) -> None:
    """Every metric of the table is there under its name, with its type, its help and labels of the table only."""
    family = scraped[prometheus_name(metric)]
    assert family.type == metric.kind
    assert family.documentation == metric.description
    assert family.samples
    own = {name.replace(".", "_") for name in metric.attributes} | {"le"}
    for sample in family.samples:
        assert {label for label in sample.labels if not label.startswith("otel_scope_")} <= own


@pytest.mark.parametrize(
    "metric", [metric for metric in metric_table.METRICS if metric.boundaries], ids=lambda metric: metric.name
)
def test_histograms_have_their_buckets(metric: metric_table.Metric, scraped: dict[str, Metric]) -> None:
    """The buckets that are scraped are those of the table."""
    samples = scraped[prometheus_name(metric)].samples
    bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")}
    assert {float(bound) for bound in bounds} == {*metric.boundaries, float("inf")}


def test_the_state_of_a_circuit_can_be_queried(scraped: dict[str, Metric]) -> None:
    """One sample for each state of each circuit, exactly one of them 1."""
    samples = [
        (sample.labels["resilient_agents_state"], sample.value)
        for sample in scraped[prometheus_name(metric_table.CIRCUIT_BREAKER_STATE)].samples
        if sample.labels["resilient_agents_circuit_breaker"] == "c"
    ]
    assert sorted(samples) == [("closed", 0.0), ("half-open", 0.0), ("open", 1.0)]
