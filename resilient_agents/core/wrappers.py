"""The wrappers of functions, which are the path of every call.

The first look decides whether a call is an ordinary one, of which nobody wants to know anything; what follows is then
`WayIn.run` and `WayIn.arun`, spelled out. (What a slot holds is given a name before it is called: the interpreter would
look for a method at first.) Where a retry is the whole policy, a chain would cost several times as much as the retry:
the wrapper makes the first attempt itself, and what comes after a failure is the retry's own loop. Tests hold the ways
equal.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from resilient_agents.base.clock import clock
from resilient_agents.base.now import now
from resilient_agents.core import given_up
from resilient_agents.core.call import NO_PLAN, ORDINARY, STOPPED, Boxed, Call, Plan, Proceed, call_of, unboxed
from resilient_agents.core.driver import Begun, drive, idle, is_awaitable, new_driver, unfinished
from resilient_agents.core.invoke import PLAIN, checked, invoke_any, invoke_coroutine, refuse_unrun, runs_later
from resilient_agents.core.runtime import ASYNC, BLOCKING, settle
from resilient_agents.core.way_in import Guarding, WayIn
from resilient_agents.telemetry.bridge import metering, tracing

__all__ = ["FirstAttempt", "coroutine", "plain"]

take, put_back = idle.pop, idle.append


class FirstAttempt(Protocol):
    """A retry of which somebody else may make the first attempt."""

    def execute(self, proceed: Proceed, call: Call, /) -> Awaitable[Any]: ...

    def first_failed(
        self, proceed: Proceed, call: Call, error: Exception, since: given_up.Moment
    ) -> Awaitable[Any] | None:
        """The rest of the call, None where the error is to go out."""
        ...

    def interrupted(self) -> None: ...


def coroutine(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    way = _Way(policy, fn, invoke_coroutine)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        found = plan = way.plan
        deadline = now.deadline
        while (
            plan.quiet is not now.edition
            or tracing._TRACER_PROVIDER is not now.quiet_tracer
            or metering._METER_PROVIDER is not now.quiet_meter
            or (deadline() is not None and (plan := plan.paid()) is NO_PLAN)
        ):
            further = None if plan is NO_PLAN else plan.find(args, kwargs)
            if further is None:
                return await way.arun(args, kwargs, found)
            found = plan = further
        if plan.alone is None:
            call = Call()
            call.plan = plan
            call.runtime = ASYNC
            call.fn = fn
            call.args = args
            call.kwargs = kwargs
            call.rare = ORDINARY
            if plan.retry is None:
                chain = plan.chain
                rest = chain(call)
            else:  # the beginning of `RetryLoop.execute`, without its frame
                since = plan.since or (clock.monotonic(), given_up.left)
                inside = plan.inside
                try:
                    result = await inside(call)
                except Exception as error:
                    rest = plan.retry.first_failed(inside, call, unboxed(error), since)
                    if rest is None:
                        if type(error) is Boxed:
                            raise RuntimeError(STOPPED) from error.error
                        raise
                except BaseException:
                    plan.retry.interrupted()
                    raise
                else:
                    plan.counts.at_once += 1
                    if type(result) not in PLAIN and runs_later(type(result)):
                        refuse_unrun(fn, result)
                    return result
        else:
            since = plan.since or (clock.monotonic(), given_up.left)
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except Exception as error:
                call = call_of(plan, ASYNC, fn, args, kwargs)
                again = way.innermost if now.budget() is None else way.charged()
                rest = plan.alone.first_failed(again, call, error, since)
                if rest is None:
                    raise
            except BaseException:
                plan.alone.interrupted()
                raise
            else:
                plan.counts.at_once += 1
                if type(result) not in PLAIN and runs_later(type(result)):
                    refuse_unrun(fn, result)
                return result
        try:
            result = await rest
        except Boxed as boxed:  # from a handler: the function itself cannot raise StopIteration
            raise RuntimeError(STOPPED) from boxed.error
        if type(result) not in PLAIN and runs_later(type(result)):
            refuse_unrun(fn, result)
        return result

    return guarded


def plain(policy: Guarding, fn: Callable[..., Any]) -> Callable[..., Any]:
    way = _Way(policy, fn, invoke_any)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        found = plan = way.plan
        deadline = now.deadline
        while (
            plan.quiet is not now.edition
            or tracing._TRACER_PROVIDER is not now.quiet_tracer
            or metering._METER_PROVIDER is not now.quiet_meter
            or (deadline() is not None and (plan := plan.paid()) is NO_PLAN)
        ):
            further = None if plan is NO_PLAN or way.looks_async else plan.find(args, kwargs)
            if further is None:
                return way.run(args, kwargs, found)
            found = plan = further
        if plan.alone is None:
            call = Call()
            call.plan = plan
            call.runtime = BLOCKING
            call.fn = fn
            call.args = args
            call.kwargs = kwargs
            call.rare = ORDINARY
            chain = plan.chain
            begun = chain(call)  # before a driver is taken: some calls are refused here
        else:
            since = plan.since or (clock.monotonic(), given_up.left)
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)
            except Exception as failure:
                call = call_of(plan, BLOCKING, fn, args, kwargs)
                again = way.innermost if now.budget() is None else way.charged()
                begun = plan.alone.first_failed(again, call, failure, since)
                if begun is None:
                    raise
            except BaseException:
                plan.alone.interrupted()
                raise
            else:
                if type(result) not in PLAIN:
                    return way.looked_at(plan, args, kwargs, result)
                plan.counts.at_once += 1
                return result
        try:
            driver = take()
        except IndexError:  # all are busy
            driver = new_driver()
        try:
            result = driver.send(begun)
        except Boxed as boxed:
            error = boxed.error
        else:
            if driver.gi_yieldfrom is not None:
                return unfinished(Begun(driver), result, way.switched)
            put_back(driver)
            if type(result) not in PLAIN and runs_later(type(result)):
                refuse_unrun(fn, result)
            return result
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    return guarded


class _Way(WayIn):
    __slots__ = ()

    def charged(self) -> Proceed:
        """What a further attempt is where a budget is to pay for it like for the first one."""
        return functools.partial(now.charged, self.innermost)

    def looked_at(self, plan: Plan, args: Any, kwargs: Any, result: Any) -> Any:
        """The first attempt gave something that needs a closer look: an awaitable is the first attempt of an async
        call."""
        alone: FirstAttempt = plan.alone
        if not is_awaitable(result):
            plan.counts.at_once += 1
            return checked(self.fn, result)
        given = [result]
        further = self.innermost if now.budget() is None else self.charged()

        def proceed(call: Call) -> Awaitable[Any]:
            return settle(call, given.pop()) if given else further(call)

        call = call_of(plan, BLOCKING, self.fn, args, kwargs)
        return drive(alone.execute(proceed, call), self.switched)
