"""Strategies and functions that tests of several strategies share."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Self

from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected
from resilient_agents.policy import Policy


class Again:
    """Calls what is inside twice; a retry that does not care."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            await proceed(call)
        except Exception:
            pass
        return await proceed(call)


class Refuses:
    """Refuses calls that were made to wait inside it."""

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        return proceed(call)

    def recheck(self, call: Call) -> None:
        raise Rejected("changed my mind", policy=call.name, strategy="refuses")


async def value(result: Any = "value") -> Any:
    return result


class Freed:
    """`with Freed() as freed:` around calls of functions that fail by `freed.fail`: at the end nothing has kept one of
    those errors, without any help of the garbage collector."""

    class Failure(ConnectionError): ...

    def __enter__(self) -> Self:
        self.errors: list[weakref.ref[Exception]] = []
        gc.collect()
        gc.disable()
        return self

    def fail(self, *_: object) -> None:
        error = self.Failure()
        self.errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        gc.enable()
        if kind is None:
            assert self.errors
            assert [error() for error in self.errors] == [None] * len(self.errors)


def hold_slot(bulkhead: Any) -> Callable[[], None]:
    """Somebody else, who is neither in this thread nor on an event loop, holds a slot until what is returned is
    called."""
    stream = Policy(bulkhead).stream(lambda: iter([1, 2]))
    thread = threading.Thread(target=next, args=(iter(stream),))
    thread.start()
    thread.join()
    return stream.close
