"""Rows about single calls: what strategies cost when all goes well, and what three failing attempts cost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import tenacity

from resilient_agents import CircuitBreaker, Policy, Retry
from resilient_agents.backoff import fixed
from tests.benchmarks import peers
from tests.benchmarks.measure import Batch, Effort, Sample, blocking, interleaved, suspending
from tests.benchmarks.peers import RETRIED, Absent, Function, Stack
from tests.benchmarks.table import Goal, Line, at_most

__all__ = [
    "BODIES",
    "Makers",
    "async_line",
    "breaker_alone",
    "every_other",
    "every_other_async",
    "failing_attempts",
    "four_strategies",
    "never_suspends",
    "over_bare",
    "plain",
    "pyresilience_without_wait",
    "retry_alone",
    "sleepless",
    "stacks_of",
    "sync_line",
    "with_timeout",
]

Makers = dict[str, Callable[[], Stack]]


def plain() -> int:
    return 1


async def never_suspends() -> int:
    return 1


async def suspends_once() -> int:
    await asyncio.sleep(0)
    return 1


BODIES = {"never suspends": never_suspends, "suspends once": suspends_once}


def four_strategies(effort: Effort) -> Iterator[Line]:
    """Retry, circuit breaker, rate limit, bulkhead."""
    title = "retry + breaker + rate limit + bulkhead"
    makers: Makers = {
        "ours": peers.ours,
        "nopanic": peers.nopanic,
        "pyresilience": peers.pyresilience,
        "tenacity": peers.tenacity_alone,
        "stamina": peers.stamina,
        "pybreaker": peers.pybreaker_alone,
    }
    windowed: Makers = {
        "ours": lambda: peers.ours(breaker="window"),
        "nopanic": peers.nopanic,
        "pyresilience": lambda: peers.pyresilience(breaker="window"),
    }
    stacked: Makers = {**makers, "by hand": peers.by_hand_async}
    yield from _async_lines(f"async {title}", stacked, effort, [at_most(0.40, "nopanic")])
    yield from _async_lines("the same, breaker with a window", windowed, effort)
    stacked = {**makers, "by hand": peers.by_hand_sync}
    yield sync_line(f"sync {title}", stacked, effort, [at_most(0.60, "nopanic")])
    yield sync_line("the same, breaker with a window", windowed, effort)


def with_timeout(effort: Effort) -> Iterator[Line]:
    """The four, and a limit for each attempt."""
    makers: Makers = {
        "ours": lambda: peers.ours(timeout=True),
        "by hand": lambda: peers.by_hand_async(timeout=True),
        "nopanic": lambda: peers.nopanic(timeout=True),
        "pyresilience": lambda: peers.pyresilience(timeout=True),
    }
    goals = [at_most(0.60, "nopanic"), at_most(0.13, "by hand")]
    yield from _async_lines("async, the four + attempt timeout", makers, effort, goals)
    threads: Makers = {
        "ours": lambda: peers.ours(timeout=True, thread=True),
        "pyresilience": makers["pyresilience"],
    }
    goals = [at_most(1.05, "pyresilience")]
    yield sync_line("sync, the four + attempt timeout, in a thread", threads, effort, goals)


def retry_alone(effort: Effort) -> Iterator[Line]:
    """One strategy that has nothing to do."""
    makers: Makers = {
        "ours": lambda: Policy(Retry(peers.ATTEMPTS, on=RETRIED)),
        "nopanic": lambda: peers.peer("nopanic").retry(peers.ATTEMPTS, on=RETRIED),
        "pyresilience": lambda: _pyresilience(retry=True),
        "tenacity": peers.tenacity_alone,
        "stamina": peers.stamina,
        "redress": peers.redress_retry,
        "resilix": peers.resilix_retry,
    }
    goals = [at_most(1.0, "nopanic")]
    yield from _async_lines("async retry alone", {**makers, "hyx": peers.hyx_retry}, effort, goals)
    yield sync_line("sync retry alone", makers, effort, [at_most(1.5, "nopanic")])


def breaker_alone(effort: Effort) -> Iterator[Line]:
    """One closed circuit."""
    makers: Makers = {
        "ours": lambda: Policy(CircuitBreaker(failures=peers.FAILURES, reset_timeout=peers.RESET)),
        "nopanic": lambda: peers.peer("nopanic").circuit_breaker(reset_timeout=peers.RESET),
        "pyresilience": lambda: _pyresilience(breaker=True),
        "pybreaker": peers.pybreaker_alone,
        "resilix": peers.resilix_breaker,
        "interlock": peers.interlock_breaker,
    }
    goals = [at_most(0.6, "nopanic")]
    yield from _async_lines("async breaker alone", {**makers, "hyx": peers.hyx_breaker}, effort, goals)
    yield sync_line("sync breaker alone", makers, effort, [at_most(0.8, "nopanic")])
    windowed: Makers = {
        "ours": lambda: Policy(peers.our_window()),
        "nopanic": lambda: peers.peer("nopanic").circuit_breaker(failure_threshold=0.5, window=30.0),
        "interlock": peers.interlock_breaker,
    }
    yield from _async_lines("async window breaker alone", windowed, effort, [at_most(0.7, "nopanic")])
    yield sync_line("sync window breaker alone", windowed, effort, [at_most(1.0, "nopanic")])


def _pyresilience(*, retry: bool = False, breaker: bool = False) -> Stack:
    library = peers.peer("pyresilience")
    return library.resilient(
        retry=library.RetryConfig(peers.ATTEMPTS, retry_on=(RETRIED,)) if retry else None,
        circuit_breaker=library.CircuitBreakerConfig(peers.FAILURES, peers.RESET) if breaker else None,
    )


def failing_attempts(effort: Effort) -> Iterator[Line]:
    """Three attempts that fail, and sleeps that do nothing; over one call that fails without a policy."""

    def fails() -> None:
        raise RETRIED("down")

    async def fails_async() -> None:
        raise RETRIED("down")

    async def no_sleep(seconds: float) -> None:
        pass

    def makers(**sleep: Any) -> Makers:
        return {
            "ours": lambda: Policy(Retry(peers.ATTEMPTS, on=RETRIED, wait=fixed(0))),
            "nopanic": lambda: peers.peer("nopanic").retry(peers.ATTEMPTS, on=RETRIED, backoff=0.0),
            "pyresilience": lambda: pyresilience_without_wait(),
            "tenacity": lambda: peers.tenacity_alone(wait=tenacity.wait_none(), **sleep),
            "stamina": lambda: peers.stamina(wait_initial=0, wait_jitter=0, wait_max=0),
        }

    goals = [at_most(0.30, "tenacity")]
    with sleepless():
        stacks, missing = stacks_of(makers(sleep=lambda seconds: None))
        batches = {name: _failing(stack(fails)) for name, stack in stacks.items()}
        batches["bare"] = _failing(fails)
        yield over_bare("sync, three failing attempts", "raises", batches, missing, effort, goals)
        with asyncio.Runner() as runner:
            stacks, missing = stacks_of(makers(sleep=no_sleep))
            batches = {name: _failing_async(stack(fails_async), runner) for name, stack in stacks.items()}
            batches["bare"] = _failing_async(fails_async, runner)
            yield over_bare("async, three failing attempts", "raises", batches, missing, effort, goals)


def pyresilience_without_wait() -> Stack:
    """Its retry, which sleeps for no time."""
    library = peers.peer("pyresilience")
    return library.resilient(retry=library.RetryConfig(peers.ATTEMPTS, delay=0.0, jitter=False, retry_on=(RETRIED,)))


@contextmanager
def sleepless() -> Generator[None, None, None]:
    """Sleeping costs nothing, for everybody: `time.sleep(0)` alone takes longer than three attempts."""

    async def no_sleep(delay: float, result: Any = None) -> Any:
        return result

    kept = time.sleep, asyncio.sleep, anyio.sleep
    time.sleep, asyncio.sleep, anyio.sleep = (lambda seconds: None), no_sleep, no_sleep
    try:
        yield
    finally:
        time.sleep, asyncio.sleep, anyio.sleep = kept


def every_other() -> Function:
    """Fails at each call with an odd number, from the first on."""
    attempts = itertools.count()

    def fails_once() -> int:
        if next(attempts) % 2:
            return 1
        raise RETRIED("down")

    return fails_once


def every_other_async() -> Function:
    fails_once = every_other()

    async def attempt() -> Any:
        return fails_once()

    return attempt


def _failing(fn: Function) -> Batch:
    def caught() -> None:
        try:
            fn()
        except RETRIED:
            pass

    return blocking(caught)


def _failing_async(fn: Function, runner: asyncio.Runner) -> Batch:
    async def caught() -> None:
        try:
            await fn()
        except RETRIED:
            pass

    return suspending(caught, runner)


def _async_lines(title: str, makers: Makers, effort: Effort, goals: list[Goal] | None = None) -> Iterator[Line]:
    for body in BODIES:
        yield async_line(title, body, makers, effort, goals or [])


def async_line(title: str, body: str, makers: Makers, effort: Effort, goals: list[Goal]) -> Line:
    """A coroutine function under each stack, called one after another on one loop."""
    fn = BODIES[body]
    stacks, missing = stacks_of(makers)
    with asyncio.Runner() as runner:
        batches = {name: suspending(stack(fn), runner) for name, stack in stacks.items()}
        return over_bare(title, body, {"bare": suspending(fn, runner), **batches}, missing, effort, goals)


def sync_line(title: str, makers: Makers, effort: Effort, goals: list[Goal] | None = None) -> Line:
    """A plain function under each stack."""
    stacks, missing = stacks_of(makers)
    batches = {name: blocking(stack(plain)) for name, stack in stacks.items()}
    return over_bare(title, "plain", {"bare": blocking(plain), **batches}, missing, effort, goals or [])


def stacks_of(makers: Makers) -> tuple[dict[str, Stack], dict[str, str]]:
    """Those that are installed, and what is to be said of the others."""
    stacks: dict[str, Stack] = {}
    missing: dict[str, str] = {}
    for name, make in makers.items():
        try:
            stacks[name] = make()
        except Absent as absent:
            missing[name] = str(absent)
    return stacks, missing


def over_bare(
    title: str, body: str, batches: dict[str, Batch], missing: dict[str, str], effort: Effort, goals: list[Goal]
) -> Line:
    """Microseconds a call: of the bare one as it is, of the others what they add to it."""
    samples: dict[str, Sample] = interleaved(batches, effort)
    bare = samples.pop("bare").best
    figures: dict[str, float | str] = {"bare": bare * 1e6, **missing}
    figures.update({name: (sample.best - bare) * 1e6 for name, sample in samples.items()})
    return Line(title, body, "µs", figures, goals, spread=samples["ours"].spread)
