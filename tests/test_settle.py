"""What a call really cost (`RateLimit(settle=)`), and what servers say of their limits (`RateLimit.learn`)."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterator
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


@pytest.mark.parametrize(
    ("used", "left"), [(10, 90), (25, 75), (3, 97), (0, 100), (0.0, 100), (0.5, 99.5), (150, 0), (None, 90)]
)
async def test_the_difference_is_charged_or_handed_back(
    h: Harness, used: float | None, left: float, caplog: pytest.LogCaptureFixture
) -> None:
    """After the call: what is left is the rate less what it really cost. Nothing of it is worth a line in the log."""
    limit = tokens()
    await h.call(Policy(limit), value, used)
    assert limit.available == pytest.approx(left)
    assert not caplog.records


async def test_what_cost_more_than_there_was_is_paid_by_those_after_it(h: Harness) -> None:
    """They wait for it, and for a tenth of what it was misjudged by, as they may cost more, too."""
    limit = tokens()
    policy = Policy(limit)
    await h.call(policy, value, 150)
    began = h.now()
    await h.call(policy, value, 10)
    assert h.now() - began == pytest.approx(50 + 24)


async def test_a_call_that_fails_hands_all_back(h: Harness) -> None:
    """It has no result to tell."""
    limit = tokens()

    async def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await h.call(Policy(limit), fails)
    assert limit.available == 100


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), 10**400, "many", True, "raises"])
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


@pytest.mark.parametrize("number", [1, 2])
def test_a_settle_that_fails_is_logged_once(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """By its name, without what it was given."""

    def settle(_: object) -> float:
        raise KeyError("usage")

    settle.__qualname__ = f"settle_{number}"
    policy = Policy(RateLimit(100, per=100, cost=10, settle=settle))
    for _ in range(3):
        policy.call(value_of, "secret")
    (record,) = caplog.records
    assert f"settle_{number} failed, and the cost stays as it was reserved" in record.getMessage()
    assert "secret" not in record.getMessage()


def value_of(text: str) -> str:
    return text


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


async def test_a_stream_that_fails_hands_all_back(h: Harness) -> None:
    """As any call that fails, whatever its items said; one that its consumer leaves has cost what they said."""
    limit = RateLimit(100, per=100, cost=10, settle=lambda item: item)

    async def aitems() -> AsyncIterator[int]:
        for item in items():
            yield item

    def items() -> Iterator[int]:
        yield 30
        assert limit.available == pytest.approx(90)
        raise ConnectionError

    stream = Policy(limit).stream(items if h.blocking else aitems)
    with pytest.raises(ConnectionError):
        await h.items(stream)
    assert limit.available == 100
    if h.blocking:
        with Policy(limit).stream(items) as left:
            assert next(iter(left)) == 30
    else:
        async with Policy(limit).stream(aitems) as left:
            assert await anext(aiter(left)) == 30
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


def test_a_handler_may_learn_while_a_limit_learns() -> None:
    """What the server says is left is what is left, and no less."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "50",
        "x-ratelimit-reset-requests": "10s",
    }

    def check(limit: RateLimit) -> None:
        assert limit.available == pytest.approx(50, abs=0.5)

    def learn(limit: RateLimit) -> None:
        limit.learn(headers)

    assert interrupt_everywhere(lambda: RateLimit(1000), learn, check, act=learn) > 20


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


class TooManyRequests(Exception):
    status_code = 429


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_estimates_that_are_off_by_five_use_the_allowance_and_are_not_refused(factor: float) -> None:
    """A server that has 6,000 tokens a minute: each minute at least 95 % of them are used, and of a thousand calls not
    one is refused, where the limit leaves it a tenth for what is under way."""

    def estimate(real: float) -> float:
        return real * factor

    limit = RateLimit(6_000, per=60, burst=5_400, cost=estimate, settle=lambda used: used)
    policy = Policy(limit)
    draw = random.Random("estimates")
    left, at, refused = 6_000.0, clock.monotonic(), 0
    used: list[tuple[float, float]] = []

    def serve(real: float) -> None:
        nonlocal left, at, refused
        now = clock.monotonic()
        left, at = min(6_000.0, left + 100 * (now - at)), now
        if left < real:
            refused += 1
            raise TooManyRequests
        left -= real
        used.append((now, real))

    async def work(real: float) -> float:
        await anyio.sleep(draw.uniform(0.01, 0.05))
        serve(real)
        await anyio.sleep(draw.uniform(0.1, 1.0))
        return real

    async def scenario() -> None:
        nonlocal at
        began = at = clock.monotonic()

        async def caller() -> None:
            while clock.monotonic() < began + 16 * 60:
                with contextlib.suppress(TooManyRequests):
                    await policy.acall(work, draw.uniform(50, 150))

        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(caller)
        for minute in range(1, 16):
            spent = sum(real for when, real in used if 60 * minute <= when - began < 60 * (minute + 1))
            assert 0.95 * 6_000 <= spent <= 1.1 * 6_000

    run_on("asyncio", scenario)
    assert len(used) > 1_000
    assert refused == 0


async def test_estimates_that_are_too_low_are_raised(h: Harness) -> None:
    """By what calls came to on average, at most to all that there is; those that are too high stay."""
    seen: list[float] = []
    limit = RateLimit(1_000, per=1e9, cost=10, settle=lambda used: used)

    async def work(used: float) -> float:
        seen.append(limit.available)
        return used

    for used, times in ((15, 60), (50, 60), (1, 60)):
        for _ in range(times):
            limit.clock_changed(0.0)  # full again
            await h.call(Policy(limit), work, used)
        assert seen[-1] == pytest.approx(1_000 - max(used, 10), abs=1)


async def test_what_is_not_settled_any_more_costs_what_it_says(h: Harness) -> None:
    """After a reload without `settle` nobody pays for estimates of before, those who wait included."""
    limit = RateLimit(10, burst=10, settle=lambda _: 5)
    policy = Policy(limit)
    for _ in range(5):
        await h.call(policy, value)
    limit.reconfigure(RateLimit(10, burst=10))
    await h.sleep(10)
    began = h.now()
    for _ in range(20):
        await h.call(policy, value)
    assert h.now() - began == pytest.approx(1)


async def test_estimates_of_streams_that_are_too_low_are_raised(h: Harness) -> None:
    """By what their items say at their end."""
    limit = RateLimit(1_000, per=1e9, cost=10, settle=lambda used: used)
    for _ in range(60):
        limit.clock_changed(0.0)  # full again
        await h.items(Policy(limit).stream(lambda: iter([50])))
    limit.clock_changed(0.0)
    stream = Policy(limit).stream(lambda: iter([50]))
    assert await h.items(stream) == [50]
    limit.clock_changed(0.0)
    assert await h.call(Policy(limit), lambda: limit.available) == pytest.approx(950, abs=1)


@pytest.mark.parametrize("settle", [5, "tokens", value])
def test_settle_must_be_a_plain_function(settle: Any) -> None:
    """Nothing awaits it."""
    with pytest.raises(TypeError, match="settle must be a plain function of the result or None"):
        RateLimit(5, settle=settle)
