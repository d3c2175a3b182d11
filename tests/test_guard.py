"""Any callable keeps its kind, its signature and its ways under a policy."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import traceback
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Hedge,
    Policy,
    Registry,
    Retry,
    Timeout,
    registry,
    resilient,
)
from resilient_agents.core.call import Call, Proceed, name_of
from resilient_agents.core.driver import idle
from resilient_agents.core.loops import on_event_loop
from tests.conftest import Harness, run_on

policy = Policy()


class Again:
    """A strategy that repeats the call once when it fails."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        except Exception:
            pass
        return await proceed(call)


@policy
def module_level(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


def test_metadata_and_kind_stay() -> None:
    """Name, doc, signature and kind of the wrapper are those of the function."""

    async def coroutine() -> None: ...

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    def generator() -> Iterator[int]:
        yield 1

    assert (module_level.__name__, module_level.__doc__) == ("module_level", "Adds.")
    assert str(inspect.signature(module_level)) == "(a: 'int', b: 'int' = 2) -> 'int'"
    assert inspect.iscoroutinefunction(policy(coroutine))
    assert inspect.isasyncgenfunction(policy(async_generator))
    assert inspect.isgeneratorfunction(policy(generator))
    assert not inspect.iscoroutinefunction(policy(module_level))


def test_module_level_functions_pickle() -> None:
    """A decorated module-level function pickles by reference, as process pools need."""
    assert pickle.loads(pickle.dumps(module_level)) is module_level


class Tool:
    def __init__(self, base: int) -> None:
        self.base = base

    @policy
    def method(self, n: int) -> int:
        return self.base + n

    @policy
    async def amethod(self, n: int) -> int:
        return self.base + n

    @policy
    @classmethod
    def of_class(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n

    @classmethod
    @policy
    def of_class_inside(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n

    @policy
    @staticmethod
    def static(n: int) -> int:
        return n

    def __call__(self, n: int) -> int:
        return self.base * n


class AsyncTool:
    """Waits."""

    async def __call__(self, n: int) -> int:
        await asyncio.sleep(0)
        return n


def test_an_object_that_is_called_is_what_its_call_is() -> None:
    """A class is not: calling it makes one. A partial has nothing to say of itself."""
    guarded = policy(AsyncTool())
    assert inspect.iscoroutinefunction(guarded)
    assert guarded.__doc__ == "Waits."
    assert not inspect.iscoroutinefunction(policy(AsyncTool))
    assert type(policy(AsyncTool)()) is AsyncTool
    assert policy(functools.partial(int, base=2)).__doc__ is None


def test_functions_pickle_by_value() -> None:
    """As Ray, Dask and joblib pickle what is defined in a script or inside a function: the policy is looked up in the
    other process."""

    def made(x: int, *, y: int = 1) -> int:
        return x + y

    async def async_made(x: int) -> int:
        return x

    def generated(x: int) -> Iterator[int]:
        yield x

    @resilient(Timeout(5, thread=False))
    @resilient(Retry(2))
    def stacked(x: int) -> int:
        return x

    guard: Any = resilient("a name")
    for call, fn in (
        (lambda fn: fn(1), guard(made)),
        (lambda fn: asyncio.run(fn(2)), guard(async_made)),
        (lambda fn: list(fn(2)), guard(generated)),
        (lambda fn: fn(2), stacked),
    ):
        if fn is not stacked:
            call(fn)
        copied = pickle.loads(cloudpickle.dumps(fn))
        assert copied is not fn
        assert call(copied) in (2, [2])


def test_only_the_registry_of_the_process_pickles() -> None:
    """It is the other process's own there; another one holds live policies."""
    assert pickle.loads(pickle.dumps(registry)) is registry
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(Registry())


def test_a_decorated_function_keeps_its_defaults() -> None:
    """For frameworks that read them off the function: methods and partials have them, too."""

    def function(a: int, b: int = 1, *, c: int = 2) -> int:
        return a + b + c

    guarded: Any = policy(function)
    assert (guarded.__defaults__, guarded.__kwdefaults__) == ((1,), {"c": 2})
    assert guarded(1) == 4
    assert str(inspect.signature(guarded)) == str(inspect.signature(function))


def test_methods_partials_and_objects() -> None:
    """Bound, class and static methods, partials, callable objects, builtins and classes can be guarded."""
    tool = Tool(10)
    assert tool.method(1) == 11
    assert asyncio.run(tool.amethod(2)) == 12
    assert Tool.of_class(1) == tool.of_class(1) == Tool.of_class_inside(1) == ("Tool", 1)
    assert Tool.static(3) == tool.static(3) == 3
    assert policy(tool)(2) == 20
    assert policy(functools.partial(tool.method, 5))() == 15
    assert policy(len)([1, 2]) == 2
    assert policy(Tool)(7).base == 7
    assert asyncio.run(policy(AsyncTool())(4)) == 4
    assert inspect.iscoroutinefunction(policy(functools.partial(tool.amethod, 1)))
    assert asyncio.run(policy(functools.partial(AsyncTool(), 9))()) == 9


def test_what_cannot_be_called_is_refused() -> None:
    """The error comes when it is guarded."""
    with pytest.raises(TypeError, match="guards callables, got int"):
        policy(3)  # type: ignore[type-var]


class TestUndeclared:
    """Callables that do not say whether they are async."""

    def test_one_that_returns_a_coroutine_is_retried_as_one(self) -> None:
        """The chain that began blocking goes on as that awaitable: the failure inside it reaches the strategies, on
        each call."""
        calls = []

        async def create() -> str:
            calls.append(on_event_loop())
            await asyncio.sleep(0)
            if len(calls) % 2:
                raise ConnectionError
            return "made"

        guarded: Callable[[], Any] = Policy(Again())(lambda: create())

        async def main() -> list[str]:
            return [await guarded(), await guarded(), await asyncio.create_task(guarded())]

        assert asyncio.run(main()) == ["made"] * 3
        assert calls == [True] * 6

    def test_a_wrapped_coroutine_function_works_on_a_loop(self) -> None:
        """`functools.wraps` around an async function, without being one (as client libraries do)."""

        async def create(n: int) -> int:
            return n

        @functools.wraps(create)
        def required(*args: Any, **kwargs: Any) -> Any:
            return create(*args, **kwargs)

        async def main() -> int:
            return await policy(required)(3)

        assert asyncio.run(main()) == 3

    def test_a_blocking_wrapper_around_asyncio_run_stays_blocking(self) -> None:
        """Its metadata say async, its result does not: the result counts."""

        async def work(n: int) -> int:
            return n

        @functools.wraps(work)
        def blocking(n: int) -> int:
            return asyncio.run(work(n))

        assert Policy(Again())(blocking)(5) == 5

    def test_one_that_is_never_awaited_warns_and_leaks_nothing(self) -> None:
        """Dropping the awaitable closes the chain and what it holds."""
        released = []

        class Holding:
            async def execute(self, proceed: Proceed, call: Call) -> Any:
                try:
                    return await proceed(call)
                finally:
                    released.append(1)

        async def work() -> None: ...

        guarded: Callable[[], Any] = Policy(Holding())(lambda: work())
        with pytest.warns(RuntimeWarning, match="never awaited"):
            guarded()
        assert released == [1]


async def test_a_users_stop_iteration_comes_out_as_itself(h: Harness) -> None:
    """It cannot cross a coroutine (PEP 479); from a plain function it comes out all the same, as the same object."""
    error = StopIteration(42)

    def stops() -> None:
        raise error

    if h.blocking:
        with pytest.raises(StopIteration) as caught:
            Policy(Again(), CircuitBreaker())(stops)()
        assert caught.value is error
    else:  # where Python itself makes it a RuntimeError
        with pytest.raises(RuntimeError, match="StopIteration") as raised:
            await Policy(Again(), CircuitBreaker()).acall(stops)
        assert raised.value.__cause__ is error


async def test_a_users_error_keeps_its_context_and_a_readable_traceback(h: Harness) -> None:
    """Same object, no added context, one line of ours per layer."""
    original = TimeoutError("mine")

    async def fails() -> None:
        raise original

    with pytest.raises(TimeoutError) as caught:
        await h.call(Policy(CircuitBreaker(), CircuitBreaker()), fails)
    assert caught.value is original
    assert caught.value.__context__ is None
    ours = [frame for frame in traceback.extract_tb(caught.tb) if "resilient_agents" in frame.filename]
    assert len(ours) <= 6


def test_call_refuses_an_async_function_with_the_remedy() -> None:
    """The coroutine is closed, so there is no warning besides."""

    async def work() -> None: ...

    with pytest.raises(TypeError, match="use `await policy.acall"):
        policy.call(work)
    with pytest.raises(TypeError, match=r"use policy.stream"):
        policy.call(generator)


def generator() -> Iterator[int]:
    yield 1


def test_acall_takes_everything() -> None:
    """Coroutine functions, callables that return awaitables, plain functions; generator functions are refused."""

    async def work(n: int) -> int:
        return n

    async def main() -> list[Any]:
        with pytest.raises(TypeError, match=r"use policy.stream"):
            await policy.acall(generator)
        return [await policy.acall(work, 1), await policy.acall(lambda: work(2)), await policy.acall(lambda: 3)]

    assert run_on("asyncio", main) == [1, 2, 3]
    assert run_on("trio", main) == [1, 2, 3]


def test_a_strategy_that_suspends_in_a_blocking_call_fails_loudly() -> None:
    """It may wait through the runtime only."""

    class Suspends:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            await asyncio.sleep(0)
            return await proceed(call)

    with pytest.raises(RuntimeError, match="suspended in a blocking call"):
        Policy(Suspends()).call(lambda: 1)


def test_tracebacks_form_no_cycles() -> None:
    """When a call fails nothing of it waits for the garbage collector."""

    class Marker: ...

    def fails() -> None:
        marker = Marker()
        alive.append(marker.__class__)
        raise ConnectionError

    alive: list[Any] = []
    guarded = Policy(Again(), CircuitBreaker())(fails)
    gc.collect()
    before = {id(thing) for thing in gc.get_objects() if isinstance(thing, Call)}
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(ConnectionError) as caught:
                guarded()
            del caught
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Call) and id(thing) not in before]
    finally:
        gc.enable()


def test_an_expected_awaitable_is_a_coroutine_from_the_beginning() -> None:
    """Once a callable has returned an awaitable, or shows an async function under its wrappers, nothing is held, and
    nothing raised, before the call is awaited."""
    entered = []

    class Refusing:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            entered.append(on_event_loop())
            if len(entered) > 1:
                raise ConnectionError("refused")
            return await proceed(call)

    async def work() -> int:
        return 1

    @functools.wraps(work)
    def wrapped() -> Any:
        return work()

    guarded: Callable[[], Any] = Policy(Refusing())(lambda: work())

    async def main() -> None:
        assert await guarded() == 1
        pending = guarded(), Policy(Refusing())(wrapped)()
        assert len(entered) == 1
        outcomes = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
        later = guarded()  # its plan is known by now
        assert len(entered) == 3
        with pytest.raises(ConnectionError):
            await later

    asyncio.run(main())


class Proxy:
    """Answers to every name, as RPC clients do."""

    def __getattr__(self, name: str) -> Any:
        return Proxy()

    def __call__(self, n: int) -> int:
        return n


def test_what_answers_to_every_name_is_not_taken_for_async() -> None:
    """On an event loop it gives what it gives elsewhere."""

    async def main() -> Any:
        return policy(Proxy())(3)

    assert asyncio.run(main()) == 3


def test_an_object_that_cannot_be_called_names_its_methods() -> None:
    """Those under which agents and models do their work."""

    class Agent:
        def invoke(self) -> None: ...
        async def ainvoke(self) -> None: ...

    with pytest.raises(TypeError, match=r"got Agent: guard the methods .* policy\(thing.invoke\) and policy\(thing"):
        policy(Agent())
    with pytest.raises(TypeError, match="got int$"):
        policy(5)


def test_what_a_refused_awaitable_holds_is_given_back_at_once() -> None:
    """Not when the error is forgotten, whose traceback leads to it."""
    bulkhead = Bulkhead(1)

    async def work() -> None: ...

    for refuses in (Policy(bulkhead), Policy(Hedge(1), bulkhead)):
        with pytest.raises(TypeError, match="returned an awaitable") as raised:
            refuses.call(lambda: work())
        assert (bulkhead.in_use, raised.type) == (0, TypeError)


def test_callables_without_a_name_of_their_own_get_one() -> None:
    """Partials by what they wrap, objects and proxies by their class: no address, no name of ours."""
    partial: Any = policy(functools.partial(module_level, 1))
    proxy: Any = policy(Proxy())
    assert (proxy(3), proxy.__module__, proxy.__qualname__) == (3, Proxy.__module__, "Proxy")
    assert (partial(), partial.__qualname__) == (3, "module_level")
    assert name_of(policy(partial)) == f"{__name__}.module_level"


def test_generator_based_coroutines_are_awaited() -> None:
    """`types.coroutine` makes a generator function awaitable: it is no stream."""

    @types.coroutine
    def old_style() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 5

    async def main() -> Any:
        return await policy(old_style)()

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("declared", [True, False])
def test_an_async_function_whose_handler_raises_stop_iteration(declared: bool) -> None:
    """Python's own RuntimeError comes out, nothing of ours."""

    def stops(error: Exception) -> None:
        raise StopIteration

    async def fails() -> None:
        raise ConnectionError

    async def main() -> None:
        await Policy(Fallback(stops))(fails if declared else lambda: fails())()

    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        asyncio.run(main())
    assert type(raised.value.__cause__) is StopIteration


def test_a_refused_call_costs_no_driver() -> None:
    """A circuit that is open refuses before anything runs: what would have run it is there for the next call."""
    breaker = CircuitBreaker(failures=1)
    guarded = Policy(breaker)(int)
    guarded()
    breaker.open()
    before = len(idle)
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            guarded()
    assert len(idle) == before
