"""Who stands in for a call that failed, one after another: functions, each with a policy of its own or without."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import Any, Protocol, runtime_checkable

from resilient_agents.base.now import now
from resilient_agents.core.attempts import attempt, begun
from resilient_agents.core.call import NEUTRAL, Boxed, Call, Neutral, Proceed, name_of, unboxed
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.invoke import invoke_any, plainly
from resilient_agents.core.opening import Opened, give_up, invoke_stream, open_source
from resilient_agents.core.options import Code
from resilient_agents.core.responses import close_response
from resilient_agents.core.steps import Over, Step
from resilient_agents.core.threads import run_in_worker
from resilient_agents.strategies.stream_kinds import OPENER, Progress

__all__ = ["StandIn", "StandIns", "past_openers", "refuse_awaitable"]


@runtime_checkable
class _Guard(Protocol):
    """What a stand-in needs of its policy, keyed ones included."""

    call: Any
    acall: Any
    stream: Any
    plan: Any


class StandIn:
    """A function, and the policy that it is called under, if any.

    Without one it is called as one more attempt of the call that it stands in for; a policy makes it an operation of
    its own.
    """

    __slots__ = ("_fn", "_policy")

    def __init__(self, fn: Any, policy: Any = None) -> None:
        self._fn = fn
        self._policy = policy

    @property
    def name(self) -> str:
        return getattr(self._policy, "name", None) or name_of(self._fn)

    @property
    def is_open(self) -> bool:
        """Would a circuit of its policy refuse the call? Then it is not to wait for anything that stands before it."""
        policy = self._policy
        bind = getattr(policy, "bind", None)
        if bind is not None:
            bind()
        return any(
            getattr(layer, "strategy", None) == "circuit_breaker"
            and getattr(layer, "retry_after", None) is not None
            and not layer.shadow
            for layer in getattr(policy, "layers", ())
        )

    async def ask(self, call: Call) -> Any:
        """Its answer with the arguments of the call, in the colour of the call; of a stream, opened."""
        if self._policy is None:
            before, rare = call.fn, call.rare
            began = rare.began
            try:
                call.fn = self._fn
                return await _another_attempt(call)
            finally:
                call.fn = before
                if rare.audience is not None:  # of the attempt that it may be within
                    rare.began = began
        if call.closers is not None:
            return await open_source(call, self._policy.stream(self._fn, *call.args, **call.kwargs))
        if not call.runtime.blocking:
            return await self._policy.acall(self._fn, *call.args, **call.kwargs)
        try:
            return self._policy.call(self._fn, *call.args, **call.kwargs)
        except StopIteration as stop:
            raise Boxed(stop) from None


def _another_attempt(call: Call) -> Awaitable[Any]:
    """One more attempt of the operation that the call is in, outside of its layers: told to those who watch, and
    charged to the budget of the run."""
    invoke: Proceed = _invoke
    if call.audience is not None:
        invoke = partial(attempt, partial(begun, invoke), None, False)
    if now.budget() is not None:
        invoke = partial(now.charged, invoke)
    return invoke(call)


async def _invoke(call: Call) -> Any:
    if call.closers is not None:
        return await invoke_stream(call)
    if not call.runtime.blocking:
        return await invoke_any(call)
    if call.workers is None:
        answer = plainly(call)
    else:
        answer = await run_in_worker(call, call.workers, lambda: plainly(call), close_response)
    if is_awaitable(answer):
        raise refuse_awaitable(answer, name_of(call.fn), call)
    return answer


def refuse_awaitable(answer: Any, who: str, call: Call) -> TypeError:
    """The error for an awaitable that a blocking call got from a fallback."""
    discard(answer)
    return TypeError(
        f"{who} is async, and the fallback around {call.name!r} is in a blocking call, which cannot await it: "
        f"use `await policy.acall(...)`, or a plain function"
    )


class StandIns(Code):
    """What `to=` takes: a list of functions and (function, policy) pairs."""

    def checked(self, value: Any, name: str) -> Any:
        if not isinstance(value, list | tuple):
            hint = f": write {name}=[...]" if callable(value) else ""
            raise TypeError(
                f"{name} must be a list of functions and (function, policy) pairs, got {type(value).__name__}{hint}"
            )
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], _Guard) and callable(value[0]):
            raise TypeError(
                f"{name} must be a list of functions and (function, policy) pairs, got one such pair: write "
                f"{name}=[({name_of(value[0])}, policy)]"
            )
        if not value:
            raise ValueError(f"{name} must have at least one function, got {value!r}")
        for number, part in enumerate(value):
            _check(part, f"{name}[{number}]")
        return tuple(value)

    def shown(self, value: Any) -> list[str]:
        return [each.name for each in self.made(value)]

    def spelled(self, value: Any) -> str:
        return f"[{', '.join(self.shown(value))}]"

    @staticmethod
    def made(value: Any) -> tuple[StandIn, ...]:
        """Those who stand in, in order."""
        return tuple(StandIn(*part) if isinstance(part, tuple) else StandIn(part) for part in value)


def _check(part: Any, name: str) -> None:
    fn, policy = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
    if isinstance(part, tuple) and policy is not None and not isinstance(policy, _Guard):
        raise TypeError(f"{name} must be (function, policy) with a Policy, got {type(policy).__name__} for it")
    if isinstance(fn, _Guard):
        raise TypeError(
            f"{name} must be a function or (function, policy), got a {type(fn).__name__} without a function"
        )
    if not callable(fn):
        called = inspect.iscoroutine(fn) or inspect.isgenerator(fn)
        discard(fn)
        raise TypeError(
            f"{name} must be a function or (function, policy), got {type(fn).__name__}"
            f"{': was the function called already?' if called else ''}"
        )


async def past_openers(call: Call, opened: Opened, kept: int) -> Opened:
    """The stream, read on to its first item that says something: what fails before that can still be stood in for.
    Raises that, having closed the stream, and run its closers, all but the first `kept`. Openers come first, then."""
    held: deque[Any] = deque([opened.first])
    step = opened.step or opened.read
    progress, ready = Progress(), False
    ending: Exception | Neutral = NEUTRAL
    try:
        while not opened.over and type(held[-1]) is not Over and progress.see(held[-1]) == OPENER:
            held.append(await step(None, None))
        ready = True
    except Exception as error:
        ending = unboxed(error)
        raise
    finally:
        if not ready:
            await give_up(call, opened, kept, ending)
        ending = NEUTRAL
    held.popleft()
    if held:
        opened.step = _Held(held, step).step
    return opened


class _Held:
    """Items that were read already, before those that follow."""

    __slots__ = ("_held", "_step")

    def __init__(self, held: deque[Any], step: Step) -> None:
        self._held = held
        self._step = step

    async def step(self, sent: Any, thrown: BaseException | None) -> Any:
        try:
            if self._held and thrown is None:
                return self._held.popleft()
            return await self._step(sent, thrown)
        finally:
            del thrown  # no cycle through the traceback
