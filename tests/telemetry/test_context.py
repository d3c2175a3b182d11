"""What is current where: streams, tasks, threads, and calls that begin in one context and end in another."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import anyio
import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import INVALID_SPAN, get_current_span, set_span_in_context

from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import fixed
from resilient_agents.core.call import Call, Proceed
from resilient_agents.policy import Policy
from tests.conftest import run_on
from tests.interruptions import interrupt_everywhere
from tests.telemetry.conftest import Sdk, identity, parent_of


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Any:
    """Run a coroutine function on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


def policy() -> Policy:
    return Policy(Retry(3, wait=fixed(0.01)), name="p")


def outcome(sdk: Sdk) -> object:
    return (sdk.operation.attributes or {})["resilient_agents.outcome"]


# --------------------------------------------------------------------------------------------------- blocking streams


def test_nothing_is_current_in_the_consumer_of_a_generator(sdk: Sdk) -> None:
    """Between two items the consumer's own context is current; inside the generator the attempt is."""

    def numbers() -> Iterator[int]:
        for n in range(3):
            with sdk.tracer.start_as_current_span(f"inside {n}"):
                pass
            yield n

    guarded = policy()(numbers)
    with sdk.tracer.start_as_current_span("request") as request:
        for n in guarded():
            assert get_current_span() is request
            with sdk.tracer.start_as_current_span(f"outside {n}"):
                pass
        assert get_current_span() is request
    assert [parent_of(sdk.span(f"inside {n}"), sdk.spans) for n in range(3)] == ["attempt 1"] * 3
    assert [parent_of(sdk.span(f"outside {n}"), sdk.spans) for n in range(3)] == ["request"] * 3
    assert outcome(sdk) == "success"


def test_a_generator_closed_early_ends_its_spans(sdk: Sdk) -> None:
    """Closing a stream early is neutral, and leaves nothing current."""

    def numbers() -> Iterator[int]:
        yield from range(10)

    stream = policy()(numbers)()
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    assert get_current_span() is INVALID_SPAN
    assert outcome(sdk) == "cancelled"


def test_a_generator_may_be_collected(sdk: Sdk) -> None:
    """A stream that nobody closes ends its spans when it is collected, in whatever context that happens."""

    def numbers() -> Iterator[int]:
        yield from range(10)

    def use() -> None:
        stream = policy()(numbers)()
        assert next(stream) == 0

    with sdk.tracer.start_as_current_span("request") as request:
        contextvars.copy_context().run(use)
        gc.collect()
        assert get_current_span() is request
    assert outcome(sdk) == "cancelled"


def test_a_generator_may_move_between_threads(sdk: Sdk) -> None:
    """A stream begun in one thread and ended in another leaves nothing current in either."""

    def numbers() -> Iterator[int]:
        yield from range(3)

    stream = policy()(numbers)()
    assert next(stream) == 0
    left: list[object] = []

    def rest() -> None:
        left.extend(stream)
        left.append(get_current_span())

    thread = threading.Thread(target=rest)
    thread.start()
    thread.join()
    assert left == [1, 2, INVALID_SPAN]
    assert outcome(sdk) == "success"


def test_a_span_that_the_generator_keeps_across_a_yield_is_not_seen_outside(sdk: Sdk) -> None:
    """A generator that yields inside its own span finds that span again, and its consumer does not see it."""

    def numbers() -> Iterator[int]:
        with sdk.tracer.start_as_current_span("mine") as mine:
            yield 1
            assert get_current_span() is mine
            yield 2

    for _ in policy()(numbers)():
        assert get_current_span() is INVALID_SPAN
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"


# ------------------------------------------------------------------------------------------------------ async streams


async def tokens() -> AsyncIterator[int]:
    for n in range(3):
        await anyio.sleep(0.01)
        yield n


def test_nothing_is_current_in_the_consumer_of_an_async_generator(sdk: Sdk, loop: Any) -> None:
    """Between two items the consumer's own context is current."""

    async def scenario() -> None:
        with sdk.tracer.start_as_current_span("request") as request:
            async for _ in policy()(tokens)():
                assert get_current_span() is request
                await anyio.sleep(0.01)
                assert get_current_span() is request
            assert get_current_span() is request

    loop(scenario)
    assert parent_of(sdk.operation, sdk.spans) == "request"
    assert outcome(sdk) == "success"


def test_an_async_generator_may_be_closed_by_another_task(sdk: Sdk, loop: Any) -> None:
    """`aclose` in another task, under another span, ends the spans and leaves that task's span current."""

    async def scenario() -> None:
        stream = policy()(tokens)()
        assert await anext(stream) == 0

        async def close() -> None:
            with sdk.tracer.start_as_current_span("other") as other:
                await stream.aclose()  # type: ignore[attr-defined]
                assert get_current_span() is other

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
        assert get_current_span() is INVALID_SPAN

    loop(scenario)
    assert outcome(sdk) == "cancelled"
    assert parent_of(sdk.operation, sdk.spans) is None


def test_each_item_may_be_asked_for_by_another_task(sdk: Sdk, loop: Any) -> None:
    """A stream whose items are taken by one task each is still one operation, and leaves nothing behind."""

    async def scenario() -> None:
        stream = policy()(tokens)()
        taken: list[int] = []

        async def take() -> None:
            async for item in stream:
                taken.append(item)
                break
            assert get_current_span() is INVALID_SPAN

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
        await stream.aclose()  # type: ignore[attr-defined]
        assert taken == [0, 1, 2]

    loop(scenario)
    assert len(sdk.spans) == 2


def test_an_async_generator_may_be_collected(sdk: Sdk) -> None:
    """One that nobody closes is finished by the loop, in a task of the loop's."""

    async def scenario() -> None:
        async def use() -> None:
            stream = policy()(tokens)()
            assert await anext(stream) == 0

        await asyncio.create_task(use())
        gc.collect()
        await asyncio.sleep(0.05)
        assert get_current_span() is INVALID_SPAN

    asyncio.run(scenario())
    assert outcome(sdk) == "cancelled"


def test_a_cancelled_stream_ends_its_spans(sdk: Sdk, loop: Any) -> None:
    """A consumer cancelled while it waits for an item ends the operation as cancelled."""

    async def scenario() -> None:
        with anyio.move_on_after(0.015):
            async for _ in policy()(tokens)():
                pass
        assert get_current_span() is INVALID_SPAN

    loop(scenario)
    assert outcome(sdk) == "cancelled"


# --------------------------------------------------------------------------------------------------- tasks and threads


def test_concurrent_calls_do_not_see_each_other(sdk: Sdk, loop: Any) -> None:
    """Twenty calls at once make twenty separate trees."""

    async def work(n: int) -> None:
        await anyio.sleep(0.01 * (n % 3))
        with sdk.tracer.start_as_current_span(f"mine {n}"):
            await anyio.sleep(0.01)

    guarded = policy()(work)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(guarded, n)

    loop(scenario)
    by_id = {identity(span).span_id: span for span in sdk.spans}
    for n in range(20):
        mine = sdk.span(f"mine {n}")
        assert mine.parent is not None
        attempt = by_id[mine.parent.span_id]
        assert attempt.name == "attempt 1"
        below = [span for span in sdk.spans if span.parent and span.parent.span_id == identity(attempt).span_id]
        assert len(below) == 1
    assert len({identity(span).trace_id for span in sdk.spans}) == 20


def test_a_worker_thread_sees_the_attempt(sdk: Sdk) -> None:
    """With `thread=True` the function runs elsewhere, and its spans nest under the attempt all the same."""

    def work() -> int:
        with sdk.tracer.start_as_current_span("mine"):
            return threading.get_ident()

    assert Policy(Retry(2), Timeout(60, thread=True), name="p").call(work) != threading.get_ident()
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"
    assert get_current_span() is INVALID_SPAN


def test_a_worker_left_behind_does_not_disturb(sdk: Sdk) -> None:
    """A call whose worker outlives its limit ends its spans at the limit; the late worker's span has its parent."""
    go = threading.Event()
    ended = threading.Event()

    def work() -> None:
        with sdk.tracer.start_as_current_span("mine"):
            go.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        Policy(Timeout(0.01, thread=True), name="p").call(work)
    assert (sdk.operation.attributes or {})["error.type"] == "timeout"
    go.set()
    assert ended.wait(10)
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"


# ---------------------------------------------------------------------------- begun blocking, gone on as an awaitable


def undeclared(sdk: Sdk) -> Any:
    async def answer() -> str:
        await asyncio.sleep(0)
        with sdk.tracer.start_as_current_span("mine"):
            return "ok"

    return lambda: answer()


def test_an_awaitable_that_came_out_leaves_the_caller_alone(sdk: Sdk) -> None:
    """A call that goes on as an awaitable is not current in its caller while it is not awaited."""

    async def scenario() -> None:
        guarded = policy()(undeclared(sdk))
        with sdk.tracer.start_as_current_span("request") as request:
            awaitable = guarded()
            assert get_current_span() is request
            with sdk.tracer.start_as_current_span("meanwhile"):
                pass
            assert await awaitable == "ok"
            assert get_current_span() is request

    asyncio.run(scenario())
    assert parent_of(sdk.span("meanwhile"), sdk.spans) == "request"
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"
    assert parent_of(sdk.operation, sdk.spans) == "request"


def test_an_awaitable_may_end_in_another_task(sdk: Sdk) -> None:
    """One that began in this task and is awaited by another leaves nothing current in either."""

    async def scenario() -> None:
        guarded = policy()(undeclared(sdk))
        task = asyncio.create_task(guarded())
        assert get_current_span() is INVALID_SPAN
        assert await task == "ok"
        assert get_current_span() is INVALID_SPAN

    asyncio.run(scenario())
    assert outcome(sdk) == "success"
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"


def test_an_awaitable_that_fails_is_retried_in_its_context(sdk: Sdk) -> None:
    """The attempts after the first are made where the awaitable is awaited, and each nests under its own span."""
    made: list[int] = []

    async def answer() -> str:
        made.append(1)
        with sdk.tracer.start_as_current_span(f"mine {len(made)}"):
            await asyncio.sleep(0)
            if len(made) < 3:
                raise ConnectionError
            return "ok"

    async def scenario() -> None:
        guarded = policy()(lambda: answer())
        assert await asyncio.create_task(guarded()) == "ok"
        assert get_current_span() is INVALID_SPAN

    asyncio.run(scenario())
    assert len(sdk.attempts) == 3
    for n, attempt in enumerate(sdk.attempts, 1):
        mine = sdk.span(f"mine {n}")
        assert mine.parent is not None
        assert mine.parent.span_id == identity(attempt).span_id


def test_an_awaitable_that_nobody_awaits_ends_its_spans(sdk: Sdk) -> None:
    """One that is thrown away ends as cancelled."""

    async def scenario() -> None:
        guarded = policy()(undeclared(sdk))
        awaitable = guarded()
        awaitable.close()
        del awaitable
        gc.collect()
        assert get_current_span() is INVALID_SPAN

    asyncio.run(scenario())
    assert outcome(sdk) == "cancelled"


# ------------------------------------------------------------------------------------------------ what the user leaves


def test_a_span_that_the_function_leaves_current_stays(sdk: Sdk) -> None:
    """A function that makes a span current and leaves it does what it does unguarded: it is current afterwards."""
    left = sdk.tracer.start_span("left")
    before = context.get_current()

    def work() -> None:
        context.attach(set_span_in_context(left))

    policy().call(work)
    assert get_current_span() is left
    left.end()
    context.attach(before)


def test_a_span_that_an_attempt_leaves_current_adopts_no_other_attempt(sdk: Sdk) -> None:
    """Attempts are children of their operation, whatever the attempt before left current."""
    before = context.get_current()
    left = sdk.tracer.start_span("left")
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            context.attach(set_span_in_context(left))
            raise ConnectionError

    policy().call(work)
    left.end()
    assert [parent_of(span, sdk.spans) for span in sdk.attempts] == ["policy p", "policy p"]
    context.attach(before)


def test_what_a_hook_attached_before_the_attempt_reaches_it(sdk: Sdk) -> None:
    """Baggage set by a `before` hook of the retry is there in the function."""
    seen: list[object] = []
    before = context.get_current()
    hooked = Policy(
        Retry(2, before=lambda state: context.attach(baggage.set_baggage("k", state.attempt_number))), name="p"
    )
    hooked.call(lambda: seen.append(baggage.get_baggage("k")))
    assert seen == [1]
    assert parent_of(sdk.attempts[0], sdk.spans) == "policy p"
    context.attach(before)


# --------------------------------------------------------------------------------------- exceptions from the outside


def down() -> None:
    raise ConnectionError


def broken() -> Iterator[int]:
    yield 1
    raise ConnectionError


WAYS: list[Callable[[Policy], Any]] = [
    lambda policy: policy.call(int),
    lambda policy: policy.call(down),
    lambda policy: list(policy.stream(broken)),
    lambda policy: run_on("asyncio", lambda: policy.acall(down)),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS, ids=["call", "failing call", "stream", "async"])
def test_no_span_stays_current_when_a_call_is_interrupted(sdk: Sdk, way: Callable[[Policy], Any]) -> None:
    """Wherever an exception from outside strikes: what the thread does next is no part of that call."""

    def make() -> Policy:
        policy = Policy(Retry(2, wait=fixed(0)))
        policy.call(int)
        return policy

    def run(policy: Policy) -> None:
        with contextlib.suppress(ConnectionError):
            way(policy)

    def check(policy: Policy) -> None:
        assert get_current_span() is INVALID_SPAN

    assert interrupt_everywhere(make, run, check) > 50


class GivesUp(BaseException):
    """What no layer takes for an error of its own."""


def give_up(_: object) -> NoReturn:
    raise GivesUp


class Breaks:
    """A strategy whose end is interrupted."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        result = await proceed(call)
        assert call.closers is not None
        call.closers.append(give_up)
        return result


def test_no_span_stays_current_when_the_end_of_an_async_stream_is_interrupted(sdk: Sdk, loop: Any) -> None:
    """Whatever kept the operation from its own end."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def scenario() -> None:
        with pytest.raises(GivesUp):
            async for _ in Policy(Breaks()).stream(numbers):
                pass
        assert get_current_span() is INVALID_SPAN

    loop(scenario)
