"""Calls that a fallback had others answer: what is the function's, and what is theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents import Fallback, Gate, Policy, RateLimit, Retry, Timeout, fixed, run_budget
from resilient_agents.simulate.calls import Recorded
from resilient_agents.simulate.replay import replay
from resilient_agents.testing import FakeClock
from tests.simulate.test_replay import Make, is_exact, recorded_of

WAIT = fixed(0.1)


async def answers(number: int) -> int:
    await asyncio.sleep(0.0513)
    if number % 8 == 1:
        raise ValueError
    return number


async def fails(number: int) -> int:
    await asyncio.sleep(0.1)
    raise ConnectionError


class Told(Exception):
    """One that says more of itself than its class does."""

    status_code = 503
    retry_after = 0.83
    transient = False


def record(make: Make, function: Callable[[int], Any], attempts: int | None = None) -> list[Recorded]:
    """Twelve calls that begin one after another, each with a budget of so many attempts."""

    async def run() -> None:
        policy = make()

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.2137)
            with contextlib.nullcontext() if attempts is None else run_budget(attempts=attempts):
                await policy.acall(function, number)

        await asyncio.gather(*(one(number) for number in range(12)), return_exceptions=True)

    return recorded_of(lambda: FakeClock().run(run))


def test_an_attempt_began_when_its_own_function_did() -> None:
    """Not when the one began that a fallback within it asks."""

    def make() -> Policy:
        return Policy(Fallback(to=[answers]), name="p")

    calls = record(make, fails)
    assert {round(call.steps[0].takes, 3) for call in calls} == {0.1}
    is_exact(replay(make, calls), near=0)


def test_what_an_error_said_is_heard_though_another_answered() -> None:
    """A gate beneath the fallback shuts for as long as the server asked; the word of the error counts as well."""

    async def told(number: int) -> int:
        await asyncio.sleep(0.1)
        if number % 5 == 2:
            raise Told
        return number

    def make() -> Policy:
        return Policy(Retry(2, wait=WAIT), Fallback(to=[answers], on=Told), Gate(), name="p")

    calls = record(make, told)
    assert Counter((s.helped, s.retry_after, s.transient) for c in calls for s in c.steps) == {
        (False, None, None): 10,
        (True, 0.83, False): 2,
    }
    is_exact(replay(make, calls), near=0)


async def helps(error: Exception, number: int) -> int:
    return await answers(number)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy(Fallback(to=[answers, answers]), Retry(2, wait=WAIT), name="p"),
        lambda: Policy(Retry(3, wait=WAIT), Fallback(to=[fails, answers]), name="p"),
        lambda: Policy(Fallback(helps), Retry(2, wait=WAIT), name="p"),
        lambda: Policy(Retry(3, wait=fixed(0.25)), Fallback(to=[fails]), Retry(2, wait=WAIT), name="p"),
    ],
    ids=["others after a retry", "others in a retry", "a handler after a retry", "others between retries"],
)
def test_what_the_budget_of_a_run_refuses_is_refused_again_and_then(make: Make) -> None:
    """To the call, or to one whom a fallback asks, each of whom costs an attempt, too."""
    for attempts in (1, 2, 3, 4):
        is_exact(replay(make, record(make, fails, attempts)), near=0)


def test_what_the_budget_of_a_run_refused_to_others_is_not_refused_to_the_call() -> None:
    """A call that a limit refused is refused by that limit, and takes its turn there."""

    def make() -> Policy:
        return Policy(Timeout(5), Fallback(to=[fails, answers]), RateLimit(2, burst=1, max_wait=0.3), name="p")

    calls = record(make, fails, 1)
    assert any(not call.steps for call in calls)
    assert not any(call.refused for call in calls)
    is_exact(replay(make, calls), near=0)
