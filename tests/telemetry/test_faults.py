"""Whatever the SDK, an exporter or a hook does, the call goes through unchanged and one log line says what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Meter, MeterProvider, NoOpMeter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN, get_current_span

from resilient_agents import telemetry
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.base import instances
from resilient_agents.policy import Policy
from tests.conftest import Harness
from tests.telemetry.conftest import Sdk, faults
from tests.telemetry.test_spans import HTTPError, fail, flaky


class Broken(Exception):
    pass


class Failing(SpanProcessor):
    """A span processor that fails at the beginning or at the end of spans."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.at in ("start", f"start {span.name}"):
            raise Broken

    def on_end(self, span: ReadableSpan) -> None:
        if self.at == "end":
            raise Broken


@pytest.mark.parametrize("at", ["start", "start attempt 1", "end"])
async def test_a_broken_span_processor(h: Harness, at: str, caplog: pytest.LogCaptureFixture) -> None:
    """When a processor raises, results and errors are unchanged, nothing stays current, and metrics are right."""
    sdk = Sdk()
    sdk.tracer_provider.add_span_processor(Failing(at))
    undo = sdk.configure()
    policy = Policy(Retry(2, wait=fixed(1)), name="p")
    assert await h.call(policy, flaky(1)) == "ok"
    assert get_current_span() is INVALID_SPAN
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    assert get_current_span() is INVALID_SPAN
    undo()
    assert len(faults(caplog)) == 1
    assert "recording a call failed" in faults(caplog)[0].getMessage()
    assert sum(value for _, value in sdk.points("resilient_agents.attempts")) == 4
    assert sum(value for _, value in sdk.points("resilient_agents.policy.duration")) == 2
    sdk.close()


async def test_a_broken_span_processor_and_no_metrics(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Without metrics, and so without anything to record, the call goes through all the same."""
    sdk = Sdk()
    sdk.tracer_provider.add_span_processor(Failing("start"))
    undo = telemetry.configure(tracer_provider=sdk.tracer_provider)
    policy = Policy(Retry(2, wait=fixed(1)), name="p")
    assert await h.call(policy, flaky(1)) == "ok"
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    undo()
    assert len(faults(caplog)) == 1
    sdk.close()


class RefusingMeter(NoOpMeter):
    """A meter that refuses one instrument."""

    def __init__(self, meter: Meter, refused: str) -> None:
        super().__init__("refusing")
        self._meter = meter
        self._refused = refused

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("create_"):
            return super().__getattribute__(name)

        def create(instrument: str, *args: Any, **kwargs: Any) -> Any:
            if instrument == self._refused:
                raise Broken
            return getattr(self._meter, name)(instrument, *args, **kwargs)

        return create


class RefusingProvider(MeterProvider):
    def __init__(self, sdk: Sdk, refused: str) -> None:
        self._sdk = sdk
        self._refused = refused

    def get_meter(self, *args: Any, **kwargs: Any) -> Meter:
        return RefusingMeter(self._sdk.meter_provider.get_meter(*args, **kwargs), self._refused)


@pytest.mark.parametrize(
    "refused",
    ["resilient_agents.attempts", "resilient_agents.policy.duration", "resilient_agents.circuit_breaker.state"],
)
def test_a_meter_that_refuses_an_instrument(refused: str, caplog: pytest.LogCaptureFixture) -> None:
    """Only the refused instrument is missing, and one line says so."""
    sdk = Sdk()
    undo = telemetry.configure(meter_provider=RefusingProvider(sdk, refused))
    breaker = CircuitBreaker("kept")
    assert Policy(breaker, name="p").call(int) == 0
    undo()
    assert set(sdk.metrics()) >= {
        "resilient_agents.attempts",
        "resilient_agents.policy.duration",
        "resilient_agents.circuit_breaker.state",
    } - {refused}
    assert refused not in sdk.metrics()
    assert [record.getMessage().split(";")[0] for record in faults(caplog)] == [
        f"telemetry: making the instrument {refused} failed"
    ]
    sdk.close()


def test_a_provider_that_gives_no_tracer(caplog: pytest.LogCaptureFixture) -> None:
    """Providers whose `get_tracer` and `get_meter` raise are logged; calls go through."""

    class Useless:
        def get_tracer(self, *args: Any) -> Any:
            raise Broken

        def get_meter(self, *args: Any) -> Any:
            raise Broken

    undo = telemetry.configure(tracer_provider=Useless(), meter_provider=Useless())  # type: ignore[arg-type]
    policy = Policy(name="p")
    assert [policy.call(int), policy.call(int)] == [0, 0]
    undo()
    assert len(faults(caplog)) == 2


@pytest.mark.parametrize(
    "hook",
    [
        lambda policy: 1 / 0,
        lambda policy: None,
        lambda policy: {"list": [1]},
        lambda policy: {3: "three"},
    ],
)
def test_a_hook_that_fails(hook: Callable[[str], Any], caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises, or returns what is no attribute, adds nothing; everything else is recorded."""
    sdk = Sdk()
    undo = sdk.configure(attributes=hook)
    policy = Policy(name="p")
    assert [policy.call(int), policy.call(int)] == [0, 0]
    undo()
    assert len(faults(caplog)) == 1
    assert "the attributes hook failed" in faults(caplog)[0].getMessage()
    assert len(sdk.spans) == 4
    sdk.close()


async def test_an_sdk_that_is_shut_down_in_mid_call(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """When the SDK goes away between two attempts, the call does not notice."""
    sdk = Sdk()
    undo = sdk.configure()
    failing = flaky(1)

    async def work() -> Any:
        sdk.close()
        return await failing()

    assert await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), work) == "ok"
    undo()
    assert get_current_span() is INVALID_SPAN
    caplog.clear()  # the SDK itself may complain


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_an_exporter_that_raises(processor: Callable[[SpanExporter], Any], caplog: pytest.LogCaptureFixture) -> None:
    """An exporter that raises, in the caller's thread or behind a batch processor, changes nothing; the SDK logs it."""

    class Raising(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            raise Broken

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(Raising()))
    undo = telemetry.configure(tracer_provider=provider)
    assert Policy(Retry(2), name="p").call(int) == 0
    undo()
    provider.shutdown()
    assert "Exception while exporting" in caplog.text
    assert faults(caplog) == []
    caplog.clear()


def test_an_exporter_that_hangs_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An exporter that hangs, behind a batch processor as everywhere, holds up the processor's thread and no call."""
    let_go = threading.Event()
    exporting = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            exporting.set()
            let_go.wait(30)
            raise Broken

        def shutdown(self) -> None:
            let_go.set()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Hanging(), max_queue_size=8, max_export_batch_size=4))
    undo = telemetry.configure(tracer_provider=provider)
    policy = Policy(name="p")
    for _ in range(4):
        policy.call(int)
    assert exporting.wait(10)
    assert [policy.call(int) for _ in range(20)] == [0] * 20
    let_go.set()
    undo()
    provider.shutdown()
    caplog.clear()  # the SDK says that spans were dropped


def test_a_gauge_that_cannot_be_read(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """A component whose state cannot be read takes its own gauge away for that time, and no other metric."""

    class Sick:
        name = "sick"

        @property
        def in_use(self) -> int:
            raise Broken

    sick = Sick()
    instances.add("bulkhead", sick)
    Policy(name="p").call(int)
    found = sdk.metrics()
    assert "resilient_agents.bulkhead.in_use" not in found
    assert "resilient_agents.attempts" in found
    assert "reading resilient_agents.bulkhead.in_use failed" in faults(caplog)[0].getMessage()
    del sick


def test_a_provider_that_makes_guarded_calls_itself() -> None:
    """A provider that calls a guarded function while it is being connected does not lock up."""
    sdk = Sdk()
    policy = Policy(name="p")

    class Reentrant:
        def get_tracer(self, *args: Any) -> Any:
            policy.call(int)
            return sdk.tracer_provider.get_tracer(*args)

    undo = telemetry.configure(tracer_provider=Reentrant())  # type: ignore[arg-type]
    assert policy.call(int) == 0
    undo()
    assert len(sdk.spans) == 2
    sdk.close()


def test_a_failing_recorder_is_logged_once_a_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """Hundred failing calls make one line in the log."""
    sdk = Sdk()
    sdk.tracer_provider.add_span_processor(Failing("start"))
    undo = sdk.configure()
    policy = Policy(name="p")
    for _ in range(100):
        policy.call(int)
    undo()
    assert len(faults(caplog)) == 1
    sdk.close()
