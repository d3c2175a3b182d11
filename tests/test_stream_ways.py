"""There are several ways on which an item comes to its consumer, some of them shorter: all answer as the source alone
does, whatever the consumer sends and throws in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_agents import DeadlineExceeded, Policy, StreamTimeout, deadline
from resilient_agents.core.call import NEUTRAL
from tests.conftest import Events, Harness, run_on
from tests.test_streams import Holding

Does = tuple[str, Any]


def source(catches: Any) -> Generator[Any, Any, str]:
    """Tells what it got, catches some, and ends as it is told."""
    got = yield "first"
    while True:
        if got == "end":
            return "value"
        if got == "fail":
            raise LookupError("own")
        try:
            got = yield got
        except catches as error:
            got = type(error).__name__


async def async_source(catches: Any) -> AsyncGenerator[Any, Any]:
    got = yield "first"
    while got != "end":
        if got == "fail":
            raise LookupError("own")
        try:
            got = yield got
        except catches as error:
            got = type(error).__name__


class Unwound(BaseException):
    """As KeyboardInterrupt, which a loop would take for itself."""


does = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([None, None, "a", "end", "fail"])),
    st.tuples(st.just("throw"), st.sampled_from([KeyError, LookupError, StopIteration, Unwound])),
)


async def answers(h: Harness, stream: Any, deeds: list[Does], begins: int = 99) -> list[Any]:
    """What each deed comes to; from one of them on there is a deadline."""
    seen: list[Any] = []
    for n, (deed, what) in enumerate(deeds):
        how = getattr(stream, deed if h.blocking else f"a{deed}")
        try:
            with deadline(99) if n >= begins else contextlib.nullcontext():
                answer = how(what("thrown") if deed == "throw" else what)
                seen.append(answer if h.blocking else await answer)
        except (Exception, Unwound) as error:
            seen.append((type(error), error.args))
    return seen


@pytest.mark.parametrize("runtime", ["blocking", "asyncio", "trio"])
@settings(max_examples=40, deadline=None)
@given(
    deeds=st.lists(does, max_size=5),
    catches=st.sampled_from([KeyError, LookupError, Exception, (Exception, Unwound)]),
    limited=st.booleans(),
    watched=st.booleans(),
    begins=st.sampled_from([2, 99]),
)
@example(deeds=[("send", None), ("throw", StopIteration)], catches=Exception, limited=False, watched=False, begins=99)
@example(deeds=[("send", None), ("send", "end")], catches=Exception, limited=False, watched=False, begins=99)
def test_a_guarded_generator_answers_as_the_bare_one(
    runtime: str, deeds: list[Does], catches: Any, limited: bool, watched: bool, begins: int
) -> None:
    """Items, errors and what it returns."""
    h = Harness(runtime)
    policy = Policy(StreamTimeout(idle=99, preamble=None)) if limited else Policy()
    if watched:
        policy.observe(Events())
    deeds = [("send", None), *deeds, ("send", None)]
    made: Any = source if h.blocking else async_source

    async def main() -> tuple[list[Any], list[Any]]:
        bare, guarded = made(catches), policy(made)(catches)
        seen = await answers(h, bare, deeds), await answers(h, guarded, deeds, begins)
        if not h.blocking:
            await bare.aclose()
            await guarded.aclose()
        return seen

    bare, guarded = run_on(runtime, main)
    assert guarded == bare


def breaks() -> Generator[int, None, None]:
    yield from (1, 2)
    raise LookupError("own")


async def async_breaks() -> AsyncGenerator[int, None]:
    yield 1
    yield 2
    raise LookupError("own")


async def test_a_traceback_leads_straight_to_the_source(h: Harness) -> None:
    """Over one frame of ours."""
    made: Any = breaks if h.blocking else async_breaks
    with pytest.raises(LookupError) as raised:
        await h.items(Policy()(made)())
    names = [entry.name for entry in raised.traceback]
    assert names[names.index("guarded") :] == ["guarded", made.__name__]


class Iterator:
    """One that is no generator, and knows nothing of what is sent and thrown in."""

    def __init__(self) -> None:
        self.left = [2, 1]

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise LookupError("own")
        return self.left.pop()

    def __aiter__(self) -> Iterator:
        return self

    async def __anext__(self) -> int:
        return next(self)


class Answers:
    """An iterator that takes part of what a generator does, by itself: only `throw`, or only `send`."""

    def __init__(self, method: str) -> None:
        setattr(self, method, lambda given: f"{method} {given}")
        setattr(self, f"a{method}", self.answers(method))

    @staticmethod
    def answers(method: str) -> Any:
        async def answer(given: Any) -> str:
            return f"{method} {given}"

        return answer

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> int:
        return 1

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> int:
        return 1


@pytest.mark.parametrize("method", ["send", "throw"])
async def test_an_iterator_may_answer_for_itself(h: Harness, method: str) -> None:
    """What is sent or thrown in goes to whatever it has for that."""
    stream = Policy().stream(lambda: Answers(method))
    guarded: Any = iter(stream) if h.blocking else aiter(stream)
    given: Any = KeyError("in") if method == "throw" else "in"
    how = getattr(guarded, method if h.blocking else f"a{method}")
    await answers(h, guarded, [("send", None), ("send", None)])
    answer = how(given)
    assert (answer if h.blocking else await answer) == f"{method} {given}"
    closed = guarded.close() if h.blocking else guarded.aclose()  # which is not thrown in
    assert (closed if h.blocking else await closed) is None


@pytest.mark.parametrize("items", [1, 2])
def test_what_is_sent_to_a_plain_iterator_is_refused(items: int) -> None:
    """As `yield from` does."""
    guarded: Any = iter(Policy().stream(lambda: [1, 2, 3]))
    assert [next(guarded) for _ in range(items)] == [1, 2][:items]
    with pytest.raises(AttributeError, match="send"):
        guarded.send("in")


async def test_what_an_iterator_raises_is_its_own(h: Harness) -> None:
    """Neither it nor what is thrown in beside it comes out twice."""
    for thrown in (False, True):
        holding = Holding()
        stream = Policy(holding).stream(Iterator)
        guarded: Any = iter(stream) if h.blocking else aiter(stream)
        assert await answers(h, guarded, [("send", None)] * 2) == [1, 2]
        if thrown:
            last = await answers(h, guarded, [("throw", KeyError)])
            assert last == [(KeyError, ("thrown",))]
        else:
            assert await answers(h, guarded, [("send", None)]) == [(LookupError, ("own",))]
        (outcome,) = holding.outcomes
        assert (type(outcome), outcome.__context__) == (KeyError if thrown else LookupError, None)


@pytest.mark.parametrize("strategies", [(), (StreamTimeout(idle=99),)], ids=["bare", "limited"])
async def test_what_is_thrown_in_after_the_deadline_is_not_lost(h: Harness, strategies: tuple[Any, ...]) -> None:
    """The deadline that ends the stream was raised from it; only what is no `Exception` comes out itself."""
    made: Any = source if h.blocking else async_source
    for thrown in (KeyError("thrown"), Unwound("thrown")):
        holding = Holding()
        guarded = Policy(holding, *strategies)(made)(KeyError)
        await answers(h, guarded, [("send", None)])
        with deadline(5):
            await h.sleep(6)
            with pytest.raises((DeadlineExceeded, Unwound)) as raised:
                guarded.throw(thrown) if h.blocking else await guarded.athrow(thrown)
        if isinstance(thrown, Exception):
            assert (type(raised.value), raised.value.__cause__) == (DeadlineExceeded, thrown)
            assert holding.outcomes == [raised.value]
        else:
            assert (raised.value, holding.outcomes) == (thrown, [NEUTRAL])
