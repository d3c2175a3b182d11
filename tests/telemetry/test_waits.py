"""Whoever opens the trace of a slow call sees where the time went: in attempts, and in waits that say what for."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Hedge,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    events,
    fixed,
    telemetry,
)
from resilient_agents.base.clock import clock
from resilient_agents.errors import BulkheadFullError, CircuitOpenError, PolicyTimeoutError
from resilient_agents.telemetry import spans as recorders
from tests.conftest import Harness, run_on
from tests.telemetry.conftest import Sdk, parent_of
from tests.telemetry.test_spans import HTTPError, fail, flaky, ok

LOOPS = ["asyncio", "trio"]


def seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def tree(sdk: Sdk) -> list[tuple[str, str | None, Any]]:
    """Name, parent and seconds of each span, in the order in which they began."""
    return [(span.name, parent_of(span, sdk.spans), pytest.approx(seconds(span), abs=1e-6)) for span in sdk.spans]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_the_children_of_an_operation_fill_it(h: Harness, sdk: Sdk) -> None:
    """Between two attempts lies a wait that is as long as it was, and says where it came from."""

    async def work() -> str:
        await h.sleep(1)
        if len(sdk.attempts) == 0:
            raise HTTPError(503)
        if len(sdk.attempts) == 1:
            error = HTTPError(429)
            error.retry_after = 7.0  # type: ignore[attr-defined]
            raise error
        return "ok"

    await h.call(Policy(Retry(3, wait=fixed(0.5, jitter=None)), name="p"), work)
    assert [name for name, _, _ in tree(sdk)] == [
        "policy p",
        "attempt 1",
        "wait backoff",
        "attempt 2",
        "wait retry_after",
        "attempt 3",
    ]
    assert {parent for _, parent, _ in tree(sdk)} == {None, "policy p"}
    children = sdk.spans[1:]
    for before, after in itertools.pairwise(children):
        assert after.start_time == before.end_time
    assert sum(map(seconds, children)) == pytest.approx(seconds(sdk.operation))
    assert attributes(sdk.operation)["resilient_agents.retry_waited"] == pytest.approx(sum(map(seconds, sdk.waits)))
    assert "resilient_agents.waited" not in attributes(sdk.operation)


async def test_a_short_wait_has_no_span(h: Harness, sdk: Sdk) -> None:
    """Waits below a millisecond are in the sum of waits, and in no span."""
    await h.call(Policy(Retry(2, wait=fixed(0.0005, jitter=None)), name="p"), flaky(1))
    assert [span.name for span in sdk.spans] == ["policy p", "attempt 1", "attempt 2"]
    assert attributes(sdk.operation)["resilient_agents.retry_waited"] == pytest.approx(0.0005)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_wait_in_line_lies_beneath_the_attempt_that_waited(runtime: str, sdk: Sdk) -> None:
    """With a retry around the bulkhead the attempt waits, without attempts of its own the operation does."""
    slot = Bulkhead(1)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slot, name="holder").acall, anyio.sleep, 3)
            await anyio.sleep(0.5)
            await Policy(Retry(2), slot, name="p").acall(anyio.sleep, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slot, name="holder").acall, anyio.sleep, 3)
            await anyio.sleep(0.5)
            await Policy(slot, Retry(2), name="q").acall(anyio.sleep, 1)

    run_on(runtime, scenario)
    first, second = sdk.waits
    assert [first.name, second.name] == ["wait bulkhead"] * 2
    assert [seconds(first), seconds(second)] == pytest.approx([2.5, 2.5])
    assert [parent_of(first, sdk.spans), parent_of(second, sdk.spans)] == ["attempt 1", "policy q"]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_wait_that_ends_badly_shows(runtime: str, sdk: Sdk) -> None:
    """Who waited in vain, or was cancelled while waiting, has the wait in the tree like everybody else."""
    slot = Bulkhead(1, max_wait=2)

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(Policy(slot, name="holder").acall, anyio.sleep, 9)
            await anyio.sleep(0.5)
            with pytest.raises(BulkheadFullError):
                await Policy(slot, name="in vain").acall(ok)
            with anyio.move_on_after(1):
                await Policy(slot, name="cancelled").acall(ok)
            with anyio.move_on_after(1):
                await Policy(Retry(2, wait=fixed(5, jitter=None)), name="sleeper").acall(fail)

    run_on(runtime, scenario)
    assert [(span.name, seconds(span)) for span in sdk.waits] == [
        ("wait bulkhead", pytest.approx(2)),
        ("wait bulkhead", pytest.approx(1)),
        ("wait backoff", pytest.approx(1)),
    ]


async def test_a_rate_limit_waits_beneath_the_attempt(h: Harness, sdk: Sdk) -> None:
    """The time until the next token is a span of its own, and measured."""
    policy = Policy(Retry(2), RateLimit(1, per=4, burst=1), name="p")
    await h.call(policy, ok)
    await h.call(policy, ok)
    (wait,) = sdk.waits
    assert (wait.name, parent_of(wait, sdk.spans), seconds(wait)) == ("wait rate_limit", "attempt 1", pytest.approx(4))


async def test_the_twentieth_attempt_has_the_last_name_of_its_own(h: Harness, sdk: Sdk) -> None:
    """Backends group spans by name, so names are a bounded set; the number is an attribute."""
    await h.call(Policy(Retry(22, wait=fixed(0)), name="p"), flaky(21))
    assert [span.name for span in sdk.attempts] == [*(f"attempt {n}" for n in range(1, 20)), *["attempt 20+"] * 3]
    assert [attributes(span)["resilient_agents.attempt"] for span in sdk.attempts] == list(range(1, 23))


async def test_thousands_of_attempts_stay_bounded(h: Harness, sdk: Sdk) -> None:
    """Beyond two hundred spans of attempts and waits the rest is counted; metrics know them all."""
    await h.call(Policy(Retry(2_000, wait=fixed(1, jitter=None)), name="p"), flaky(1_999))
    assert len(sdk.spans) == 1 + recorders.MOST_SPANS
    left_out = 2_000 + 1_999 - recorders.MOST_SPANS
    assert attributes(sdk.operation)["resilient_agents.spans_left_out"] == left_out
    assert attributes(sdk.operation)["resilient_agents.attempts"] == 2_000
    assert sum(value for _, value in sdk.points("resilient_agents.attempts")) == 2_000


async def test_a_refusal_says_what_came_before_it(h: Harness, sdk: Sdk) -> None:
    """When a circuit opens during the retries, the operation tells what the attempts had run into."""
    with pytest.raises(CircuitOpenError):
        await h.call(Policy(Retry(5, wait=fixed(0)), CircuitBreaker("opened by waits", failures=2), name="p"), fail)
    assert sdk.operation.status.description == "rejected by circuit_breaker after overload"
    assert [span.status.description for span in sdk.attempts] == ["overload 503"] * 2 + ["rejected by circuit_breaker"]
    assert attributes(sdk.operation)["resilient_agents.failed"] == ("overload", "rejected")


async def test_an_expired_limit_says_what_came_before_it(h: Harness, sdk: Sdk) -> None:
    """When only a PolicyTimeoutError comes out, its cause and the span tell what the attempts ran into."""

    async def work() -> None:
        if len(sdk.attempts) == 1:
            await h.sleep(60)
        raise HTTPError(429)

    policy = Policy(Timeout(5, thread=False), Retry(9, wait=fixed(1, jitter=None)), name="p")
    with pytest.raises(PolicyTimeoutError) as caught:
        await h.call(policy, work)
    assert isinstance(caught.value.__cause__, HTTPError)
    assert sdk.operation.status.description == "timeout after rate_limit"
    assert "rate_limit" in attributes(sdk.operation)["resilient_agents.failed"]


async def test_a_fallbacks_handler_is_waited_for(h: Harness, sdk: Sdk) -> None:
    """What a handler takes has a span, beneath the operation or the attempt that it answers for; it is no queue."""

    async def instead(error: Exception | None) -> str:
        await h.sleep(2)
        return "instead"

    handler = h.fn(instead)
    assert await h.call(Policy(Fallback(handler), Retry(2, wait=fixed(1, jitter=None)), name="p"), fail) == "instead"
    assert await h.call(Policy(Retry(2), Fallback(handler), name="q"), fail) == "instead"
    waits = [span for span in sdk.waits if span.name == "wait fallback"]
    assert {parent_of(span, sdk.spans): seconds(span) for span in waits} == pytest.approx(
        {"policy p": 2.0, "attempt 1": 2.0}, abs=1e-6
    )
    assert not any("resilient_agents.waited" in attributes(span) for span in sdk.spans)


async def test_a_slow_hook_is_waited_for(h: Harness, sdk: Sdk) -> None:
    """A hook of the retry's that takes its time has a span with its name; one that does not has none."""

    async def slow(state: Any) -> None:
        await h.sleep(2)

    retry = Retry(2, wait=fixed(1, jitter=None), before_sleep=h.fn(slow), after=lambda state: None)
    await h.call(Policy(retry, name="p"), flaky(1))
    assert [name for name, _, _ in tree(sdk)] == [
        "policy p",
        "attempt 1",
        "wait before_sleep",
        "wait backoff",
        "attempt 2",
    ]
    assert sum(map(seconds, sdk.spans[1:])) == pytest.approx(seconds(sdk.operation))


async def test_what_looks_up_a_write_is_waited_for(h: Harness, sdk: Sdk) -> None:
    """Between two attempts of a write lies what finds out whether the first took effect."""

    async def look_up() -> None:
        await h.sleep(2)

    policy = Policy(Retry(2, wait=fixed(1, jitter=None)), reconcile=h.fn(look_up), name="p")
    await h.call(policy, flaky(1))
    assert [name for name, _, _ in tree(sdk)] == [
        "policy p",
        "attempt 1",
        "wait backoff",
        "wait reconcile",
        "attempt 2",
    ]
    assert sum(map(seconds, sdk.spans[1:])) == pytest.approx(seconds(sdk.operation))


async def test_a_retry_around_a_retry_counts_attempts_as_spans_do(h: Harness, sdk: Sdk) -> None:
    """A scheduled retry names the attempt that failed last; that a retry inside gave up is no news once it goes on."""
    nested = Policy(Retry(2, on=HTTPError, wait=fixed(1)), Policy(Retry(2, wait=fixed(1))), name="p")
    await h.call(nested, flaky(2))
    scheduled = [dict(event.attributes or {}) for event in sdk.operation.events if event.name == "retry.scheduled"]
    assert [event["resilient_agents.attempt"] for event in scheduled] == [1, 2]
    assert "resilient_agents.gave_up" not in attributes(sdk.operation)


@pytest.mark.parametrize("runtime", LOOPS)
def test_hedges_overlap_and_say_so(runtime: str, sdk: Sdk) -> None:
    """The attempts of a hedged call overlap, and each but the first says which hedge it is."""
    asked: list[int] = []

    async def work() -> None:
        asked.append(1)
        await anyio.sleep(10 if len(asked) < 3 else 1)

    run_on(runtime, lambda: Policy(Hedge(2, extra=2), name="p").acall(work))
    assert [attributes(span).get("resilient_agents.hedge") for span in sdk.attempts] == [None, 1, 2]
    first, second, third = sdk.attempts
    assert (first.start_time or 0) < (second.start_time or 0) < (third.start_time or 0) < (first.end_time or 0)


async def test_retries_inside_the_client_are_on_the_attempt_and_counted(h: Harness, sdk: Sdk) -> None:
    """An attempt within which the client tried again says how often; a client that did not says nothing."""
    left = [HTTPError(503, inner_retries=2), HTTPError(503, inner_retries=0)]

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "ok"

    with pytest.warns(RuntimeWarning, match="attempts multiply"):
        await h.call(Policy(Retry(3, wait=fixed(0)), name=f"inner retries {h.runtime}"), work)
    found = [attributes(span).get("resilient_agents.inner_retries") for span in sdk.attempts]
    assert found == [2, None, None]
    assert [value for _, value in sdk.points("resilient_agents.inner_retries")] == [2]


# ------------------------------------------------------------------------------------------------------- what they are


def kinds(spans: Iterable[ReadableSpan]) -> set[Any]:
    return {attributes(span).get("openinference.span.kind") for span in spans}


async def test_spans_are_links_of_a_chain_where_openinference_is(
    h: Harness, sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once OpenInference is in the process, our spans, waits included, say that they are CHAIN; before, nothing."""
    policy = Policy(Retry(2, wait=fixed(1)), name="p")
    monkeypatch.delitem(sys.modules, "openinference", raising=False)
    await h.call(policy, flaky(1))
    assert kinds(sdk.spans) == {None}
    sdk.exporter.clear()
    monkeypatch.setitem(sys.modules, "openinference", types.ModuleType("openinference"))
    await h.call(policy, flaky(1))
    assert len(sdk.spans) == 4
    assert kinds(sdk.spans) == {"CHAIN"}


@pytest.mark.parametrize("wanted", [True, False])
def test_configure_decides_about_kinds(wanted: bool, sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure(openinference=)` overrules what is found in the process."""
    monkeypatch.setitem(sys.modules, "openinference", types.ModuleType("openinference"))
    if wanted:
        monkeypatch.delitem(sys.modules, "openinference")
    undo = sdk.configure(openinference=wanted)
    Policy(name="p").call(int)
    undo()
    assert kinds(sdk.spans) == ({"CHAIN"} if wanted else {None})


def test_a_wrong_value_for_openinference_is_refused() -> None:
    """The error names the argument and the value."""
    with pytest.raises(TypeError, match="openinference must be True, False or None, got 'yes'"):
        telemetry.configure(openinference="yes")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------------- clocks


async def test_a_wall_clock_that_is_set_makes_no_span_longer(
    h: Harness, sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are as long as the policy's clock says, and none ends before it starts, whatever the wall clock does."""
    jumps = iter(range(1_000))
    monkeypatch.setattr(clock, "wall", lambda: 1e9 - next(jumps) * 1e3)

    async def work() -> str:
        await h.sleep(1)
        return "ok"

    await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), work)
    assert [seconds(span) for span in sdk.spans] == pytest.approx([1, 1])


def test_a_clock_that_runs_backwards_makes_no_span_end_before_it_starts(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a monotonic clock that is not is believed."""
    readings = iter(range(1_000_000, 0, -1))
    monkeypatch.setattr(clock, "monotonic", lambda: float(next(readings)))
    undo = telemetry.configure(tracer_provider=sdk.tracer_provider)
    policy = Policy(Retry(2, wait=lambda _: 0), name="p")
    with pytest.raises(HTTPError):
        policy.call(raising)
    undo()
    for span in sdk.spans:
        assert (span.start_time or 0) <= (span.end_time or 0)


def raising() -> None:
    raise HTTPError(503)


async def test_without_attempt_spans_there_are_no_waits_either(h: Harness, sdk: Sdk) -> None:
    """One span a call; what it waited are its attributes."""
    undo = sdk.configure(attempt_spans=False)
    await h.call(Policy(Retry(2, wait=fixed(1, jitter=None)), name="p"), flaky(1))
    undo()
    assert [span.name for span in sdk.spans] == ["policy p"]
    assert attributes(sdk.operation)["resilient_agents.retry_waited"] == pytest.approx(1)


async def test_calls_tell_observers_where_their_time_went(h: Harness) -> None:
    """`CallEnded` adds up: seconds in line, seconds between attempts, and what attempts failed with."""
    told: list[events.CallEnded] = []
    policy = Policy(Retry(3, wait=fixed(1, jitter=None)), RateLimit(1, per=4, burst=1), name="p")
    policy.observe(lambda event: told.append(event) if isinstance(event, events.CallEnded) else None)
    await h.call(policy, flaky(2))
    (ended,) = told
    assert (ended.retry_waited, dict(ended.failed)) == (pytest.approx(2), {"overload": 2})
    assert ended.waited == pytest.approx(6)
    assert ended.duration == pytest.approx(8)


async def test_a_failed_operation_is_described_by_its_own_failure(h: Harness, sdk: Sdk) -> None:
    """The status of an operation that failed says kind and status; one that was saved has none."""
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(0)), name="p"), fail)
    assert sdk.operation.status.status_code is StatusCode.ERROR
    assert sdk.operation.status.description == "overload 503"
