"""The event loop of the simulator. The whole asyncio suite runs on it, too: RESILIENT_AGENTS_TEST_LOOP=simulated."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.testing import FakeClock


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def test_an_hour_takes_no_time() -> None:
    """The clock jumps to the next timer, to the very moment it was set for."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run(main()) == 3600.0


def test_time_passes_for_whoever_waits_until_it_does() -> None:
    """As aiolimiter does, whose sums of floats ask for the present moment again: on a real loop a few turns later it
    is over."""
    assert run(passes()) < 0.001
    clock = FakeClock()
    clock.run(passes)
    assert clock.now < 0.001


async def passes() -> float:
    loop = asyncio.get_running_loop()
    began, over = loop.time(), loop.create_future()

    def look() -> None:
        if loop.time() > began:
            over.set_result(None)
        else:
            loop.call_at(began, look)

    look()
    await over
    return loop.time() - began


def test_timers_that_are_due_together_form_one_turn() -> None:
    """As on a standard loop: what their callbacks make ready runs after all of them."""

    async def main() -> list[str]:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        for name in "abc":
            loop.call_at(1.0, lambda name=name: (told.append(name), loop.call_soon(told.append, name.upper())))
        await asyncio.sleep(2)
        return told

    assert "".join(run(main())) in {"".join(p) + "".join(p).upper() for p in ("abc", "acb", "bac", "bca", "cab", "cba")}


def test_cancelled_timers_are_swept() -> None:
    """Limits that were not needed do not pile up until they would have been due."""
    held: list[weakref.ref[Any]] = []

    class Marker: ...

    async def main() -> int:
        loop = asyncio.get_running_loop()
        for _ in range(1000):
            marker = Marker()
            held.append(weakref.ref(marker))
            loop.call_later(1e6, lambda marker=marker: None).cancel()
            del marker
            await asyncio.sleep(0)
        gc.collect()
        return sum(ref() is not None for ref in held)

    assert run(main()) < 250


def test_a_worker_thread_wakes_a_loop_that_has_nothing_to_do() -> None:
    """Then it waits in real time, as there is no virtual moment to go to."""
    assert run(asyncio.to_thread(lambda: 42)) == 42


def test_a_thread_may_call_from_outside() -> None:
    """`call_soon_threadsafe` is heard although no time passes."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(answer.set_result, "heard")).start()
        return await answer

    assert run(main()) == "heard"


def test_a_closed_loop_takes_no_timers() -> None:
    """It says so as a standard one does."""
    loop = SimulatedLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_later(1, print)
