"""A stream is one call: retried before its first item only, one outcome, held until it closes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import Policy
from resilient_agents.core.call import NEUTRAL, Call, Proceed
from tests.conftest import Harness, run_on


class Holding:
    """A strategy that repeats once, and holds something until the call, or the stream, ends."""

    def __init__(self) -> None:
        self.held = 0
        self.outcomes: list[Any] = []

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        self.held += 1
        kept = False
        result: Any = None
        try:
            for attempt in range(2):
                try:
                    result = await proceed(call)
                    break
                except ConnectionError:
                    if attempt:
                        raise
            if call.closers is not None:
                call.closers.append(self.release)
                kept = True
            return result
        finally:
            if not kept:
                self.release("at once")

    def release(self, outcome: Any) -> None:
        self.held -= 1
        self.outcomes.append(outcome)


class Source:
    """A stream that fails while opening `failures` times, and after `breaks` items."""

    def __init__(self, h: Harness, failures: int = 0, breaks: int | None = None) -> None:
        self.opened = 0
        self.closed = 0
        self.failures, self.breaks = failures, breaks
        self.function: Callable[[], Any] = self.blocking if h.blocking else self.asynchronous

    def _next(self, n: int) -> int:
        if n == 0 and self.opened <= self.failures:
            raise ConnectionError("opening")
        if n == self.breaks:
            raise ConnectionError("broken")
        return n

    def blocking(self) -> Iterator[int]:
        self.opened += 1
        try:
            for n in range(3):
                yield self._next(n)
        finally:
            self.closed += 1

    async def asynchronous(self) -> AsyncIterator[int]:
        self.opened += 1
        try:
            for n in range(3):
                yield self._next(n)
        finally:
            self.closed += 1


@pytest.fixture(params=["decorated", "stream"])
def opening(request: pytest.FixtureRequest) -> Callable[[Policy, Source], Any]:
    """Both ways to guard a stream."""
    if request.param == "decorated":
        return lambda policy, source: policy(source.function)()
    return lambda policy, source: policy.stream(source.function)


async def test_it_is_retried_before_its_first_item(h: Harness, opening: Any) -> None:
    """An opening that fails is repeated; the consumer sees one whole stream."""
    source, holding = Source(h, failures=1), Holding()
    assert await h.items(opening(Policy(holding), source)) == [0, 1, 2]
    assert (source.opened, source.closed, holding.held, holding.outcomes) == (2, 2, 0, [None])


async def test_it_is_not_retried_after_it(h: Harness, opening: Any) -> None:
    """An error after the first item comes out, once, as the outcome of the whole call."""
    source, holding = Source(h, breaks=2), Holding()
    with pytest.raises(ConnectionError, match="broken") as caught:
        await h.items(opening(Policy(holding), source))
    assert (source.opened, source.closed, holding.held) == (1, 1, 0)
    assert holding.outcomes == [caught.value]


async def test_an_opening_that_keeps_failing_comes_out(h: Harness, opening: Any) -> None:
    """Nothing is left held."""
    source, holding = Source(h, failures=9), Holding()
    with pytest.raises(ConnectionError, match="opening"):
        await h.items(opening(Policy(holding), source))
    assert (source.opened, source.closed, holding.outcomes) == (2, 2, ["at once"])


async def test_it_is_held_until_it_closes_and_an_early_close_is_neutral(h: Harness, opening: Any) -> None:
    """Leaving early closes the source and counts neither way."""
    source, holding = Source(h), Holding()
    stream = opening(Policy(holding), source)
    if h.blocking:
        iterator = iter(stream)
        assert next(iterator) == 0
        assert (holding.held, source.closed) == (1, 0)
        iterator.close()
    else:
        aiterator = aiter(stream)
        assert await anext(aiterator) == 0
        assert (holding.held, source.closed) == (1, 0)
        await aiterator.aclose()
    assert (holding.held, source.closed, holding.outcomes) == (0, 1, [NEUTRAL])


async def test_nothing_runs_before_the_first_item_is_asked_for(h: Harness, opening: Any) -> None:
    """Like any generator."""
    source, holding = Source(h), Holding()
    stream = opening(Policy(holding), source)
    assert (source.opened, holding.held) == (0, 0)
    if not h.blocking and hasattr(stream, "aclose"):
        await stream.aclose()


async def test_a_block_closes_it(h: Harness) -> None:
    """`with` and `async with` close the source at the end of the block."""
    source, holding = Source(h), Holding()
    if h.blocking:
        with Policy(holding).stream(source.function) as stream:
            for _ in stream:
                break
    else:
        async with Policy(holding).stream(source.function) as stream:
            async for _ in stream:
                break
    assert (holding.held, source.closed, holding.outcomes) == (0, 1, [NEUTRAL])


def test_generators_forward_send_throw_and_return() -> None:
    """The wrapper is a generator in full."""

    def echo() -> Generator[Any, Any, str]:
        got = yield "first"
        while got != "stop":
            try:
                got = yield got
            except KeyError as error:
                got = yield f"caught {error}"
        return "returned"

    guarded = Policy(Holding())(echo)()
    assert next(guarded) == "first"
    assert guarded.send("a") == "a"
    assert guarded.throw(KeyError("k")) == "caught 'k'"
    assert guarded.send("b") == "b"
    with pytest.raises(StopIteration) as stopped:
        guarded.send("stop")
    assert stopped.value.value == "returned"

    def delegating() -> Generator[Any, Any, str]:
        return (yield from Policy()(echo)())

    outer = delegating()
    next(outer)
    with pytest.raises(StopIteration, match="returned"):
        outer.send("stop")


def test_async_generators_forward_asend_and_athrow() -> None:
    """Likewise."""

    async def echo() -> Any:
        got = yield "first"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = yield f"caught {error}"

    async def main() -> None:
        guarded = Policy(Holding())(echo)()
        assert await anext(guarded) == "first"
        assert await guarded.asend("a") == "a"
        assert await guarded.athrow(KeyError("k")) == "caught 'k'"
        await guarded.aclose()

    run_on("asyncio", main)
    run_on("trio", main)


def test_an_empty_stream_is_a_success() -> None:
    """It has no item and one outcome."""
    holding = Holding()

    def nothing() -> Generator[int, None, str]:
        return "value"
        yield

    guarded = Policy(holding)(nothing)()
    with pytest.raises(StopIteration, match="value"):
        next(guarded)
    assert holding.outcomes == [None]


async def test_what_a_function_returns_is_streamed(h: Harness) -> None:
    """An awaitable of an async iterator (as client libraries return), an iterator, a list."""
    if h.blocking:
        assert list(Policy().stream(lambda: [1, 2])) == [1, 2]
        assert list(Policy().stream(lambda: iter("ab"))) == ["a", "b"]
    else:

        async def items() -> AsyncIterator[int]:
            yield 1
            yield 2

        async def create() -> AsyncIterator[int]:
            return items()

        assert await h.items(Policy().stream(create)) == [1, 2]
        assert await h.items(Policy().stream(items)) == [1, 2]
        assert await h.items(Policy().stream(lambda: [1, 2])) == [1, 2]


async def test_a_function_that_raises_stop_iteration_gives_no_empty_stream(h: Harness) -> None:
    """In place of items it is a mistake, as in a coroutine or a generator."""
    error = StopIteration("none left")

    def function() -> Any:
        raise error

    holding = Holding()
    with pytest.raises(RuntimeError, match="raised StopIteration") as raised:
        await h.items(Policy(holding).stream(function))
    assert raised.value.__cause__ is error
    assert holding.held == 0


def test_for_over_an_async_stream_is_refused_with_the_remedy() -> None:
    """Without a warning that something was never awaited."""

    async def items() -> AsyncIterator[int]:
        yield 1

    async def create() -> Any: ...

    for function in (items, create):
        with pytest.raises(TypeError, match="async for"):
            list(Policy().stream(function))


def test_it_is_one_iterator() -> None:
    """What `break` left can be iterated further; what is over stays over; one stream has one colour."""
    stream = Policy().stream(lambda: [1, 2, 3])
    assert next(stream) == 1
    for item in stream:
        assert item == 2
        break
    assert list(stream) == [3]
    assert list(stream) == []
    with pytest.raises(TypeError, match="both with `for` and with `async for`"):
        aiter(stream)
    unused = Policy().stream(lambda: [1])
    unused.close()
    with pytest.raises(RuntimeError, match="closed before it began"):
        next(unused)


class Connection:
    """Has an iterator that knows nothing of the connection, as responses of HTTP clients do."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2)

    async def __aiter__(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    def close(self) -> None:
        self.closed += 1


class Broken(Connection):
    def close(self) -> None:
        raise OSError("closing")


async def test_the_source_is_closed_with_its_iterator(h: Harness) -> None:
    """At the end, after an early exit, and an error in closing is the outcome unless there was one."""
    for early in (False, True):
        connection = Connection()
        if h.blocking:
            with Policy().stream(lambda c=connection: c) as stream:
                for _ in stream:
                    if early:
                        break
        else:

            async def create(c: Connection = connection) -> Connection:
                return c

            async with Policy().stream(create) as stream:
                async for _ in stream:
                    if early:
                        break
        assert connection.closed == 1
    holding = Holding()
    with pytest.raises(OSError, match="closing"):
        if h.blocking:
            list(Policy(holding).stream(lambda: list[int].__iter__([1]) and Broken()))
        else:
            await h.items(Policy(holding).stream(Broken))
    assert (holding.held, type(holding.outcomes[-1])) == (0, OSError)


async def test_a_plain_block_around_an_async_stream_says_so(h: Harness) -> None:
    """`with` could not close it."""
    if not h.blocking:
        stream = Policy().stream(Connection)
        with pytest.raises(TypeError, match="async with"), stream:
            async for _ in stream:
                break
        await stream.aclose()


def test_every_closer_runs_whatever_another_raises() -> None:
    """A layer whose closing fails takes nothing away from the others; its error comes out."""
    holding = Holding()

    class Failing:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            result = await proceed(call)
            assert call.closers is not None
            call.closers.append(self.fail)
            return result

        def fail(self, outcome: Any) -> None:
            raise LookupError("closer")

    for policy in (Policy(holding, Failing()), Policy(Failing(), holding)):
        with pytest.raises(LookupError, match="closer"):
            list(policy.stream(lambda: [1]))
    assert (holding.held, holding.outcomes) == (0, [None, None])


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_no_cancel_scope_lives_across_a_yield(runtime: str) -> None:
    """A consumer may open and close scopes of its own between items, in any order."""

    async def items() -> AsyncIterator[int]:
        for n in range(3):
            await anyio.sleep(1)
            yield n

    async def main() -> None:
        stream = Policy(Holding())(items)()
        with anyio.CancelScope():
            await anext(stream)
        with anyio.move_on_after(0.5):
            await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]

    run_on(runtime, main)


def test_a_collected_async_stream_gives_back_what_it_held() -> None:
    """Even a consumer that forgets it leaks nothing: the loop closes it."""
    holding = Holding()

    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> None:
        async for _ in Policy(holding)(items)():
            break
        gc.collect()
        await asyncio.sleep(0.01)
        assert holding.held == 0

    asyncio.run(main())
