"""Retry is tenacity: any of its objects, in any combination, does here what it does there.

Each example runs tenacity itself, then its object as a strategy or the same parts in `Retry`, in virtual time, and
compares what was called when, what every hook saw, and how it ended. Errors here carry no Retry-After, there is no
deadline, and nothing was retried before: that is where `Retry` knows more than tenacity.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import anyio
import anyio.lowlevel
import pytest
import tenacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient_agents.adapters.native.retry import adapt_native
from resilient_agents.adapters.retry import Retry
from resilient_agents.base.chance import chance
from resilient_agents.base.clock import clock
from resilient_agents.policy import Policy
from tests.conftest import RUNTIMES, Harness, run_on

LIMIT = 5  # attempts, so that "retry always, stop never" ends

seconds = st.integers(0, 32).map(lambda eighths: eighths / 8)  # exact in floats
kinds = st.sampled_from([(ValueError,), (KeyError, OSError), (Exception,), (ConnectionError,)])


def of_kind(*wanted: type[Exception]) -> Any:
    return lambda error: isinstance(error, wanted)


def is_even(result: object) -> bool:
    return isinstance(result, int) and result % 2 == 0


def have(module: str) -> set[str]:
    """The public strategies of a tenacity module: its classes, and its two or three ready-made objects."""
    found = vars(importlib.import_module(module))
    base = next(thing for name, thing in found.items() if name.endswith("_base") and isinstance(thing, type))
    return {
        name
        for name, thing in found.items()
        if not name.startswith("_")
        and thing is not base
        and (isinstance(thing, base) or (isinstance(thing, type) and issubclass(thing, base)))
    }


def have_hooks(module: str) -> set[str]:
    found = vars(importlib.import_module(module))
    return {
        name for name, thing in found.items() if name.startswith(module.rpartition(".")[2] + "_") and callable(thing)
    }


def t(name: str) -> Any:
    return getattr(tenacity, name)


RETRY: dict[str, Any] = {
    "retry_never": lambda: st.just(t("retry_never")),
    "retry_always": lambda: st.just(t("retry_always")),
    "retry_if_exception": lambda: kinds.map(lambda wanted: t("retry_if_exception")(of_kind(*wanted))),
    "retry_if_exception_type": lambda: kinds.map(t("retry_if_exception_type")),
    "retry_if_not_exception_type": lambda: kinds.map(t("retry_if_not_exception_type")),
    "retry_unless_exception_type": lambda: kinds.map(t("retry_unless_exception_type")),
    "retry_if_exception_cause_type": lambda: kinds.map(t("retry_if_exception_cause_type")),
    "retry_if_result": lambda: st.just(t("retry_if_result")(is_even)),
    "retry_if_not_result": lambda: st.just(t("retry_if_not_result")(is_even)),
    "retry_if_exception_message": lambda: st.just(t("retry_if_exception_message")(match="boom [123]")),
    "retry_if_not_exception_message": lambda: st.just(t("retry_if_not_exception_message")(message="boom 2")),
    "retry_any": lambda: st.lists(retries(nested=False), max_size=3).map(lambda parts: t("retry_any")(*parts)),
    "retry_all": lambda: st.lists(retries(nested=False), max_size=3).map(lambda parts: t("retry_all")(*parts)),
}
WAIT: dict[str, Any] = {
    "wait_none": lambda: st.builds(t("wait_none")),
    "wait_fixed": lambda: seconds.map(t("wait_fixed")),
    "wait_random": lambda: seconds.map(lambda low: t("wait_random")(low, low + 2)),
    "wait_incrementing": lambda: st.builds(t("wait_incrementing"), seconds, seconds, seconds),
    "wait_exponential": lambda: st.builds(t("wait_exponential"), multiplier=seconds, max=seconds, min=seconds),
    "wait_random_exponential": lambda: st.builds(t("wait_random_exponential"), multiplier=seconds, max=seconds),
    "wait_exponential_jitter": lambda: st.builds(t("wait_exponential_jitter"), max=seconds, jitter=seconds),
    "wait_exception": lambda: seconds.map(lambda delay: t("wait_exception")(lambda error: delay)),
    "wait_combine": lambda: st.lists(waits(nested=False), max_size=3).map(lambda parts: t("wait_combine")(*parts)),
    "wait_chain": lambda: st.lists(waits(nested=False), min_size=1, max_size=3).map(
        lambda parts: t("wait_chain")(*parts)
    ),
}
STOP: dict[str, Any] = {
    "stop_never": lambda: st.just(t("stop_never")),
    "stop_when_event_set": lambda: st.booleans().map(lambda on: t("stop_when_event_set")(event(on))),
    "stop_after_attempt": lambda: st.integers(1, LIMIT).map(t("stop_after_attempt")),
    "stop_after_delay": lambda: seconds.map(t("stop_after_delay")),
    "stop_before_delay": lambda: seconds.map(t("stop_before_delay")),
    "stop_any": lambda: st.lists(stops(nested=False), max_size=3).map(lambda parts: t("stop_any")(*parts)),
    "stop_all": lambda: st.lists(stops(nested=False), min_size=1, max_size=3).map(lambda parts: t("stop_all")(*parts)),
}
HOOKS = {
    "before": {"before_nothing", "before_log"},
    "after": {"after_nothing", "after_log"},
    "before_sleep": {"before_sleep_nothing", "before_sleep_log"},
}
NESTING = {"retry_any", "retry_all", "wait_combine", "wait_chain", "stop_any", "stop_all"}


def event(on: bool) -> threading.Event:
    made = threading.Event()
    if on:
        made.set()
    return made


def one_of(table: dict[str, Any], module: str, nested: bool) -> st.SearchStrategy[Any]:
    names = sorted(name for name in have(module) & set(table) if nested or name not in NESTING)
    return st.sampled_from(names).flatmap(lambda name: table[name]())


def retries(*, nested: bool = True) -> st.SearchStrategy[Any]:
    return one_of(RETRY, "tenacity.retry", nested)


def waits(*, nested: bool = True) -> st.SearchStrategy[Any]:
    return one_of(WAIT, "tenacity.wait", nested)


def stops(*, nested: bool = True) -> st.SearchStrategy[Any]:
    return one_of(STOP, "tenacity.stop", nested)


@pytest.mark.parametrize(
    ("module", "table"), [("tenacity.retry", RETRY), ("tenacity.wait", WAIT), ("tenacity.stop", STOP)]
)
def test_every_public_strategy_of_tenacity_is_generated_here(module: str, table: dict[str, Any]) -> None:
    """A new class in tenacity fails this test until the differential test knows it."""
    assert have(module) - set(table) == set()


@pytest.mark.parametrize("module", sorted(HOOKS))
def test_every_public_hook_of_tenacity_is_generated_here(module: str) -> None:
    """A new hook in tenacity fails this test until the differential test knows it."""
    assert have_hooks(f"tenacity.{module}") - HOOKS[module] == set()


# -------------------------------------------------------------------------------------------------------------- one run


class Ending(tenacity.RetryError):
    """A `retry_error_cls` of one's own."""


class Trace(list[Any]):
    """What happened, in order, with times since the beginning."""

    def __init__(self) -> None:
        self.began = clock.monotonic()

    def add(self, what: str, *facts: Any) -> None:
        self.append((what, round(clock.monotonic() - self.began, 6), *facts))

    def log(self, level: int, message: str, *args: Any) -> None:
        self.add("log", level, message)

    def saw(self, hook: str, state: tenacity.RetryCallState) -> None:
        outcome: Any = state.outcome
        since = state.seconds_since_start
        self.add(
            hook,
            state.attempt_number,
            None if outcome is None else shown(outcome),
            state.fn is not None and state.fn.__name__,
            (state.args, state.kwargs),
            round(state.idle_for, 6),
            None if hook == "before" or not HAS_UPCOMING else round(state.upcoming_sleep, 6),
            None if since is None else round(since, 6),
            state.next_action and round(state.next_action.sleep, 6),
        )

    def hook(self, name: str, kind: str, asynchronous: bool) -> Any:
        if kind == "none":
            return None if name == "before_sleep" else t(f"{name}_nothing")
        if kind == "log":
            return t(f"{name}_log")(self, 20)
        if kind == "nothing":
            return t(f"{name}_nothing")
        if not asynchronous:
            return lambda state: self.saw(name, state)

        async def hook(state: tenacity.RetryCallState) -> None:
            await anyio.lowlevel.checkpoint()
            self.saw(name, state)

        return hook


HAS_UPCOMING = hasattr(tenacity.RetryCallState(None, None, (), {}), "upcoming_sleep")  # type: ignore[arg-type]
HAS_ASYNC_HOOKS = importlib.util.find_spec("tenacity.asyncio") is not None


def shown(outcome: Any) -> tuple[Any, ...]:
    assert outcome.done()
    assert not outcome.cancelled()
    error = outcome.exception()
    if error is None:
        return outcome.attempt_number, outcome.failed, outcome.result()
    with pytest.raises(type(error)):
        outcome.result()
    return outcome.attempt_number, outcome.failed, repr(error)


def make(kind: str, number: int) -> Exception:
    if kind == "cause":
        error: Exception = RuntimeError(f"boom {number}")
        error.__cause__ = ValueError("the cause")
        return error
    if kind == "group":
        return ExceptionGroup(f"boom {number}", [ConnectionError("leaf")])
    errors: dict[str, type[Exception]] = {
        "value": ValueError,
        "key": KeyError,
        "connection": ConnectionError,
        "again": tenacity.TryAgain,
        "stop": RuntimeError,
    }
    return errors[kind](f"boom {number}")


outcomes = st.lists(
    st.tuples(
        seconds,
        st.one_of(st.integers(0, 3), st.sampled_from(["value", "key", "connection", "cause", "again", "group"])),
    ),
    min_size=1,
    max_size=LIMIT,
)


def scripted(h: Harness, script: list[tuple[float, Any]], trace: Trace) -> Any:
    """A function that does what the script says, and then goes on doing the last of it."""
    remaining = iter(script)
    numbers = iter(range(1, 100))

    async def work(argument: str) -> Any:
        number = next(numbers)
        duration, outcome = next(remaining, script[-1])
        trace.add("call", number, argument)
        await h.sleep(duration)
        if isinstance(outcome, str):
            raise make(outcome, number)
        return outcome

    return h.fn(work)


async def ended(trace: Trace, run: Any) -> None:
    """Record how `run()` ends."""
    try:
        result = await run()
    except tenacity.RetryError as error:
        facts = shown(error.last_attempt)
        trace.add("raised", type(error).__name__, facts, repr(error.__cause__), str(error.__cause__))
    except Exception as error:
        trace.add("raised", repr(error))
    else:
        trace.add("returned", result)


OPTIONS = st.fixed_dictionaries(
    {
        "retry": retries(),
        "wait": waits(),
        "stop": stops().map(lambda stop: tenacity.stop_any(stop, tenacity.stop_after_attempt(LIMIT))),
    }
)
HOOK_KINDS = st.fixed_dictionaries({name: st.sampled_from(["none", "nothing", "log", "saw"]) for name in HOOKS})
ENDINGS = st.sampled_from(["error", "reraise", "class", "callback"])


def options_of(trace: Trace, options: Any, hooks: Any, ending: str, asynchronous: bool) -> dict[str, Any]:
    made: dict[str, Any] = {**options}
    made |= {name: trace.hook(name, kind, asynchronous) for name, kind in hooks.items()}
    if ending == "reraise":
        made["reraise"] = True
    elif ending == "class":
        made["retry_error_cls"] = Ending
    elif ending == "callback":

        def callback(state: tenacity.RetryCallState) -> str:
            trace.saw("callback", state)
            return "called back"

        made["retry_error_callback"] = callback
    return made


def timed() -> Any:
    """tenacity under the clock that everything else here runs by."""
    return mock.patch("tenacity.time", SimpleNamespace(monotonic=lambda: clock.monotonic()))


def tenacity_itself(h: Harness, script: Any, parts: Any, seed: int) -> Trace:
    """What tenacity does with the parts."""

    async def scenario() -> Trace:
        trace = Trace()
        work = scripted(h, script, trace)
        random.seed(seed)
        chance.seed(seed)
        with timed():
            if h.blocking:

                async def run() -> Any:
                    return tenacity.Retrying(sleep=lambda delay: clock.sleep(delay), **parts(trace))(work, "argument")
            else:

                async def run() -> Any:
                    retrying: Any = tenacity.AsyncRetrying(sleep=anyio.sleep, **parts(trace))
                    return await retrying(work, "argument")

            await ended(trace, run)
        return trace

    # Each run has a clock of its own: from different beginnings the same durations round differently.
    result: Trace = run_on(h.runtime, scenario)
    return result


def in_a_policy(h: Harness, script: Any, strategy: Any, seed: int) -> Trace:
    """What a policy does with the strategy."""

    async def scenario() -> Trace:
        trace = Trace()
        work = scripted(h, script, trace)
        policy = Policy(strategy(trace))
        random.seed(seed)
        chance.seed(seed)
        await ended(trace, lambda: h.call(policy, work, "argument"))
        return trace

    result: Trace = run_on(h.runtime, scenario)
    return result


quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("runtime", RUNTIMES)
@quick
@given(
    options=OPTIONS,
    hooks=HOOK_KINDS,
    ending=ENDINGS,
    script=outcomes,
    seed=st.integers(0, 99),
    asynchronous=st.booleans(),
)
def test_a_native_object_does_in_a_policy_what_it_does_alone(
    runtime: str, options: Any, hooks: Any, ending: str, script: Any, seed: int, asynchronous: bool
) -> None:
    """Calls, waits, what each hook saw, and the ending of a native object are tenacity's own."""
    h = Harness(runtime)
    asynchronous = asynchronous and not h.blocking and HAS_ASYNC_HOOKS
    native: Any = tenacity.Retrying if h.blocking else tenacity.AsyncRetrying

    theirs = tenacity_itself(h, script, lambda trace: options_of(trace, options, hooks, ending, asynchronous), seed)
    ours = in_a_policy(
        h,
        script,
        lambda trace: adapt_native(native(**options_of(trace, options, hooks, ending, asynchronous))),
        seed,
    )
    assert ours == theirs


def let_out(trace: Trace) -> Trace:
    """What `Retry` makes of tenacity's ending: the user's own last error or result."""
    last = trace[-1]
    if last[0] == "raised" and last[2] == "RetryError":
        _, when, _, (_, failed, outcome), *_ = last
        trace[-1] = ("raised", when, outcome) if failed else ("returned", when, outcome)
    return trace


@pytest.mark.parametrize("runtime", RUNTIMES)
@quick
@given(
    options=OPTIONS,
    attempts=st.none() | st.integers(1, LIMIT),
    hooks=HOOK_KINDS,
    script=outcomes,
    seed=st.integers(0, 99),
)
def test_retry_does_with_tenacitys_parts_what_tenacity_does(
    runtime: str, options: Any, attempts: int | None, hooks: Any, script: Any, seed: int
) -> None:
    """`Retry` makes of the same parts the attempts, waits and hook calls that tenacity makes of them."""
    h = Harness(runtime)
    limit = tenacity.stop_never if attempts is None else tenacity.stop_after_attempt(attempts)
    with_limit = {**options, "stop": tenacity.stop_any(limit, options["stop"])}

    def ours(trace: Trace) -> Retry:
        parts = options_of(trace, options, hooks, "error", False)
        return Retry(attempts, on=parts.pop("retry"), **parts)

    theirs = tenacity_itself(h, script, lambda trace: options_of(trace, with_limit, hooks, "error", False), seed)
    assert in_a_policy(h, script, ours, seed) == let_out(theirs)


@pytest.mark.parametrize("runtime", RUNTIMES)
@quick
@given(
    wanted=kinds,
    as_types=st.booleans(),
    results=st.sampled_from([None, "plain", "tenacity"]),
    script=outcomes,
    wait=waits(),
)
def test_types_and_predicates_choose_as_tenacitys_objects_do(
    runtime: str, wanted: Any, as_types: bool, results: str | None, script: Any, wait: Any
) -> None:
    """An exception type is `retry_if_exception_type`, a predicate `retry_if_exception`, `when` `retry_if_result`."""
    h = Harness(runtime)
    script = [
        (duration, "value" if outcome == "group" else outcome) for duration, outcome in script
    ]  # groups are looked into
    theirs_retry: Any = tenacity.retry_if_exception_type(wanted)
    if results is not None:
        theirs_retry |= tenacity.retry_if_result(is_even)
    when = {None: None, "plain": is_even, "tenacity": tenacity.retry_if_result(is_even)}[results]
    hooks = dict.fromkeys(HOOKS, "saw")
    options = {"retry": theirs_retry, "wait": wait, "stop": tenacity.stop_after_attempt(LIMIT)}

    def ours(trace: Trace) -> Retry:
        parts = options_of(trace, options, hooks, "error", False)
        del parts["retry"], parts["stop"]
        return Retry(LIMIT, on=wanted if as_types else of_kind(*wanted), when=when, **parts)

    theirs = tenacity_itself(h, script, lambda trace: options_of(trace, options, hooks, "error", False), 1)
    assert in_a_policy(h, script, ours, 1) == let_out(theirs)


@pytest.mark.skipif(not HAS_ASYNC_HOOKS, reason="this tenacity has no async retry objects")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@quick
@given(
    parts=st.lists(st.sampled_from(["error", "result"]) | retries(nested=False), min_size=1, max_size=3),
    every=st.booleans(),
    script=outcomes,
)
def test_tenacitys_async_retry_objects_decide_here_too(
    runtime: str, parts: list[Any], every: bool, script: Any
) -> None:
    """`tenacity.asyncio`'s `retry_if_exception`, `retry_if_result`, `retry_any` and `retry_all` are awaited."""
    from tenacity import asyncio as native

    async def wanted(error: BaseException) -> bool:
        await anyio.lowlevel.checkpoint()
        return isinstance(error, ValueError | ConnectionError)

    async def even(result: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return is_even(result)

    made = {"error": native.retry_if_exception(wanted), "result": native.retry_if_result(even)}
    chosen: Any = [made.get(part, part) if isinstance(part, str) else part for part in parts]
    retry = (native.retry_all if every else native.retry_any)(*chosen)
    h = Harness(runtime)
    options = {"retry": retry, "wait": tenacity.wait_fixed(1), "stop": tenacity.stop_after_attempt(LIMIT)}
    hooks = dict.fromkeys(HOOKS, "saw")

    def parts_of(trace: Trace) -> dict[str, Any]:
        return options_of(trace, options, hooks, "error", False)

    def ours(trace: Trace) -> Retry:
        given = parts_of(trace)
        return Retry(None, on=given.pop("retry"), **given)

    theirs = tenacity_itself(h, script, parts_of, 1)
    assert in_a_policy(h, script, lambda trace: adapt_native(tenacity.AsyncRetrying(**parts_of(trace))), 1) == theirs
    assert in_a_policy(h, script, ours, 1) == let_out(theirs)
