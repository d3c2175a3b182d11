"""What spans say for those who play a recording again: in which order, under which configuration, ended by what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
import tenacity
from opentelemetry.sdk.trace import ReadableSpan

from resilient_agents import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Gate,
    Hedge,
    Policy,
    RateLimit,
    RateLimitedError,
    Retry,
    RetryBudget,
    Timeout,
    chaos,
    deadline,
    fixed,
    http_failure,
)
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.errors import PolicyTimeoutError, ResilienceError
from tests.conftest import Harness, run_on
from tests.telemetry.conftest import Sdk
from tests.telemetry.test_spans import HTTPError, flaky, ok

SEQUENCE, CONFIGURATION = "resilient_agents.sequence", "resilient_agents.configuration"
DEADLINE, STRATEGY = "resilient_agents.deadline", "resilient_agents.strategy"
RETRY_AFTER = "resilient_agents.retry_after"
BEGAN, WAITED = "resilient_agents.function_began", "resilient_agents.waited"
PASSED = ("resilient_agents.circuit_breaker", "resilient_agents.rate_limit", "resilient_agents.bulkhead")


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_operations_are_numbered_as_they_begin(h: Harness, sdk: Sdk) -> None:
    """Calls that start at the same moment have an order all the same."""
    policy = Policy(name="p")
    for _ in range(3):
        await h.call(policy, ok)
    first, second, third = (said(span)[SEQUENCE] for span in sdk.spans if span.name == "policy p")
    assert (second - first, third - second) == (1, 1)


async def test_the_deadline_in_force_is_on_the_operation(h: Harness, sdk: Sdk) -> None:
    """How many seconds the caller had left, when the call began; nothing where there was no deadline."""
    await h.call(Policy(name="p"), ok)
    assert DEADLINE not in said(sdk.operation)
    sdk.exporter.clear()
    with deadline(7):
        await h.call(Policy(name="p"), ok)
    assert said(sdk.operation)[DEADLINE] == pytest.approx(7)


async def test_an_attempt_says_what_the_server_asked_for(h: Harness, sdk: Sdk) -> None:
    """The server's Retry-After is on the attempt that it answered."""

    async def work() -> str:
        if len(sdk.attempts) == 0:
            error = HTTPError(429)
            error.retry_after = 7.0  # type: ignore[attr-defined]
            raise error
        return "ok"

    await h.call(Policy(Retry(2), name="p"), work)
    assert [said(span).get(RETRY_AFTER) for span in sdk.attempts] == [7.0, None]


async def test_an_attempt_says_whose_limit_ended_it(h: Harness, sdk: Sdk) -> None:
    """A time limit of ours, a refusal: by which strategy; an error of the function's own by none."""

    async def slow() -> None:
        await h.sleep(9)
        raise HTTPError(503)

    limit = Timeout(2, thread=False)
    with pytest.raises(PolicyTimeoutError):
        await h.call(Policy(Retry(1), limit, name="p"), slow)
    assert [said(span)[STRATEGY] for span in (*sdk.attempts, sdk.operation)] == ["timeout"] * 2
    sdk.exporter.clear()
    with pytest.raises(ResilienceError):
        policy = Policy(Retry(1), RateLimit(1, per=60, max_wait=0), name="p")
        for _ in range(2):
            await h.call(policy, ok)
    assert [said(span).get(STRATEGY) for span in sdk.spans] == [None, None, "rate_limit", "rate_limit"]
    sdk.exporter.clear()
    with pytest.raises(TimeoutError):
        await h.call(Policy(Retry(1), Timeout(9, thread=False), name="p"), own_timeout)
    assert [said(span).get(STRATEGY) for span in sdk.spans] == [None, None]


async def own_timeout() -> None:
    raise TimeoutError


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_the_last_attempt_decides_about_the_operation(runtime: str, sdk: Sdk) -> None:
    """An earlier attempt that a limit cut off is not what ended the operation."""

    async def work() -> None:
        if len(sdk.attempts) == 0:
            await anyio.sleep(9)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_on(runtime, lambda: Policy(Retry(2, wait=fixed(0)), Timeout(2), name="p").acall(work))
    assert [said(span).get(STRATEGY) for span in sdk.attempts] == ["timeout", None]
    assert STRATEGY not in said(sdk.operation)


# ------------------------------------------------------------------------------------------------ what a call came upon


async def test_an_attempt_says_when_the_function_began_and_what_it_waited_for(h: Harness, sdk: Sdk) -> None:
    """By strategy; where the function never began, nothing says that it did."""
    policy = Policy(Retry(1), Gate("g"), RateLimit(1, per=4), RateLimit(1, per=6), Bulkhead(1), name="p")
    await h.call(policy, ok)
    await h.call(policy, ok)
    first, second = map(said, sdk.attempts)
    assert first[BEGAN] == 0
    assert not {"resilient_agents.rate_limit_waited", "resilient_agents.bulkhead_waited"} & first.keys()
    assert second[BEGAN] == second["resilient_agents.rate_limit_waited"] == second[WAITED] == pytest.approx(6, abs=0.1)
    assert "resilient_agents.bulkhead_waited" not in second
    assert "resilient_agents.rate_limit_waited" not in said(sdk.spans[-1])


async def test_an_attempt_says_what_it_passed(h: Harness, sdk: Sdk) -> None:
    """Breakers and limits by their names; of one that was refused, those before the one that refused it."""
    breaker, limit = CircuitBreaker(f"c {h.runtime}", failures=1), RateLimit(1, per=60, max_wait=0)
    policy = Policy(Retry(1), breaker, limit, Bulkhead(3), name="p")
    await h.call(policy, ok)
    with pytest.raises(RateLimitedError):
        await h.call(policy, ok)
    breaker.open()
    with pytest.raises(CircuitOpenError):
        await h.call(policy, ok)
    assert [[said(span).get(name) for name in PASSED] for span in sdk.attempts] == [
        [f"c {h.runtime}", "unnamed", "unnamed"],
        [f"c {h.runtime}", None, None],
        [None, None, None],
    ]
    assert [BEGAN in said(span) for span in sdk.attempts] == [True, False, False]
    assert not set(PASSED) & said(sdk.spans[0]).keys()


@pytest.mark.parametrize(("estimate", "real"), [(10, 7), (10, 12), (0, 3)])
async def test_an_attempt_says_what_it_took_of_a_rate_limit(h: Harness, sdk: Sdk, estimate: float, real: float) -> None:
    """What it was to cost before it began, and what it did."""
    limit = RateLimit(100, cost=lambda: estimate, settle=lambda _: real)
    await h.call(Policy(Retry(2), limit, name="p"), ok)
    told = said(*sdk.attempts)
    assert (told["resilient_agents.cost"], told["resilient_agents.settled"]) == (estimate, real)


async def test_an_attempt_that_is_cut_off_in_line_has_not_passed_it(h: Harness, sdk: Sdk) -> None:
    """It passed what it did not wait for."""
    policy = Policy(Retry(1), Timeout(2, thread=False), CircuitBreaker(), RateLimit(1, per=60), name="p")
    await h.call(policy, ok)
    with pytest.raises(ResilienceError):
        await h.call(policy, ok)
    assert [said(sdk.attempts[-1]).get(name) for name in PASSED] == ["unnamed", None, None]


async def test_what_is_around_the_retry_the_operation_passes(h: Harness, sdk: Sdk) -> None:
    """And says how long it waited for it."""
    policy = Policy(RateLimit(1, per=4), Retry(1), Bulkhead(1), name="p")
    await h.call(policy, ok)
    await h.call(policy, ok)
    operation = said([span for span in sdk.spans if span.name == "policy p"][-1])
    assert [operation.get(name) for name in PASSED] == [None, "unnamed", None]
    assert operation["resilient_agents.rate_limit_waited"] == pytest.approx(4, abs=0.1)
    assert said(sdk.attempts[-1])[BEGAN] == 0


async def test_an_operation_says_in_which_state_it_found_the_policy(h: Harness, sdk: Sdk) -> None:
    """Circuits that are not closed and slots that are taken; a policy at rest says nothing."""
    breaker, bulkhead = CircuitBreaker(reset_timeout=5), Bulkhead(3)
    policy = Policy(breaker, bulkhead, name="p")

    async def work() -> None:
        await h.call(policy, ok)

    await h.call(Policy(bulkhead, name="outer"), work)
    breaker.open()
    with pytest.raises(CircuitOpenError):
        await h.call(policy, ok)
    await h.sleep(6)
    await h.call(policy, ok)
    await h.call(policy, ok)
    state, in_use = "resilient_agents.state", "resilient_agents.in_use"
    found = [(said(span).get(state), said(span).get(in_use)) for span in sdk.spans if span.name == "policy p"]
    assert found == [(None, 1), ("open", None), ("half-open", None), (None, None)]


async def test_what_the_default_decided_shows_in_what_follows(h: Harness, sdk: Sdk) -> None:
    """No function of the user's was asked."""
    with pytest.raises(HTTPError):
        await h.call(Policy(Retry(2, wait=fixed(0)), CircuitBreaker(), name="p"), flaky(9))
    assert not any("resilient_agents.decided" in said(span) for span in (sdk.operation, *sdk.attempts))


async def test_what_a_native_retry_decided_shows_in_what_follows(
    h: Harness, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not said, and nobody looks for its place."""
    native = tenacity.Retrying if h.blocking else tenacity.AsyncRetrying
    with pytest.raises(HTTPError):
        await h.call(Policy(native(retry=tenacity.retry_if_exception_type(KeyError)), name="p"), flaky(9))
    assert len(sdk.attempts) == 1
    assert not any("resilient_agents.decided" in said(span) for span in (sdk.operation, *sdk.attempts))
    assert not caplog.records


async def test_each_attempt_of_a_native_retry_is_one(h: Harness, sdk: Sdk) -> None:
    """As those of ours are, however deep inside of other strategies."""
    native = tenacity.Retrying if h.blocking else tenacity.AsyncRetrying
    assert await h.call(Policy(Timeout(9, thread=False), native(), name="p"), flaky(2)) == "ok"
    assert len(sdk.attempts) == 3


async def test_what_functions_decided_is_said_where_each_attempt_passes_them(h: Harness, sdk: Sdk) -> None:
    """Of breakers inside a retry on each attempt, the second one by its number; of a fallback around it on the
    operation."""
    fallback = Fallback(value=1, on=lambda error: True)
    breakers = [CircuitBreaker(f"{name} {h.runtime}", on=lambda error: True) for name in "ab"]
    await h.call(Policy(fallback, Retry(2, wait=fixed(0)), *breakers, name="p"), flaky(9))
    found = [said(span).get("resilient_agents.decided") for span in (sdk.operation, *sdk.attempts)]
    assert found == [("fallback yes",), *(("circuit_breaker 2 failure", "circuit_breaker failure"),) * 2]


# -------------------------------------------------------------------------------------------------------- configuration


async def test_the_configuration_is_the_same_until_it_changes(h: Harness, sdk: Sdk) -> None:
    """What a policy did, and what state its circuits are in, is no part of its configuration."""
    breaker = CircuitBreaker(f"kept {h.runtime}", failures=1)
    budget = RetryBudget(0.2)
    policy = Policy(Hedge(5), Retry(2, wait=fixed(0), budget=budget), breaker, RateLimit(9), Bulkhead(3), name="p")
    await h.call(policy, ok)
    with pytest.raises(ResilienceError):
        await h.call(policy, flaky(9))
    undo = policy.observe(lambda event: None)  # composes it anew
    await h.call(Policy(name="other"), ok)
    undo()
    breaker.close()
    await h.call(policy, ok)
    found = [said(span)[CONFIGURATION] for span in sdk.spans if span.name == "policy p"]
    assert len(found) == 3
    assert len(set(found)) == 1
    assert fingerprint((Retry(2),)) != fingerprint((Retry(3),))
    assert fingerprint((Retry(2), Bulkhead(1))) != fingerprint((Bulkhead(1), Retry(2)))


@pytest.mark.parametrize("strategy", [Retry, CircuitBreaker, partial(Fallback, value=1)])
def test_what_judges_results_is_part_of_the_configuration(strategy: Callable[..., Any]) -> None:
    """By its name, as it decides what fails."""
    assert fingerprint((strategy(when=http_failure),)) != fingerprint((strategy(),))


async def test_what_a_policy_was_told_of_writes_is_part_of_it(h: Harness, sdk: Sdk) -> None:
    """As it decides which calls are repeated."""
    seen = set[Any]()
    for idempotent in (None, True, False):
        await h.call(Policy(Retry(2), name="p", idempotent=idempotent), int)
        assert sdk.operation.attributes is not None
        seen.add(sdk.operation.attributes[CONFIGURATION])
        sdk.exporter.clear()
    assert len(seen) == 3


async def test_chaos_that_visits_a_policy_is_no_part_of_its_configuration(h: Harness, sdk: Sdk) -> None:
    """As it is there for a while only; what stands in the policy is part of it."""
    plain = Policy(name=f"visited {h.runtime}")
    await h.call(plain, int)
    with chaos(f"visited {h.runtime}", latency=1.0):
        await h.call(plain, int)
    await h.call(Policy(Chaos(latency=1.0)), int)
    found = [said(span)[CONFIGURATION] for span in sdk.spans if span.name.startswith("policy ")]
    assert found[0] == found[1] != found[2]


def test_what_has_no_options_is_part_of_the_configuration_by_its_class() -> None:
    """A name does not make it a visitor."""

    class Own:
        name = "own"

    found = fingerprint([Own()])
    assert found == fingerprint([Own()]) != fingerprint([])
    assert len(found) == 12


async def test_a_span_says_how_its_function_is_called(h: Harness, sdk: Sdk) -> None:
    """Where it is not simply awaited."""
    policy = Policy(name="p")
    await h.call(policy, int)
    first = sdk.operation.attributes
    sdk.exporter.clear()
    await h.items(policy.stream(lambda: [1]))
    second = sdk.operation.attributes
    called = [(said or {}).get("resilient_agents.called") for said in (first, second)]
    assert called == (["blocking", "blocking stream"] if h.blocking else [None, "stream"])


def test_the_configuration_is_the_same_in_another_process() -> None:
    """Neither hash seeds nor addresses get into it."""
    layers = "Retry(3, on=(ValueError, is_transient), wait=fixed(2)), Timeout(5), CircuitBreaker('c'), RateLimit(3)"
    code = (
        "from resilient_agents import *; from resilient_agents.core.fingerprint import fingerprint\n"
        f"print(fingerprint(({layers})))"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1
