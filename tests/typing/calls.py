"""`call`, `acall` and `stream` take the arguments of what they call, and give back what it gives."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, assert_type

from resilient_agents import Policy
from resilient_agents.events import CallEnded, Event, RetryScheduled

policy = Policy(name="typed")


def plain(number: int, *, text: str = "") -> float:
    return number + len(text)


async def asynchronous(number: int) -> str:
    return str(number)


def undeclared(number: int) -> Awaitable[bytes]:
    raise NotImplementedError


assert_type(policy.call(plain, 1, text="x"), float)
assert_type(policy.call(len, "four"), int)
policy.call(plain, "1")  # type: ignore[arg-type]
policy.call(plain, 1, texts="x")  # type: ignore[call-arg]
policy.call(plain)  # type: ignore[call-arg]
policy.call(3)  # type: ignore[arg-type]


async def use_acall() -> None:
    assert_type(await policy.acall(asynchronous, 1), str)
    assert_type(await policy.acall(undeclared, 1), bytes)
    assert_type(await policy.acall(plain, 1), float)
    await policy.acall(asynchronous, "1")  # type: ignore[call-overload]
    await policy.acall(asynchronous)  # type: ignore[call-overload]


async def use_stream() -> None:
    with policy.stream(range, 3) as stream:
        for item in stream:
            assert_type(item, int)
    async with policy.stream(tokens, 3) as pieces:
        async for piece in pieces:
            assert_type(piece, str)
    async for piece in policy.stream(opening, 3):
        assert_type(piece, str)
    async for anything in policy.stream(untyped):
        assert_type(anything, Any)
    policy.stream(3)  # type: ignore[call-overload]
    policy.stream(tokens, "3")  # type: ignore[call-overload]


async def tokens(count: int) -> AsyncIterator[str]:
    yield "token" * count


async def opening(count: int) -> AsyncIterator[str]:
    return tokens(count)


def untyped() -> Any: ...


def observer(event: Event) -> None:
    assert_type(event.policy, str)
    if isinstance(event, RetryScheduled):
        assert_type(event.delay, float)
    if isinstance(event, CallEnded) and event.failure is not None:
        assert_type(event.failure.retry_after, float | None)


assert_type(policy.observe(observer), Callable[[], None])
assert_type(policy.describe(), dict[str, Any])
assert_type(policy.name, str | None)
policy.observe(3)  # type: ignore[arg-type]
Policy(name=3)  # type: ignore[arg-type]
Policy(idempotent=False, reconcile=lambda order: order)
Policy(idempotent="no")  # type: ignore[arg-type]
Policy(reconcile="find")  # type: ignore[arg-type]
