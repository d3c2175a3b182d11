"""A Fallback with a chain asks one after another, until one answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient_agents import (
    BudgetExceededError,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Hedge,
    Policy,
    PolicyTimeoutError,
    Registry,
    Retry,
    StreamTimeout,
    Timeout,
    deadline,
    fixed,
    registry,
    resilient,
    run_budget,
)
from resilient_agents.events import AttemptStarted, CallEnded, FallbackUsed
from resilient_agents.registry.late import LatePolicy
from tests.conftest import Events, Harness, run_on
from tests.sdk_items import chat
from tests.strategies import Freed

LOOPS = ["asyncio", "trio"]


class Asked(list[str]):
    """Functions in the colour of a harness, which answer or raise, and who of them was asked."""

    def __init__(self, h: Harness) -> None:
        super().__init__()
        self.h = h

    def fn(self, name: str, outcome: Any, seconds: float = 0) -> Callable[..., Any]:
        async def work(*args: Any, **kwargs: Any) -> Any:
            self.append(name)
            await self.h.sleep(seconds)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome(*args, **kwargs) if callable(outcome) else outcome

        work.__qualname__ = name
        work.__module__ = "m"
        made = self.h.fn(work)
        made.__module__ = "m"
        return made


def contexts(error: BaseException) -> list[BaseException]:
    found = []
    link: BaseException | None = error
    while link is not None:
        found.append(link)
        link = link.__context__
    return found


# --- who answers ------------------------------------------------------------------------------------------------------


async def test_the_first_that_can_answers(h: Harness) -> None:
    """The functions are asked in order, with the arguments of the call, until one answers."""
    asked = Asked(h)
    policy = Policy(
        Fallback(
            to=[
                asked.fn("second", ConnectionError()),
                (asked.fn("third", lambda *args, **kwargs: (args, kwargs)), Policy(Retry(2))),
                asked.fn("fourth", "never"),
            ]
        )
    )
    assert await h.call(policy, asked.fn("first", ConnectionError()), 1, two=2) == ((1,), {"two": 2})
    assert asked == ["first", "second", "third"]


async def test_nobody_is_asked_where_the_call_succeeds(h: Harness) -> None:
    """The call itself comes first, and a bug in it is nobody's to stand in for."""
    asked = Asked(h)
    policy = Policy(Fallback(to=[asked.fn("second", "other")]))
    assert await h.call(policy, asked.fn("first", "answer")) == "answer"
    with pytest.raises(ValueError, match="bug"):
        await h.call(policy, asked.fn("first", ValueError("bug")))
    assert asked == ["first", "first"]


async def test_a_policy_guards_its_function(h: Harness) -> None:
    """Its retries and limits are those of its function."""
    asked, outcomes = Asked(h), iter([ConnectionError(), "answer"])

    def second() -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    policy = Policy(Fallback(to=[(asked.fn("second", second), Policy(Retry(2, wait=fixed(1))))]))
    assert await h.call(policy, asked.fn("first", ConnectionError())) == "answer"
    assert asked == ["first", "second", "second"]


async def test_an_open_circuit_is_passed_over_without_waiting(h: Harness) -> None:
    """Whatever stands before the breaker in its policy; a circuit whose time is up is asked, and so is one that only
    watches."""
    asked, breaker = Asked(h), CircuitBreaker(reset_timeout=30)
    watched = CircuitBreaker(shadow=True)

    class Queue:
        async def execute(self, proceed: Any, call: Any) -> Any:
            await h.sleep(5)
            return await proceed(call)

    to = [(asked.fn("second", "second"), Policy(Queue(), breaker)), (asked.fn("third", "third"), Policy(watched))]
    policy, events, began = Policy(Fallback(to=to)), Events(), h.now()
    policy.observe(events)
    breaker.open()
    watched.open()
    assert await h.call(policy, asked.fn("first", ConnectionError())) == "third"
    assert (asked, h.now()) == (["first", "third"], began)
    assert [event.by for event in events.of(FallbackUsed)] == ["m.third"]
    await h.sleep(31)
    assert await h.call(policy, asked.fn("first", ConnectionError())) == "second"


async def test_a_circuit_behind_a_name_is_seen_at_once(h: Harness) -> None:
    """A policy of the registry is looked up before its circuit is looked at."""
    asked, breaker = Asked(h), CircuitBreaker()
    breaker.open()
    late = LatePolicy(lambda: Policy(breaker, name="found"), name="late")
    policy = Policy(Fallback(to=[(asked.fn("second", "second"), late), asked.fn("third", "third")]))
    assert await h.call(policy, asked.fn("first", ConnectionError())) == "third"
    assert breaker.metrics()["rejections"] == 0


async def test_a_keyed_policy_guards_too(h: Harness) -> None:
    """Whatever calls functions as a policy does."""
    asked = Asked(h)
    keyed = registry.keyed(lambda city: Policy(Retry(1)), lambda city: city)
    policy = Policy(Fallback(to=[(asked.fn("second", lambda city: city), keyed)]))
    assert await h.call(policy, asked.fn("first", ConnectionError()), "Ghent") == "Ghent"


async def test_a_chain_inside_a_retry_is_repeated(h: Harness) -> None:
    """Where nobody answered, the next attempt begins with the call itself."""
    asked = Asked(h)
    policy = Policy(Retry(2, wait=fixed(0)), Fallback(to=[asked.fn("second", ConnectionError())]))
    with pytest.raises(ConnectionError):
        await h.call(policy, asked.fn("first", ConnectionError()))
    assert asked == ["first", "second"] * 2


# --- when all fail ----------------------------------------------------------------------------------------------------


async def test_when_all_fail_the_last_error_comes_out(h: Harness) -> None:
    """The same object, with those before it as its contexts, in turn."""
    asked = Asked(h)
    errors = [ConnectionError("one"), TimeoutError("two"), ConnectionError("three")]
    to = [asked.fn("second", errors[1]), (asked.fn("third", errors[2]), Policy(Retry(1), Timeout(10)))]
    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(Fallback(to=to)), asked.fn("first", errors[0]))
    assert contexts(caught.value) == errors[::-1]


async def test_a_refusal_hides_no_real_error(h: Harness) -> None:
    """The last error of a server comes out, not that of a policy which never asked one."""
    asked, error = Asked(h), ConnectionError("real")
    refusing = asked.fn("second", BulkheadFullError("full"))
    breaker = CircuitBreaker()
    breaker.open()
    to = [refusing, (asked.fn("third", "never"), Policy(breaker)), refusing]
    with pytest.raises(ConnectionError) as caught:
        await h.call(Policy(Fallback(to=to)), asked.fn("first", error))
    assert caught.value is error
    assert error.__context__ is None
    assert asked == ["first", "second", "second"]


async def test_where_all_refuse_the_first_refusal_comes_out(h: Harness) -> None:
    """It says when the call itself may be tried again."""
    asked, breaker = Asked(h), CircuitBreaker("own-of-chain")
    breaker.open()
    to = [asked.fn("second", BulkheadFullError("full"))]
    with pytest.raises(CircuitOpenError, match="own-of-chain"):
        await h.call(Policy(Fallback(to=to), breaker), asked.fn("first", "never"))
    assert asked == ["second"]


@pytest.mark.parametrize("ending", [ValueError("bug"), KeyboardInterrupt(), GeneratorExit()])
async def test_what_is_not_chosen_ends_the_chain(h: Harness, ending: BaseException) -> None:
    """A bug of a stand-in shows, and the interpreter's exit passes."""
    asked = Asked(h)
    to = [asked.fn("second", ending), asked.fn("third", "never")]
    with pytest.raises(type(ending)) as caught:
        await h.call(Policy(Fallback(to=to)), asked.fn("first", ConnectionError()))
    assert caught.value is ending
    assert asked == ["first", "second"]


async def test_control_flow_ends_the_chain(h: Harness) -> None:
    """What frameworks steer with is no failure, whatever `on` says."""
    asked = Asked(h)

    class GraphInterrupt(Exception): ...

    GraphInterrupt.__module__ = "langgraph.errors"
    from resilient_agents import register

    register(GraphInterrupt, kind="control")
    to = [asked.fn("second", GraphInterrupt()), asked.fn("third", "never")]
    with pytest.raises(GraphInterrupt):
        await h.call(Policy(Fallback(to=to, on=Exception)), asked.fn("first", ConnectionError()))
    assert asked == ["first", "second"]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_cancellation_ends_the_chain(runtime: str) -> None:
    """A stand-in that is cancelled is nobody's failure."""

    async def scenario() -> None:
        asked = Asked(Harness(runtime))
        to = [asked.fn("second", "late", 100), asked.fn("third", "never")]
        with anyio.move_on_after(5) as scope:
            await Policy(Fallback(to=to, on=Exception)).acall(asked.fn("first", ConnectionError()))
        assert scope.cancelled_caught
        assert asked == ["first", "second"]

    run_on(runtime, scenario)


async def test_when_chooses_results_of_all(h: Harness) -> None:
    """Stand-ins are asked in place of a result, too, and theirs are judged alike; the last one comes out."""
    asked, closed = Asked(h), list[str]()

    class Response:
        status_code = 503

        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            assert asked[-1] == self.name
            closed.append(self.name)

    def bad(result: Any) -> bool:
        return isinstance(result, Response)

    def chain(*to: Any) -> Policy:
        return Policy(Fallback(to=list(to), when=bad))

    first, second = asked.fn("first", lambda: Response("first")), asked.fn("second", lambda: Response("second"))
    assert await h.call(chain(second, asked.fn("third", "good")), first) == "good"
    assert closed == ["first", "second"]
    closed.clear()
    last = await h.call(chain(second), first)
    assert (last.name, closed) == ("second", ["first"])
    closed.clear()
    breaker = CircuitBreaker()
    breaker.open()
    only = await h.call(chain((second, Policy(breaker))), first)
    assert (only.name, closed) == ("first", [])
    with pytest.raises(BulkheadFullError):
        await h.call(chain(asked.fn("second", BulkheadFullError())), first)
    closed.clear()
    unknown = Registry({"policies": {"known": {"retry": 1}}}).late("unknown")
    with pytest.raises(LookupError):
        await h.call(chain((second, unknown)), first)
    assert closed == ["first"]


def test_a_replaced_failure_is_freed_at_once() -> None:
    """No error of the chain, and no frame, is kept by another."""

    with Freed() as freed:
        fail = freed.fail
        assert Policy(Fallback(to=[fail, (fail, Policy(Retry(1))), lambda: 1])).call(fail) == 1
        with contextlib.suppress(Freed.Failure):
            Policy(Fallback(to=[fail, fail])).call(fail)
    assert len(freed.errors) == 6


def test_a_stop_iteration_is_an_error_like_any_other() -> None:
    """It is stood in for, comes out as itself, and its box is nobody's context."""
    error, last = StopIteration(7), StopIteration(8)

    def raising(what: Exception) -> Callable[[], None]:
        def work() -> None:
            raise what

        return work

    assert Policy(Fallback(to=[raising(last), lambda: 1], on=StopIteration)).call(raising(error)) == 1
    for policy in (None, Policy(Retry(1))):
        to = [raising(last) if policy is None else (raising(last), policy)]
        with pytest.raises(StopIteration) as caught:
            Policy(Fallback(to=to, on=StopIteration)).call(raising(error))
        assert contexts(caught.value) == [last, error]


# --- limits around it -------------------------------------------------------------------------------------------------


async def test_no_stand_in_begins_after_the_deadline(h: Harness) -> None:
    """Time that is over is over for all of them."""
    asked = Asked(h)
    policy = Policy(Fallback(to=[asked.fn("second", TimeoutError(), 2), asked.fn("third", "late")]))
    with deadline(3), pytest.raises(TimeoutError):
        await h.call(policy, asked.fn("first", TimeoutError(), 2))
    assert asked == ["first", "second"]
    asked.clear()
    with pytest.raises(PolicyTimeoutError):
        await h.call(Policy(Timeout(3), *policy.strategies), asked.fn("first", TimeoutError(), 2))
    assert asked == ["first", "second"]


async def test_stand_ins_are_charged_to_the_run(h: Harness) -> None:
    """Each is an attempt that the budget pays for, with a policy of its own or without."""
    asked = Asked(h)
    to = [
        asked.fn("second", ConnectionError()),
        (asked.fn("third", ConnectionError()), Policy(Retry(2, wait=fixed(0)))),
    ]
    with run_budget(attempts=4) as run:
        with pytest.raises(ConnectionError):
            await h.call(Policy(Fallback(to=to)), asked.fn("first", ConnectionError()))
        assert run.spent.attempts == 4 == len(asked)
        with pytest.raises(BudgetExceededError):
            await h.call(Policy(Fallback(to=to)), asked.fn("first", "never"))
    assert len(asked) == 4


def test_a_time_limit_with_a_thread_cuts_off_a_stand_in() -> None:
    """It runs where the call itself would."""
    import threading

    release = threading.Event()

    def second() -> None:
        release.wait(10)

    def first() -> None:
        raise ConnectionError

    with pytest.raises(PolicyTimeoutError):
        Policy(Timeout(0.05, thread=True), Fallback(to=[second])).call(first)
    release.set()


# --- streams ----------------------------------------------------------------------------------------------------------


OPENER = chat()


class Source:
    """A stream that gives `items`, the last of which may be an error, and knows whether it was closed."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.items:
            raise StopIteration
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.closed = True

    def __call__(self) -> Any:
        return self


class AsyncSource(Source):
    __iter__ = None  # type: ignore[assignment]

    def __aiter__(self) -> AsyncIterator[Any]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> Any:
        try:
            return super().__next__()
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        raise AssertionError("it has an aclose")


def source(h: Harness, *items: Any) -> Source:
    return Source(*items) if h.blocking else AsyncSource(*items)


@pytest.mark.parametrize("policy", [None, Policy(Retry(1)), Policy(StreamTimeout(idle=5, complete=None))])
async def test_a_stream_is_stood_in_for_until_it_says_something(h: Harness, policy: Policy | None) -> None:
    """Openers of known SDKs say nothing: what fails after them is closed and replaced, by a stream that may fail
    alike; of the one that answers all items come out, its openers first."""
    first, second = source(h, OPENER, ConnectionError()), source(h, ConnectionError())
    third, fourth = source(h, OPENER, OPENER, TimeoutError()), source(h, OPENER, "a", "b")
    others: list[Any] = [second, third, fourth]
    to = others if policy is None else [(each, policy) for each in others]
    events = Events()
    chain = Policy(Fallback(to=to), name="p")
    chain.observe(events)
    assert await h.items(chain.stream(first)) == [OPENER, "a", "b"]
    assert [each.closed for each in (first, second, third, fourth)] == [True] * 4
    (ended,) = events.of(CallEnded)
    assert (ended.outcome, ended.items) == ("fallback", 3)
    assert ended.fallback is not None


async def test_a_stream_that_speaks_is_not_replaced(h: Harness) -> None:
    """Once an item that says something is out, the error of a stream comes out."""
    first, second = source(h, OPENER, "a", ConnectionError()), source(h, "b")
    stream, items = Policy(Fallback(to=[second])).stream(first), list[Any]()

    async def read() -> None:
        if h.blocking:
            items.extend(iter(stream.__next__, None))
        else:
            async for item in stream:
                items.append(item)

    with pytest.raises(ConnectionError):
        await read()
    assert items == [OPENER, "a"] or h.blocking
    assert first.closed
    assert second.items == ["b"]


async def test_a_stream_of_nothing_but_openers_comes_out(h: Harness) -> None:
    """It ended without an error, so nobody stands in."""
    assert await h.items(Policy(Fallback(to=[source(h, "b")])).stream(source(h, OPENER, OPENER))) == [OPENER, OPENER]
    assert await h.items(Policy(Fallback(to=[source(h, "b")])).stream(source(h))) == []


async def test_no_opener_gets_lost_in_a_limited_stream(h: Harness) -> None:
    """What was read while a fallback could still stand in comes first, though the limit could read the source alone."""
    stream = Policy(Fallback(to=[source(h, "b")]), StreamTimeout(idle=5, complete=None, preamble=None))
    assert await h.items(stream.stream(source(h, OPENER, "a", "b"))) == [OPENER, "a", "b"]


async def test_what_layers_hold_for_a_failed_stream_comes_back(h: Harness) -> None:
    """A slot taken for the one that broke off after its openers is free for the next."""
    slots = Bulkhead(1, queue=0)
    chain = Policy(Fallback(to=[(source(h, OPENER, "a"), Policy(slots))]), slots)
    assert await h.items(chain.stream(source(h, OPENER, ConnectionError()))) == [OPENER, "a"]
    assert slots.in_use == 0


async def test_a_stand_in_inside_another_layer_is_a_stream(h: Harness) -> None:
    """Layers outside see its items, whatever it gives: a stream, a list, a plain answer, or a value."""
    for fallback in (Fallback(to=[lambda: [7]]), Fallback(to=[lambda: 7]), Fallback(value=7), Fallback(lambda _: [7])):
        stream = Policy(StreamTimeout(idle=5), fallback).stream(source(h, ConnectionError()))
        assert await h.items(stream) == [7]


@pytest.mark.parametrize("runtime", LOOPS)
def test_a_chain_inside_a_hedge(runtime: str) -> None:
    """Each request of the race has the chain to itself."""

    async def scenario() -> None:
        first = [AsyncSource(OPENER, ConnectionError()), AsyncSource(ConnectionError())]
        chain = Policy(Hedge(0), Fallback(to=[lambda: AsyncSource(OPENER, "a")]))
        assert await Harness(runtime).items(chain.stream(lambda: first.pop())) == [OPENER, "a"]

    run_on(runtime, scenario)


# --- colours ----------------------------------------------------------------------------------------------------------


def test_an_async_function_cannot_stand_in_for_a_blocking_call() -> None:
    """It is found out when it is called, with the remedy; what it returned is closed."""

    async def second() -> int:
        return 7

    def undeclared() -> Any:
        return second()

    def work() -> None:
        raise ConnectionError

    for to in ([second], [undeclared], [(second, Policy(Retry(1)))]):
        for call in (Policy(Fallback(to=to))(work), lambda to=to: Policy(Fallback(to=to)).call(work)):
            with pytest.raises(TypeError, match="use `await policy.acall"):
                call()

    def broken() -> Iterator[int]:
        raise ConnectionError
        yield 1

    async def items() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="asynchronous: iterate it with `async for`"):
        list(Policy(Fallback(to=[items]))(broken)())


def test_a_plain_function_stands_in_for_an_async_call() -> None:
    """Both kinds do, also behind a wrapper that declares nothing."""

    async def work() -> int:
        raise ConnectionError

    async def second() -> int:
        return 7

    async def scenario() -> None:
        for to in ([lambda: 7], [lambda: second()], [second], [(lambda: 7, Policy(Retry(1)))]):
            assert await Policy(Fallback(to=to)).acall(work) == 7
            assert await Policy(Fallback(to=to))(lambda: work())() == 7

    asyncio.run(scenario())


# --- who watches ------------------------------------------------------------------------------------------------------


async def test_it_is_told_who_answered(h: Harness) -> None:
    """Each that is asked, by the name of its policy or its own, and who answered; one without a policy is an attempt of
    the call, one with a policy an operation of its own."""
    asked = Asked(h)
    guard = Policy(Retry(2, wait=fixed(0)), name="claude")
    policy = Policy(
        Fallback(
            to=[
                asked.fn("second", TimeoutError()),
                (asked.fn("third", ConnectionError()), guard),
                asked.fn("fourth", "answer"),
            ]
        ),
        name="p",
    )
    events, inner = Events(), Events()
    policy.observe(events)
    guard.observe(inner)
    await h.call(policy, asked.fn("first", ConnectionError()))
    used = events.of(FallbackUsed)
    assert [(event.by, event.failure.kind) for event in used] == [
        ("m.second", "connection"),
        ("claude", "timeout"),
        ("m.fourth", "connection"),
    ]
    (ended,) = events.of(CallEnded)
    assert (ended.outcome, ended.fallback, ended.attempts) == ("fallback", "m.fourth", 3)
    assert [event.attempt for event in events.of(AttemptStarted)] == [1, 2, 3]
    assert len(inner.of(AttemptStarted)) == 2
    assert len(asked) == 3 + 2


async def test_a_chain_in_which_all_failed_has_failed(h: Harness) -> None:
    """Then nobody answered."""
    policy, events = Policy(Fallback(to=[Asked(h).fn("second", ConnectionError())])), Events()
    policy.observe(events)
    with pytest.raises(ConnectionError):
        await h.call(policy, Asked(h).fn("first", ConnectionError()))
    (ended,) = events.of(CallEnded)
    assert (ended.outcome, ended.fallback) == ("failure", None)


# --- the object -------------------------------------------------------------------------------------------------------


def second() -> str:
    return "second"


def first() -> str:
    raise ConnectionError


def test_the_decorator_takes_a_list() -> None:
    """A list of functions, alone or with policies, is a chain; any other list is a value."""
    assert resilient(fallback=[second])(first)() == "second"
    assert resilient(fallback=[(second, Policy(Retry(1)))])(first)() == "second"
    values: list[list[Any]] = [[], ["second"], [second, 1]]
    for value in values:
        assert resilient(fallback=value)(first)() is value


def test_it_describes_itself() -> None:
    """By names, never by what functions hold."""
    fallback = Fallback(to=[second, (second, Policy(Retry(1), name="claude"))])
    assert json.loads(json.dumps(fallback.describe()))["to"] == [f"{__name__}.second", "claude"]
    assert repr(fallback) == f"Fallback(to=[{__name__}.second, claude])"
    assert "to" not in Fallback(value=1).describe()


def test_it_pickles() -> None:
    """A chain of module-level functions and policies without live state."""
    policy = pickle.loads(pickle.dumps(Policy(Fallback(to=[(second, Policy(Retry(1)))]))))
    assert policy.call(first) == "second"


@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        ([], ValueError, r"to must have at least one function, got \[\]"),
        (
            second,
            TypeError,
            r"to must be a list of functions and \(function, policy\) pairs, got function: write to=\[",
        ),
        ("second", TypeError, r"to must be a list .*, got str$"),
        ([second, "second"], TypeError, r"to\[1\] must be a function or \(function, policy\), got str"),
        ([Policy()], TypeError, r"to\[0\] must be a function .*, got a Policy without a function"),
        (
            (second, Policy()),
            TypeError,
            r"to must be a list .*, got one such pair: write to=\[\(tests\.test_fallback_chain\.second, policy\)\]",
        ),
        ([second, Policy()], TypeError, r"to\[1\] must be a function .*, got a Policy without a function"),
        ([(second, Retry(3))], TypeError, r"to\[0\] must be \(function, policy\) with a Policy, got Retry for it"),
        ([(second, "claude")], TypeError, r"to\[0\] must be \(function, policy\) with a Policy, got str for it"),
        ([(second, Policy(), 1)], TypeError, r"to\[0\] must be a function or \(function, policy\), got tuple"),
        ([("second", Policy())], TypeError, r"to\[0\] must be a function or \(function, policy\), got str"),
        ([None], TypeError, r"to\[0\] must be a function or \(function, policy\), got NoneType"),
        ([(n for n in ())], TypeError, r"got generator: was the function called already\?"),
    ],
)
def test_wrong_chains_fail_when_built(to: Any, error: type[Exception], message: str) -> None:
    """What is no list of functions is refused with the place, the rule and what it is."""
    with pytest.raises(error, match=message):
        Fallback(to=to)


def test_one_of_the_three_is_given() -> None:
    """A chain beside a handler or a value is a mistake."""
    with pytest.raises(TypeError, match="takes a handler, value= or to=, got value= and to="):
        Fallback(value=None, to=[second])
    with pytest.raises(TypeError, match="takes a handler, value= or to=, got a handler and to="):
        Fallback(first, to=[second])
