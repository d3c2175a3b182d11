"""`Fallback`: something else stands in when the call fails: a value, a handler, or a chain of functions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.classify import is_transient
from resilient_agents.core.audience import Helping
from resilient_agents.core.call import Boxed, Call, Proceed, name_of, unboxed
from resilient_agents.core.closing import close_lost, close_unwanted
from resilient_agents.core.driver import is_awaitable
from resilient_agents.core.given_up import set_context
from resilient_agents.core.match import Match, When, ask, matcher
from resilient_agents.core.opening import open_source
from resilient_agents.core.options import Check, Code, Configured, Errors, Results
from resilient_agents.deadline import current
from resilient_agents.errors import Rejected, ResilienceError
from resilient_agents.strategies.stand_ins import StandIn, StandIns, past_openers, refuse_awaitable

__all__ = ["Fallback"]


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "..."

    def __reduce__(self) -> str:
        return "_MISSING"


_MISSING: Final = _Missing()
_NOBODY: Final = object()
"""In place of an answer: nobody was left to ask."""


class _Handler(Code):
    def checked(self, value: Any, name: str) -> Any:
        if value is not _MISSING and not callable(value):
            raise TypeError(f"{name} must be callable (a plain value is value=), got {type(value).__name__}")
        return value

    def shown(self, value: Any) -> str | None:
        return name_of(value) if callable(value) else None

    def spelled(self, value: Any) -> str:
        return self.shown(value) or ""


class _Value(Check):
    def spelled(self, value: Any) -> str:
        return "..."


class Fallback(Configured):
    """When the call fails, something else answers: `handler(error, *args, **kwargs)`, `value`, or the first of the
    functions `to` that can; one of the three is given.

    The handler gets the arguments of the call and may be sync or async (in a blocking call it must be sync). What it
    raises comes out as itself, with the failure as its `__context__`. On a stream it stands in only before the first
    item, and may return an iterable, an async iterable for an async stream, or a plain value, which is then the only
    item. `value` is handed out as it is, not copied; on a stream it is the only item, whatever it is.

    `to` is a list of functions and `(function, policy)` pairs. They are called with the arguments of the call, one
    after another, until one answers; on a stream, until one gives its first item that means something, and the same
    goes for the call itself. A policy guards its function; one whose circuit is open is passed over without waiting.
    What `on` does not choose ends the chain, and so does a deadline that is over. When all fail, the last error comes
    out that is no refusal of a policy (where there is none, the first), with those before it as its `__context__`.

    `on` chooses errors: a type, a predicate, or a tuple of these; by default transient errors and those that a policy
    raises of its own, so that a bug still shows. `when(result)` chooses results that count as failures, first items of
    a stream excepted: the handler then gets None in place of the error. Those of `to` are asked about, too; the last
    result comes out where nobody is left to ask.

    Raises TypeError or ValueError, when built, for anything else.
    """

    strategy = "fallback"
    OPTIONS = MappingProxyType(
        {"handler": _Handler(), "value": _Value(), "to": StandIns(), "on": Errors(), "when": Results()}
    )
    stands_in: ClassVar[bool] = True

    handler: Callable[..., Any] | _Missing
    value: Any
    to: Sequence[Callable[..., Any] | tuple[Callable[..., Any], Any]]
    on: Match
    when: When | None

    def __init__(
        self,
        handler: Callable[..., Any] | _Missing = _MISSING,
        *,
        value: Any = _MISSING,
        to: Sequence[Callable[..., Any] | tuple[Callable[..., Any], Any]] = (),
        on: Match = (is_transient, ResilienceError),
        when: When | None = None,
    ) -> None:
        self.take(locals())
        given = {"a handler": self.handler is not _MISSING, "value=": self.value is not _MISSING, "to=": bool(self.to)}
        if sum(given.values()) != 1:
            several = " and ".join(name for name, there in given.items() if there) or "none of them"
            raise TypeError(f"Fallback takes a handler, value= or to=, got {several}")
        self._matches = matcher(on)
        self._chain = StandIns.made(self.to)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            result = await (self._meant(call, proceed(call)) if self._chain else proceed(call))
        except Exception as error:
            answer = await self._instead_of(call, error, self._chain)
            if answer is _NOBODY:
                raise
            return answer
        if self.when is None or not await self._unwanted(call, self.when, result):
            return result
        if not self._chain:
            await close_unwanted(call, result)  # first: the handler may need its connection
            return await self._answer(call, None)
        answer = await self._first_of(call, self._chain, None, [result])
        return result if answer is _NOBODY else answer

    async def _instead_of(self, call: Call, error: Exception, chain: tuple[StandIn, ...]) -> Any:
        """An answer in place of this error, `_NOBODY` where it is to come out."""
        failed = unboxed(error)
        try:
            if not self._chooses(call, failed):
                return _NOBODY
            if self._chain:
                return await self._first_of(call, chain, failed, [])
            return await self._answer(call, failed)
        except Exception as raised:
            if failed is not error:
                _unbox_context(unboxed(raised), error, failed)
            raise
        finally:
            del failed, error  # no cycle through the traceback

    async def _first_of(
        self, call: Call, chain: tuple[StandIn, ...], failed: Exception | None, unwanted: list[Any]
    ) -> Any:
        """The answer of the first that has one, `_NOBODY` where none is left to ask. It stands in for `failed`, or for
        the result in `unwanted`, which is closed once somebody else is asked.

        Each is asked while the error before it is being handled, so that Python makes that its context.
        """
        try:
            for number, stand_in in enumerate(chain, 1):
                if stand_in.is_open or _over():
                    continue
                if call.write is not None and not call.write.may_go_elsewhere(call, failed):
                    return _NOBODY
                if unwanted:
                    await close_unwanted(call, unwanted.pop())
                self._tell(call, failed, stand_in.name)
                try:
                    answer = await self._asked(call, stand_in)
                except Exception as error:
                    instead = await self._instead_of(call, error, chain[number:])
                    if instead is _NOBODY:
                        if failed is not None and self._refused(call, unboxed(error)):
                            return _NOBODY  # for the error before says more
                        raise
                    return instead
                self._answered_by(call, stand_in.name)
                if self.when is None or not await self._unwanted(call, self.when, answer):
                    return answer
                instead = await self._first_of(call, chain[number:], None, [answer])
                return answer if instead is _NOBODY else instead
            return _NOBODY
        except BaseException:  # its policy cannot be found, perhaps
            if unwanted:
                await close_lost(call, unwanted.pop())
            raise
        finally:
            del failed  # no cycle through the traceback

    def _asked(self, call: Call, stand_in: StandIn) -> Awaitable[Any]:
        answer = self._meant(call, stand_in.ask(call))
        return answer if call.write is None else call.write.tried(answer, call, elsewhere=True)

    async def _meant(self, call: Call, opening: Awaitable[Any]) -> Any:
        """What comes of it; of a stream, once it has an item that means something."""
        if call.closers is None:
            return await opening
        kept = len(call.closers)
        return await past_openers(call, await opening, kept)

    def _refused(self, call: Call, error: Exception) -> bool:
        """Is it a refusal that the chain goes on after?"""
        return isinstance(error, Rejected) and self._chooses(call, error)

    def _chooses(self, call: Call, error: Exception) -> bool:
        chosen = ask(self._matches, error, error)
        if call.audience is not None and self.on != _chosen_by_default:
            call.audience.decided(self, "yes" if chosen else "no")
        return chosen

    async def _unwanted(self, call: Call, when: When, result: Any) -> bool:
        """Is this result to be replaced?"""
        try:
            if call.closers is not None or not ask(when, result):
                return False
        except Exception:
            await close_lost(call, result)
            raise
        if call.audience is not None:
            call.audience.decided(self, "result")
        return True

    def _tell(self, call: Call, failed: Exception | None, name: str) -> None:
        if call.audience is not None:
            failure = None if failed is None else call.failure(failed)
            call.audience.tell(events.FallbackUsed(call.audience.policy, failure, name))

    def _answered_by(self, call: Call, name: str) -> None:
        if call.audience is not None:
            call.audience.fell_back = name  # only now: where it fails too, the call may still be repeated

    async def _answer(self, call: Call, failed: Exception | None) -> Any:
        """That of the handler, or the value."""
        name = name_of(self.handler) if callable(self.handler) else "value"
        self._tell(call, failed, name)
        with Helping(call.audience, "fallback"):
            answer = await self._stand_in(call, failed)
        self._answered_by(call, name)
        return answer

    async def _stand_in(self, call: Call, failed: Exception | None) -> Any:
        if not callable(self.handler):
            return self.value if call.closers is None else await open_source(call, iter((self.value,)))
        try:
            answer = self.handler(failed, *call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None
        if call.closers is not None:
            return await open_source(call, answer)
        if not is_awaitable(answer):
            return answer
        if call.runtime.blocking:
            raise refuse_awaitable(answer, f"the handler {name_of(self.handler)}", call)
        return await answer

    def describe(self) -> dict[str, Any]:
        """What is chosen, by name; neither the value nor what the handler holds."""
        left_out = {"value"} if self._chain else {"value", "to"}
        return {option: shown for option, shown in super().describe().items() if option not in left_out}


_chosen_by_default: Final = inspect.signature(Fallback).parameters["on"].default


def _over() -> bool:
    """Has the time passed in which an answer is of use?"""
    limit = current()
    return limit is not None and clock.monotonic() >= limit.at


def _unbox_context(raised: Exception, box: Exception, failed: Exception) -> None:
    """Python has made the box the context of what the handler raised: put what is in it there."""
    link: BaseException | None = raised
    while link is not None and link is not failed:
        if link.__context__ is box:
            set_context(link, None if link is failed else failed)
        link = link.__context__
    if failed.__context__ is box:
        set_context(failed, None)
