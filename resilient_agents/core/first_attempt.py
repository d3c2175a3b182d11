"""Functions under a policy that is one retry: the wrapper makes the first attempt itself.

That is the path of most calls of such a policy, and a chain of its own would cost several times as much as the retry.
What differs from the way of every other policy (core/guard.py) ends with the first attempt: what comes after a failure
is the retry's own loop. A test holds the two ways equal.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from resilient_agents.base.clock import clock
from resilient_agents.base.now import now
from resilient_agents.core import given_up
from resilient_agents.core.call import STOPPED, Boxed, Call, Plan, Proceed, call_of
from resilient_agents.core.driver import drive, is_awaitable
from resilient_agents.core.invoke import PLAIN, invoke_any, invoke_coroutine, refuse_unrun, runs_later
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime, settle
from resilient_agents.core.way_in import Guarding, WayIn

__all__ = ["FirstAttempt", "coroutine_of_one_retry", "function_of_one_retry"]


class FirstAttempt(Protocol):
    """A retry of which somebody else may make the first attempt."""

    def execute(self, proceed: Proceed, call: Call, state: Any = None, /) -> Awaitable[Any]: ...

    def first_failed(self, call: Call, error: Exception, began: float, marked: int) -> Any:
        """What `execute` goes on with, None where the error is to go out."""
        ...

    def interrupted(self) -> None: ...


def coroutine_of_one_retry(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    way = _Way(policy, fn, invoke_coroutine)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        plan = way.plan
        while (
            plan.quiet is not now.edition
            or now.tracing._TRACER_PROVIDER is not now.bridge.quiet_tracer
            or now.metering._METER_PROVIDER is not now.bridge.quiet_meter
            or (now.deadline() is not None and (plan.alone is None or not now.paid()))
        ):
            found = plan.find(args, kwargs)
            if found is None:
                return await way.arun(args, kwargs, plan)
            plan = found
        timed = plan.timed
        if timed is None:
            try:
                return way.checked(await plan.chain(call_of(plan, ASYNC, fn, args, kwargs)))
            except Boxed as boxed:
                raise RuntimeError(STOPPED) from boxed.error
        began, marked = (clock.monotonic(), given_up.left) if timed else (0.0, 0)
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            rest = way.failed(plan, ASYNC, args, kwargs, error, began, marked)
            if rest is None:
                raise
        except BaseException:
            plan.alone.interrupted()
            raise
        else:
            next(plan.ticks)
            if type(result) not in PLAIN and runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        return way.checked(await rest)

    return guarded


def function_of_one_retry(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    way = _Way(policy, fn, invoke_any)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        plan = way.plan
        while (
            plan.quiet is not now.edition
            or now.tracing._TRACER_PROVIDER is not now.bridge.quiet_tracer
            or now.metering._METER_PROVIDER is not now.bridge.quiet_meter
            or (now.deadline() is not None and (plan.alone is None or not now.paid()))
        ):
            found = None if way.looks_async else plan.find(args, kwargs)
            if found is None:
                return way.run(args, kwargs, plan)
            plan = found
        timed = plan.timed
        if timed is None:
            return drive(plan.chain(call_of(plan, BLOCKING, fn, args, kwargs)), way.switched, way.checked)
        began, marked = (clock.monotonic(), given_up.left) if timed else (0.0, 0)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except Exception as error:
            rest = way.failed(plan, BLOCKING, args, kwargs, error, began, marked)
            if rest is None:
                raise
        except BaseException:
            plan.alone.interrupted()
            raise
        else:
            if type(result) not in PLAIN:
                return way.looked_at(plan, args, kwargs, result)
            next(plan.ticks)
            return result
        return drive(rest, way.switched, way.checked)

    return guarded


class _Way(WayIn):
    __slots__ = ()

    def failed(
        self, plan: Plan, runtime: Runtime, args: Any, kwargs: Any, error: Exception, began: float, marked: int
    ) -> Awaitable[Any] | None:
        """The first attempt raised `error`: the rest of the call, None where the error is to go out."""
        state: Any = None
        try:
            alone: FirstAttempt = plan.alone
            call = call_of(plan, runtime, self.fn, args, kwargs)
            state = alone.first_failed(call, error, began, marked)
            return None if state is None else alone.execute(self._further(), call, state)
        finally:
            del error, state  # no cycle through the traceback

    def _further(self) -> Proceed:
        """What a further attempt is, which a budget is to pay for like the first one."""
        return self.innermost if now.budget() is None else functools.partial(now.charged, self.innermost)

    def looked_at(self, plan: Plan, args: Any, kwargs: Any, result: Any) -> Any:
        """The first attempt gave something that needs a closer look: an awaitable is the first attempt of an async
        call."""
        alone: FirstAttempt = plan.alone
        if not is_awaitable(result):
            next(plan.ticks)
            return self.checked(result)
        given = [result]
        further = self._further()

        def proceed(call: Call) -> Awaitable[Any]:
            return settle(call, given.pop()) if given else further(call)

        call = call_of(plan, BLOCKING, self.fn, args, kwargs)
        return drive(alone.execute(proceed, call), self.switched)
