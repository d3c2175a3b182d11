"""`Retry`, and tenacity's own objects as strategies. That they decide as tenacity does is test_retry_differential's."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import json
import math
import pickle
import threading
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import tenacity

from resilient_agents.adapters import retry_loop
from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.native.retry import adapt_native
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import exponential, fixed
from resilient_agents.base import warn
from resilient_agents.base.chance import chance
from resilient_agents.base.clock import clock
from resilient_agents.budget import RetryBudget
from resilient_agents.classify import http_failure, is_transient
from resilient_agents.deadline import deadline
from resilient_agents.errors import CircuitOpenError, PolicyTimeoutError, Rejected
from resilient_agents.events import GaveUp, RetryScheduled
from resilient_agents.policy import Policy
from resilient_agents.strategies.fallback import Fallback
from tests.conftest import Events, Harness, ManualClock, drive, run_on


class MyError(Exception):
    """One that the classifier has never heard of."""


class Busy(Exception):
    """Transient by its own word, with a wait that the server asked for."""

    transient = True

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


class Response:
    def __init__(self, status_code: int, **headers: str) -> None:
        self.status_code = status_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Script:
    """A user function that does one thing after the other: raises exceptions, returns the rest; the last for ever."""

    def __init__(self, h: Harness, *outcomes: Any, takes: float = 0.0) -> None:
        self.h = h
        self.outcomes = outcomes
        self.takes = takes
        self.at: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.at)

    @property
    def waits(self) -> list[float]:
        return [later - earlier - self.takes for earlier, later in zip(self.at, self.at[1:], strict=False)]

    async def __call__(self) -> Any:
        self.at.append(self.h.now())
        outcome = self.outcomes[min(self.calls, len(self.outcomes)) - 1]
        if self.takes:
            await self.h.sleep(self.takes)
        if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
            raise outcome
        return outcome

    async def run(self, *strategies: Any) -> Any:
        async def work() -> Any:
            return await self()

        return await self.h.call(Policy(*strategies), work)

    async def fails(self, *strategies: Any) -> Any:
        try:
            await self.run(*strategies)
        except Exception as error:
            return error
        raise AssertionError("it did not fail")


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


# ------------------------------------------------------------------------------------------------- attempts and endings


async def test_a_success_builds_no_state(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing fails, tenacity's state is never made."""
    monkeypatch.setattr(retry_loop, "State", None)
    assert await Script(h, 7).run(Retry(3)) == 7
    assert await Script(h, Response(200)).run(Retry(3, when=http_failure))
    assert await Script(h, 7).run(adapt_native(tenacity.Retrying()))
    of_errors = tenacity.retry_if_exception_type(KeyError), tenacity.retry_if_exception(is_transient)
    for one in (tenacity.retry_any(*of_errors), tenacity.retry_all(*of_errors)):
        assert await Script(h, 7).run(Retry(3, on=one)) == 7


async def test_a_transient_error_is_retried_until_it_goes_away(h: Harness) -> None:
    """The result of the attempt that succeeds is the result of the call."""
    script = Script(h, ConnectionError(), ConnectionError(), "ok")
    assert await script.run(Retry(3)) == "ok"
    assert script.calls == 3


async def test_when_all_attempts_fail_the_caller_sees_the_last_error(h: Harness) -> None:
    """What comes out is the user's own last error, the same object, not a wrapper, and says what was done."""
    errors = [ConnectionError("1"), ConnectionError("2"), ConnectionError("3")]
    script = Script(h, *errors, takes=0.5)
    error = await script.fails(Retry(3, wait=fixed(0.3)))
    assert error is errors[2]
    assert notes(error) == ["gave up after 3 attempts in 2.1 s"]


async def test_attempts_do_not_chain_their_errors(h: Harness) -> None:
    """The next attempt runs outside the handling of the one before: no "During handling of the above exception"."""
    error = await Script(h, ConnectionError("1"), ConnectionError("2")).fails(Retry(2, wait=fixed(0)))
    assert error.__context__ is None
    assert error.__cause__ is None


async def test_the_traceback_names_the_retry_once(h: Harness) -> None:
    """One frame per layer, however many attempts there were."""
    errors = [ConnectionError(str(number)) for number in range(4)]
    error = await Script(h, *errors).fails(Retry(4, wait=fixed(0)))
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames.count("execute") == 1
    assert frames.count("__call__") == 1


async def test_one_attempt_means_no_retry(h: Harness) -> None:
    """`Retry(1)` tries once and has nothing to add."""
    script = Script(h, ConnectionError())
    assert notes(await script.fails(Retry(1))) == []
    assert script.calls == 1


async def test_attempts_and_stop_whichever_says_stop_first(h: Harness) -> None:
    """Each of the two limits holds."""
    script = Script(h, ConnectionError())
    await script.fails(Retry(5, stop=tenacity.stop_after_attempt(2), wait=fixed(0)))
    assert script.calls == 2
    script = Script(h, ConnectionError())
    await script.fails(Retry(2, stop=tenacity.stop_after_attempt(5), wait=fixed(0)))
    assert script.calls == 2
    script = Script(h, ConnectionError())
    await script.fails(Retry(None, stop=tenacity.stop_after_delay(3), wait=fixed(1)))
    assert script.calls == 4


class _AlikeByName(type):
    def __eq__(cls, other: object) -> bool:
        return isinstance(other, type) and other.__name__ == cls.__name__

    def __hash__(cls) -> int:
        return hash(cls.__name__)


class _Unhashable(type):
    __hash__ = None  # type: ignore[assignment]  # as it is where a metaclass defines `__eq__` alone


@pytest.mark.parametrize("kind", [_AlikeByName, _Unhashable])
async def test_a_class_is_retried_that_is_the_same_not_one_that_is_equal(h: Harness, kind: type) -> None:
    """Whatever their metaclass says, as after a reload of their module."""
    old, new = (kind("Lost", (Exception,), {}) for _ in range(2))
    for meant, raised, attempts in ((old, old, 2), (new, new, 2), (old, new, 1)):
        calls: list[type] = []

        async def fail(raised: type[Exception] = raised, calls: list[type] = calls) -> None:
            calls.append(raised)
            raise raised

        with pytest.raises(raised):
            await h.call(Policy(Retry(2, on=meant, wait=fixed(0))), fail)
        assert len(calls) == attempts


@pytest.mark.parametrize("fatal", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_exception_is_never_retried(h: Harness, fatal: type[BaseException]) -> None:
    """Not even by `retry_always`, which in tenacity retries a cancellation."""
    native = tenacity.Retrying(retry=tenacity.retry_always, stop=tenacity.stop_after_attempt(3))
    for strategy in (Retry(3, on=tenacity.retry_always), adapt_native(native)):
        script = Script(h, fatal)
        if fatal is GeneratorExit and h.runtime == "trio":
            continue  # trio's own task would take it for its end
        with pytest.raises(fatal):
            await script.run(strategy)
        assert script.calls == 1


def test_a_stop_iteration_is_seen_and_leaves_as_itself() -> None:
    """The predicate, the hooks and the caller see the user's StopIteration, not what carries it."""
    seen: list[Any] = []

    def on(error: Exception) -> bool:
        seen.append(error)
        return True

    def after(state: Any) -> None:
        seen.append(state.outcome.exception())

    raised = StopIteration(5)

    def work() -> None:
        raise raised

    policy = Policy(Retry(2, on=on, wait=fixed(0), after=after))
    with pytest.raises(StopIteration) as caught:
        policy.call(work)
    assert caught.value is raised
    assert seen == [raised] * 4
    assert notes(raised)[0].startswith("gave up after 2 attempts")


def test_a_stop_iteration_that_is_given_up_after_a_wait_leaves_as_itself(manual_clock: ManualClock) -> None:
    """The wait took longer than the caller had."""
    raised = StopIteration(5)

    def work() -> None:
        raise raised

    policy = Policy(Retry(2, on=StopIteration, wait=fixed(0), before_sleep=lambda state: manual_clock.sleep(2)))
    with deadline(1), pytest.raises(StopIteration) as caught:
        policy.call(work)
    assert caught.value is raised


@pytest.mark.parametrize("inside", [(), (Bulkhead(1),)])
async def test_a_stop_iteration_of_the_first_attempt_is_retried(h: Harness, inside: tuple[Any, ...]) -> None:
    """`on=StopIteration` means that of a plain function, in blocking and in async code, at its first attempt too."""
    calls = []

    def stops_at_first() -> str:
        calls.append(None)
        if len(calls) == 1:
            raise StopIteration(5)
        return "ok"

    policy = Policy(Retry(on=StopIteration, wait=fixed(0)), *inside)
    assert await h.call(policy, stops_at_first) == "ok"
    assert len(calls) == 2


@pytest.mark.parametrize("kept", ["ours", "native", "reraise", "hook", "predicate"])
def test_a_failed_call_leaves_no_cyclic_garbage(kept: str) -> None:
    """Errors, frames and states are freed as soon as the caller lets go of the error."""
    stop = tenacity.stop_after_attempt(3)

    def look(state: Any) -> None:
        assert state.outcome.failed

    def let_out(state: Any) -> None:
        try:
            state.outcome.result()
        finally:
            del state

    def predicate(error: Exception) -> bool:
        try:
            raise error
        finally:
            del error

    strategy: Any = {
        "hook": Retry(3, wait=fixed(0), before_sleep=let_out),
        "predicate": Retry(3, on=predicate),
        "ours": Retry(3, wait=fixed(0)),
        "native": adapt_native(tenacity.Retrying(stop=stop)),
        "reraise": adapt_native(tenacity.Retrying(stop=stop, reraise=True, after=look)),
    }[kept]
    alive: list[weakref.ref[Any]] = []

    class Dropped(ConnectionError):
        """The built-in ones take no weak references."""

    def work() -> None:
        error = Dropped()
        alive.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    policy = Policy(strategy)
    with contextlib.suppress(Exception):
        policy.call(work)
    gc.collect()
    gc.disable()
    try:
        alive.clear()
        with contextlib.suppress(Exception):
            policy.call(work)
        assert len(alive) == (1 if kept in {"hook", "predicate"} else 3)
        assert {found() for found in alive} == {None}
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------ which errors, results


async def test_a_permanent_error_is_not_retried(h: Harness) -> None:
    """A call that can never succeed is not repeated."""
    script = Script(h, PermissionError())
    assert notes(await script.fails(Retry(3))) == []
    assert script.calls == 1


async def test_an_unknown_error_says_why_it_was_not_retried(h: Harness) -> None:
    """The default leaves an error alone that it knows nothing about, and tells how to change that."""
    script = Script(h, MyError())
    assert notes(await script.fails(Retry(3))) == ["not retried: MyError is 'unknown'; pass on="]
    assert script.calls == 1
    for default in (Retry(2), Retry(2, after=lambda state: None)):
        assert notes(await Script(h, MyError()).fails(default)) != []
    for chosen in (Retry(3, on=KeyError), Retry(3, on=(is_transient, KeyError)), Retry(1)):
        assert notes(await Script(h, MyError()).fails(chosen)) == []


@pytest.mark.parametrize(
    "on",
    [
        MyError,
        lambda error: isinstance(error, MyError),
        tenacity.retry_if_exception_type(MyError),
        (is_transient, MyError),
        (KeyError, (OSError, lambda error: True)),
        (KeyError, tenacity.retry_if_exception_message("not this"), tenacity.retry_if_exception_type(MyError)),
    ],
)
async def test_on_chooses_errors(h: Harness, on: Any) -> None:
    """A type, a predicate, a tenacity retry object, or a tuple of them, any of which may say yes."""
    assert await Script(h, MyError(), "ok").run(Retry(3, on=on)) == "ok"


async def test_on_with_the_default_in_a_tuple_keeps_the_default(h: Harness) -> None:
    """`on=(is_transient, MyError)` widens the default instead of replacing it."""
    assert await Script(h, ConnectionError(), MyError(), "ok").run(Retry(3, on=(is_transient, MyError))) == "ok"


async def test_a_group_is_retried_if_all_its_members_would_be(h: Harness) -> None:
    """By the default and by type; one permanent member spoils it."""
    both = ExceptionGroup("g", [ConnectionError(), ExceptionGroup("inner", [MyError()])])
    assert await Script(h, both, "ok").run(Retry(2, on=(is_transient, MyError))) == "ok"
    assert await Script(h, ExceptionGroup("g", [MyError()]), "ok").run(Retry(2, on=MyError)) == "ok"
    assert await Script(h, ExceptionGroup("g", [ConnectionError()]), "ok").run(Retry(2)) == "ok"
    script = Script(h, ExceptionGroup("g", [ConnectionError(), PermissionError()]), "ok")
    await script.fails(Retry(2))
    assert script.calls == 1
    for one in (ConnectionError(), MyError()):
        script = Script(h, ExceptionGroup("g", [one, PermissionError()]), "ok")
        await script.fails(Retry(2, on=(is_transient, MyError)))
        assert script.calls == 1


async def test_a_group_may_be_nested_however_deep(h: Harness) -> None:
    """Deeper than Python calls functions."""
    deep: Exception = MyError()
    for _ in range(2000):
        deep = ExceptionGroup("g", [deep])
    script = Script(h, deep, "ok")
    with contextlib.suppress(Exception):  # pytest cannot show one so deep
        await script.run(Retry(2, on=Exception))
    assert script.calls == 2


async def test_a_wait_beyond_all_numbers_is_refused_as_one_without_end(h: Harness) -> None:
    """An int that no float can hold is none, and one below zero no wait."""
    with pytest.raises(ValueError, match="wait must return finite seconds"):
        await Script(h, MyError(), "ok").run(Retry(2, on=MyError, wait=lambda _: 10**5000))
    script = Script(h, MyError(), "ok")
    assert await script.run(Retry(2, on=MyError, wait=lambda _: -(10**400))) == "ok"
    assert script.waits == [0]


@pytest.mark.parametrize("on", [is_transient, Exception, RuntimeError])
async def test_a_policys_own_rejection_is_not_retried(h: Harness, on: Any) -> None:
    """Neither by the default nor by a type that happens to include it."""
    script = Script(h, Rejected("full", retry_after=0.0), "ok")
    assert isinstance(await script.fails(Retry(3, on=on)), Rejected)
    assert script.calls == 1


async def test_a_rejection_is_retried_by_a_type_that_means_it(h: Harness) -> None:
    """Who names `Rejected` gets it retried."""
    assert await Script(h, CircuitOpenError("open"), "ok").run(Retry(3, on=Rejected, wait=fixed(1))) == "ok"


async def test_when_a_circuit_opens_during_a_retry_its_error_names_the_last_real_one(h: Harness) -> None:
    """`CircuitOpenError` comes out, raised from the error that opened the circuit."""
    error = ConnectionError("reset")
    rejection = await Script(h, error).fails(Retry(5, wait=fixed(0)), CircuitBreaker(failures=1))
    assert isinstance(rejection, CircuitOpenError)
    assert rejection.__cause__ is error


async def test_when_chooses_results_and_the_last_one_comes_out(h: Harness) -> None:
    """Exhausted on results the call returns the last of them; it raises nothing of its own."""
    first, last = Response(503), Response(429)
    script = Script(h, first, last)
    assert await script.run(Retry(2, when=http_failure, wait=fixed(1))) is last
    assert script.calls == 2
    assert script.waits == [1]
    good = Response(404)
    assert await Script(h, first, good).run(Retry(3, when=http_failure)) is good


async def test_an_error_after_a_bad_result_comes_out_as_itself(h: Harness) -> None:
    """Results and errors share the attempts."""
    error = ConnectionError()
    script = Script(h, Response(503), error)
    assert await script.fails(Retry(2, when=http_failure)) is error


async def test_a_tenacity_object_in_on_sees_results_too(h: Harness) -> None:
    """`on=retry_if_result(...)` retries results, as in tenacity."""
    script = Script(h, 0, 0, 1)
    assert await script.run(Retry(3, on=tenacity.retry_if_result(lambda result: result == 0), wait=fixed(0))) == 1


# -------------------------------------------------------------------------------------------------------------- waiting


async def test_a_longer_retry_after_replaces_the_wait(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is at least what the server asked for, and at most a tenth longer."""
    for drawn, expected in ((0.0, 10.0), (0.999999, 11.0)):
        monkeypatch.setattr(chance, "random", lambda drawn=drawn: drawn)
        script = Script(h, Busy(10), "ok")
        await script.run(Retry(2, wait=fixed(2)))
        assert script.waits == [pytest.approx(expected, rel=1e-4)]


async def test_a_retry_after_counts_whatever_the_parts_are(h: Harness) -> None:
    """Beside a wait and hooks of the user's own, too; observers hear of it."""
    script, events = Script(h, Busy(10), "ok"), Events()
    policy = Policy(Retry(2, wait=lambda state: 1, before_sleep=lambda state: None))
    policy.observe(events)

    async def work() -> Any:
        return await script()

    assert await h.call(policy, work) == "ok"
    assert 10 <= script.waits[0] <= 11
    (scheduled,) = events.of(RetryScheduled)
    assert (scheduled.delay, scheduled.reason) == (pytest.approx(script.waits[0]), "retry_after")


async def test_a_retry_is_told_of_when_its_hook_has_let_it_pass(h: Harness) -> None:
    """After `before_sleep`; what that raises ends the call, and no retry was scheduled."""
    told, events = list[int](), Events()

    def hook(state: tenacity.RetryCallState) -> None:
        told.append(len(events.of(RetryScheduled)))
        if state.attempt_number == 2:
            raise LookupError

    async def fails() -> None:
        raise ConnectionError

    policy = Policy(Retry(5, wait=fixed(0), before_sleep=hook))
    policy.observe(events)
    with pytest.raises(LookupError):
        await h.call(policy, fails)
    assert told == [0, 1]
    assert len(events.of(RetryScheduled)) == 1


@pytest.mark.parametrize("retry", [Retry(3), Retry(3, when=http_failure)])
async def test_a_call_that_is_interrupted_in_its_first_attempt_took_one(h: Harness, retry: Retry) -> None:
    """It is neither a success nor a failure."""

    class Interruption(BaseException):
        pass

    with pytest.raises(Interruption):
        await Script(h, Interruption()).run(retry)
    metrics = retry.metrics()
    retry.reset_metrics()
    assert (metrics["calls"], metrics["neutral"], metrics["attempts"], metrics["retries"]) == (1, 1, 1, 0)


async def test_a_native_object_without_a_wait_does_not_wait(h: Harness) -> None:
    """tenacity takes None for that."""
    script = Script(h, MyError(), "ok")
    retrying = tenacity.Retrying()
    retrying.wait = None  # type: ignore[assignment]  # the point
    assert await script.run(retrying) == "ok"
    assert script.waits == [0]


async def test_a_shorter_retry_after_changes_nothing(h: Harness) -> None:
    """The policy's own wait is longer and stays exactly as it is."""
    script = Script(h, Busy(1), "ok")
    await script.run(Retry(2, wait=fixed(2)))
    assert script.waits == [pytest.approx(2)]


async def test_results_are_judged_by_when_and_by_tenacity_objects(h: Harness) -> None:
    """Either may want another attempt."""
    script = Script(h, 5, 7, "ok")
    on = tenacity.retry_if_result(lambda result: result == 5)
    assert await script.run(Retry(5, on=on, when=lambda result: result == 7, wait=fixed(0))) == "ok"
    assert script.calls == 3


@pytest.mark.parametrize("on", [is_transient, tenacity.retry_if_result(lambda result: False)])
async def test_when_is_asked_once_about_each_result(h: Harness, on: Any) -> None:
    """Also where somebody watches, who counts the attempts that failed."""
    asked: list[Any] = []

    def when(result: Any) -> bool:
        asked.append(result)
        return bool(result == 5)

    script = Script(h, 5, "ok")
    policy = Policy(Retry(3, on=on, when=when, wait=fixed(0)))
    policy.observe(Events())

    async def work() -> Any:
        return await script()

    assert await h.call(policy, work) == "ok"
    assert asked == [5, "ok"]


async def test_the_retry_after_of_a_result_counts_as_well(h: Harness) -> None:
    """A 429 that came as a response says when to come back."""
    script = Script(h, Response(429, Retry_After="7"), Response(200))
    await script.run(Retry(2, when=http_failure, wait=fixed(2)))
    assert 7 <= script.waits[0] <= 7.7


async def test_beyond_max_retry_after_the_call_ends_at_once(h: Harness) -> None:
    """Nobody waits for an hour inside a call; the error says why."""
    script = Script(h, Busy(61))
    error = await script.fails(Retry(3))
    assert script.calls == 1
    assert notes(error) == ["gave up after 1 attempt in 0 s: the server asks to wait longer than max_retry_after"]
    assert await Script(h, Busy(60), "ok").run(Retry(3)) == "ok"
    assert await Script(h, Busy(61), "ok").run(Retry(3, max_retry_after=None)) == "ok"
    assert await Script(h, Busy(61), "ok").run(Retry(3, max_retry_after=timedelta(minutes=2))) == "ok"


async def test_no_wait_passes_the_deadline(h: Harness) -> None:
    """When the next attempt would begin after the deadline, the last real error comes out at once."""
    native = tenacity.Retrying(wait=tenacity.wait_fixed(4), reraise=True)
    for strategy in (Retry(9, wait=fixed(4)), adapt_native(native)):
        began = h.now()
        last = ConnectionError()
        script = Script(h, last)
        with deadline(10):
            error = await script.fails(strategy)
        assert error is last
        assert script.calls == 3
        assert h.now() - began == pytest.approx(8)
        assert notes(error) == ["gave up after 3 attempts in 8.0 s: the next attempt would begin after the deadline"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_no_attempt_begins_after_the_deadline(
    manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch, native: bool, fails: bool
) -> None:
    """A sleep that took longer than it should is the end of the call, with the last real outcome."""
    monkeypatch.setattr(clock, "sleep", lambda seconds: manual_clock.sleep(50))
    strategy: Any = Retry(5, when=http_failure, wait=fixed(1))
    if native:
        retry = tenacity.retry_if_exception_type() | tenacity.retry_if_result(http_failure)
        strategy = adapt_native(tenacity.Retrying(retry=retry, wait=tenacity.wait_fixed(1), reraise=True))
    error, response, calls = ConnectionError(), Response(503), 0

    def work() -> Any:
        nonlocal calls
        calls += 1
        if fails:
            raise error
        return response

    events = Events()
    policy = Policy(strategy)
    policy.observe(events)
    outcome: Any = None
    with deadline(10):
        try:
            outcome = policy.call(work)
        except Exception as caught:
            outcome = caught
    assert calls == 1
    assert outcome is (error if fails else response) or (
        native and not fails and isinstance(outcome, tenacity.RetryError)
    )
    assert [event.reason for event in events.of(GaveUp)] == ["deadline"]


def test_a_rejection_that_comes_out_after_too_long_a_sleep_names_the_last_real_error(
    manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that comes out because there are no more attempts."""
    error, rejection = ConnectionError(), CircuitOpenError("open")
    errors: list[Exception] = [rejection, error]

    def work() -> None:
        if len(errors) == 1:
            monkeypatch.setattr(clock, "sleep", lambda seconds: manual_clock.sleep(50))
        raise errors.pop()

    policy = Policy(Retry(5, on=(is_transient, Rejected), wait=fixed(1)))
    with deadline(10), pytest.raises(CircuitOpenError) as caught:
        policy.call(work)
    assert caught.value is rejection
    assert rejection.__cause__ is error


async def test_a_spent_budget_lets_the_error_out(h: Harness) -> None:
    """Each retry is withdrawn; where none is left, the last real error comes out, not one of ours."""
    budget = RetryBudget(0, per_second=0.1)  # one retry in ten seconds
    script = Script(h, ConnectionError())
    error = await script.fails(Retry(3, wait=fixed(0), budget=budget))
    assert script.calls == 2
    assert notes(error) == ["gave up after 2 attempts in 0 s: the retry budget is spent"]


async def test_a_retry_that_is_not_made_costs_no_budget(h: Harness) -> None:
    """Stop, Retry-After and deadline are asked first."""
    budget = RetryBudget(0, per_second=0.1)
    await Script(h, ConnectionError()).fails(Retry(1, budget=budget))
    await Script(h, Busy(100)).fails(Retry(3, budget=budget))
    with deadline(1):
        await Script(h, ConnectionError()).fails(Retry(3, budget=budget, wait=fixed(2)))
    assert budget.remaining == 1


async def test_calls_fill_the_budget(h: Harness) -> None:
    """Successful calls earn the retries."""
    budget = RetryBudget(0.5, per_second=0)
    retry = Retry(3, budget=budget)
    for _ in range(4):
        await Script(h, "ok").run(retry)
    assert budget.remaining == 2


# --------------------------------------------------------------------------------------------- what was already retried


async def test_what_an_inner_retry_gave_up_is_not_retried_again(h: Harness) -> None:
    """Three times three is three."""
    script = Script(h, ConnectionError())
    error = await script.fails(Retry(3, wait=fixed(0)), Retry(3, wait=fixed(0)))
    assert script.calls == 3
    assert len(notes(error)) == 1
    native = adapt_native(tenacity.Retrying(stop=tenacity.stop_after_attempt(3)))
    script = Script(h, ConnectionError())
    await script.fails(Retry(3, wait=fixed(0)), native)
    assert script.calls == 3


async def test_two_attempts_inside_are_a_retry_too(h: Harness) -> None:
    """The fewest there can be."""
    script = Script(h, ConnectionError())
    await script.fails(Retry(3, wait=fixed(0)), Retry(2, wait=fixed(0)))
    assert script.calls == 2


async def test_on_that_names_the_error_retries_it_all_the_same(h: Harness) -> None:
    """The default knows about inner retries; who chooses the errors decides for himself."""
    script = Script(h, ConnectionError())
    error = await script.fails(Retry(2, on=ConnectionError, wait=fixed(0)), Retry(3, wait=fixed(0)))
    assert script.calls == 6
    assert len(notes(error)) == 1


async def test_an_inner_retry_that_made_one_attempt_retried_nothing(h: Harness) -> None:
    """`Retry(1)` inside does not take the outer one's work away."""
    script = Script(h, ConnectionError())
    await script.fails(Retry(3, wait=fixed(0)), Retry(1))
    assert script.calls == 3


async def test_what_was_given_up_at_its_first_attempt_was_not_retried(h: Harness) -> None:
    """An inner retry that would not wait for the server leaves the error to an outer one that would."""
    script = Script(h, Busy(100))
    await script.fails(Retry(3, max_retry_after=None), Retry(3))
    assert script.calls == 3


async def test_a_cached_exception_instance_is_retried_in_every_call(h: Harness) -> None:
    """An instance that was given up once, as a mock raises it, is retried again by the next call."""
    cached = ConnectionError()
    retry = Retry(3, wait=fixed(0))
    for _ in range(3):
        script = Script(h, cached)
        assert await script.fails(retry) is cached
        assert script.calls == 3
    assert len(notes(cached)) == 1


async def test_what_was_given_up_before_an_attempt_is_retried_after_it(h: Harness) -> None:
    """Each attempt looks back to its own beginning: what somebody else gave up while this call waited says nothing of
    its second attempt."""
    cached = ConnectionError()

    async def elsewhere(_: object = None) -> None:
        assert await Script(h, cached).fails(Retry(2, wait=fixed(0))) is cached

    script = Script(h, ConnectionError(), cached, "ok")
    hook = (lambda _: drive(elsewhere())) if h.blocking else elsewhere
    assert await script.run(Retry(3, wait=fixed(1), before_sleep=hook)) == "ok"


@pytest.mark.parametrize("explicit", [True, False])
async def test_a_wrapper_around_what_was_given_up_is_not_retried(h: Harness, explicit: bool) -> None:
    """Neither `raise ToolError() from error` nor a plain `raise ToolError()` while handling it launders the error."""
    script = Script(h, ConnectionError())
    inner = Policy(Retry(3, wait=fixed(0)))

    async def tool() -> None:
        async def request() -> None:
            await script()

        try:
            await h.call(inner, request)
        except ConnectionError as error:
            if explicit:
                raise MyError from error
            raise MyError  # noqa: B904 - without `from` is the point

    with pytest.raises(MyError):
        await h.call(Policy(Retry(3, wait=fixed(0))), tool)
    assert script.calls == 3


@pytest.mark.parametrize("explicit", [True, False])
async def test_a_wrapper_around_what_nobody_gave_up_is_retried(h: Harness, explicit: bool) -> None:
    """The error that speaks for it, its cause or its context, was not retried yet."""
    script = Script(h, ConnectionError())

    async def tool() -> None:
        try:
            await script()
        except ConnectionError as error:
            if explicit:
                raise MyError from error
            raise MyError  # noqa: B904 - without `from` is the point

    with pytest.raises(MyError):
        await h.call(Policy(Retry(3, wait=fixed(0))), tool)
    assert script.calls == 3


async def test_an_error_of_a_fallbacks_own_is_retried(h: Harness) -> None:
    """It was raised while the exhausted error was handled, but nobody has retried it yet."""
    script = Script(h, ConnectionError())
    handled = Script(h, ConnectionResetError(), "ok")

    async def handler(error: Exception) -> Any:
        return await handled()

    fallback = Fallback(h.fn(handler))
    assert await script.run(Retry(3, wait=fixed(0)), fallback, Retry(2, wait=fixed(0))) == "ok"
    assert script.calls == 4
    assert handled.calls == 2


# ----------------------------------------------------------------------------------------------------- hooks and events


async def test_events_tell_what_was_scheduled_and_why_it_ended(h: Harness) -> None:
    """Observers see each wait with its source, and the giving up with its reason."""
    events = Events()

    async def run(strategy: Any, *outcomes: Any) -> list[Any]:
        script = Script(h, *outcomes)
        events.clear()
        policy = Policy(strategy, name="p")
        policy.observe(events)

        async def work() -> Any:
            return await script()

        with contextlib.suppress(Exception):
            await h.call(policy, work)
        return events.of(RetryScheduled, GaveUp)

    first, second, end = await run(Retry(3, wait=fixed(2)), ConnectionError(), Busy(5), ConnectionError())
    assert (first.policy, first.attempt, first.delay, first.reason) == ("p", 1, 2, "backoff")
    assert first.failure.kind == "connection"
    assert (second.attempt, second.reason) == (2, "retry_after")
    assert 5 <= second.delay <= 5.5
    assert (end.attempts, end.reason, end.failure.kind) == (3, "stop", "connection")
    assert end.elapsed == pytest.approx(2 + second.delay)
    (end,) = await run(Retry(3), Busy(100))
    assert (end.attempts, end.reason) == (1, "retry_after")
    with deadline(1):
        (end,) = await run(Retry(3, wait=fixed(2)), Busy())
    assert end.reason == "deadline"
    (end,) = await run(Retry(3, budget=RetryBudget(0, per_second=0)), Busy())
    assert end.reason == "budget"
    (end,) = await run(Retry(1, when=http_failure), Response(503))
    assert (end.reason, end.failure.status) == ("stop", 503)
    (end,) = await run(adapt_native(tenacity.Retrying(stop=tenacity.stop_after_attempt(1))), MyError())
    assert (end.reason, end.failure.kind) == ("stop", "unknown")
    assert await run(Retry(3), MyError()) == []


async def test_what_the_server_asked_for_before_says_nothing_of_the_next_wait(h: Harness) -> None:
    """Each wait has its own reason."""
    events = Events()
    script = Script(h, Busy(5), ConnectionError(), Busy(0.1), "ok")
    policy = Policy(Retry(4, wait=fixed(1, jitter=None)))
    policy.observe(events)

    async def work() -> Any:
        return await script()

    assert await h.call(policy, work) == "ok"
    assert [event.reason for event in events.of(RetryScheduled)] == ["retry_after", "backoff", "backoff"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(True, TypeError), ("1", TypeError), (None, TypeError), (math.inf, ValueError), (math.nan, ValueError)],
)
async def test_a_wait_must_answer_with_seconds(h: Harness, answer: Any, error: type[Exception]) -> None:
    """Finite ones; anything else is said in the place of the error that was to be retried."""
    script = Script(h, ConnectionError(), "ok")
    said = await script.fails(Retry(2, wait=lambda state: answer))
    assert isinstance(said, error)
    assert str(said).startswith("wait must return ")


async def test_a_wait_below_zero_is_none(h: Harness) -> None:
    """Differences of times may come out so."""
    script = Script(h, ConnectionError(), "ok")
    assert await script.run(Retry(2, wait=lambda state: -1)) == "ok"
    assert script.waits == [0]


async def test_a_hook_that_turns_out_to_be_async_is_refused_in_blocking_code(h: Harness) -> None:
    """Where nothing showed it before; in async code it is awaited."""
    script = Script(h, ConnectionError(), "ok")
    strategy = Retry(2, wait=fixed(0), before_sleep=lambda state: no())
    if h.blocking:
        said = await script.fails(strategy)
        assert isinstance(said, TypeError)
        assert "before_sleep= of the retry around" in str(said)
    else:
        assert await script.run(strategy) == "ok"


async def test_a_time_limit_around_a_retry_is_raised_from_the_last_real_error(h: Harness) -> None:
    """What the attempts failed with is not lost when time runs out."""
    error = ConnectionError()
    script = Script(h, error, "late")

    async def work() -> Any:
        try:
            return await script()
        finally:
            if script.calls > 1:
                await h.sleep(100)

    if h.blocking:
        return  # a blocking call is not interrupted
    with pytest.raises(PolicyTimeoutError) as caught:
        await h.call(Policy(Timeout(5), Retry(3, wait=fixed(1))), work)
    assert caught.value.__cause__ is error


async def test_async_hooks_run_where_the_call_is_async(h: Harness) -> None:
    """A hook that suspends is awaited; a blocking call refuses it before anything runs."""
    seen: list[int] = []

    async def before_sleep(state: tenacity.RetryCallState) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(state.attempt_number)

    native = tenacity.AsyncRetrying(before_sleep=before_sleep, stop=tenacity.stop_after_attempt(2), reraise=True)
    for strategy in (Retry(2, before_sleep=before_sleep), adapt_native(native)):
        seen.clear()
        script = Script(h, ConnectionError())
        error = await script.fails(strategy)
        if h.blocking:
            assert isinstance(error, TypeError)
            assert "before_sleep= of the retry" in str(error)
            assert "acall" in str(error)
            assert script.calls == 0
        else:
            assert isinstance(error, ConnectionError)
            assert seen == [1]


async def test_a_hook_that_only_turns_out_to_be_async_is_refused_in_blocking_code(h: Harness) -> None:
    """A lambda that returns a coroutine is found when it is called."""

    async def hook() -> None:
        await anyio.lowlevel.checkpoint()

    script = Script(h, ConnectionError())
    error = await script.fails(Retry(2, after=lambda state: hook(), wait=fixed(0)))
    assert isinstance(error, TypeError if h.blocking else ConnectionError)


async def test_hooks_see_whose_state_it_is(h: Harness) -> None:
    """The retry, or tenacity's own object where that is adapted."""
    seen: list[Any] = []

    def before(state: Any) -> None:
        seen.append(state.retry_object)

    retries = Retry(2, before=before), tenacity.Retrying(before=before), tenacity.AsyncRetrying(before=before)
    for retry in retries:
        await Script(h, "ok").run(retry)
    assert tuple(seen) == retries


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_each_of_several_tenacity_objects_is_asked(runtime: str) -> None:
    """Those that answer with an awaitable, and those that follow one."""
    tenacity_async = pytest.importorskip("tenacity.asyncio")

    async def agrees(error: BaseException) -> bool:
        return True

    async def disagrees(error: BaseException) -> bool:
        return False

    h = Harness(runtime)
    no, yes = map(tenacity_async.retry_if_exception, (disagrees, agrees))
    plain = tenacity.retry_if_exception_type(MyError)

    async def scenario() -> None:
        for on in ((no, plain), (no, yes), (no, no, yes), (plain, no), (yes, no)):
            assert await Script(h, MyError(), "ok").run(Retry(2, on=on, wait=fixed(0))) == "ok"
        assert isinstance(await Script(h, MyError(), "ok").fails(Retry(2, on=(no, no), wait=fixed(0))), MyError)

    run_on(runtime, scenario)


async def test_before_runs_before_the_first_attempt_too(h: Harness) -> None:
    """As in tenacity, and with the number of the attempt that follows."""
    seen: list[Any] = []

    def before(state: Any) -> None:
        seen.append((state.attempt_number, state.idle_for, state.upcoming_sleep, state.outcome))

    await Script(h, ConnectionError(), "ok").run(Retry(3, before=before, wait=fixed(2)))
    assert seen == [(1, 0, 0, None), (2, 2, 2, None)]


# -------------------------------------------------------------------------------------------------------------- streams


async def test_a_stream_is_retried_before_its_first_item_only(h: Harness) -> None:
    """Once an item is out, the error is the consumer's; `when` is not asked."""
    opened = 0

    def numbers() -> Iterator[int]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise ConnectionError
        yield 1
        raise ConnectionResetError

    async def numbers_async() -> AsyncIterator[int]:
        for number in numbers():
            yield number

    seen: list[int] = []
    stream = Policy(Retry(3, when=lambda result: True)).stream(numbers if h.blocking else numbers_async)
    with pytest.raises(ConnectionResetError):
        if h.blocking:
            seen.extend(stream)
        else:
            async for item in stream:
                seen.append(item)  # noqa: PERF401 - the items before the error count
    assert opened == 2
    assert h.blocking or seen == [1]


# --------------------------------------------------------------------------------------------------- blocking on a loop


def test_a_blocking_wait_on_an_event_loop_warns_once(
    manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds up the loop: the warning says so, names the remedy, and the call goes on."""
    monkeypatch.setattr(warn, "warned", {})
    policy = Policy(Retry(3, wait=fixed(1)), name="blocks")
    outcomes = iter([ConnectionError(), ConnectionError(), "ok"] * 2)

    def work() -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"'blocks'.*acall"):
            assert policy.call(work) == "ok"
        with warnings.catch_warnings(record=True) as again:
            assert policy.call(work) == "ok"
        assert not again

    asyncio.run(main())
    assert manual_clock.now == 1004.0


def test_a_blocking_wait_in_a_thread_of_its_own_is_no_matter(
    manual_clock: ManualClock, recwarn: pytest.WarningsRecorder
) -> None:
    """No warning where there is no loop."""
    Policy(Retry(2, when=lambda result: True, wait=fixed(1)), name="thread").call(int)
    assert not recwarn.list


def test_no_wait_on_an_event_loop_is_no_matter(recwarn: pytest.WarningsRecorder) -> None:
    """No warning where nothing is waited for."""

    async def main() -> int:
        return Policy(Retry(2, when=lambda result: True, wait=fixed(0)), name="does not wait").call(int)

    assert asyncio.run(main()) == 0
    assert not recwarn.list


def test_an_undeclared_async_callable_is_retried_on_its_loop() -> None:
    """Its attempts and waits go on as the awaitable that the caller gets."""
    calls = 0

    async def request() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError
        return "ok"

    def client() -> Any:
        return request()

    guarded = Policy(Retry(3, wait=fixed(5)))(client)

    async def scenario() -> None:
        assert await guarded() == "ok"

    run_on("asyncio", scenario)
    assert calls == 3


def test_an_async_callable_that_fails_before_it_is_async_waits_on_its_loop() -> None:
    """A callable that is known to return awaitables never makes the loop's thread sleep."""
    attempts = 0

    async def request() -> str:
        return "ok"

    @functools.wraps(request)
    def client() -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionError
        return request()

    guarded = Policy(Retry(3, wait=fixed(5)))(client)

    async def scenario() -> None:
        assert await guarded() == "ok"

    run_on("asyncio", scenario)  # where sleeping in the thread is an error
    assert attempts == 2


# ----------------------------------------------------------------------------------------------- tenacity's own objects


async def test_one_native_object_serves_many_calls_at_once(h: Harness) -> None:
    """In tenacity, tasks that share one with a hook that suspends silently get None."""
    if h.blocking:
        return

    async def hook(state: tenacity.RetryCallState) -> None:
        await anyio.sleep(1)

    native = tenacity.AsyncRetrying(before=hook, after=hook, before_sleep=hook, stop=tenacity.stop_after_attempt(3))
    policy = Policy(adapt_native(native))
    results: list[int] = []

    async def one(number: int) -> None:
        script = Script(h, ConnectionError(), number)

        async def work() -> Any:
            return await script()

        results.append(await policy.acall(work))

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(one, number)
    assert sorted(results) == list(range(10))
    assert native.statistics == {}


async def test_what_is_changed_on_a_native_object_counts(h: Harness) -> None:
    """Tests set `retrying.stop`, `.wait` or `.sleep` on the object; the policy goes by it from the next call on."""
    native = tenacity.Retrying(stop=tenacity.stop_after_attempt(2))
    strategy = adapt_native(native)
    script = Script(h, ConnectionError())
    await script.fails(strategy)
    assert script.calls == 2
    native.stop = tenacity.stop_after_attempt(4)
    native.retry = tenacity.retry_if_result(lambda result: True)
    script = Script(h, "again")
    assert isinstance(await script.fails(strategy), tenacity.RetryError)
    assert script.calls == 4


@pytest.mark.skipif("enabled" not in vars(tenacity.Retrying()), reason="this tenacity cannot be disabled")
async def test_a_disabled_native_object_does_nothing(h: Harness) -> None:
    """`enabled=False` is a single attempt, and the error comes out as it is."""
    error = ConnectionError()
    script = Script(h, error)
    assert await script.fails(adapt_native(tenacity.Retrying(enabled=False))) is error
    assert script.calls == 1


async def test_a_native_object_reads_no_retry_after(h: Harness) -> None:
    """Its wait is its own."""
    script = Script(h, Busy(100), "ok")
    assert await script.run(adapt_native(tenacity.Retrying(wait=tenacity.wait_fixed(2)))) == "ok"
    assert script.waits == [pytest.approx(2)]


async def test_an_async_callback_of_its_own_is_awaited(h: Harness) -> None:
    """What it answers in the end is what the call does."""

    async def callback(state: tenacity.RetryCallState) -> str:
        await anyio.lowlevel.checkpoint()
        return "instead"

    native = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=callback)
    if not h.blocking:
        assert await Script(h, ConnectionError()).run(adapt_native(native)) == "instead"


@pytest.mark.parametrize("copied", [lambda retry: pickle.loads(pickle.dumps(retry)), copy.copy, copy.deepcopy])
def test_a_native_object_goes_on_in_copies(copied: Callable[[Any], Any], manual_clock: ManualClock) -> None:
    """With what it was told, which its text says; of those that tenacity itself lets be copied."""
    theirs = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), reraise=True)
    try:
        copied(theirs)
    except (AttributeError, TypeError):
        pytest.skip("objects of this tenacity cannot be copied so")
    native = adapt_native(theirs)
    again = copied(native)
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Policy(again).call(work)
    assert len(calls) == 2
    assert repr(again) == repr(native)
    assert repr(again).startswith("Retrying(retry=retry_if_exception_type")


async def test_a_sleep_of_its_own_is_used(h: Harness) -> None:
    """A custom `sleep`, sync or async, takes the place of ours; the ordinary ones become the call's own."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        slept.append(seconds)

    own: Callable[[float], Any] = slept.append if h.blocking else sleep
    script = Script(h, ConnectionError(), "ok")
    assert await script.run(adapt_native(tenacity.AsyncRetrying(sleep=own, wait=tenacity.wait_fixed(3)))) == "ok"
    assert slept == [3]
    assert script.waits == [0]
    for native in (tenacity.Retrying, tenacity.AsyncRetrying):
        script = Script(h, ConnectionError(), "ok")
        assert await script.run(adapt_native(native(wait=tenacity.wait_fixed(3)))) == "ok"
        assert script.waits == [pytest.approx(3)]


async def test_a_sleep_that_blocks_the_thread_is_refused_in_async_code(h: Harness) -> None:
    """`sleep_using_event` would hold up the event loop; it says so before anything runs."""
    event = threading.Event()
    event.set()
    strategy = adapt_native(tenacity.Retrying(sleep=tenacity.sleep_using_event(event), wait=tenacity.wait_fixed(9)))
    script = Script(h, ConnectionError(), "ok")
    if h.blocking:
        assert await script.run(strategy) == "ok"
    else:
        assert isinstance(await script.fails(strategy), TypeError)
        assert script.calls == 0


def test_what_is_not_tenacitys_is_not_adapted() -> None:
    """None lets the next adapter look at it."""
    assert adapt_native(Retry(3)) is None
    assert adapt_native(object()) is None
    assert adapt_native(tenacity.Retrying) is None


def test_a_native_class_with_a_loop_of_its_own_is_refused() -> None:
    """What it overrides would not run."""

    class Special(tenacity.Retrying):
        def iter(self, retry_state: Any) -> Any:
            return super().iter(retry_state)

    with pytest.raises(TypeError, match="Special overrides iter of tenacity's Retrying"):
        adapt_native(Special())


def test_a_last_attempt_is_a_future_like_tenacitys() -> None:
    """What users do with `RetryError.last_attempt` and `state.outcome` works."""
    policy = Policy(adapt_native(tenacity.Retrying(stop=tenacity.stop_after_attempt(2))))

    def work() -> None:
        raise ConnectionError("reset")

    with pytest.raises(tenacity.RetryError) as caught:
        policy.call(work)
    last = caught.value.last_attempt
    assert isinstance(last, tenacity.Future)
    assert (last.attempt_number, last.failed, last.done(), last.cancelled(), last.running()) == (
        2,
        True,
        True,
        False,
        False,
    )
    assert isinstance(last.exception(), ConnectionError)
    with pytest.raises(ConnectionError):
        last.result()
    called: list[Any] = []
    last.add_done_callback(called.append)
    assert called == [last]
    assert "raised ConnectionError" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again.last_attempt.exception()) == "reset"
    with pytest.raises(AttributeError):
        last.nonsense  # type: ignore[attr-defined]  # noqa: B018


# -------------------------------------------------------------------------------------------------------------- options


async def no() -> bool:
    return False


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts must be at least 1, got 0"),
        ({"attempts": 2.0}, TypeError, "attempts must be an int, got 2.0"),
        ({"attempts": None}, ValueError, "attempts must be an int unless stop= is given"),
        ({"on": ()}, ValueError, "on must name at least one"),
        ({"on": 503}, TypeError, "on must be an exception type, a predicate or a tuple of these, got 503"),
        ({"on": "timeout"}, TypeError, r"got 'timeout'; did you mean on=TimeoutError or on=lambda error: classify\("),
        ({"on": "overload"}, TypeError, r"got 'overload'; did you mean on=lambda error: classify\(error\).kind == 'o"),
        ({"on": "transient"}, TypeError, r"got 'transient'; did you mean on=is_transient\?"),
        ({"on": ("ValueError",)}, TypeError, r"got 'ValueError'; did you mean on=ValueError\?"),
        ({"on": asyncio.CancelledError}, TypeError, "on must name subclasses of Exception, got CancelledError"),
        ({"on": BaseException}, TypeError, "on must name subclasses of Exception, got BaseException"),
        ({"on": tenacity.retry_if_exception_type}, TypeError, "got the class retry_if_exception_type"),
        ({"on": (ValueError, 503)}, TypeError, "on must be"),
        ({"on": [ValueError]}, TypeError, "a tuple, not a list"),
        ({"on": lambda: no()}, None, None),
        ({"on": no}, TypeError, "on must be a plain predicate"),
        ({"when": 503}, TypeError, "when must be a predicate on results"),
        ({"when": no}, TypeError, "when must be a plain predicate"),
        ({"wait": 2}, TypeError, r"wait must be a wait object such as exponential\(\) or fixed\(2\), got 2"),
        ({"wait": None}, TypeError, "wait must be a wait object"),
        ({"wait": tenacity.wait_fixed}, TypeError, "wait must be a wait object"),
        ({"stop": 3}, TypeError, "stop must be a function of tenacity's RetryCallState or None, got 3"),
        ({"before": 3}, TypeError, "before must be a function"),
        ({"budget": 0.2}, TypeError, "budget must be a RetryBudget or None, got 0.2"),
        ({"max_retry_after": -1}, ValueError, "max_retry_after must be at least 0 seconds, got -1"),
        ({"max_retry_after": "1"}, TypeError, "max_retry_after must be a number of seconds"),
    ],
)
def test_a_wrong_value_fails_when_the_retry_is_built(options: Any, error: Any, message: str | None) -> None:
    """The message names the argument, the rule and the value."""
    if error is None:
        Retry(**options)
        return
    with pytest.raises(error, match=message):
        Retry(**options)


def test_describe_is_plain_data_without_values() -> None:
    """Options by name: no closures, no messages, nothing that json does not take."""
    retry = Retry(
        5,
        on=(is_transient, MyError, tenacity.retry_if_exception_message("secret")),
        when=http_failure,
        stop=tenacity.stop_after_delay(3),
        budget=RetryBudget(),
    )
    described = retry.describe()
    assert described["strategy"] == "retry"
    assert described["on"] == ["is_transient", "MyError", "retry_if_exception_message"]
    assert described["when"] == "http_failure"
    assert described["stop"] == "stop_after_delay"
    assert described["budget"]["ratio"] == 0.2
    assert "secret" not in json.dumps(described)
    native: Any = adapt_native(tenacity.Retrying(reraise=True, before=print))
    assert json.loads(json.dumps(native.describe()))["native"] == "tenacity.Retrying"


@pytest.mark.parametrize(
    ("retry", "shown"),
    [
        (Retry(), "Retry(3)"),
        (Retry(5, on=MyError, wait=fixed(2)), "Retry(5, on=MyError, wait=fixed(delay=2.0, jitter=None))"),
        (Retry(None, on=(is_transient, MyError), stop=tenacity.stop_never), None),
        (Retry(2, max_retry_after=5), "Retry(2, max_retry_after=5)"),
        (Retry(2, wait=exponential(0.1)), "Retry(2, wait=exponential(base=0.1, factor=2.0, max=30.0, jitter='full'))"),
    ],
)
def test_a_retry_shows_how_it_was_built(retry: Retry, shown: str | None) -> None:
    """Its repr reads like the constructor, without what is default."""
    assert repr(retry) == (shown or "Retry(None, on=(is_transient, MyError), stop=_stop_never)")


@pytest.mark.parametrize("copied", [lambda retry: pickle.loads(pickle.dumps(retry)), copy.copy, copy.deepcopy])
def test_a_retry_survives_pickle_and_copy(copied: Callable[[Retry], Retry], manual_clock: ManualClock) -> None:
    """It holds options only, so a copy is as good, wherever its parts pickle; a budget says that it cannot."""
    retry = copied(Retry(2, on=(is_transient, MyError), when=http_failure, stop=tenacity.stop_after_delay(60)))
    outcomes: list[Any] = [MyError(), "ok"]

    def work() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert Policy(retry).call(work) == "ok"
    with pytest.raises(TypeError, match="RetryBudget holds live state"):
        pickle.dumps(Retry(budget=RetryBudget()))


@pytest.mark.parametrize("builder", [exponential, fixed])
def test_a_wait_that_was_not_called_is_refused(builder: Any) -> None:
    """`wait=exponential` for `wait=exponential()` would only fail at the first failure, in the place of that error."""
    with pytest.raises(TypeError, match=rf"wait must be called: {builder.__name__}\(...\)"):
        Retry(3, wait=builder)
