"""An exception from outside, in the midst of a stream with limits, or of a call that leaves a thread behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import resilient_agents.core as core
from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    Hedge,
    Policy,
    PolicyTimeoutError,
    StreamTimeout,
    Timeout,
    deadline,
    remaining,
)
from resilient_agents.strategies import step_limit
from tests.conftest import makes_limiters_anywhere, run_on
from tests.interruptions import interrupt_everywhere

CORE = core.__path__[0]
STEPS = step_limit.__file__
LONG = 60.0

# A loop that is interrupted before it is closed says so when it is collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(loop|socket|Loop):pytest.PytestUnraisableExceptionWarning"
)


def numbers() -> Iterator[int]:
    yield 1
    yield 2


async def async_numbers() -> AsyncIterator[int]:
    yield 1
    yield 2


def limited() -> Policy:
    policy = Policy(StreamTimeout(first_item=LONG, idle=LONG, total=LONG))
    assert list(policy.stream(numbers)) == [1, 2]
    return policy


def unbound(policy: Policy) -> None:
    """Nothing binds this thread any more, and the next stream goes through."""
    assert remaining() is None
    assert list(policy.stream(numbers)) == [1, 2]


def test_an_interrupted_step_of_a_stream_leaves_no_limit() -> None:
    """And what struck comes out as itself, not as the limit."""
    assert interrupt_everywhere(limited, lambda policy: list(policy.stream(numbers)), unbound, inside=STEPS) > 5


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_interrupted_step_of_an_async_stream_leaves_no_limit(runtime: str) -> None:
    """Neither in the context nor, on trio, open around what the task does next; also that of a caller's deadline."""

    async def scenario(policy: Policy) -> None:
        with contextlib.suppress(BaseExceptionGroup):
            async for _ in policy.stream(async_numbers):
                with deadline(LONG / 2):
                    pass
        assert remaining() is None
        await anyio.lowlevel.checkpoint()

    def run(policy: Policy) -> None:
        run_on(runtime, lambda: scenario(policy))

    assert interrupt_everywhere(limited, run, unbound, inside=STEPS) > 5


class Left:
    """A call of which a thread is left behind, behind a bulkhead of one."""

    def __init__(self, *strategies: Any) -> None:
        self.bulkhead = Bulkhead(1, queue=0)
        self.policy = Policy(self.bulkhead, *strategies)
        self.go_on = threading.Event()
        self.running = 0

    def work(self) -> None:
        self.running += 1
        self.go_on.wait(10)
        self.running -= 1

    def run(self) -> None:
        with contextlib.suppress(PolicyTimeoutError):
            self.policy.call(self.work)

    def is_whole(self) -> None:
        """No second call beside the one that still runs, and the slot comes back when that ends."""
        alone = Policy(self.bulkhead)
        if self.running:
            with pytest.raises(BulkheadFullError):
                alone.call(int)
        self.go_on.set()
        for _ in range(5000):
            with contextlib.suppress(BulkheadFullError):
                alone.call(int)
            if self.bulkhead.in_use == 0:
                return
            threading.Event().wait(0.001)
        raise AssertionError("the slot is lost")


@pytest.mark.parametrize(
    ("strategies", "inside"),
    [
        (lambda: [Timeout(0.005, thread=True)], "call.py"),
        (lambda: [Timeout(0.005, thread=True)], "threads.py"),
        (lambda: [Timeout(0.005, thread=False), Hedge(LONG)], "race.py"),
    ],
    ids=["timeout, call", "timeout, threads", "hedge"],
)
def test_a_slot_is_held_as_long_as_its_thread_runs(strategies: Callable[[], list[Any]], inside: str) -> None:
    """Wherever the exception from outside lands, also where the call was about to say that it leaves a thread."""
    assert interrupt_everywhere(lambda: Left(*strategies()), Left.run, Left.is_whole, inside=f"{CORE}/{inside}") > 2


@pytest.mark.skipif(not makes_limiters_anywhere(), reason="this anyio makes a limiter inside an event loop only")
def test_an_interrupted_call_through_a_limiter_of_anyio_gives_its_slot_back() -> None:
    """It is known at once that it has one."""

    async def value() -> int:
        return 1

    def run(policy: Policy) -> None:
        assert run_on("asyncio", lambda: policy.acall(value)) == 1

    import resilient_agents.adapters.native.bulkhead as native

    assert interrupt_everywhere(lambda: Policy(anyio.CapacityLimiter(1)), run, run, inside=native.__file__) > 3


class Entered:
    """A manager that says whether it has been left, which no collection does for it."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.entered = False

    def __enter__(self) -> list[int]:
        self.entered = True
        return [1, 2]

    def __exit__(self, *_: object) -> None:
        self.left.set()


def test_what_a_thread_has_opened_is_left() -> None:
    """Whether its caller was interrupted before or after that."""
    policy, made = Policy(Timeout(LONG, thread=True)), list[Entered]()

    def opens(_: Policy) -> None:
        made.append(Entered())
        with policy.stream(lambda: made[-1]) as stream:
            next(stream)

    def is_left(_: Policy) -> None:
        assert not made[-1].entered or made[-1].left.wait(LONG)

    assert interrupt_everywhere(lambda: policy, opens, is_left, inside=f"{CORE}/threads.py")
