"""An exception from outside, or a handler that calls through what it interrupted, at every point of a call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents import Bulkhead, Hedge, Policy, PolicyTimeoutError, Retry, Timeout, deadline, fixed, remaining
from tests.conftest import run_on
from tests.interruptions import Interrupt, ends_elsewhere, interrupt_everywhere

LONG = 60.0
TINY = 0.001


def used(*strategies: Any) -> Policy:
    """A policy whose first call is over."""
    policy = Policy(*strategies)
    policy.call(int)
    return policy


def settles(policy: Policy) -> None:
    """The next call goes through, nothing binds this thread any more, and every thread comes back."""
    assert remaining() is None
    give_up = time.monotonic() + 5
    while any(part.get("abandoned") for part in policy.describe()["strategies"]):
        assert time.monotonic() < give_up, policy.describe()
        time.sleep(TINY)
    with contextlib.suppress(PolicyTimeoutError):  # of those whose limit is tiny
        assert policy.call(os.getpid) == os.getpid()
    assert ends_elsewhere(lambda: policy.call(int))


STRATEGIES: dict[str, Callable[[], list[Any]]] = {
    "a limit": lambda: [Timeout(LONG, thread=False)],
    "a limit around attempts": lambda: [Timeout(LONG, thread=False), Retry(2), Timeout(LONG / 2, thread=False)],
    "threads of a limit": lambda: [Timeout(LONG, thread=True)],
    "a hedge": lambda: [Hedge(LONG)],
    "a hedge at once": lambda: [Hedge(0)],
}


@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
@pytest.mark.parametrize("strategies", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_an_interrupted_call_leaves_everything_whole(strategies: Callable[[], list[Any]], first: bool) -> None:
    """Whichever point an exception from outside strikes: no limit stays in force, no lock held, no slot or thread
    lost."""
    make = Policy if first else used
    assert interrupt_everywhere(lambda: make(*strategies()), lambda policy: policy.call(int), settles)


@pytest.mark.parametrize(
    "strategies", [[Timeout(TINY, thread=True)], [Timeout(TINY, thread=False), Hedge(LONG)]], ids=["alone", "hedged"]
)
def test_an_interrupted_expiry_leaves_everything_whole(strategies: list[Any]) -> None:
    """The same while a thread is left behind because time is up."""
    held: list[threading.Event] = []

    def make() -> Policy:
        held.append(threading.Event())
        return Policy(*strategies)

    def run(policy: Policy) -> None:
        with pytest.raises((PolicyTimeoutError, Interrupt)):
            policy.call(held[-1].wait, 10)

    def check(policy: Policy) -> None:
        held[-1].set()
        settles(policy)

    assert interrupt_everywhere(make, run, check)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_interrupted_task_leaves_everything_whole(runtime: str) -> None:
    """The same in async code, where a limit that stayed in force would cancel the task later."""

    async def work() -> int:
        return 1

    async def scenario() -> None:
        policy = Policy(Timeout(5), Hedge(1), Timeout(2))
        with contextlib.suppress(Interrupt):
            try:
                await policy.acall(work)
            except ExceptionGroup:  # it struck in a task of the hedge's
                pass
        sys.setprofile(None)  # what follows is the check
        assert remaining() is None
        assert await Policy(Timeout(LONG)).acall(sleeping) == "slept"
        assert await policy.acall(work) == 1

    async def sleeping() -> str:
        await (asyncio.sleep(10) if runtime == "asyncio" else trio_sleep(10))
        return "slept"

    assert interrupt_everywhere(lambda: None, lambda _: run_on(runtime, scenario), lambda _: None)


async def trio_sleep(seconds: float) -> None:
    import trio

    await trio.sleep(seconds)


def test_an_interrupted_deadline_is_over() -> None:
    """A block whose beginning or end is interrupted binds nobody."""

    def run(_: None) -> None:
        with deadline(LONG):
            pass

    def check(_: None) -> None:
        assert remaining() is None

    assert interrupt_everywhere(lambda: None, run, check)


@pytest.mark.parametrize(
    "strategies",
    [*STRATEGIES.values(), lambda: [Bulkhead(4, isolation="thread")]],
    ids=[*STRATEGIES.keys(), "threads of a bulkhead"],
)
def test_a_handler_may_call_through_what_it_interrupts(strategies: Callable[[], list[Any]]) -> None:
    """Whichever point it interrupts, its own call never waits for its own thread."""

    def handler(policy: Policy) -> None:
        assert policy.call(os.getpid) == os.getpid()

    assert interrupt_everywhere(lambda: used(*strategies()), lambda policy: policy.call(int), settles, act=handler)


def test_an_interrupted_first_call_blocks_no_other() -> None:
    """What an interrupted first call leaves behind holds up the first call of no other policy, in no thread."""

    def check(_: Policy) -> None:
        assert ends_elsewhere(lambda: Policy(Retry(2, wait=fixed(0))).call(int))

    assert interrupt_everywhere(lambda: Policy(Timeout(LONG, thread=True)), lambda policy: policy.call(int), check)


def test_a_handler_may_make_the_first_call_of_another_policy() -> None:
    """Nor does it hold up that of a handler in its midst."""

    def handler(_: Policy) -> None:
        assert Policy(Retry(2, wait=fixed(0)), Timeout(LONG, thread=True)).call(int) == 0

    assert interrupt_everywhere(lambda: Policy(Timeout(LONG, thread=True)), lambda p: p.call(int), settles, act=handler)
