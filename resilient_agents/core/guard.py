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
from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any, Protocol, cast

from resilient_agents.core.call import Boxed, Call, Plan, Proceed, name_of
from resilient_agents.core.invoke import PLAIN, invoke_any, invoke_coroutine, refuse_unrun, runs_later
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.runtime import ASYNC, BLOCKING, go_on, on_event_loop, unfinished
from resilient_agents.core.streams import async_driver, blocking_driver

__all__ = ["Composed", "Guarding", "guard", "methods_of"]

_METHODS = ("invoke", "ainvoke", "stream", "astream", "run", "arun", "run_sync", "create", "generate")
"""Names under which agents, models and clients do their work."""


class Composed(Protocol):
    """A policy composed around one innermost step."""

    def enter(self, call: Call) -> Proceed:
        """The chain for this call: the quiet one unless somebody watches or a deadline is in force."""
        ...


class Guarding(Protocol):
    """What a wrapper needs of a policy."""

    def composed(self, innermost: Proceed) -> Composed: ...
    def plan_for(self, fn: Callable[..., Any]) -> Plan: ...


def guard(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` guarded by `policy`: same signature, same kind, same name. Raises TypeError for what cannot be called."""
    if isinstance(fn, staticmethod | classmethod):
        descriptor: Any = type(fn)
        return cast(Callable[..., Any], descriptor(guard(policy, fn.__func__)))
    if not callable(fn):
        raise TypeError(f"a policy guards callables, got {type(fn).__name__}{methods_of(fn)}")
    if declares(inspect.iscoroutinefunction, fn) or declares(_is_generator_based, fn):
        wrapper = _coroutine(policy, fn)
    elif declares(inspect.isasyncgenfunction, fn):
        wrapper = _async_generator(policy, fn)
    elif declares(inspect.isgeneratorfunction, fn):
        wrapper = _generator(policy, fn)
    else:
        wrapper = _plain(policy, fn)
    for name, kind in (("__defaults__", tuple), ("__kwdefaults__", dict)):  # for whoever reads them off the function
        if isinstance(defaults := getattr(fn, name, None), kind):
            setattr(wrapper, name, defaults)
    if type(getattr(fn, "__qualname__", None)) is str:
        return functools.update_wrapper(wrapper, fn)
    wrapper.__module__, _, wrapper.__name__ = name_of(fn).rpartition(".")  # of a partial, an object, a proxy
    wrapper.__qualname__ = wrapper.__name__
    wrapper.__doc__ = getattr(type(fn), "__doc__", None) if not isinstance(fn, functools.partial) else None
    return functools.update_wrapper(wrapper, fn, assigned=(), updated=())


def methods_of(thing: object) -> str:
    """What to guard of an object that cannot be called: an agent's or a model's methods that do the work."""
    found = [name for name in _METHODS if callable(getattr(thing, name, None))]
    if not found:
        return ""
    shown = " and ".join(f"policy(thing.{name})" for name in found)
    return (
        f": guard the methods that do its work, {shown}, or call them with policy.call, policy.acall or policy.stream"
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


def _looks_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        return inspect.iscoroutinefunction(inspect.unwrap(fn))
    except ValueError:  # a proxy that has every attribute, `__wrapped__` without end
        return False


def _coroutine(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    composed = policy.composed(invoke_coroutine)
    enter = composed.enter
    plan = policy.plan_for(fn)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, ASYNC, fn, args, kwargs)
        try:
            result = await enter(call)(call)
        except Boxed as boxed:  # from a handler: the function itself cannot raise StopIteration
            error = boxed.error
        else:
            if type(result) not in PLAIN and runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        try:
            raise error
        finally:
            del error

    return guarded


def _plain(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    enter = policy.composed(invoke_any).enter
    plan = policy.plan_for(fn)
    looks_async = _looks_async(fn)

    def switched(chain: Any) -> Any:
        nonlocal looks_async
        looks_async = True
        return rest(chain)

    async def later(call: Call) -> Any:
        call.runtime = ASYNC
        return await rest(cast(Coroutine[Any, Any, Any], enter(call)(call)))

    async def rest(chain: Coroutine[Any, Any, Any]) -> Any:
        result = await go_on(chain)
        if runs_later(type(result)):
            refuse_unrun(fn, result)
        return result

    def guarded(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, BLOCKING, fn, args, kwargs)
        if looks_async and on_event_loop():
            return later(call)
        chain: Any = enter(call)(call)
        try:  # `drive`, spelled out: it is the path of every blocking call
            signal = chain.send(None)
        except StopIteration as done:
            result = done.value
            if type(result) not in PLAIN and runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        except Boxed as boxed:
            error = boxed.error
        else:
            return unfinished(chain, signal, switched)
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    return guarded


def _generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    plan = policy.plan_for(fn)
    return blocking_driver(
        policy.composed(invoke_stream).enter, lambda args, kwargs: Call(plan, BLOCKING, fn, args, kwargs)
    )


def _async_generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    plan = policy.plan_for(fn)
    return async_driver(policy.composed(invoke_stream).enter, lambda args, kwargs: Call(plan, ASYNC, fn, args, kwargs))
