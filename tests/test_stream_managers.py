"""Streams that come out of a context manager, as those of SDKs and HTTP clients do: `policy.stream` enters it."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx
import pytest

from resilient_agents import Policy, PolicyTimeoutError, Retry, StreamTimeout, Timeout, fixed, opened
from resilient_agents.errors import StreamFailedError
from tests.conftest import Harness, run_on
from tests.sdk_items import message, text_delta


class Items:
    """What an SDK's manager gives: an iterator in one colour, with more to it."""

    def __init__(self, log: list[str], breaks: bool) -> None:
        self._left = [1, 2]
        self.log, self.breaks = log, breaks

    def take(self, end: Exception) -> int:
        if not self._left:
            if self.breaks:
                raise ConnectionError("broke off")
            raise end
        return self._left.pop(0)

    kind = "items"

    def get_final_message(self) -> str:
        return "final"


class BlockingItems(Items):
    def __iter__(self) -> BlockingItems:
        return self

    def __next__(self) -> int:
        return self.take(StopIteration())

    def close(self) -> None:
        self.log.append("closed")


class AsyncItems(Items):
    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> int:
        return self.take(StopAsyncIteration())

    async def close(self) -> None:
        self.log.append("closed")


class Client:
    """Its `stream` makes no request; entering what it returns does. The first `failures` are refused."""

    def __init__(self, h: Harness, failures: int = 0, *, breaks: bool = False) -> None:
        self.h, self.failures, self.breaks = h, failures, breaks
        self.log: list[str] = []
        self.seen: list[BaseException | None] = []

    def request(self) -> None:
        self.log.append("entered")
        if self.log.count("entered") <= self.failures:
            raise ConnectionError

    def left(self, error: BaseException | None) -> None:
        self.log.append("left")
        self.seen.append(error)

    def stream(self) -> Any:
        client = self

        class Manager:
            def __enter__(self) -> Items:
                client.request()
                return BlockingItems(client.log, client.breaks)

            def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
                client.left(error)

        class AsyncManager:
            async def __aenter__(self) -> Items:
                client.request()
                return AsyncItems(client.log, client.breaks)

            async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
                client.left(error)

        return Manager() if self.h.blocking else AsyncManager()


async def test_entering_is_part_of_the_call(h: Harness) -> None:
    """It is retried, and what was entered is left when the stream ends."""
    client = Client(h, failures=2)
    assert await h.items(Policy(Retry(3, wait=fixed(1))).stream(client.stream)) == [1, 2]
    assert client.log == ["entered"] * 3 + ["closed", "left"]


async def test_an_early_close_leaves_it(h: Harness) -> None:
    """Without an error: the consumer had enough."""
    client = Client(h)
    if h.blocking:
        with Policy().stream(client.stream) as stream:
            assert next(stream) == 1
    else:
        async with Policy().stream(client.stream) as stream:
            assert await anext(stream) == 1
    assert client.log == ["entered", "closed", "left"]
    assert client.seen == [None]


async def test_it_is_told_of_the_error_that_ends_the_stream(h: Harness) -> None:
    """As a `with` block would tell it."""
    client = Client(h, breaks=True)
    with pytest.raises(ConnectionError) as raised:
        await h.items(Policy().stream(client.stream))
    assert client.seen == [raised.value]


async def test_a_first_item_that_fails_leaves_it_before_the_next_attempt(h: Harness) -> None:
    """Each attempt has a manager of its own."""
    entered: list[str] = []

    @contextlib.contextmanager
    def blocking() -> Iterator[Any]:
        entered.append("in")
        try:
            yield broken()
        finally:
            entered.append("out")

    @contextlib.asynccontextmanager
    async def asynchronous() -> AsyncIterator[Any]:
        entered.append("in")
        try:
            yield broken()
        finally:
            entered.append("out")

    def broken() -> Iterator[int]:
        if len(entered) < 3:
            raise ConnectionError
        yield 1

    stream = Policy(Retry(3, wait=fixed(0))).stream(blocking if h.blocking else asynchronous)
    assert await h.items(stream) == [1]
    assert entered == ["in", "out"] * 2


async def test_what_it_gives_has_its_attributes(h: Harness) -> None:
    """`get_final_message` of an SDK's stream, also after its end; there are none before the first item."""
    stream = Policy().stream(Client(h).stream)
    with pytest.raises(AttributeError, match=r"no 'kind' before its first item"):
        _ = stream.kind
    await h.items(stream)
    assert stream.kind == "items"
    assert not hasattr(stream, "elsewhere")
    assert not any(hasattr(stream, name) for name in vars(Items([], False)) if name.startswith("_"))


@pytest.mark.parametrize("begun", [False, True])
async def test_what_speaks_of_the_whole_reads_it_first(h: Harness, begun: bool) -> None:
    """Through the policy, from wherever the reading is; also where nothing has been read."""
    client = Client(h, failures=1)
    stream = Policy(Retry(2, wait=fixed(1))).stream(client.stream)
    if begun:
        assert (next(stream) if h.blocking else await anext(stream)) == 1
    final = stream.get_final_message()
    assert (final if h.blocking else await final) == "final"
    assert client.log == ["entered", "entered", "closed", "left"]
    assert await h.items(stream) == []


async def test_closed_before_it_began_there_is_no_whole(h: Harness) -> None:
    """The error says so."""
    stream = Policy().stream(Client(h).stream)
    await stream.aclose()
    with pytest.raises(RuntimeError, match="was closed before it began"):
        _ = stream.get_final_message() if h.blocking else await stream.get_final_message()


@pytest.mark.parametrize("breaks", [False, True], ids=["closed", "failed"])
async def test_of_a_part_there_is_no_whole(h: Harness, breaks: bool) -> None:
    """What an SDK puts together of a stream that was closed or failed before its end is not handed out as its whole."""
    stream = Policy().stream(Client(h, breaks=breaks).stream)
    if breaks:
        with pytest.raises(ConnectionError):
            await h.items(stream)
    else:
        _ = next(stream) if h.blocking else await anext(stream)
        await stream.aclose()
    with pytest.raises(RuntimeError, match=r"before its end: 'get_final_message' would give a part of it"):
        _ = stream.get_final_message() if h.blocking else await stream.get_final_message()


async def test_text_alone(h: Harness) -> None:
    """`text_stream` gives what the items of known kinds add, without a second read of the original's own."""
    items = [message("message_start"), text_delta("to "), text_delta("be"), message("message_stop")]
    for given, expected in [(items, ["to ", "be"]), (["a", "", "b"], ["a", "b"]), ([], [])]:
        stream = Policy(StreamTimeout()).stream(iter if h.blocking else asynchronous_items, given)
        assert await h.items(stream.text_stream) == expected


async def test_text_of_items_that_nobody_knows_is_refused(h: Harness) -> None:
    """Rather than to be nothing."""
    stream = Policy().stream(iter if h.blocking else asynchronous_items, [1, 2])
    with pytest.raises(TypeError, match="text_stream knows nothing of the items of .*, which are of int: iterate"):
        await h.items(stream.text_stream)


async def asynchronous_items(items: list[Any]) -> AsyncIterator[Any]:
    for one in items:
        yield one


def test_a_plain_answer_has_no_attributes_to_lend() -> None:
    """It is the only item, and belongs to whoever took it."""
    stream = Policy().stream(lambda: 7)
    assert list(stream) == [7]
    assert not hasattr(stream, "real")


async def test_the_stream_of_an_http_client_is_entered(h: Harness) -> None:
    """httpx gives a response, which is the only item; it stays open until the stream closes."""
    tries: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        tries.append(1)
        if len(tries) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text="body")

    policy = Policy(Retry(3, wait=fixed(0)))
    response: Any = None
    if h.blocking:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            for response in policy.stream(client.stream, "GET", "http://service/"):
                assert response.read() == b"body"
            assert response.is_closed
    else:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as async_client:
            async for response in policy.stream(async_client.stream, "GET", "http://service/"):
                assert await response.aread() == b"body"
            assert response.is_closed


def test_a_manager_for_async_code_is_refused_by_a_plain_loop() -> None:
    """It cannot be entered there."""

    class Manager:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    with pytest.raises(TypeError, match="iterate it with `async for`"):
        list(Policy().stream(Manager))


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_async_code_may_stream_what_a_plain_manager_gives(runtime: str) -> None:
    """It is entered as it is."""
    left: list[int] = []

    @contextlib.contextmanager
    def manager() -> Iterator[list[int]]:
        yield [1, 2]
        left.append(1)

    async def main() -> list[int]:
        return [item async for item in Policy().stream(manager)]

    assert run_on(runtime, main) == [1, 2]
    assert left == [1]


class Answer:
    """A response that is its own manager, without a method that judges its status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.left: list[object] = []

    def __enter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.left.append(kind)

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.left.append(kind)

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2)

    async def __aiter__(self) -> AsyncIterator[int]:
        for item in self:
            yield item


async def test_what_the_manager_gives_is_iterated_unless_items_says_otherwise(h: Harness) -> None:
    """Both may be of either kind, and the function that returns the manager may have to be awaited."""

    async def late(status: int) -> Answer:
        return Answer(status)

    for function in (Answer,) if h.blocking else (Answer, late):
        assert await h.items(Policy().stream(opened(function), 200)) == [1, 2]
        assert await h.items(Policy().stream(opened(function, items=lambda answer: Answer(answer.status)), 200)) == [
            1,
            2,
        ]


async def test_a_stream_of_either_kind_is_read_as_it_was_begun(h: Harness) -> None:
    """One object that is its own iterator in both, as LiteLLM's is."""

    class Either:
        def __init__(self) -> None:
            self.left = [("blocking", "async")] * 2

        def __iter__(self) -> Self:
            return self

        __aiter__ = __iter__

        def __next__(self) -> str:
            if not self.left:
                raise StopIteration
            return self.left.pop()[0]

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()[1]

    assert await h.items(Policy().stream(Either)) == ["blocking" if h.blocking else "async"] * 2


async def test_a_manager_of_either_kind_is_left_as_it_was_entered(h: Harness) -> None:
    """Once, at the end of its stream, and not by a collection that would tell it of another end."""
    answer = Answer(200)
    assert await h.items(Policy().stream(opened(lambda: answer))) == [1, 2]
    assert answer.left == [None]


async def test_an_answer_of_400_or_more_is_no_stream(h: Harness) -> None:
    """Also where it cannot judge that itself."""
    assert await h.items(Policy().stream(opened(Answer), 399)) == [1, 2]
    with pytest.raises(StreamFailedError, match="refused with status 400") as raised:
        await h.items(Policy().stream(opened(Answer), 400))
    assert raised.value.status_code == 400


async def test_what_opened_cannot_use_is_refused(h: Harness) -> None:
    """What cannot be called at once, what gives no manager, or nothing to iterate, when it is called."""
    with pytest.raises(TypeError, match="fn must be callable, got int"):
        opened(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="items must be callable, got str"):
        opened(Answer, items="lines")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="return a context manager, .*list.* returned list"):
        await h.items(Policy().stream(opened(list)))

    async def late(answer: Answer) -> Answer:
        return answer

    for items, kind in ((lambda answer: answer.__iter__, "method"), (late, "coroutine")):
        with pytest.raises(TypeError, match=rf"items= of opened\(.*Answer\) must return .* iterated, got {kind}"):
            await h.items(Policy().stream(opened(Answer, items=items), 200))


def test_a_stream_that_a_thread_opens_too_late_is_closed() -> None:
    """Its manager is left, by the thread that came too late, as blocking code leaves one."""
    go_on, left = threading.Event(), threading.Event()

    class Late:  # which no collection leaves
        def __enter__(self) -> list[int]:
            go_on.wait(10)
            return [1]

        def __exit__(self, *_: object) -> None:
            left.set()

        async def __aenter__(self) -> list[int]:
            raise NotImplementedError

        async def __aexit__(self, *_: object) -> None: ...

    with pytest.raises(PolicyTimeoutError):
        list(Policy(Timeout(0.01, thread=True)).stream(Late))
    assert not left.is_set()
    go_on.set()
    assert left.wait(10)


def test_a_begun_stream_that_is_dropped_is_no_garbage_cycle() -> None:
    """It closes at once, not at the next collection."""
    closed: list[float] = []

    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(time.monotonic())

    gc.disable()
    try:
        stream = Policy().stream(numbers)
        next(stream)
        del stream
        assert closed
    finally:
        gc.enable()
