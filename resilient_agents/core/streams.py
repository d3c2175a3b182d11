"""A stream is one call: the chain opens it and brings its first item, a driver hands out the rest.

The driver is itself the generator that the user iterates, so that `send`, `throw` and the return value pass through.
Blocking and async generators are different things of the language, which is why there are two drivers here and two of
nothing else. What strategies hold until the end of the stream stands in `call.closers`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Self

from resilient_agents.core.call import NEUTRAL, Boxed, Call, Neutral, Proceed
from resilient_agents.core.invoke import plainly
from resilient_agents.core.runtime import ASYNC, BLOCKING, SWITCH, Runtime, discard, drive, is_awaitable
from resilient_agents.core.threads import run_in_worker

__all__ = ["Stream", "async_driver", "blocking_driver", "invoke_stream"]

Enter = Callable[[Call], Proceed]
Begin = Callable[[tuple[Any, ...], dict[str, Any]], Call]


class _Opened:
    """A source with its first item. When it ended before one, `over` is set and `first` is what it returned."""

    __slots__ = ("first", "iterator", "over")

    def __init__(self, iterator: Any, first: Any, *, over: bool = False) -> None:
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
    if hasattr(source, "__aiter__"):
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
        return _Opened(iter(()), source)
    iterator = iter(source)
    try:
        return _Opened(iterator, next(iterator))
    except StopIteration as stop:
        return _Opened(iterator, stop.value, over=True)
    except BaseException:
        _close(iterator)
        raise


async def _first_async(source: AsyncIterator[Any]) -> _Opened:
    iterator = aiter(source)
    try:
        return _Opened(iterator, await anext(iterator))
    except StopAsyncIteration:
        return _Opened(iterator, None, over=True)
    except BaseException:
        await _close_async(iterator)
        raise


def _close(iterator: Any) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()


async def _close_async(iterator: Any) -> None:
    close = getattr(iterator, "aclose", None) or getattr(iterator, "close", None)
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
        iterator: Any = None
        try:
            result = drive(enter(call)(call), _not_blocking)
            opened = result if isinstance(result, _Opened) else _first(result)
            iterator, item, over = opened.iterator, opened.first, opened.over
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
                _close(iterator)
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
        iterator: Any = None
        try:
            try:
                opened = await _open(call, await enter(call)(call))
            except Boxed as boxed:
                raise RuntimeError("the function raised StopIteration") from boxed.error
            iterator, item, over = opened.iterator, opened.first, opened.over
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
                await _close_async(iterator)
            finally:
                call.close(outcome)
                outcome = None

    return guarded


class Stream:
    """What `Policy.stream` returns: iterate it once, with `for` or `async for`, optionally inside `with` or `async
    with`.

    Nothing runs before the first item is asked for. Leaving the block closes the source and gives back what the policy
    holds for it; without a block that happens when the iteration ends, or when the iterator is closed or collected.
    """

    __slots__ = ("_call", "_enter", "_iterator")

    def __init__(self, enter: Enter, call: Call) -> None:
        self._enter = enter
        self._call = call
        self._iterator: Any = None

    def __iter__(self) -> Generator[Any, Any, Any]:
        self._begin(BLOCKING)
        self._iterator = iterator = blocking_driver(self._enter, self._the_call)()
        return iterator

    def __aiter__(self) -> AsyncGenerator[Any, Any]:
        self._begin(ASYNC)
        self._iterator = iterator = async_driver(self._enter, self._the_call)()
        return iterator

    def _the_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return self._call

    def _begin(self, runtime: Runtime) -> None:
        if self._iterator is not None:
            raise RuntimeError("a stream can be iterated once; call policy.stream again for another")
        self._call.runtime = runtime

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._iterator)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _close_async(self._iterator)
