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

from resilient_agents.core import wrappers
from resilient_agents.core.call import name_of
from resilient_agents.core.driver import discard
from resilient_agents.core.drivers import async_driver, blocking_driver
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.way_in import Guarding, WayIn

__all__ = ["check_callable", "declares", "guard"]

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
        wrapper = wrappers.coroutine(policy, fn)
    elif declares(inspect.isasyncgenfunction, fn):
        wrapper = async_driver(WayIn(policy, fn, invoke_stream).call)
    elif declares(inspect.isgeneratorfunction, fn):
        wrapper = blocking_driver(WayIn(policy, fn, invoke_stream).call)
    else:
        _refuse_no_stream(policy, fn)
        wrapper = wrappers.plain(policy, fn)
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


def declares(kind: Callable[[object], bool], fn: object) -> bool:
    """Is `fn`, or the `__call__` of the object that it is, of this kind?"""
    while isinstance(fn, functools.partial):
        fn = fn.func
    call = None if inspect.isclass(fn) else getattr(fn, "__call__", None)  # noqa: B004 - its kind is asked for
    return kind(fn) or kind(call)


def _is_generator_based(fn: object) -> bool:
    """Is it a generator function that `types.coroutine` made awaitable?"""
    code = getattr(fn, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
