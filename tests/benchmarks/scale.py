"""Rows about what many share: one policy in eight threads that compute, and a policy for each of 100,000 keys."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from resilient_agents import Retry
from resilient_agents.registry import Keyed
from tests.benchmarks import peers
from tests.benchmarks.calls import Makers, stacks_of
from tests.benchmarks.measure import Effort
from tests.benchmarks.peers import Function
from tests.benchmarks.table import Line, at_most
from tests.benchmarks.threads import THREADS, seconds_together

__all__ = ["keys", "one_policy_in_threads"]

_CALLS = 500
_TURNS = 15


def _computes() -> int:
    """Some 5 µs of Python: threads give way to each other in the midst of it."""
    return sum(range(400))


def one_policy_in_threads(effort: Effort) -> Iterator[Line]:
    """Eight threads whose calls compute go through one policy of four: what a call takes beyond the bare one, of the
    time of the interpreter, in which they take turns. Who waits for a lock with it in hand makes all of them wait."""
    makers: Makers = {
        "bare": lambda: lambda fn: fn,
        "ours": peers.ours,
        "by hand": peers.by_hand_sync,
        "nopanic": peers.nopanic,
        "pyresilience": peers.pyresilience,
    }
    stacks, missing = stacks_of(makers)
    guarded = {name: stack(_computes) for name, stack in stacks.items()}
    calls = effort.calls or _CALLS
    best = dict.fromkeys(guarded, float("inf"))
    for _ in range(min(effort.rounds, _TURNS)):
        for name, fn in guarded.items():
            took = seconds_together(fn, THREADS, calls) / (THREADS * calls)
            best[name] = min(best[name], took)
    bare = best.pop("bare")
    figures: dict[str, float | str] = {"bare": bare * 1e6, **missing}
    figures.update({name: (took - bare) * 1e6 for name, took in best.items()})
    title = f"{THREADS} threads, retry + breaker + rate limit + bulkhead"
    yield Line(title, "computes 5 µs", "µs", figures, [at_most(1.0, "nopanic")])


def keys(effort: Effort) -> Iterator[Line]:
    """So many keys, each with a retry of its own, called in turn: bytes for each, and what a call takes."""
    count = effort.tasks
    makers: Makers = {
        "ours": lambda: Keyed(_retry, _key, at_most=count),
        "nopanic": lambda: peers.peer("nopanic").keyed(
            lambda key: peers.peer("nopanic").retry(peers.ATTEMPTS, on=peers.RETRIED), key=_key, maxsize=count
        ),
    }
    stacks, missing = stacks_of(makers)
    size: dict[str, float | str] = dict(missing)
    speed: dict[str, float | str] = dict(missing)
    made: dict[str, Function] = {"bare": _key}
    for column, stack in stacks.items():
        made[column] = stack(_key)
        gc.collect()
        tracemalloc.start()
        for number in range(count):
            made[column](number)
        size[column] = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
    gc.collect()
    best = dict.fromkeys(made, float("inf"))
    for _ in range(min(effort.rounds, _TURNS)):
        for column, fn in made.items():
            best[column] = min(best[column], _in_turn(fn, count))
    bare = best.pop("bare")
    speed["bare"] = bare * 1e6
    speed.update({column: (took - bare) * 1e6 for column, took in best.items()})
    yield Line(f"a key among {count:,}", "", "bytes", size)
    yield Line(f"a policy for each of {count:,} keys, in turn", "plain", "µs", speed, [at_most(1.0, "nopanic")])


def _retry(_: Any) -> Retry:
    return Retry(peers.ATTEMPTS, on=peers.RETRIED)


def _key(key: Any) -> Any:
    return key


def _in_turn(fn: Callable[[int], object], count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        fn(number)
    return (time.perf_counter() - began) / count
