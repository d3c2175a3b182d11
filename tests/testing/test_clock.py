"""`FakeClock`: nothing waits, and everything is in time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import unittest
from typing import Any, Literal

import anyio
import pytest

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    Policy,
    PolicyTimeoutError,
    RateLimit,
    Retry,
    Timeout,
    deadline,
    exponential,
    remaining,
)
from resilient_agents.base.clock import clock as the_clock
from resilient_agents.testing import FakeClock, failing
from tests.virtual_time import CHOSEN

Backend = Literal["asyncio", "trio"]
BACKENDS: list[Backend] = ["asyncio", "trio"]

WAITS = Retry(4, wait=exponential(1.0, jitter=None))

pytestmark = pytest.mark.skipif(CHOSEN == "uvloop", reason="FakeClock drives asyncio's own loops, not one in C")


def real_seconds_are_few(began: float) -> bool:
    return time.monotonic() - began < 5


# -------------------------------------------------------------------------------------------------------- blocking code


def test_waits_move_the_clock() -> None:
    """A blocking retry waits as long as it says, in no time."""
    began = time.monotonic()
    with FakeClock() as clock:
        assert Policy(WAITS).call(failing(ConnectionError, ConnectionError, ConnectionError, "ok")) == "ok"
        assert clock.waits == [1, 2, 4]
        assert clock.now == 7
    assert real_seconds_are_few(began)


def test_time_moves_by_hand() -> None:
    """A circuit half-opens and a deadline passes when the clock is put forward."""
    breaker = CircuitBreaker(failures=1, reset_timeout=30)
    with FakeClock() as clock, deadline(100):
        with pytest.raises(ConnectionError):
            Policy(breaker).call(failing(ConnectionError))
        clock.advance(29.5)
        assert breaker.state == "open"
        clock.advance(0.5)
        assert breaker.state == "half-open"
        assert remaining() == 70
        clock.advance(0)
        with pytest.raises(ValueError, match="seconds must be at least 0"):
            clock.advance(-1)


def test_the_wall_clock_moves_along() -> None:
    """What is told the time of day is told that of the virtual clock."""
    with FakeClock() as clock:
        before = the_clock.wall()
        clock.advance(3600)
        assert the_clock.wall() - before == pytest.approx(3600)


def test_rates_and_queues_of_blocking_code_go_by_it() -> None:
    """A call waits for its token; one that finds no slot waits as long as it may."""
    began = time.monotonic()
    limit, slots = RateLimit(1, per=60), Bulkhead(1, max_wait=300)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        leave.wait(30)

    with FakeClock() as clock:
        for _ in range(3):
            Policy(limit).call(int)
        assert clock.now == 120
        holder = threading.Thread(target=Policy(slots).call, args=(hold,))
        holder.start()
        inside.wait(30)
        with pytest.raises(BulkheadFullError):
            Policy(slots).call(int)
        assert clock.now == 420
        leave.set()
        holder.join()
    assert real_seconds_are_few(began)


def test_threads_take_their_turns_in_the_order_of_their_times() -> None:
    """Whichever begins to wait first, the one that is due first goes on first."""
    woken: list[tuple[float, float]] = []
    with FakeClock() as clock:

        def wait(seconds: float) -> None:
            the_clock.sleep(seconds)
            woken.append((seconds, clock.now))

        waiting = [threading.Thread(target=wait, args=(seconds,)) for seconds in (30.0, 10.0, 20.0)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
    assert [seconds for seconds, _ in woken] == [10, 20, 30]


def test_a_thread_that_is_woken_does_not_wait_for_its_time() -> None:
    """A caller gets the slot that comes free while it waits, long before its patience ends."""
    slots = Bulkhead(1, max_wait=3600)
    inside = threading.Event()

    def work() -> None:
        inside.set()
        time.sleep(0.002)

    with FakeClock() as clock:
        worker = threading.Thread(target=Policy(slots).call, args=(work,))
        worker.start()
        inside.wait(30)
        assert Policy(slots).call(int) == 0
        worker.join()
        assert clock.now < 3600


def test_a_worker_that_waits_does_not_overtake_whoever_called_it() -> None:
    """However long the caller takes to begin waiting: the limit is its own, and comes first."""

    def slow(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "wait":
            time.sleep(0.05)

    with FakeClock() as clock:
        policy = Policy(Timeout(2, thread=True))
        sys.setprofile(slow)
        try:
            with pytest.raises(PolicyTimeoutError):
                policy.call(the_clock.sleep, 60)
        finally:
            sys.setprofile(None)
        assert clock.now == 2


def test_limits_with_threads_go_by_it() -> None:
    """A thread that hangs is left behind when virtual time is up."""
    release = threading.Event()
    with FakeClock() as clock:
        with pytest.raises(PolicyTimeoutError):
            Policy(Timeout(30, thread=True)).call(release.wait, 60)
        assert clock.now == 30
    release.set()


# ----------------------------------------------------------------------------------------------------------- async code


@pytest.mark.parametrize("backend", BACKENDS)
def test_run_brings_its_event_loop(backend: Backend) -> None:
    """On both backends sleeping, retrying and limits take no time, and the clock goes on from one run to the next."""
    began = time.monotonic()

    async def scenario(result: str) -> str:
        await anyio.sleep(100)
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(50)).acall(anyio.sleep, 1000)
        return await Policy(WAITS).acall(failing(ConnectionError, result).coroutine)

    clock = FakeClock()
    assert clock.run(scenario, "ok", backend=backend) == "ok"
    assert clock.now == 151
    assert clock.run(scenario, "again", backend=backend) == "again"
    assert clock.now == 302
    assert real_seconds_are_few(began)


def test_an_event_loop_that_ends_waits_for_its_threads_without_moving_the_clock() -> None:
    """It gives them so many seconds, from Python 3.12 on, and warns where these have passed."""
    clock = FakeClock()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.02)

    clock.run(main)
    assert clock.now == 0


def test_it_drives_the_loops_of_asyncio_that_run_in_its_block() -> None:
    """`asyncio.run` inside, and threads that the loop waits for are not overtaken by the clock."""
    with FakeClock() as clock:

        async def scenario() -> int:
            with pytest.raises(PolicyTimeoutError):
                await Policy(Timeout(5, thread=True)).acall(the_clock.sleep, 60)
            return await Policy(Timeout(3600, thread=True)).acall(threading.get_ident)

        assert asyncio.run(scenario()) != threading.get_ident()
        assert 5 <= clock.now < 3600


def test_it_takes_over_a_loop_that_runs_already() -> None:
    """Entered inside a task, it drives the loop from there on, and lets it go afterwards; no timer is lost."""

    async def scenario() -> None:
        rang: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, rang.append, "set before")
        with FakeClock() as clock:
            await asyncio.sleep(0.1)
            assert not rang
            await asyncio.sleep(1000)
            assert rang == ["set before"]
            loop.call_later(1000.05, rang.append, "left over")
            await asyncio.sleep(1000)
            with pytest.raises(PolicyTimeoutError):
                await Policy(Timeout(5)).acall(asyncio.sleep, 60)
            assert clock.now == pytest.approx(2005.1)
        began = time.monotonic()
        await asyncio.sleep(0.1)
        assert time.monotonic() - began >= 0.09
        assert rang == ["set before", "left over"]
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(0.05)).acall(asyncio.sleep, 60)
        assert real_seconds_are_few(began)

    asyncio.run(scenario())


def test_trio_needs_its_own_mock_clock() -> None:
    """A trio that goes by real time cannot be driven, and the error says what to do."""
    import trio

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="MockClock"):
            FakeClock().__enter__()

    trio.run(scenario)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_of_its_own_does_not_run_inside_of_another(backend: Literal["asyncio", "trio"]) -> None:
    """The error says what to do there, and nothing is left behind."""
    import trio

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match=r"await the function inside of `with FakeClock\(\):`"):
            FakeClock().run(asyncio.sleep, 1, backend=backend)

    asyncio.run(scenario())
    trio.run(scenario)
    with pytest.raises(ValueError, match="backend must be 'asyncio' or 'trio', got 'curio'"):
        FakeClock().run(asyncio.sleep, 1, backend="curio")  # type: ignore[arg-type]


def test_there_is_one_clock_at_a_time() -> None:
    """A second block inside is refused and changes nothing; one after another is fine."""
    with FakeClock():
        with pytest.raises(RuntimeError, match="in place already"), FakeClock():
            pass
        Policy(WAITS).call(failing(ConnectionError, "ok"))
    with FakeClock() as clock:
        assert clock.now == 0


def test_afterwards_everything_is_as_it_was() -> None:
    """The real clocks are back, also after an error in the block."""
    before: Any = (the_clock.monotonic, the_clock.wall, the_clock.sleep, the_clock.acquire)
    run_forever = asyncio.BaseEventLoop.run_forever
    with pytest.raises(ZeroDivisionError), FakeClock():
        raise ZeroDivisionError
    assert before == (the_clock.monotonic, the_clock.wall, the_clock.sleep, the_clock.acquire)
    assert asyncio.BaseEventLoop.run_forever is run_forever


class TestWithUnittest(unittest.IsolatedAsyncioTestCase):
    """In unittest the clock is entered as a context of the test."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.clock.__enter__()
        self.addCleanup(self.clock.__exit__, None, None, None)

    async def test_an_async_test(self) -> None:
        """Its loop is driven."""
        await asyncio.sleep(1000)
        assert self.clock.now == 1000
