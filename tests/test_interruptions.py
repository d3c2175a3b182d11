"""The harness of interruptions finds what it is made for."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from resilient_agents import Policy, Timeout
from resilient_agents.core.call import Call, Proceed
from tests.conftest import run_on
from tests.interruptions import Interrupt, ends_elsewhere, interrupt_everywhere
from tests.virtual_time import CHOSEN


class Locking:
    """A strategy around a lock, taken with care or without."""

    def __init__(self, *, carefully: bool) -> None:
        self.lock = threading.Lock()
        self.carefully = carefully

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        if self.carefully:
            with self.lock:
                pass
        else:
            self.lock.acquire()
            try:
                pass
            finally:
                self.lock.release()
        return await proceed(call)


def interrupted(strategy: Locking) -> int:
    def check(policy: Policy) -> None:
        assert ends_elsewhere(lambda: policy.call(int), 0.5)

    return interrupt_everywhere(lambda: Policy(strategy), lambda policy: policy.call(int), check, inside=__file__)


def test_a_lock_taken_outside_of_with_is_found() -> None:
    """An exception between `acquire` and `try` leaves the lock held, and the failure names the point."""
    with pytest.raises(AssertionError) as caught:
        interrupted(Locking(carefully=False))
    assert "(c_return)" in caught.value.__notes__[-1]


def test_a_lock_taken_by_with_is_whole() -> None:
    """`with lock:` cannot be interrupted between taking the lock and being bound to release it."""
    assert interrupted(Locking(carefully=True)) > 0


def test_a_handler_that_waits_for_its_own_thread_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that calls through what it interrupts, and waits for ever, fails in due time."""
    monkeypatch.setattr("tests.interruptions.SECONDS", 0.2)

    class Waiting(Locking):
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            with self.lock:
                len([])
            return await proceed(call)

    with pytest.raises(AssertionError, match="still waiting"):
        interrupt_everywhere(
            lambda: Policy(Waiting(carefully=True)),
            lambda policy: policy.call(int),
            lambda policy: None,
            act=lambda policy: policy.call(int),
            inside=__file__,
        )


@pytest.mark.skipif(CHOSEN == "simulated", reason="that loop is code of ours, too, and would be interrupted itself")
@pytest.mark.skipif(CHOSEN == "uvloop", reason="its compiled calls crash the interpreter where a profiler raises")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_async_scenarios_have_points_too(runtime: str) -> None:
    """In tasks of both event loops, but not in the callbacks of a loop, which keeps their errors to itself."""
    hit = []

    async def work() -> None: ...

    async def scenario() -> None:
        try:
            await Policy(Timeout(5)).acall(work)
        except Interrupt:
            hit.append(1)
            raise

    points = interrupt_everywhere(lambda: None, lambda _: run_on(runtime, scenario), lambda _: None)
    assert 0 < len(hit) <= points


def test_a_scenario_outside_of_the_library_is_a_mistake() -> None:
    """A scenario without a single point proves nothing and fails."""
    with pytest.raises(AssertionError, match="no point"):
        interrupt_everywhere(object, lambda _: None, lambda _: None)
    assert sys.getprofile() is None
