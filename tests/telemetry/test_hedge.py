"""A hedged call in the traces: one operation, an attempt span for each request, however they overlap."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import get_current_span

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.policy import Policy
from resilient_agents.strategies.hedge import Hedge
from resilient_agents.telemetry import LogObserver
from tests.conftest import run_on
from tests.telemetry.conftest import Sdk, identity, told

LOOPS = ["asyncio", "trio"]
PATIENCE = 30.0


def below(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == identity(parent).span_id


def attempts(sdk: Sdk) -> list[dict[str, Any]]:
    return [told(span) for span in sdk.attempts]


@pytest.mark.parametrize("runtime", LOOPS)
def test_requests_that_overlap_have_spans_of_their_own(runtime: str, sdk: Sdk) -> None:
    """Each request is an attempt below the operation; what it does nests under its own, and the loser is cancelled."""
    asked: list[int] = []

    async def work() -> str:
        asked.append(1)
        number = len(asked)
        with sdk.tracer.start_as_current_span(f"request {number}"):
            await anyio.sleep(10 if number == 1 else 1)
            return "answer"

    async def scenario() -> None:
        assert await Policy(Hedge(2), name="p").acall(work) == "answer"

    run_on(runtime, scenario)
    assert attempts(sdk) == [
        {"resilient_agents.attempt": 1, "resilient_agents.outcome": "cancelled"},
        {"resilient_agents.attempt": 2, "resilient_agents.hedge": 1, "resilient_agents.outcome": "success"},
    ]
    assert sdk.events() == [("hedge", {"resilient_agents.delay": 2.0, "resilient_agents.hedge": 1})]
    for number, attempt in enumerate(sdk.attempts, 1):
        assert below(attempt, sdk.operation)
        assert below(sdk.span(f"request {number}"), attempt)
    assert (sdk.operation.attributes or {})["resilient_agents.attempts"] == 2


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_hook_of_one_request_is_not_beneath_the_attempt_of_another(runtime: str, sdk: Sdk) -> None:
    """It runs between two attempts of its own, while the other request is still under way."""
    asked = itertools.count(1)

    async def work() -> None:
        if next(asked) == 2:
            raise ConnectionError
        await anyio.sleep(10)

    async def slow(state: Any) -> None:
        await anyio.sleep(2)

    async def scenario() -> None:
        await Policy(Hedge(1), Retry(2, wait=fixed(0), before_sleep=slow), name="p").acall(work)

    run_on(runtime, scenario)
    assert below(sdk.span("wait before_sleep"), sdk.operation)


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_wait_belongs_to_the_attempt_that_waited(runtime: str, sdk: Sdk) -> None:
    """Of two attempts at the same time, each says how long it waited."""
    slots = Bulkhead(2)

    async def scenario() -> None:
        other: Any = Policy(slots, name="other")(anyio.sleep)
        async with anyio.create_task_group() as group:
            group.start_soon(other, 3.5)
            group.start_soon(other, 4.0)
            await anyio.lowlevel.checkpoint()
            await Policy(Hedge(1), slots, name="p").acall(anyio.sleep, 2)

    run_on(runtime, scenario)
    (operation,) = [span for span in sdk.spans if span.name == "policy p"]
    mine = [span for span in sdk.attempts if below(span, operation)]
    waits = [(span.attributes or {}).get("resilient_agents.waited") for span in mine]
    assert waits == [3.5, 3.0]


def test_a_thread_that_is_left_behind(sdk: Sdk) -> None:
    """The span of a request that still runs ends as cancelled with the operation; what comes later disturbs nothing."""
    go, ended = threading.Event(), threading.Event()
    asked: list[int] = []
    current: list[Any] = []

    def work() -> str:
        asked.append(1)
        current.append(get_current_span())
        if len(asked) == 1:
            assert go.wait(PATIENCE)
        return "answer"

    policy = Policy(Hedge(0.001), name="p")
    seen: list[str] = []

    def observer(event: Any) -> None:
        seen.append(type(event).__name__)
        if seen[-2:] == ["CallEnded", "AttemptEnded"]:
            ended.set()

    policy.observe(observer)
    assert policy.call(work) == "answer"
    assert [each["resilient_agents.outcome"] for each in attempts(sdk)] == ["cancelled", "success"]
    assert all(below(span, sdk.operation) for span in sdk.attempts)
    inside = {each.get_span_context().span_id for each in current}
    assert inside == {identity(span).span_id for span in sdk.attempts}
    go.set()
    assert ended.wait(PATIENCE)


def test_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A hedge is a line at info."""
    caplog.set_level(logging.INFO, "resilient_agents.events")
    policy = Policy(Hedge(2), name="p")
    policy.observe(LogObserver())

    async def scenario() -> None:
        with anyio.move_on_after(3):
            await policy.acall(anyio.sleep, 10)

    run_on("asyncio", scenario)
    (record,) = [record for record in caplog.records if "hedge" in record.getMessage()]
    assert (record.levelname, record.getMessage()) == ("INFO", "p: hedge 1 started after 2 s")
    assert vars(record)["resilient_agents.delay"] == 2.0
