"""What a call really cost (`RateLimit(settle=)`), and what servers say of their limits (`RateLimit.learn`)."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import Policy, RateLimit, StreamTimeout
from resilient_agents.adapters.gcra import Gcra
from resilient_agents.base.clock import clock
from tests.conftest import Harness, run_on
from tests.interruptions import interrupt_everywhere
from tests.strategies import value


def tokens(**options: Any) -> RateLimit:
    return RateLimit(100, per=100, cost=lambda *_: 10, settle=lambda used: used, **options)


@pytest.mark.parametrize(("used", "left"), [(10, 90), (25, 75), (3, 97), (0, 100), (150, 0), (None, 90)])
async def test_the_difference_is_charged_or_handed_back(h: Harness, used: float | None, left: float) -> None:
    """After the call: what is left is the rate less what it really cost."""
    limit = tokens()
    await h.call(Policy(limit), value, used)
    assert limit.available == pytest.approx(left)


async def test_what_cost_more_than_there_was_is_paid_by_those_after_it(h: Harness) -> None:
    """They wait for it."""
    limit = tokens()
    policy = Policy(limit)
    await h.call(policy, value, 150)
    began = h.now()
    await h.call(policy, value, 10)
    assert h.now() - began == pytest.approx(60)


async def test_a_call_that_fails_hands_all_back(h: Harness) -> None:
    """It has no result to tell."""
    limit = tokens()

    async def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await h.call(Policy(limit), fails)
    assert limit.available == 100


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "many", True, "raises"])
async def test_an_answer_that_is_nonsense_leaves_the_cost_and_the_result(
    h: Harness, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The result comes out, and the cost stays as it was reserved."""

    def settle(_: object) -> Any:
        if answer == "raises":
            raise KeyError("usage")
        return answer

    limit = RateLimit(100, per=100, cost=10, settle=settle)
    with caplog.at_level(logging.CRITICAL):
        assert await h.call(Policy(limit), value) == "value"
    assert limit.available == pytest.approx(90)


async def test_of_a_stream_the_largest_answer_of_its_items_counts_at_its_end(h: Harness) -> None:
    """Usage may come in any of them, and be cumulative."""
    limit = RateLimit(100, per=100, cost=10, settle=lambda item: item)
    stream = Policy(limit).stream(lambda: iter([None, 5, 30, None]))
    if h.blocking:
        seen = [limit.available for _ in stream]
    else:
        seen = [limit.available async for _ in stream]
    assert seen == pytest.approx([90] * 4)
    assert limit.available == pytest.approx(70)


async def test_the_items_of_a_limited_stream_are_seen_too(h: Harness) -> None:
    """Whatever stands inside."""

    async def items() -> AsyncIterator[int]:
        for item in (5, 30):
            yield item

    limit = RateLimit(100, per=100, cost=10, settle=lambda item: item)
    await h.items(Policy(limit, StreamTimeout(idle=5)).stream((lambda: iter([5, 30])) if h.blocking else items))
    assert limit.available == pytest.approx(70)


async def test_a_stream_that_says_nothing_keeps_its_cost(h: Harness) -> None:
    """As a result does that says nothing."""
    limit = RateLimit(100, per=100, cost=10, settle=lambda _: None)
    await h.items(Policy(limit).stream(lambda: iter([1, 2])))
    assert limit.available == pytest.approx(90)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_those_in_line_go_earlier_when_something_is_handed_back(runtime: str) -> None:
    """They need not wait for what nobody used."""
    limit = RateLimit(10, per=100, cost=10, settle=lambda used: used)
    policy = Policy(limit)
    started: list[float] = []

    async def work() -> float:
        started.append(anyio.current_time())
        await anyio.sleep(1)
        return 1.0

    async def scenario() -> None:
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(policy.acall, work)
        assert [at - began for at in started] == pytest.approx([0, 10], abs=1.1)  # not 100

    run_on(runtime, scenario)


def test_a_cancelled_call_hands_all_back() -> None:
    """It came to nothing."""
    limit = tokens()

    async def scenario() -> None:
        with anyio.move_on_after(1):
            await Policy(limit).acall(anyio.sleep_forever)
        assert limit.available == 100

    run_on("asyncio", scenario)


def test_an_exception_from_outside_charges_no_more_than_was_reserved() -> None:
    """And leaves nothing locked."""

    def check(limit: RateLimit) -> None:
        assert limit.available >= 89.9
        Policy(limit).call(int)

    interrupt_everywhere(tokens, lambda limit: Policy(limit).call(int), check)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 5), st.floats(0, 20)), max_size=30))
def test_whatever_was_estimated_what_was_used_is_charged(calls: list[tuple[float, float, float]]) -> None:
    """Started one after another, in any window of T seconds the real costs are at most burst + rate * T and what the
    last one was misjudged by."""
    gcra, now = Gcra(2.0, 10.0), 0.0
    charged: list[tuple[float, float, float]] = []
    for gap, estimate, real in calls:
        now += gap
        now += gcra.delay(now, estimate)
        assert gcra.take(now, estimate)
        gcra.correct(now, real - estimate)
        charged.append((now, real, max(0.0, real - estimate)))
    for first in range(len(charged)):
        total = 0.0
        for at, real, misjudged in charged[first:]:
            total += real
            assert total <= 10.0 + 2.0 * (at - charged[first][0]) + misjudged + 1e-6


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_estimates_that_are_off_by_five_use_the_allowance(factor: float) -> None:
    """After the first minute, at least 95 % of the tokens of a minute are used, and hardly more than there are."""
    limit = RateLimit(6_000, per=60, burst=600, cost=lambda real: min(real * factor, 600), settle=lambda used: used)
    policy = Policy(limit)
    draw = random.Random("estimates")
    used: list[tuple[float, float]] = []

    async def work(real: float) -> float:
        await anyio.sleep(draw.uniform(0.1, 0.3))
        used.append((clock.monotonic(), real))
        return real

    async def caller() -> None:
        while clock.monotonic() < 1300:
            await policy.acall(work, draw.uniform(50, 150))

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(caller)

    run_on("asyncio", scenario)
    began = min(at for at, _ in used) + 60
    for minute in range(3):
        spent = sum(real for at, real in used if began + 60 * minute <= at < began + 60 * (minute + 1))
        assert 0.95 * 6_000 <= spent <= 1.1 * 6_000


@pytest.mark.parametrize("settle", [5, "tokens", value])
def test_settle_must_be_a_plain_function(settle: Any) -> None:
    """Nothing awaits it."""
    with pytest.raises(TypeError, match="settle must be a plain function of the result or None"):
        RateLimit(5, settle=settle)
