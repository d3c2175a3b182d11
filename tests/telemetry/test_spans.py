"""Spans and their events, as section by section of the contract."""

from __future__ import annotations

import bdb
import contextlib
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, get_current_span

from resilient_agents import events
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.backoff import fixed
from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import CircuitOpenError, ResilienceError
from resilient_agents.policy import Policy
from resilient_agents.run_budgets import run_budget
from resilient_agents.strategies.fallback import Fallback
from tests.conftest import Harness, run_on
from tests.telemetry.conftest import Sdk, parent_of, told


class HTTPError(Exception):
    """What a client library raises: a status, and a key in its message."""

    def __init__(self, status: int, inner_retries: int | None = None) -> None:
        super().__init__(f"{status} for https://api.example/?key=SECRET")
        self.status_code = status
        if inner_retries is not None:  # as openai and anthropic say it
            self.request = SimpleNamespace(headers={"x-stainless-retry-count": str(inner_retries)})


class Tells:
    """A strategy that only tells of what happened: of a wait as strategies do, of all else by its event."""

    def __init__(self, *told: events.Event) -> None:
        self.told = told

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        for event in self.told:
            assert call.audience is not None
            if isinstance(event, events.Waited):
                call.audience.tell_of_wait(event.strategy, event.seconds, event.reason)
            else:
                call.audience.tell(event)
        return await proceed(call)


async def ok() -> str:
    return "ok"


async def fail(inner_retries: int | None = None) -> None:
    raise HTTPError(503, inner_retries)


def flaky(failures: int, status: int = 503) -> Any:
    left = failures

    async def work() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise HTTPError(status)
        return "ok"

    return work


async def test_an_operation_is_one_internal_span(h: Harness, sdk: Sdk) -> None:
    """A call makes one INTERNAL span `policy <name>` with its policy, number of attempts and outcome, and no status."""
    await h.call(Policy(name="search"), ok)
    span = sdk.operation
    assert span.name == "policy search"
    assert span.kind is SpanKind.INTERNAL
    assert told(span) == {
        "resilient_agents.policy": "search",
        "resilient_agents.attempts": 1,
        "resilient_agents.outcome": "success",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "resilient_agents"


async def test_a_policy_without_a_name_is_called_like_the_function(h: Harness, sdk: Sdk) -> None:
    """The span of an unnamed policy bears the guarded function's module and qualified name."""
    await h.call(Policy(), ok)
    assert sdk.operation.name == f"policy {h.fn(ok).__module__}.ok"


async def test_each_attempt_is_a_child_span(h: Harness, sdk: Sdk) -> None:
    """Three attempts are three child spans of the operation, numbered from 1."""
    await h.call(Policy(Retry(3, wait=fixed(1)), name="p"), flaky(2))
    assert [dict(span.attributes or {})["resilient_agents.attempt"] for span in sdk.attempts] == [1, 2, 3]
    assert [parent_of(span, sdk.spans) for span in sdk.attempts] == ["policy p"] * 3
    assert (sdk.operation.attributes or {})["resilient_agents.attempts"] == 3


async def test_a_failed_attempt_says_its_kind_and_status(h: Harness, sdk: Sdk) -> None:
    """A failed attempt has `error.type`, the HTTP status as an int, and status ERROR; one that succeeds has none."""
    await h.call(Policy(Retry(3, wait=fixed(1)), name="p"), flaky(1))
    first, second = sdk.attempts
    assert told(first) == {
        "resilient_agents.attempt": 1,
        "resilient_agents.outcome": "failure",
        "error.type": "overload",
        "http.response.status_code": 503,
    }
    assert first.status.status_code is StatusCode.ERROR
    assert told(second) == {"resilient_agents.attempt": 2, "resilient_agents.outcome": "success"}
    assert second.status.status_code is StatusCode.UNSET


async def test_a_retried_error_is_no_error_of_the_operation(h: Harness, sdk: Sdk) -> None:
    """An operation that a later attempt saved has no error and no status."""
    await h.call(Policy(Retry(3, wait=fixed(1)), name="p"), flaky(2))
    assert sdk.operation.status.status_code is StatusCode.UNSET
    assert "error.type" not in (sdk.operation.attributes or {})


async def test_an_operation_that_fails_is_an_error(h: Harness, sdk: Sdk) -> None:
    """When the caller sees the error, the operation has status ERROR and the failure's kind."""
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), fail)
    assert sdk.operation.status.status_code is StatusCode.ERROR
    assert sdk.operation.status.description == "overload 503"
    assert told(sdk.operation) == {
        "resilient_agents.policy": "p",
        "resilient_agents.attempts": 2,
        "resilient_agents.outcome": "failure",
        "resilient_agents.gave_up": "stop",
        "resilient_agents.retry_waited": 1.0,
        "resilient_agents.failed": ("overload",),
        "error.type": "overload",
        "http.response.status_code": 503,
    }


async def test_no_message_reaches_a_span(h: Harness, sdk: Sdk) -> None:
    """Statuses are described in words of a closed set and no exception is recorded: messages carry keys."""
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(1)), Fallback(lambda error: 1, on=KeyError), name="p"), fail)
    assert {span.status.description for span in sdk.spans} == {None, "overload 503"}
    assert "exception" not in [event.name for span in sdk.spans for event in span.events]
    assert "SECRET" not in "".join(span.to_json() for span in sdk.spans)


async def test_the_scheduled_retry_is_an_event(h: Harness, sdk: Sdk) -> None:
    """A retry leaves an event with its delay, the failed attempt, the delay's reason and the failure's kind."""
    await h.call(Policy(Retry(3, wait=fixed(1.5, jitter=None)), name="p"), flaky(1))
    assert sdk.events() == [
        (
            "retry.scheduled",
            {
                "resilient_agents.delay": 1.5,
                "resilient_agents.attempt": 1,
                "resilient_agents.reason": "backoff",
                "error.type": "overload",
                "http.response.status_code": 503,
            },
        )
    ]


async def test_the_reason_of_a_delay_shows(h: Harness, sdk: Sdk) -> None:
    """A wait that the server asked for has the reason `retry_after`."""

    async def work() -> str:
        if len(sdk.attempts) == 0:
            error = HTTPError(429)
            error.retry_after = 7.0  # type: ignore[attr-defined]
            raise error
        return "ok"

    await h.call(Policy(Retry(3, wait=fixed(0.1)), name="p"), work)
    ((name, attributes),) = sdk.events()
    assert name == "retry.scheduled"
    assert attributes["resilient_agents.reason"] == "retry_after"
    assert attributes["resilient_agents.delay"] >= 7.0


async def test_a_circuit_that_opens_is_an_event(h: Harness, sdk: Sdk) -> None:
    """The call that opens a circuit has an event with the breaker's name and both states."""
    with pytest.raises(HTTPError):
        await h.call(Policy(CircuitBreaker("openai", failures=1), name="p"), fail)
    assert sdk.events() == [
        (
            "circuit_breaker.state_change",
            {
                "resilient_agents.circuit_breaker": "openai",
                "resilient_agents.from": "closed",
                "resilient_agents.to": "open",
            },
        )
    ]


async def test_a_rejection_is_an_attempt_and_an_event(h: Harness, sdk: Sdk) -> None:
    """A refused call is an attempt with outcome `rejected`, an event, and an error of that kind for the caller."""
    breaker = CircuitBreaker("openai", failures=1, reset_timeout=30)
    breaker.open()
    with pytest.raises(CircuitOpenError):
        await h.call(Policy(breaker, name="p"), ok)
    ((name, attributes),) = sdk.events()
    assert name == "rejected"
    assert attributes["resilient_agents.strategy"] == "circuit_breaker"
    assert attributes["resilient_agents.circuit_breaker"] == "openai"
    assert 0 < attributes["resilient_agents.retry_after"] <= 30
    (attempt,) = sdk.attempts
    assert (attempt.attributes or {})["resilient_agents.outcome"] == "rejected"
    assert attempt.status.status_code is StatusCode.ERROR
    assert attempt.status.description == "rejected by circuit_breaker"
    assert (sdk.operation.attributes or {})["resilient_agents.outcome"] == "rejected"
    assert (sdk.operation.attributes or {})["error.type"] == "rejected"
    assert sdk.operation.status.status_code is StatusCode.ERROR


async def test_a_shadow_breaker_says_that_it_is_one(h: Harness, sdk: Sdk) -> None:
    """What a shadow breaker only would have refused is marked `shadow`."""
    breaker = CircuitBreaker("openai", failures=1, shadow=True)
    breaker.open()
    assert await h.call(Policy(breaker, name="p"), ok) == "ok"
    ((name, attributes),) = sdk.events()
    assert (name, attributes["resilient_agents.shadow"]) == ("rejected", True)
    assert (sdk.operation.attributes or {})["resilient_agents.outcome"] == "success"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])  # a blocking call comes back late instead
def test_a_time_limit_is_an_event(runtime: str, sdk: Sdk) -> None:
    """A limit that ends the call leaves an event with the strategy and the limit."""

    async def scenario() -> None:
        with pytest.raises(ResilienceError):
            await Policy(Timeout(2), name="p").acall(anyio.sleep, 5)

    run_on(runtime, scenario)
    assert sdk.events() == [("timeout", {"resilient_agents.strategy": "timeout", "resilient_agents.limit": 2.0})]
    assert (sdk.operation.attributes or {})["error.type"] == "timeout"


async def test_a_late_result_is_a_timeout_event(h: Harness, sdk: Sdk) -> None:
    """A value that came after its limit shows as a timeout event that says how late."""
    await h.call(Policy(Tells(events.LateResult("p", 2.0, 0.5)), name="p"), ok)
    assert sdk.events() == [
        (
            "timeout",
            {
                "resilient_agents.strategy": "timeout",
                "resilient_agents.limit": 2.0,
                "resilient_agents.late": 0.5,
            },
        )
    ]


async def test_a_fallback_is_an_event_and_an_outcome(h: Harness, sdk: Sdk) -> None:
    """An operation answered by a fallback has that outcome, says who answered, and has an event with the kind, and no
    error."""
    assert await h.call(Policy(Fallback(value="cached"), name="p"), fail) == "cached"
    kind = {"error.type": "overload", "http.response.status_code": 503}
    assert sdk.events() == [("fallback", {"resilient_agents.fallback": "value", **kind})]
    assert (sdk.operation.attributes or {})["resilient_agents.fallback"] == "value"
    assert (sdk.operation.attributes or {})["resilient_agents.outcome"] == "fallback"
    assert "error.type" not in (sdk.operation.attributes or {})
    assert sdk.operation.status.status_code is StatusCode.UNSET


async def test_an_unknown_outcome_is_said(h: Harness, sdk: Sdk) -> None:
    """A call that may not be made twice says that it may have taken effect, and that this is why it was given up."""
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(1)), name="p", idempotent=False), fail)
    attributes = sdk.operation.attributes or {}
    assert attributes["resilient_agents.unknown_outcome"] is True
    assert attributes["resilient_agents.gave_up"] == "unknown_outcome"


async def test_a_known_outcome_is_not_said(h: Harness, sdk: Sdk) -> None:
    """A call that is known to have taken effect, or not, has no such attribute."""
    await h.call(Policy(Retry(2, wait=fixed(1)), name="p", idempotent=False), ok)
    assert "resilient_agents.unknown_outcome" not in (sdk.operation.attributes or {})


async def test_a_spent_budget_is_a_rejection(h: Harness, sdk: Sdk) -> None:
    """A retry that a spent budget denied shows as a rejection by `retry_budget`, and as the reason for giving up."""
    await h.call(Policy(Tells(events.GaveUp("p", 1, 0.1, "budget", None)), name="p"), ok)
    assert sdk.events() == [("rejected", {"resilient_agents.strategy": "retry_budget"})]
    assert (sdk.operation.attributes or {})["resilient_agents.gave_up"] == "budget"


async def test_waiting_shows_on_attempt_and_operation(h: Harness, sdk: Sdk) -> None:
    """Seconds spent waiting for slots and tokens are an attribute of the attempt and of the operation."""

    class Queue:
        async def execute(self, proceed: Proceed, call: Call) -> Any:
            assert call.audience is not None
            call.audience.tell_of_wait("bulkhead", 0.5)
            call.audience.tell_of_wait("rate_limit", 0.25)
            return await proceed(call)

    await h.call(Policy(Retry(2), Queue(), name="p"), ok)
    assert (sdk.attempts[0].attributes or {})["resilient_agents.waited"] == 0.75
    assert (sdk.operation.attributes or {})["resilient_agents.waited"] == 0.75


async def test_control_flow_is_no_error(h: Harness, sdk: Sdk) -> None:
    """What frameworks steer with ends attempt and operation as a cancellation does: no status, no `error.type`."""

    async def steer() -> None:
        raise bdb.BdbQuit

    with pytest.raises(bdb.BdbQuit):
        await h.call(Policy(Retry(3), name="p"), steer)
    assert [told(span) for span in sdk.attempts] == [
        {"resilient_agents.attempt": 1, "resilient_agents.outcome": "cancelled"}
    ]
    assert told(sdk.operation) == {
        "resilient_agents.policy": "p",
        "resilient_agents.attempts": 1,
        "resilient_agents.outcome": "cancelled",
    }
    assert {span.status.status_code for span in sdk.spans} == {StatusCode.UNSET}


async def test_a_cancelled_operation_is_no_error(h: Harness, sdk: Sdk) -> None:
    """Cancellation has an outcome of its own, on the attempt and the operation, and no error."""

    async def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await h.call(Policy(Retry(3), name="p"), work)
    for span in (sdk.operation, *sdk.attempts):
        assert (span.attributes or {})["resilient_agents.outcome"] == "cancelled"
        assert "error.type" not in (span.attributes or {})
        assert span.status.status_code is StatusCode.UNSET


async def test_the_users_spans_nest_under_the_attempt(h: Harness, sdk: Sdk) -> None:
    """A span made in the guarded function is a child of its attempt."""

    async def work() -> None:
        await h.sleep(1)
        with sdk.tracer.start_as_current_span("mine"):
            await h.sleep(1)

    await h.call(Policy(Retry(3), Timeout(60, thread=False), name="p"), work)
    assert parent_of(sdk.span("mine"), sdk.spans) == "attempt 1"


async def test_a_fallbacks_spans_nest_under_the_operation(h: Harness, sdk: Sdk) -> None:
    """A span made in a fallback's handler, outside any attempt, is a child of the operation."""

    def handler(error: Exception) -> int:
        with sdk.tracer.start_as_current_span("mine"):
            return 1

    await h.call(Policy(Fallback(handler), Retry(1), name="p"), fail)
    assert parent_of(sdk.span("mine"), sdk.spans) == "policy p"


async def test_the_operation_nests_under_the_callers_span(h: Harness, sdk: Sdk) -> None:
    """The operation is a child of the span that is current where it is called, which is current again afterwards."""
    with sdk.tracer.start_as_current_span("request") as request:
        with contextlib.suppress(HTTPError):
            await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), fail)
        assert get_current_span() is request
    assert parent_of(sdk.operation, sdk.spans) == "request"


async def test_a_guarded_call_in_an_attempt_nests_under_it(h: Harness, sdk: Sdk) -> None:
    """Another policy called inside an attempt has an operation of its own, below that attempt."""

    async def work() -> Any:
        return await h.call(Policy(name="inner"), ok)

    await h.call(Policy(name="outer"), work)
    inner = sdk.span("policy inner")
    assert parent_of(inner, sdk.spans) == "attempt 1"


async def test_a_policy_inside_a_policy_is_one_operation(h: Harness, sdk: Sdk) -> None:
    """A policy used as a strategy makes no operation of its own."""
    await h.call(Policy(Policy(Retry(2), name="inner"), name="outer"), ok)
    assert [span.name for span in sdk.spans] == ["policy outer", "attempt 1"]


async def test_nothing_is_current_afterwards(h: Harness, sdk: Sdk) -> None:
    """After success, failure and cancellation alike the caller's context is as before."""
    for work in (ok, fail, flaky(1)):
        with contextlib.suppress(HTTPError):
            await h.call(Policy(Retry(2, wait=fixed(1)), name="p"), work)
        assert get_current_span() is INVALID_SPAN


async def test_links_and_baggage_are_left_alone(h: Harness, sdk: Sdk) -> None:
    """Baggage of the caller is there in the function; what the function adds and leaves is there for the caller."""
    from opentelemetry import baggage, context

    seen: list[object] = []

    async def work() -> None:
        seen.append(baggage.get_baggage("tenant"))
        context.attach(baggage.set_baggage("found", "yes"))

    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        await h.call(Policy(Retry(2), name="p"), work)
        assert seen == ["acme"]
        assert baggage.get_baggage("found") == "yes"
        assert get_current_span() is INVALID_SPAN
    finally:
        context.detach(token)
    assert not any(span.links for span in sdk.spans)


async def test_an_operation_says_what_the_budget_of_its_run_has_left(h: Harness, sdk: Sdk) -> None:
    """Numbers only, of what is limited; a stream says it at its end."""
    with run_budget(attempts=5, cost=2.0):
        await h.call(Policy(name="p"), int)
    said = dict(sdk.operation.attributes or {})
    assert {name: said[name] for name in said if ".run_" in name} == {
        "resilient_agents.run_attempts_spent": 1,
        "resilient_agents.run_attempts_left": 4,
        "resilient_agents.run_cost_spent": 0,
        "resilient_agents.run_cost_left": 2.0,
    }
