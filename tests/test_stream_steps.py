"""Between two items: the caller's deadline holds for every step, and a stream can be closed while it is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import DeadlineExceeded, Policy, PolicyTimeoutError, StreamTimeout, Timeout, deadline, remaining
from resilient_agents.core.call import NEUTRAL
from resilient_agents.deadline import in_force
from resilient_agents.events import CallEnded
from tests.conftest import Events, Harness, run_on
from tests.test_streams import Holding
from tests.virtual_time import CHOSEN


class Paced:
    """A stream of 0, 1, 2 ... that takes `pauses[n]` seconds for item n, and remembers how it ended."""

    def __init__(self, h: Harness, *pauses: float) -> None:
        self.h, self.pauses = h, pauses
        self.closed = 0
        self.function: Callable[[], Any] = self.blocking if h.blocking else self.asynchronous

    def blocking(self) -> Iterator[int]:
        try:
            for n, pause in enumerate(self.pauses):
                with contextlib.suppress(StopIteration):
                    self.h.sleep(pause).send(None)
                yield n
        finally:
            self.closed += 1

    async def asynchronous(self) -> AsyncIterator[int]:
        try:
            for n, pause in enumerate(self.pauses):
                await anyio.sleep(pause)
                yield n
        finally:
            self.closed += 1


async def collect(h: Harness, stream: Any, into: list[Any], pause: float = 0.0) -> list[Any]:
    """Read it to its end, with so many seconds between two items."""
    if h.blocking:
        for item in stream:
            into.append(item)
            await h.sleep(pause)
    else:
        async for item in stream:
            into.append(item)
            await h.sleep(pause)
    return into


@pytest.fixture(params=["decorated", "stream"])
def opening(request: pytest.FixtureRequest) -> Callable[[Policy, Paced], Any]:
    """Both ways to guard a stream."""
    if request.param == "decorated":
        return lambda policy, source: policy(source.function)()
    return lambda policy, source: policy.stream(source.function)


async def test_the_callers_deadline_ends_a_stream_that_stalls(h: Harness, opening: Any) -> None:
    """Async code is cut off at it; blocking code hands out the item that came too late, and nothing more."""
    source, holding, seen = Paced(h, 1, 1, 60, 1), Holding(), list[int]()
    began = h.now()
    with deadline(5), pytest.raises(DeadlineExceeded, match="deadline of 5 s") as raised:
        await collect(h, opening(Policy(holding), source), seen)
    assert seen == ([0, 1, 2] if h.blocking else [0, 1])
    assert h.now() - began == (62 if h.blocking else 5)
    assert (source.closed, holding.held, holding.outcomes) == (1, 0, [raised.value])


async def test_it_counts_the_consumers_time_too(h: Harness, opening: Any) -> None:
    """It is the caller's own."""
    source, seen = Paced(h, *[1] * 9), list[int]()
    with deadline(5), pytest.raises(DeadlineExceeded):
        await collect(h, opening(Policy(), source), seen, pause=1)
    assert (seen, source.closed) == ([0, 1, 2] if h.blocking else [0, 1], 1)


async def test_a_deadline_that_has_ended_binds_no_step(h: Harness, opening: Any) -> None:
    """It ends with its block."""
    source, seen = Paced(h, 1, 9, 9), list[int]()
    stream = opening(Policy(), source)
    with deadline(5):
        seen.append(next(iter(stream)) if h.blocking else await anext(aiter(stream)))
    assert await collect(h, stream, seen) == [0, 1, 2]


async def test_a_deadline_costs_a_long_stream_no_more_for_each_item(h: Harness, opening: Any) -> None:
    """Nor does the way of an item become longer."""
    source, seen = Paced(h, *[0] * 1200), list[int]()
    with deadline(99):
        assert len(await collect(h, opening(Policy(), source), seen)) == 1200


async def test_nothing_marks_the_consumers_context_between_two_items(h: Harness, opening: Any) -> None:
    """What limits a step is over when the consumer has its item."""
    stream = opening(Policy(StreamTimeout(idle=99)), Paced(h, 1, 1, 1))
    for _ in range(3):
        _ = next(stream) if h.blocking else await anext(stream)
        assert in_force() is None
    await stream.aclose() if hasattr(stream, "aclose") else stream.close()


class _Plain:
    """An iterator that is no generator."""

    def __init__(self, items: Iterator[int]) -> None:
        self._items = items

    def __iter__(self) -> _Plain:
        return self

    def __next__(self) -> int:
        return next(self._items)


@pytest.mark.parametrize("strategies", [(), (StreamTimeout(idle=99),)], ids=["bare", "limited"])
@pytest.mark.parametrize("plain", [False, True], ids=["generator", "iterator"])
def test_one_that_begins_in_the_midst_of_a_blocking_stream_holds(strategies: tuple[Any, ...], plain: bool) -> None:
    """For the steps in its block, whatever is read: what came too late is handed out, then the stream ends."""
    h = Harness("blocking")

    async def main() -> None:
        source = Paced(h, *[1] * 4, 60, 1).function
        stream = Policy(*strategies).stream((lambda: _Plain(source())) if plain else source)
        assert [next(stream), next(stream)] == [0, 1]
        with deadline(5):
            assert next(stream) == 2
        with deadline(5):
            assert [next(stream), next(stream)] == [3, 4]
            with pytest.raises(DeadlineExceeded):
                next(stream)

    run_on("blocking", main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_one_that_begins_in_the_midst_of_an_async_stream_holds(runtime: str) -> None:
    """For the steps in its block."""
    h = Harness(runtime)

    async def main() -> None:
        stream = Policy()(Paced(h, 1, 1, 60).function)()
        assert await anext(stream) == 0
        with deadline(5):
            assert await anext(stream) == 1
            with pytest.raises(DeadlineExceeded):
                await anext(stream)

    run_on(runtime, main)


async def test_the_generator_sees_the_deadline(h: Harness) -> None:
    """In every step: what it calls can keep to it."""
    left: list[float | None] = []

    def blocking() -> Iterator[int]:
        for n in range(3):
            left.append(remaining())
            yield n

    async def asynchronous() -> AsyncIterator[int]:
        for n in range(3):
            left.append(remaining())
            yield n

    with deadline(5):
        await collect(h, Policy().stream(blocking if h.blocking else asynchronous), [], pause=1)
    assert left == [5, 4, 3]
    assert remaining() is None


async def test_a_timeout_around_the_consumer_keeps_its_own_error(h: Harness) -> None:
    """In async code it is the one who cuts off, and the stream inside is closed and neutral; in blocking code there is
    no step after its time."""
    source, holding = Paced(h, 1, 60, 1), Holding()
    errors: list[type] = []
    seen: list[int] = []

    async def consumer() -> None:
        try:
            await collect(h, Policy(holding).stream(source.function), seen)
        except Exception as error:
            errors.append(type(error))
            raise

    with pytest.raises(PolicyTimeoutError, match="longer than its limit of 5 s|deadline of 5 s"):
        await h.call(Policy(Timeout(5)), consumer)
    assert (len(seen), source.closed) == ((2, 1) if h.blocking else (1, 1))
    if not h.blocking:
        assert (errors, holding.outcomes) == ([], [NEUTRAL])


async def test_watchers_hear_of_the_deadline(h: Harness) -> None:
    """As of one that ends a call, and the call fails."""
    events, policy = Events(), Policy(name="watched")
    policy.observe(events)
    with deadline(5), pytest.raises(DeadlineExceeded):
        await collect(h, policy.stream(Paced(h, 1, 60, 1).function), [])
    assert [type(event).__name__ for event in events][-3:] == ["TimeoutExpired", "AttemptEnded", "CallEnded"]


class Stuck:
    """An async stream that gives one item and waits for ever, by itself or somewhere inside."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.closed = 0

    async def items(self) -> AsyncIterator[int]:
        try:
            yield 0
            if self.depth:
                await asyncio.gather(anyio.sleep(1000)) if self.depth > 1 else await self.inside()
            await anyio.sleep_forever()
        finally:
            self.closed += 1

    async def inside(self) -> None:
        async for _ in self.further():
            pass

    async def further(self) -> AsyncIterator[int]:
        await anyio.sleep_forever()
        yield 1


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("inner", [False, True], ids=["plain", "through another generator"])
def test_closing_it_from_another_task_ends_the_read(runtime: str, depth: int, inner: bool) -> None:
    """The iteration of whoever reads ends, all is released, and the outcome is neutral."""
    source, holding, seen = Stuck(depth), Holding(), list[int]()

    async def through(stream: Any) -> AsyncIterator[int]:
        async for item in stream:
            yield item

    async def reads(stream: Any) -> None:
        async for item in through(stream) if inner else stream:
            seen.append(item)
        seen.append(-1)

    async def main() -> None:
        stream = Policy(holding).stream(source.items)
        async with anyio.create_task_group() as group:
            group.start_soon(reads, stream)
            await anyio.sleep(1)
            await stream.aclose()
            assert (source.closed, holding.held) == (1, 0)
            await anyio.sleep(1)
            assert seen == [0, -1]
        assert holding.outcomes == [NEUTRAL]

    run_on(runtime, main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_source_that_takes_a_cancellation_for_itself_cannot_keep_it_open(runtime: str, goes_on: bool) -> None:
    """An item that it gives instead is handed out, and the step after it ends; the reader is not left cancelled."""
    holding, seen = Holding(), list[int]()

    async def items() -> AsyncIterator[int]:
        yield 0
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            pass
        if goes_on:
            yield 1
            await anyio.sleep_forever()

    async def reads(stream: Any) -> None:
        async for item in stream:
            seen.append(item)
        seen.append(asyncio.current_task().cancelling() if runtime == "asyncio" else 0)  # type: ignore[union-attr]

    async def main() -> None:
        stream = Policy(holding).stream(items)
        async with anyio.create_task_group() as group:
            group.start_soon(reads, stream)
            await anyio.sleep(1)
            with anyio.fail_after(1):
                await stream.aclose()
        assert seen == ([0, 1, 0] if goes_on else [0, 0])
        assert (holding.held, holding.outcomes) == (0, [NEUTRAL])

    run_on(runtime, main)


def test_a_source_that_takes_its_time_to_end_is_asked_once() -> None:
    """What it has to clean up is not cut short."""
    cleaned: list[float] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            cleaned.append(asyncio.get_running_loop().time())

    async def main() -> None:
        stream = Policy().stream(items)
        task = asyncio.create_task(by_anext(aiter(stream)))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await stream.aclose()
        await task
        assert cleaned == [pytest.approx(began + 1)]

    run_on("asyncio", main)


async def by_anext(items: AsyncIterator[int]) -> None:
    while await anext(items, None) is not None:
        pass


async def by_wait_for(items: AsyncIterator[int]) -> None:
    with contextlib.suppress(StopAsyncIteration):
        while True:
            await asyncio.wait_for(anext(items), 99)


async def beside_another(items: AsyncIterator[int]) -> None:
    another = Stuck(0).items()
    async for _ in items:
        pass
    await another.aclose()


@pytest.mark.parametrize("reads", [by_anext, by_wait_for, beside_another])
def test_who_reads_it_is_found(reads: Callable[[Any], Any]) -> None:
    """However it waits for the next item, and whatever else it has to read."""

    async def reader(items: Any) -> None:
        another = Stuck(0).items()
        await reads(items)
        await another.aclose()

    async def main() -> None:
        stream = Policy().stream(Stuck(0).items)
        task = asyncio.create_task(reader(aiter(stream)))
        await asyncio.sleep(1)
        await stream.aclose()
        await task

    run_on("asyncio", main)


class Unseen:
    """Waits for an item, and shows nothing of that."""

    def __init__(self, items: AsyncIterator[int]) -> None:
        self._step = anext(items).__await__()

    def __await__(self) -> Unseen:
        return self

    def __next__(self) -> Any:
        return next(self._step)

    def throw(self, error: BaseException) -> Any:
        return self._step.throw(error)


def test_who_reads_it_unseen_keeps_it_open() -> None:
    """Whoever would close it is told so at once."""

    async def reader(items: Any) -> None:
        await anext(items)
        await Unseen(items)  # type: ignore[misc]

    async def main() -> None:
        stream = Policy().stream(Stuck(0).items)
        task = asyncio.create_task(reader(aiter(stream)))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="cannot be closed from inside"):
            await stream.aclose()
        task.cancel()
        await asyncio.wait([task])
        await stream.aclose()

    run_on("asyncio", main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_closing_it_while_it_opens_ends_that_too(runtime: str) -> None:
    """Before the first item."""
    holding, seen = Holding(), list[int]()

    async def items() -> AsyncIterator[int]:
        await anyio.sleep_forever()
        yield 0

    async def reads(stream: Any) -> None:
        seen.extend([item async for item in stream])
        seen.append(-1)

    async def main() -> None:
        stream = Policy(holding).stream(items)
        async with anyio.create_task_group() as group:
            group.start_soon(reads, stream)
            await anyio.sleep(1)
            await stream.aclose()
        assert (seen, holding.held) == ([-1], 0)
        with pytest.raises(RuntimeError, match="was closed before its first item"):
            await stream.get_final_message()

    run_on(runtime, main)


def test_a_cancellation_beside_it_stands() -> None:
    """Whoever cancels the reading task in the same moment is heard."""

    async def main() -> None:
        stream = Policy().stream(Stuck(0).items)

        async def reads() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(reads())
        await asyncio.sleep(1)
        closing = asyncio.create_task(stream.aclose())
        if CHOSEN != "eager":  # where it has begun already
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closing

    run_on("asyncio", main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_step_cannot_close_the_stream_that_it_is_of(runtime: str) -> None:
    """It would wait for itself."""
    streams: list[Any] = []

    async def items() -> AsyncIterator[int]:
        yield 0
        await streams[0].aclose()

    async def main() -> None:
        streams.append(Policy().stream(items))
        with pytest.raises(RuntimeError, match="from inside the step"):
            await collect(Harness(runtime), streams[0], [])
        streams.clear()

    run_on(runtime, main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_step_that_is_told_to_end_cannot_close_its_stream_either(runtime: str) -> None:
    """The wish of whoever else closes it is heard all the same, and the reading task goes on."""
    streams: list[Any] = []
    refused: list[RuntimeError] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 0
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await streams[0].aclose()
                except RuntimeError as error:
                    refused.append(error)

    async def main() -> None:
        streams.append(Policy().stream(items))
        read: list[int] = []

        async def reads() -> None:
            await collect(Harness(runtime), streams[0], read)
            read.append(1)

        async with anyio.create_task_group() as group:
            group.start_soon(reads)
            await anyio.sleep(1)
            await streams[0].aclose()
        assert (read, len(refused)) == ([0, 1], 1)
        streams.clear()

    run_on(runtime, main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_who_closes_a_stream_that_is_being_closed_waits_for_that(runtime: str) -> None:
    """The source's own end is not cut short, and the task that closes first is not cancelled."""
    seen: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 0
        finally:
            await anyio.sleep(3)
            seen.append("left")

    async def main() -> None:
        stream = Policy().stream(items)

        async def reads() -> None:
            await anext(stream)
            await stream.aclose()
            seen.append("closed")

        async with anyio.create_task_group() as group:
            group.start_soon(reads)
            await anyio.sleep(1)
            await stream.aclose()
            assert seen[:1] == ["left"]
        assert sorted(seen) == ["closed", "left"]

    run_on(runtime, main)


async def test_watchers_hear_how_a_stream_went(h: Harness) -> None:
    """At its end: the consumer's own time is in no gap."""
    events, policy = Events(), Policy(name="watched")
    policy.observe(events)
    await collect(h, policy.stream(Paced(h, 2, 1, 3).function), [], pause=10)
    ended = events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.first_item, ended.items, ended.longest_gap, ended.parts) == (2, 3, 3, 1)
    await h.call(policy, h.sleep, 1)
    assert isinstance(events[-1], CallEnded)
    assert events[-1].items is None


@pytest.mark.parametrize("strategies", [[StreamTimeout(idle=1)], []], ids=["a limit", "a deadline"])
def test_an_item_that_was_given_in_place_of_a_cancellation_leaves_none_behind(strategies: list[Any]) -> None:
    """The generator took the end of its time for something else: the task that reads it is not half cancelled."""

    async def stubborn() -> AsyncIterator[int]:
        yield 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield 1

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with deadline(5) if not strategies else contextlib.nullcontext():
            stream = Policy(*strategies).stream(stubborn)
            assert [await anext(stream), await anext(stream)] == [0, 1]
        assert task.cancelling() == 0
        await stream.aclose()

    run_on("asyncio", main)
