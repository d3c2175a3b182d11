"""Numbers that are allowed one by one and do not fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeAlias

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import Backoff
from resilient_agents.config.model import StrategySpec
from resilient_agents.strategies.hedge import Hedge

__all__ = ["average_waits", "misfits"]

Layer: TypeAlias = tuple[StrategySpec, Any]
"""What was written, and the strategy that it makes."""

Misfit: TypeAlias = tuple[StrategySpec, str, str]
"""Which strategy, which option of it, what does not fit and why."""

_MANY = 1000
"""Waits to add up at most: more do not change the verdict."""

_REFUSED = frozenset(["rate_limit", "overload", "conflict"])
"""Failures after which nothing has been done. Who retries no others says that a call may not be made twice."""


def misfits(layers: Sequence[Layer]) -> Iterator[Misfit]:
    """What does not fit together among the layers of a policy, outermost first."""
    for position, outer in enumerate(layers):
        check = _CHECKS.get(type(outer[1]))
        if check is not None:
            for inner in layers[position + 1 :]:
                yield from check(outer, inner)


def average_waits(retry: Retry) -> float | None:
    """Seconds that all the waits of a retry take together on average, None where nobody can say.

    Without jitter the waits are what they grow to. "full" leaves half of that on average, "equal" three quarters,
    "uniform" and "exponential" about all of it; "decorrelated" goes from `base` to three times the wait before.
    """
    wait = retry.wait
    if not isinstance(wait, Backoff) or retry.attempts is None or callable(wait.jitter):
        return None
    if wait.jitter == "decorrelated":
        total, last = 0.0, wait.base
        for _ in range(min(retry.attempts - 1, _MANY)):
            last = (wait.base + min(3 * last, wait.max)) / 2
            total += last
        return total
    steady = replace(wait, jitter=None)
    share = {"full": 0.5, "equal": 0.75}.get(wait.jitter or "", 1.0)
    states: Any = (SimpleNamespace(attempt_number=number) for number in range(1, min(retry.attempts, _MANY + 1)))
    return share * sum(steady(state) for state in states)


def _inside_timeout(outer: Layer, inner: Layer) -> Iterator[Misfit]:
    total: Timeout = outer[1]
    spec, strategy = inner
    if isinstance(strategy, Timeout) and strategy.seconds >= total.seconds:
        message = (
            f"the timeout of {strategy.seconds:g} s stands inside one of {total.seconds:g} s, which is over first: it "
            f"never ends an attempt, so one that hangs uses up all the time and leaves none to try again"
        )
        yield spec, "seconds", message
    if isinstance(strategy, Hedge) and strategy.after >= total.seconds:
        message = (
            f"the hedge waits {strategy.after:g} s for an answer, the timeout around it is over after "
            f"{total.seconds:g} s: no second request is ever made because the first is slow"
        )
        yield spec, "after", message
    if isinstance(strategy, Retry):
        waits = average_waits(strategy)
        if waits is not None and waits >= total.seconds:
            message = (
                f"the waits between {strategy.attempts} attempts take {waits:.3g} s on average, the timeout around "
                f"them is {total.seconds:g} s: the last attempts are never made, because a wait that would pass the "
                f"deadline ends the call"
            )
            yield spec, "wait" if "wait" in spec.options else "attempts", message


def _inside_retry(outer: Layer, inner: Layer) -> Iterator[Misfit]:
    spec, strategy = inner
    around: Retry = outer[1]
    if isinstance(strategy, Retry) and strategy.attempts != 1 and around.attempts != 1:
        message = (
            f"a retry of {strategy.attempts} attempts stands inside one of {around.attempts}: the load on a dependency "
            f"that fails is multiplied"
        )
        yield spec, "attempts", message
    if isinstance(strategy, Hedge):
        yield from _hedged_once(spec, outer[0])


def _inside_hedge(outer: Layer, inner: Layer) -> Iterator[Misfit]:
    hedge: Hedge = outer[1]
    spec, strategy = inner
    if isinstance(strategy, Retry):
        yield from _hedged_once(outer[0], spec)
    if isinstance(strategy, Timeout) and strategy.seconds <= hedge.after:
        message = (
            f"the hedge waits {hedge.after:g} s for an answer, but the timeout inside ends each request after "
            f"{strategy.seconds:g} s: the second one never runs beside the first, only after it"
        )
        yield outer[0], "after", message


def _hedged_once(hedge: StrategySpec, retry: StrategySpec) -> Iterator[Misfit]:
    chosen = retry.options.get("on", ())
    if chosen and _REFUSED.issuperset(chosen):
        message = (
            f"the retry repeats only what was refused ({', '.join(chosen)}), as is right for a call that must not be "
            f"made twice; the hedge makes it twice: leave the hedge out, or let the retry's on have timeouts and lost "
            f"connections too if the call is idempotent"
        )
        yield hedge, "after", message


def _inside_breaker(outer: Layer, inner: Layer) -> Iterator[Misfit]:
    breaker: CircuitBreaker = outer[1]
    limit = inner[1]
    if not isinstance(limit, Timeout):
        return
    slow = breaker.describe()["slow_call"]
    judges_rates = breaker.failure_rate is not None or slow is not None
    if judges_rates and breaker.window_calls is None and breaker.window < 2 * limit.seconds:
        message = (
            f"the window of {breaker.window:g} s is shorter than twice the attempt timeout of {limit.seconds:g} s: in "
            f"an outage, calls that hang leave the window about as fast as others end, so the circuit may never see "
            f"{breaker.minimum_calls} of them together and stays closed"
        )
        yield outer[0], "window", message
    if slow is not None and slow >= limit.seconds:
        message = (
            f"a call counts as slow from {slow:g} s on, but the timeout inside ends it after {limit.seconds:g} s: none "
            f"that succeeds is ever slow"
        )
        yield outer[0], "slow_call", message


_CHECKS: dict[type, Callable[[Layer, Layer], Iterator[Misfit]]] = {
    Timeout: _inside_timeout,
    Retry: _inside_retry,
    Hedge: _inside_hedge,
    CircuitBreaker: _inside_breaker,
}
