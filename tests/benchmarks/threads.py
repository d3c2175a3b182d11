"""Eight threads through one circuit breaker. Who holds a lock during the call lets them through one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pybreaker

from resilient_agents import CircuitBreaker, Policy
from tests.benchmarks import peers
from tests.benchmarks.measure import Effort
from tests.benchmarks.peers import Absent, Stack
from tests.benchmarks.table import Line, at_least

__all__ = ["THREADS", "seconds_together", "through_one_breaker"]

THREADS = 8
CALL = 0.005
CALLS = 4
"""Each thread makes so many calls, so that starting it hardly counts."""


def through_one_breaker(effort: Effort) -> Iterator[Line]:
    """Calls a second of eight threads, over those of one."""

    seconds = CALL if effort.calls is None else 0.0  # nobody waits where nothing is measured

    def call() -> None:
        time.sleep(seconds)

    makers: dict[str, Callable[[], Stack]] = {
        "bare": lambda: lambda fn: fn,
        "ours": lambda: Policy(CircuitBreaker(failures=peers.FAILURES)),
        "by hand": lambda: pybreaker.CircuitBreaker(fail_max=peers.FAILURES),
        "nopanic": lambda: peers.peer("nopanic").circuit_breaker(),
        "pyresilience": _pyresilience,
        "pybreaker": _calling,
    }
    figures: dict[str, float | str] = {}
    guarded = {}
    for name, make in makers.items():
        try:
            guarded[name] = make()(call)
        except Absent as absent:
            figures[name] = str(absent)
    best: dict[str, tuple[float, float]] = {name: (float("inf"), float("inf")) for name in guarded}
    for _ in range(min(effort.rounds, 9)):
        for name, fn in guarded.items():
            one, eight = best[name]
            best[name] = min(one, seconds_together(fn, 1)), min(eight, seconds_together(fn, THREADS))
    figures.update({name: THREADS * one / eight for name, (one, eight) in best.items()})
    title = f"{THREADS} threads × {CALL * 1000:g} ms, one breaker"
    yield Line(title, "sleeps", "× one", figures, [at_least(7.0)])


def _pyresilience() -> Stack:
    library = peers.peer("pyresilience")
    return library.resilient(circuit_breaker=library.CircuitBreakerConfig(peers.FAILURES, peers.RESET))


def _calling() -> Stack:
    """pybreaker's context manager, which does not hold the lock; its decorator, which does, is the one "by hand"."""
    breaker = pybreaker.CircuitBreaker(fail_max=peers.FAILURES)

    def stack(fn: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            with breaker.calling():
                fn()

        return guarded

    return stack


def seconds_together(fn: Callable[[], object], threads: int, calls: int = CALLS) -> float:
    """Until each of so many threads has made its calls."""
    start = threading.Barrier(threads + 1)

    def work() -> None:
        start.wait()
        for _ in range(calls):
            fn()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began
