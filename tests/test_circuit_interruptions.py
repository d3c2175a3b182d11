"""A circuit that an exception from outside strikes at any point: no permit, mark or lock stays behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pybreaker
import pytest

from resilient_agents import CircuitBreaker, CircuitOpenError, Policy
from resilient_agents.events import CircuitChanged
from tests.conftest import Events, ManualClock, run_on
from tests.interruptions import Interrupt, ends_elsewhere, interrupt_everywhere

# What strikes where a generator or a weak reference ends is reported and goes no further.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """What strikes while the circuits of earlier points are collected is of no interest."""
    gc.disable()
    yield
    gc.enable()


MAKE: dict[str, Callable[[], Any]] = {
    "ours": lambda: CircuitBreaker(failures=3, failure_rate=0.9, successes=2, reset_timeout=30),
    "native": lambda: pybreaker.CircuitBreaker(fail_max=3, success_threshold=2, reset_timeout=30),
}


def down() -> None:
    raise ConnectionError("down")


def quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except (ConnectionError, CircuitOpenError):
        pass


@pytest.fixture(params=MAKE)
def breaker(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return MAKE[request.param]


def half_open(breaker: Any, *inside: Any) -> tuple[Any, Policy]:
    policy = Policy(breaker, *inside)
    policy.call(int)
    breaker.half_open()
    return breaker, policy


def probes_one_at_a_time(made: tuple[Any, Policy]) -> None:
    """A probe is let in, no second one beside it, and a call inside the probe is; two good probes close it."""
    breaker, policy = made
    assert ends_elsewhere(lambda: policy.call(int)), "a lock stayed"
    breaker.half_open()
    other = Policy(*policy.strategies)

    def probe() -> None:
        other.call(int)  # inside the probe
        refused = []
        assert ends_elsewhere(lambda: refused.append(_refused(other)))
        assert refused == [True]

    policy.call(probe)
    policy.call(int)
    assert policy.describe()["strategies"][0]["metrics"]["state"] == "closed"


def _refused(policy: Policy) -> bool:
    try:
        policy.call(int)
    except CircuitOpenError:
        return True
    return False


@pytest.mark.parametrize("work", [int, down])
def test_an_interrupted_probe_leaves_no_permit_and_no_mark(
    breaker: Callable[[], Any], work: Callable[[], Any], manual_clock: ManualClock
) -> None:
    """Whatever its outcome would have been; the next call probes at once."""
    interrupt_everywhere(
        lambda: half_open(breaker()), lambda made: quietly(lambda: made[1].call(work)), probes_one_at_a_time
    )


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_interrupted_probe_of_a_task_leaves_no_permit(breaker: Callable[[], Any], runtime: str) -> None:
    """The same in async code."""

    async def work() -> None: ...

    def run(made: tuple[Any, Policy]) -> None:
        try:
            run_on(runtime, lambda: made[1].acall(work))
        except BaseExceptionGroup as group:
            raise Interrupt from group

    interrupt_everywhere(lambda: half_open(breaker()), run, probes_one_at_a_time)


def test_an_interrupted_stream_that_probes_leaves_no_lock(breaker: Callable[[], Any]) -> None:
    """Nor a mark, which would let others in beside the probe."""

    def items() -> Iterator[int]:
        yield from range(2)

    def check(made: tuple[Any, Policy]) -> None:
        made[0].half_open()  # the permit may be out until its time is up: its stream is not collected yet
        probes_one_at_a_time(made)

    interrupt_everywhere(lambda: half_open(breaker()), lambda made: list(made[1].stream(items)), check)


def test_a_probe_that_is_interrupted_where_it_queued_leaves_no_permit(breaker: Callable[[], Any]) -> None:
    """It became the probe when it was looked at again after queueing, or had its lease renewed there."""
    interrupt_everywhere(
        lambda: half_open(breaker(), _Requeue()), lambda made: quietly(lambda: made[1].call(int)), probes_one_at_a_time
    )


class _Requeue:
    """Asks those around it for a second look, as a limit does that made the call wait."""

    async def execute(self, proceed: Any, call: Any) -> Any:
        call.recheck(self, 1.0)
        return await proceed(call)


def test_an_interrupted_teller_of_changes_keeps_nobody_from_telling() -> None:
    """Whoever comes next tells of its own change, and of those that are left."""

    def make() -> Policy:
        policy = Policy(CircuitBreaker(failures=1))
        policy.call(int)
        policy.observe(Events())
        return policy

    def check(policy: Policy) -> None:
        (breaker,) = policy.strategies
        assert isinstance(breaker, CircuitBreaker)
        seen = Events()
        policy.observe(seen)
        breaker.close()
        quietly(lambda: policy.call(down))
        assert [event.to_state for event in seen.of(CircuitChanged)][-1] == "open"

    interrupt_everywhere(make, lambda policy: quietly(lambda: policy.call(down)), check)


def test_a_handler_may_close_the_circuit_that_a_call_looks_at(manual_clock: ManualClock) -> None:
    """An open one whose time is up, that is: the call goes through, wherever in it the circuit is closed."""

    def make() -> tuple[CircuitBreaker, Policy]:
        breaker = CircuitBreaker(reset_timeout=30)
        policy = Policy(breaker)
        policy.call(int)
        breaker.open()
        manual_clock.now += 30
        return breaker, policy

    answers: list[int] = []

    def check(made: tuple[CircuitBreaker, Policy]) -> None:
        assert answers.pop() == 0
        assert made[0].state == "closed"

    interrupt_everywhere(make, lambda made: answers.append(made[1].call(int)), check, act=lambda made: made[0].close())
