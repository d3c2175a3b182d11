"""`simulate`: the real policy in virtual time, between modelled callers and a modelled dependency."""

from __future__ import annotations

import asyncio
import contextlib
import math
import warnings
from collections.abc import Callable, Generator, Mapping
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from resilient_agents import events
from resilient_agents.base.chance import chance
from resilient_agents.base.clock import clock
from resilient_agents.core.loops import on_event_loop
from resilient_agents.core.options import Flag, Text
from resilient_agents.policy import Policy
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.callers import Callers
from resilient_agents.simulate.dependency import Server
from resilient_agents.simulate.gauges import Gauges
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.result import Result, Series, recovered_after
from resilient_agents.simulate.scenario import Phase, Scenario
from resilient_agents.simulate.streaming import Streams

__all__ = ["simulate", "virtual"]

S = TypeVar("S")

PolicySource: TypeAlias = Policy | Callable[[], Policy]

MOST_STEPS = 600
"""Points of a series at most; a step is a second at least."""

_EPOCH = 864_000.0
"""When simulations begin, by the wall clock: in January 1970, where a float still tells nanoseconds apart."""


def simulate(
    policy: PolicySource,
    scenario: Scenario | Mapping[str, Any] | str | Path,
    *,
    seed: str | None = None,
    blocking: bool = False,
) -> Result:
    """Run `policy` through `scenario` and say what became of the calls. Nothing sleeps: hours take seconds.

    Args:
        policy: A function that makes a policy, called once a process, within the virtual time; or a policy that is
            used by nobody else, for a scenario with one process.
        scenario: A `Scenario`, a mapping of the same shape as a scenario file, or the path of one.
        seed: Names the random streams, in place of the scenario's own seed. Same seed, same result.
        blocking: Calls are those of blocking code, each on a thread of its own, in place of tasks of asyncio: a limit
            without `thread=True` then cuts nothing off.

    Raises:
        ConfigError: the scenario says what is not allowed; it lists all problems.
        RuntimeError: called on the thread of an event loop; `TooManyCalls` where more block at once than there are
            threads for.
        TypeError: `seed` is no string, or `blocking` neither True nor False.
        ValueError: one policy object for several processes, which would share its state.
    """
    from resilient_agents.simulate.read import read

    seed = Text(none=True)(seed, "seed")
    blocking = Flag()(blocking, "blocking")
    scenario = read(scenario)
    if isinstance(policy, Policy) and scenario.load.processes > 1:
        raise ValueError(
            f"the scenario has {scenario.load.processes} processes, each with a policy of its own: pass a function "
            f"that makes one"
        )
    if on_event_loop():
        raise RuntimeError("simulate() runs an event loop of its own: call it from a thread without one")
    # In a context of its own: a deadline or a budget of the caller's is none of theirs.
    return Context().run(_simulated, policy, scenario, seed or scenario.seed, blocking)


def _simulated(policy: PolicySource, scenario: Scenario, seed: str, blocking: bool) -> Result:
    with contextlib.ExitStack() as stack:
        loop = SimulatedLoop()
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        stack.enter_context(virtual(loop, seed))
        threads = BlockingCalls(loop) if blocking else None
        if threads is not None:
            stack.enter_context(threads.running())
        world = _World(loop, policy, scenario, seed, threads)
        try:
            runner.run(world.run())
        except KeyboardInterrupt:
            return world.result(interrupted=True)
        return world.result()


class _World:
    """Callers, processes and the dependency of one simulation."""

    def __init__(
        self,
        loop: SimulatedLoop,
        policy: PolicySource,
        scenario: Scenario,
        seed: str,
        threads: BlockingCalls | None,
    ) -> None:
        self._loop = loop
        self._scenario = scenario
        self._start = loop.time()
        self._server = Server(loop, scenario.dependency, seed)
        policies = [policy if isinstance(policy, Policy) else policy() for _ in range(scenario.load.processes)]
        if scenario.dependency.stream is not None:
            streams = Streams(loop, self._server, seed, threads)
            guarded = [streams.reader(made) for made in policies]
        elif threads is None:
            guarded = [made(self._server.request) for made in policies]
        else:
            request = partial(self._server.request_in, threads)
            guarded = [threads.called(made(request)) for made in policies]
        self._gauges = Gauges(policies)
        self._callers = Callers(loop, guarded, seed)
        self._opened: float | None = None
        self._trouble = math.inf if scenario.trouble is None else scenario.trouble[0]
        step = max(1.0, scenario.duration / MOST_STEPS)
        self._series = Series(step, max(1, math.ceil(scenario.duration / step - 1e-9)))

    async def run(self) -> None:
        """Until all calls have ended, ten minutes after the last one began at the latest."""
        scenario, at = self._scenario, self._loop.call_at
        self._plan(scenario.dependency, scenario.dependency_phases, self._server.become)
        self._plan(scenario.load, scenario.load_phases, lambda load, _: self._callers.be_offered(load))
        at(self._start + scenario.duration, self._callers.end)
        at(self._start + self._series.step, self._sample, 0, self._counted())
        self._callers.be_offered(scenario.load)
        undo = events.subscribe(self._hear)
        try:
            await self._callers.done
        finally:
            undo()

    def _plan(self, base: S, phases: tuple[Phase[S], ...], change: Callable[[S, float], None]) -> None:
        for phase in phases:
            self._loop.call_at(self._start + phase.end, change, base, math.inf)
        for phase in phases:  # one that begins where another ends has the last word
            self._loop.call_at(self._start + phase.start, change, phase.settings, self._start + phase.end)

    # what is seen

    def _hear(self, event: events.Event) -> None:
        since = self._loop.time() - self._start - self._trouble
        if isinstance(event, events.CircuitOpened) and self._opened is None and since >= 0:
            self._opened = since

    def _counted(self) -> dict[str, int]:
        callers, server = self._callers, self._server
        return {
            "offered": callers.offered,
            "sent": server.sent,
            "errors": server.errors,
            "succeeded": callers.succeeded,
            "failed": callers.failed,
            "refused": callers.refused,
        }

    def _sample(self, step: int, before: dict[str, int]) -> None:
        """At the end of each step: what was counted since the last one, and how things stand."""
        series, server, now = self._series, self._server, self._counted()
        for name in Series.COUNTED:
            getattr(series, name)[step] = now[name] - before[name]
        series.open[step], series.in_use[step] = self._gauges.read()
        series.waiting[step], series.busy[step] = server.waiting, server.busy
        if step + 1 < len(series):
            self._loop.call_at(self._start + (step + 2) * series.step, self._sample, step + 1, now)

    def result(self, *, interrupted: bool = False) -> Result:
        server, callers, trouble = self._server, self._callers, self._scenario.trouble
        calls, durations = callers.succeeded + callers.failed + callers.refused, callers.durations
        return Result(
            calls=calls,
            success_rate=callers.succeeded / calls if calls else math.nan,
            fallbacks=callers.fallbacks,
            mean=durations.total / durations.count if durations.count else math.nan,
            p50=durations.percentile(0.5),
            p95=durations.percentile(0.95),
            p99=durations.percentile(0.99),
            attempts=server.sent / callers.offered if callers.offered else math.nan,
            sent=server.sent,
            errors=server.errors,
            refused=callers.refused,
            wasted=server.wasted,
            unfinished=callers.offered - calls,
            cost=server.cost,
            opened_after=self._opened,
            recovered_after=None if trouble is None else recovered_after(self._series, *trouble),
            series=self._series,
            interrupted=interrupted,
        )


@contextlib.contextmanager
def virtual(loop: asyncio.AbstractEventLoop, seed: str) -> Generator[None, None, None]:
    """The library's clocks are the loop's, and jitter has a stream of its own. Many processes in one may have breakers
    of one name."""
    drawn = chance.getstate()
    chance.seed(f"{seed}/jitter")
    clocks = clock.replaced(monotonic=loop.time, wall=lambda: _EPOCH + loop.time())
    with contextlib.ExitStack() as stack, clocks, warnings.catch_warnings():
        stack.callback(chance.setstate, drawn)
        warnings.filterwarnings("ignore", message=".*plain (function|stream)", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message=".*second live.*", category=RuntimeWarning)
        yield
