"""`Stream`: what `policy.stream` returns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar

from resilient_agents.base.told import Fields
from resilient_agents.core.call import Call
from resilient_agents.core.driver import is_awaitable
from resilient_agents.core.drivers import Begin, async_driver, blocking_driver
from resilient_agents.core.interrupt import Interrupt
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.opening import Opened, aclose_one
from resilient_agents.core.responses import close_one
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime

__all__ = ["Stream", "Texts"]

T = TypeVar("T")
TextIn = Callable[[Any], "str | None"]
"""The text that an item adds, None for an item of no known kind."""

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

    `text_stream` is the same iterator, of the text alone that its items add. `get_final_message()` and what else of the
    SDK's stream speaks of the whole read it to its end first, through the policy; for one that failed or was closed
    before its end they raise RuntimeError. From the first item on, other public attributes that it has not are those of
    what is streamed, such as `response`.
    """

    __slots__ = ("_arguments", "_begins", "_call", "_closed", "_generator", "_interrupt", "_name", "_text_in")

    def __init__(
        self, begins: Begin, name: str, text_in: TextIn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._begins = begins
        self._name = name
        self._text_in = text_in
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
        opened, of_the_whole = self._opened, name in _OF_THE_WHOLE
        if opened is None and not of_the_whole:
            raise AttributeError(f"the stream of {self._name!r} has no {name!r} before its first item")
        found = None if opened is None else getattr(opened.source, name)
        return partial(self._read_first if self._is_blocking() else self._aread_first, name) if of_the_whole else found

    @property
    def _opened(self) -> Opened | None:
        """What is streamed, from its first item on."""
        return None if self._call is None else self._call.opened

    def _is_blocking(self) -> bool:
        """Not known before it begins: then it is what can be waited for here."""
        return not on_event_loop() if self._generator is None else isinstance(self._generator, Generator)

    def _read_first(self, name: str, *args: Any, **kwargs: Any) -> Any:
        for _ in self:
            pass
        return self._of_the_whole(name)(*args, **kwargs)

    async def _aread_first(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async for _ in self:
            pass
        whole = self._of_the_whole(name)(*args, **kwargs)
        return await whole if is_awaitable(whole) else whole

    def _of_the_whole(self, name: str) -> Callable[..., Any]:
        """The method, of a stream that has been read to its end."""
        opened = self._opened
        if opened is None:
            raise RuntimeError(f"the stream of {self._name!r} was closed before its first item: there is no {name!r}")
        if opened.parts > 1:
            raise RuntimeError(
                f"the stream of {self._name!r} broke off and was gone on with, so that {name!r} knows only its last "
                f"part: put the items together"
            )
        if not opened.over:
            raise RuntimeError(
                f"the stream of {self._name!r} failed or was closed before its end: {name!r} would give a part of it "
                f"for the whole"
            )
        method: Callable[..., Any] = getattr(opened.source, name)
        return method

    @property
    def text_stream(self) -> Texts:
        """The text alone, for `for` or `async for`: what each item of a known SDK's adds, and items that are strings.
        Raises TypeError at its end if it had items and none was of a known kind."""
        return Texts(self, self._name, self._text_in)

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
            self._generator = blocking_driver(lambda *_: call)()
        else:
            self._interrupt = Interrupt()
            self._generator = async_driver(lambda *_: call, self._interrupt)()
        return self._generator

    def close(self) -> None:
        """Close a blocking stream. Raises TypeError for one that was begun with `async for`."""
        self._closed = True
        if isinstance(self._generator, AsyncGenerator):
            raise TypeError(f"the stream of {self._name!r} is asynchronous: close it with `async with` or `aclose()`")
        close_one(self._generator)

    async def aclose(self) -> None:
        """Close a stream of either kind. Raises RuntimeError from inside the step that reads it."""
        self._closed = True
        if self._interrupt is not None:
            await self._interrupt.end_reading(self._generator)
        await aclose_one(self._generator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._left_with(error)
        try:
            self.close()
        finally:
            self._left_with(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._left_with(error)
        try:
            await self.aclose()
        finally:
            self._left_with(None)

    def _left_with(self, error: BaseException | None) -> None:
        """What the block raised, for the manager that was entered to come by the stream."""
        if self._opened is not None:
            self._opened.raised = error


class Texts(Fields):
    """The text of a stream, as it comes."""

    _stream: Stream[Any]
    _name: str
    _text_in: TextIn
    _known: bool = False
    _newest: type | None = None

    def __iter__(self) -> Iterator[str]:
        for item in self._stream:
            if text := self._in(item):
                yield text
        self._refuse_unknown()

    async def __aiter__(self) -> AsyncIterator[str]:
        async for item in self._stream:
            if text := self._in(item):
                yield text
        self._refuse_unknown()

    def _in(self, item: Any) -> str | None:
        text = self._text_in(item)
        self._known, self._newest = self._known or text is not None, type(item)
        return text

    def _refuse_unknown(self) -> None:
        if not self._known and self._newest is not None:
            raise TypeError(
                f"text_stream knows nothing of the items of {self._name!r}, which are of {self._newest.__name__}: "
                f"iterate the stream itself"
            )
