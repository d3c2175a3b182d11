"""Whoever waits to be woken: a task, or a thread, which does so by a lock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient_agents.core.runtime import ASYNC, BLOCKING
from resilient_agents.core.waiters import Waiter
from tests.conftest import ManualClock, drive, run_on


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_wait_that_ran_out_may_be_renewed(runtime: str) -> None:
    """Each time for as long as it is told, until it is woken."""

    async def scenario() -> None:
        waiter = ASYNC.waiter()
        began = anyio.current_time()
        assert [await waiter.wait(1.0), await waiter.wait(2.0)] == [False, False]
        assert anyio.current_time() - began == pytest.approx(3.0, abs=0.01)
        assert waiter.wake() is True
        assert await waiter.wait(60.0) is True
        assert anyio.current_time() - began == pytest.approx(3.0, abs=0.01)

    run_on(runtime, scenario)


def test_a_thread_may_be_woken_twice(manual_clock: ManualClock) -> None:
    """By two who do not know of each other; it waits no more."""
    waiter = BLOCKING.waiter()
    assert drive(waiter.wait(1.0)) is False
    assert [waiter.wake(), waiter.wake()] == [True, True]
    assert drive(waiter.wait(1.0)) is True
    assert manual_clock.now == 1001.0


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_task_may_be_woken_twice(runtime: str) -> None:
    """Before it looks at either."""

    async def scenario() -> None:
        waiter = ASYNC.waiter()
        assert [waiter.wake(), waiter.wake()] == [True, True]
        assert await waiter.wait(None) is True
        await anyio.sleep(1)

    run_on(runtime, scenario)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_who_wakes_a_task_whose_loop_is_gone_is_told(runtime: str) -> None:
    """Nobody will ever come: the next in line is to be woken instead."""
    waiters: list[Waiter] = []

    async def scenario() -> None:
        waiters.append(ASYNC.waiter())

    run_on(runtime, scenario)
    assert waiters[0].wake() is False


class Watched(asyncio.SelectorEventLoop):
    """Counts how often it is told something from outside of its turns, in debug mode, where it refuses to be told by
    another thread in any other way."""

    told = 0

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.told += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def by_a_task(wake: Callable[[], bool]) -> bool:
    return wake()


def by_a_thread(wake: Callable[[], bool]) -> bool:
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(wake()))
    thread.start()
    thread.join()
    return said[0]


@pytest.mark.parametrize(("by", "told"), [(by_a_task, 0), (by_a_thread, 1)])
def test_a_loop_is_told_of_what_another_thread_did(by: Callable[[Callable[[], bool]], bool], told: int) -> None:
    """It may be waiting for its sockets. In the midst of a task it looks by itself what is to be done next."""

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Watched)
        waiter = ASYNC.waiter()

        async def wait() -> bool:
            return await waiter.wait(None)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        before = loop.told
        assert by(waiter.wake) is True
        after = loop.told
        assert await waiting is True
        return after - before

    with asyncio.Runner(debug=True, loop_factory=Watched) as runner:
        assert runner.run(scenario()) == told


def test_a_loop_is_told_of_what_a_signal_handler_did() -> None:
    """It runs on the loop's own thread, but in no task: perhaps while the loop waits for its sockets."""

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Watched)
        waiter = ASYNC.waiter()
        before = loop.told
        loop.call_soon(waiter.wake)
        assert await waiter.wait(None) is True
        return loop.told - before

    with asyncio.Runner(debug=True, loop_factory=Watched) as runner:
        assert runner.run(scenario()) == 1


WITH_NEST_ASYNCIO = """
import asyncio
asyncio.Task = asyncio.tasks._CTask = asyncio.tasks.Task = asyncio.tasks._PyTask
asyncio.Future = asyncio.futures._CFuture = asyncio.futures.Future = asyncio.futures._PyFuture
from resilient_agents import Bulkhead, Policy, RateLimit

async def main():
    policy = Policy(RateLimit(1000, burst=1), Bulkhead(1))
    await asyncio.gather(*(policy.acall(asyncio.sleep, 0.001) for _ in range(3)))

asyncio.run(main())
"""


def test_tasks_wait_where_tasks_and_futures_are_those_in_python() -> None:
    """As nest_asyncio makes them for the whole process, in a notebook before anything else is imported."""
    command = [sys.executable, "-c", WITH_NEST_ASYNCIO]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
