"""Numbers that are allowed one by one and do not fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import Backoff
from resilient_agents.config.model import StrategySpec
from resilient_agents.core.match import names
from resilient_agents.strategies.hedge import Hedge

__all__ = ["misfits"]

_MANY = 1000
"""Waits to add up at most: more do not change the verdict."""

_REFUSED = frozenset(["rate_limit", "overload", "conflict"])
"""Failures after which nothing has been done. Who retries no others says that a call may not be made twice."""


class _Rule(NamedTuple):
    """For an `outer` strategy around an `inner` one: what is wrong if `applies` says something (which is `said` in the
    text), and where that is written: in the first of these options that is, of the inner one if `inside`."""

    outer: type
    inner: type
    inside: bool
    options: tuple[str, ...]
    applies: Callable[[Any, Any], object]
    text: str


def misfits(layers: Sequence[tuple[StrategySpec, Any]]) -> Iterator[tuple[StrategySpec, str, str]]:
    """What does not fit together among the layers of a policy, outermost first, each with the spec that it is made of:
    of which spec, which option, and what is wrong."""
    for position, (around, outer) in enumerate(layers):
        for within, inner in layers[position + 1 :]:
            for rule in _RULES:
                if isinstance(outer, rule.outer) and isinstance(inner, rule.inner):
                    said = rule.applies(outer, inner)
                    if said:
                        spec = within if rule.inside else around
                        written = [option for option in rule.options if option in spec.options] or rule.options[-1:]
                        yield spec, written[0], rule.text.format(outer=outer, inner=inner, said=said)


def _too_long(total: Timeout, retry: Retry) -> float | None:
    """What the waits take together, if that is as long as all may take."""
    if not isinstance(retry.wait, Backoff) or retry.attempts is None:
        return None
    waits = retry.wait.average(min(retry.attempts - 1, _MANY))
    return waits if waits is not None and waits >= total.seconds else None


def _only_refused(retry: Retry) -> str | None:
    chosen = names(retry.on)
    return ", ".join(chosen) if _REFUSED.issuperset(chosen) else None


def _too_short(breaker: CircuitBreaker, attempt: Timeout) -> bool:
    judges_rates = breaker.failure_rate is not None or breaker.slow_call is not None
    return judges_rates and breaker.window_calls is None and breaker.window < 2 * attempt.seconds


_HEDGED_ONCE = (
    "the retry repeats only what was refused ({said}), as is right for a call that must not be made twice; the hedge "
    "makes it twice: leave the hedge out, or let the retry's on have timeouts and lost connections too if the call is "
    "idempotent"
)
_RULES = (
    _Rule(Timeout, Timeout, True, ("seconds",), lambda outer, inner: inner.seconds >= outer.seconds,
          "the timeout of {inner.seconds:g} s stands inside one of {outer.seconds:g} s, which is over first: it never "
          "ends an attempt, so one that hangs uses up all the time and leaves none to try again"),
    _Rule(Timeout, Hedge, True, ("after",), lambda outer, inner: inner.after >= outer.seconds,
          "the hedge waits {inner.after:g} s for an answer, the timeout around it is over after {outer.seconds:g} s: "
          "no second request is ever made because the first is slow"),
    _Rule(Timeout, Retry, True, ("wait", "attempts"), _too_long,
          "the waits between {inner.attempts} attempts take {said:.3g} s on average, the timeout around them is "
          "{outer.seconds:g} s: the last attempts are never made, because a wait that would pass the deadline ends the "
          "call"),
    _Rule(Retry, Retry, True, ("attempts",), lambda outer, inner: inner.attempts != 1 and outer.attempts != 1,
          "a retry of {inner.attempts} attempts stands inside one of {outer.attempts}: the load on a dependency that "
          "fails is multiplied"),
    _Rule(Retry, Hedge, True, ("after",), lambda outer, _: _only_refused(outer), _HEDGED_ONCE),
    _Rule(Hedge, Retry, False, ("after",), lambda _, inner: _only_refused(inner), _HEDGED_ONCE),
    _Rule(Hedge, Timeout, False, ("after",), lambda outer, inner: inner.seconds <= outer.after,
          "the hedge waits {outer.after:g} s for an answer, but the timeout inside ends each request after "
          "{inner.seconds:g} s: the second one never runs beside the first, only after it"),
    _Rule(CircuitBreaker, Timeout, False, ("window",), _too_short,
          "the window of {outer.window:g} s is shorter than twice the attempt timeout of {inner.seconds:g} s: in an "
          "outage, calls that hang leave the window about as fast as others end, so the circuit may never see "
          "{outer.minimum_calls} of them together and stays closed"),
    _Rule(CircuitBreaker, Timeout, False, ("slow_call",),
          lambda outer, inner: outer.slow_call is not None and outer.slow_call >= inner.seconds,
          "a call counts as slow from {outer.slow_call:g} s on, but the timeout inside ends it after "
          "{inner.seconds:g} s: none that succeeds is ever slow"),
)  # fmt: skip
