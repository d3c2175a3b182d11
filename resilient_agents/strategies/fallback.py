"""`Fallback`: something else stands in when the call fails."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar, Final

from resilient_agents import events
from resilient_agents.classify import is_transient
from resilient_agents.core.call import Boxed, Call, Proceed, name_of, unboxed
from resilient_agents.core.closing import close_unwanted
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.given_up import set_context
from resilient_agents.core.match import Match, When, ask, matcher
from resilient_agents.core.options import Check, Code, Configured, Errors, Results
from resilient_agents.errors import ResilienceError

__all__ = ["Fallback"]


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "..."

    def __reduce__(self) -> str:
        return "_MISSING"


_MISSING: Final = _Missing()


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
    """When the call fails, answer with `handler(error, *args, **kwargs)`, or with `value`: one of the two is given.

    The handler gets the arguments of the call and may be sync or async (in a blocking call it must be sync). What it
    raises comes out as itself, with the failure as its `__context__`. On a stream it stands in only before the first
    item, and may return an iterable, an async iterable for an async stream, or a plain value, which is then the only
    item. `value` is handed out as it is, not copied; on a stream it is the only item, whatever it is.

    `on` chooses errors: a type, a predicate, or a tuple of these; by default transient errors and those that a policy
    raises of its own, so that a bug still shows. `when(result)` chooses results that count as failures, first items of
    a stream excepted: the handler then gets None in place of the error.

    Raises TypeError or ValueError, when built, for anything else.
    """

    strategy = "fallback"
    OPTIONS = MappingProxyType({"handler": _Handler(), "value": _Value(), "on": Errors(), "when": Results()})
    stands_in: ClassVar[bool] = True

    handler: Callable[..., Any] | _Missing
    value: Any
    on: Match
    when: When | None

    def __init__(
        self,
        handler: Callable[..., Any] | _Missing = _MISSING,
        *,
        value: Any = _MISSING,
        on: Match = (is_transient, ResilienceError),
        when: When | None = None,
    ) -> None:
        if (handler is _MISSING) == (value is _MISSING):
            given = "neither" if handler is _MISSING else "both"
            raise TypeError(f"Fallback takes a handler or value=, got {given}")
        self.take(locals())
        self._matches = matcher(on)

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            result = await proceed(call)
        except Exception as error:
            failed = unboxed(error)
            try:
                if not ask(self._matches, failed, failed):
                    raise
                return await self._answer(call, failed)
            except Exception as raised:
                if failed is not error:
                    _unbox_context(unboxed(raised), error, failed)
                raise
            finally:
                del failed  # no cycle through the traceback
        if self.when is None or call.closers is not None or not ask(self.when, result):
            return result
        await close_unwanted(call, result)  # first: the handler may need its connection
        return await self._answer(call, None)

    async def _answer(self, call: Call, failed: Exception | None) -> Any:
        if call.audience is not None:
            failure = None if failed is None else call.failure(failed)
            call.audience.tell(events.FallbackUsed(call.audience.policy, failure))
        answer = await self._stand_in(call, failed)
        if call.audience is not None:
            call.audience.fell_back = True  # only now: where the handler fails too, the call may still be repeated
        return answer

    async def _stand_in(self, call: Call, failed: Exception | None) -> Any:
        if not callable(self.handler):
            return self.value if call.closers is None else iter((self.value,))
        try:
            answer = self.handler(failed, *call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None
        if not is_awaitable(answer):
            return answer
        if call.runtime.blocking:
            discard(answer)
            raise TypeError(
                f"the handler of the fallback around {call.name!r} is async, which a blocking call cannot await: "
                f"use `await policy.acall(...)`, or a plain handler"
            )
        return await answer

    def describe(self) -> dict[str, Any]:
        """What is chosen, by name; neither the value nor what the handler holds."""
        return {option: shown for option, shown in super().describe().items() if option != "value"}


def _unbox_context(raised: Exception, box: Exception, failed: Exception) -> None:
    """Python has made the box the context of what the handler raised: put what is in it there."""
    link: BaseException | None = raised
    while link is not None and link is not failed:
        if link.__context__ is box:
            set_context(link, None if link is failed else failed)
        link = link.__context__
    if failed.__context__ is box:
        set_context(failed, None)
