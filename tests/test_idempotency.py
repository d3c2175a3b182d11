"""A request whose answer got lost may have taken effect: what a policy repeats then, and what it says where it does
not."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
import tenacity

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Hedge,
    Policy,
    PolicyTimeoutError,
    Registry,
    Resume,
    Retry,
    StreamTimeout,
    Timeout,
    deadline,
    fixed,
    http_failure,
    idempotency_key,
    resilient,
)
from resilient_agents.config import ConfigError, define, loads, show
from resilient_agents.config.schema import schema
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.events import CallEnded, GaveUp
from resilient_agents.idempotency import Write
from resilient_agents.testing import failing
from tests.benchmarks.payments import MODES, Bank, pay_all
from tests.conftest import Events, Harness, run_on

LOST = ConnectionResetError
REFUSED = ConnectionRefusedError


def again(attempts: int = 3, **options: Any) -> Retry:
    return Retry(attempts, wait=fixed(0), **options)


def notes(error: BaseException) -> str:
    return "; ".join(getattr(error, "__notes__", []))


def told(policy: Policy) -> Events:
    events = Events()
    policy.observe(events)
    return events


class Shop:
    """Takes orders: `script` says what becomes of each, an error that is raised or a result."""

    def __init__(self, *script: Any, ask: bool = False) -> None:
        self.script = list(script)
        self.ask = ask
        self.keys: list[str] = []
        self.orders = 0

    async def order(self, *args: Any, **kwargs: Any) -> Any:
        self.orders += 1
        if self.ask:
            self.keys.append(idempotency_key())
        outcome = self.script.pop(0)
        if isinstance(outcome, type):
            raise outcome("order")
        return outcome


# --- idempotent=False -------------------------------------------------------------------------------------------------

REPEATING = [
    lambda: again(),
    lambda: Hedge(1000, extra=2),
    lambda: tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True),
    lambda: tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), reraise=True),
    lambda: Policy(again()),
]


@pytest.mark.parametrize("make", REPEATING)
async def test_what_may_have_taken_effect_is_not_repeated(h: Harness, make: Callable[[], Any]) -> None:
    """A lost connection proves nothing: the error comes out and says so, in its note and at the end of the call."""
    shop, policy = Shop(LOST, "twice"), Policy(make(), idempotent=False)
    events = told(policy)
    with pytest.raises(LOST) as caught:
        await h.call(policy, shop.order)
    assert shop.orders == 1
    assert "unknown_outcome=True: it may have taken effect all the same" in notes(caught.value)
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [True]


@pytest.mark.parametrize("make", REPEATING)
async def test_what_was_not_sent_is_repeated(h: Harness, make: Callable[[], Any]) -> None:
    """A refused connection proves that nothing was sent."""
    shop, policy = Shop(REFUSED, REFUSED, "done"), Policy(make(), idempotent=False)
    events = told(policy)
    assert await h.call(policy, shop.order) == "done"
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [False]


async def test_what_was_not_sent_leaves_no_doubt(h: Harness) -> None:
    """When no attempt was sent, the last error says nothing of an unknown outcome."""
    shop = Shop(REFUSED, REFUSED, REFUSED)
    with pytest.raises(REFUSED) as caught:
        await h.call(Policy(again(), idempotent=False), shop.order)
    assert "unknown_outcome" not in notes(caught.value)


async def test_one_doubtful_attempt_is_enough(h: Harness) -> None:
    """An attempt that was not sent proves nothing about one before it that was."""
    shop = Shop(LOST, REFUSED, ask=True)
    with pytest.raises(REFUSED) as caught:
        await h.call(Policy(again(2), idempotent=False), shop.order)
    assert "unknown_outcome=True" in notes(caught.value)


async def test_an_answer_before_does_not_settle_an_attempt_after(h: Harness) -> None:
    """A result that was rejected says nothing of the attempt that was lost after it."""

    class Response:
        status_code = 503

    with pytest.raises(LOST) as caught:
        await h.call(Policy(again(2, when=http_failure), idempotent=False), Shop(Response(), LOST, ask=True).order)
    assert "unknown_outcome=True" in notes(caught.value)


async def test_the_reason_is_told(h: Harness) -> None:
    """Who watches hears why a transient failure is not retried."""
    policy = Policy(again(), idempotent=False)
    events = told(policy)
    with pytest.raises(LOST):
        await h.call(policy, Shop(LOST).order)
    (gave_up,) = events.of(GaveUp)
    assert (gave_up.reason, gave_up.attempts) == ("unknown_outcome", 1)


async def test_a_result_that_is_rejected_was_sent(h: Harness) -> None:
    """A response that `when=` rejects is no proof either: it comes out, and the event says so."""

    class Response:
        status_code = 503

    policy = Policy(again(when=http_failure), idempotent=False)
    events, shop, response = told(policy), Shop(Response(), "twice"), Response()
    shop.script[0] = response
    assert await h.call(policy, shop.order) is response
    assert shop.orders == 1
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [True]


async def test_an_answer_that_says_no_leaves_no_doubt(h: Harness) -> None:
    """A refusal by the other side is known to have had no effect."""

    class NotFound(Exception):
        status_code = 404

    with pytest.raises(NotFound) as caught:
        await h.call(Policy(again(), idempotent=False), Shop(NotFound).order)
    assert "unknown_outcome" not in notes(caught.value)


async def test_a_refusal_of_ours_was_not_sent(h: Harness) -> None:
    """A bulkhead that is full refuses before anything is sent."""
    bulkhead = Bulkhead(1, max_wait=0)
    stream = Policy(bulkhead).stream(lambda: iter([1, 2]))
    threading.Thread(target=next, args=(iter(stream),)).start()
    while not bulkhead.in_use:
        pass
    shop = Shop("done")
    with pytest.raises(Exception) as caught:
        await h.call(Policy(again(on=(RuntimeError, Exception)), bulkhead, idempotent=False), shop.order)
    stream.close()
    assert shop.orders == 0
    assert "unknown_outcome" not in notes(caught.value)


async def test_a_time_limit_leaves_it_open(h: Harness) -> None:
    """What was cut off, or came too late, may have taken effect."""

    async def slow() -> None:
        await h.sleep(10)
        raise LOST("late")

    calls = 0

    async def counted() -> None:
        nonlocal calls
        calls += 1
        await slow()

    with pytest.raises(PolicyTimeoutError) as caught:
        await h.call(Policy(again(), Timeout(1, thread=False), idempotent=False), counted)
    assert calls == 1
    assert "unknown_outcome=True" in notes(caught.value)


async def test_no_outer_retry_repeats_it(h: Harness) -> None:
    """An error of unknown outcome counts as retried to its end for policies around."""
    shop = Shop(LOST, "twice")
    inner = Policy(Timeout(5, thread=False), idempotent=False)

    async def agent() -> Any:
        return await h.call(inner, shop.order)

    with pytest.raises(LOST):
        await h.call(Policy(again()), agent)
    assert shop.orders == 1


async def test_a_fallback_does_not_hide_it(h: Harness) -> None:
    """Something else stands in, and the event still says that the outcome is unknown."""
    policy = Policy(Fallback(value="later"), again(), idempotent=False)
    events = told(policy)
    assert await h.call(policy, Shop(LOST).order) == "later"
    assert [(event.outcome, event.unknown_outcome) for event in events.of(CallEnded)] == [("fallback", True)]


@pytest.mark.parametrize("ask", [False, True])
async def test_a_chain_goes_on_only_where_nothing_was_done(h: Harness, ask: bool) -> None:
    """Another service may do it after a refusal, and not where the first one may have: it does not know the key."""

    class Declined(Exception):
        status_code = 402

    other = Shop("other")
    policy = Policy(Fallback(to=[h.fn(other.order)], on=Exception), again(2), idempotent=False)
    assert await h.call(policy, Shop(Declined).order) == "other"
    with pytest.raises(LOST) as caught:
        await h.call(policy, Shop(LOST, LOST, ask=ask).order)
    assert "unknown_outcome=True" in notes(caught.value)
    assert other.orders == 1


async def test_nor_does_it_after_a_link_that_may_have_done_it(h: Harness) -> None:
    """Each link of the chain is one that could have."""
    second, third = Shop(LOST), Shop("third")
    policy = Policy(Fallback(to=[h.fn(second.order), h.fn(third.order)]), idempotent=False)
    with pytest.raises(LOST) as caught:
        await h.call(policy, Shop(REFUSED).order)
    assert "unknown_outcome=True" in notes(caught.value)
    assert third.orders == 0


async def test_the_last_link_of_a_chain_leaves_it_open_too(h: Harness) -> None:
    """It is the one that may have done it, and nobody around it lets it do so again."""
    second = Shop(LOST, LOST, LOST)
    policy = Policy(Fallback(to=[h.fn(second.order)]), again(1), idempotent=False)
    events = told(policy)
    with pytest.raises(LOST) as caught:
        await h.call(Policy(again()), h.fn(policy(h.fn(Shop(REFUSED, REFUSED, REFUSED).order))))
    assert "unknown_outcome=True" in notes(caught.value)
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [True]
    assert second.orders == 1


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_link_that_is_cut_off_leaves_it_open(runtime: str) -> None:
    """A time limit around the chain says nothing of what became of it."""

    async def scenario() -> None:
        policy = Policy(Timeout(1), Fallback(to=[anyio.sleep_forever]), again(1), idempotent=False)
        with pytest.raises(PolicyTimeoutError) as caught:
            await policy.acall(Shop(REFUSED).order)
        assert "unknown_outcome=True" in notes(caught.value)

    run_on(runtime, scenario)


async def test_a_chain_inside_a_retry_goes_on_where_nothing_was_sent(h: Harness) -> None:
    """The attempt that it is a part of is no other request."""
    other = Shop("other")
    policy = Policy(again(2), Fallback(to=[h.fn(other.order)]), idempotent=False)
    events = told(policy)
    assert await h.call(policy, Shop(REFUSED).order) == "other"
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [False]


@pytest.mark.parametrize("options", [{"idempotent": False}, {"reconcile": lambda: None}])
async def test_what_a_link_may_have_done_is_not_begun_anew(h: Harness, options: Any) -> None:
    """A retry around the chain would ask the first again, which knows of neither the key nor the other's request."""
    first, second = Shop(REFUSED, "twice", ask=True), Shop(LOST, ask=True)
    policy = Policy(again(3), Fallback(to=[h.fn(second.order)]), **options)
    with pytest.raises(LOST) as caught:
        await h.call(policy, first.order)
    assert "unknown_outcome=True" in notes(caught.value)
    assert (first.orders, second.orders) == (1, 1)


async def test_what_is_repeated_after_all_leaves_no_doubt(h: Harness) -> None:
    """A chain does not go on after a request that got lost, and the retry around it repeats that with its key."""
    policy = Policy(again(2), Fallback(to=[h.fn(Shop("other").order)]), idempotent=False)
    events = told(policy)
    assert await h.call(policy, Shop(LOST, "done", ask=True).order) == "done"
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [False]


async def test_nor_after_a_result_that_is_rejected(h: Harness) -> None:
    """What answered may have done it."""

    class Response:
        status_code = 503

    other, response = Shop("other"), Response()
    policy = Policy(Fallback(to=[h.fn(other.order)], when=http_failure), idempotent=False)
    shop = Shop(response)
    assert await h.call(policy, shop.order) is response
    assert other.orders == 0


async def test_a_chain_goes_no_further_after_an_answer_that_is_not_wanted(h: Harness) -> None:
    """What one of it answered has been done, whatever `when` says of the answer."""
    asked: list[str] = []

    async def refused() -> None:
        raise ConnectionRefusedError

    async def second() -> str:
        asked.append("second")
        return "unwanted"

    async def third() -> str:
        asked.append("third")
        return "never"

    policy = Policy(Fallback(to=[h.fn(second), h.fn(third)], when=lambda result: True), idempotent=False)
    assert await h.call(policy, refused) == "unwanted"
    assert asked == ["second"]


async def test_a_stream_that_breaks_off_leaves_it_open(h: Harness) -> None:
    """Its beginning does not say what became of the rest, and no retry around what reads it begins anew."""
    policy, begun = Policy(again(), idempotent=False), []
    events = told(policy)

    def broken() -> Generator[int, None, None]:
        begun.append(1)
        yield 1
        raise LOST

    async def abroken() -> AsyncGenerator[int, None]:
        for item in broken():
            yield item

    async def agent() -> None:
        await h.items(policy.stream(broken if h.blocking else abroken))

    with pytest.raises(LOST) as caught:
        await h.call(Policy(again()), agent)
    assert notes(caught.value) == "unknown_outcome=True: it may have taken effect all the same"
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [True]
    assert begun == [1]


def test_what_is_thrown_into_a_stream_leaves_no_doubt() -> None:
    """The error is the reader's own."""

    @resilient(idempotent=False)
    def items() -> Generator[int, None, None]:
        yield 1

    reading = items()
    next(reading)
    with pytest.raises(LOST) as caught:
        reading.throw(LOST())
    assert not notes(caught.value)


async def test_a_stream_with_a_fallback_does_not_hide_it(h: Harness) -> None:
    """The same before its first item."""
    policy, work = Policy(Fallback(value="later"), again(), idempotent=False), failing(LOST("before"))
    events = told(policy)
    assert await h.items(policy.stream(work.stream if h.blocking else work.async_stream)) == ["later"]
    assert [(event.outcome, event.unknown_outcome) for event in events.of(CallEnded)] == [("fallback", True)]


async def test_a_policy_of_nothing_else_says_so_too(h: Harness) -> None:
    """Without a layer that could repeat it."""
    with pytest.raises(LOST) as caught:
        await h.call(Policy(idempotent=False), Shop(LOST).order)
    assert notes(caught.value) == "unknown_outcome=True: it may have taken effect all the same"


async def test_a_stream_that_is_empty_ends(h: Harness) -> None:
    """It has taken effect, and has no items."""
    empty = failing([]).stream if h.blocking else failing([]).async_stream
    assert await h.items(Policy(again(), idempotent=False).stream(empty)) == []


async def test_a_refusal_after_a_doubtful_attempt_says_so(h: Harness) -> None:
    """When a circuit opens between two attempts, what comes out still tells of the first."""
    shop = Shop(LOST, ask=True)
    policy = Policy(again(), CircuitBreaker(failures=1), idempotent=False)
    with pytest.raises(CircuitOpenError) as caught:
        await h.call(policy, shop.order)
    assert "unknown_outcome=True" in notes(caught.value)


async def test_idempotent_and_untold_calls_are_repeated(h: Harness) -> None:
    """Nothing changes for policies that are told nothing, or that a call may be made twice."""
    for options in ({}, {"idempotent": True}):
        shop = Shop(LOST, "done")
        assert await h.call(Policy(again(), **options), shop.order) == "done"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_no_hedge_while_the_first_is_in_flight(runtime: str) -> None:
    """That a request is slow proves nothing."""
    requests = 0

    async def slow() -> str:
        nonlocal requests
        requests += 1
        await anyio.sleep(10)
        return "done"

    assert run_on(runtime, lambda: Policy(Hedge(1, extra=2), idempotent=False).acall(slow)) == "done"
    assert requests == 1


# --- idempotency_key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", REPEATING)
async def test_with_a_key_it_is_repeated(h: Harness, make: Callable[[], Any]) -> None:
    """All attempts of a call have one key, and the next call has another."""
    shop, policy = Shop(LOST, LOST, "done", "next", ask=True), Policy(make(), idempotent=False)
    assert await h.call(policy, shop.order) == "done"
    assert await h.call(policy, shop.order) == "next"
    one, two, three, other = shop.keys
    assert one == two == three != other


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("after", [0, 1])
def test_hedges_have_the_same_key(runtime: str, after: float) -> None:
    """A slow request that bears a key is hedged, `after` seconds after it began, by one of the same key."""
    keys: list[str] = []
    at: list[float] = []

    async def slow() -> str:
        keys.append(idempotency_key())
        at.append(anyio.current_time())
        await anyio.sleep(10 if len(keys) == 1 else 2)
        return f"answer {len(keys)}"

    async def scenario() -> None:
        began = anyio.current_time()
        assert await Policy(Hedge(after), idempotent=False).acall(slow) == "answer 2"
        assert [moment - began for moment in at] == [0, after]

    run_on(runtime, scenario)
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_hedge_starts_once_the_key_is_asked_for(runtime: str) -> None:
    """As long as the function has not asked, there is none; then at once, if it is time."""
    began: list[float] = []

    async def slow() -> None:
        began.append(anyio.current_time())
        await anyio.sleep(5)
        idempotency_key()
        await anyio.sleep(100)

    async def scenario() -> None:
        with anyio.move_on_after(20):
            await Policy(Hedge(1), idempotent=False).acall(slow)

    run_on(runtime, scenario)
    assert began[1] - began[0] == 5


def test_a_key_that_is_asked_for_ends_no_deadline() -> None:
    """A blocking call that waits within a deadline is woken by it, and waits on."""

    def order() -> str:
        asked.wait(0.05)
        idempotency_key()
        asked.wait(0.05)
        return "done"

    asked = threading.Event()
    with deadline(60):
        assert Policy(Hedge(30), idempotent=False).call(order) == "done"


def test_hedges_in_threads_have_the_same_key() -> None:
    """Blocking requests run in threads, and ask there."""
    keys, both = [], threading.Barrier(2, timeout=30)

    def order() -> str:
        keys.append(idempotency_key())
        both.wait()
        return "done"

    assert Policy(Hedge(0.001), idempotent=False).call(order) == "done"
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_function_in_a_thread_of_its_own_has_the_key() -> None:
    """Under `Timeout(thread=True)`, blocking and async."""
    script = [LOST("order"), None, LOST("order"), None]
    keys: list[str] = []

    def order() -> str:
        keys.append(idempotency_key())
        error = script.pop(0)
        if error is not None:
            raise error
        return threading.current_thread().name

    policy = Policy(again(), Timeout(30, thread=True), idempotent=False)
    assert policy.call(order) != threading.main_thread().name
    asyncio.run(policy.acall(order))
    assert keys[0] == keys[1] != keys[2] == keys[3]


async def test_nested_calls_have_keys_of_their_own(h: Harness) -> None:
    """The innermost call that knows of writes counts; one that does not leaves the key as it is around it."""
    seen: dict[str, str] = {}

    async def inside(name: str) -> None:
        seen[name] = idempotency_key()

    async def around() -> None:
        seen["before"] = idempotency_key()
        await h.call(Policy(again(), idempotent=False), inside, "inner")
        await h.call(Policy(again()), inside, "untold")
        seen["after"] = idempotency_key()

    await h.call(Policy(again(), idempotent=False), around)
    assert seen["before"] == seen["after"] == seen["untold"] != seen["inner"]


async def test_asked_for_outside_a_call_it_says_where_it_belongs(h: Harness) -> None:
    """Outside of any call, after one, and in a call of a policy that was told nothing."""

    async def ask() -> str:
        return idempotency_key()

    await h.call(Policy(again(), idempotent=False), ask)
    for outside in (ask(), h.call(Policy(again()), ask)):
        with pytest.raises(RuntimeError, match="outside a call of a policy that knows of writes: ask inside"):
            await outside


def test_a_task_that_outlives_the_call_has_no_key() -> None:
    """A key belongs to its call."""

    async def scenario() -> None:
        go = asyncio.Event()

        async def late() -> str:
            await go.wait()
            return idempotency_key()

        async def order() -> Any:
            return [asyncio.create_task(late())]

        (task,) = await Policy(again(), idempotent=False).acall(order)
        go.set()
        with pytest.raises(RuntimeError, match="outside a call"):
            await task

    asyncio.run(scenario())


def test_tasks_that_start_one_another_keep_nothing_of_the_calls_before() -> None:
    """Each takes over the context of the one before: a chain of what is over would grow for ever."""
    policy = Policy(again(), idempotent=False)

    async def order(left: int) -> list[Any]:
        gc.collect()
        kept.append(sum(isinstance(thing, Write) for thing in gc.get_objects()))
        return [] if not left else [asyncio.create_task(policy.acall(order, left - 1))]

    async def scenario() -> None:
        begun: Any = await policy.acall(order, 5)
        while begun:
            begun = await begun.pop()

    kept: list[int] = []
    asyncio.run(scenario())
    assert kept[-1] == kept[1]


def test_tasks_of_the_call_have_its_key() -> None:
    """What the function starts and waits for belongs to it."""

    async def ask() -> str:
        return idempotency_key()

    async def order() -> set[str]:
        return {*await asyncio.gather(ask(), ask()), await asyncio.to_thread(idempotency_key)}

    assert len(asyncio.run(Policy(again(), idempotent=False).acall(order))) == 1


def test_a_call_that_goes_on_as_an_awaitable_keeps_its_key() -> None:
    """A plain function that returns an awaitable, on an event loop or off it; the caller's context has no part."""
    keys: list[str] = []

    async def rest() -> str:
        keys.append(idempotency_key())
        if len(keys) % 2:
            raise LOST("order")
        return "done"

    guarded: Any = Policy(again(), idempotent=False)(lambda: rest())

    async def scenario() -> None:
        for _ in range(2):
            awaitable = guarded()
            with pytest.raises(RuntimeError):
                idempotency_key()
            assert await asyncio.create_task(awaitable) == "done"

    asyncio.run(scenario())
    assert keys[0] == keys[1] != keys[2] == keys[3]


@pytest.mark.parametrize("inside", [(), (StreamTimeout(idle=5, complete=None),)], ids=["alone", "limited"])
async def test_a_generator_has_its_key_until_its_end(h: Harness, inside: tuple[Strategy, ...]) -> None:
    """Also after its first item, with a limit for each, and its consumer has none."""
    keys: list[str] = []

    async def agenerate() -> AsyncGenerator[int, None]:
        for number in range(3):
            keys.append(idempotency_key())
            if len(keys) == 1:
                raise LOST("before the first item")
            yield number

    def generate() -> Any:
        for number in range(3):
            keys.append(idempotency_key())
            if len(keys) == 1:
                raise LOST("before the first item")
            yield number

    stream: Any = Policy(again(), *inside, idempotent=False)(generate if h.blocking else agenerate)()
    if h.blocking:
        for _ in stream:
            with pytest.raises(RuntimeError):
                idempotency_key()
    else:
        async for _ in stream:
            with pytest.raises(RuntimeError):
                idempotency_key()
    assert len(keys) == 4
    assert len(set(keys)) == 1


@pytest.mark.parametrize("ask", [False, True])
async def test_a_stream_that_broke_off_goes_on_only_with_a_key(h: Harness, ask: bool) -> None:
    """`Resume` asks the other side again."""

    def broken(*_: Any) -> Any:
        if ask:
            idempotency_key()
        yield 1
        raise LOST("in the midst")

    async def abroken(*_: Any) -> AsyncGenerator[int, None]:
        for item in broken():
            yield item

    policy = Policy(Resume(lambda items: iter([2]) if h.blocking else _aiter(2)), idempotent=False)
    stream = policy.stream(broken if h.blocking else abroken)
    if ask:
        assert await h.items(stream) == [1, 2]
        return
    with pytest.raises(LOST) as caught:
        await h.items(stream)
    assert "unknown_outcome=True" in notes(caught.value)


async def _aiter(*items: int) -> AsyncGenerator[int, None]:
    for item in items:
        yield item


# --- reconcile --------------------------------------------------------------------------------------------------------


class Lookup:
    """Says what became of earlier tries, as `script` has it."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[tuple[Any, Any]] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append((args, kwargs))
        outcome = self.script.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@pytest.mark.parametrize("make", REPEATING)
async def test_what_was_found_is_the_result(h: Harness, make: Callable[[], Any]) -> None:
    """Before a repetition `reconcile` is asked with the arguments of the call; what it finds comes out."""
    shop, lookup = Shop(LOST, "twice"), Lookup("paid")
    policy = Policy(make(), reconcile=h.fn(lookup.__call__))
    events = told(policy)
    assert await h.call(policy, shop.order, 7, to="shop") == "paid"
    assert (shop.orders, lookup.asked) == (1, [((7,), {"to": "shop"})])
    assert [event.unknown_outcome for event in events.of(CallEnded)] == [False]


@pytest.mark.parametrize("make", REPEATING)
async def test_what_did_not_take_effect_is_repeated(h: Harness, make: Callable[[], Any]) -> None:
    """None means that the tries so far did not take effect. A falsy answer is a result like any other."""
    shop, lookup = Shop(LOST, LOST, "twice"), Lookup(None, 0)
    assert await h.call(Policy(make(), reconcile=h.fn(lookup.__call__)), shop.order) == 0
    assert (shop.orders, len(lookup.asked)) == (2, 2)


async def test_nothing_is_looked_up_where_nothing_was_sent(h: Harness) -> None:
    """Neither before the first attempt, nor after one that was refused."""
    shop, lookup = Shop(REFUSED, "done"), Lookup()
    assert await h.call(Policy(again(), reconcile=h.fn(lookup.__call__)), shop.order) == "done"
    assert lookup.asked == []


async def test_it_is_asked_after_the_wait(h: Harness) -> None:
    """By then the other side may have come to an end with it."""
    shop, asked, began = Shop(LOST), [], h.now()

    async def lookup() -> str:
        asked.append(h.now() - began)
        return "paid"

    await h.call(Policy(Retry(2, wait=fixed(5)), reconcile=h.fn(lookup)), shop.order)
    assert asked == [5]


async def test_a_look_up_that_fails_is_retried(h: Harness) -> None:
    """It counts as an attempt that failed, and nothing is sent before one has succeeded."""
    shop, lookup = Shop(LOST, "done"), Lookup(LOST("lookup"), None)
    assert await h.call(Policy(again(), reconcile=h.fn(lookup.__call__)), shop.order) == "done"
    assert (shop.orders, len(lookup.asked)) == (2, 2)


async def test_an_error_of_reconcile_comes_out_with_its_cause(h: Harness) -> None:
    """One that is not retried is raised from the error of the try that it was asked about, and the outcome stays
    unknown."""
    shop, bug = Shop(LOST), KeyError("bug")
    policy = Policy(again(), reconcile=h.fn(Lookup(bug).__call__))
    with pytest.raises(KeyError) as caught:
        await h.call(policy, shop.order)
    assert caught.value is bug
    assert isinstance(bug.__cause__, LOST)
    assert "unknown_outcome=True" in notes(bug)
    assert shop.orders == 1


async def test_attempts_that_are_used_up_leave_the_outcome_unknown(h: Harness) -> None:
    """After the last attempt nobody asks."""
    shop, lookup = Shop(LOST, LOST), Lookup(None)
    with pytest.raises(LOST) as caught:
        await h.call(Policy(again(2), reconcile=h.fn(lookup.__call__)), shop.order)
    assert "gave up after 2 attempts" in notes(caught.value)
    assert "unknown_outcome=True" in notes(caught.value)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_look_up_that_hangs_ends_with_the_limit_around(runtime: str) -> None:
    """The limit of the whole call is its limit, too."""

    async def lookup() -> None:
        await anyio.sleep(1000)

    policy = Policy(Timeout(10), again(), reconcile=lookup)

    async def scenario() -> None:
        with pytest.raises(PolicyTimeoutError) as caught:
            await policy.acall(Shop(LOST).order)
        assert "unknown_outcome=True" in notes(caught.value)

    run_on(runtime, scenario)


def test_a_blocking_look_up_that_hangs_is_left_behind() -> None:
    """Where the call runs in threads, so does its look-up."""
    go = threading.Event()
    try:
        with pytest.raises(PolicyTimeoutError) as caught:
            Policy(Timeout(0.05, thread=True), again(), reconcile=lambda: go.wait(30)).call(failing(LOST("order")))
        assert "unknown_outcome=True" in notes(caught.value)
    finally:
        go.set()


def test_nothing_can_be_found_out_of_a_try_that_still_runs() -> None:
    """A thread that was left behind may yet send: so the call is not repeated, whatever a look-up would say."""
    go, calls = threading.Event(), []

    def order() -> None:
        calls.append(1)
        go.wait(30)

    try:
        with pytest.raises(PolicyTimeoutError) as caught:
            Policy(again(), Timeout(0.05, thread=True), reconcile=lambda: None).call(order)
        assert "unknown_outcome=True" in notes(caught.value)
        assert calls == [1]
    finally:
        go.set()


def test_an_async_look_up_in_a_blocking_call_is_refused_before_anything_is_sent() -> None:
    """Nobody could await it."""

    async def lookup() -> None: ...

    order = failing("done")
    with pytest.raises(TypeError, match="reconcile= of '.*' is async, which a blocking call cannot await: use"):
        Policy(again(), reconcile=lookup).call(order)
    assert order.calls == []
    with pytest.raises(TypeError, match="is async, which a blocking call cannot await") as caught:
        Policy(again(), reconcile=lambda: lookup()).call(failing(LOST("order")))
    assert isinstance(caught.value.__cause__, LOST)


def test_a_plain_look_up_serves_async_calls() -> None:
    """It is called as it is."""
    policy = Policy(again(), reconcile=lambda: "paid")
    assert asyncio.run(policy.acall(Shop(LOST).order)) == "paid"


async def test_a_stream_may_be_found(h: Harness) -> None:
    """What `reconcile` gives in place of a stream is iterated."""
    work = failing(LOST("before the first item"))
    policy = Policy(again(), reconcile=lambda: iter([1, 2]) if h.blocking else _aiter(1, 2))
    stream: Any = policy(work.stream if h.blocking else work.async_stream)()
    assert await h.items(stream) == [1, 2]


async def test_with_a_key_beside_it_a_look_up_saves_the_repetition(h: Harness) -> None:
    """It is asked before a retry, key or not."""
    shop, lookup = Shop(LOST, ask=True), Lookup("paid")
    assert await h.call(Policy(again(), reconcile=h.fn(lookup.__call__)), shop.order) == "paid"
    assert shop.orders == 1


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_with_a_key_hedges_look_nothing_up(runtime: str) -> None:
    """While the first request is in flight there is nothing to find."""
    requests = 0

    async def slow() -> str:
        nonlocal requests
        requests += 1
        idempotency_key()
        await anyio.sleep(10 if requests == 1 else 1)
        return f"answer {requests}"

    policy = Policy(Hedge(1), reconcile=Lookup())
    assert run_on(runtime, lambda: policy.acall(slow)) == "answer 2"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_what_became_of_a_try_that_was_cut_off_is_looked_up(runtime: str) -> None:
    """Once it is cancelled nothing of it goes on here."""

    async def slow() -> None:
        await anyio.sleep(10)

    policy = Policy(again(), Timeout(1), again(), reconcile=Lookup("paid"))
    assert run_on(runtime, lambda: policy.acall(slow)) == "paid"


# --- as options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"idempotent": 1}, TypeError, "idempotent must be True, False or None, got 1"),
        ({"reconcile": "find"}, TypeError, "reconcile must be a function of the call's arguments or None, got 'find'"),
        ({"reconcile": dict}, TypeError, "reconcile must be a function"),
        ({"idempotent": True, "reconcile": print}, ValueError, "reconcile is for calls that may not be made twice"),
        ({"idempotence": False}, TypeError, "did you mean 'idempotent'"),
    ],
)
def test_wrong_options_are_refused_when_the_policy_is_built(options: Any, error: Any, message: str) -> None:
    """The message names the argument, the rule and the value."""
    with pytest.raises(error, match=message):
        Policy(again(), **options)
    with pytest.raises(error, match=message):
        resilient(again(), **options)


def find(*_: Any) -> None: ...


def test_a_policy_describes_what_it_was_told() -> None:
    """As plain data; it pickles, and shows it in its `repr`."""
    policy = Policy(again(), name="pay", reconcile=find)
    for same in (policy, pickle.loads(pickle.dumps(policy))):
        described = json.loads(json.dumps(same.describe()))
        assert (described["idempotent"], described["reconcile"]) == (None, f"{__name__}.find")
    assert repr(Policy(name="pay", idempotent=False)) == "Policy(name='pay', idempotent=False)"
    assert Policy().describe()["idempotent"] is None


async def test_the_decorator_takes_the_same(h: Harness) -> None:
    """With strategies, with options, and alone on top of others."""
    for guard in (
        resilient(again(), idempotent=False),
        resilient(retry=again(), idempotent=False),
        lambda fn: resilient(idempotent=False)(resilient(retry=again())(fn)),
        lambda fn: resilient(retry=again())(resilient(idempotent=False)(fn)),
        lambda fn: resilient(idempotent=False)(resilient(retry=again(), reconcile=lambda: None)(fn)),
    ):
        shop = Shop(LOST, LOST, LOST)
        guarded: Any = guard(h.fn(shop.order))
        with pytest.raises(LOST) as caught:
            if h.blocking:
                guarded()
            else:
                await guarded()
        assert "unknown_outcome=True" in notes(caught.value)
    assert shop.orders == 3, "the last one was told how to find out"


def test_what_is_told_changes_with_the_policy() -> None:
    """A stand-in and a successor go by their own word, for functions that are guarded already, too."""

    def calls(count: int) -> bool:
        work = failing(*[LOST("order")] * 3)
        with pytest.raises(LOST):
            policy.call(work)
        return len(work.calls) == count

    policy = Policy(again())
    assert calls(3)
    with policy.replaced(Policy(again(), idempotent=False)):
        assert calls(1)
    policy.become(Policy(again(), idempotent=False))
    assert calls(1)
    with policy.replaced(Policy(again())):
        assert calls(3)
    policy.become(Policy(again()))
    assert calls(3)


# --- in files and by name ---------------------------------------------------------------------------------------------


@pytest.fixture
def defined() -> str:
    """A name for `find` that configurations may use."""
    define("find_order", reconcile=find)
    return "find_order"


def told_by(policy: Policy) -> tuple[Any, Any]:
    return policy.idempotent, policy.reconcile


def test_a_file_says_the_same(defined: str) -> None:
    """Also over what a policy extends, in a list of strategies, and by a variable; `config show` shows it."""
    text = f"""
        [policies.write]
        extends = "http"
        idempotent = false
        [policies.order]
        extends = "write"
        reconcile = "{defined}"
        [policies.read]
        extends = "write"
        idempotent = "none"
        [policies.batch]
        idempotent = "${{SAFE}}"
        strategies = [{{ kind = "retry" }}]
    """
    config = loads(text, env={"SAFE": "true", "RESILIENT_AGENTS__POLICIES__BATCH__RECONCILE": "none"})
    for name, expected in {
        "write": (False, None),
        "order": (False, find),
        "read": (None, None),
        "batch": (True, None),
    }.items():
        assert told_by(config.policies[name].build()) == expected
        assert told_by(loads(show(config, name), env={}).policies[name].build()) == expected
    assert pickle.loads(pickle.dumps(config)) == config


def test_mistakes_in_a_file_come_with_their_lines() -> None:
    """All of them at once."""
    with pytest.raises(ConfigError) as caught:
        loads(
            """
            [policies.a]
            idempotent = 3
            reconcile = "nothing"
            [policies.b]
            idempotence = false
            """,
            env={},
        )
    first, second, third = str(caught.value).splitlines()[1:]
    assert ":3: policies.a.idempotent = 3: must be true or false" in first
    assert ":4: policies.a.reconcile = 'nothing': is not known" in second
    assert ":6: policies.b.idempotence: is not known in a policy; did you mean 'idempotent'?" in third


def test_a_registry_tells_its_policies() -> None:
    """By name and by key, and anew after a reload."""
    registry = Registry({"policies": {"order": {"retry": 3, "idempotent": False}}})
    policies = [registry.policy("order"), registry.keyed("order", lambda key: key).policy("a")]
    assert [policy.idempotent for policy in policies] == [False, False]
    registry.configure({"policies": {"order": {"retry": 3}}})
    assert policies[0].idempotent is None


def test_a_file_that_says_nothing_leaves_the_word_of_code() -> None:
    """A policy that code has given a name stays as cautious as code made it."""
    registry, policy = Registry({"policies": {"order": {"retry": 5}}}), Policy(again(), idempotent=False)
    registry.add("order", policy)
    assert policy.idempotent is False
    registry.configure({"policies": {"order": {"retry": 4}}})
    assert policy.idempotent is False
    registry.configure({"policies": {"order": {"retry": 4, "idempotent": True}}})
    assert policy.idempotent is True


def test_the_schema_knows_both() -> None:
    """So that editors complete them."""
    policy = schema()["$defs"]["policy"]["properties"]
    assert policy["idempotent"]["anyOf"][0] == {"type": "boolean"}
    assert policy["reconcile"]["default"] == "none"


def test_a_strategy_of_somebody_elses_may_run_it_as_part_of_itself() -> None:
    """There the policy that the call belongs to says what may be repeated."""
    inner = Policy(again(), idempotent=False)

    class Delegating:
        def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
            return inner.execute(proceed, call)

    assert Policy(Delegating()).call(failing(LOST("order"), "done")) == "done"


# --- the proof --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_no_payment_is_made_twice_and_none_is_lost(mode: str, runtime: str) -> None:
    """Thousands of orders at a bank that drops 30 % of its answers, under Retry and Hedge: each is paid for once.
    Without key and look-up none is paid for twice, and who was told nothing else knows that nobody knows."""
    bank, orders = Bank(1), 3_000 if runtime == "asyncio" else 500
    outcome = run_on(runtime, lambda: pay_all(mode, bank.ask, orders))
    assert max(bank.payments.values()) == 1
    assert outcome.paid <= set(bank.payments)
    assert set(bank.payments) <= outcome.paid | outcome.unknown
    if mode == "idempotent=False alone":
        assert len(outcome.paid) + len(outcome.unknown) == orders
    else:
        assert outcome.paid == set(range(1, orders + 1))


def test_no_payment_is_made_twice_by_blocking_code() -> None:
    """The same in a thread, without hedges, which have threads of their own."""

    def scenario(key: bool) -> None:
        bank, paid = Bank(2), set()

        def ask(verb: str, order: int, key: str) -> int | None:
            if bank.refuses():
                raise REFUSED("refused")
            answer = bank.do(verb, order, key) if bank.arrives() else None
            if answer is None:
                raise LOST("lost")
            return answer

        def pay(order: int) -> int | None:
            return ask("pay", order, idempotency_key() if key else "")

        options: Any = {"idempotent": False} if key else {"reconcile": lambda order: ask("find", order, "") or None}
        guarded = Policy(again(30), **options)(pay)
        for order in range(1, 1001):
            assert guarded(order) == order
            paid.add(order)
        assert set(bank.payments) == paid
        assert max(bank.payments.values()) == 1

    for key in (True, False):
        run_on("blocking", lambda key=key: _later(scenario, key))  # type: ignore[misc]


async def _later(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)
