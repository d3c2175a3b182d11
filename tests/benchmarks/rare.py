"""Rows about what a call meets now and then: one failure, a circuit that is open, a key of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from resilient_agents import CircuitBreaker, Policy, Retry
from resilient_agents.backoff import fixed
from resilient_agents.registry import Keyed
from tests.benchmarks import peers
from tests.benchmarks.calls import (
    Makers,
    every_other,
    every_other_async,
    over_bare,
    plain,
    pyresilience_without_wait,
    sleepless,
    stacks_of,
)
from tests.benchmarks.measure import Effort, blocking, suspending
from tests.benchmarks.peers import RETRIED, Function, Stack
from tests.benchmarks.table import Line, at_most

__all__ = ["keyed", "one_retry", "refusals"]

_OPENED = 30
"""Failing calls after which every circuit here is open."""


def one_retry(effort: Effort) -> Iterator[Line]:
    """Every other attempt fails, and sleeps do nothing; over one call that does not fail."""
    makers: Makers = {
        "ours": lambda: Policy(Retry(peers.ATTEMPTS, on=RETRIED, wait=fixed(0))),
        "nopanic": lambda: peers.peer("nopanic").retry(peers.ATTEMPTS, on=RETRIED, backoff=0.0),
        "pyresilience": pyresilience_without_wait,
    }

    with sleepless():
        stacks, missing = stacks_of(makers)
        batches = {name: blocking(stack(every_other())) for name, stack in stacks.items()}
        batches["bare"] = blocking(plain)
        goals = [at_most(2.3, "nopanic")]
        yield over_bare("sync, a failure and one retry", "raises once", batches, missing, effort, goals)
        with asyncio.Runner() as runner:
            stacks, missing = stacks_of(makers)
            batches = {name: suspending(stack(every_other_async()), runner) for name, stack in stacks.items()}
            batches["bare"] = suspending(_returns, runner)
            goals = [at_most(1.4, "nopanic")]
            yield over_bare("async, a failure and one retry", "raises once", batches, missing, effort, goals)


async def _returns() -> int:
    return 1


def refusals(effort: Effort) -> Iterator[Line]:
    """A circuit that is open; over one call that is not refused."""
    library = peers.peer
    makers: Makers = {
        "ours": lambda: Policy(CircuitBreaker(failures=1, reset_timeout=3600.0)),
        "nopanic": lambda: library("nopanic").circuit_breaker(min_calls=1, reset_timeout=3600.0),
        "pyresilience": lambda: library("pyresilience").resilient(
            circuit_breaker=library("pyresilience").CircuitBreakerConfig(1, 3600.0)
        ),
        "pybreaker": peers.pybreaker_alone,
        "resilix": peers.resilix_breaker,
        "interlock": peers.interlock_breaker,
    }

    def fails() -> None:
        raise RETRIED("down")

    async def fails_async() -> None:
        raise RETRIED("down")

    def refused(fn: Function) -> Function:
        def caught() -> None:
            with contextlib.suppress(Exception):
                fn()

        return caught

    def refused_async(fn: Function) -> Function:
        async def caught() -> None:
            with contextlib.suppress(Exception):
                await fn()

        return caught

    stacks, missing = stacks_of(makers)
    guarded = {name: refused(stack(fails)) for name, stack in stacks.items()}
    for fn in guarded.values():
        for _ in range(_OPENED):
            fn()
    batches = {name: blocking(fn) for name, fn in guarded.items()}
    batches["bare"] = blocking(refused(plain))
    goals = [at_most(0.8, "pyresilience")]
    yield over_bare("sync, refused by an open circuit", "is not called", batches, missing, effort, goals)
    with asyncio.Runner() as runner:
        stacks, missing = stacks_of({**makers, "hyx": peers.hyx_breaker})
        waiting = {name: refused_async(stack(fails_async)) for name, stack in stacks.items()}
        for fn in waiting.values():
            for _ in range(_OPENED):
                runner.run(fn())
        batches = {name: suspending(fn, runner) for name, fn in waiting.items()}
        batches["bare"] = suspending(refused_async(_returns), runner)
        goals = [at_most(1.0, "hyx")]
        yield over_bare("async, refused by an open circuit", "is not called", batches, missing, effort, goals)


def keyed(effort: Effort) -> Iterator[Line]:
    """A retry for each key: of one that is known, and of one that comes for the first time."""

    def same(key: Any) -> Any:
        return key

    makers: Makers = {
        "ours": lambda: Keyed(lambda key: Retry(peers.ATTEMPTS, on=RETRIED), same),
        "nopanic": lambda: peers.peer("nopanic").keyed(
            lambda key: peers.peer("nopanic").retry(peers.ATTEMPTS, on=RETRIED), key=same
        ),
    }

    def known(stack: Stack) -> Function:
        guarded = stack(same)
        return lambda: guarded(1)

    def new(stack: Stack) -> Function:
        guarded, keys = stack(same), itertools.count()
        return lambda: guarded(next(keys))

    rows: list[tuple[str, Callable[[Stack], Function], float]] = [("known", known, 0.9), ("new", new, 4.0)]
    for what, calls, most in rows:
        stacks, missing = stacks_of(makers)
        batches = {name: blocking(calls(stack)) for name, stack in stacks.items()}
        batches["bare"] = blocking(calls(lambda fn: fn))
        yield over_bare(f"a policy for each key, {what}", "plain", batches, missing, effort, [at_most(most, "nopanic")])
