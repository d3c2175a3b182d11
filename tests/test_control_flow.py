"""What frameworks steer with is nobody's failure."""

from __future__ import annotations

import asyncio
import bdb
import queue
import ssl
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pybreaker
import pytest
import tenacity
import trio

from resilient_agents import CircuitBreaker, Fallback, Hedge, Policy, Retry, classify, fixed, is_transient, register
from resilient_agents.classify import traits
from tests.classify_server import foreign

BUBBLE = foreign("langgraph.errors.GraphBubbleUp")
PREDICATE = foreign("celery.exceptions.TaskPredicate", foreign("celery.exceptions.CeleryError"))
TRIPWIRE = foreign("agents.exceptions.AgentsException")


class Pause(Exception):
    """A user's own way to ask a human."""


@pytest.fixture(autouse=True)
def taught() -> Iterator[None]:
    register(Pause, kind="control")
    yield
    traits.registered.pop(id(Pause))
    traits.known = {}


def pydantic_ai(name: str) -> type[Any]:
    return foreign(f"pydantic_ai.exceptions.{name}", message="the tool wants another try")


STEERING: dict[str, Callable[..., Exception]] = {
    "registered": Pause,
    "registered, by its base": type("Special", (Pause,), {}),
    "GraphBubbleUp": BUBBLE,
    "GraphInterrupt": foreign("langgraph.errors.GraphInterrupt", BUBBLE),
    "a user's own": foreign("own.MyInterrupt", BUBBLE),
    "NodeInterrupt": foreign("langgraph.errors.NodeInterrupt", foreign("langgraph.errors.GraphInterrupt", BUBBLE)),
    "ParentCommand": foreign("langgraph.errors.ParentCommand", BUBBLE),
    "GraphDrained": foreign("langgraph.errors.GraphDrained", BUBBLE),
    **{name: foreign(f"celery.exceptions.{name}", PREDICATE) for name in ("Retry", "Ignore", "Reject")},
    "TaskRevokedError": foreign("celery.exceptions.TaskRevokedError", foreign("celery.exceptions.TaskError")),
    "SoftTimeLimitExceeded": foreign("billiard.exceptions.SoftTimeLimitExceeded"),
    **{
        name: pydantic_ai(name)
        for name in (
            *("ModelRetry", "ToolRetryError", "CallDeferred", "ApprovalRequired", "ToolFailed", "RetryModelRequest"),
            *("SkipModelRequest", "SkipToolExecution", "SkipToolValidation"),
        )
    },
    **{
        f"{side} tripwire": foreign(f"agents.exceptions.{side}GuardrailTripwireTriggered", TRIPWIRE)
        for side in ("Input", "Output", "ToolInput", "ToolOutput")
    },
    "ClientDisconnect": foreign("starlette.requests.ClientDisconnect"),
    "Abort": foreign("click.exceptions.Abort", RuntimeError),
    "Exit": foreign("click.exceptions.Exit", RuntimeError, exit_code=0),
    "Empty": queue.Empty,
    "Full": queue.Full,
    "QueueEmpty": asyncio.QueueEmpty,
    "QueueFull": asyncio.QueueFull,
    "WouldBlock": anyio.WouldBlock,
    "trio.WouldBlock": trio.WouldBlock,
    "SSLWantReadError": ssl.SSLWantReadError,
    "SSLWantWriteError": ssl.SSLWantWriteError,
    "BdbQuit": bdb.BdbQuit,
    "SkipTest": unittest.SkipTest,
    "a group of them": lambda: ExceptionGroup("g", [BUBBLE(), BUBBLE()]),
}
anything = pytest.mark.parametrize("make", STEERING.values(), ids=STEERING)


def always(error: Exception) -> bool:
    return True


def raised(policy: Policy, error: Exception) -> int:
    """How often a function that raises `error` runs under `policy`, which lets it out as it is."""
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)) as caught:
        policy.call(fail)
    assert caught.value is error
    assert not getattr(error, "__notes__", None)
    return calls


@anything
def test_control_flow_is_permanent_and_neutral(make: Callable[[], Exception]) -> None:
    """It is of a kind of its own, says nothing about the dependency and is never retried."""
    failure = classify(make())
    assert (failure.kind, failure.transient, failure.verdict) == ("control", False, "neutral")


@anything
@pytest.mark.parametrize("on", [is_transient, Exception, (Exception,), always, (ValueError, always)], ids=repr)
def test_nothing_retries_or_replaces_control_flow(make: Callable[[], Exception], on: Any) -> None:
    """`on=Exception` does not mean it, no predicate is heard about it, and it gets no note."""
    assert raised(Policy(Fallback(value=0, on=on), Retry(3, on=on, wait=fixed(0))), make()) == 1


@anything
def test_no_breaker_counts_control_flow(make: Callable[[], Exception]) -> None:
    """Neither by default nor with `on=Exception`, nor does a native one."""
    for breaker in (CircuitBreaker(failures=1), CircuitBreaker(failures=1, on=(Exception, always))):
        raised(Policy(breaker), make())
        assert (breaker.state, breaker.metrics()["neutral"]) == ("closed", 1)
    native = pybreaker.CircuitBreaker(fail_max=1)
    raised(Policy(native), make())
    assert native.current_state == "closed"


@anything
def test_no_hedge_follows_control_flow(make: Callable[[], Exception]) -> None:
    """It ends the call at once."""
    assert raised(Policy(Hedge(60, on=Exception)), make()) == 1


def test_control_flow_ends_a_stream_as_it_is() -> None:
    """A stream that raises it before the first item is neither retried nor replaced."""
    opened = []

    def items() -> Iterator[int]:
        opened.append(1)
        raise Pause
        yield 1

    stream = Policy(Fallback(value=0, on=Exception), Retry(3, on=Exception, wait=fixed(0))).stream(items)
    with pytest.raises(Pause):
        next(iter(stream))
    assert len(opened) == 1


@pytest.mark.parametrize("native", [tenacity.Retrying, tenacity.AsyncRetrying])
def test_a_native_retry_leaves_control_flow_alone(native: type[Any]) -> None:
    """tenacity's default is `on=Exception`, too."""
    options = {"stop": tenacity.stop_after_attempt(3), "sleep": lambda seconds: None}
    assert raised(Policy(native(**options)), Pause()) == 1
    either = tenacity.retry_any(tenacity.retry_if_exception_type(), tenacity.retry_if_result(bool))
    assert raised(Policy(native(retry=either, **options)), Pause()) == 1


def test_a_tenacity_object_that_does_not_name_it_does_not_mean_it() -> None:
    """One in `on=` is no other than a predicate of ours."""
    anything = tenacity.retry_if_exception(lambda error: True)
    assert raised(Policy(Retry(3, on=anything, wait=fixed(0))), Pause()) == 1


def test_who_names_it_means_it() -> None:
    """A type that is itself control flow is meant: polling a queue is a use of it."""
    polls = Policy(Retry(3, on=queue.Empty, wait=fixed(0)))
    with pytest.raises(queue.Empty) as caught:
        polls.call(queue.Queue[int]().get_nowait)
    assert caught.value.__notes__[0].startswith("gave up after 3 attempts")
    assert Policy(Fallback(value=7, on=(Exception, Pause))).call(queue_of_pauses) == 7
    breaker = CircuitBreaker(failures=1, on=Pause)
    raised(Policy(breaker), Pause())
    assert breaker.state == "open"


def queue_of_pauses() -> None:
    raise Pause


@pytest.mark.parametrize(
    "retry",
    [
        tenacity.retry_if_exception_type(queue.Empty),
        tenacity.retry_if_exception_type((ValueError, queue.Empty)),
        tenacity.retry_if_exception_type(queue.Empty) | tenacity.retry_if_result(bool),
    ],
)
def test_a_tenacity_object_that_names_it_means_it(retry: Any) -> None:
    """In a native retry and in `on=`."""
    nap = fixed(0)
    for strategy in (
        tenacity.Retrying(retry=retry, stop=tenacity.stop_after_attempt(3), wait=nap),
        Retry(on=retry, wait=nap),
    ):
        calls: list[int] = []

        def poll(calls: list[int] = calls) -> str:
            calls.append(1)
            if len(calls) < 3:
                raise queue.Empty
            return ""

        assert Policy(strategy).call(poll) == ""
        assert len(calls) == 3


def test_a_base_of_control_flow_does_not_mean_it() -> None:
    """`RuntimeError`, which click's Abort is, and a framework's general base class are no control flow."""
    assert raised(Policy(Retry(3, on=RuntimeError, wait=fixed(0))), STEERING["Abort"]()) == 1
    assert raised(Policy(Retry(3, on=TRIPWIRE, wait=fixed(0))), STEERING["Input tripwire"]()) == 1


def test_a_group_with_control_flow_in_it_is_left_alone_and_its_failures_count() -> None:
    """Whoever waits for the interrupt must see it; the dependency failed all the same."""
    mixed = ExceptionGroup("g", [Pause(), ConnectionError(), ValueError()])
    assert (classify(mixed).kind, classify(mixed).transient, classify(mixed).verdict) == ("control", False, "failure")
    assert raised(Policy(Fallback(value=0, on=Exception), Retry(3, on=Exception, wait=fixed(0))), mixed) == 1


def test_control_flow_explains_no_other_error() -> None:
    """`except queue.Empty: raise NoWorker()` is an error of its own."""
    error = RuntimeError("x")
    error.__cause__ = Pause()
    assert classify(error).kind == "unknown"


def test_what_control_flow_carries_changes_nothing() -> None:
    """Its class says it all: neither `transient`, a status nor a cause make a failure of it."""
    error = BUBBLE()
    error.__dict__.update(transient=True, status_code=503, retry_after=3)
    error.__cause__ = ConnectionError()
    assert (classify(error).kind, classify(error).transient, classify(error).retry_after) == ("control", False, None)


def test_control_flow_cannot_be_taught_to_be_transient() -> None:
    """The error names argument, rule and value."""
    with pytest.raises(ValueError, match="transient must not be True for kind 'control', .*, got True"):
        register(ValueError, kind="control", transient=True)
    register(Pause, kind="control", transient=False)


def test_real_frameworks_steer_with_what_the_tables_name() -> None:
    """Celery's, click's and starlette's own classes."""
    exceptions = pytest.importorskip("celery.exceptions")
    click = pytest.importorskip("click")
    requests = pytest.importorskip("starlette.requests")
    for error in (
        *(exceptions.Retry("later"), exceptions.Ignore(), exceptions.Reject("x"), exceptions.TaskRevokedError("x")),
        *(exceptions.SoftTimeLimitExceeded(), click.Abort(), click.exceptions.Exit(0), requests.ClientDisconnect()),
    ):
        assert classify(error).kind == "control", error
