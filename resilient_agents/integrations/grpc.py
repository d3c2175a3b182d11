"""Server interceptors for gRPC: each call is handled under the deadline of its caller. Needs grpcio.

```python
grpc.server(pool, interceptors=[DeadlineInterceptor()])
grpc.aio.server(interceptors=[AsyncDeadlineInterceptor()])
```

On the way out gRPC takes the seconds itself: `stub.Ask(request, timeout=time_left())`, of deadlines.py.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from resilient_agents.deadline import deadline
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.integrations.answers import out_of_time

__all__ = ["AsyncDeadlineInterceptor", "DeadlineInterceptor"]


# By name, because grpcio has no types, and stubs for it would have to be installed to check this module.
grpc: Any = importlib.import_module("grpc")
grpc_aio: Any = importlib.import_module("grpc.aio")

FOREVER = 1e9
"""Seconds beyond which a caller waits without end: grpcio says so by the largest number that its C core has."""


class DeadlineInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # see above
    """Enters `deadline()` with what is left of the caller's. A call that runs into it ends as DEADLINE_EXCEEDED."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        return _limited(continuation(handler_call_details))


class AsyncDeadlineInterceptor(grpc_aio.ServerInterceptor):  # type: ignore[misc]  # see above
    """The same for a server of `grpc.aio`."""

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        return _limited(await continuation(handler_call_details))


def _limited(handler: Any) -> Any:
    """A handler of any of the four kinds, plain or async, under its caller's deadline."""
    if handler is None:
        return None
    kind = f"{_word(handler.request_streaming)}_{_word(handler.response_streaming)}"
    behaviour = getattr(handler, kind)
    if inspect.isasyncgenfunction(behaviour):
        wrapped: Any = _async_items(behaviour)
    elif inspect.iscoroutinefunction(behaviour):
        wrapped = _async_answer(behaviour)
    else:
        wrapped = _items(behaviour) if handler.response_streaming else _answer(behaviour)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _word(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _within(context: Any) -> contextlib.AbstractContextManager[None]:
    """What is left of the caller's deadline, from now on."""
    left = context.time_remaining()
    if left is None or left > FOREVER:
        return contextlib.nullcontext()
    if left <= 0:
        raise DeadlineExceeded("the call came too late", strategy="deadline", limit=0.0)
    return deadline(left)


def _answer(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    def answer(request: Any, context: Any) -> Any:
        try:
            with _within(context):
                return behaviour(request, context)
        except Exception as error:
            late = out_of_time(error)
            if late is None:
                raise
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(late))

    return answer


def _items(behaviour: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def items(request: Any, context: Any) -> Iterator[Any]:
        try:
            with _within(context):
                answers = iter(behaviour(request, context))
            while True:
                with _within(context):  # anew for each: no deadline stays in force while the server sends
                    try:
                        item = next(answers)
                    except StopIteration:
                        return
                yield item
        except Exception as error:
            late = out_of_time(error)
            if late is None:
                raise
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(late))

    return items


def _async_answer(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(request: Any, context: Any) -> Any:
        try:
            with _within(context):
                return await behaviour(request, context)
        except Exception as error:
            late = out_of_time(error)
            if late is None:
                raise
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(late))

    return answer


def _async_items(behaviour: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def items(request: Any, context: Any) -> AsyncIterator[Any]:
        answers = behaviour(request, context)
        try:
            while True:
                with _within(context):
                    try:
                        item = await anext(answers)
                    except StopAsyncIteration:
                        return
                yield item
        except Exception as error:
            late = out_of_time(error)
            if late is None:
                raise
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(late))
        finally:
            await answers.aclose()

    return items
