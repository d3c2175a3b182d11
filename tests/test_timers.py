"""The alarms of an event loop: on time, in order, on one timer, and gone with the loop."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref

import pytest

from resilient_agents import Policy, PolicyTimeoutError, Timeout
from resilient_agents.base.timers import set_alarm
from tests.conftest import run_on
from tests.virtual_time import VirtualLoop


class Bell:
    """An alarm that remembers when it rang."""

    def __init__(self) -> None:
        self.entry = 0
        self.rang: list[float] = []

    def ring(self) -> None:
        self.rang.append(asyncio.get_running_loop().time())


def test_alarms_ring_on_time_in_whatever_order_they_were_set() -> None:
    """An earlier one that is set later rings first; one that is due already rings at once."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        bells = {seconds: Bell() for seconds in (5.0, 1.0, 3.0, 0.0, -7.0, 1.5)}
        for seconds, bell in bells.items():
            set_alarm(loop, seconds, bell)
        await asyncio.sleep(10)
        for seconds, bell in bells.items():
            assert bell.rang == [pytest.approx(began + max(0.0, seconds))]
            assert bell.entry == 0

    run_on("asyncio", scenario)


@pytest.mark.parametrize("seed", ["one", "two", "three"])
def test_alarms_ring_on_time_where_most_others_were_stopped(seed: str) -> None:
    """However many were set and stopped in between."""
    chance = random.Random(seed)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        kept: list[tuple[float, Bell]] = []
        for _ in range(2000):
            seconds, bell = chance.uniform(0, 100), Bell()
            set_alarm(loop, seconds, bell)
            if chance.random() < 0.1:
                kept.append((seconds, bell))
            else:
                bell.entry = 0
        await asyncio.sleep(200)
        assert all(bell.rang == [pytest.approx(began + seconds)] for seconds, bell in kept)

    run_on("asyncio", scenario)


def test_an_alarm_that_is_stopped_does_not_ring() -> None:
    """Nor does one that was set anew ring at its old time."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stopped, renewed = Bell(), Bell()
        set_alarm(loop, 1, stopped)
        set_alarm(loop, 2, renewed)
        stopped.entry = 0
        set_alarm(loop, 4, renewed)
        await asyncio.sleep(10)
        assert not stopped.rang
        assert renewed.rang == [pytest.approx(began + 4)]

    run_on("asyncio", scenario)


def test_many_limits_need_few_timers() -> None:
    """Calls one after another under a long limit leave neither timers nor alarms to pile up in the loop."""
    loop = VirtualLoop()
    set_at: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        set_at.append(when)
        return call_at(when, *args, **kwargs)  # type: ignore[arg-type]

    loop.call_at = counted  # type: ignore[method-assign]

    async def work(limits: weakref.WeakSet[Bell]) -> int:
        return len(limits)

    async def scenario() -> None:
        limits: weakref.WeakSet[Bell] = weakref.WeakSet()
        policy = Policy(Timeout(3600))
        for _ in range(1000):
            await policy.acall(work, limits)
            bell = Bell()
            limits.add(bell)
            set_alarm(loop, 3600, bell)
            bell.entry = 0
            del bell
        assert len(limits) < 200

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
    assert len(set_at) < 20


def test_a_closed_loop_frees_what_waits_in_it() -> None:
    """A task that was left under a limit when its loop was closed can be collected."""

    class Thing: ...

    async def hang(thing: Thing) -> None:
        await asyncio.Event().wait()

    thing = Thing()
    loop = asyncio.new_event_loop()
    task = loop.create_task(Policy(Timeout(3600)).acall(hang, thing))
    loop.run_until_complete(asyncio.sleep(0))
    gone = weakref.ref(thing)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del thing, task, loop
    gc.collect()
    assert gone() is None


def test_an_expiry_in_a_task_that_was_asked_to_end_before_is_still_an_expiry() -> None:
    """A cancellation that the task has swallowed long ago is not taken for one that comes with the expiry."""

    async def scenario() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
        assert task.cancelling() == 1
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(1)).acall(asyncio.sleep, 5)
        assert task.cancelling() == 1
        task.uncancel()

    run_on("asyncio", scenario)
