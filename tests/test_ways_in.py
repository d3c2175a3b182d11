"""An ordinary call takes a shorter way into its policy than one that is watched or has a deadline: the same happens on
both, and in a policy that is one retry alone, too."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient_agents import (
    BudgetExceededError,
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceeded,
    Fallback,
    Gate,
    Policy,
    Retry,
    RetryBudget,
    deadline,
    exponential,
    fixed,
    http_failure,
    is_transient,
    run_budget,
)
from resilient_agents.base.now import now
from resilient_agents.core.call import name_of
from resilient_agents.events import CallEnded
from resilient_agents.registry import Keyed
from tests.conftest import Events, Harness, ManualClock, run_on


class Mine(ConnectionError):
    """What the functions raise: transient, and to be told from others."""


class Stop(BaseException):
    """What is none of a policy's business."""


class Script:
    """A function that does one thing after another, the last one again and again."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.seen: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append((args, kwargs))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step


class Response:
    def __init__(self, status: int) -> None:
        self.status_code = status

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Response) and other.status_code == self.status_code


def numbers() -> Iterator[int]:
    yield 1


async def later() -> str:
    return "later"


async def fails_later() -> None:
    raise Mine("later")


def again() -> None:
    raise Mine("again")


def group() -> None:
    raise ExceptionGroup("group", [Mine("leaf")])


def keyed(make: Callable[[Any], Any]) -> Keyed:
    return Keyed(make, lambda key, **_: key)


POLICIES: dict[str, Callable[[], Policy | Keyed]] = {
    "nothing": Policy,
    "one retry": lambda: Policy(Retry(3, wait=fixed(0))),
    "one retry of a type": lambda: Policy(Retry(3, on=Mine, wait=fixed(1))),
    "one retry of other types": lambda: Policy(Retry(3, on=(KeyError, ExceptionGroup), wait=fixed(1))),
    "one retry with a stop": lambda: Policy(
        Retry(None, stop=lambda state: (state.seconds_since_start or 0) >= 2, wait=fixed(1))
    ),
    "one attempt": lambda: Policy(Retry(1)),
    "one retry of results": lambda: Policy(Retry(3, when=http_failure, wait=fixed(1))),
    "one retry with a budget": lambda: Policy(Retry(3, wait=fixed(0), budget=RetryBudget(0.01, per_second=0.2))),
    "a retry in a policy in a policy": lambda: Policy(Policy(Retry(3, wait=fixed(0)))),
    "a retry for each key": lambda: keyed(lambda key: Retry(3, on=Mine, wait=fixed(0))),
    "a breaker for each key": lambda: keyed(lambda key: CircuitBreaker(failures=2)),
    "two retries": lambda: Policy(Retry(2, wait=fixed(0)), Retry(2, wait=fixed(0))),
    "retry and breaker": lambda: Policy(Retry(3, wait=fixed(0)), CircuitBreaker(failures=2)),
    "retry and breaker that mind one type": lambda: Policy(
        Retry(3, on=Mine, wait=fixed(0)), CircuitBreaker(failures=2, on=Mine), Bulkhead(1)
    ),
    "a handler that stops": lambda: Policy(Fallback(Script(StopIteration("handler")))),
    "a retry that leaves a handler alone that stops": lambda: Policy(
        Retry(2, on=Mine, wait=fixed(0)), Fallback(Script(StopIteration("handler")))
    ),
    "a retry of a handler that stops": lambda: Policy(
        Retry(2, on=StopIteration, wait=fixed(0)), Fallback(Script(StopIteration("handler")))
    ),
}
FUNCTIONS: dict[str, Callable[[], Script]] = {
    "value": lambda: Script(7),
    "nothing": lambda: Script(None),
    "one failure": lambda: Script(Mine("1"), "ok"),
    "two failures": lambda: Script(Mine("1"), KeyError("2"), Mine("3"), "ok"),
    "failures": lambda: Script(again),
    "one object": lambda: Script(Mine("cached")),
    "a mistake": lambda: Script(ZeroDivisionError("mistake")),
    "a group": lambda: Script(group, group, "ok"),
    "stop iteration": lambda: Script(StopIteration("function")),
    "interrupt": lambda: Script(Mine("1"), Stop("2")),
    "an interrupt at once": lambda: Script(Stop("1")),
    "generator": lambda: Script(numbers),
    "responses": lambda: Script(Response(503), Response(200)),
    "awaitable": lambda: Script(later),
    "an awaitable that fails": lambda: Script(fails_later, Mine("2"), later),
}


def told(error: BaseException) -> Any:
    """An error with its notes and its causes, but for how long it took."""
    notes = [re.sub(r"( in|,) -?[\d.]+ s( after the first failure)?", "", n) for n in getattr(error, "__notes__", [])]
    cause = error.__cause__ or error.__context__
    return type(error), str(error), sorted(notes), None if cause is None else told(cause)


def outcome(guarded: Callable[..., Any]) -> Any:
    try:
        result = guarded(1, key=2)
        if asyncio.iscoroutine(result):
            coroutine = result
            result = run_on("asyncio", lambda: coroutine)
    except BaseException as error:
        return told(error)
    return result


def counted(policy: Policy | Keyed) -> list[Any]:
    if isinstance(policy, Keyed):
        return [counted(of_key) for _, of_key in policy.items()]
    return [layer.metrics() for layer in policy.layers if isinstance(layer, Retry)]


def happened(quiet: object, policy: Policy | Keyed, script: Script, fn: Any) -> Any:
    """What two calls of the same function come to, where nobody records with this provider."""
    now.quiet_tracer = quiet
    guarded = policy(fn)
    came = [outcome(guarded) for _ in range(3)]
    return came, script.seen, counted(policy)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("made", POLICIES)
def test_the_same_happens_on_both(made: str, function: str, asynchronous: bool, manual_clock: ManualClock) -> None:
    """Results, errors with their notes and causes, arguments, attempts and counts."""
    quick, slow = on_both(POLICIES[made], FUNCTIONS[function], asynchronous=asynchronous)
    assert quick == slow


def on_both(make: Callable[[], Policy | Keyed], act: Callable[[], Script], *, asynchronous: bool) -> list[Any]:
    """What happens on the shorter way, and on the other."""
    Policy().call(int)  # so that the bridge is connected
    quick = now.quiet_tracer
    came: list[Any] = []
    try:
        for quiet in (quick, object()):  # with the other one no call knows beforehand that nobody records
            policy, script = make(), act()

            async def work(*args: Any, script: Script = script, **kwargs: Any) -> Any:
                result = script(*args, **kwargs)
                return await result if asyncio.iscoroutine(result) else result

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                came.append(happened(quiet, policy, script, work if asynchronous else script.__call__))
    finally:
        now.quiet_tracer = quick
    return came


STEPS: list[Callable[[], Any]] = [
    *(lambda: 7, lambda: None, lambda: Mine("down"), lambda: KeyError("other"), lambda: Stop("from outside")),
    *(lambda: StopIteration("stop"), lambda: Response(503), lambda: Response(200), lambda: again, lambda: group),
    *(lambda: later, lambda: fails_later, lambda: TimeoutError("slow"), lambda: CircuitOpenError("inside")),
]
"""What a function does next; errors are made anew, as each way marks its own."""


@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6),
    attempts=st.integers(1, 4),
    on=st.sampled_from([is_transient, Mine, Exception, (KeyError, ExceptionGroup), lambda error: True]),
    when=st.sampled_from([None, None, http_failure]),
    wait=st.sampled_from([fixed(0), fixed(1.5), exponential(0.1, jitter=None)]),
    asynchronous=st.booleans(),
    by_key=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_attempt_is_made_as_the_loop_makes_it(
    steps: list[Callable[[], Any]],
    attempts: int,
    on: Any,
    when: Any,
    wait: Any,
    asynchronous: bool,
    by_key: bool,
    manual_clock: ManualClock,
) -> None:
    """Whatever a function does, and whatever the one retry around it looks at."""

    def retry(_: Any = None) -> Retry:
        return Retry(attempts, on=on, when=when, wait=wait)

    quick, slow = on_both(
        lambda: keyed(retry) if by_key else Policy(retry()),
        lambda: Script(*(step() for step in steps)),
        asynchronous=asynchronous,
    )
    assert quick == slow


def test_the_note_of_the_shorter_way_says_since_when() -> None:
    """Where nobody needs to know when the first attempt began, no clock is read, and the note counts from its
    failure."""
    error = Mine("down")
    guarded = Policy(Retry(3, on=Mine, wait=fixed(0.5)))(Script(error).__call__)

    async def scenario() -> None:
        for _ in range(2):  # the first call makes the plan
            with pytest.raises(Mine):
                guarded()

    contextvars.Context().run(run_on, "blocking", scenario)  # where no deadline ever was
    assert error.__notes__ == ["gave up after 3 attempts, 1.0 s after the first failure"]


def test_a_policy_that_changes_is_a_policy_like_any_other() -> None:
    """A function that was guarded by one retry goes through whatever stands in its place, and back."""
    policy = Policy(Retry(2, on=Mine, wait=fixed(0)))
    script = Script(Mine("down"))
    guarded = policy(script.__call__)
    with pytest.raises(Mine):
        guarded()
    with policy.replaced(Policy(Fallback(value="instead"))):
        assert guarded() == "instead"
    with pytest.raises(Mine):
        guarded()
    assert len(script.seen) == 5


def test_an_awaitable_that_comes_to_light_late_is_the_first_attempt() -> None:
    """A callable that declares nothing, under one retry, which began its first attempt as a plain call."""
    script = Script(Mine("down"), Mine("down"), "value")

    async def work() -> Any:
        return script()

    async def main() -> None:
        retry = Retry(3, on=Mine, wait=fixed(0))
        asynchronous, calls = False, 0

        def function() -> Any:
            nonlocal calls
            calls += 1
            return work() if asynchronous else 0

        guarded: Any = Policy(retry)(function)
        assert [guarded(), guarded()] == [0, 0]  # the second one goes the shorter way
        asynchronous = True
        assert await guarded() == "value"
        assert (retry.metrics()["calls"], retry.metrics()["attempts"], calls) == (3, 5, 5)

    run_on("asyncio", main)


@pytest.mark.parametrize("policy", [Policy(Retry(2)), Policy(CircuitBreaker())], ids=["retry", "others"])
async def test_a_deadline_holds_on_the_shorter_way(h: Harness, policy: Policy) -> None:
    """Also for a function that was called without one before, and has the shorter way."""
    made: list[float] = []

    async def work(seconds: float) -> None:
        made.append(seconds)
        await h.sleep(seconds)

    guarded: Any = policy(h.fn(work))

    async def call(seconds: float) -> None:
        return guarded(seconds) if h.blocking else await guarded(seconds)

    for _ in range(2):
        await call(0)
    with deadline(5):
        await call(3)
        if h.blocking:
            await call(3)  # nothing can end it
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await call(9)
    assert made == [0, 0, 3, 3 if h.blocking else 9]


@pytest.mark.parametrize("policy", [Policy(Retry(2)), Policy(CircuitBreaker())], ids=["retry", "others"])
async def test_what_a_run_may_use_is_counted_on_the_shorter_way(h: Harness, policy: Policy) -> None:
    """Once for each attempt, and a deadline inside of it holds."""

    async def work(seconds: float) -> None:
        await h.sleep(seconds)

    guarded: Any = policy(h.fn(work))

    async def call(seconds: float) -> None:
        return guarded(seconds) if h.blocking else await guarded(seconds)

    await call(0)
    with run_budget(attempts=5) as budget:
        for _ in range(3):
            await call(0)
        assert budget.spent.attempts == 3
        with deadline(5):
            if h.blocking:
                await call(9)  # nothing can end it
            with pytest.raises(DeadlineExceeded):
                await call(9)
        assert budget.spent.attempts == 4
        await call(0)
        with pytest.raises(BudgetExceededError):
            await call(0)
    await call(0)


async def test_what_a_run_may_use_pays_for_further_attempts_too(h: Harness) -> None:
    """Those that a retry makes after a first one that went the shorter way."""
    script = Script(0, *[Mine("down"), "value"] * 3)

    async def work() -> Any:
        return script()

    guarded: Any = Policy(Retry(2, on=Mine, wait=fixed(0)))(h.fn(work))
    assert (guarded() if h.blocking else await guarded()) == 0
    with run_budget(attempts=9) as budget:
        for _ in range(3):
            assert (guarded() if h.blocking else await guarded()) == "value"
    assert budget.spent.attempts == 6


@pytest.mark.parametrize("inside", [[], [CircuitBreaker(failures=99)]], ids=["one retry", "a retry around others"])
async def test_the_time_that_a_note_gives_is_that_of_the_first_attempt_too(h: Harness, inside: list[Any]) -> None:
    """Whoever has made it."""

    async def work() -> None:
        await h.sleep(2)
        raise Mine("down")

    guarded: Any = Policy(Retry(2, wait=fixed(1)), *inside)(h.fn(work))
    for _ in range(2):
        with pytest.raises(Mine) as raised:
            _ = guarded() if h.blocking else await guarded()
        assert raised.value.__notes__ == ["gave up after 2 attempts in 5.0 s"]


async def test_an_observed_call_never_goes_the_shorter_way(h: Harness) -> None:
    """Also the later ones of a function."""
    events, policy = Events(), Policy(CircuitBreaker())

    async def work() -> None: ...

    policy.observe(events)
    guarded: Any = policy(h.fn(work))
    for _ in range(3):
        _ = guarded() if h.blocking else await guarded()
    assert len(events.of(CallEnded)) == 3


async def test_a_shorter_way_is_each_functions_own(h: Harness) -> None:
    """Those of one policy differ by name, also where a run has a budget."""
    breaker = CircuitBreaker()
    policy = Policy(breaker)

    async def one() -> None: ...
    async def other() -> None: ...

    with run_budget(attempts=9):
        guarded: list[Any] = [policy(h.fn(work)) for work in (one, other)]
        for _ in range(2):
            for function in guarded:
                _ = function() if h.blocking else await function()
        breaker.open()
        for function, work in zip(guarded, (one, other), strict=True):
            with pytest.raises(CircuitOpenError) as raised:
                _ = function() if h.blocking else await function()
            assert raised.value.policy == name_of(h.fn(work))


class _Retry(Retry):
    async def execute(self, proceed: Any, call: Any, state: Any = None) -> Any:
        return ("mine", await super().execute(proceed, call, state))


class _Gate(Gate):
    async def execute(self, proceed: Any, call: Any) -> Any:
        return ("mine", await super().execute(proceed, call))


class _Breaker(CircuitBreaker):
    def execute(self, proceed: Any, call: Any) -> Any:
        async def mine() -> Any:
            return ("mine", await super(_Breaker, self).execute(proceed, call))

        return mine()


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [_Retry()],
        lambda: [_Retry(), CircuitBreaker()],
        lambda: [CircuitBreaker(), _Gate()],
        lambda: [_Breaker(), Gate()],
    ],
)
async def test_what_a_class_of_your_own_does_is_done_on_every_way(h: Harness, layers: Callable[[], list[Any]]) -> None:
    """No call goes past an `execute` that takes the place of ours, be it the first one or the next."""

    async def work() -> int:
        return 7

    guarded = Policy(*layers())(h.fn(work))
    for _ in range(3):
        answer = guarded()
        assert (await answer if inspect.isawaitable(answer) else answer) == ("mine", 7)
