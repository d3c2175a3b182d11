"""The innermost step of every chain: call the user's function, in the way that fits what it is.

And the last look at what comes out: a generator, coroutine or context manager that was merely made does its work later,
outside of the policy. It would be guarded in name only, so it is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeVar, cast

from resilient_agents.core.call import Boxed, Call, name_of
from resilient_agents.core.driver import discard
from resilient_agents.core.managed import Managed
from resilient_agents.core.responses import close_response
from resilient_agents.core.runtime import settle
from resilient_agents.core.threads import run_in_worker

__all__ = ["PLAIN", "checked", "invoke_any", "invoke_coroutine", "plainly", "refuse_awaitable", "refuse_unrun",
           "runs_later"]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PLAIN = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple, set})
"""Types of results that need no closer look: asking a type for a method that it has not costs 0.17 us a call."""


def invoke_coroutine(call: Call) -> Awaitable[Any]:
    """A declared coroutine function: what it returns is the rest of the chain."""
    kwargs = call.kwargs  # a call with `**` makes a dictionary, even of nothing
    result: Awaitable[Any] = call.fn(*call.args, **kwargs) if kwargs else call.fn(*call.args)
    return result


async def invoke_any(call: Call) -> Any:
    """Anything else, in either colour: only the call itself shows whether an awaitable comes out."""
    if call.rare.workers is not None:
        result = await run_in_worker(call, call.rare.workers, lambda: plainly(call), close_response)
    else:
        try:  # `plainly`, spelled out: it is the path of every blocking call
            kwargs = call.kwargs
            result = call.fn(*call.args, **kwargs) if kwargs else call.fn(*call.args)
        except StopIteration as stop:
            raise Boxed(stop) from None
    if type(result) in PLAIN or not hasattr(type(result), "__await__"):
        return result
    return await settle(call, result)


def plainly(call: Call) -> Any:
    """Call the function here and now. A StopIteration of the user's travels boxed."""
    try:
        return call.fn(*call.args, **call.kwargs)
    except StopIteration as stop:
        raise Boxed(stop) from None


def _remembered(fn: F) -> F:
    return cast(F, functools.lru_cache(maxsize=1024)(fn))


@_remembered
def runs_later(kind: type) -> bool:
    """Does a result of this type only stand for work that is still to be done? A context manager does if it can do
    nothing but be entered."""
    if kind is GeneratorType or kind is AsyncGeneratorType or kind is CoroutineType or kind is Managed:
        return True
    manages = hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")
    return manages and all(name.startswith("_") for name in dir(kind))


def refuse_unrun(fn: Callable[..., Any], result: Any) -> None:
    """Raise TypeError for a result that `runs_later`, unless it has begun."""
    name = name_of(fn)
    if inspect.iscoroutine(result):
        discard(result)
        raise TypeError(f"{name} returned a coroutine that nobody awaited: await it inside the function")
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        if _has_begun(result):
            return
        raise TypeError(
            f"{name} returned a generator, of which nothing has run, so that nothing would be guarded: "
            f"use policy.stream(...), or decorate the generator function itself"
        )
    raise TypeError(
        f"{name} returned a context manager, which does its work when it is entered, so that nothing would be guarded: "
        f"use policy.stream(...), which enters it, decorate a function that enters it, "
        f"or put the policy below @contextmanager or @asynccontextmanager"
    )


def checked(fn: Callable[..., Any], result: T) -> T:
    """The result. Raises TypeError for what was merely made."""
    if type(result) not in PLAIN and runs_later(type(result)):
        refuse_unrun(fn, result)
    return result


def refuse_awaitable(fn: Callable[..., Any], begun: Any) -> Any:
    """What a blocking call answers to a function that turns out to be async."""
    discard(begun)
    raise TypeError(
        f"{name_of(fn)} returned an awaitable: use `await policy.acall(...)` or decorate it with the policy"
    )


def _has_begun(generator: Any) -> bool:
    if inspect.isgenerator(generator):
        return inspect.getgeneratorstate(generator) != inspect.GEN_CREATED
    if hasattr(generator, "ag_suspended"):  # since Python 3.12
        return bool(generator.ag_suspended) or generator.ag_frame is None
    frame = generator.ag_frame
    return frame is None or frame.f_lineno != frame.f_code.co_firstlineno
