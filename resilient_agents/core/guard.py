"""Which wrapper fits which callable. Every wrapper keeps the kind of what it wraps: a guarded coroutine function is one
itself.

A callable that declares nothing is decided when it is called: its chain begins blocking, and goes on as an awaitable if
one comes out (`AsyncOpenAI().chat.completions.create` declares nothing; a plain wrapper around `asyncio.run` may carry
an async function's metadata).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, cast

from resilient_agents.core.call import Boxed, Call, Plan, Proceed
from resilient_agents.core.invoke import invoke_any, invoke_coroutine
from resilient_agents.core.runtime import ASYNC, BLOCKING, go_on, unfinished
from resilient_agents.core.streams import async_driver, blocking_driver, invoke_stream

__all__ = ["Composed", "Guarding", "guard"]


class Composed(Protocol):
    """A policy composed around one innermost step."""

    quiet: Proceed

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
        raise TypeError(f"a policy guards callables, got {type(fn).__name__}")
    if declares(inspect.iscoroutinefunction, fn):
        wrapper = _coroutine(policy, fn)
    elif declares(inspect.isasyncgenfunction, fn):
        wrapper = _async_generator(policy, fn)
    elif declares(inspect.isgeneratorfunction, fn):
        wrapper = _generator(policy, fn)
    else:
        wrapper = _plain(policy, fn)
    return functools.update_wrapper(wrapper, fn)


def declares(kind: Callable[[object], bool], fn: Callable[..., Any]) -> bool:
    """Is `fn`, or the `__call__` of the object that it is, of this kind?"""
    if kind(fn):
        return True
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return False
    return kind(getattr(fn, "__call__", None))  # noqa: B004 - its kind is asked for, not whether it has one


def _looks_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(inspect.unwrap(fn))


def _coroutine(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    composed = policy.composed(invoke_coroutine)
    enter = composed.enter
    plan = policy.plan_for(fn)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, ASYNC, fn, args, kwargs)
        return await enter(call)(call)

    return guarded


def _plain(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    enter = policy.composed(invoke_any).enter
    plan = policy.plan_for(fn)
    looks_async = _looks_async(fn)

    def switched(chain: Any) -> Any:
        nonlocal looks_async
        looks_async = True
        return go_on(chain)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        call = Call(plan, BLOCKING, fn, args, kwargs)
        if looks_async:
            call.may_await = True
        chain: Any = enter(call)(call)
        try:  # `drive`, spelled out: it is the path of every blocking call
            signal = chain.send(None)
        except StopIteration as done:
            return done.value
        except Boxed as boxed:
            error = boxed.error
        else:
            return unfinished(chain, signal, switched)
        raise error

    return guarded


def _generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    plan = policy.plan_for(fn)
    return blocking_driver(
        policy.composed(invoke_stream).enter, lambda args, kwargs: Call(plan, BLOCKING, fn, args, kwargs)
    )


def _async_generator(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    plan = policy.plan_for(fn)
    return async_driver(policy.composed(invoke_stream).enter, lambda args, kwargs: Call(plan, ASYNC, fn, args, kwargs))
