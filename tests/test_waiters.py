"""A task that waits to be woken. (A thread does so by a lock, in real time.)"""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from resilient_agents.core.runtime import ASYNC
from tests.conftest import run_on


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
