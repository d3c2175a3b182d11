"""How calls come into a policy: with the plan in force, and checked at the end for work that was merely made."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from resilient_agents.base.now import now
from resilient_agents.core.call import STOPPED, Boxed, Call, Plan, Proceed, call_of
from resilient_agents.core.driver import Begun, drive, go_on
from resilient_agents.core.invoke import checked, invoke_any
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.runtime import ASYNC, BLOCKING, Runtime
from resilient_agents.deadline import in_force

__all__ = ["Guarding", "WayIn"]

now.deadline = in_force


class Guarding(Protocol):
    """What a wrapper needs of a policy."""

    def plan(self, fn: Callable[..., Any] | None, innermost: Proceed) -> Plan:
        """How calls of `fn`, whose last step is `innermost`, go from now on."""
        ...


class WayIn:
    """The way of one function's calls into a policy. All that their wrapper refers to, so that a wrapper can be pickled
    by value, as cloudpickle does. `looks_async`: an awaitable is to be expected, so that each call looks whether it is
    made on an event loop."""

    __slots__ = ("fn", "innermost", "looks_async", "plan", "policy")

    def __init__(self, policy: Guarding, fn: Callable[..., Any], innermost: Proceed) -> None:
        self.policy = policy
        self.fn = fn
        self.innermost = innermost
        self.looks_async = innermost is invoke_any and _looks_async(fn)
        self.plan = Plan(None)  # of no edition: made when the first call comes

    def __reduce__(self) -> Any:
        return type(self), (self.policy, self.fn, self.innermost)

    def call(self, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any], found: Plan | None = None) -> Call:
        """A call on its way in, with the plan in force."""
        plan = found or self.plan
        if plan.edition is not now.edition and not plan.of_key:
            plan = self.policy.plan(self.fn, self.innermost)
            if self.looks_async:
                plan = copy.copy(plan)
                plan.quiet = None
            self.plan = plan
        return call_of(plan, runtime, self.fn, args, kwargs)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: Plan | None = None) -> Any:
        """A call that begins blocking and about which there is something to know. `found`: the plan of this call, where
        somebody has looked already."""
        call = self.call(BLOCKING, args, kwargs, found)
        if self.looks_async and on_event_loop():
            call.runtime = ASYNC
            return self._awaited(call)
        return drive(call.plan.enter(call)(call), self.switched, functools.partial(checked, self.fn))

    def arun(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: Plan | None = None
    ) -> Coroutine[Any, Any, Any]:
        """The same of a coroutine function."""
        return self._awaited(self.call(ASYNC, args, kwargs, found))

    async def _awaited(self, call: Call) -> Any:
        try:
            return checked(self.fn, await call.plan.enter(call)(call))
        except Boxed as boxed:
            raise RuntimeError(STOPPED) from boxed.error

    def switched(self, begun: Begun) -> Any:
        """The awaitable that the rest of a call is, which began blocking."""
        self.looks_async = True
        self.plan = Plan(None)
        return self._rest(begun)

    async def _rest(self, begun: Begun) -> Any:
        return checked(self.fn, await go_on(begun))


def _looks_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        return inspect.iscoroutinefunction(inspect.unwrap(fn))
    except ValueError:  # a proxy that has every attribute, `__wrapped__` without end
        return False
