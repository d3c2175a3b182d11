"""Five shapes of slow call, through the real SDK and OTLP: the tree alone tells where the time went.

The calls are those of `docs/examples/slow_calls.py`, of which the documentation shows the pictures.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from resilient_agents import telemetry
from resilient_agents.telemetry import names
from tests.conftest import run_on

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SLOW = example("slow_calls")
Spans = list[dict[str, Any]]


@pytest.fixture
def receiver() -> Iterator[str]:
    """URL of a receiver of our own."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("receiver.py"))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def exported(receiver: str, shape: Any) -> Spans:
    """The spans of ours that a receiver got of one slow call."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver}/v1/traces")))
    undo = telemetry.configure(tracer_provider=provider)
    try:
        if shape is SLOW.inner_retries:  # the SDK sleeps in real time
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                asyncio.run(shape())
        else:
            run_on("asyncio", shape)
    finally:
        undo()
        provider.shutdown()
    with urllib.request.urlopen(receiver) as answer:
        requests = json.load(answer)["/v1/traces"]
    return [
        span
        for request in requests
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        if scope["scope"]["name"] == names.SCOPE
        for span in scope["spans"]
    ]


def seconds(span: dict[str, Any]) -> float:
    return (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9


def below(span: dict[str, Any], spans: Spans) -> Spans:
    return [each for each in spans if each.get("parentSpanId") == span["spanId"]]


def covered(span: dict[str, Any], spans: Spans) -> float:
    """Which share of a span's time its children cover together."""
    end = covering = 0
    for each in sorted(below(span, spans), key=lambda each: int(each["startTimeUnixNano"])):
        covering += max(int(each["endTimeUnixNano"]) - max(end, int(each["startTimeUnixNano"])), 0)
        end = max(end, int(each["endTimeUnixNano"]))
    return covering / 1e9 / seconds(span)


@pytest.mark.parametrize("cause", SLOW.SHAPES)
def test_the_tree_alone_tells_where_the_time_went(cause: str, receiver: str) -> None:
    """The children of the operation cover at least 95 % of it, and the longest leaf of ours names the cause."""
    if "inner" in cause:
        pytest.importorskip("openai")
    spans = exported(receiver, SLOW.SHAPES[cause])
    (operation,) = [span for span in spans if span["name"].startswith("policy ") and "another" not in span["name"]]
    assert covered(operation, spans) >= 0.95
    mine = [span for span in spans if span["traceId"] == operation["traceId"]]
    longest = max((span for span in mine if not below(span, mine)), key=seconds)
    assert seconds(longest) > seconds(operation) / 2
    assert longest["name"] == cause.partition(",")[0]
    if "inner" in cause:
        told = {pair["key"]: pair["value"] for pair in longest["attributes"]}
        assert told[names.INNER_RETRIES] == {"intValue": "2"}
    elif longest["name"].startswith("attempt"):
        assert longest["status"] == {"code": "STATUS_CODE_ERROR", "message": "timeout"}


PHOENIX = os.environ.get("RESILIENT_AGENTS_PHOENIX") or shutil.which("phoenix")


@pytest.mark.skipif(not PHOENIX, reason="no Phoenix: name its command in RESILIENT_AGENTS_PHOENIX")
def test_phoenix_has_the_trees(tmp_path: Path) -> None:
    """A real Phoenix gives back, over its API, the trees that were sent, as links of a chain."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "phoenix.py"), str(PHOENIX)],
        check=True,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == EXPECTED


EXPECTED = """\
policy 1 told to wait  [CHAIN]
  attempt 1  [CHAIN]  rate_limit 429
  wait retry_after  [CHAIN]
  attempt 2  [CHAIN]
policy 2 backing off  [CHAIN]
  attempt 1  [CHAIN]  overload 503
  wait backoff  [CHAIN]
  attempt 2  [CHAIN]  overload 503
  wait backoff  [CHAIN]
  attempt 3  [CHAIN]
policy another call  [CHAIN]
  attempt 1  [CHAIN]
policy 3 in line  [CHAIN]
  attempt 1  [CHAIN]
    wait bulkhead  [CHAIN]
policy 4 hanging  [CHAIN]
  attempt 1  [CHAIN]  timeout
  wait backoff  [CHAIN]
  attempt 2  [CHAIN]
policy 5 retried inside  [CHAIN]
  attempt 1  [CHAIN]  overload 503
  wait retry_after  [CHAIN]
  attempt 2  [CHAIN]
""".splitlines()
