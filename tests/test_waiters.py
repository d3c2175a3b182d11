"""A task that waits to be woken. (A thread does so by a lock, in real time.)"""

from __future__ import annotations

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
