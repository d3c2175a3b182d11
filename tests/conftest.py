"""One scenario, three runtimes.

A test that is `async def` and takes `h` runs three times: blocking (the scenario is driven by one `send`, as a policy
drives its chain), on asyncio and on trio, each in virtual time that jumps ahead when nothing else can happen. See
`Harness`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import events, remaining
from resilient_agents.base.clock import Lock, clock
from resilient_agents.base.now import now
from tests.virtual_time import CHOSEN, new_loop

AT_WORK = 0.1
"""Real seconds in which a thread does what it has to."""

RUNTIMES = ["blocking", "asyncio", "trio"]

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else litellm asks the network when it is imported

if CHOSEN == "uvloop":  # also where a test calls asyncio.run itself
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


class Events(list[events.Event]):
    """An observer that keeps what it is told."""

    def __call__(self, event: events.Event) -> None:
        self.append(event)

    def of(self, *kinds: type[events.Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kinds)]


class Harness:
    """What a scenario needs, in the colour it runs in. User functions are written as coroutine functions that wait with
    `h.sleep`."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.blocking = runtime == "blocking"

    def now(self) -> float:
        return clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass: in a user function this is work that takes so long."""
        if self.blocking:
            clock.sleep(seconds)
        else:
            await anyio.sleep(seconds)

    def fn(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work` in this colour: a plain function when blocking, itself otherwise."""
        return plain(work) if self.blocking and inspect.iscoroutinefunction(work) else work

    async def call(self, policy: Any, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `work` under the policy, in this colour."""
        if self.blocking:
            return policy.call(self.fn(work), *args, **kwargs)
        return await policy.acall(work, *args, **kwargs)

    async def items(self, iterable: Any) -> list[Any]:
        """All items of a stream in this colour."""
        if self.blocking:
            return list(iterable)
        return [item async for item in iterable]


def makes_limiters_anywhere() -> bool:
    """Does this anyio make a CapacityLimiter outside of an event loop?"""
    try:
        anyio.CapacityLimiter(1)
    except Exception:  # sniffio's, or anyio's own
        return False
    return True


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("a blocking scenario suspended")


def plain(work: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return drive(work(*args, **kwargs))

    function.__name__ = getattr(work, "__name__", "function")
    function.__qualname__ = getattr(work, "__qualname__", "function")
    return function


@contextlib.contextmanager
def swapped_clock(monotonic: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[None]:
    def acquire(lock: Lock, seconds: float | None) -> bool:
        if seconds is None:
            return lock.acquire()
        at_work = threading.active_count() > 1  # another thread may be about to release it, for which no time passes
        if not lock.acquire(timeout=min(seconds, AT_WORK) if at_work and seconds > 0 else 0):
            sleep(seconds)
            return lock.acquire(blocking=False)
        return True

    with clock.replaced(monotonic=monotonic, sleep=sleep, acquire=acquire):
        yield


class ManualClock:
    """Virtual time for blocking code: sleeping moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def manual_clock() -> Generator[ManualClock, None, None]:
    manual = ManualClock()
    with swapped_clock(manual, manual.sleep):
        yield manual


def _no_sleep(seconds: float) -> None:
    raise AssertionError("async code slept in the thread")


def run_on(runtime: str, scenario: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end on one of the runtimes, in virtual time."""
    if runtime == "blocking":
        manual = ManualClock()
        with swapped_clock(manual, manual.sleep):
            return drive(scenario())
    if runtime == "asyncio":
        with (
            contextlib.closing(new_loop()) as loop,
            swapped_clock(loop.time, _no_sleep),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            return runner.run(scenario())
    import trio
    import trio.testing

    async def timed() -> Any:
        with swapped_clock(trio.current_time, _no_sleep):
            return await scenario()

    return trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(params=RUNTIMES)
def h(request: pytest.FixtureRequest) -> Harness:
    return Harness(request.param)


@pytest.fixture(autouse=True)
def nothing_in_force() -> Iterator[None]:
    """No test leaves a deadline or the budget of a run to the next."""
    yield
    assert remaining() is None
    budget = now.budget()
    assert budget is None or not budget.active


@pytest.fixture(autouse=True, scope="module")
def short_collections() -> None:
    """What is there when a module's tests begin stays to the end, mostly: let no garbage collection, of which tests ask
    for many, look at it again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what is imported for the summary may look for referrers


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "h" not in pyfuncitem.funcargs:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run_on(pyfuncitem.funcargs["h"].runtime, lambda: pyfuncitem.obj(**arguments))
    return True
