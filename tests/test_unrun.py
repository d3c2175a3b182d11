"""What a call merely hands back, and only works later, is refused with the remedy: it would be guarded in name only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from resilient_agents import CircuitBreaker, Fallback, Policy, Retry, fixed, opened
from tests.conftest import Harness

policy = Policy(Retry(3, wait=fixed(0)))


class Manager:
    """What `client.messages.stream(...)` returns: nothing can be done with it but enter it."""

    async def __aenter__(self) -> int:
        return 1

    async def __aexit__(self, *_: object) -> None: ...

    def __enter__(self) -> int:
        return 1

    def __exit__(self, *_: object) -> None: ...


class Response(Manager):
    """What a call brought back already; that it can be entered, too, is a convenience."""

    def json(self) -> int:
        return 1


def numbers() -> Iterator[int]:
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


async def work() -> int:
    return 1


@contextlib.contextmanager
def connection() -> Iterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def async_connection() -> AsyncIterator[int]:
    yield 1


MERELY_MADE: list[tuple[Callable[[], Any], str]] = [
    (numbers, "returned a generator, .* policy.stream"),
    (lambda: (n for n in ()), "returned a generator, .* policy.stream"),
    (async_numbers, "returned a generator, .* policy.stream"),
    (Manager, "returned a context manager, .* policy.stream"),
    (connection, "below @contextmanager"),
    (async_connection, "below @contextmanager"),
    (opened(connection), "use policy.stream"),
]


@pytest.mark.parametrize(("make", "remedy"), MERELY_MADE)
@pytest.mark.parametrize(
    "under",
    [None, policy, Policy(CircuitBreaker()), Policy(Retry(3), CircuitBreaker())],
    ids=["not decorated", "retry", "others", "both"],
)
async def test_it_is_refused_in_every_colour(h: Harness, make: Any, remedy: str, under: Policy | None) -> None:
    """Out of a plain function, a coroutine function, and one that is decorated; by the first call and by later ones,
    which go a shorter way."""

    async def function() -> Any:
        return make()

    guarded: Any = None if under is None else under((lambda: make()) if h.blocking else function)
    for _ in range(3):
        with pytest.raises(TypeError, match=remedy):
            if guarded is None:
                await h.call(policy, function)
            elif h.blocking:
                guarded()
            else:
                await guarded()


@pytest.mark.parametrize("decorated", [False, True])
async def test_an_awaitable_may_not_hide_it(h: Harness, decorated: bool) -> None:
    """A plain function that turns out to be async is looked at, too."""
    if h.blocking:
        return

    async def function() -> Any:
        return numbers()

    undeclared = lambda: function()  # noqa: E731
    with pytest.raises(TypeError, match="nothing would be guarded"):
        await (policy(undeclared)() if decorated else policy.acall(undeclared))


async def test_a_coroutine_that_nobody_awaits_is_refused(h: Harness) -> None:
    """An async function that forgets an `await` has done nothing; there is no warning besides."""
    if h.blocking:
        return

    async def function() -> Any:
        return work()

    with pytest.raises(TypeError, match="await it inside the function"):
        await policy.acall(function)
    with pytest.raises(TypeError, match="await it inside the function"):
        await policy(function)()


async def test_what_a_fallback_answers_with_is_looked_at(h: Harness) -> None:
    """It is the answer of the call."""

    async def fails() -> None:
        raise ConnectionError

    with pytest.raises(TypeError, match="nothing would be guarded"):
        await h.call(Policy(Fallback(lambda error: numbers())), fails)


async def test_a_generator_that_has_begun_has_been_guarded(h: Harness) -> None:
    """A function that took the first item itself may hand out the rest."""

    def begun() -> Any:
        def endless() -> Iterator[int]:
            while True:
                yield 1

        generator = endless()
        next(generator)
        return generator

    async def async_begun() -> Any:
        async def endless() -> AsyncIterator[int]:
            while True:
                yield 1

        generator = endless()
        await anext(generator)
        return generator

    async def function() -> Any:
        return begun()

    (await h.call(policy, function)).close()
    if not h.blocking:
        await (await policy.acall(async_begun)).aclose()


async def test_a_result_that_can_also_be_entered_comes_out(h: Harness) -> None:
    """A response or a connection is a result; that it is a context manager, too, changes nothing."""

    async def function() -> Response:
        return Response()

    assert isinstance(await h.call(policy, function), Response)


@pytest.mark.parametrize("decorator", [contextlib.contextmanager, contextlib.asynccontextmanager])
async def test_the_remedy_works(h: Harness, decorator: Any) -> None:
    """Below @contextmanager the policy guards the generator, so that entering is retried."""
    tries = iter([ConnectionError(), ConnectionError(), None])

    def attempt() -> None:
        error = next(tries)
        if error is not None:
            raise error

    if decorator is contextlib.contextmanager:

        @contextlib.contextmanager
        @policy
        def guarded() -> Iterator[str]:
            attempt()
            yield "connected"

        with guarded() as entered:
            assert entered == "connected"
    elif not h.blocking:

        @contextlib.asynccontextmanager
        @policy
        async def async_guarded() -> AsyncIterator[str]:
            attempt()
            yield "connected"

        async with async_guarded() as entered:
            assert entered == "connected"


class Agent:
    """Not callable, as LangChain's and LangGraph's objects are."""

    def invoke(self, question: str) -> str:
        return question

    async def ainvoke(self, question: str) -> str:
        return question


@pytest.mark.parametrize(
    "use",
    [lambda agent: policy(agent), lambda agent: policy.call(agent, "?"), lambda agent: policy.stream(agent, "?")],
)
def test_an_object_whose_methods_do_the_work_is_refused_with_them(use: Callable[[Any], Any]) -> None:
    """The error names what can be guarded."""
    with pytest.raises(TypeError, match=r"policy\(thing\.invoke\) and policy\(thing\.ainvoke\)"):
        use(Agent())
