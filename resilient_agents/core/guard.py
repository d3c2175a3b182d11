"""Which wrapper fits which callable. Every wrapper keeps the kind of what it wraps: a guarded coroutine function is one
itself.

A callable that declares nothing is decided when it is called: its chain begins blocking, and goes on as an awaitable if
one comes out. Where that is to be expected on an event loop (an async function is under its wrappers, or it has
returned an awaitable before), the call is a coroutine from the beginning, so that nothing is held before it is awaited
(`AsyncOpenAI().chat.completions.create` declares nothing; a plain wrapper around `asyncio.run` may carry an async
function's metadata).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, cast

from resilient_agents.base.now import now
from resilient_agents.core.call import ORDINARY, STOPPED, Boxed, Call, name_of
from resilient_agents.core.driver import Begun, discard, idle, new_driver, unfinished
from resilient_agents.core.drivers import async_driver, blocking_driver
from resilient_agents.core.first_attempt import coroutine_of_one_retry, function_of_one_retry
from resilient_agents.core.invoke import PLAIN, invoke_any, invoke_coroutine, refuse_unrun, runs_later
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.runtime import ASYNC, BLOCKING
from resilient_agents.core.way_in import Guarding, WayIn

__all__ = ["check_callable", "declares", "guard"]

take, put_back = idle.pop, idle.append

_METHODS = ("invoke", "ainvoke", "stream", "astream", "run", "arun", "run_sync", "create", "generate")
"""Names under which agents, models and clients do their work."""


def guard(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` guarded by `policy`: same signature, same kind, same name. Raises TypeError for what cannot be called."""
    if isinstance(fn, staticmethod | classmethod):
        descriptor: Any = type(fn)
        return cast(Callable[..., Any], descriptor(guard(policy, fn.__func__)))
    if not callable(fn):
        raise TypeError(f"a policy guards callables, got {type(fn).__name__}{methods_of(fn)}")
    if declares(inspect.iscoroutinefunction, fn) or declares(_is_generator_based, fn):
        _refuse_no_stream(policy, fn)
        wrapper = (coroutine_of_one_retry if policy.is_one_retry else _coroutine)(policy, fn)
    elif declares(inspect.isasyncgenfunction, fn):
        wrapper = _async_generator(policy, fn)
    elif declares(inspect.isgeneratorfunction, fn):
        wrapper = _generator(policy, fn)
    else:
        _refuse_no_stream(policy, fn)
        wrapper = (function_of_one_retry if policy.is_one_retry else _plain)(policy, fn)
    for name, kind in (("__defaults__", tuple), ("__kwdefaults__", dict)):  # for whoever reads them off the function
        if isinstance(defaults := getattr(fn, name, None), kind):
            setattr(wrapper, name, defaults)
    if type(getattr(fn, "__qualname__", None)) is str:
        return functools.update_wrapper(wrapper, fn)
    wrapper.__module__, _, wrapper.__name__ = name_of(fn).rpartition(".")  # of a partial, an object, a proxy
    wrapper.__qualname__ = wrapper.__name__
    wrapper.__doc__ = getattr(type(fn), "__doc__", None) if not isinstance(fn, functools.partial) else None
    return functools.update_wrapper(wrapper, fn, assigned=(), updated=())


def _refuse_no_stream(policy: Guarding, fn: Callable[..., Any]) -> None:
    """Raise what a layer for streams says of a function that is none."""
    for layer in getattr(policy, "layers", ()):
        refuse = getattr(layer, "refuse_no_stream", None)
        if refuse is not None:
            refuse(name_of(fn))


def methods_of(thing: object) -> str:
    """What to guard of an object that cannot be called: an agent's or a model's methods that do the work."""
    found = [name for name in _METHODS if callable(getattr(thing, name, None))]
    if not found:
        return ""
    shown = " and ".join(f"policy(thing.{name})" for name in found)
    return (
        f": guard the methods that do its work, {shown}, or call them with policy.call, policy.acall or policy.stream"
    )


def check_callable(fn: object, method: str) -> None:
    """Raise TypeError for what a policy's method cannot call."""
    if not callable(fn):
        discard(fn)  # a coroutine that would never be awaited
        raise TypeError(
            f"policy.{method} takes a function and its arguments, `policy.{method}(fn, 1, 2)`, "
            f"got {type(fn).__name__}{methods_of(fn) or ': was the function called already?'}"
        )


def declares(kind: Callable[[object], bool], fn: Callable[..., Any]) -> bool:
    """Is `fn`, or the `__call__` of the object that it is, of this kind?"""
    if kind(fn):
        return True
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return False
    return kind(getattr(fn, "__call__", None))  # noqa: B004 - its kind is asked for, not whether it has one


def _is_generator_based(fn: object) -> bool:
    """Is it a generator function that `types.coroutine` made awaitable?"""
    code = getattr(fn, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


# The two wrappers below are the path of every call. The first look decides whether it is an ordinary one, of which
# nobody wants to know anything; what follows is then `WayIn.run` and `WayIn.arun`, spelled out. A test holds the two
# ways equal.


def _coroutine(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    entry = WayIn(policy, fn, invoke_coroutine)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        plan = entry.plan
        if (
            plan.quiet is not now.edition
            or now.tracing._TRACER_PROVIDER is not now.bridge.quiet_tracer
            or now.metering._METER_PROVIDER is not now.bridge.quiet_meter
            or (chain := plan.chain if now.deadline() is None else plan.paid()) is None
        ):
            return await entry.arun(args, kwargs)
        call = Call()
        call.plan = plan
        call.runtime = ASYNC
        call.fn = entry.fn
        call.args = args
        call.kwargs = kwargs
        call.rare = ORDINARY
        try:
            result = await chain(call)
        except Boxed as boxed:  # from a handler: the function itself cannot raise StopIteration
            raise RuntimeError(STOPPED) from boxed.error
        if type(result) not in PLAIN and runs_later(type(result)):
            refuse_unrun(fn, result)
        return result

    return guarded


def _plain(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    entry = WayIn(policy, fn, invoke_any)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        plan = entry.plan
        if (
            plan.quiet is not now.edition
            or now.tracing._TRACER_PROVIDER is not now.bridge.quiet_tracer
            or now.metering._METER_PROVIDER is not now.bridge.quiet_meter
            or (chain := plan.chain if now.deadline() is None else plan.paid()) is None
        ):
            return entry.run(args, kwargs)
        call = Call()
        call.plan = plan
        call.runtime = BLOCKING
        call.fn = entry.fn
        call.args = args
        call.kwargs = kwargs
        call.rare = ORDINARY
        begun = chain(call)  # before a driver is taken: some calls are refused here
        try:
            driver = take()
        except IndexError:  # all are busy
            driver = new_driver()
        try:
            result = driver.send(begun)
        except Boxed as boxed:
            error = boxed.error
        else:
            if driver.gi_yieldfrom is not None:
                return unfinished(Begun(driver), result, entry.switched)
            put_back(driver)
            if type(result) not in PLAIN and runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    return guarded


def _generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    return blocking_driver(WayIn(policy, fn, invoke_stream).call)


def _async_generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    return async_driver(WayIn(policy, fn, invoke_stream).call)
