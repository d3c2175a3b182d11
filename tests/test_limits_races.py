"""One limit is one limit: real threads, asyncio loops and a trio loop at once, with cancellation at random moments.

Nothing here waits for a clock to prove something; each test ends with an invariant. A lost wake-up shows as a run that
does not end.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.counts import LimitCounts
from resilient_agents.adapters.gcra import Gcra, Reservation
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.errors import BulkheadFullError
from resilient_agents.policy import Policy
from tests.conftest import swapped_clock
from tests.test_gcra import worst_excess

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Let threads take turns a thousand times as often, so that races come about."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], object]) -> None:
    """Run all of them at once, each in a thread of its own; fail if one fails or does not end."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            barrier.wait(PATIENCE)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback()
        pytest.fail("somebody waits for ever: a wake-up was lost")
    if errors:
        raise errors[0]


class Inside:
    """What is guarded: counts how many are inside, in each colour."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.peak = self.total = 0

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.peak = max(self.peak, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def blocking(self) -> None:
        self.enter()
        try:
            time.sleep(0)  # lets others run
        finally:
            self.leave()

    async def awaiting(self) -> None:
        self.enter()
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            self.leave()


def tasks(backend: str, count: int, work: Callable[[int], Coroutine[Any, Any, object]]) -> Callable[[], object]:
    """An event loop with `count` tasks at once."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(work, number)

    return functools.partial(anyio.run, main, backend=backend)


def repeatedly(count: int, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(count):
            work()

    return run


@pytest.mark.parametrize("queue", [None, 40])
def test_one_bulkhead_for_two_asyncio_loops_a_trio_loop_and_four_threads(queue: int | None) -> None:
    """Never more than three inside, every call is served (or turned away at a full queue), nothing is left over."""
    bulkhead = Bulkhead(3, queue=queue)
    policy = Policy(bulkhead)
    inside = Inside()
    turned_away: list[int] = []

    async def call(number: int) -> None:
        for _ in range(5):
            try:
                await policy.acall(inside.awaiting)
            except BulkheadFullError:
                turned_away.append(number)

    together(
        tasks("asyncio", 40, call),
        tasks("asyncio", 40, call),
        tasks("trio", 40, call),
        *(repeatedly(100, lambda: policy.call(inside.blocking)) for _ in range(4 if queue is None else 0)),
    )
    assert inside.peak <= 3
    assert inside.total + len(turned_away) == 600 + (400 if queue is None else 0)
    assert bool(turned_away) == (queue is not None)
    assert (inside.now, bulkhead.in_use, bulkhead.queued) == (0, 0, 0)


def test_one_bulkhead_with_cancellation_at_random() -> None:
    """Waiters and holders are cancelled at any moment, that of the grant included: no slot and no wake-up is lost."""
    bulkhead = Bulkhead(3)
    policy = Policy(bulkhead)
    inside = Inside()

    async def call(number: int) -> None:
        chance = random.Random(number)
        for _ in range(8):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(policy(inside.awaiting))
                    for _ in range(chance.randrange(6)):
                        await anyio.lowlevel.checkpoint()
                    if chance.random() < 0.6:
                        scope.cancel()

    together(
        tasks("asyncio", 30, call),
        tasks("asyncio", 30, call),
        tasks("trio", 30, call),
        *(repeatedly(60, lambda: policy.call(inside.blocking)) for _ in range(4)),
    )
    assert inside.peak <= 3
    assert (inside.now, bulkhead.in_use, bulkhead.queued) == (0, 0, 0)


def test_waiters_that_give_up_at_the_moment_of_their_grant() -> None:
    """A longest wait of next to nothing ends beside the grant all the time: none is lost, none is used twice."""
    bulkhead = Bulkhead(2, max_wait=0.0002)
    policy = Policy(bulkhead)
    inside = Inside()
    full: list[None] = []

    async def call(_: int) -> None:
        for _ in range(10):
            try:
                await policy.acall(inside.awaiting)
            except BulkheadFullError:
                full.append(None)

    def block() -> None:
        try:
            policy.call(inside.blocking)
        except BulkheadFullError:
            full.append(None)

    together(tasks("asyncio", 10, call), tasks("trio", 10, call), *(repeatedly(100, block) for _ in range(4)))
    assert inside.peak <= 2
    assert inside.total + len(full) == 600
    assert (inside.now, bulkhead.in_use, bulkhead.queued) == (0, 0, 0)


def test_first_come_first_served_across_loops_and_threads() -> None:
    """Callers of different kinds that queue up one after another get in in that order."""
    bulkhead = Bulkhead(1)
    policy = Policy(bulkhead)
    order: list[int] = []
    letting_go = threading.Event()

    def wait_for_queue(length: int) -> None:
        give_up = time.monotonic() + PATIENCE
        while bulkhead.queued < length:
            assert time.monotonic() < give_up
            time.sleep(0)

    async def async_entry(number: int) -> None:
        order.append(number)

    def thread(number: int) -> None:
        policy.call(lambda: order.append(number))

    def asyncio_loop(number: int) -> None:
        asyncio.run(policy.acall(async_entry, number))

    def trio_loop(number: int) -> None:
        anyio.run(policy(async_entry), number, backend="trio")

    def holder() -> None:
        policy.call(letting_go.wait, PATIENCE)

    kinds = [thread, asyncio_loop, trio_loop] * 4
    threads = [threading.Thread(target=holder)]
    threads[0].start()
    while bulkhead.in_use == 0:
        time.sleep(0)
    for number, kind in enumerate(kinds):
        threads.append(threading.Thread(target=kind, args=(number,)))
        threads[-1].start()
        wait_for_queue(number + 1)
    letting_go.set()
    for each in threads:
        each.join(PATIENCE)
    assert order == list(range(len(kinds)))


def abandon(work: Callable[[], Coroutine[Any, Any, object]], count: int, turns: int) -> None:
    """Close an asyncio loop under its tasks after some turns: neither cancelled nor awaited."""
    loop = asyncio.new_event_loop()
    left = [loop.create_task(work()) for _ in range(count)]
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def go_on() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    loop.run_until_complete(go_on())
    loop.close()


def test_loops_that_are_closed_under_their_holders_and_waiters() -> None:
    """While threads go on calling, loops die with slots and with places in the queue: all of it comes back."""
    bulkhead = Bulkhead(3)
    policy = Policy(bulkhead)
    inside = Inside()

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    def die() -> None:
        for turns in range(1, 16):
            abandon(functools.partial(policy.acall, forever), 5, turns % 4)
            if turns % 3 == 0:
                gc.collect()

    together(die, die, *(repeatedly(100, lambda: policy.call(inside.blocking)) for _ in range(4)))
    gc.collect()
    assert inside.peak <= 3
    assert inside.total == 400
    policy.call(lambda: None)
    assert (inside.now, bulkhead.in_use, bulkhead.queued) == (0, 0, 0)


def test_100_times_one_loop_after_another() -> None:
    """Sequential `asyncio.run` calls, with waiting in each, use one bulkhead and one rate limit."""
    bulkhead, limit = Bulkhead(2), RateLimit(1e6, burst=1)
    policy = Policy(limit, bulkhead)
    inside = Inside()

    async def call(_: int) -> None:
        await policy.acall(inside.awaiting)

    for _ in range(25):
        tasks("asyncio", 5, call)()
        tasks("trio", 5, call)()
    assert inside.total == 250
    assert (bulkhead.in_use, bulkhead.queued, limit.queued) == (0, 0, 0)


@contextlib.contextmanager
def starts_of(limit: RateLimit, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, float]]]:
    """Notes when a rate limit of calls that cost 1 let each of them through, by the clock that it read for this: what
    happens to a thread after that is beyond any limit. Nothing of it runs in the midst of a step of the limit's."""
    noted: list[tuple[float, float]] = []
    here = threading.local()
    start = Gcra.start

    def monotonic() -> float:
        here.now = time.monotonic()
        now: float = here.now
        return now

    def after_waiting(gcra: Gcra, turn: Reservation, now: float) -> bool:
        starts = start(gcra, turn, now)
        if starts:
            noted.append((now, 1.0))
        return starts

    class AtOnce(LimitCounts):
        """Counted by whoever starts at once, when that is done."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "at_once" and value:
                noted.append((here.now, 1.0))

    with swapped_clock(monotonic, time.sleep), monkeypatch.context() as patched:
        patched.setattr(Gcra, "start", after_waiting)
        patched.setattr(limit, "_counts", AtOnce())
        yield noted


@pytest.mark.parametrize("burst", [1, 20])
def test_one_rate_for_two_asyncio_loops_a_trio_loop_and_four_threads(
    burst: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every window at most burst + rate * T start, while waiters are cancelled and loops are blocked at random."""
    limit = RateLimit(1000, burst=burst)
    policy = Policy(limit)
    inside = Inside()

    async def call(number: int) -> None:
        chance = random.Random(number)
        for _ in range(5):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(policy(inside.awaiting))
                    if chance.random() < 0.3:
                        await anyio.lowlevel.checkpoint()
                        scope.cancel()
                    if chance.random() < 0.05:
                        time.sleep(0.005)  # noqa: ASYNC251 - blocks the loop, so that its waiters wake late, together

    with starts_of(limit, monkeypatch) as starts:
        together(
            tasks("asyncio", 20, call),
            tasks("asyncio", 20, call),
            tasks("trio", 20, call),
            *(repeatedly(40, lambda: policy.call(inside.blocking)) for _ in range(4)),
        )
    assert len(starts) >= inside.total >= 160
    assert worst_excess(starts, 1000, burst) < 1e-4
    assert limit.queued == 0


def test_a_blocked_loop_does_not_stall_the_others() -> None:
    """While one loop with waiting calls stands still, calls elsewhere go on at the full rate."""
    limit = RateLimit(1000, burst=1)
    policy = Policy(limit)
    blocked, served = threading.Event(), threading.Event()
    inside = Inside()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(policy(inside.awaiting))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            blocked.set()
            assert served.wait(PATIENCE)  # this is the blocking that is meant

    def others() -> None:
        assert blocked.wait(PATIENCE)
        for _ in range(50):
            policy.call(lambda: None)
        served.set()

    together(functools.partial(anyio.run, main), others)
    assert inside.total == 20
    assert limit.queued == 0


def test_loops_that_are_closed_under_waiters_of_a_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of the dead pass by: the living go on, and nobody is counted as waiting in the end."""
    limit = RateLimit(5000, burst=1)
    policy = Policy(limit)
    inside = Inside()

    def die() -> None:
        for turns in range(1, 8):
            abandon(functools.partial(policy.acall, inside.awaiting), 5, turns % 4)

    with starts_of(limit, monkeypatch) as starts:
        together(die, *(repeatedly(50, lambda: policy.call(inside.blocking)) for _ in range(4)))
    gc.collect()
    assert len(starts) >= inside.total >= 200
    assert worst_excess(starts, 5000, 1) < 1e-3
    assert limit.queued == 0


def test_cancelling_at_random_costs_no_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are cancelled while they wait leave their turns to the others: the rate is used up, and kept."""
    rate, burst, seconds = 400, 20, 1.0
    limit = RateLimit(rate, burst=burst)
    policy = Policy(limit)
    end = time.monotonic() + seconds

    async def call(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            with anyio.move_on_after(chance.random() * 0.15):
                await policy.acall(anyio.lowlevel.checkpoint)

    def block() -> None:
        while time.monotonic() < end:
            policy.call(lambda: None)

    with starts_of(limit, monkeypatch) as starts:
        together(tasks("asyncio", 20, call), tasks("asyncio", 20, call), tasks("trio", 20, call), block, block)
    began = starts[0][0]
    used = sum(1 for at, _ in starts if at < end)
    assert used >= 0.8 * (burst + rate * (end - began))
    assert worst_excess(starts, rate, burst) < 1e-4
    assert limit.queued == 0
