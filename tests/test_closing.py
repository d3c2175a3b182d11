"""Results that a strategy throws away are closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import tenacity

from resilient_agents import (
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    Policy,
    PolicyTimeoutError,
    Retry,
    Timeout,
    deadline,
    fixed,
)
from tests.conftest import Harness, run_on


class Response:
    """The shape of requests', urllib3's and httpx's answers."""

    def __init__(self, status: Any = 503, *, asynchronous: bool = False, fails: bool = False) -> None:
        self.status_code = status
        self.closed = 0
        self.asynchronous, self.fails = asynchronous, fails

    def close(self) -> None:
        if self.fails or self.asynchronous:  # as httpx's asynchronous ones say
            raise RuntimeError("attempted to call a sync close on an async stream")
        self.closed += 1

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self.fails or not self.asynchronous:
            raise RuntimeError("attempted to call an async close on a sync stream")
        self.closed += 1


class Job:
    """Something of the user's own that is polled."""

    def __init__(self, status: Any) -> None:
        self.status = status
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def bad(result: Any) -> bool:
    return not isinstance(result, Response) or bool(result.status_code == 503)


def making(results: list[Any], make: Any) -> Any:
    async def function() -> Any:
        results.append(make())
        return results[-1]

    return function


def test_a_call_that_is_collected_awaits_nothing() -> None:
    """What it was about to throw away cannot be closed any more, and it ends all the same."""
    made: list[Response] = []

    async def main() -> None:
        retry = Retry(2, when=bad, wait=fixed(60))
        calling = Policy(retry).acall(making(made, lambda: Response(asynchronous=True)))
        calling.send(None)
        calling.close()

    run_on("asyncio", main)
    assert [response.closed for response in made] == [0]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_retry_closes_all_but_the_last(h: Harness, asynchronous: bool) -> None:
    """A pool of two connections would be dry after the second attempt. The last result is the caller's."""
    made: list[Response] = []
    function = making(made, lambda: Response(asynchronous=asynchronous and not h.blocking))
    last = await h.call(Policy(Retry(3, when=bad, wait=fixed(1))), function)
    assert [response.closed for response in made] == [1, 1, 0]
    assert last is made[-1]


async def test_it_is_closed_before_the_next_attempt(h: Harness) -> None:
    """The next one may need its connection; until then it might still be what comes out."""
    made: list[Response] = []
    open_at_attempts: list[int] = []

    async def function() -> Response:
        open_at_attempts.append(sum(not response.closed for response in made))
        made.append(Response())
        return made[-1]

    await h.call(Policy(Retry(3, when=bad, wait=fixed(1))), function)
    assert open_at_attempts == [0, 0, 0]


@pytest.mark.parametrize("make", ["instead", Response, None])
async def test_what_a_native_retry_answers_otherwise_is_closed(h: Harness, make: Any) -> None:
    """Its callback has seen the last result, and nobody gets it; also where the callback fails."""
    made: list[Response] = []

    def callback(state: tenacity.RetryCallState) -> Any:
        assert state.outcome is not None
        assert state.outcome.result().closed == 0
        if make is None:
            raise ValueError
        return make() if callable(make) else make

    native: dict[str, Any] = {
        "retry": tenacity.retry_if_result(bad),
        "stop": tenacity.stop_after_attempt(2),
        "retry_error_callback": callback,
    }
    policy = Policy(tenacity.Retrying(**native) if h.blocking else tenacity.AsyncRetrying(**native))
    try:
        answer = await h.call(policy, making(made, Response))
        assert not isinstance(answer, Response) or answer.closed == 0
    except ValueError:
        assert make is None
    assert [response.closed for response in made] == [1, 1]


@pytest.mark.parametrize("handed_out", [lambda last: last, lambda last: (last, "instead"), lambda last: iter([last])])
async def test_what_the_callback_of_a_native_retry_hands_out_stays_open(h: Harness, handed_out: Any) -> None:
    """The last result itself, or in something that may hold it."""
    made: list[Response] = []

    def callback(state: tenacity.RetryCallState) -> Any:
        assert state.outcome is not None
        return handed_out(state.outcome.result())

    native = tenacity.Retrying(
        retry=tenacity.retry_if_result(bad), stop=tenacity.stop_after_attempt(2), retry_error_callback=callback
    )
    await h.call(Policy(native), making(made, Response))
    assert [response.closed for response in made] == [1, 0]


async def test_a_fallback_closes_what_it_replaces_before_its_handler_runs(h: Harness) -> None:
    """The handler may need its connection."""
    made: list[Response] = []
    handler = lambda error: made[0].closed  # noqa: E731
    assert await h.call(Policy(Fallback(handler, when=bad)), making(made, Response)) == 1


@pytest.mark.parametrize("status", ["running", True, 7, None])
async def test_an_object_of_the_users_own_is_left_alone(h: Harness, status: Any) -> None:
    """A job that is polled may be the same one each time, and has no HTTP status."""
    job = Job(status)

    async def function() -> Job:
        return job

    await h.call(Policy(Fallback(value=0, when=bad), Retry(2, when=bad, wait=fixed(0))), function)
    assert job.closed == 0


@pytest.mark.parametrize(("status", "closed"), [(99, 0), (100, 1), (599, 1), (600, 0)])
def test_what_has_a_status_of_http_is_a_response(status: int, closed: int) -> None:
    """From 100 to 599; any other number is the user's own."""
    made: list[Response] = []

    def function() -> Response:
        made.append(Response(status))
        return made[-1]

    Policy(Retry(2, when=lambda _: True, wait=fixed(0))).call(function)
    assert [response.closed for response in made] == [closed, 0]


class OnlyCloses:
    """The shape of urllib's answers: nothing to await."""

    status = 503

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class OnlyAwaits:
    """An asynchronous client's, whose `close` is a coroutine function."""

    status = 503
    closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("kind", [OnlyCloses, OnlyAwaits])
async def test_one_way_to_close_is_enough(h: Harness, kind: type[OnlyCloses | OnlyAwaits]) -> None:
    """Blocking code cannot await one: it is left to itself, without a warning of a coroutine that nobody awaited."""
    made: list[OnlyCloses | OnlyAwaits] = []
    await h.call(Policy(Retry(2, when=lambda _: True, wait=fixed(0))), making(made, kind))
    assert [response.closed for response in made] == [0 if h.blocking and kind is OnlyAwaits else 1, 0]


async def test_one_that_cannot_be_closed_harms_nobody(h: Harness) -> None:
    """What closing raises, or reading its attributes, does not reach the caller."""

    class Hostile:
        @property
        def status_code(self) -> int:
            raise RuntimeError("read it first")

    for make in (lambda: Response(fails=True), Hostile):
        made: list[Any] = []
        last = await h.call(Policy(Retry(2, when=lambda _: True, wait=fixed(0))), making(made, make))
        assert last is made[1]


async def test_a_stream_of_a_policy_inside_is_closed(h: Harness) -> None:
    """It is ours, and holds what the inner policy holds for it."""
    closed: list[int] = []

    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    async def function() -> Any:
        stream = Policy().stream(numbers)
        await (h.items(zip(stream, [0], strict=False)) if h.blocking else anext(stream))
        return stream

    await h.call(Policy(Fallback(value=0, when=lambda _: True)), function)
    assert closed == [1]


async def test_a_call_that_ends_in_the_midst_of_a_wait_closes_its_last_result(h: Harness) -> None:
    """Nobody gets that result."""
    if h.blocking:
        return
    made: list[Response] = []
    policy = Policy(Retry(3, when=bad, wait=fixed(5)))
    with anyio.move_on_after(0.5):
        await policy.acall(making(made, lambda: Response(asynchronous=True)))
    assert [response.closed for response in made] == [1]


class Slow(Response):
    """One that takes its time to close, which a cancellation cuts short for the first time."""

    async def aclose(self) -> None:
        await anyio.sleep(1)
        self.closed += 1


async def test_a_deadline_in_the_midst_of_closing_loses_no_result_and_counts_no_attempt(h: Harness) -> None:
    """It is closed all the same, and the attempt that was to follow has not begun."""
    if h.blocking:
        return
    made: list[Response] = []
    begun: list[float] = []

    async def function() -> Any:
        begun.append(h.now())
        await anyio.sleep(0.1)
        made.append(Slow())
        return made[-1]

    policy = Policy(retry := Retry(5, when=bad, wait=fixed(0.1)))
    with pytest.raises(DeadlineExceeded), deadline(0.5):
        await policy.acall(function)
    assert [response.closed for response in made] == [1]
    assert retry.metrics()["attempts"] == len(begun)


async def test_a_hook_that_raises_closes_the_last_result(h: Harness) -> None:
    """The hook's error comes out in its place."""
    made: list[Response] = []

    def hook(_: Any) -> None:
        raise ValueError("hook")

    with pytest.raises(ValueError, match="hook"):
        await h.call(Policy(Retry(3, when=bad, wait=fixed(1), before_sleep=hook)), making(made, Response))
    assert [response.closed for response in made] == [1]


def confused(_: Any) -> bool:
    raise ValueError("when")


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: Retry(3, when=confused),
        lambda: Retry(3, when=tenacity.retry_if_result(confused)),
        lambda: tenacity.AsyncRetrying(retry=tenacity.retry_if_result(confused)),
        lambda: Fallback(value=0, when=confused),
        lambda: CircuitBreaker(when=confused),
    ],
)
async def test_a_predicate_that_raises_closes_what_it_was_asked_about(h: Harness, strategy: Any) -> None:
    """Its error comes out in the place of the result, which nobody gets."""
    for asynchronous in {False, not h.blocking}:
        made: list[Response] = []
        with pytest.raises(ValueError, match="when"):
            await h.call(Policy(strategy()), making(made, lambda kind=asynchronous: Response(asynchronous=kind)))
        assert [response.closed for response in made] == [1]


async def test_a_predicate_that_raises_about_an_answer_of_another_closes_that(h: Harness) -> None:
    """Of those who stand in, too, nobody gets it; what it would have replaced is closed as well."""
    made: list[Response] = []
    judge = lambda result: True if len(made) == 1 else confused(result)  # noqa: E731
    fallback = Fallback(to=[h.fn(making(made, Response))], when=judge)
    with pytest.raises(ValueError, match="when"):
        await h.call(Policy(fallback), making(made, Response))
    assert [response.closed for response in made] == [1, 1]


def test_a_response_that_comes_too_late_from_a_thread_is_closed() -> None:
    """Nobody gets it; what is no response is left alone."""
    for late, closed in ((Response(200), 1), (Job("done"), 0)):
        go = threading.Event()

        def work(late: Any = late, go: threading.Event = go) -> Any:
            assert go.wait(30)
            return late

        timeout = Timeout(0.01, thread=True)
        with pytest.raises(PolicyTimeoutError):
            Policy(timeout).call(work)
        go.set()
        give_up = time.monotonic() + 10
        while timeout.describe()["abandoned"] or late.closed != closed:
            assert time.monotonic() < give_up
            time.sleep(0.001)
