"""Composition: order, nesting, what a policy says of itself, and who is told what."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import pickle
import weakref
from typing import Any

import pytest

import resilient_agents
from resilient_agents import Bulkhead, CircuitBreaker, Fallback, Policy, Retry, fixed
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.runtime import settle
from resilient_agents.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CallStarted,
    CircuitOpened,
    Event,
)
from tests.conftest import Events, Harness, run_on


class Tracing:
    """Writes down when it is entered and left."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        self.log.append(f"+{self.name}")
        try:
            return await proceed(call)
        finally:
            self.log.append(f"-{self.name}")


class Twice:
    owns_attempts = True

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        except ConnectionError:
            pass
        return await proceed(call)


class Flaky:
    def __init__(self, failures: int) -> None:
        self.calls, self.failures = 0, failures

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("flaky")
        return "fine"


async def flaky_once(flaky: Flaky) -> str:
    return await flaky()


async def test_strategies_run_outermost_first(h: Harness) -> None:
    """Policy(A, Policy(B, C), D) is A(B(C(D(fn))))."""
    log: list[str] = []
    a, b, c, d = (Tracing(name, log) for name in "ABCD")

    async def fn() -> None:
        log.append("fn")

    await h.call(Policy(a, Policy(b, c), d), fn)
    assert log == ["+A", "+B", "+C", "+D", "fn", "-D", "-C", "-B", "-A"]


async def test_an_empty_policy_only_calls(h: Harness) -> None:
    """Arguments, keyword arguments named like ours, and the result pass through."""

    async def fn(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    result = await h.call(Policy(), fn, 1, call=2, proceed=3, args=5)
    assert result == ((1,), {"call": 2, "proceed": 3, "args": 5})


async def test_a_policy_runs_inside_a_strategy_of_ones_own(h: Harness) -> None:
    """`execute` makes it a strategy for any composition."""
    log: list[str] = []
    inner = Policy(Tracing("inner", log))

    class Delegating:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            return await inner.execute(proceed, call)

    async def fn() -> int:
        return 1

    assert await h.call(Policy(Delegating()), fn) == 1
    assert log == ["+inner", "-inner"]


async def test_observers_hear_of_the_call_and_its_attempts(h: Harness) -> None:
    """Attempts are passes inside the innermost strategy that repeats; the operation is told of once."""
    policy, seen = Policy(Twice(), name="p"), Events()
    undo = policy.observe(seen)
    assert await h.call(policy, flaky_once, Flaky(1)) == "fine"
    assert [type(event) for event in seen] == [
        CallStarted,
        AttemptStarted,
        AttemptEnded,
        AttemptStarted,
        AttemptEnded,
        CallEnded,
    ]
    first, second = seen.of(AttemptEnded)
    assert (first.attempt, first.outcome, first.failure.kind) == (1, "failure", "connection")
    assert (second.attempt, second.outcome, second.failure) == (2, "success", None)
    (ended,) = seen.of(CallEnded)
    assert (ended.policy, ended.outcome, ended.attempts, ended.failure) == ("p", "success", 2, None)
    undo()
    seen.clear()
    await h.call(policy, flaky_once, Flaky(0))
    assert seen == []


async def test_an_attempt_says_how_long_it_took(h: Harness) -> None:
    """Without the waits between attempts."""
    policy, seen = Policy(Retry(2, wait=fixed(5, jitter=None))), Events()
    policy.observe(seen)

    async def slow() -> None:
        await h.sleep(3)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await h.call(policy, slow)
    assert [event.duration for event in seen.of(AttemptEnded, CallEnded)] == pytest.approx([3, 3, 11])


async def test_a_predicate_that_raises_is_no_attempt_that_fails(h: Harness) -> None:
    """The function has answered: what the predicate raises comes out, as where nobody watches, and is not retried."""
    seen, calls = Events(), list[int]()

    def when(result: object) -> bool:
        raise ConnectionError("of the predicate")

    async def work() -> None:
        calls.append(1)

    policy = Policy(Retry(3, when=when, wait=fixed(0)))
    policy.observe(seen)
    with pytest.raises(ConnectionError, match="of the predicate"):
        await h.call(policy, work)
    assert len(calls) == 1
    assert [event.outcome for event in seen.of(AttemptEnded)] == ["success"]


async def test_a_rejected_pass_is_a_rejected_attempt(h: Harness) -> None:
    """And the caller's outcome is a rejection."""
    breaker, seen = CircuitBreaker(failures=1), Events()
    policy = Policy(breaker)
    policy.observe(seen)
    breaker.open()
    with pytest.raises(RuntimeError):
        await h.call(policy, flaky_once, Flaky(0))
    assert [event.outcome for event in seen.of(AttemptEnded, CallEnded)] == ["rejected", "rejected"]
    assert [event.strategy for event in seen.of(CallRejected)] == ["circuit_breaker"]


@pytest.mark.parametrize("beside", ["inside", "outside"])
async def test_without_a_retry_all_is_the_attempt_but_what_stands_in(h: Harness, beside: str) -> None:
    """The circuit breaker is part of it, whatever is inside of it or answers in its place."""
    breaker, seen = CircuitBreaker(failures=1), Events()
    policy = Policy(breaker, Bulkhead(1)) if beside == "inside" else Policy(Fallback(value="instead"), breaker)
    policy.observe(seen)
    breaker.open()
    with contextlib.suppress(RuntimeError):
        await h.call(policy, flaky_once, Flaky(0))
    assert [event.outcome for event in seen.of(AttemptEnded)] == ["rejected"]


async def test_an_observer_of_a_nested_policy_hears_its_calls(h: Harness) -> None:
    """Also one that came after the outer policy was made; it hears each event once."""
    inner = Policy(CircuitBreaker(failures=1))
    outer, seen = Policy(inner), Events()
    undo = inner.observe(seen)
    outer.observe(seen)
    inner_only = Events()
    inner.observe(inner_only)
    with pytest.raises(ConnectionError):
        await h.call(outer, flaky_once, Flaky(9))
    assert len(inner_only.of(CircuitOpened)) == 1
    undo()


async def test_the_name_is_the_functions_unless_given(h: Harness) -> None:
    """module.qualname of what is guarded, of partials and objects too."""
    policy, seen = Policy(), Events()
    policy.observe(seen)
    await h.call(policy, flaky_once, Flaky(0))
    assert seen[0].policy.endswith("flaky_once")


def test_it_describes_itself_as_plain_data() -> None:
    """Options and live state in order; nothing but what json takes."""
    policy = Policy(Policy(CircuitBreaker("described"), name="inner"), Twice(), name="outer")
    described = json.loads(json.dumps(policy.describe()))
    assert (described["name"], described["strategies"][0]["name"]) == ("outer", "inner")
    assert described["strategies"][0]["strategies"][0]["metrics"]["state"] == "closed"
    assert described["strategies"][1] == {"strategy": "Twice"}
    assert "inner" in repr(policy)


@pytest.mark.parametrize(
    ("thing", "got"),
    [
        (3, "int"),
        (None, "NoneType"),
        (CircuitBreaker, "the class CircuitBreaker, not an instance"),
        (Policy, "the class Policy, not an instance"),
        ("retry", "the name 'retry'"),
        (print, "builtin_function_or_method"),
        ([CircuitBreaker()], "list"),
    ],
)
def test_what_is_no_strategy_is_refused(thing: Any, got: str) -> None:
    """The error lists what can be one, and says what came."""
    with pytest.raises(
        TypeError, match=rf"a strategy must be .*tenacity.*pybreaker.*CapacityLimiter.*AsyncLimiter.* got {got}"
    ):
        Policy(thing)


def test_the_refusal_names_every_strategy_of_ours() -> None:
    """Whoever comes with something else sees all that there is."""
    ours = [name for name in resilient_agents.__all__ if hasattr(getattr(resilient_agents, name), "execute")]
    with pytest.raises(TypeError) as caught:
        Policy(3)
    assert len(ours) > 9
    assert [name for name in ours if name not in str(caught.value)] == []


def test_a_name_in_place_of_a_strategy_is_told_where_names_belong() -> None:
    """To the registry, or to the presets."""
    with pytest.raises(TypeError, match=r"get_policy\('llm'\).*preset\('llm'\)"):
        Policy("llm")


@pytest.mark.parametrize("name", ["", 3])
def test_a_bad_name_is_refused(name: Any) -> None:
    """Names show everywhere: an empty one helps nobody."""
    with pytest.raises(ValueError, match="name must be"):
        Policy(name=name)


def test_an_observer_must_be_a_plain_function() -> None:
    """Nothing would await an async one."""

    async def observer(event: Event) -> None: ...

    with pytest.raises(TypeError, match="nothing awaits it"):
        Policy().observe(observer)
    with pytest.raises(TypeError, match="callable"):
        Policy().observe(3)  # type: ignore[arg-type]


def test_policies_pickle_unless_they_hold_live_state() -> None:
    """A policy of plain strategies travels; one with a breaker says why it cannot."""
    assert pickle.loads(pickle.dumps(Policy(name="p"))).name == "p"
    with pytest.raises(TypeError, match="CircuitBreaker holds live state"):
        pickle.dumps(Policy(CircuitBreaker()))


async def test_a_strategy_may_settle_an_awaitable(h: Harness) -> None:
    """`settle` is for user functions that a strategy calls: awaited in async code, refused by `call`."""

    class Instead:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            return await settle(call, Flaky(0)())

    if h.blocking:
        with pytest.raises(TypeError, match="acall"):
            Policy(Instead()).call(print)
    else:
        assert await Policy(Instead()).acall(print) == "fine"


def test_what_was_called_already_is_refused_with_the_remedy() -> None:
    """A coroutine in place of the function is closed, and the error says what to pass."""

    async def main() -> None:
        with pytest.raises(TypeError, match=r"policy.acall takes a function.*got coroutine: was the function called"):
            await Policy().acall(Flaky(0)())  # type: ignore[arg-type,call-overload]

    with pytest.raises(TypeError, match=r"policy.call takes a function.*got int"):
        Policy().call(3)  # type: ignore[arg-type]
    run_on("asyncio", main)


def test_a_policy_that_is_dropped_lets_go_of_its_strategies_at_once() -> None:
    """Nothing that it remembers of its calls refers back to it: no garbage collection is needed before a circuit's
    name is free again."""

    class Passes:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            return await proceed(call)

    async def work() -> int:
        return 1

    strategy = Passes()
    gone = weakref.ref(strategy)
    policy = Policy(strategy, Retry(2))
    guarded, async_guarded = policy(int), policy(work)
    assert (policy.call(int), guarded(), asyncio.run(async_guarded())) == (0, 0, 1)
    assert list(policy.stream(range, 1)) == [0]
    gc.disable()
    try:
        del strategy, policy, guarded, async_guarded
        assert gone() is None
    finally:
        gc.enable()
