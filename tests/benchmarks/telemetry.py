"""What telemetry adds to a call: without an SDK, and with one that batches spans and collects metrics periodically."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

from opentelemetry.metrics import Counter, Histogram
from opentelemetry.trace import Tracer

from resilient_agents import Bulkhead, CircuitBreaker, Policy, telemetry
from resilient_agents.telemetry import metric_table, names
from resilient_agents.telemetry.bridge import in_force
from resilient_agents.telemetry.metric_table import Metric
from tests.benchmarks import peers
from tests.benchmarks.calls import BODIES, plain
from tests.benchmarks.measure import Batch, Effort, blocking, interleaved, suspending
from tests.benchmarks.peers import Absent
from tests.benchmarks.table import Line, at_most

__all__ = ["POLICY", "Setting", "sequence", "with_an_sdk", "without_an_sdk"]

AsyncFunction = Callable[[], Awaitable[Any]]

POLICY = f"{plain.__module__}.{plain.__qualname__}"
sequence = itertools.count(1)


def without_an_sdk(effort: Effort) -> Iterator[Line]:
    """The one question that every call asks, wherever in its way that is: does anybody record?"""
    samples = interleaved({"bare": blocking(_nothing), "ours": blocking(in_force)}, effort)
    seconds = samples["ours"].best - samples["bare"].best + _call(effort)
    yield Line("telemetry without an SDK", "any", "µs", {"ours": seconds * 1e6}, [at_most(0.1)], samples["ours"].spread)


def _nothing() -> None:
    pass


def _call(effort: Effort) -> float:
    """What calling a function that does nothing costs: two such calls, less one."""

    def once() -> None:
        _nothing()

    def twice() -> None:
        _nothing()
        _nothing()

    samples = interleaved({"once": blocking(once), "twice": blocking(twice)}, effort)
    return samples["twice"].best - samples["once"].best


def _policy() -> Policy:
    policy = peers.ours()
    assert isinstance(policy, Policy)
    return policy


def _stateful(policy: Policy) -> tuple[CircuitBreaker, Bulkhead]:
    """Those of its strategies whose state a span tells."""
    (circuit,) = (layer for layer in policy.strategies if isinstance(layer, CircuitBreaker))
    (slots,) = (layer for layer in policy.strategies if isinstance(layer, Bulkhead))
    return circuit, slots


def with_an_sdk(effort: Effort) -> Iterator[Line]:
    """What recording adds to the four strategies, and what the same spans and metrics by hand add to them.

    By hand is around the same strategies, not around a bare call: among what an SDK does, their code is no longer in
    the processor's caches and takes three times as long as alone, whoever writes the spans. It asks them, too, what a
    span says only where it is not at rest: the state of the circuit and how many slots are in use.
    """
    try:
        setting = Setting()
    except Absent as absent:
        yield Line("telemetry with an SDK", "", "µs", {"ours": str(absent)})
        return
    with setting:
        for sampled, attempt_spans, title in (
            (True, True, "telemetry with an SDK"),
            (True, False, "the same, attempt spans off"),
            (False, True, "the same, a sampler drops all"),
        ):
            goals = [at_most(1.1, "by hand")] if sampled and attempt_spans else []
            tracer, counter, histogram = setting.instruments(sampled=sampled)
            with asyncio.Runner() as runner:
                for body, fn in {"plain": plain, **BODIES}.items():
                    is_async = fn is not plain
                    timed: Callable[[Any], Batch] = (lambda f: suspending(f, runner)) if is_async else blocking
                    write: Any = _by_hand_async if is_async else _by_hand_sync
                    policy = _policy()
                    quiet = policy(fn)
                    written = timed(
                        write(quiet, _stateful(policy), tracer, counter, histogram, attempt_spans=attempt_spans)
                    )
                    recorded = timed(_policy()(fn))
                    contenders = {
                        "ours": setting.recorded(recorded, sampled=sampled, attempt_spans=attempt_spans),
                        "quiet": timed(quiet),
                        "by hand": setting.drained(written),
                    }
                    samples = interleaved(contenders, effort)
                    figures: dict[str, float | str] = {
                        "ours": (samples["ours"].best - samples["quiet"].best) * 1e6,
                        "by hand": (samples["by hand"].best - samples["quiet"].best) * 1e6,
                    }
                    yield Line(title, body, "µs", figures, goals, samples["ours"].spread)


class Setting(ExitStack):
    """An SDK in memory: spans in batches, metrics collected periodically. Nothing global is touched."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import (
                MetricExporter,
                MetricExportResult,
                MetricsData,
                PeriodicExportingMetricReader,
            )
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
            from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
        except ImportError:
            raise Absent("no SDK") from None

        class InMemoryMetrics(MetricExporter):
            last: MetricsData | None = None

            def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
                self.last = metrics_data
                return MetricExportResult.SUCCESS

            def force_flush(self, timeout_millis: float = 0) -> bool:
                return True

            def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
                pass

        self._exporter = InMemorySpanExporter()
        self._providers = {
            True: TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False),
            False: TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False),
        }
        for provider in self._providers.values():
            provider.add_span_processor(BatchSpanProcessor(self._exporter))
            self.callback(provider.shutdown)
        reader = PeriodicExportingMetricReader(InMemoryMetrics())
        self._meter_provider = MeterProvider([reader], shutdown_on_exit=False)
        self.callback(self._meter_provider.shutdown)

    def instruments(self, *, sampled: bool = True) -> tuple[Tracer, Counter, Histogram]:
        """What one uses to write it by hand: of attempts the counter, of durations the histogram."""
        counter = self._meter_provider.get_meter("by hand").create_counter("by_hand.attempts")
        histogram = self.histogram("by_hand.duration", metric_table.POLICY_DURATION)
        return self._providers[sampled].get_tracer("by hand"), counter, histogram

    def histogram(self, name: str, like: Metric) -> Histogram:
        """One with the buckets of ours."""
        meter = self._meter_provider.get_meter("by hand")
        return meter.create_histogram(name, like.unit, explicit_bucket_boundaries_advisory=like.boundaries)

    def drained(self, batch: Batch) -> Batch:
        """Spans are exported between batches, not during them."""

        def timed(calls: int) -> float:
            took = batch(calls)
            for provider in self._providers.values():
                provider.force_flush()
            self._exporter.clear()
            return took

        return timed

    def recorded(self, batch: Batch, *, sampled: bool = True, attempt_spans: bool = True) -> Batch:
        """The bridge records here during the batch, and nowhere else."""

        def timed(calls: int) -> float:
            undo = telemetry.configure(
                tracer_provider=self._providers[sampled],
                meter_provider=self._meter_provider,
                attempt_spans=attempt_spans,
            )
            try:
                batch(1)  # connects
                return batch(calls)
            finally:
                undo()
                telemetry.active()  # notices that nobody records any more, before the next batch does

        return self.drained(timed)


PASSED = dict.fromkeys((names.CIRCUIT_BREAKER, names.RATE_LIMIT, names.BULKHEAD), names.UNNAMED)


def _by_hand_sync(
    fn: Callable[[], Any],
    stateful: tuple[CircuitBreaker, Bulkhead],
    tracer: Tracer,
    attempts: Counter,
    duration: Histogram,
    *,
    attempt_spans: bool,
) -> Callable[[], Any]:
    """What one writes for the same spans and metrics, errors left out: they do not happen here."""
    circuit, slots = stateful

    def traced() -> Any:
        began = time.monotonic()
        state, in_use = circuit.state, slots.in_use
        with tracer.start_as_current_span(f"policy {POLICY}", attributes={names.POLICY: POLICY}) as operation:
            if state != "closed" or in_use:
                operation.set_attributes({names.STATE: state, names.IN_USE: in_use, names.QUEUED: slots.queued})
            if attempt_spans:
                started = time.monotonic()
                with tracer.start_as_current_span(names.ATTEMPT_SPANS[1], attributes={names.ATTEMPT: 1}) as attempt:
                    lead = time.monotonic() - started
                    result = fn()
                    attempt.set_attributes({names.OUTCOME: "success", names.FUNCTION_BEGAN: lead, **PASSED})
                    attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "success"})
            else:
                result = fn()
                attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "success"})
                seconds = time.monotonic() - began
                facts = {names.ATTEMPT: 1, names.OUTCOME: "success", names.DURATION: seconds}
                operation.add_event(names.ATTEMPT_EVENT, facts)
            operation.set_attributes(
                {
                    names.ATTEMPT_COUNT: 1,
                    names.OUTCOME: "success",
                    names.SEQUENCE: next(sequence),
                    names.CLOCK: began,
                    names.CONFIGURATION: "0123456789ab",
                    names.CALLED: "blocking",
                }
            )
            labels = {names.POLICY: POLICY, names.OUTCOME: "success", names.RETRIED: False}
            duration.record(time.monotonic() - began, labels)
            return result

    return traced


def _by_hand_async(
    fn: AsyncFunction,
    stateful: tuple[CircuitBreaker, Bulkhead],
    tracer: Tracer,
    attempts: Counter,
    duration: Histogram,
    *,
    attempt_spans: bool,
) -> AsyncFunction:
    """The same around an awaited call."""
    circuit, slots = stateful

    async def traced() -> Any:
        began = time.monotonic()
        state, in_use = circuit.state, slots.in_use
        with tracer.start_as_current_span(f"policy {POLICY}", attributes={names.POLICY: POLICY}) as operation:
            if state != "closed" or in_use:
                operation.set_attributes({names.STATE: state, names.IN_USE: in_use, names.QUEUED: slots.queued})
            if attempt_spans:
                started = time.monotonic()
                with tracer.start_as_current_span(names.ATTEMPT_SPANS[1], attributes={names.ATTEMPT: 1}) as attempt:
                    lead = time.monotonic() - started
                    result = await fn()
                    attempt.set_attributes({names.OUTCOME: "success", names.FUNCTION_BEGAN: lead, **PASSED})
                    attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "success"})
            else:
                result = await fn()
                attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "success"})
                seconds = time.monotonic() - began
                facts = {names.ATTEMPT: 1, names.OUTCOME: "success", names.DURATION: seconds}
                operation.add_event(names.ATTEMPT_EVENT, facts)
            operation.set_attributes(
                {
                    names.ATTEMPT_COUNT: 1,
                    names.OUTCOME: "success",
                    names.SEQUENCE: next(sequence),
                    names.CLOCK: began,
                    names.CONFIGURATION: "0123456789ab",
                }
            )
            labels = {names.POLICY: POLICY, names.OUTCOME: "success", names.RETRIED: False}
            duration.record(time.monotonic() - began, labels)
            return result

    return traced
