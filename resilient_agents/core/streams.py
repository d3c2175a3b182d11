"""A stream is one call: the chain opens it and brings its first item, a driver hands out the rest.

The driver is itself the generator that the user iterates, so that `send`, `throw` and the return value pass through.
Blocking and async generators are different things of the language, which is why there are two drivers here and two of
nothing else. What strategies hold until the end of the stream stands in `call.closers`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Any, Generic, Self, TypeVar

from resilient_agents.core.call import NEUTRAL, Boxed, Call, Neutral, Proceed
from resilient_agents.core.invoke import plainly
from resilient_agents.core.runtime import ASYNC, BLOCKING, SWITCH, Runtime, discard, drive, is_awaitable
from resilient_agents.core.threads import run_in_worker

__all__ = ["Stream", "async_driver", "blocking_driver", "invoke_stream"]

T = TypeVar("T")
Enter = Callable[[Call], Proceed]
Begin = Callable[[tuple[Any, ...], dict[str, Any]], Call]


class _Opened:
    """A source with its first item. When it ended before one, `over` is set and `first` is what it returned.

    `source`: what was iterated, which often has a connection to close that its iterator knows nothing of.
    """

    __slots__ = ("first", "iterator", "over", "source")

    def __init__(self, source: Any, iterator: Any, first: Any, *, over: bool = False) -> None:
        self.source = source
        self.iterator = iterator
        self.first = first
        self.over = over


async def invoke_stream(call: Call) -> _Opened:
    """The innermost step for streams, in either colour: call the function and bring the first item."""
    if call.workers is not None and call.runtime.blocking:
        opened: _Opened = await run_in_worker(call, call.workers, lambda: _first(plainly(call)))
        return opened
    return await _open(call, plainly(call))


async def _open(call: Call, source: Any) -> _Opened:
    """Open what the user's function, or the handler of a fallback, gave: something to iterate, an awaitable of it, or a
    plain answer."""
    if isinstance(source, _Opened):
        return source
    if is_awaitable(source) and not hasattr(source, "__aiter__"):
        await _leave_blocking(call, source)
        source = await source
    if hasattr(source, "__aiter__") and not (call.runtime.blocking and hasattr(source, "__iter__")):
        await _leave_blocking(call, source)
        return await _first_async(source)
    return _first(source)


async def _leave_blocking(call: Call, source: Any) -> None:
    if call.runtime.blocking:
        try:
            await SWITCH
        finally:
            discard(source)  # the driver of a blocking stream never comes back: there is nothing to await it with


def _first(source: Any) -> _Opened:
    if not hasattr(source, "__iter__") or isinstance(source, str | bytes | dict):
        return _Opened(None, iter(()), source)
    iterator = iter(source)
    try:
        return _Opened(source, iterator, next(iterator))
    except StopIteration as stop:
        return _Opened(source, iterator, stop.value, over=True)
    except BaseException:
        _close(iterator, source)
        raise


async def _first_async(source: AsyncIterator[Any]) -> _Opened:
    iterator = aiter(source)
    try:
        return _Opened(source, iterator, await anext(iterator))
    except StopAsyncIteration:
        return _Opened(source, iterator, None, over=True)
    except BaseException:
        await _close_async(iterator, source)
        raise


def _close(iterator: Any, source: Any = None) -> None:
    """Close both, if they are two."""
    try:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    finally:
        if source is not iterator:
            _close_source(source)


def _close_source(source: Any) -> None:
    close = None if isinstance(source, list | tuple) else getattr(source, "close", None)
    if close is not None:
        closing = close()
        if is_awaitable(closing):
            discard(closing)


async def _close_async(iterator: Any, source: Any = None) -> None:
    try:
        await _close_one(iterator)
    finally:
        if source is not iterator:
            await _close_one(source)


async def _close_one(thing: Any) -> None:
    close = getattr(thing, "aclose", None) or getattr(thing, "close", None)
    if close is not None:
        closing = close()
        if is_awaitable(closing):
            await closing


def _not_blocking(chain: Any) -> Any:
    chain.close()
    raise TypeError("this stream is asynchronous: iterate it with `async for`")


def blocking_driver(enter: Enter, begin: Begin) -> Callable[..., Generator[Any, Any, Any]]:
    """The generator function that hands out a blocking stream. `enter` picks the chain when the first item is asked
    for."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        source: Any = None
        iterator: Any = None
        try:
            result = drive(enter(call)(call), _not_blocking)
            opened = result if isinstance(result, _Opened) else _first(result)
            source, iterator, item, over = opened.source, opened.iterator, opened.first, opened.over
            recorder = call.audience.recorder if call.audience is not None else None
            while not over:
                if recorder is not None:
                    recorder.suspend()
                thrown: BaseException | None = None
                sent = None
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `throw` forwards whatever the consumer throws in, as `yield from` does
                    thrown = error
                finally:
                    if recorder is not None:
                        recorder.resume()
                try:
                    if thrown is not None:
                        item = _throw(iterator, thrown)
                    else:
                        item = next(iterator) if sent is None else iterator.send(sent)
                except StopIteration as stop:
                    item, over = stop.value, True
                finally:
                    thrown = None
            outcome = None
            return item
        except Exception as error:
            outcome = error
            raise
        finally:
            try:
                _close(iterator, source)
            except Exception as error:
                outcome = outcome if isinstance(outcome, Exception) else error
                raise
            finally:
                call.close(outcome)
                outcome = None

    return guarded


def _throw(iterator: Any, error: BaseException) -> Any:
    throw = getattr(iterator, "throw", None)
    if throw is None:
        raise error
    return throw(error)


def async_driver(enter: Enter, begin: Begin) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The async generator function that hands out an async stream. `enter` picks the chain when the first item is asked
    for."""

    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs)
        call.closers = []
        outcome: Exception | Neutral | None = NEUTRAL
        source: Any = None
        iterator: Any = None
        try:
            try:
                opened = await _open(call, await enter(call)(call))
            except Boxed as boxed:
                raise RuntimeError("the function raised StopIteration") from boxed.error
            source, iterator, item, over = opened.source, opened.iterator, opened.first, opened.over
            asynchronous = hasattr(iterator, "__anext__")
            recorder = call.audience.recorder if call.audience is not None else None
            while not over:
                if recorder is not None:
                    recorder.suspend()
                thrown: BaseException | None = None
                sent = None
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:  # `athrow` forwards whatever the consumer throws in
                    thrown = error
                finally:
                    if recorder is not None:
                        recorder.resume()
                try:
                    if not asynchronous:
                        item = next(iterator) if thrown is None else _throw(iterator, thrown)
                    elif thrown is not None:
                        if not hasattr(iterator, "athrow"):
                            raise thrown
                        item = await iterator.athrow(thrown)
                    else:
                        item = await (anext(iterator) if sent is None else iterator.asend(sent))
                except (StopAsyncIteration, StopIteration):
                    over = True
                finally:
                    thrown = None
            outcome = None
        except Exception as error:
            outcome = error
            raise
        finally:
            try:
                await _close_async(iterator, source)
            except Exception as error:
                outcome = outcome if isinstance(outcome, Exception) else error
                raise
            finally:
                call.close(outcome)
                outcome = None

    return guarded


class Stream(Generic[T]):
    """What `Policy.stream` returns: one iterator, for `for` or `async for`, optionally inside `with` or `async with`.

    Nothing runs before the first item is asked for. Leaving the block, `close()` or `aclose()`, closes the source and
    gives back what the policy holds for it; without them that happens when the iteration ends, or when the stream is
    collected. What is left after `break` can be iterated further.
    """

    __slots__ = ("_call", "_enter", "_generator", "_name")

    def __init__(self, enter: Enter, call: Call) -> None:
        self._enter = enter
        self._call: Call | None = call
        self._name = call.name
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

    def _begin(self, runtime: Runtime) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            call.runtime = runtime
            driver = blocking_driver if runtime.blocking else async_driver
            self._generator = driver(self._enter, lambda args, kwargs: call)()
        elif self._generator is None:
            raise RuntimeError(f"the stream of {self._name!r} was closed before it began")
        elif runtime.blocking is not isinstance(self._generator, Generator):
            raise TypeError(f"the stream of {self._name!r} is iterated both with `for` and with `async for`")

    def close(self) -> None:
        """Close a blocking stream. Raises TypeError for one that was begun with `async for`."""
        self._call = None
        if isinstance(self._generator, AsyncGenerator):
            raise TypeError(f"the stream of {self._name!r} is asynchronous: close it with `async with` or `aclose()`")
        _close(self._generator)

    async def aclose(self) -> None:
        """Close a stream of either kind."""
        self._call = None
        await _close_async(self._generator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
