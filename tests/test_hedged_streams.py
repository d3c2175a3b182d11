"""A Hedge around a stream races to the first item, and the winner goes on where it is read."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib.metadata
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Policy,
    Resume,
    Retry,
    StreamTimeout,
    StreamTimeoutError,
    fixed,
)
from resilient_agents.events import AttemptEnded, AttemptStarted, CallEnded, HedgeStarted
from tests.conftest import Events, run_on
from tests.sdk_items import message, text_delta

LOOPS = ["asyncio", "trio"]
PATIENCE = 10.0


class Source:
    """Its nth stream waits as long before each item as `waits[n]` says, then an error or an item comes."""

    def __init__(self, *waits: list[tuple[float, Any]]) -> None:
        self.waits = waits
        self.opened = self.closed = 0
        self.readers: list[int] = []

    async def stream(self) -> AsyncIterator[Any]:
        number = self.opened
        self.opened += 1
        try:
            for seconds, item in self.waits[number]:
                await anyio.sleep(seconds)
                if isinstance(item, Exception):
                    raise item
                self.readers.append(anyio.get_current_task().id)
                yield item
        finally:
            self.closed += 1


def in_use(policy: Policy) -> list[int]:
    return [layer["in_use"] for layer in policy.describe()["strategies"] if "in_use" in layer]


@pytest.mark.parametrize("runtime", LOOPS)
def test_the_first_item_decides(runtime: str) -> None:
    """A stream whose first item is late is overtaken; it is closed, and what it held inside is free at once, while
    the winner holds its own to its end."""
    source = Source([(9, "slow")], [(1, "a"), (1, "b")])
    policy = Policy(Bulkhead(5), Hedge(2), Bulkhead(2))
    seen = Events()
    policy.observe(seen)

    async def scenario() -> None:
        found = []
        async for item in policy.stream(source.stream):
            found.append(item)
            assert (in_use(policy), source.closed) == ([1, 1], 1)
        assert found == ["a", "b"]
        assert source.readers[1] == anyio.get_current_task().id

    run_on(runtime, scenario)
    assert (in_use(policy), source.opened, source.closed) == ([0, 0], 2, 2)
    assert [event.hedge for event in seen.of(HedgeStarted)] == [1]
    assert [event.hedge for event in seen.of(AttemptStarted)] == [0, 1]
    assert [event.outcome for event in seen.of(AttemptEnded, CallEnded)] == ["cancelled", "success", "success"]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_preamble_decides_nothing(runtime: str) -> None:
    """With a StreamTimeout inside, the race is for the first item that means something, which comes after its
    preamble."""
    begin, *rest = message("message_start"), text_delta("hello"), message("message_stop")
    source = Source([(0, begin), (9, rest[0])], [(2, begin), *((1, item) for item in rest)])
    policy = Policy(Hedge(1), StreamTimeout(idle=5))

    async def scenario() -> None:
        assert [item async for item in policy.stream(source.stream)] == [begin, *rest]

    run_on(runtime, scenario)
    assert source.closed == 2


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_stall_of_the_winner_is_the_streams_end(runtime: str) -> None:
    """After its first item a stream is hedged no more; limits and breakers inside see its end."""
    source = Source([(9, "slow")], [(1, "a"), (9, "b")])
    breaker = CircuitBreaker(failures=1)
    policy = Policy(Retry(3, wait=fixed(0)), Hedge(2), breaker, StreamTimeout(idle=3))

    async def scenario() -> None:
        with pytest.raises(StreamTimeoutError):
            assert [item async for item in policy.stream(source.stream)] == ["a"]

    run_on(runtime, scenario)
    assert (breaker.state, source.opened, source.closed) == ("open", 2, 2)


@pytest.mark.parametrize("runtime", LOOPS)
def test_one_that_fails_is_hedged_at_once(runtime: str) -> None:
    """A transient error before the first item starts the next request; when all fail, the first error comes out."""
    first, second = ConnectionError("first"), ConnectionError("second")
    source = Source([(0, first)], [(1, "a")], [(0, first)], [(0, second)])

    async def scenario() -> None:
        assert [item async for item in Policy(Hedge(5)).stream(source.stream)] == ["a"]
        with pytest.raises(ConnectionError, match="first"):
            [item async for item in Policy(Hedge(5)).stream(source.stream)]

    run_on(runtime, scenario)
    assert source.opened == source.closed == 4


@pytest.mark.parametrize("runtime", LOOPS)
def test_resume_goes_on_with_a_race(runtime: str) -> None:
    """Each part of a stream that is gone on with is a race of its own."""
    source = Source([(9, 0)], [(1, 1), (1, ConnectionError())], [(9, 0)], [(1, 2)])
    policy = Policy(Resume(lambda items: source.stream()), Hedge(2), Bulkhead(2))

    async def scenario() -> None:
        assert [item async for item in policy.stream(source.stream)] == [1, 2]

    run_on(runtime, scenario)
    assert (source.opened, source.closed, in_use(policy)) == (4, 4, [0])


@pytest.mark.parametrize("runtime", LOOPS)
@pytest.mark.parametrize("after", [0.5, 2.5])
def test_cancelled_in_the_midst_it_leaves_nothing(runtime: str, after: float) -> None:
    """Whether cancelled during the race or after it, all streams are closed and all slots free."""
    source = Source([(9, 0)], [(1, 1), (9, 2)])
    policy = Policy(Bulkhead(1), Hedge(1), Bulkhead(2))

    async def scenario() -> None:
        with anyio.move_on_after(after):
            async with policy.stream(source.stream) as stream:
                [item async for item in stream]
        assert (in_use(policy), source.closed) == ([0, 0], source.opened)

    run_on(runtime, scenario)
    assert source.opened == (1 if after < 1 else 2)


# --- what cannot be moved ---------------------------------------------------------------------------------------------

OLD_TRIO = tuple(map(int, importlib.metadata.version("trio").split(".")[:2])) < (0, 23)
setting: contextvars.ContextVar[str] = contextvars.ContextVar("setting")


class Held:
    """Generators that hold something of the task in which they began."""

    def __init__(self) -> None:
        self.closed = 0

    async def scope(self) -> AsyncIterator[int]:
        try:
            with anyio.move_on_after(5):
                yield 1
        finally:
            self.closed += 1

    async def group(self) -> AsyncIterator[int]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 100)
                yield 1
        finally:
            self.closed += 1

    async def token(self) -> AsyncIterator[int]:
        token = setting.set("mine")
        try:
            yield 1
        finally:
            setting.reset(token)
            self.closed += 1

    async def timeout(self) -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(5):
                yield 1
        finally:
            self.closed += 1

    async def inner_timeout(self) -> AsyncIterator[int]:
        async with contextlib.aclosing(self.timeout()) as items:
            async for item in items:
                yield item

    def object_with_a_timeout(self) -> AsyncIterator[int]:
        return _Reads(self.timeout())


class _Reads:
    """An iterator that is no generator, and reads one."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __aiter__(self) -> _Reads:
        return self

    async def __anext__(self) -> int:
        item: int = await anext(self._items)
        return item

    async def aclose(self) -> None:
        await self._items.aclose()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("scope", "a cancel scope or a task group"),
        ("group", "a cancel scope or a task group"),
        ("token", "the context variable 'setting' set"),
        ("timeout", "an asyncio.Timeout"),
        ("inner_timeout", "an asyncio.Timeout"),
        ("object_with_a_timeout", "an asyncio.Timeout"),
    ],
)
@pytest.mark.parametrize("runtime", LOOPS)
def test_one_that_belongs_to_its_task_is_refused(runtime: str, kind: str, reason: str) -> None:
    """It is closed where it was opened, and the error says what it holds."""
    if kind.endswith("timeout") and runtime == "trio":
        pytest.skip("asyncio.timeout is of asyncio")
    if runtime == "trio" and kind == "group" and OLD_TRIO:
        pytest.skip("before trio 0.23 a group that is closed raises the cancellations of its tasks")
    held = Held()
    breaker = CircuitBreaker(failures=1)

    async def scenario() -> None:
        with pytest.raises(TypeError, match=f"cannot be hedged: it holds {reason}"):
            [item async for item in Policy(Hedge(1), breaker).stream(getattr(held, kind))]
        with anyio.CancelScope():  # what the task has entered is in order
            await anyio.lowlevel.checkpoint()

    run_on(runtime, scenario)
    assert (held.closed, breaker.state) == (1, "closed")


def test_what_a_client_holds_deeper_than_its_stream_belongs_to_no_task() -> None:
    """A client that has a time limit of its own somewhere is no reason to refuse its streams."""

    class Client:
        def __init__(self) -> None:
            self.limit = asyncio.timeout(None)

    async def scenario() -> None:
        items = _Reads(Source([(0.0, 1), (0.0, 2)]).stream())
        items.client = Client()  # type: ignore[attr-defined]
        assert [item async for item in Policy(Hedge(1)).stream(lambda: items)] == [1, 2]

    run_on("asyncio", scenario)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_in_blocking_code_the_race_is_one_of_threads() -> None:
    """The winner is read on by the thread that called; a loser is closed when its thread ends, and frees its slot."""
    go_on, closed = threading.Event(), threading.Semaphore(0)
    numbers = iter(range(2))

    def stream() -> Iterator[Any]:
        number = next(numbers)
        try:
            if not number:
                go_on.wait(PATIENCE)
            yield number
            yield threading.current_thread()
        finally:
            closed.release()

    policy = Policy(Bulkhead(5), Hedge(0.001), Bulkhead(2))
    assert list(policy.stream(stream)) == [1, threading.current_thread()]
    assert closed.acquire(timeout=PATIENCE)
    go_on.set()
    assert closed.acquire(timeout=PATIENCE)
    while in_use(policy) != [0, 0]:
        threading.Event().wait(0.001)


def test_a_blocking_stream_that_holds_a_token_is_refused() -> None:
    """A token is of the context of the thread that opened the stream."""

    def stream() -> Iterator[int]:
        token = setting.set("mine")
        try:
            yield 1
        finally:
            setting.reset(token)

    with pytest.raises(TypeError, match="the context variable 'setting' set"):
        list(Policy(Hedge(1)).stream(stream))


def test_an_async_stream_in_a_plain_loop_is_refused_with_the_remedy() -> None:
    """As without a Hedge."""
    with pytest.raises(TypeError, match="iterate it with `async for`"):
        list(Policy(Hedge(1)).stream(Source([(0, 1)]).stream))


def test_one_that_is_dropped_is_no_garbage_cycle() -> None:
    """A hedged stream that was begun and dropped is freed without the collector, closed and all."""
    closed = []

    def stream() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    policy = Policy(Hedge(1), Bulkhead(1))
    gc.disable()
    try:
        begun = policy.stream(stream)
        assert next(begun) == 1
        del begun
        assert (closed, in_use(policy)) == ([True], [0])
    finally:
        gc.enable()
