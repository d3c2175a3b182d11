"""`Stream`: what `policy.stream` returns."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, Generic, Self, TypeVar

from resilient_agents.core.call import Call
from resilient_agents.core.drivers import Begin, async_driver, blocking_driver
from resilient_agents.core.interrupt import Interrupt
from resilient_agents.core.opening import aclose, close
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime

__all__ = ["Stream"]

T = TypeVar("T")

_OF_THE_WHOLE: Final = frozenset(
    ("get_final_message", "get_final_text", "get_final_completion", "get_final_response", "until_done")
)
"""What SDKs' streams answer once they are read to their end, which they would otherwise do themselves."""


class Stream(Generic[T]):
    """What `Policy.stream` returns: one iterator, for `for` or `async for`, optionally inside `with` or `async with`.

    Nothing runs before the first item is asked for. Leaving the block, `close()` or `aclose()`, closes the source and
    gives back what the policy holds for it; without them that happens when the iteration ends, or when the stream is
    collected. What is left after `break` can be iterated further. `aclose()` from another task than the one that reads
    ends the read, and the iteration with it.

    From the first item on, public attributes that it has not are those of what is streamed: `response`,
    `get_final_message`. Those that speak of the whole read the stream to its end first, through the policy.
    """

    __slots__ = ("_arguments", "_begins", "_call", "_closed", "_generator", "_interrupt", "_name")

    def __init__(self, begins: Begin, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._begins = begins
        self._name = name
        self._arguments = args, kwargs
        self._closed = False
        self._call: Call | None = None
        self._generator: Any = None
        self._interrupt: Interrupt | None = None

    def __iter__(self) -> Iterator[T]:
        generator: Iterator[T] = self._begin(BLOCKING)
        return generator

    def __next__(self) -> T:
        item: T = next(self._begin(BLOCKING))
        return item

    def __aiter__(self) -> AsyncIterator[T]:
        generator: AsyncIterator[T] = self._begin(ASYNC)
        return generator

    async def __anext__(self) -> T:
        item: T = await anext(self._begin(ASYNC))
        return item

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        opened = None if self._call is None else self._call.opened
        if opened is None:
            raise AttributeError(f"the stream of {self._name!r} has no {name!r} before its first item")
        found = getattr(opened.source, name)
        return self._read_first(name, found) if name in _OF_THE_WHOLE else found

    def _read_first(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            async def of_the_whole(*args: Any, **kwargs: Any) -> Any:
                async for _ in self:
                    pass
                self._refuse_parts(name)
                return await method(*args, **kwargs)

            return of_the_whole
        if not isinstance(self._generator, Generator):
            return method

        def of_the_whole_blocking(*args: Any, **kwargs: Any) -> Any:
            for _ in self:
                pass
            self._refuse_parts(name)
            return method(*args, **kwargs)

        return of_the_whole_blocking

    def _refuse_parts(self, name: str) -> None:
        opened = None if self._call is None else self._call.opened
        if opened is not None and opened.parts > 1:
            raise RuntimeError(
                f"the stream of {self._name!r} broke off and was gone on with, so that {name!r} knows only its last "
                f"part: put the items together"
            )

    def _begin(self, runtime: Runtime) -> Any:
        """The generator that hands out the items."""
        generator = self._generator
        if generator is not None:
            if runtime.blocking is not isinstance(generator, Generator):
                raise TypeError(f"the stream of {self._name!r} is iterated both with `for` and with `async for`")
            return generator
        if self._closed:
            raise RuntimeError(f"the stream of {self._name!r} was closed before it began")
        self._call = call = self._begins(runtime, *self._arguments)
        if runtime.blocking:
            self._generator = blocking_driver(lambda runtime, args, kwargs: call)()
        else:
            self._interrupt = Interrupt()
            self._generator = async_driver(lambda runtime, args, kwargs: call, self._interrupt)()
        return self._generator

    def close(self) -> None:
        """Close a blocking stream. Raises TypeError for one that was begun with `async for`."""
        self._closed = True
        if isinstance(self._generator, AsyncGenerator):
            raise TypeError(f"the stream of {self._name!r} is asynchronous: close it with `async with` or `aclose()`")
        close(self._generator)

    async def aclose(self) -> None:
        """Close a stream of either kind. Raises RuntimeError from inside the step that reads it."""
        self._closed = True
        if self._interrupt is not None:
            await self._interrupt.end_reading(self._generator)
        await aclose(self._generator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
