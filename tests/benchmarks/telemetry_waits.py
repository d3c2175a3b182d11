"""What telemetry with an SDK adds to a call that fails once and waits before it is tried again."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import StatusCode

from resilient_agents import Policy, Retry
from resilient_agents.backoff import fixed
from resilient_agents.base.clock import clock
from resilient_agents.classify import classify
from resilient_agents.telemetry import metric_table, names
from tests.benchmarks import peers
from tests.benchmarks.calls import every_other, every_other_async
from tests.benchmarks.measure import Batch, Effort, blocking, interleaved, suspending
from tests.benchmarks.peers import RETRIED, Absent
from tests.benchmarks.table import Line, at_most
from tests.benchmarks.telemetry import POLICY, Setting, sequence

__all__ = ["with_waits"]

_WAIT = 0.005


def with_waits(effort: Effort) -> Iterator[Line]:
    """The same of a call whose first attempt fails and that waits for its second one: four spans in place of two.

    The wait is one of 5 ms, by a clock that jumps: what is slept through is no work of anybody's.
    """
    title = "telemetry with an SDK, a failure and its wait"
    try:
        setting = Setting()
    except Absent as absent:
        yield Line(title, "", "µs", {"ours": str(absent)})
        return
    with setting, _jumping_clock(), asyncio.Runner() as runner:
        for is_async in (False, True):
            timed: Callable[[Any], Batch] = (lambda f: suspending(f, runner)) if is_async else blocking
            attempt = every_other_async() if is_async else every_other()
            written = _ByHand(attempt, Policy(_retry()), setting)
            recorded, quiet = Policy(_retry())(attempt), Policy(_retry())(attempt)
            contenders = {
                "ours": setting.recorded(timed(recorded)),
                "quiet": timed(quiet),
                "by hand": setting.drained(timed(written.call_async if is_async else written.call)),
            }
            samples = interleaved(contenders, effort)
            figures: dict[str, float | str] = {
                name: (samples[name].best - samples["quiet"].best) * 1e6 for name in ("ours", "by hand")
            }
            body = "awaited" if is_async else "plain"
            yield Line(title, body, "µs", figures, [at_most(1.1, "by hand")], samples["ours"].spread)


def _retry() -> Retry:
    return Retry(peers.ATTEMPTS, on=RETRIED, wait=fixed(_WAIT))


@contextmanager
def _jumping_clock() -> Generator[None, None, None]:
    """Whoever sleeps is at once where it wanted to be, by the clock of the library."""
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    async def sleep_async(delay: float, result: Any = None) -> Any:
        sleep(delay)
        return result

    kept = asyncio.sleep
    asyncio.sleep = sleep_async
    try:
        with clock.replaced(monotonic=lambda: time.monotonic() + slept, wall=lambda: time.time() + slept, sleep=sleep):
            yield
    finally:
        asyncio.sleep = kept


class _ByHand:
    """What one writes for a function that is tried again: spans of the call, of its attempts and of the wait between,
    an event that says why, and the metrics. The kind of a failure is asked of the classifier, as ours is."""

    def __init__(self, fn: Callable[[], Any], policy: Policy, setting: Setting) -> None:
        self._fn = fn
        self._tracer, self._attempts, self._duration = setting.instruments()
        self._delays = setting.histogram("by_hand.delay", metric_table.RETRY_DELAY)
        self._guarded = policy(self._attempt_async if inspect.iscoroutinefunction(fn) else self._attempt)

    def call(self) -> Any:
        with self._operation():
            return self._guarded()

    async def call_async(self) -> Any:
        with self._operation():
            return await self._guarded()

    @contextmanager
    def _operation(self) -> Generator[None, None, None]:
        self._number = 0
        self._failed: list[str] = []
        self._waited = 0.0
        began = clock.monotonic()
        with self._tracer.start_as_current_span(f"policy {POLICY}", attributes={names.POLICY: POLICY}) as span:
            self._span = span
            yield
            facts: dict[str, Any] = {names.ATTEMPT_COUNT: self._number, names.OUTCOME: "success"}
            facts |= {names.SEQUENCE: next(sequence), names.CLOCK: began, names.CONFIGURATION: "0123456789ab"}
            if self._failed:
                facts |= {names.FAILED: tuple(self._failed), names.RETRY_WAITED: self._waited}
            span.set_attributes(facts)
            labels = {names.POLICY: POLICY, names.OUTCOME: "success", names.RETRIED: bool(self._failed)}
            self._duration.record(clock.monotonic() - began, labels)

    @contextmanager
    def _one_attempt(self) -> Generator[None, None, None]:
        self._number += 1
        started = clock.monotonic()
        if self._number > 1:
            self._write_wait(started)
        name = names.ATTEMPT_SPANS[self._number]
        with self._tracer.start_as_current_span(
            name, attributes={names.ATTEMPT: self._number}, record_exception=False, set_status_on_exception=False
        ) as span:
            lead = clock.monotonic() - started
            try:
                yield
            except RETRIED as error:
                kind = classify(error).kind
                span.set_attributes({names.OUTCOME: "failure", names.ERROR_TYPE: kind, names.FUNCTION_BEGAN: lead})
                span.set_status(StatusCode.ERROR, kind)
                self._attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "failure", names.ERROR_TYPE: kind})
                self._failed.append(kind)
                self._ended, self._ended_ns = clock.monotonic(), int(clock.wall() * 1e9)
                raise
            span.set_attributes({names.OUTCOME: "success", names.FUNCTION_BEGAN: lead})
            self._attempts.add(1, {names.POLICY: POLICY, names.OUTCOME: "success"})

    def _write_wait(self, started: float) -> None:
        waited = started - self._ended
        self._waited += waited
        facts = {names.DELAY: waited, names.ATTEMPT: self._number - 1, names.REASON: "backoff"}
        self._span.add_event("retry.scheduled", {**facts, names.ERROR_TYPE: self._failed[-1]})
        span = self._tracer.start_span("wait backoff", start_time=self._ended_ns)
        span.end(self._ended_ns + int(waited * 1e9))
        self._delays.record(waited, {names.POLICY: POLICY})

    def _attempt(self) -> Any:
        with self._one_attempt():
            return self._fn()

    async def _attempt_async(self) -> Any:
        with self._one_attempt():
            return await self._fn()
