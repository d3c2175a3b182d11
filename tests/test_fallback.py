"""A Fallback stands in for a failure, and only for the failures it is meant for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import Policy
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.classify import is_transient
from resilient_agents.core.match import matcher, names
from resilient_agents.errors import PolicyTimeoutError, Rejected, ResilienceError
from resilient_agents.events import CallEnded, FallbackUsed
from resilient_agents.strategies.fallback import Fallback
from tests.conftest import Events, Harness, run_on
from tests.strategies import Freed

LOOPS = ["asyncio", "trio"]


def failing(error: BaseException) -> Callable[..., Any]:
    """A function that raises `error`, in either colour."""

    async def work(*args: Any, **kwargs: Any) -> Any:
        raise error

    return work


def handler(error: Exception | None, *args: Any, **kwargs: Any) -> Any:
    return error, args, kwargs


# --- what it stands in for --------------------------------------------------------------------------------------------


async def test_a_result_passes(h: Harness) -> None:
    """What succeeds is not touched."""

    async def work() -> str:
        return "value"

    assert await h.call(Policy(Fallback(value="other")), work) == "value"


async def test_the_handler_gets_the_error_and_the_arguments(h: Harness) -> None:
    """The handler is called with the user's own error and the arguments of the call; its answer is the result."""
    error = ConnectionError("reset")
    got = await h.call(Policy(Fallback(handler)), failing(error), 1, 2, three=3)
    assert got == (error, (1, 2), {"three": 3})


@pytest.mark.parametrize("value", [None, [], "plain"])
async def test_a_plain_value_stands_in(h: Harness, value: Any) -> None:
    """`value=` is handed out as it is, None too."""
    assert await h.call(Policy(Fallback(value=value)), failing(ConnectionError())) is value


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, Rejected, PolicyTimeoutError])
async def test_by_default_it_stands_in_for_transient_errors_and_our_own(h: Harness, error: type[Exception]) -> None:
    """Transient errors and those that a policy raises of its own are replaced by default."""
    assert await h.call(Policy(Fallback(value=1)), failing(error())) == 1


async def test_a_bug_still_shows(h: Harness) -> None:
    """An error outside of `on` comes out as itself, unchanged."""
    error = ValueError("bug")
    with pytest.raises(ValueError, match="bug") as caught:
        await h.call(Policy(Fallback(value=1)), failing(error))
    assert caught.value is error
    assert caught.value.__context__ is None


@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exit_is_never_replaced(h: Harness, exit_: type[BaseException]) -> None:
    """What is not an Exception passes through."""
    error = exit_()
    with pytest.raises(exit_) as caught:
        await h.call(Policy(Fallback(value=1, on=Exception)), failing(error))
    assert caught.value is error


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_cancellation_is_never_replaced(runtime: str) -> None:
    """A call that is cancelled from outside is cancelled."""

    async def scenario() -> None:
        with anyio.move_on_after(1) as scope:
            await Policy(Fallback(value=1, on=Exception)).acall(anyio.sleep, 10)
        assert scope.cancelled_caught

    run_on(runtime, scenario)


async def test_on_is_a_type_a_predicate_or_several(h: Harness) -> None:
    """`on` chooses by type, by predicate, or by any of several."""

    def mentions_full(error: Exception) -> bool:
        return "full" in str(error)

    for on in (KeyError, LookupError, mentions_full, (ValueError, mentions_full), (ValueError, (KeyError,))):
        policy = Policy(Fallback(value=1, on=on))
        assert await h.call(policy, failing(KeyError("full"))) == 1
        with pytest.raises(OSError, match="disk"):
            await h.call(policy, failing(OSError("disk")))


async def test_when_chooses_results(h: Harness) -> None:
    """A result that `when` calls a failure is replaced; the handler gets None in place of the error."""
    policy = Policy(Fallback(handler, when=lambda result: result == "bad"))

    async def work(result: str) -> str:
        return result

    assert await h.call(policy, work, "good") == "good"
    assert await h.call(policy, work, "bad") == (None, ("bad",), {})


async def test_a_predicate_that_fails_shows_its_own_error(h: Harness) -> None:
    """What a predicate raises comes out, from the failure it was asked about."""
    error, own = ConnectionError("reset"), RuntimeError("predicate")

    def predicate(_: Any) -> bool:
        raise own

    with pytest.raises(RuntimeError, match="predicate") as caught:
        await h.call(Policy(Fallback(value=1, on=predicate)), failing(error))
    assert caught.value is own
    assert caught.value.__cause__ is error

    async def work() -> int:
        return 1

    with pytest.raises(RuntimeError, match="predicate") as caught:
        await h.call(Policy(Fallback(value=1, when=predicate)), work)
    assert caught.value is own


def test_a_predicate_that_raises_the_failure_makes_no_cycle() -> None:
    """A predicate may raise the very error it is asked about."""

    def predicate(error: Exception) -> bool:
        raise error

    def work() -> None:
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError) as caught:
        Policy(Fallback(value=1, on=predicate)).call(work)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_stop_iteration_is_seen_unboxed() -> None:
    """Predicates and handlers see a StopIteration of the user's as it was raised."""
    error = StopIteration(7)

    def work() -> None:
        raise error

    assert Policy(Fallback(handler, on=StopIteration)).call(work) == (error, (), {})


def test_a_stop_iteration_of_a_handler_or_predicate_comes_out() -> None:
    """A StopIteration that a handler or a predicate raises is not turned into a RuntimeError."""

    def stop(*_: Any) -> Any:
        raise StopIteration("theirs")

    def work() -> None:
        raise ConnectionError

    with pytest.raises(StopIteration, match="theirs"):
        Policy(Fallback(stop)).call(work)
    with pytest.raises(StopIteration, match="theirs"):
        Policy(Fallback(value=1, on=stop)).call(work)


# --- a handler that fails ---------------------------------------------------------------------------------------------


async def test_what_a_handler_raises_comes_out(h: Harness) -> None:
    """A handler's own error comes out as itself, with the failure as its context."""
    error, own = ConnectionError("reset"), OSError("cache is gone")

    def fail(_: Exception) -> None:
        raise own

    with pytest.raises(OSError, match="cache") as caught:
        await h.call(Policy(Fallback(fail)), failing(error))
    assert caught.value is own
    assert caught.value.__context__ is error
    assert caught.value.__cause__ is None


async def test_a_handler_may_raise_the_failure_again(h: Harness) -> None:
    """Raised again, the failure comes out as itself, without a cycle."""
    error = ConnectionError("reset")

    def again(error: Exception) -> None:
        raise error

    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(Fallback(again)), failing(error))
    assert caught.value is error
    assert error.__context__ is None


async def test_a_handler_may_raise_from_the_failure(h: Harness) -> None:
    """`raise MyError from error` in a handler works as anywhere."""
    error = ConnectionError("reset")

    def translate(error: Exception) -> None:
        raise LookupError("nothing") from error

    with pytest.raises(LookupError) as caught:
        await h.call(Policy(Fallback(translate)), failing(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("again", [True, False])
def test_the_box_of_a_stop_iteration_is_nobodys_context(again: bool) -> None:
    """Also when the failure travelled boxed, the handler's error has the failure itself as its context."""
    error = StopIteration(7)

    def work() -> None:
        raise error

    def fail(error: Exception) -> None:
        raise error if again else OSError("cache is gone")

    with pytest.raises(StopIteration if again else OSError) as caught:
        Policy(Fallback(fail, on=StopIteration)).call(work)
    assert error.__context__ is None
    assert caught.value is error or caught.value.__context__ is error


def test_a_replaced_failure_is_freed_at_once() -> None:
    """After a fallback has answered, nothing holds the failure, and no garbage collection is needed to free it."""

    def fail(_: Exception) -> None:
        raise OSError("cache is gone")

    with Freed() as freed:
        assert Policy(Fallback(value=1)).call(freed.fail) == 1
        with contextlib.suppress(OSError):
            Policy(Fallback(fail)).call(freed.fail)


# --- async handlers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", LOOPS)
def test_an_async_handler_is_awaited(runtime: str) -> None:
    """A handler may be async where the call is; what it raises has the failure as its context."""
    error = ConnectionError("reset")

    async def answer(error: Exception, value: int) -> int:
        await anyio.sleep(1)
        return value + 1

    async def fail(error: Exception, value: int) -> int:
        await anyio.sleep(1)
        raise OSError("cache is gone")

    async def scenario() -> None:
        assert await Policy(Fallback(answer)).acall(failing(error), 1) == 2
        with pytest.raises(OSError, match="cache") as caught:
            await Policy(Fallback(fail)).acall(failing(error), 1)
        assert caught.value.__context__ is error

    run_on(runtime, scenario)


def test_an_async_handler_of_a_call_that_begins_as_a_plain_one() -> None:
    """An async handler cannot answer for a plain function: the error names the remedy."""

    async def answer(error: Exception) -> int:
        return 7

    def work() -> None:
        raise ConnectionError

    for call in (Policy(Fallback(answer))(work), lambda: Policy(Fallback(answer)).call(work)):
        with pytest.raises(TypeError, match=r"handler .* is async.* use `await policy.acall"):
            call()


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_timeout_around_it_bounds_the_handler(runtime: str) -> None:
    """A limit outside of the Fallback holds for the handler too; one inside is what it stands in for."""

    async def slow(error: Exception, seconds: float) -> str:
        await anyio.sleep(10)
        return "answer"

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError):
            await Policy(Timeout(5), Fallback(slow), Timeout(1)).acall(anyio.sleep, 60)
        assert await Policy(Fallback(slow), Timeout(1)).acall(anyio.sleep, 60) == "answer"

    run_on(runtime, scenario)


# --- streams ----------------------------------------------------------------------------------------------------------


def broken_before() -> Iterator[int]:
    raise ConnectionError
    yield 1


def broken_after() -> Iterator[int]:
    yield 1
    raise ConnectionError


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        (lambda _: iter([7, 8]), [7, 8]),
        (lambda _: (n for n in (7, 8)), [7, 8]),
        (lambda _: [7, 8], [7, 8]),
        (lambda _: "plain", ["plain"]),
        (lambda _: 7, [7]),
    ],
)
def test_a_stream_is_replaced_before_its_first_item(answer: Any, items: list[Any]) -> None:
    """A handler may answer for a stream with anything to iterate, or with its only item."""
    assert list(Policy(Fallback(answer))(broken_before)()) == items


@pytest.mark.parametrize("runtime", LOOPS)
def test_an_async_stream_is_replaced_before_its_first_item(runtime: str) -> None:
    """A handler of an async stream may answer with an async iterable, a plain one, an awaitable of either, or its only
    item.
    """

    async def broken() -> AsyncIterator[int]:
        raise ConnectionError
        yield 1

    async def numbers(_: Any) -> AsyncIterator[int]:
        yield 7
        yield 8

    async def listed(_: Any) -> list[int]:
        return [7, 8]

    async def awaited(error: Any) -> AsyncIterator[int]:
        return numbers(error)

    async def scenario() -> None:
        for answer in (numbers, listed, awaited, lambda _: [7, 8]):
            assert [item async for item in Policy(Fallback(answer))(broken)()] == [7, 8]
        assert [item async for item in Policy(Fallback(value=7))(broken)()] == [7]

    run_on(runtime, scenario)


def test_a_stream_is_not_replaced_after_its_first_item() -> None:
    """Once an item is out, the error of a stream comes out."""
    stream = Policy(Fallback(value=7))(broken_after)()
    assert next(stream) == 1
    with pytest.raises(ConnectionError):
        next(stream)


def test_items_are_no_results() -> None:
    """`when` is not asked about the items of a stream."""

    def items() -> Iterator[int]:
        yield 1

    assert list(Policy(Fallback(value=7, when=lambda _: True))(items)()) == [1]


# --- who watches ------------------------------------------------------------------------------------------------------


async def test_its_use_is_told(h: Harness) -> None:
    """An event names the failure by what it is, and the call counts as saved by a fallback."""
    policy = Policy(Fallback(value=1, when=lambda result: result == "bad"), name="p")
    events = Events()
    policy.observe(events)

    async def work(result: str) -> str:
        return result

    await h.call(policy, work, "good")
    assert not events.of(FallbackUsed)
    await h.call(policy, failing(ConnectionError()))
    await h.call(policy, work, "bad")
    first, second = events.of(FallbackUsed)
    assert (first.policy, first.failure.kind) == ("p", "connection")
    assert second == FallbackUsed("p", None, "value")
    assert [event.outcome for event in events.of(CallEnded)] == ["success", "fallback", "fallback"]


async def test_a_handler_that_fails_is_a_failure(h: Harness) -> None:
    """A call whose handler fails has failed."""

    def fail(_: Exception) -> None:
        raise OSError

    policy = Policy(Fallback(fail))
    events = Events()
    policy.observe(events)
    with pytest.raises(OSError):
        await h.call(policy, failing(ConnectionError()))
    assert [event.outcome for event in events.of(CallEnded)] == ["failure"]


# --- the object -------------------------------------------------------------------------------------------------------


def test_exactly_one_answer_is_given() -> None:
    """A handler, a value or a chain: none and several fail when the object is built, also when the value is None."""
    with pytest.raises(TypeError, match="takes a handler, value= or to=, got none of them"):
        Fallback()
    with pytest.raises(TypeError, match="takes a handler, value= or to=, got a handler and value="):
        Fallback(handler, value=None)


def test_wrong_arguments_are_refused() -> None:
    """What cannot be called fails when the object is built, and says what was meant."""
    with pytest.raises(TypeError, match="handler must be callable .a plain value is value=., got str"):
        Fallback("plain")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="when must be a predicate on results or None, got bool"):
        Fallback(value=1, when=True)  # type: ignore[arg-type]


def is_bad(result: Any) -> bool:
    return bool(result == "bad")


def test_it_describes_itself() -> None:
    """The description is plain data and shows neither the value nor what a handler holds."""
    secret = "sk-123"
    described = Fallback(functools.partial(handler, key=secret), on=(KeyError, is_transient), when=is_bad)
    assert json.loads(json.dumps(described.describe())) == {
        "strategy": "fallback",
        "handler": f"{__name__}.handler",
        "on": ["KeyError", "is_transient"],
        "when": f"{__name__}.is_bad",
    }
    assert Fallback(value=secret).describe()["handler"] is None
    for fallback in (described, Fallback(value=secret)):
        assert secret not in repr(fallback) + str(fallback.describe())
    assert repr(Fallback(value=1)) == "Fallback(value=...)"


def test_it_pickles() -> None:
    """A Fallback of module-level functions pickles, with its value or its handler."""

    def work() -> Any:
        raise Rejected

    assert Policy(pickle.loads(pickle.dumps(Fallback(value=[1])))).call(work) == [1]
    error, *_ = Policy(pickle.loads(pickle.dumps(Fallback(handler, when=is_bad)))).call(work)
    assert isinstance(error, Rejected)


# --- what `on=` means -------------------------------------------------------------------------------------------------


def test_a_matcher_takes_types_predicates_and_tuples() -> None:
    """One predicate comes out of whatever `on=` may be; any part may match."""
    assert matcher(KeyError)(KeyError())
    assert not matcher(KeyError)(ValueError())
    assert matcher(is_transient) is is_transient
    either = matcher((KeyError, (OSError, is_bad)))
    assert [either(error) for error in (KeyError(), OSError(), ValueError())] == [True, True, False]
    assert matcher((KeyError, is_transient))(TimeoutError())
    assert matcher((is_bad, is_transient))(TimeoutError())
    assert not matcher((is_bad, is_transient))(ValueError())


@pytest.mark.parametrize(
    "type_", [BaseException, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, BaseExceptionGroup]
)
def test_cancellation_cannot_be_matched(type_: type[Any]) -> None:
    """Types that are not below Exception are refused with the reason."""
    with pytest.raises(
        TypeError, match=f"on must name subclasses of Exception, got {type_.__name__}: cancellation .* never"
    ):
        matcher((KeyError, type_))


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("KeyError", "retry_on must be an exception type, a predicate or a tuple of these, got 'KeyError'"),
        (None, "retry_on must be .*, got None"),
        ([KeyError], "a tuple, not a list"),
        (int, "got the class int"),
        (KeyError("key"), r"not an instance of one, got KeyError\(...\)"),
    ],
)
def test_what_matches_nothing_is_refused(on: Any, message: str) -> None:
    """Strings, instances, other classes and lists fail when the object is built, under the argument's name."""
    with pytest.raises(TypeError, match=message):
        matcher(on, "retry_on")


def test_an_empty_tuple_is_refused() -> None:
    """Nothing to match is a mistake."""
    with pytest.raises(ValueError, match="on must name at least one exception type or predicate"):
        matcher(())


def test_an_async_predicate_is_refused() -> None:
    """A coroutine is always true, so an async predicate would match everything."""

    async def predicate(error: Exception) -> bool:
        return False

    class Callable_:
        async def __call__(self, error: Exception) -> bool:
            return False

    for on in (predicate, Callable_()):
        with pytest.raises(TypeError, match="plain predicate"):
            matcher(on)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="when must be a plain predicate"):
            Fallback(value=0, when=on)


def test_names_show_no_state() -> None:
    """The parts of `on` are shown by name: functions and types by their own, other objects by their class."""
    assert names((KeyError, (is_transient, functools.partial(is_bad)))) == ["KeyError", "is_transient", "partial"]
    assert names(ResilienceError) == ["ResilienceError"]
