"""An exception from outside, at whatever line of ours it lands, leaves nothing of a policy's own behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import resilient_agents.idempotency.write as write_module
import resilient_agents.idempotency.writes as writes_module
import resilient_agents.policy as policy_module
from resilient_agents import (
    CircuitBreaker,
    Fallback,
    Policy,
    Retry,
    chaos,
    deadline,
    fixed,
    idempotency_key,
    remaining,
)
from resilient_agents.base.clock import Clock, clock
from resilient_agents.registry import Keyed
from resilient_agents.testing import CapturedEvents, FakeClock, capture_events, force_open
from tests.conftest import run_on
from tests.interruptions import ends_elsewhere, interrupt_everywhere


def down() -> None:
    raise ConnectionError


def numbers() -> Iterator[int]:
    yield 1
    yield 2


async def async_down() -> None:
    raise ConnectionError


def tried(use: Callable[[Policy], Any]) -> Callable[[Policy], None]:
    """The call as somebody makes it who bears its own errors."""

    def run(policy: Policy) -> None:
        with contextlib.suppress(ConnectionError):
            use(policy)

    return run


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""A generator that is interrupted while it is closed has nobody to tell."""

WAYS: list[Callable[[Policy], Any]] = [
    lambda policy: policy.call(int),
    lambda policy: policy(int)(),
    lambda policy: policy.call(down),
    lambda policy: policy(down)(),
    lambda policy: list(policy.stream(numbers)),
    lambda policy: run_on("asyncio", lambda: policy.acall(async_down)),
    lambda policy: policy.describe(),
]


@pytest.mark.parametrize("use", WAYS)
@pytest.mark.parametrize("first", [True, False])
def test_the_policy_goes_on_working(use: Callable[[Policy], Any], first: bool) -> None:
    """On its first call, which composes it, and on later ones: no lock stays held, for this thread or others."""

    def make() -> Policy:
        policy = Policy(Fallback(value=0, on=KeyError), Retry(2, wait=fixed(0)))
        if not first:
            policy.call(int)
        return policy

    def check(policy: Policy) -> None:
        gc.collect()  # what was to await a coroutine was interrupted: here nobody minds
        assert policy.call(int) == 0
        assert ends_elsewhere(lambda: policy.observe(lambda event: None)())
        assert ends_elsewhere(lambda: Policy(policy).call(int))

    interrupt_everywhere(make, tried(use), check)


@pytest.mark.parametrize("use", WAYS[:6])
def test_no_deadline_of_a_call_stays_in_force(use: Callable[[Policy], Any]) -> None:
    """A call under its caller's deadline sets one of its own, which ends with it."""

    def run(policy: Policy) -> None:
        with deadline(60):
            tried(use)(policy)

    def check(policy: Policy) -> None:
        gc.collect()
        assert remaining() is None

    interrupt_everywhere(lambda: Policy(Retry(2, wait=fixed(0))), run, check, inside=policy_module.__file__)


@pytest.mark.parametrize("use", WAYS[:6])
@pytest.mark.parametrize("module", [write_module, writes_module])
def test_no_key_of_a_call_stays_in_force(use: Callable[[Policy], Any], module: Any) -> None:
    """A call that may ask for a key leaves no mark of itself when it ends."""

    def check(_: Policy) -> None:
        gc.collect()
        with pytest.raises(RuntimeError, match="outside a call"):
            idempotency_key()

    make = lambda: Policy(Retry(2, wait=fixed(0)), reconcile=lambda: None)  # noqa: E731
    interrupt_everywhere(make, tried(use), check, inside=module.__file__)


@pytest.mark.parametrize("make", [Policy, lambda: Keyed(lambda _: Policy(), key=lambda: 1)])
def test_a_stand_in_goes_with_its_block(make: Callable[[], Any]) -> None:
    """Also from functions that were guarded before, however the end of the block is interrupted."""

    def guarded() -> tuple[Any, Callable[[], int]]:
        policy = make()
        fn = policy(lambda: 1)
        fn()
        return policy, fn

    def run(made: tuple[Any, Callable[[], int]]) -> None:
        policy, fn = made
        with policy.replaced(Policy(Fallback(value=2, when=lambda _: True))):
            assert fn() == 2

    def check(made: tuple[Any, Callable[[], int]]) -> None:
        assert made[1]() == 1

    interrupt_everywhere(guarded, run, check)


def test_an_experiment_goes_with_its_block() -> None:
    """However its beginning or its end is interrupted, the next call meets no chaos."""

    def run(policy: Policy) -> None:
        with chaos("guarded", result=2):
            assert policy.call(int) == 2

    def check(policy: Policy) -> None:
        assert policy.call(int) == 0

    def make() -> Policy:
        policy = Policy(name="guarded")
        policy.call(int)
        return policy

    assert interrupt_everywhere(make, run, check) > 20


def test_nobody_captures_events_when_the_block_is_over() -> None:
    """However its end is interrupted: what was captured is not kept, nor does it grow."""
    heard: list[CapturedEvents] = []

    def run(policy: Policy) -> None:
        with capture_events() as captured:
            heard.append(captured)
            policy.call(int)

    def check(policy: Policy) -> None:
        before = [len(captured) for captured in heard]
        policy.call(int)
        policy.strategies[0].open()
        policy.strategies[0].close()
        assert [len(captured) for captured in heard] == before

    assert interrupt_everywhere(lambda: Policy(CircuitBreaker()), run, check) > 20


def test_a_circuit_is_forced_open_for_its_block_only() -> None:
    """However that is interrupted."""
    breaker = CircuitBreaker()

    def run(policy: Policy) -> None:
        with force_open(breaker):
            assert breaker.state == "open"

    def check(policy: Policy) -> None:
        assert policy.call(int) == 0

    assert interrupt_everywhere(lambda: Policy(breaker), run, check) > 10


def test_a_fake_clock_goes_with_its_block() -> None:
    """However that is interrupted: what comes after goes by real time, in event loops, too."""
    before = [getattr(clock, name) for name in Clock.__slots__]
    run_forever = asyncio.BaseEventLoop.run_forever

    def run(_: None) -> None:
        with FakeClock():
            clock.sleep(3600)

    def check(_: None) -> None:
        assert [getattr(clock, name) for name in Clock.__slots__] == before
        assert asyncio.BaseEventLoop.run_forever is run_forever
        with FakeClock() as again:
            assert again.now == 0

    assert interrupt_everywhere(lambda: None, run, check) > 20
