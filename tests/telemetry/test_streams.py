"""A stream has one outcome, in breaker, spans and metrics, and says how it went."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import CircuitBreaker, Policy, Resume, StreamTimeout, sse_done
from tests.conftest import Harness
from tests.sdk_items import chat
from tests.telemetry.conftest import Sdk, parent_of

DONE = "data: [DONE]"


class Source:
    """Three items, the second after two seconds, the third after one, but for what goes wrong."""

    def __init__(self, h: Harness, wrong: str) -> None:
        self.h, self.wrong = h, wrong
        self.function: Any = self.blocking if h.blocking else self.asynchronous

    def blocking(self) -> Iterator[str]:
        yield "a"
        self.h.fn(self.second)()
        yield "b"
        self.h.fn(self.third)()
        if self.wrong != "truncated":
            yield DONE

    async def asynchronous(self) -> AsyncIterator[str]:
        yield "a"
        await self.second()
        yield "b"
        await self.third()
        if self.wrong != "truncated":
            yield DONE

    async def second(self) -> None:
        await self.h.sleep(60 if self.wrong in ("stalled", "cancelled") else 2)

    async def third(self) -> None:
        await self.h.sleep(1)
        if self.wrong == "broken":
            raise ConnectionError


@pytest.mark.parametrize(
    ("how", "outcome", "counted", "items", "gap"),
    [
        ("whole", "success", (1, 0, 0), 3, 2),
        ("broken", "failure", (0, 1, 0), 2, 2),
        ("truncated", "failure", (0, 1, 0), 2, 2),
        ("stalled", "failure", (0, 1, 0), 1, 5),
        ("left", "cancelled", (0, 0, 1), 2, 2),
        ("cancelled", "cancelled", (0, 0, 1), 1, 3),
    ],
)
async def test_a_stream_has_one_outcome(
    h: Harness, sdk: Sdk, how: str, outcome: str, counted: tuple[int, ...], items: int, gap: float
) -> None:
    """A success at its end, a failure after an error, a stall or a truncation, neutral when it is left or cancelled."""
    if h.blocking:
        if how == "cancelled":
            return
        if how == "stalled":
            items, gap = 2, 60  # what came late is handed out
    breaker = CircuitBreaker("b", failures=9)
    stream = Policy(breaker, StreamTimeout(idle=5, complete=sse_done), name="p").stream(Source(h, how).function)
    try:
        if how == "left":
            for _ in range(2):
                _ = next(stream) if h.blocking else await anext(stream)
            await stream.aclose()
        elif how == "cancelled":
            with anyio.move_on_after(3):
                await h.items(stream)
        else:
            await h.items(stream)
    except (ConnectionError, TimeoutError):
        assert outcome == "failure"
    numbers = breaker.metrics()
    assert (numbers["successes"], numbers["failures"], numbers["neutral"]) == counted
    said = sdk.operation.attributes
    assert said is not None
    names = ("outcome", "first_item", "items", "longest_gap", "parts")
    assert [said[f"resilient_agents.{name}"] for name in names] == [outcome, 0, items, gap, 1]
    for name, value in (("first_item", 0), ("gap", gap)):
        (point,) = sdk.metrics()[f"resilient_agents.stream.{name}"].data.data_points
        assert (point.count, point.sum) == (1, value)


async def test_the_whole_of_a_stream_that_was_gone_on_with(h: Harness, sdk: Sdk) -> None:
    """Is one operation, with an attempt for each part."""
    breaker = CircuitBreaker("b", failures=9)
    policy = Policy(breaker, Resume(lambda items: ["c", DONE]), StreamTimeout(idle=5, complete=sse_done), name="p")
    assert await h.items(policy.stream(Source(h, "broken").function)) == ["a", "b", "c", DONE]
    said = sdk.operation.attributes
    assert said is not None
    names = ("outcome", "attempts", "items", "parts")
    assert [said[f"resilient_agents.{name}"] for name in names] == ["success", 2, 4, 2]
    assert breaker.metrics()["successes"] == 1


async def test_a_stream_that_ends_at_once_had_no_items(h: Harness, sdk: Sdk) -> None:
    """And so no first one."""
    assert await h.items(Policy(name="p").stream(lambda: Whole([]))) == []
    said = sdk.operation.attributes
    assert said is not None
    names = ("items", "first_item")
    assert [said.get(f"resilient_agents.{name}") for name in names] == [0, None]


async def test_an_answer_that_was_cut_by_its_length_says_so(h: Harness, sdk: Sdk) -> None:
    """It is complete: a success, with the reason that it gave for its end."""
    policy = Policy(StreamTimeout(idle=5), name="p")
    assert len(await h.items(policy.stream(lambda: Whole([chat("to "), chat("be", "length")])))) == 2
    said = sdk.operation.attributes
    assert said is not None
    assert [said[f"resilient_agents.{name}"] for name in ("outcome", "finish_reason")] == ["success", "length"]


class Whole(list[Any]):
    """For both colours."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self:
            yield item


async def test_what_a_source_does_at_its_end_belongs_to_the_attempt(h: Harness, sdk: Sdk) -> None:
    """Spans that it makes while it is closed early nest there."""

    def blocking() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            sdk.tracer.start_span("mine").end()

    async def asynchronous() -> AsyncIterator[int]:
        try:
            for n in range(3):
                yield n
        finally:
            sdk.tracer.start_span("mine").end()

    stream: Any = Policy(name="p").stream(blocking if h.blocking else asynchronous)
    assert (next(stream) if h.blocking else await anext(stream)) == 0
    await stream.aclose()
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"
