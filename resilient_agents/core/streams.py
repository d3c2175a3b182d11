"""A stream is one call: the chain opens it and brings its first item, a driver hands out the rest.

The driver is itself the generator that the user iterates, so that `send`, `throw` and the return value pass through.
Blocking and async generators are different things of the language, which is why there are two drivers here and two of
nothing else. What strategies hold until the end of the stream stands in `call.closers`.

As long as nobody records and nothing is sent or thrown in, the rest of a stream is handed out by `yield from` or
`async for`: then nothing is to be done between two items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final, Generic, Self, TypeVar

from resilient_agents.core.call import NEUTRAL, Boxed, Call, Neutral
from resilient_agents.core.driver import drive
from resilient_agents.core.opening import Opened, aclose, close, not_blocking, open_source
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime
from resilient_agents.events import Recorder

__all__ = ["Stream", "async_driver", "blocking_driver"]

T = TypeVar("T")
Begin = Callable[[Runtime, tuple[Any, ...], dict[str, Any]], Call]
"""Makes the call, with the plan in force when the first item is asked for."""


def blocking_driver(begin: Begin) -> Callable[..., Generator[Any, Any, Any]]:
    """The generator function that hands out a blocking stream."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(BLOCKING, args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        try:
            opened = call.opened = drive(_opened(call), not_blocking)
            item, iterator, recorder = opened.first, opened.iterator, _recorder(call)
            quick = recorder is None and hasattr(iterator, "__iter__")
            while not opened.over:
                sent = thrown = None
                try:
                    _suspend(recorder)
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `throw` forwards whatever the consumer throws in, as `yield from` does
                    thrown = error
                finally:
                    _resume(recorder)
                try:
                    if quick and sent is None and thrown is None:
                        item = yield from iterator
                        break
                    item = _next(iterator, sent, thrown)
                except StopIteration as stop:
                    item = stop.value
                    break
                finally:
                    thrown = None
            outcome = None
            return item
        except Exception as error:
            outcome = error
            raise
        finally:
            _end(call, outcome)
            outcome = None

    return guarded


def async_driver(begin: Begin) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The async generator function that hands out an async stream."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(ASYNC, args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        try:
            opened = call.opened = await _unboxing(_opened(call))
            item, iterator, recorder = opened.first, opened.iterator, _recorder(call)
            quick = recorder is None and hasattr(iterator, "__anext__") and hasattr(iterator, "__aiter__")
            while not opened.over:
                sent = thrown = None
                try:
                    _suspend(recorder)
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `athrow` forwards whatever the consumer throws in
                    thrown = error
                finally:
                    _resume(recorder)
                if quick and sent is None and thrown is None:
                    async for item in iterator:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            thrown = error
                        if sent is not None or thrown is not None:
                            break
                    else:
                        break
                try:
                    item = await _anext(iterator, sent, thrown)
                finally:
                    thrown = None
                if item is _OVER:
                    break
            outcome = None
        except Exception as error:
            outcome = error
            raise
        finally:
            await _aend(call, outcome)
            outcome = None

    return guarded


async def _opened(call: Call) -> Opened:
    return await open_source(call, await call.plan.enter(call)(call))


async def _unboxing(opening: Any) -> Opened:
    try:
        opened: Opened = await opening
        return opened
    except Boxed as boxed:
        raise RuntimeError("the function raised StopIteration") from boxed.error


def _recorder(call: Call) -> Recorder | None:
    return None if call.audience is None else call.audience.recorder


def _suspend(recorder: Recorder | None) -> None:
    if recorder is not None:
        recorder.suspend()


def _resume(recorder: Recorder | None) -> None:
    if recorder is not None:
        recorder.resume()


_OVER: Final = object()


def _next(iterator: Any, sent: Any, thrown: BaseException | None) -> Any:
    """The item that the iterator answers with to what was sent or thrown in. Raises StopIteration at its end."""
    if thrown is None:
        return next(iterator) if sent is None else iterator.send(sent)
    try:
        if not hasattr(iterator, "throw"):
            raise thrown
        return iterator.throw(thrown)
    finally:
        del thrown  # no cycle through the traceback


async def _anext(iterator: Any, sent: Any, thrown: BaseException | None) -> Any:
    """The same for an iterator of either kind; `_OVER` at its end."""
    try:
        if not hasattr(iterator, "__anext__"):
            return _next(iterator, None, thrown)
        if thrown is None:
            return await (anext(iterator) if sent is None else iterator.asend(sent))
        if not hasattr(iterator, "athrow"):
            raise thrown
        return await iterator.athrow(thrown)
    except (StopAsyncIteration, StopIteration):
        return _OVER
    finally:
        del thrown


def _end(call: Call, outcome: Exception | Neutral | None) -> None:
    """Close what was opened, then give back what is held for it."""
    try:
        if call.opened is not None:
            call.opened.close(outcome)
    except Exception as error:
        outcome = outcome if isinstance(outcome, Exception) else error
        raise
    finally:
        call.close(outcome)
        outcome = None


async def _aend(call: Call, outcome: Exception | Neutral | None) -> None:
    try:
        if call.opened is not None:
            await call.opened.aclose(outcome)
    except Exception as error:
        outcome = outcome if isinstance(outcome, Exception) else error
        raise
    finally:
        call.close(outcome)
        outcome = None


class Stream(Generic[T]):
    """What `Policy.stream` returns: one iterator, for `for` or `async for`, optionally inside `with` or `async with`.

    Nothing runs before the first item is asked for. Leaving the block, `close()` or `aclose()`, closes the source and
    gives back what the policy holds for it; without them that happens when the iteration ends, or when the stream is
    collected. What is left after `break` can be iterated further.

    From the first item on, public attributes that it has not are those of what is streamed: `get_final_message`,
    `response`.
    """

    __slots__ = ("_arguments", "_begins", "_call", "_closed", "_generator", "_name")

    def __init__(self, begins: Begin, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._begins = begins
        self._name = name
        self._arguments = args, kwargs
        self._closed = False
        self._call: Call | None = None
        self._generator: Any = None

    def __iter__(self) -> Self:
        self._begin(BLOCKING)
        return self

    def __next__(self) -> T:
        self._begin(BLOCKING)
        item: T = next(self._generator)
        return item

    def __aiter__(self) -> Self:
        self._begin(ASYNC)
        return self

    async def __anext__(self) -> T:
        self._begin(ASYNC)
        item: T = await anext(self._generator)
        return item

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        opened = None if self._call is None else self._call.opened
        if opened is None:
            raise AttributeError(f"the stream of {self._name!r} has no {name!r} before its first item")
        return getattr(opened.source, name)

    def _begin(self, runtime: Runtime) -> None:
        if self._generator is not None:
            if runtime.blocking is not isinstance(self._generator, Generator):
                raise TypeError(f"the stream of {self._name!r} is iterated both with `for` and with `async for`")
        elif self._closed:
            raise RuntimeError(f"the stream of {self._name!r} was closed before it began")
        else:
            self._call = call = self._begins(runtime, *self._arguments)
            driver = blocking_driver if runtime.blocking else async_driver
            self._generator = driver(lambda runtime, args, kwargs: call)()

    def close(self) -> None:
        """Close a blocking stream. Raises TypeError for one that was begun with `async for`."""
        self._closed = True
        if isinstance(self._generator, AsyncGenerator):
            raise TypeError(f"the stream of {self._name!r} is asynchronous: close it with `async with` or `aclose()`")
        close(self._generator)

    async def aclose(self) -> None:
        """Close a stream of either kind."""
        self._closed = True
        await aclose(self._generator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
