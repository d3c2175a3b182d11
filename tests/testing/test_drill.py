"""A drill: what a policy does when what it guards fails, and that it is said when it does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Policy, Retry, Timeout
from resilient_agents.testing import Outage, drill, stand_in


@pytest.mark.parametrize("is_async", [False, True])
def test_each_strategy_is_seen_at_its_work(is_async: bool) -> None:
    """Retry, circuit, health check and bulkhead, in blocking code and in async code."""
    breaker = CircuitBreaker(failures=4, reset_timeout=60)
    policy, outage = Policy(Retry(2), breaker, Bulkhead(2, max_wait=1)), Outage()

    async def ask() -> object:
        return await policy.acall(outage.coroutine)

    call = ask if is_async else lambda: policy.call(outage)
    assert list(drill(call, outage, policy, health=lambda: breaker.state)) == [
        "retry: the first attempt failed, and the call was answered",
        "health check: closed",
        "circuit breaker: open after 2 calls, the next one was refused at once",
        "health check: open",
        "circuit breaker: closed again by 1 call when its time was up",
        "health check: closed",
        "bulkhead: beyond 2 calls at once the next one was not let in",
    ]


def test_an_answer_that_is_entered_is_waited_for() -> None:
    """What `async with client.get(url) as answer` calls holds up no loop, and gives what the answer enters."""
    policy, outage, seen = Policy(Bulkhead(2, max_wait=1), Timeout(5)), Outage(), []

    @policy
    async def fetch() -> None:
        async with outage.coroutine() as entered:
            seen.append(entered)

    assert list(drill(fetch, outage, policy)) == [
        "bulkhead: beyond 2 calls at once the next one was not let in",
        "time limit: a call that hangs ends after 5 s",
    ]
    assert seen[0] is outage.answer.__aenter__.return_value


def test_calls_that_come_to_the_policy_late_are_waited_for() -> None:
    """They are no calls that hold up the event loop: another one goes through a thread first, however long it takes."""
    policy, outage = Policy(Bulkhead(2, max_wait=1)), Outage()

    async def ask() -> object:
        for _ in range(2000):
            await asyncio.sleep(0)
        return await policy.acall(outage.coroutine)

    assert list(drill(ask, outage, policy)) == ["bulkhead: beyond 2 calls at once the next one was not let in"]


def test_calls_that_wait_in_threads_fill_a_bulkhead_of_any_size() -> None:
    """However few threads an event loop has by itself."""
    policy, outage = Policy(Bulkhead(40, max_wait=1)), Outage()

    async def ask() -> object:
        return await asyncio.to_thread(policy.call, outage)

    assert list(drill(ask, outage, policy)) == ["bulkhead: beyond 40 calls at once the next one was not let in"]


def test_a_policy_that_a_fake_cannot_show_says_so() -> None:
    """A time limit of what cannot be interrupted."""
    policy, outage = Policy(Timeout(5, thread=False)), Outage()
    assert list(drill(partial(policy.call, outage), outage, policy)) == [
        "answered; no retry, circuit breaker, bulkhead or health check to show"
    ]


def test_what_may_not_be_made_twice_is_repeated_only_where_nothing_was_sent() -> None:
    """Both are shown; a retry that repeats it all the same is an error."""
    policy, outage = Policy(Retry(3), idempotent=False), Outage()
    assert list(drill(partial(policy.call, outage), outage, policy)) == [
        "retry: what may have taken effect was not done again",
        "retry: the first attempt sent nothing, and the call was answered",
    ]
    careless = Policy(Retry(3))
    with pytest.raises(AssertionError, match="may not be made twice was made again"):
        list(drill(partial(careless.call, outage), outage, policy))


def test_a_time_limit_ends_what_is_awaited_and_hangs() -> None:
    """After its seconds, in virtual time."""
    policy, outage = Policy(Timeout(5)), Outage()
    assert list(drill(lambda: policy.acall(outage.coroutine), outage, policy)) == [
        "time limit: a call that hangs ends after 5 s"
    ]
    with pytest.raises(AssertionError, match="no time limit ended a call"):
        list(drill(lambda: Policy().acall(_soon, outage), outage, policy))


async def _soon(outage: Outage) -> None:
    outage.release()
    await outage.coroutine()


@pytest.mark.parametrize("is_async", [False, True])
def test_an_outage_of_one_host_leaves_the_others(is_async: bool) -> None:
    """Where one function calls several, its arguments say which is meant."""
    outage = Outage(to="b.example")
    outage.fail(1)
    fetch = outage.coroutine if is_async else outage

    async def ask(url: str) -> object:
        made = fetch(url, timeout=5)
        return await made if is_async else made

    assert asyncio.run(ask("https://a.example/")) is outage.answer
    assert outage.calls == 0
    with pytest.raises(Exception, match="chaos: connection"):
        asyncio.run(ask("https://b.example/"))
    assert outage.calls == 1


def test_what_does_not_do_its_work_is_an_assertion_error() -> None:
    """A retry that does not know the failure, a health check that does not turn."""
    outage = Outage("auth")
    with pytest.raises(Exception, match="chaos: auth"):
        list(drill(lambda: Policy(Retry(3)).call(outage), outage, Policy(Retry(3))))
    policy, outage = Policy(CircuitBreaker(failures=1)), Outage()
    with pytest.raises(AssertionError, match="health check did not turn"):
        list(drill(lambda: policy.call(outage), outage, policy, health=lambda: True))


def test_a_stand_in_answers_where_it_is_told_to() -> None:
    """With anything else it is a `MagicMock`; with the empty path the object itself is called."""
    outage = Outage()
    client = stand_in({"chat.create": outage})
    client.chat.create("x")
    client.models.list()
    assert outage.calls == 1
    assert stand_in({"": outage}) is outage


@pytest.mark.parametrize("given", [lambda outage: outage, lambda outage: outage.coroutine], ids=["blocking", "async"])
def test_a_stand_in_answers_behind_an_answer(given: Callable[[Outage], Any]) -> None:
    """`find(...).click()`, where both are calls."""
    outage = Outage()
    client = stand_in({"find": given(outage), "find.return_value.click": outage})

    async def found() -> Any:
        return await client.find()

    (client.find() if given(outage) is outage else asyncio.run(found())).click()
    assert outage.calls == 2
