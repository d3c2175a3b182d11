"""The breaker against a model that is written down as simply as the promise: any interleaving of calls, outcomes and
time."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections import Counter
from collections.abc import Generator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from resilient_agents import CircuitBreaker, Policy
from resilient_agents.base.clock import clock
from resilient_agents.errors import CircuitOpenError
from tests.conftest import ManualClock


class Alive(Exception):
    status_code = 404


class Limited(Exception):
    status_code = 429


OUTCOMES = {
    "success": None,
    "alive": Alive,
    "failure": ConnectionError,
    "neutral": Limited,
    "cancelled": asyncio.CancelledError,
}
VERDICTS = {
    "success": "successes",
    "alive": "successes",
    "failure": "failures",
    "neutral": "neutral",
    "cancelled": "neutral",
}
COUNTS = (*VERDICTS.values(), "rejections", "transitions")


@types.coroutine
def _until_told() -> Generator[str, Any, Any]:
    return (yield "running")


async def work() -> str:
    """Runs until the machine tells it how to end."""
    error = await _until_told()
    if error is not None:
        raise error
    return "done"


class BreakerModel(RuleBasedStateMachine):
    """Calls start and end in any order. `era` counts changes of state; a call remembers the one it was admitted in."""

    calls = Bundle("calls")

    @initialize(failures=st.integers(1, 3), probes=st.integers(1, 3), successes=st.integers(1, 3))
    def make(self, failures: int, probes: int, successes: int) -> None:
        self.before = clock.monotonic, clock.sleep
        self.time = ManualClock()
        clock.monotonic, clock.sleep = self.time, self.time.sleep
        self.failures, self.probes, self.successes = failures, probes, successes
        self.breaker = CircuitBreaker(failures=failures, half_open_calls=probes, successes=successes, reset_timeout=10)
        self.policy = Policy(self.breaker)
        self.state, self.era, self.failed, self.good, self.until = "closed", 0, 0, 0, 0.0
        self.leases: dict[int, float] = {}
        self.started = 0
        self.counted: Counter[str] = Counter()

    def teardown(self) -> None:
        if hasattr(self, "before"):
            clock.monotonic, clock.sleep = self.before

    def enter(self, state: str) -> None:
        self.counted["transitions"] += state != self.state
        self.state, self.era, self.failed, self.good = state, self.era + 1, 0, 0
        self.leases = {}
        if state == "open":
            self.until = self.time.now + 10

    @rule(target=calls)
    def start(self) -> tuple[Any, Any, int, int] | None:
        if self.state == "open" and self.time.now >= self.until:
            self.enter("half-open")
        number = self.started
        admitted = self.state == "closed"
        if self.state == "half-open":
            self.leases = {holder: end for holder, end in self.leases.items() if end > self.time.now}
            admitted = len(self.leases) < self.probes
        call, context = self.policy.acall(work), contextvars.copy_context()  # each call is a task of its own
        if not admitted:
            with pytest.raises(CircuitOpenError):
                context.run(call.send, None)
            self.counted["rejections"] += 1
            return None
        assert context.run(call.send, None) == "running"
        self.started += 1
        if self.state == "half-open":
            self.leases[number] = self.time.now + 10
        return call, context, self.era, number

    @rule(call=consumes(calls), outcome=st.sampled_from(sorted(OUTCOMES)))
    def end(self, call: tuple[Any, Any, int, int] | None, outcome: str) -> None:
        if call is None:
            return
        chain, context, era, number = call
        error = OUTCOMES[outcome]
        with pytest.raises(StopIteration if error is None else error):
            if outcome == "cancelled":
                context.run(chain.throw, asyncio.CancelledError())
            else:
                context.run(chain.send, None if error is None else error())
        self.leases.pop(number, None)
        self.counted[VERDICTS[outcome]] += 1
        if era != self.era or outcome in ("neutral", "cancelled"):
            return
        if self.state == "closed":
            self.failed = self.failed + 1 if outcome == "failure" else 0
            if self.failed >= self.failures:
                self.enter("open")
        elif self.state == "half-open":
            self.good += outcome != "failure"
            if outcome == "failure":
                self.enter("open")
            elif self.good >= self.successes:
                self.enter("closed")

    @rule(seconds=st.sampled_from([0.5, 4.0, 9.5, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.time.now += seconds

    @rule(state=st.sampled_from(["open", "closed", "half-open"]))
    def by_hand(self, state: str) -> None:
        {"open": self.breaker.open, "closed": self.breaker.close, "half-open": self.breaker.half_open}[state]()
        self.enter(state)

    @rule()
    def count_anew(self) -> None:
        self.breaker.reset_metrics()
        self.counted = Counter()

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "breaker"):
            expected = "half-open" if self.state == "open" and self.time.now >= self.until else self.state
            assert self.breaker.state == expected
            found = self.breaker.metrics()
            assert {name: found[name] for name in COUNTS} == {name: self.counted[name] for name in COUNTS}
            assert found["calls"] == sum(self.counted[name] for name in set(VERDICTS.values()))


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
