"""What functions of the user's said of errors and results is in the recording, and a replay goes by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from sqlite3 import IntegrityError
from typing import Any

import pybreaker
import pytest
from tenacity import AsyncRetrying, retry_if_exception, retry_if_result, stop_after_attempt, wait_random

from resilient_agents import CircuitBreaker, CircuitOpenError, Fallback, Hedge, Policy, Resume, Retry, Timeout, fixed
from resilient_agents.simulate import Dependency, Load, Scenario, Stream, Times, rest, simulate
from resilient_agents.simulate.replay import replay
from resilient_agents.testing import FakeClock
from tests.simulate.test_replay import Make, is_exact, recorded_of


class Mine(Exception):
    """Of the user's own, which no table knows."""


class Told(Exception):
    """One that says by itself that it comes to nothing to try again."""

    transient = False
    status_code = 503


asked: list[object] = []


def those(kind: type[Exception]) -> Callable[[Exception], bool]:
    """A predicate that tells whether it is asked."""

    def chooses(error: Exception) -> bool:
        asked.append(error)
        return isinstance(error, kind)

    return chooses


def fourth(result: Any) -> bool:
    asked.append(result)
    return isinstance(result, int) and result % 4 == 0


def circuit(failures: int = 3, **options: Any) -> CircuitBreaker:
    return CircuitBreaker(failures=failures, reset_timeout=1, **options)


WAIT = fixed(0.1)
DECIDES: dict[str, Make] = {
    "circuit": lambda: Policy(circuit(2, on=those(Mine)), name="p"),
    "circuit of results": lambda: Policy(circuit(2, when=fourth), name="p"),
    "circuit in a retry": lambda: Policy(Retry(3, wait=WAIT), circuit(on=those(ConnectionError)), name="p"),
    "circuit around a retry": lambda: Policy(circuit(on=those(Mine)), Retry(3, wait=WAIT), name="p"),
    "two circuits": lambda: Policy(circuit(on=those(Mine)), circuit(2, on=those(ConnectionError)), name="p"),
    "circuit around a limit": lambda: Policy(circuit(on=those(Mine)), Timeout(0.2), name="p"),
    "results that are tried again": lambda: Policy(Retry(2, when=fourth, wait=WAIT), circuit(), name="p"),
    "hedge": lambda: Policy(circuit(), Hedge(0.12, on=those(Mine)), name="p"),
    "retry of hedges": lambda: Policy(
        Retry(2, wait=WAIT), circuit(on=those(Mine)), Hedge(0.12, on=those(Mine)), name="p"
    ),
    "fallback": lambda: Policy(Fallback(value=1, on=those(Mine)), circuit(), name="p"),
    "fallback for results": lambda: Policy(Fallback(value=1, when=fourth), circuit(), name="p"),
    "handler in a retry": lambda: Policy(
        Retry(2, on=(those(Mine), ConnectionError), wait=WAIT), Fallback(helps, on=those(Mine)), circuit(), name="p"
    ),
    "retry in a retry": lambda: Policy(
        Retry(2, on=those(Mine), wait=WAIT), circuit(4), Retry(2, on=those(ConnectionError), wait=WAIT), name="p"
    ),
    "retry of refusals": lambda: Policy(
        Retry(3, on=(those(Mine), CircuitOpenError), wait=fixed(0.3)), circuit(2), name="p"
    ),
    "pybreaker": lambda: Policy(pybreaker.CircuitBreaker(3, 1.0, exclude=[those(Mine)]), name="p"),
    "tenacity": lambda: Policy(
        AsyncRetrying(
            stop=stop_after_attempt(2),
            wait=wait_random(0, 1),
            retry=retry_if_exception(those(Mine)) | retry_if_result(fourth),  # type: ignore[arg-type]
            before=asked.append,
            retry_error_callback=lambda state: asked.append(state) or 1,
        ),
        circuit(4),
        name="p",
    ),
}


async def helps(error: Exception, number: int) -> int:
    await asyncio.sleep(0.0513)
    asked.append(number)
    if number % 8 == 1:
        raise ValueError
    return number


async def answer(number: int) -> int:
    await asyncio.sleep(0.1 + number % 3 * 0.071)
    if number % 4 == 1:
        raise Mine
    if number % 4 == 3:
        raise ConnectionError
    return number


def traffic(make: Make, function: Callable[[int], Any]) -> Callable[[], object]:
    async def run() -> None:
        policy = make()

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.2137)
            await policy.acall(function, number)

        await asyncio.gather(*(one(number) for number in range(30)), return_exceptions=True)

    return lambda: FakeClock().run(run)


@pytest.mark.parametrize("make", DECIDES.values(), ids=list(DECIDES))
def test_what_the_users_functions_said_is_not_asked_again(make: Make) -> None:
    """Circuits, hedges and fallbacks count and choose as they did, of errors that are nothing but stand-ins."""
    calls = recorded_of(traffic(make, answer))
    assert asked
    asked.clear()
    is_exact(replay(make, calls), near=0)
    assert not asked


def test_an_error_says_as_much_of_itself_as_it_did() -> None:
    """That it is not worth another try, or that the server is well although it refuses."""

    async def fails(number: int) -> None:
        await asyncio.sleep(0.1)
        if number % 6:
            raise ConnectionError if number % 6 != 2 else IntegrityError
        raise Told

    def make() -> Policy:
        return Policy(Retry(2, wait=WAIT), circuit(4), name="p")

    calls = recorded_of(traffic(make, fails))
    said = {(step.kind, step.transient, step.verdict) for call in calls for step in call.steps}
    assert said == {("connection", None, None), ("overload", False, None), ("validation", None, "success")}
    is_exact(replay(make, calls), near=0)


def test_blocking_code_is_played_with_what_was_said_there() -> None:
    """In its threads, too."""

    def make() -> Policy:
        return Policy(Retry(2), circuit(on=those(ConnectionError)), Hedge(0.3, on=those(Mine)), name="p")

    scenario = Scenario(8.0, Load(rate=4.0), Dependency(service=Times("lognormal", 0.2, 1.0)))
    calls = recorded_of(lambda: simulate(make, scenario, blocking=True))
    asked.clear()
    is_exact(replay(make, calls))
    assert not asked


def test_a_stream_goes_on_after_what_it_went_on_after() -> None:
    """Its `on=` is asked in the midst of it."""

    def make() -> Policy:
        return Policy(Resume(rest, on=those(Mine)), circuit(on=those(Mine)), name="p")

    stream = Stream(items=20, gap=Times("exponential", 0.05), fault="break", rate=0.4, at=7)
    calls = recorded_of(lambda: simulate(make, Scenario(8.0, Load(rate=4.0), Dependency(stream=stream))))
    assert asked
    asked.clear()
    is_exact(replay(make, calls))
    assert not asked
