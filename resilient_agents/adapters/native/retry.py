"""tenacity's own `Retrying` and `AsyncRetrying` as strategies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, ClassVar, Final, TypeAlias

import anyio
import tenacity
from tenacity import RetryError, TryAgain

from resilient_agents.adapters.retry_loop import RERAISE, RetryLoop
from resilient_agents.adapters.retry_parts import PARTS
from resilient_agents.adapters.retry_state import IDLE, State, ignores_results, intends, named
from resilient_agents.classify import is_control
from resilient_agents.core.call import Call, Proceed, Strategy
from resilient_agents.core.closing import close_lost, is_closable
from resilient_agents.core.runtime import settle

__all__ = ["NativeRetry", "adapt_native"]

_HOOKS: Final = ("before", "after", "before_sleep")

NativeRetry: TypeAlias = tenacity.BaseRetrying
"""What may stand where a retry is asked for."""


def adapt_native(thing: Any) -> Strategy | None:
    """A tenacity `Retrying` or `AsyncRetrying` as a strategy, None for anything else.

    It keeps its own decisions, hooks and ending (`RetryError`, `reraise`, `retry_error_cls`, `retry_error_callback`),
    runs under every runtime and for any number of calls at once: nothing is written to it, so its `statistics` stay
    empty. What is changed on it later (`retrying.wait = ...`) counts from the next call on. It gains what a policy
    promises: cancellation is left alone, and so is what frameworks steer with unless its `retry` names the class; no
    wait passes the deadline, and an outer `Retry` leaves alone what this one has given up. It reads no Retry-After.

    Its ordinary sleep becomes that of the call. A `sleep` of its own is called as it is, in the calling thread, and
    awaited if it answers with an awaitable.

    Raises TypeError for one whose class overrides tenacity's own loop, which would not run.
    """
    if not isinstance(thing, tenacity.Retrying | tenacity.AsyncRetrying):
        return None
    base: Any = tenacity.Retrying if isinstance(thing, tenacity.Retrying) else tenacity.AsyncRetrying
    for method in ("__call__", "iter"):
        if getattr(type(thing), method) is not getattr(base, method):
            raise TypeError(
                f"{type(thing).__name__} overrides {method} of tenacity's {base.__name__}, which a policy does not "
                f"run: give its retry, wait and stop objects to Retry(...)"
            )
    return _Native(thing)


class _Native:
    """A native object as a strategy. It is read anew when something on it was changed."""

    owns_attempts: ClassVar[bool] = True

    def __init__(self, native: Any) -> None:
        self.native = native
        self._read = (vars(native).copy(), _NativeLoop(native))

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        seen, loop = self._read
        if vars(self.native) != seen:
            self._read = _, loop = vars(self.native).copy(), _NativeLoop(self.native)
        if not loop.enabled:
            return proceed(call)
        if loop.blocks and not call.runtime.blocking:
            raise TypeError(
                "sleep_using_event blocks the thread that it sleeps in, which is the event loop's here: "
                "use an async function for sleep="
            )
        return loop.execute(proceed, call)

    def describe(self) -> dict[str, Any]:
        """The options as plain data; functions and tenacity objects by name."""
        native = self.native
        return {
            "strategy": "retry",
            "native": f"tenacity.{type(native).__name__}",
            "on": [named(native.retry)],
            "wait": named(native.wait),
            "stop": named(native.stop),
            "reraise": native.reraise,
            "retry_error_cls": native.retry_error_cls.__name__,
            "retry_error_callback": named(native.retry_error_callback),
            **{name: named(getattr(native, name)) for name in _HOOKS},
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{option}={named(getattr(self.native, option))}" for option in ("retry", "wait", "stop"))
        return f"{type(self.native).__name__}({shown})"

    def __reduce__(self) -> Any:
        return _Native, (self.native,)


_ORDINARY_SLEEPS = (
    tenacity.Retrying().sleep,
    tenacity.AsyncRetrying().sleep,
    time.sleep,
    asyncio.sleep,
    anyio.sleep,
)


class _NativeLoop(RetryLoop):
    def __init__(self, native: Any) -> None:
        self._native = self._shown = native
        self._judge = native.retry
        self.enabled: bool = getattr(native, "enabled", True)  # since tenacity 9
        self.blocks = isinstance(native.sleep, tenacity.sleep_using_event)
        self.judges_results = not ignores_results(native.retry)
        self.asks = False
        self.timed = True
        self.plain = False
        for name in PARTS:
            part = getattr(native, name)
            setattr(self, name, None if part in IDLE else part)
        if native.sleep not in _ORDINARY_SLEEPS:
            self._sleep = native.sleep
        super().__init__(retry=native.retry, retry_error_callback=native.retry_error_callback)

    def judge(self, state: State) -> Any:
        error = state.error
        try:
            if isinstance(error, TryAgain):
                return True
            if error is not None and is_control(error) and not intends(self._judge, error):
                return False
        finally:
            del error
        return self._judge(state)

    async def end(self, call: Call, state: State) -> Any:
        native, outcome, error, ending = self._native, state.outcome, state.error, None
        try:
            if native.retry_error_callback:
                return await self._instead(call, state)
            kind = native.retry_error_cls
            ordinary = getattr(kind, "reraise", None) is RetryError.reraise
            if native.reraise and ordinary and error is not None and not isinstance(error, TryAgain):
                return RERAISE  # what `reraise()` would raise, without its frames in the traceback
            ending = kind(outcome)
            if native.reraise:
                ending.reraise()
            raise ending from error
        finally:
            del outcome, error, ending, state

    async def _instead(self, call: Call, state: State) -> Any:
        """What its callback answers. The last result is closed where the callback fails, or answers with something that
        cannot hold it."""
        lost = True
        try:
            answer = await settle(call, self._native.retry_error_callback(state))
            lost = answer is not state.result and (type(answer) in _SCALARS or is_closable(answer))
            return answer
        finally:
            if lost and state.error is None:
                await close_lost(call, state.result)
            del state


_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
