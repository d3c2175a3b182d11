"""What is left of a deadline goes out with a request, and a request's deadline is entered where it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from resilient_agents import DeadlineExceeded, Policy, Retry, Timeout, deadline, remaining
from resilient_agents.integrations.answers import out_of_time
from resilient_agents.integrations.deadlines import (
    DeadlineMiddleware,
    grpc_timeout,
    limit_requests,
    limit_requests_async,
    time_left,
    timedelta_left,
)
from tests.conftest import ManualClock

# ------------------------------------------------------------------------------------------------------------------ out


def test_what_is_left_is_the_least_of_all(manual_clock: ManualClock) -> None:
    """Of the deadline and of a limit of one's own; None where there is neither."""
    assert (time_left(), timedelta_left()) == (None, None)
    assert (time_left(3), timedelta_left(timedelta(minutes=1))) == (3.0, timedelta(minutes=1))
    with deadline(10):
        manual_clock.now += 4
        assert (time_left(), time_left(8), time_left(2)) == (6.0, 6.0, 2.0)
        assert timedelta_left(8) == timedelta(seconds=6)
        manual_clock.now += 7
        assert (time_left(), timedelta_left()) == (0.0, timedelta(0))
    with pytest.raises(ValueError, match="at_most must be at least 0 seconds, got -1"):
        time_left(-1)


def ask(client: httpx.Client) -> None:
    client.get("http://x/")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("header", "value"), [("grpc-timeout", "2500000u"), ("x-request-timeout", "2.500000")])
def test_requests_of_httpx_are_limited(
    header: str, value: str, manual_clock: ManualClock, *, asynchronous: bool
) -> None:
    """Each step to what is left, and the server is told."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    options: Any = {"transport": httpx.MockTransport(answer), "timeout": httpx.Timeout(9, connect=1)}
    client = httpx.Client(**options, event_hooks={"request": [limit_requests(header)]})
    async_client = httpx.AsyncClient(**options, event_hooks={"request": [limit_requests_async(header)]})

    async def get() -> None:
        await async_client.get("http://x/") if asynchronous else ask(client)

    async def main() -> None:
        await get()
        with deadline(2.5):
            await get()
            manual_clock.now += 3
            with pytest.raises(DeadlineExceeded, match="no time is left"):
                await get()

    asyncio.run(main())
    client.close()
    without, within = seen
    assert without.extensions["timeout"] == {"connect": 1, "read": 9, "write": 9, "pool": 9}
    assert header not in without.headers
    assert within.extensions["timeout"] == {"connect": 1, "read": 2.5, "write": 2.5, "pool": 2.5}
    assert within.headers[header] == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5S", 5), ("250m", 0.25), ("1H", 3600), ("2M", 120), ("7u", 7e-6), ("9n", 9e-9), ("", None), ("5", None),
     ("5s", None), ("-5S", None), ("123456789S", None), ("1.5S", None), ("\u0665S", None)],
)  # fmt: skip
def test_grpc_s_spelling(text: str, seconds: float | None) -> None:
    """At most eight digits and a unit."""
    assert grpc_timeout(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("seconds", [1e-6, 0.0123456789, 5, 3600, 10**6, 10**12])
def test_what_is_told_is_never_more_than_what_is_left(seconds: float, manual_clock: ManualClock) -> None:
    """Rounded down, in eight digits."""
    request = httpx.Request("GET", "http://x/")
    with deadline(seconds):
        limit_requests("grpc-timeout")(request)
    told = grpc_timeout(request.headers["grpc-timeout"])
    assert told is not None
    assert told <= max(seconds, 1e-6)
    assert told >= min(seconds, 99999999) * 0.99


# ------------------------------------------------------------------------------------------------------------- in: ASGI


async def served(app: Any, *headers: tuple[str, str]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    found = [(name.encode(), value.encode()) for name, value in headers]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/", "headers": found}, receive, send)
    return sent


def left_inside(found: list[float | None]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(remaining())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize(
    ("options", "headers", "left"),
    [
        ({}, [("grpc-timeout", "5S")], 5.0),
        ({}, [], None),
        ({}, [("grpc-timeout", "soon")], None),
        ({"at_most": 3}, [("grpc-timeout", "5S")], 3.0),
        ({"at_most": timedelta(seconds=3)}, [], 3.0),
        ({"header": "X-Request-Timeout"}, [("x-request-timeout", "0.5")], 0.5),
        ({"header": "x-request-timeout"}, [("x-request-timeout", "nan")], None),
        ({"header": "x-request-timeout"}, [("x-request-timeout", "inf")], None),
        ({"header": "x-request-timeout"}, [("grpc-timeout", "5S")], None),
    ],
)
def test_a_request_is_handled_under_its_deadline(
    options: dict[str, Any], headers: list[tuple[str, str]], left: float | None, manual_clock: ManualClock
) -> None:
    """By the header of one's choice, and no longer than the server allows."""
    found: list[float | None] = []
    asyncio.run(served(DeadlineMiddleware(left_inside(found), **options), *headers))
    assert found == [left]
    assert remaining() is None


@pytest.mark.parametrize("value", ["0S", "0n"])
def test_a_request_that_comes_too_late_is_answered(value: str) -> None:
    """504, and the application is not asked."""
    found: list[float | None] = []
    sent = asyncio.run(served(DeadlineMiddleware(left_inside(found)), ("grpc-timeout", value)))
    assert sent[0]["status"] == 504
    assert found == []


def test_a_policy_that_runs_into_it_is_a_504() -> None:
    """Unless the response has begun: then the server hears of it."""
    policy = Policy(Retry(3))

    def app(*, begins: bool, tasks: bool = False) -> Any:
        async def asked(scope: Any, receive: Any, send: Any) -> None:
            if begins:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            if tasks:
                async with asyncio.TaskGroup() as group:
                    for _ in range(2):
                        group.create_task(policy.acall(asyncio.sleep, 30))
            await policy.acall(asyncio.sleep, 30)

        return asked

    for tasks in (False, True):
        sent = asyncio.run(served(DeadlineMiddleware(app(begins=False, tasks=tasks)), ("grpc-timeout", "20m")))
        assert sent[0]["status"] == 504
    with pytest.raises(DeadlineExceeded):
        asyncio.run(served(DeadlineMiddleware(app(begins=True)), ("grpc-timeout", "20m")))


def test_other_connections_and_other_errors_pass() -> None:
    """A lifespan has no headers, and an error of the application is its own."""

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        assert remaining() is None

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("mine")

    async def both(scope: Any, receive: Any, send: Any) -> None:
        raise ExceptionGroup("both", [KeyError("mine"), DeadlineExceeded("late")])

    asyncio.run(DeadlineMiddleware(lifespan)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="mine"):
        asyncio.run(served(DeadlineMiddleware(broken), ("grpc-timeout", "5S")))
    with pytest.raises(ExceptionGroup, match="both"):
        asyncio.run(served(DeadlineMiddleware(both), ("grpc-timeout", "5S")))
    with pytest.raises(ValueError, match="at_most must be more than 0 seconds"):
        DeadlineMiddleware(lifespan, at_most=0)


# ------------------------------------------------------------------------------------------------------------- in: gRPC


def found_left() -> bytes:
    left = remaining()
    return b"none" if left is None else f"{left:.3f}".encode()


def answer(request: bytes, context: Any) -> bytes:
    if request == b"late":
        Policy(Timeout(60, thread=True)).call(time.sleep, 2)
    return found_left()


def items(request: bytes, context: Any) -> Iterator[bytes]:
    for _ in range(2):
        yield found_left()


async def async_answer(request: bytes, context: Any) -> bytes:
    if request == b"late":
        async with asyncio.TaskGroup() as group:
            group.create_task(Policy(Retry(2)).acall(asyncio.sleep, 5))
    return found_left()


async def async_items(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(2):
        yield found_left()


def handlers(grpc: Any, one: Any, many: Any) -> Any:
    made = {"One": grpc.unary_unary_rpc_method_handler(one), "Many": grpc.unary_stream_rpc_method_handler(many)}
    return grpc.method_handlers_generic_handler("s", made)


def test_a_grpc_server_enters_its_callers_deadline() -> None:
    """For single answers and streams; what runs into it is DEADLINE_EXCEEDED."""
    grpc = pytest.importorskip("grpc")
    from resilient_agents.integrations.grpc import DeadlineInterceptor

    server = grpc.server(ThreadPoolExecutor(2), interceptors=[DeadlineInterceptor()])
    server.add_generic_rpc_handlers([handlers(grpc, answer, items)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            one, many = channel.unary_unary("/s/One"), channel.unary_stream("/s/Many")
            assert one(b"") == b"none"
            with deadline(20):
                lefts = [one(b"", timeout=time_left()), *many(b"", timeout=time_left())]
            assert all(10 < float(left) < 21 for left in lefts)
            with pytest.raises(grpc.RpcError) as caught:
                one(b"late", timeout=0.3)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/s/None")(b"")
    finally:
        server.stop(0).wait()


def test_an_async_grpc_server_too() -> None:
    """The same of grpc.aio."""
    grpc = pytest.importorskip("grpc")
    from resilient_agents.integrations.grpc import AsyncDeadlineInterceptor

    async def main() -> None:
        server = grpc.aio.server(interceptors=[AsyncDeadlineInterceptor()])
        server.add_generic_rpc_handlers([handlers(grpc, async_answer, async_items)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            one, many = channel.unary_unary("/s/One"), channel.unary_stream("/s/Many")
            assert await one(b"") == b"none"
            lefts = [await one(b"", timeout=20), *[left async for left in many(b"", timeout=20)]]
            assert all(10 < float(left) < 21 for left in lefts)
            with pytest.raises(grpc.RpcError) as caught:
                await one(b"late", timeout=0.3)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await server.stop(0)

    asyncio.run(main())


def test_a_deadline_is_found_however_deep_groups_are_nested() -> None:
    """The first one, if there is nothing else."""
    first = DeadlineExceeded("late")
    deep: Exception = ExceptionGroup("g", [first, DeadlineExceeded("later")])
    for _ in range(2000):
        deep = ExceptionGroup("g", [deep])
    found = out_of_time(deep)
    assert found is first
    assert out_of_time(ExceptionGroup("g", [first, KeyError()])) is None
