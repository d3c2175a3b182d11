"""What functions of the user's said of errors and results is in the recording, and a replay goes by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from sqlite3 import IntegrityError
from typing import Any

import pybreaker
import pytest
from tenacity import AsyncRetrying, retry_if_exception, retry_if_result, stop_after_attempt, wait_random

from resilient_agents import (
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Hedge,
    Policy,
    RateLimit,
    Resume,
    Retry,
    Timeout,
    fixed,
)
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
    "retry of what a retry gave up": lambda: Policy(
        Retry(3, on=ConnectionError, wait=fixed(0.25)), Retry(2, on=those(ConnectionError), wait=WAIT), name="p"
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


class Busy:
    """A response that is returned, not raised."""

    status_code = 429
    retry_after = 4.0


def is_busy(result: Any) -> bool:
    return isinstance(result, Busy)


@pytest.mark.parametrize("around", [(), (Retry(2, wait=WAIT),)], ids=["alone", "around a retry"])
def test_a_circuit_stays_open_for_as_long_as_a_result_said(around: tuple[Retry, ...]) -> None:
    """The wait that it told is recorded, though the call succeeded; under other options it counts as well."""

    async def answers(number: int) -> object:
        await asyncio.sleep(0.1)
        return Busy() if number in (3, 4) else number

    def make(failures: int = 2) -> Policy:
        breaker = CircuitBreaker(failures=failures, when=is_busy, open_for="retry_after", reset_timeout=0.5)
        return Policy(breaker, *around, name="p")

    calls = recorded_of(traffic(make, answers))
    assert sum(call.outcome == "rejected" for call in calls) == 19
    is_exact(replay(make, calls), near=0)
    other = replay(lambda: make(1), calls)
    assert other.changes == {"success -> rejected": 1, "rejected -> success": 1}


def test_a_call_is_slow_as_it_was() -> None:
    """What took about `slow_call` seconds is slow by what was recorded, not by times that are a little off."""

    async def takes(number: int) -> int:
        await asyncio.sleep(0.5 if number % 3 else 0.499)
        return number

    def make() -> Policy:
        return Policy(
            CircuitBreaker(
                failures=None, slow_rate=0.6, slow_call=0.5, window=20, minimum_calls=6, reset_timeout=1, successes=2
            ),
            name="p",
        )

    calls = recorded_of(traffic(make, takes))
    assert {call.outcome for call in calls} == {"success", "rejected"}
    off = [replace(c, steps=tuple(replace(s, takes=s.takes - 0.002) for s in c.steps)) for c in calls]
    is_exact(replay(make, off), near=0)


def test_what_may_be_why_calls_went_another_way_is_said() -> None:
    """Under the same policies, of calls that begin together; of attempts without spans wherever there are some."""

    async def wait(number: int) -> int:
        await asyncio.sleep(0.1)
        return number

    def make() -> Policy:
        return Policy(RateLimit(10, burst=2, max_wait=0), name="p")

    def together() -> object:
        async def run() -> None:
            policy = make()
            await asyncio.gather(*(policy.acall(wait, number) for number in range(4)), return_exceptions=True)

        return FakeClock().run(run)

    calls = recorded_of(together)
    assert replay(make, calls).notes == []
    first, *others, last = calls
    turned = [replace(first, sequence=last.sequence), *others, replace(last, sequence=first.sequence)]
    told = replay(make(), [replace(call, left_out=call is others[0]) for call in turned]).notes
    assert [note.split(":")[0] for note in told] == [
        "of 1 of the calls not all is played",
        "2 of those that went another way began, or had a request end, in the same microsecond as other calls",
        "what learn_limits told a limit, if it did, is not recorded",
        "which key a call had, if its policy is keyed, is not recorded",
    ]
