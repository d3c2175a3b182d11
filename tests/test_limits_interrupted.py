"""Exceptions and handlers from outside at every point of a call through a limit: nothing is lost, nothing stays
locked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient_agents import Bulkhead, BulkheadFullError, Policy, RateLimit, RateLimitedError
from resilient_agents.base.clock import clock
from tests.conftest import run_on
from tests.interruptions import Interrupt, ends_elsewhere, interrupt_everywhere
from tests.strategies import value

LOOPS = pytest.mark.parametrize("runtime", ["asyncio", "trio"])

# A loop that is interrupted while it is set up, or before it is closed, says so when it is collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(loop|socket|Loop):pytest.PytestUnraisableExceptionWarning"
)


class Guarded:
    """A limit and a policy around it, whose first call is over."""

    def __init__(self, limit: Any) -> None:
        gc.collect()  # what the run before this one left, here and not in the midst of it
        self.limit = limit
        self.policy = Policy(limit)
        self.policy.call(int)

    def is_whole(self) -> None:
        """The next call starts at once, here and elsewhere, and nothing is left over."""
        gc.collect()
        assert self.policy.call(int) == 0
        assert ends_elsewhere(lambda: self.policy.call(int))
        assert self.limit.queued == 0
        if isinstance(self.limit, Bulkhead):
            assert self.limit.in_use == 0


def rate_limit() -> Guarded:
    return Guarded(RateLimit(1000, burst=1))


def bulkhead() -> Guarded:
    return Guarded(Bulkhead(1, queue=0))


def test_an_interrupted_call_gives_its_slot_back() -> None:
    """Wherever an exception from outside lands: the only slot is free for the next call."""
    assert interrupt_everywhere(bulkhead, lambda guarded: guarded.policy.call(int), Guarded.is_whole) > 5


def test_an_interrupted_stream_gives_its_slot_back() -> None:
    """It belongs to the stream until that closes, however far that has come."""

    def run(guarded: Guarded) -> None:
        assert list(guarded.policy.stream(lambda: iter([1, 2]))) == [1, 2]

    interrupt_everywhere(bulkhead, run, Guarded.is_whole)


def test_an_interrupted_call_in_a_thread_of_the_bulkhead_gives_its_slot_back() -> None:
    """When that thread ends, if it has begun, and not before."""

    def check(guarded: Guarded) -> None:
        for _ in range(2000):
            if guarded.limit.in_use == 0:
                break
            threading.Event().wait(0.001)
        guarded.is_whole()

    interrupt_everywhere(
        lambda: Guarded(Bulkhead(1, queue=0, isolation="thread")), lambda guarded: guarded.policy.call(int), check
    )


@LOOPS
def test_an_interrupted_async_call_gives_its_slot_back(runtime: str) -> None:
    """The same on an event loop."""
    interrupt_everywhere(
        bulkhead, lambda guarded: run_on(runtime, lambda: guarded.policy.acall(value)), Guarded.is_whole
    )


class Struck:
    """An exception from outside that is to come out."""

    def __init__(self) -> None:
        self.struck = False

    def strike(self) -> None:
        self.struck = True
        raise Interrupt


@pytest.mark.parametrize("make", [Bulkhead, anyio.CapacityLimiter, anyio.Semaphore])
def test_an_interruption_goes_on_and_the_slot_is_back(make: Callable[[int], Any]) -> None:
    """Also in the midst of leaving, and also of anyio's own limiters: it comes out, and the next call gets in."""

    async def scenario(struck: Struck) -> None:
        policy = Policy(make(1))
        with contextlib.suppress(Interrupt):
            await policy.acall(value)
            assert not struck.struck
        with anyio.fail_after(1):
            await policy.acall(value)

    def run(struck: Struck) -> None:
        run_on("asyncio", lambda: scenario(struck))

    assert interrupt_everywhere(Struck, run, lambda _: None, act=Struck.strike) > 20


class Rivals(Guarded):
    """One call is inside, in a thread of its own, and another one waits behind the call that is interrupted."""

    def __init__(self) -> None:
        super().__init__(Bulkhead(1))
        self.go_on = threading.Event()
        self.served = threading.Event()
        self.threads = [threading.Thread(target=self.policy.call, args=(self.go_on.wait, 10), daemon=True)]
        self.threads[0].start()
        while self.limit.in_use == 0:
            threading.Event().wait(0.0001)

    def follow(self) -> None:
        """Line up behind, and let the one that is inside go."""
        while self.limit.queued == 0 and not self.go_on.is_set():
            threading.Event().wait(0.0001)
        thread = threading.Thread(target=self.policy.call, args=(self.served.set,), daemon=True)
        self.threads.append(thread)
        thread.start()
        while self.limit.queued < 2 and not self.go_on.is_set():
            threading.Event().wait(0.0001)
        self.go_on.set()

    def run(self) -> None:
        follower = threading.Thread(target=self.follow, daemon=True)
        follower.start()
        try:
            assert self.policy.call(int) == 0
        finally:
            self.go_on.set()
            follower.join(10)

    def is_whole(self) -> None:
        assert self.served.wait(5), "the one behind was not woken"
        for thread in self.threads:
            thread.join(10)
        super().is_whole()


def test_an_interrupted_wait_costs_neither_a_slot_nor_a_wake_up() -> None:
    """A thread that waits in line is interrupted, before, in or after its wait: those behind it get in at once."""
    assert interrupt_everywhere(Rivals, Rivals.run, Rivals.is_whole) > 20


@LOOPS
def test_an_interrupted_task_in_line_costs_neither_a_slot_nor_a_wake_up(runtime: str) -> None:
    """The same for tasks: whichever of three is interrupted, the others come to their end."""

    async def scenario(guarded: Guarded) -> None:
        async def call() -> None:
            with anyio.CancelScope(shield=True):
                await guarded.policy.acall(anyio.sleep, 1)

        with anyio.fail_after(8):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(call)

    def run(guarded: Guarded) -> None:
        with contextlib.suppress(BaseExceptionGroup):
            run_on(runtime, lambda: scenario(guarded))

    interrupt_everywhere(lambda: Guarded(Bulkhead(1)), run, Guarded.is_whole)


class HandedOn:
    """A stream holds the only slot, and a task waits for it."""

    def __init__(self) -> None:
        self.limit = Bulkhead(1)
        self.policy = Policy(self.limit)
        self.stream = self.policy.stream(lambda: iter([1, 2]))
        next(self.stream)

    def let_go(self) -> None:
        with contextlib.suppress(ValueError):  # it is closing
            self.stream.close()

    async def inside(self) -> tuple[int, int]:
        return self.limit.in_use, self.limit.queued

    async def wait(self, *, cancelled: bool) -> None:
        waiting = asyncio.ensure_future(self.policy.acall(self.inside))
        await asyncio.sleep(0)
        if cancelled:
            waiting.cancel()
        self.let_go()
        with contextlib.suppress(asyncio.CancelledError):
            assert await waiting == (1, 0)
        assert (self.limit.in_use, self.limit.queued) == (0, 0)  # while the loop is open: what it holds is not taken


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_slot_that_comes_back_at_any_point_is_handed_on_once(cancelled: bool) -> None:
    """To a task that lines up or leaves at that moment: it is inside with a slot, and none is left with nobody."""

    def run(handed_on: HandedOn) -> None:
        run_on("asyncio", lambda: handed_on.wait(cancelled=cancelled))

    assert interrupt_everywhere(HandedOn, run, lambda _: None, act=HandedOn.let_go) > 50


def test_a_handler_may_call_through_the_bulkhead_that_it_interrupts() -> None:
    """It gets a slot of its own, or is told that there is none, and the call that it interrupted goes on."""

    def pass_by(guarded: Guarded) -> None:
        with contextlib.suppress(BulkheadFullError):
            guarded.policy.call(int)

    def run(guarded: Guarded) -> None:
        assert guarded.policy.call(int) == 0

    interrupt_everywhere(lambda: Guarded(Bulkhead(2)), run, Guarded.is_whole, act=pass_by)
    interrupt_everywhere(bulkhead, run, Guarded.is_whole, act=pass_by)


def test_what_a_collection_ends_at_any_point_hurts_nobody() -> None:
    """The garbage collector may run the rest of a stranded call in the midst of another one."""

    def make() -> Guarded:
        guarded = Guarded(Bulkhead(2))
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(guarded.policy.acall(asyncio.sleep, 100)) for _ in range(3)]
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return guarded

    def collect(guarded: Guarded) -> None:
        gc.collect()

    run: Callable[[Guarded], object] = lambda guarded: guarded.policy.call(int)  # noqa: E731
    interrupt_everywhere(make, run, Guarded.is_whole, act=collect)


def test_an_interrupted_call_leaves_no_rate_limit_locked() -> None:
    """Wherever an exception from outside lands: the next call starts, on any thread, as soon as the rate allows."""
    run: Callable[[Guarded], object] = lambda guarded: guarded.policy.call(int)  # noqa: E731
    assert interrupt_everywhere(lambda: Guarded(RateLimit(1e9)), run, Guarded.is_whole) > 5
    assert interrupt_everywhere(rate_limit, run, Guarded.is_whole) > 20  # which has to wait
    priced = RateLimit(1000, burst=1, cost=lambda: 1)
    assert interrupt_everywhere(lambda: Guarded(priced), run, Guarded.is_whole) > 20


def test_an_interrupted_rejection_leaves_no_one_in_line() -> None:
    """A call that is put off beyond what it may wait leaves, wherever it is interrupted."""

    def run(guarded: Guarded) -> None:
        guarded.limit.reconfigure(RateLimit(1e-2, burst=1, max_wait=1))
        with pytest.raises(RateLimitedError):
            guarded.policy.call(int)

    def check(guarded: Guarded) -> None:
        assert guarded.limit.queued == 0
        guarded.limit.reconfigure(RateLimit(1e9, burst=1))
        guarded.is_whole()

    interrupt_everywhere(lambda: Guarded(RateLimit(1e-2, burst=1)), run, check)


@LOOPS
def test_an_interrupted_task_costs_nobody_its_turn(runtime: str) -> None:
    """Whichever of three that share a rate is interrupted, the others come to their end, and nobody stays in line."""

    async def scenario(guarded: Guarded) -> None:
        async def call() -> None:
            with anyio.CancelScope(shield=True):
                await guarded.policy.acall(value)

        with anyio.fail_after(8):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(call)

    def run(guarded: Guarded) -> None:
        with contextlib.suppress(BaseExceptionGroup):
            run_on(runtime, lambda: scenario(guarded))

    def check(guarded: Guarded) -> None:
        assert guarded.limit.queued == 0
        guarded.limit.reconfigure(RateLimit(1e9, burst=1))
        guarded.is_whole()

    interrupt_everywhere(lambda: Guarded(RateLimit(1)), run, check)


class Leaving(Guarded):
    """One that waits is cancelled, and another one waits behind it."""

    def __init__(self) -> None:
        super().__init__(RateLimit(1, burst=1))
        self.struck = False

    def strike(self) -> None:
        self.struck = True
        raise Interrupt

    async def run(self) -> None:
        began = clock.monotonic()
        await self.policy.acall(int)
        tasks = [asyncio.create_task(self.policy.acall(int)) for _ in range(2)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        came = await asyncio.gather(*tasks, return_exceptions=True)
        assert self.limit.queued == 0
        assert any(isinstance(each, Interrupt) for each in came) == self.struck
        if came[1] == 0:
            assert clock.monotonic() - began == pytest.approx(1, abs=0.1)


def test_an_interrupted_cancellation_lets_those_behind_move_up() -> None:
    """Who gives up its place leaves it to the next, and the exception from outside is not lost."""
    run: Callable[[Leaving], object] = lambda leaving: run_on("asyncio", leaving.run)  # noqa: E731
    assert interrupt_everywhere(Leaving, run, lambda _: None, act=Leaving.strike) > 50


def test_calls_of_a_handler_are_charged_like_all_others() -> None:
    """A signal handler that calls through the rate limit it interrupts neither waits for its own thread nor starts
    beyond the rate."""

    def run(guarded: Guarded) -> None:
        assert guarded.policy.call(int) == guarded.policy.call(int) == 0

    def check(guarded: Guarded) -> None:
        assert guarded.limit.available == pytest.approx(0, abs=0.01)
        with pytest.raises(RateLimitedError):
            guarded.policy.call(int)

    interrupt_everywhere(
        lambda: Guarded(RateLimit(1, per=1e6, burst=4, max_wait=0)),
        run,
        check,
        act=lambda guarded: guarded.policy.call(int),
    )
