"""What a run may use together: attempts, tokens, money."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import resilient_agents.run_budgets as room
from resilient_agents import (
    BudgetExceededError,
    Bulkhead,
    Fallback,
    Hedge,
    Policy,
    Retry,
    Usage,
    fixed,
    run_budget,
    usage_of,
)
from resilient_agents.events import AttemptStarted, CallEnded, CallRejected
from resilient_agents.run_budgets.accounts import Account, book, entry
from tests.conftest import Events, Harness, run_on
from tests.interruptions import ends_elsewhere, interrupt, interrupt_everywhere

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])
PRICES = {"gpt-5": (1_000_000.0, 2_000_000.0), "gpt-5-mini": (100_000.0, 200_000.0)}  # one, two; a tenth of that


def answer(going_in: int, coming_out: int = 0, model: str = "gpt-5") -> Any:
    """In the shape of openai's."""
    usage = SimpleNamespace(prompt_tokens=going_in, completion_tokens=coming_out, total_tokens=going_in + coming_out)
    return SimpleNamespace(usage=usage, model=model)


async def llm(going_in: int = 10, coming_out: int = 0) -> Any:
    return answer(going_in, coming_out)


async def down() -> None:
    raise ConnectionError("down")


class ServerError(Exception):
    status_code = 500


# ----------------------------------------------------------------------------------------------------------- attempts


async def test_attempts_are_charged_before_they_start(h: Harness) -> None:
    """One for which there is none left is refused in place of the request, from the last real error."""
    started = []

    async def failing() -> None:
        started.append(1)
        raise ConnectionError("down")

    with run_budget(attempts=5) as run:
        with pytest.raises(ConnectionError):
            await h.call(Policy(Retry(3, wait=fixed(1))), failing)
        with pytest.raises(BudgetExceededError) as caught:
            await h.call(Policy(Retry(3, wait=fixed(1))), failing)
        assert run.spent == (5, 0, 0)
        assert run.left == (0, None, None)
        with pytest.raises(BudgetExceededError, match="the run may use 5 attempts: 5 used"):
            await h.call(Policy(), llm)
    assert len(started) == 5
    error = caught.value
    assert isinstance(error.__cause__, ConnectionError)
    assert (error.strategy, error.budget, error.spent, error.limit) == ("run_budget", "attempts", 5, 5)
    await h.call(Policy(), llm)  # the block has ended


async def test_attempts_that_are_told_are_those_that_are_charged(h: Harness) -> None:
    """A refused one is told as a rejection, and is no attempt."""
    policy, seen = Policy(Retry(3, wait=fixed(1))), Events()
    policy.observe(seen)
    with run_budget(attempts=4) as run:
        for _ in range(2):
            with contextlib.suppress(ConnectionError, BudgetExceededError):
                await h.call(policy, down)
    assert len(seen.of(AttemptStarted)) == run.spent.attempts == 4
    assert [event.strategy for event in seen.of(CallRejected)] == ["run_budget"]


@LOOPS
def test_a_hedges_losers_are_charged_too(runtime: str) -> None:
    """Each request of a hedge is an attempt; there is no second one where the budget has none."""
    policy = Policy(Hedge(1, extra=2))

    async def slow() -> str:
        await anyio.sleep(5)
        return "slow"

    async def scenario() -> None:
        with run_budget(attempts=5) as run:
            assert await policy.acall(slow) == "slow"
            assert run.spent.attempts == 3
            assert await policy.acall(slow) == "slow"
            assert run.spent.attempts == 5

    run_on(runtime, scenario)


async def test_an_error_whose_class_has_no_hash_comes_out_as_it_is(h: Harness) -> None:
    """What the budget wants to know of it asks for none."""

    class Hashless(type):
        def __hash__(cls) -> int:
            raise RuntimeError("no hash")

    class Mine(Exception, metaclass=Hashless):
        pass

    error = Mine()

    def down() -> None:
        raise error

    with run_budget(attempts=9) as run, pytest.raises(Mine) as raised:
        await h.call(Policy(Retry(2, on=Exception, wait=fixed(0))), down)
    assert raised.value is error
    assert run.spent.attempts == 2


async def test_a_fallback_stands_in_for_a_spent_budget(h: Harness) -> None:
    """It is a refusal like others."""
    with run_budget(attempts=0):
        assert await h.call(Policy(Fallback(value="cached"), Retry(3)), llm) == "cached"


async def test_a_policy_without_a_retry_is_one_attempt(h: Harness) -> None:
    """Whatever strategies it has."""
    with run_budget(attempts=9) as run:
        await h.call(Policy(Bulkhead(1)), llm)
        await h.call(Policy(Retry(3), Bulkhead(1)), llm)
    assert run.spent.attempts == 2


@LOOPS
def test_a_budget_ends_with_its_block(runtime: str) -> None:
    """It binds the tasks started inside, and those that outlive it no longer."""
    ended: list[str] = []

    async def later() -> None:
        await anyio.sleep(1)
        with pytest.raises(BudgetExceededError):
            await Policy().acall(llm)
        ended.append("inside")
        await anyio.sleep(2)
        await Policy().acall(llm)
        ended.append("after")

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            with run_budget(attempts=0):
                group.start_soon(later)
                await anyio.sleep(2)

    run_on(runtime, scenario)
    assert ended == ["inside", "after"]


def test_it_binds_threads_that_copy_the_context() -> None:
    """And no others."""
    policy = Policy()
    with run_budget(attempts=0), ThreadPoolExecutor(1) as pool:
        context = contextvars.copy_context()
        with pytest.raises(BudgetExceededError):
            pool.submit(context.run, policy.call, int).result()
        assert pool.submit(policy.call, int).result() == 0


# ------------------------------------------------------------------------------------------------- tokens and money


async def test_tokens_and_money_are_charged_by_what_results_say(h: Harness) -> None:
    """Prices are for a million tokens, by the longest name that the model's begins with."""
    with run_budget(tokens=1000, cost=100.0, prices=PRICES) as run:
        await h.call(Policy(), llm, 10, 5)
        assert run.spent == (1, 15, 20.0)
        await h.call(Policy(), lambda: answer(10, 5, "gpt-5-mini-2026"))
        assert run.spent == (2, 30, pytest.approx(22.0))
        assert run.left == (None, 970, pytest.approx(78.0))


async def test_what_is_spent_is_refused_before_the_request(h: Harness) -> None:
    """By default an attempt may come to what the largest one did."""
    with run_budget(tokens=100) as run:
        for _ in range(3):
            await h.call(Policy(), llm, 30)
        with pytest.raises(BudgetExceededError, match="may use 100 tokens: 90 used, and this call may take 30"):
            await h.call(Policy(), llm, 30)
    assert run.spent.tokens == 90
    cost = "the run may cost 50: 40 spent, and this call may cost 20"
    with run_budget(cost=50.0, prices=PRICES), pytest.raises(BudgetExceededError, match=cost) as caught:
        for _ in range(9):
            await h.call(Policy(), llm, 20)
    assert (caught.value.budget, caught.value.spent) == ("cost", 40.0)


async def test_money_that_results_name_needs_no_prices(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """An attempt that failed with an answer names none and costs none; a result that names none is said in the log."""
    seen = [Usage(10, 5, cost=2.0), ServerError(), Usage(10, 5)]

    def ask() -> Usage:
        found = seen.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with run_budget(cost=50.0, usage=lambda used: used) as run:
        await h.call(Policy(), ask)
        with pytest.raises(ServerError):
            await h.call(Policy(), ask)
        assert (run.spent.cost, caplog.text) == (2.0, "")
        await h.call(Policy(), ask)
    assert run.spent.cost == 4.0
    assert "give prices= to run_budget" in caplog.text


@LOOPS
def test_what_is_in_flight_is_reserved(runtime: str) -> None:
    """Where the estimate is never too low, calls at the same time never overspend together; what they did not use is
    free again."""
    seen: list[float] = []

    async def work(tokens: int) -> Any:
        await anyio.sleep(1)
        return answer(tokens)

    async def scenario() -> None:
        policy = Policy()
        with run_budget(tokens=1000, estimate=lambda tokens: 100) as run:

            async def one() -> None:
                with contextlib.suppress(BudgetExceededError):
                    await policy.acall(work, 60)
                    seen.append(run.spent.tokens or 0)

            async with anyio.create_task_group() as group:
                for _ in range(30):
                    group.start_soon(one)
                await anyio.sleep(0.5)
                assert run.left.tokens == 0
            assert (len(seen), run.spent.tokens, run.left.tokens) == (10, 600, 400)

    run_on(runtime, scenario)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_exact_under_threads(seed: int) -> None:
    """Sixteen threads: as many attempts as were allowed, the sum of the tokens, and no overspending."""
    policy, counted, counting = Policy(), [0, 0], threading.Lock()

    def work(tokens: int) -> Any:
        with counting:
            counted[0] += 1
            counted[1] += tokens
        return answer(tokens)

    def one(draw: random.Random, run: Any) -> None:
        for _ in range(60):
            with contextlib.suppress(BudgetExceededError):
                policy.call(work, draw.randint(0, 9))
            assert run.spent.tokens <= 2_000

    with run_budget(attempts=700, tokens=2_000, estimate=lambda tokens: 9) as run, ThreadPoolExecutor(16) as pool:
        draws = [random.Random(f"threads {seed} {number}") for number in range(16)]
        for done in [pool.submit(contextvars.copy_context().run, one, draw, run) for draw in draws]:
            done.result()
    assert (run.spent.attempts, run.spent.tokens) == tuple(counted)
    assert run.spent.attempts in (700, *range(200, 700))


@pytest.mark.parametrize("policy", [Policy(), Policy(Retry(2, wait=fixed(0)))])
@pytest.mark.parametrize("slices", [False, True])
def test_attempts_are_exact_under_threads(policy: Policy, slices: bool) -> None:
    """Where nothing else is limited: as many as were allowed and no more, also while slices come and go."""
    made = iter(range(10**6))

    def one(number: int) -> int:
        refused = 0
        for turn in range(200):
            block = run_budget(attempts=3) if slices and (turn + number) % 5 == 0 else contextlib.nullcontext()
            with block:
                try:
                    policy.call(next, made)
                except BudgetExceededError:
                    refused += 1
        return refused

    with run_budget(attempts=2_500) as run, ThreadPoolExecutor(16) as pool:
        working = [pool.submit(contextvars.copy_context().run, one, number) for number in range(16)]
        refused = sum(done.result() for done in working)
        with contextlib.suppress(BudgetExceededError):
            while True:  # a slice may have held what nobody asked for any more
                policy.call(next, made)
        assert (run.spent.attempts, run.left.attempts) == (2_500, 0)
    assert next(made) == 2_500
    assert refused >= 700


@LOOPS
@pytest.mark.parametrize("seed", range(3))
def test_it_is_exact_under_tasks(runtime: str, seed: int) -> None:
    """A hundred tasks, some in slices of their own, some failing, some cancelled."""
    draw = random.Random(f"tasks {seed}")
    policy = Policy(Retry(2, on=ServerError, wait=fixed(0.01)))
    server = [0, 0]

    async def work(tokens: int, fails: bool) -> Any:
        server[0] += 1
        await anyio.sleep(draw.random())
        if fails:
            raise ServerError
        server[1] += tokens
        return answer(tokens)

    async def one() -> None:
        for _ in range(5):
            scope = run_budget(tokens=40) if draw.random() < 0.3 else contextlib.nullcontext()
            with contextlib.suppress(BudgetExceededError, ServerError), scope:
                await policy.acall(work, draw.randint(0, 20), draw.random() < 0.3)

    async def scenario() -> None:
        with run_budget(attempts=400, tokens=3_000, estimate=lambda tokens, fails: 20) as run:
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(one)
        assert (run.spent.attempts, run.spent.tokens) == tuple(server)
        assert server[0] <= 400
        assert server[1] <= 3_000
        assert run.left.tokens == 3_000 - server[1]

    run_on(runtime, scenario)


async def test_calls_inside_a_call_are_not_paid_for_twice(h: Harness) -> None:
    """An agent's result that does not say what it used has used what its tools did; one that says so used the rest."""
    tool, agent = Policy(), Policy(Retry(2))

    async def silent() -> str:
        await h.call(tool, llm, 10)
        await h.call(tool, llm, 20)
        return "done"

    async def telling() -> Any:
        await h.call(tool, llm, 10)
        return answer(15)

    with run_budget(tokens=1_000) as run:
        await h.call(agent, silent)
        assert run.spent == (3, 30, 0)
        await h.call(agent, telling)
        assert run.spent == (5, 45, 0)
        assert run.left.tokens == 955


@pytest.mark.parametrize(
    ("error", "charged"),
    [(ServerError, 0), (ValueError, 0), (ConnectionRefusedError, 0), (ConnectionResetError, 50), (TimeoutError, 50)],
)
async def test_what_a_failed_call_costs(h: Harness, error: type[Exception], charged: int) -> None:
    """Nothing where the answer was an error or nothing was sent; what was expected where nobody knows."""

    async def failing() -> None:
        raise error

    with run_budget(tokens=1_000, estimate=lambda: 50) as run, pytest.raises(error):
        await h.call(Policy(), failing)
    assert (run.spent.tokens, run.left.tokens) == (charged, 1_000 - charged)


@LOOPS
def test_a_cancelled_call_costs_what_was_expected(runtime: str) -> None:
    """The request was on its way."""

    async def scenario() -> None:
        with run_budget(tokens=1_000, estimate=lambda seconds: 70) as run:
            with anyio.move_on_after(1):
                await Policy().acall(anyio.sleep, 60)
        assert run.spent.tokens == 70

    run_on(runtime, scenario)


async def test_what_says_nothing_costs_what_was_expected(h: Harness) -> None:
    """Said once for each function; a `usage` of one's own may say that it cost nothing."""

    async def silent() -> str:
        return "text"

    silent.__qualname__ = f"silent on {h.runtime}"
    with run_budget(tokens=1_000) as run:
        await h.call(Policy(), llm, 40)
        with pytest.warns(RuntimeWarning, match="do not say what they used"):
            await h.call(Policy(), silent)
        assert run.spent.tokens == 80
        await h.call(Policy(), silent)
        assert run.spent.tokens == 120
        with run_budget(tokens=500, usage=lambda result: 0):
            await h.call(Policy(), silent)
    assert run.spent.tokens == 120


@pytest.mark.parametrize(
    "usage", [lambda _: -1, lambda _: float("nan"), lambda _: 10**400, lambda _: "many", lambda _: 1 / 0]
)
async def test_a_usage_that_is_none_is_logged_once(
    h: Harness, usage: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The result is not lost, and what was expected is charged."""
    with run_budget(tokens=100, usage=usage, estimate=lambda *_: 7) as run, caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert (await h.call(Policy(), llm)).model == "gpt-5"
    assert run.spent.tokens == 21
    assert len(caplog.records) == 1


async def test_an_estimate_that_fails_is_logged_once(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """The largest so far is expected then."""
    with run_budget(tokens=100, estimate=lambda: 7) as run, caplog.at_level(logging.ERROR):
        for _ in range(3):
            await h.call(Policy(), llm, 5, 0)
    assert (run.spent.tokens, len(caplog.records)) == (15, 1)


async def test_prices_may_be_a_function_and_results_may_name_their_cost(h: Harness) -> None:
    """As litellm's do."""
    with run_budget(cost=10, prices=lambda usage: usage.input * 0.5) as run:
        await h.call(Policy(), llm, 4)
    assert run.spent.cost == 2.0
    named = answer(5)
    named._hidden_params = {"response_cost": 0.25}
    with run_budget(cost=10) as run:
        await h.call(Policy(), lambda: named)
    assert run.spent.cost == 0.25


def test_without_prices_a_failed_call_is_no_failing_price(caplog: pytest.LogCaptureFixture) -> None:
    """Money is then what results say that they cost, and there is nothing to complain of."""

    def fails() -> None:
        raise RuntimeError

    with run_budget(cost=100) as run, caplog.at_level(logging.ERROR), pytest.raises(RuntimeError):
        Policy(Retry(1)).call(fails)
    assert (run.spent.cost, caplog.records) == (0, [])


async def test_a_model_that_has_no_price_is_the_dearest(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Of those in the table, which is said once; so it stops a run."""
    with run_budget(cost=100, prices=PRICES) as run, caplog.at_level(logging.WARNING):
        await h.call(Policy(), llm, 3)
        for _ in range(2):
            await h.call(Policy(), lambda: answer(9, 9, "other"))
        assert (run.spent.cost, len(caplog.records)) == (3 + 2 * 27, 1)
        await h.call(Policy(), lambda: answer(10, 10, "other"))
        with pytest.raises(BudgetExceededError, match="may cost 30"):
            await h.call(Policy(), llm)


@pytest.mark.parametrize("prices", [None, lambda _: 1 / 0])
async def test_without_any_price_no_second_attempt_starts(
    h: Harness, prices: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It might cost anything: the first result comes out, the next call is refused and says what is missing, also in a
    slice. A slice beside it is no part of that."""

    async def ask() -> Any:
        with run_budget(tokens=100):
            return await h.call(Policy(), llm)

    with run_budget(attempts=9) as whole, caplog.at_level(logging.WARNING):
        with run_budget(cost=2, prices=prices) as run:
            assert (await ask()).model == "gpt-5"
            for call in (ask, lambda: h.call(Policy(), llm)):
                with pytest.raises(
                    BudgetExceededError, match="nobody can tell what gpt-5 costs; give it prices="
                ) as caught:
                    await call()
                assert (caught.value.budget, caught.value.limit) == ("cost", 2)
            assert run.spent == (1, 10, 0)
        with run_budget(cost=20, prices=PRICES):
            await h.call(Policy(), llm)
    assert whole.spent.attempts == 2
    assert len(caplog.records) == 1


async def test_where_a_price_is_expected_that_is_charged(h: Harness) -> None:
    """By an estimate that names the money, for results that do not."""
    with run_budget(cost=1, estimate=lambda: Usage(cost=0.4)) as run:
        for _ in range(2):
            await h.call(Policy(), llm)
        with pytest.raises(BudgetExceededError, match=r"0\.8 spent, and this call may cost 0\.4"):
            await h.call(Policy(), llm)
    assert run.spent.cost == 0.8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "one of attempts, tokens and cost must be given"),
        ({"attempts": -1}, ValueError, "attempts must be at least 0, got -1"),
        ({"attempts": 1.5}, TypeError, "attempts must be an int"),
        ({"tokens": float("nan")}, ValueError, "tokens must be"),
        ({"cost": -0.5}, ValueError, "cost must be at least 0"),
        ({"cost": True}, TypeError, "cost must be a number"),
        ({"tokens": 1, "usage": 5}, TypeError, "usage must be a function, got 5"),
        ({"tokens": 1, "estimate": 5}, TypeError, "estimate must be a function, got 5"),
        (
            {"cost": 1, "prices": {"m": 3}},
            TypeError,
            "the price of 'm' must be a pair, for a million tokens in and out",
        ),
        ({"cost": 1, "prices": {}}, ValueError, "prices must name at least one model, got {}"),
        ({"cost": 1, "prices": 3}, TypeError, "prices must be a table by model or a function of the usage, got 3"),
        ({"cost": 1, "prices": {"m": (1, -2)}}, ValueError, "the price of 'm' must be at least 0"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """They fail when it is made, and say why."""
    with pytest.raises(error, match=message):
        run_budget(**options)


@pytest.mark.parametrize("policy", [Policy(Retry(2, wait=fixed(0))), Policy(Bulkhead(9)), Policy()])
async def test_attempts_are_exact_one_by_one(h: Harness, policy: Policy) -> None:
    """Whatever way a call takes: what is spent and left, also within a slice, and where it ends."""
    with run_budget(attempts=150) as run:
        for number in range(100):
            assert (run.spent.attempts, run.left.attempts) == (number, 150 - number)
            await h.call(policy, llm)
        with run_budget(attempts=20) as tool:
            assert run.left.attempts == 30
            await h.call(policy, llm)
            assert (tool.left.attempts, run.spent.attempts) == (19, 101)
        for _ in range(49):
            await h.call(policy, llm)
        with pytest.raises(BudgetExceededError, match="the run may use 150 attempts: 150 used"):
            await h.call(policy, llm)
        assert run.spent.attempts == 150


async def test_each_attempt_of_a_retry_is_charged(h: Harness) -> None:
    """The first and those that follow it, when nobody watches."""
    policy = Policy(Retry(3, wait=fixed(0)))
    with run_budget(attempts=100) as run:
        await h.call(policy, llm)  # now some are ready
        for left in (96, 93, 90):
            with pytest.raises(ConnectionError):
                await h.call(policy, down)
            assert run.left.attempts == left


async def test_the_end_of_an_operation_tells_what_is_left(h: Harness) -> None:
    """Of what is limited, here or around; nothing where there is no budget."""
    policy, told = Policy(Retry(3, wait=fixed(0))), Events()
    policy.observe(told)
    await h.call(policy, llm)
    with run_budget(attempts=10), run_budget(tokens=100):
        await h.call(policy, llm, 7)
    first, second = [event.run_budget for event in told.of(CallEnded)]
    assert first is None
    assert second == {"attempts.spent": 1, "attempts.left": 9, "tokens.spent": 7, "tokens.left": 93}


def test_one_budget_is_one_block() -> None:
    """Entered twice at the same time it would be two."""
    block = run_budget(attempts=1)
    with block, pytest.raises(RuntimeError, match="call run_budget"), block:
        pass


# ------------------------------------------------------------------------------------------------------------- slices


async def test_an_inner_budget_is_a_slice(h: Harness) -> None:
    """It is taken out of the outer one, never more than that has, and what it did not use is handed back."""
    with run_budget(attempts=10, tokens=100) as outer:
        with run_budget(tokens=60) as inner:
            assert (outer.left.tokens, inner.left) == (40, (10, 60, None))
            with run_budget(tokens=500) as innermost:
                assert innermost.left.tokens == 60
            await h.call(Policy(), llm, 25)
            assert (inner.spent, outer.spent) == ((1, 25, 0), (1, 25, 0))
        assert outer.left == (9, 75, None)
        with run_budget(tokens=500) as rest:
            assert rest.left.tokens == 75


async def test_a_slice_inherits_how_usage_is_read(h: Harness) -> None:
    """Unless it has functions of its own."""
    with run_budget(cost=100, prices=PRICES, estimate=lambda *_: 1) as outer, run_budget(cost=50):
        await h.call(Policy(), llm, 4)
    assert outer.spent.cost == 4.0


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_slices_never_exceed_what_is_around_them(data: st.DataObject) -> None:
    """Whatever is reserved, spent and closed in whatever order: nothing is spent beyond a limit where estimates hold,
    and in the end all that was not spent is there again."""
    root = Account("tokens", 1_000, None)
    accounts, flights, spent = [root], [], 0
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["open", "reserve", "settle", "close", "take"]))
        account = data.draw(st.sampled_from(accounts))
        if step == "open":
            accounts.append(Account("tokens", data.draw(st.none() | st.integers(0, 1_200)), account))
            accounts[-1].open()
        elif step == "reserve":
            amount = data.draw(st.integers(0, 400))
            if account.allows(amount):
                account.limiting.reserved += amount
                flights.append((account, amount))
        elif step == "settle" and flights:
            account, amount = flights.pop(data.draw(st.integers(0, len(flights) - 1)))
            used = data.draw(st.integers(0, amount))
            book((entry(account, amount, used),))
            spent += used
        elif step == "take" and account.allows(1):
            book((entry(account, 0, 1),))
            spent += 1
        elif step == "close" and account is not root:
            account.close()
            inside = [account]
            for other in accounts:  # what is inside it ends first, as blocks do
                if other.outer in inside:
                    inside.append(other)
            for other in reversed(inside):
                other.close()
            accounts = [other for other in accounts if other not in inside]
        for account in accounts:
            assert account.limit is None or account.spent <= account.limit
            assert account.left >= 0
            assert account.reserved >= 0
        assert root.spent == spent
    for account, amount in flights:
        book((entry(account, amount, 0),))
    for account in reversed(accounts):
        account.close()
    assert (root.spent, root.reserved, root.left) == (spent, 0, 1_000 - spent)


# ------------------------------------------------------------------------------------------------------------ streams


class AIMessageChunk:
    """LangChain's chunks add up."""

    def __init__(self, going_in: int, coming_out: int) -> None:
        self.usage_metadata = {"input_tokens": going_in, "output_tokens": coming_out, "total_tokens": 0}
        self.usage_metadata["total_tokens"] = going_in + coming_out


STREAMS: dict[str, tuple[list[Any], float]] = {
    "openai": ([SimpleNamespace(usage=None), SimpleNamespace(usage=None), answer(20, 5)], 25),
    "anthropic": (
        [
            SimpleNamespace(message=SimpleNamespace(usage=SimpleNamespace(input_tokens=20, output_tokens=1))),
            SimpleNamespace(usage=SimpleNamespace(input_tokens=None, output_tokens=3)),
            SimpleNamespace(usage=SimpleNamespace(input_tokens=None, output_tokens=9)),
        ],
        29,
    ),
    "google": (
        [
            SimpleNamespace(usage_metadata=SimpleNamespace(prompt_token_count=20, candidates_token_count=n))
            for n in (1, 4, 8)
        ],
        28,
    ),
    "langchain": ([AIMessageChunk(20, 0), AIMessageChunk(0, 3), AIMessageChunk(0, 4)], 27),
    "responses": (
        [
            SimpleNamespace(type="response.output_text.delta"),
            SimpleNamespace(response=SimpleNamespace(usage=SimpleNamespace(input_tokens=20, output_tokens=6))),
        ],
        26,
    ),
}


@pytest.mark.parametrize("kind", STREAMS)
async def test_the_usage_of_a_stream_is_put_together(h: Harness, kind: str) -> None:
    """At its end: what it says once, cumulatively, or bit by bit."""
    items, tokens = STREAMS[kind]

    def stream() -> Iterator[Any]:
        yield from items

    async def astream() -> AsyncIterator[Any]:
        for item in items:
            yield item

    with run_budget(tokens=1_000, estimate=lambda: 100) as run:
        assert await h.items(Policy(Retry(2)).stream(stream if h.blocking else astream)) == items
        assert (run.spent.tokens, run.left.tokens) == (tokens, 1_000 - tokens)


@pytest.mark.parametrize(
    ("error", "said", "charged"),
    [
        (ConnectionResetError, True, 25),
        (ServerError, True, 25),
        (ConnectionResetError, False, 100),
        (ServerError, False, 0),
    ],
)
async def test_what_a_stream_that_fails_has_used_is_charged(
    h: Harness, error: type[Exception], said: bool, charged: int
) -> None:
    """As far as its items said; else as for any call that failed."""

    def stream() -> Iterator[Any]:
        yield answer(20, 5) if said else "one"
        raise error

    async def astream() -> Any:
        for item in stream():
            yield item

    with run_budget(tokens=1_000, estimate=lambda: 100) as run, pytest.raises(error):
        await h.items(Policy().stream(stream if h.blocking else astream))
    assert (run.spent.tokens, run.left.tokens) == (charged, 1_000 - charged)


async def test_a_stream_reserves_until_it_ends(h: Harness) -> None:
    """What runs inside it is not paid for twice; what is sent in and returned passes through."""
    tool, sent = Policy(), []

    def stream() -> Iterator[Any]:
        sent.append((yield "one"))
        tool.call(lambda: answer(30))
        yield "two"

    async def astream() -> Any:
        sent.append((yield "one"))
        await tool.acall(llm, 30)
        yield "two"

    with run_budget(tokens=1_000, estimate=lambda *_: 100) as run:
        if h.blocking:
            items: Any = Policy()(stream)()
            assert next(items) == "one"
            assert run.left.tokens == 900
            assert items.send("in") == "two"
            assert list(items) == []
        else:
            aitems: Any = Policy()(astream)()
            assert await anext(aitems) == "one"
            assert run.left.tokens == 900
            assert await aitems.asend("in") == "two"
            assert [item async for item in aitems] == []
        assert (run.spent, run.left.tokens) == ((2, 30, 0), 970)
    assert sent == ["in"]


# ------------------------------------------------------------------------------------------------------------ readers


def shaped(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


@pytest.mark.parametrize(
    ("result", "tokens", "model"),
    [
        (answer(7, 3), 10, "gpt-5"),
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 3}, "model": "m"}, 10, "m"),
        (shaped(usage=shaped(input_tokens=7, output_tokens=3), model="claude"), 10, "claude"),
        (
            shaped(usage=shaped(input_tokens=7, output_tokens=3, cache_read_input_tokens=100), model="claude"),
            110,
            "claude",
        ),
        (shaped(usage_metadata=shaped(prompt_token_count=7, candidates_token_count=3, total_token_count=15)), 15, None),
        (
            shaped(
                usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
                response_metadata={"model_name": "m"},
            ),
            10,
            "m",
        ),
        (shaped(usage=lambda: shaped(input_tokens=7, output_tokens=3, request_tokens=7)), 10, None),  # pydantic-ai
        (shaped(context_wrapper=shaped(usage=shaped(input_tokens=7, output_tokens=3))), 10, None),  # openai-agents
        (shaped(prompt_eval_count=7, eval_count=3, model="llama"), 10, "llama"),
        (shaped(x_groq=shaped(usage=shaped(prompt_tokens=7, completion_tokens=3))), 10, None),
        (shaped(chunk=answer(7, 3)), 10, "gpt-5"),
        ({"llm_output": {"token_usage": {"prompt_tokens": 7, "completion_tokens": 3}, "model_name": "m"}}, 10, "m"),
        (Usage(7, 3), None, None),
        ("text", None, None),
        (None, None, None),
        ({"answer": 42}, None, None),
        (shaped(usage=None), None, None),
    ],
)
def test_usage_is_read_by_shape(result: Any, tokens: float | None, model: str | None) -> None:
    """Of objects and of dictionaries."""
    usage = usage_of(result)
    assert (None if usage is None else usage.tokens) == tokens
    assert usage is None or usage.model == model


def test_usage_is_read_of_the_real_types() -> None:
    """Those of openai and anthropic as they are installed."""
    chat = pytest.importorskip("openai.types.chat")
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    completion = chat.ChatCompletion.model_validate(
        {"id": "x", "choices": [], "created": 0, "model": "gpt-5", "object": "chat.completion", "usage": usage}
    )
    assert usage_of(completion) == Usage(7, 3, None, "gpt-5")
    chunk = {"id": "x", "choices": [], "created": 0, "model": "gpt-5", "object": "chat.completion.chunk"}
    assert usage_of(chat.ChatCompletionChunk.model_validate(chunk)) is None
    assert usage_of(chat.ChatCompletionChunk.model_validate({**chunk, "usage": usage})) == Usage(7, 3, None, "gpt-5")
    types = pytest.importorskip("anthropic.types")
    message = types.Message.model_validate(
        {
            "id": "x",
            "content": [],
            "model": "claude",
            "role": "assistant",
            "stop_reason": None,
            "stop_sequence": None,
            "type": "message",
            "usage": {"input_tokens": 7, "output_tokens": 3},
        }
    )
    assert usage_of(message) == Usage(7, 3, None, "claude")
    start = types.RawMessageStartEvent.model_validate({"type": "message_start", "message": message.model_dump()})
    assert usage_of(start) == Usage(7, 3, None, "claude")


@pytest.mark.parametrize(
    "numbers", [{"input": -1}, {"output": float("nan")}, {"cost": float("inf")}, {"input": 10**400}]
)
def test_a_usage_is_of_numbers_that_can_be(numbers: dict[str, float]) -> None:
    """Finite, and not negative."""
    with pytest.raises(ValueError, match="must be (at least 0|a finite number), got"):
        Usage(**numbers)


@pytest.mark.parametrize("facts", [{"input": "7"}, {"output": None}, {"cost": True}, {"model": 5}])
def test_a_usage_is_refused_what_is_no_number_and_no_name(facts: dict[str, Any]) -> None:
    """When it is made, not where it is charged."""
    with pytest.raises(TypeError, match=f"{next(iter(facts))} must be a"):
        Usage(**facts)


# -------------------------------------------------------------------------------------------------- marks and locks


def test_no_mark_stays_where_a_coroutine_began() -> None:
    """A call that goes on elsewhere is not what encloses the next call from here."""
    with run_budget(tokens=1_000) as run:
        chain: Any = Policy()(lambda: llm(10))()
        Policy().call(lambda: answer(20))
        assert asyncio.run(_value(chain)).usage.total_tokens == 10
    assert run.spent == (2, 30, 0)


async def test_what_marked_an_attempt_keeps_nothing(h: Harness) -> None:
    """Neither what a call was given nor, after the block, the budget; and it is around no later call."""

    class Given:
        """What only the call refers to."""

    async def ask(given: object, tokens: int) -> Any:
        return answer(tokens)

    given = Given()
    gone = [weakref.ref(given)]
    with run_budget(tokens=1_000) as run:
        await h.call(Policy(), ask, given, 40)
        del given
        assert gone[0]() is None
        given = Given()
        gone.append(weakref.ref(given))
        with run_budget(tokens=500) as slice_of_it:
            gone.append(weakref.ref(slice_of_it))
            await h.call(Policy(), ask, given, 30)
            del given
            assert gone[1]() is None
        del slice_of_it
        gc.collect()
        assert gone[2]() is None
        assert run.spent == (2, 70, 0)


async def _value(chain: Any) -> Any:
    return await chain


def test_no_lock_is_held_while_observers_hear_of_a_refusal() -> None:
    """One that asks the budget in another thread gets its answer."""
    policy, answered = Policy(), []
    with run_budget(attempts=0) as run:
        policy.observe(lambda event: answered.append(ends_elsewhere(lambda: run.spent)))
        with pytest.raises(BudgetExceededError):
            policy.call(int)
    assert answered
    assert all(answered)


@pytest.mark.parametrize("limits", [{"attempts": 50}, {"attempts": 50, "tokens": 5_000}])
def test_an_exception_from_outside_leaves_no_lock_and_no_mark(limits: dict[str, int]) -> None:
    """Wherever it strikes; what was reserved stays so at most until the block ends."""

    def run(policy: Policy) -> None:
        with run_budget(**limits):
            policy.call(lambda: answer(10))

    def check(policy: Policy) -> None:
        with run_budget(**limits) as budget:
            policy.call(lambda: policy.call(lambda: answer(10)))
            assert ends_elsewhere(lambda: budget.spent)
        assert budget.spent.attempts == 2
        assert budget.spent.tokens == (10 if "tokens" in limits else 0)
        assert policy.call(int) == 0

    def make() -> Policy:
        policy = Policy(Retry(2))
        policy.call(int)
        return policy

    interrupt_everywhere(make, run, check)


def test_a_usage_that_fails_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The results are not blamed for it: no warning says that they do not tell what they used."""

    def usage(_: object) -> int:
        raise ValueError("no such field")

    with run_budget(tokens=100, usage=usage, estimate=lambda: 3) as run:
        assert [Policy(Retry(1)).call(int) for _ in range(3)] == [0, 0, 0]
        assert run.spent.tokens == 9
    assert [each.message for each in caplog.records] == [
        "the usage= of a run budget fails; what was expected is charged"
    ]


def test_an_exception_from_outside_leaves_nothing_reserved_in_the_midst_of_a_run() -> None:
    """Wherever it strikes a call, the others in the block have all that it did not use."""

    def make() -> tuple[contextlib.ExitStack, Any, Policy]:
        policy, block = Policy(Bulkhead(5)), contextlib.ExitStack()
        budget = block.enter_context(run_budget(tokens=30, usage=int))
        policy.call(lambda: 10)
        return block, budget, policy

    def check(made: tuple[contextlib.ExitStack, Any, Policy]) -> None:
        with made[0]:
            assert made[1].left.tokens + made[1].spent.tokens == 30

    interrupt_everywhere(make, lambda made: made[2].call(lambda: 10), check)


def _stream_of_usage() -> Iterator[int]:
    yield 5
    yield 10


def _nested_calls(policy: Policy) -> None:
    policy.call(lambda: policy.call(lambda: 10))


@pytest.mark.parametrize("use", [_nested_calls, lambda policy: list(policy.stream(_stream_of_usage))])
@pytest.mark.parametrize("returns", [False, True])
def test_what_strikes_from_outside_leaves_the_slices_of_a_budget_whole(
    use: Callable[[Policy], object], returns: bool
) -> None:
    """Wherever an exception does, or a handler that calls through the same policy: what an inner budget took and did
    not use is back, and nothing of a call stays reserved."""

    def make() -> tuple[contextlib.ExitStack, Any, Policy]:
        block = contextlib.ExitStack()
        options: dict[str, Any] = {"usage": int, "prices": lambda usage: 0.1, "estimate": lambda: 10}
        return block, block.enter_context(run_budget(attempts=10, tokens=100, cost=5.0, **options)), Policy(Bulkhead(5))

    def run(made: tuple[contextlib.ExitStack, Any, Policy]) -> None:
        with run_budget(attempts=3, tokens=40, cost=1.0):
            use(made[2])

    def handle(made: tuple[contextlib.ExitStack, Any, Policy]) -> None:
        if not returns:
            interrupt()
        with contextlib.suppress(BudgetExceededError):
            made[2].call(lambda: 10)

    def check(made: tuple[contextlib.ExitStack, Any, Policy]) -> None:
        gc.collect()  # a block that was entered and never left
        block, budget, policy = made
        with block:
            left, spent = budget.left, budget.spent
            assert [one + other for one, other in zip(left, spent, strict=True)] == [10, 100, pytest.approx(5)]
            assert ends_elsewhere(lambda: budget.spent)
            assert policy.call(lambda: 10) == 10

    gc.freeze()  # what there is already: `check` collects at every point
    try:
        interrupt_everywhere(make, run, check, act=handle)
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("inner", [{"tokens": 5}, {"attempts": 0}])
def test_a_refused_attempt_leaves_to_the_one_around_it_what_is_reserved_for_that(inner: dict[str, int]) -> None:
    """It may yet use that, so that others may not have it: the estimates are never too low, nor is more spent."""
    policy = Policy(Bulkhead(5))
    with run_budget(tokens=20, usage=int, estimate=lambda: 10) as budget:

        def around() -> int:
            with run_budget(**inner), pytest.raises(BudgetExceededError):
                policy.call(lambda: 10)
            assert budget.left.tokens == 10
            return 10

        policy.call(around)
        assert budget.left.tokens == 10


@pytest.mark.parametrize("inner", [{"tokens": 15}, {"attempts": 9}])
def test_calls_of_a_handler_leave_the_books_of_a_slice_right(inner: dict[str, int]) -> None:
    """Wherever it interrupts a call, whose reservation its own may use: in the end nothing is reserved."""

    def make() -> tuple[contextlib.ExitStack, Any, Policy]:
        policy, block = Policy(Bulkhead(5)), contextlib.ExitStack()
        budget = block.enter_context(run_budget(tokens=30, usage=int))
        policy.call(lambda: 3)
        block.enter_context(run_budget(**inner))
        return block, budget, policy

    def check(made: tuple[contextlib.ExitStack, Any, Policy]) -> None:
        made[0].close()
        assert made[1].left.tokens + made[1].spent.tokens == 30

    inside = room.__file__.removesuffix("__init__.py")
    interrupt_everywhere(
        make, lambda made: made[2].call(lambda: 3), check, act=lambda made: made[2].call(lambda: 1), inside=inside
    )


class _Negative(ServerError):
    usage = SimpleNamespace(prompt_tokens=-1, completion_tokens=0)


class _Needing(ServerError):
    def usage(self, of: str) -> None:
        raise AssertionError


@pytest.mark.parametrize("kind", [_Negative, _Needing])
async def test_an_error_that_tells_no_sensible_usage_comes_out_as_it_is(h: Harness, kind: type[Exception]) -> None:
    """A number below zero, or a method of that name that means something else."""

    async def fails() -> None:
        raise kind

    with run_budget(tokens=100), pytest.raises(kind):
        await h.call(Policy(Retry(1)), fails)
