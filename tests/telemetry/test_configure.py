"""When anything is recorded at all, and what `configure` changes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context, metrics, trace
from opentelemetry.metrics import _internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from resilient_agents import DeadlineExceeded, deadline, run_budget, telemetry
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.policy import Policy
from resilient_agents.telemetry import bridge, connected
from resilient_agents.telemetry.sink import Sink
from tests.conftest import Harness, ManualClock
from tests.telemetry.conftest import Sdk, faults, identity
from tests.telemetry.test_spans import HTTPError, flaky


def tracers(monkeypatch: pytest.MonkeyPatch, provider: object) -> None:
    """Make it the global tracer provider for the test, as `trace.set_tracer_provider` does once a process."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def meters(monkeypatch: pytest.MonkeyPatch, provider: object) -> None:
    """Make it the global meter provider for the test."""
    monkeypatch.setattr(_internal, "_METER_PROVIDER", provider)


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tracers(monkeypatch, None)
    meters(monkeypatch, None)


@pytest.fixture(autouse=True)
def without_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which nobody set up OpenTelemetry."""
    nothing(monkeypatch)
    for name in ("OTEL_SDK_DISABLED", "OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    telemetry.configure()()  # and nothing is known of what other tests set up


def test_the_names_that_active_reads_are_where_they_were() -> None:
    """The private names of the API that `active` reads exist and mean what it takes them for."""
    code = """
        from opentelemetry import metrics, trace
        from opentelemetry.metrics import _internal
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        assert trace._TRACER_PROVIDER is None
        assert _internal._METER_PROVIDER is None
        tracers, meters = TracerProvider(), MeterProvider()
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)
        assert trace._TRACER_PROVIDER is tracers
        assert _internal._METER_PROVIDER is meters
    """
    run_python(code)


def run_python(code: str, **environment: str) -> str:
    """Output of a fresh interpreter, in which a warning is an error."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


IN_MEMORY = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from resilient_agents import Policy, telemetry

policy = Policy(name="p")
guarded = policy(lambda: 1)
exporter = InMemorySpanExporter()

def install():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

def names():
    return [span.name for span in exporter.get_finished_spans()]
"""


@pytest.mark.parametrize("which", ["tracers", "meters"])
async def test_a_function_that_was_called_before_is_recorded(
    h: Harness, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """As soon as there is either of the two providers."""
    sdk = Sdk()

    async def work() -> None: ...

    guarded: Any = Policy(name="p")(h.fn(work))
    for calls in range(3):
        if calls == 2 and which == "tracers":
            tracers(monkeypatch, sdk.tracer_provider)
        elif calls == 2:
            meters(monkeypatch, sdk.meter_provider)
        _ = guarded() if h.blocking else await guarded()
    assert [span.name for span in sdk.spans] == (["policy p", "attempt 1"] if which == "tracers" else [])
    assert ("resilient_agents.policy.duration" in sdk.metrics()) is (which == "meters")


def test_an_sdk_set_up_after_import_is_picked_up() -> None:
    """Calls before there is an SDK record nothing; the first one after it does, also of functions guarded before."""
    code = IN_MEMORY + (
        "assert not telemetry.active()\nguarded()\ninstall()\nassert telemetry.active()\nguarded()\nprint(names())"
    )
    assert run_python(code) == "['attempt 1', 'policy p']"


def test_a_provider_that_the_environment_names_is_loaded() -> None:
    """`OTEL_PYTHON_TRACER_PROVIDER` alone makes the bridge active."""
    code = IN_MEMORY + "print(telemetry.active(), type(trace.get_tracer_provider()).__name__)"
    assert run_python(code, OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider") == "True TracerProvider"


def test_otel_sdk_disabled_is_honoured() -> None:
    """With `OTEL_SDK_DISABLED=true` nothing is recorded, whatever is set up."""
    code = IN_MEMORY + "install()\nguarded()\nprint(telemetry.active(), names())"
    assert run_python(code, OTEL_SDK_DISABLED="true") == "False []"


def test_without_an_sdk_nothing_is_active() -> None:
    """Without a provider there is no recorder, and the call takes the quiet way."""
    assert not telemetry.active()
    assert telemetry.recorder("p") is None


def test_the_public_functions_stand_in_for_moved_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the private names be gone, the public functions answer."""

    class Moved:
        pass

    monkeypatch.setattr(bridge, "trace", Moved())
    Moved.get_tracer_provider = staticmethod(trace.get_tracer_provider)  # type: ignore[attr-defined]
    assert not telemetry.active()
    sdk = Sdk()
    Moved.get_tracer_provider = staticmethod(lambda: sdk.tracer_provider)  # type: ignore[attr-defined]
    assert telemetry.active()
    sdk.close()


def test_a_broken_provider_in_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name in `OTEL_PYTHON_TRACER_PROVIDER` that cannot be loaded is logged once; calls go through."""
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "no_such_provider")
    policy = Policy(name="p")
    assert [policy.call(int), policy.call(int)] == [0, 0]
    assert len(faults(caplog)) == 1
    caplog.clear()


def test_a_global_provider_set_and_replaced_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is the global provider at the time of a call gets its spans: tests that swap it do not interfere."""
    first, second = Sdk(), Sdk()
    policy = Policy(name="p")
    for sdk in (first, second):
        tracers(monkeypatch, sdk.tracer_provider)
        policy.call(int)
    nothing(monkeypatch)
    policy.call(int)
    assert [len(sdk.spans) for sdk in (first, second)] == [2, 2]
    first.close()
    second.close()


def test_metrics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a meter provider only, metrics are recorded and no span is made."""
    sdk = Sdk()
    meters(monkeypatch, sdk.meter_provider)
    seen: list[Any] = []
    Policy(name="p").call(lambda: seen.append(get_current_span()))
    assert not seen[0].get_span_context().is_valid
    assert sdk.points("resilient_agents.attempts")
    sdk.close()


def test_traces_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tracer provider only, spans are made."""
    sdk = Sdk()
    tracers(monkeypatch, sdk.tracer_provider)
    Policy(name="p").call(int)
    assert len(sdk.spans) == 2
    sdk.close()


def test_providers_that_record_nothing_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's own no-op providers do not switch the bridge on."""
    tracers(monkeypatch, trace.NoOpTracerProvider())
    meters(monkeypatch, metrics.NoOpMeterProvider())
    assert not telemetry.active()


# ----------------------------------------------------------------------------------------------------------- configure


def test_two_providers_do_not_interfere() -> None:
    """Each gets what was recorded while it was configured; undoing brings back what was before."""
    first, second = Sdk(), Sdk()
    policy = Policy(name="p")
    undo_first = first.configure()
    policy.call(int)
    undo_second = second.configure()
    policy.call(int)
    policy.call(int)
    undo_second()
    policy.call(int)
    undo_first()
    policy.call(int)
    assert [len(sdk.spans) for sdk in (first, second)] == [4, 4]
    counts = [sdk.points("resilient_agents.attempts")[0][1] for sdk in (first, second)]
    assert counts == [2, 2]
    assert not telemetry.active()
    first.close()
    second.close()


def test_one_provider_may_be_configured_twice() -> None:
    """Its instruments are the same ones the second time: nothing is counted twice, and the SDK does not complain."""
    sdk = Sdk()
    for _ in range(2):
        undo = sdk.configure()
        Policy(name="p").call(int)
        undo()
    assert [value for _, value in sdk.points("resilient_agents.attempts")] == [2]
    sdk.close()


def test_undoing_twice_or_out_of_order_is_harmless() -> None:
    """Each undo takes back its own settings and no other."""
    first, second = Sdk(), Sdk()
    undo_first, undo_second = first.configure(), second.configure()
    undo_first()
    undo_first()
    Policy(name="p").call(int)
    undo_second()
    assert [len(sdk.spans) for sdk in (first, second)] == [0, 2]
    first.close()
    second.close()


class Slow:
    """A provider that lets something happen, and end, while it gives its tracer."""

    def __init__(self, sdk: Sdk, meanwhile: Callable[[], Any]) -> None:
        self._sdk = sdk
        self.meanwhile: Callable[[], Any] | None = meanwhile

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self._sdk.tracer_provider.get_tracer(*args, **kwargs)


class Elsewhere:
    """Runs something in another thread, and waits for it a moment or to its end."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=run)

    def start(self) -> None:
        self._thread.start()
        self._thread.join(0.05)

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("how", ["at first", "anew", "by configure"])
def test_a_call_of_another_thread_is_recorded_while_the_bridge_connects(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the thread that connects may find telemetry switched off; the calls of all others have their spans."""
    sdk = Sdk()
    policy = Policy(name="p")
    other = Elsewhere(lambda: policy.call(int))
    slow: Any = Slow(sdk, lambda: (policy.call(int), other.start()))
    undo: Callable[[], None] = lambda: None  # noqa: E731
    if how == "by configure":
        tracers(monkeypatch, Sdk().tracer_provider)
        policy.call(int)
        undo = telemetry.configure(tracer_provider=slow)
    else:
        if how == "anew":
            tracers(monkeypatch, Sdk().tracer_provider)
            policy.call(int)
        tracers(monkeypatch, slow)
    policy.call(int)
    other.join()
    undo()
    assert [span.name for span in sdk.spans].count("policy p") == 2


def test_what_is_configured_while_the_bridge_connects_is_in_force_at_once() -> None:
    """The thread that connects sees it and starts again, so that not one call goes the old way."""
    first, second = Sdk(), Sdk()
    undone: list[Callable[[], None]] = []
    slow: Any = Slow(first, lambda: undone.append(second.configure()))
    undo = telemetry.configure(tracer_provider=slow)
    Policy(name="p").call(int)
    for each in (*undone, undo):
        each()
    assert [span.name for span in first.spans] == []
    assert [span.name for span in second.spans].count("policy p") == 1


def test_a_call_that_finds_a_new_configuration_between_two_looks_is_recorded(sdk: Sdk) -> None:
    """`active` has said yes, then `configure` ran in another thread: the recorder comes from what it configured."""
    assert telemetry.active()
    undo = telemetry.configure(tracer_provider=sdk.tracer_provider)
    assert telemetry.recorder("p") is not None
    undo()


def test_a_provider_that_hangs_holds_up_calls_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads wait for the one that connects, but not for ever; once it has, they are recorded again."""
    monkeypatch.setattr(bridge, "PATIENCE", 0.05)
    sdk = Sdk()
    policy = Policy(name="p")
    hanging, goes_on = threading.Event(), threading.Event()
    tracers(monkeypatch, Slow(sdk, lambda: (hanging.set(), goes_on.wait(10))))
    other = Elsewhere(lambda: policy.call(int))
    other.start()
    assert hanging.wait(10)
    policy.call(int)
    goes_on.set()
    other.join()
    policy.call(int)
    assert [span.name for span in sdk.spans].count("policy p") == 2


def test_an_interrupt_while_the_bridge_connects_leaves_it_to_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a provider ends that call only."""
    sdk = Sdk()

    def interrupt() -> None:
        raise KeyboardInterrupt

    tracers(monkeypatch, Slow(sdk, interrupt))
    policy = Policy(name="p")
    with pytest.raises(KeyboardInterrupt):
        policy.call(int)
    policy.call(int)
    assert [span.name for span in sdk.spans].count("policy p") == 1


def test_many_threads_and_many_configurations_lose_no_call() -> None:
    """Calls in eight threads, while others configure and undo, are all recorded."""
    sdk = Sdk()
    policy = Policy(name="p")
    undo = sdk.configure()
    threads = [threading.Thread(target=lambda: [policy.call(int) for _ in range(200)]) for _ in range(8)]
    changing = [threading.Thread(target=lambda: [sdk.configure()() for _ in range(100)]) for _ in range(2)]
    for thread in (*threads, *changing):
        thread.start()
    for thread in (*threads, *changing):
        thread.join()
    undo()
    assert [span.name for span in sdk.spans].count("policy p") == 1600


def test_without_attempt_spans_attempts_are_events(manual_clock: ManualClock) -> None:
    """With `attempt_spans=False` a call is one span, attempts are events on it, and the user's spans nest under it."""
    sdk = Sdk()
    undo = sdk.configure(attempt_spans=False)

    failing = flaky(1)

    def work() -> None:
        manual_clock.sleep(2)
        with sdk.tracer.start_as_current_span("mine"):
            try:
                failing().send(None)
            except StopIteration:
                return

    Policy(Retry(2, wait=fixed(0)), name="p").call(work)
    undo()
    assert [span.name for span in sdk.spans] == ["policy p", "mine", "mine"]
    assert all(span.parent is None or span.parent.span_id == identity(sdk.operation).span_id for span in sdk.spans)
    events = [(name, attributes) for name, attributes in sdk.events() if name == "attempt"]
    assert [attributes.pop("resilient_agents.duration") for _, attributes in events] == [2, 2]
    assert events == [
        (
            "attempt",
            {
                "resilient_agents.attempt": 1,
                "resilient_agents.outcome": "failure",
                "error.type": "overload",
                "http.response.status_code": 503,
            },
        ),
        ("attempt", {"resilient_agents.attempt": 2, "resilient_agents.outcome": "success"}),
    ]
    assert len(sdk.points("resilient_agents.attempts")) == 2
    sdk.close()


tier: contextvars.ContextVar[str] = contextvars.ContextVar("tier", default="free")


def test_a_hook_adds_attributes() -> None:
    """What the hook returns stands on the operation, its attempts and its metrics; ours cannot be overwritten by it."""
    sdk = Sdk()
    asked: list[str] = []

    def hook(policy: str) -> dict[str, str | bool | int | float]:
        asked.append(policy)
        return {"tier": tier.get(), "resilient_agents.policy": "forged"}

    undo = sdk.configure(attributes=hook)
    policy = Policy(Retry(2), name="p")
    policy.call(int)
    contextvars.copy_context().run(lambda: (tier.set("paid"), policy.call(int)))
    undo()
    assert asked == ["p", "p"]
    assert [(span.attributes or {})["tier"] for span in sdk.spans] == ["free", "free", "paid", "paid"]
    for name in ("resilient_agents.policy.duration", "resilient_agents.attempts"):
        points = sdk.points(name)
        assert [attributes["tier"] for attributes, _ in points] == ["free", "paid"]
        assert {attributes["resilient_agents.policy"] for attributes, _ in points} == {"p"}
    sdk.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracer_provider": object()}, "tracer_provider must have get_tracer(), got object"),
        ({"meter_provider": 3}, "meter_provider must have get_meter(), got int"),
        ({"attempt_spans": "no"}, "attempt_spans must be True or False, got 'no'"),
        ({"attributes": {"tier": "free"}}, "attributes must be a plain function of the policy's name"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, Any], message: str) -> None:
    """What cannot work is refused at once, by name."""
    with pytest.raises(TypeError) as caught:
        telemetry.configure(**options)
    assert message in str(caught.value)
    assert not telemetry.active()


def test_a_hook_that_must_be_awaited_is_refused() -> None:
    """An async hook is refused: nothing would await it."""

    async def hook(policy: str) -> dict[str, str | bool | int | float]:
        return {}

    with pytest.raises(TypeError, match="attributes must be a plain function"):
        telemetry.configure(attributes=hook)  # type: ignore[arg-type]


def test_policies_named_at_run_time_do_not_pile_up(sdk: Sdk) -> None:
    """What is remembered for each policy's name is bounded."""
    for n in range(connected.MAX_POLICIES + 10):
        telemetry.active()
        telemetry.recorder(f"p{n}")
    assert sum(type(thing) is Sink for thing in gc.get_objects()) <= connected.MAX_POLICIES


def test_a_meter_provider_is_let_go() -> None:
    """A provider that was configured and undone can be collected."""
    import gc
    import weakref

    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    undo = telemetry.configure(meter_provider=provider)
    Policy(name="p").call(int)
    undo()
    telemetry.active()
    provider.shutdown()
    gone = weakref.ref(provider)
    del provider, undo
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------------------------------------ sampling


def test_a_dropped_operation_makes_no_attempt_spans() -> None:
    """What the sampler dropped is not asked about again for each attempt, and the metrics are recorded all the same."""
    asked: list[str] = []

    class Counting(ParentBased):
        def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return super().should_sample(parent_context, trace_id, name, *args, **kwargs)

    sdk = Sdk(Counting(ALWAYS_OFF))
    undo = sdk.configure()
    Policy(Retry(2), name="p").call(int)
    undo()
    assert asked == ["policy p"]
    assert sdk.spans == ()
    assert [value for _, value in sdk.points("resilient_agents.attempts")] == [1]
    sdk.close()


def test_the_users_spans_inherit_a_dropped_operation() -> None:
    """A span made in a dropped operation belongs to its trace, and is dropped with it."""
    sdk = Sdk(ParentBased(ALWAYS_OFF))
    undo = sdk.configure()
    seen: list[SpanContext] = []
    Policy(name="p").call(lambda: seen.append(get_current_span().get_span_context()))
    undo()
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled
    sdk.close()


class Asked(Sampler):
    """Decides as it is told, and remembers the names it was asked about."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.names: list[str] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> SamplingResult:
        self.names.append(name)
        return SamplingResult(self.decision)

    def get_description(self) -> str:
        return "asked"


def test_under_a_span_that_was_dropped_nothing_is_asked() -> None:
    """Inside a span of this process that a sampler dropped a call makes no span and asks nobody."""
    sampler = Asked(Decision.DROP)
    sdk = Sdk(sampler)
    for undo in (sdk.configure(), telemetry.configure(tracer_provider=sdk.tracer_provider)):
        with sdk.tracer.start_as_current_span("request") as request:
            seen: list[Any] = []
            Policy(Retry(2), name="p").call(lambda seen=seen: seen.append(get_current_span()))
            assert seen == [request]
        undo()
    assert sampler.names == ["request", "request"]
    sdk.close()


def test_a_span_that_is_recorded_and_not_sampled_counts_as_recorded() -> None:
    """The decision RECORD_ONLY makes all spans, for processors that look at them."""
    sampler = Asked(Decision.RECORD_ONLY)
    sdk = Sdk(sampler)
    undo = sdk.configure()
    with sdk.tracer.start_as_current_span("request"):
        Policy(Retry(2), name="p").call(int)
    undo()
    assert sampler.names == ["request", "policy p", "attempt 1"]
    sdk.close()


@pytest.fixture
def only_dropped() -> Iterator[Sdk]:
    """A sampler that drops everything, and no metrics: nothing but the context is left of a call."""
    sdk = Sdk(ParentBased(ALWAYS_OFF))
    undo = telemetry.configure(tracer_provider=sdk.tracer_provider)
    yield sdk
    undo()
    assert sdk.spans == ()
    sdk.close()


async def test_a_dropped_call_without_metrics(h: Harness, only_dropped: Sdk) -> None:
    """Results and errors are unchanged, the user's spans belong to the dropped trace, and nothing stays current."""
    seen: list[SpanContext] = []

    async def work() -> Any:
        seen.append(get_current_span().get_span_context())
        await h.sleep(1)
        return await failing()

    failing = flaky(1)
    assert await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), work) == "ok"
    assert get_current_span() is INVALID_SPAN
    failing = flaky(5)
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), work)
    assert get_current_span() is INVALID_SPAN
    assert len({each.trace_id for each in seen}) == 2
    assert all(each.is_valid and not each.trace_flags.sampled for each in seen)


async def test_a_dropped_call_is_paid_for(h: Harness, only_dropped: Sdk) -> None:
    """Out of the budget of its run, like any other; and held to its deadline."""

    async def work(seconds: float) -> None:
        await h.sleep(seconds)

    with run_budget(attempts=5) as budget:
        await h.call(Policy(name="p"), work, 1)
        assert budget.spent.attempts == 1
        with deadline(5), pytest.raises(DeadlineExceeded):
            for _ in range(2):
                await h.call(Policy(name="p"), work, 9)
        assert budget.spent.attempts == 2


def test_a_dropped_stream(only_dropped: Sdk) -> None:
    """Between the items of a stream whose operation was dropped the consumer's context is current."""

    def numbers() -> Iterator[SpanContext]:
        for _ in range(2):
            yield get_current_span().get_span_context()

    inside = []
    for seen in Policy(name="p")(numbers)():
        inside.append(seen.is_valid)
        assert get_current_span() is INVALID_SPAN
    assert inside == [True, True]


def test_a_dropped_call_that_goes_on_as_an_awaitable(only_dropped: Sdk) -> None:
    """One that another task awaits leaves nothing current here."""

    async def answer() -> bool:
        await asyncio.sleep(0)
        return get_current_span().get_span_context().is_valid

    async def scenario() -> None:
        task = asyncio.create_task(Policy(name="p")(lambda: answer())())
        assert get_current_span() is INVALID_SPAN
        assert await task

    asyncio.run(scenario())


def remote(*, sampled: bool) -> context.Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(7, 9, is_remote=True, trace_flags=flags)))


def test_under_a_remote_parent_the_sampler_decides() -> None:
    """A caller elsewhere that was not sampled is a fact for our sampler, which may record all the same."""
    sdk = Sdk(Asked(Decision.RECORD_AND_SAMPLE))
    undo = sdk.configure()
    token = context.attach(remote(sampled=False))
    Policy(name="p").call(int)
    context.detach(token)
    undo()
    assert [span.name for span in sdk.spans] == ["policy p", "attempt 1"]
    sdk.close()


@pytest.mark.parametrize("sampled", [True, False])
def test_the_parents_sampling_decision_is_respected(sampled: bool) -> None:
    """An operation under a remote parent is recorded if, and only if, the parent was sampled."""
    sdk = Sdk(ParentBased(TraceIdRatioBased(0.5)))
    undo = sdk.configure()
    token = context.attach(remote(sampled=sampled))
    Policy(name="p").call(int)
    context.detach(token)
    undo()
    assert [identity(span).trace_id for span in sdk.spans] == ([7, 7] if sampled else [])
    sdk.close()
