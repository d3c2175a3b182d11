"""Options of strategies, the classifier, deadlines, waits and errors."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, assert_type

import aiolimiter
import anyio
import pybreaker
import tenacity

from resilient_agents import (
    BudgetExceededError,
    Bulkhead,
    BulkheadFullError,
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceeded,
    Failure,
    Fallback,
    Gate,
    Hedge,
    Policy,
    PolicyTimeoutError,
    RateLimit,
    RateLimitedError,
    Rejected,
    ResilienceError,
    Resume,
    Retry,
    RetryBudget,
    StreamFailedError,
    StreamTimeout,
    StreamTimeoutError,
    StreamTruncatedError,
    Timeout,
    Usage,
    chaos,
    classify,
    counts_against_dependency,
    deadline,
    exponential,
    fibonacci,
    fixed,
    http_failure,
    idempotency_key,
    is_transient,
    json_lines,
    linear,
    opened,
    register,
    remaining,
    run_budget,
    sse_done,
    usage_of,
)
from resilient_agents.integrations.resuming import without_overlap


class MyError(Exception):
    pass


def mine(error: Exception) -> bool:
    return "mine" in str(error)


# ---------------------------------------------------------------------------------------------------------------- retry

Retry()
Retry(5, on=MyError, wait=fixed(1), stop=tenacity.stop_after_delay(10))
Retry(5, on=(is_transient, MyError, mine), when=http_failure, max_retry_after=timedelta(minutes=1))
Retry(5, on=tenacity.retry_if_exception_type(OSError), wait=tenacity.wait_fixed(1) + tenacity.wait_random(0, 1))
Retry(None, stop=tenacity.stop_after_attempt(3), before_sleep=lambda state: state.attempt_number)
Retry("3")  # type: ignore[arg-type]
Retry(3, 5)  # type: ignore[call-arg, arg-type]
Retry(on="MyError")  # type: ignore[arg-type]
Retry(wait=1)  # type: ignore[arg-type]
Retry(waits=fixed(1))  # type: ignore[call-arg]

budget = RetryBudget(0.1, per_second=2, window=timedelta(seconds=5))
RetryBudget(in_flight=0.2)
RetryBudget(in_flight="20%")  # type: ignore[arg-type]
Retry(budget=budget)
assert_type(budget.remaining, int)
Retry(budget=0.1)  # type: ignore[arg-type]

for wait in (
    exponential(0.1, factor=3, max=5),
    linear(1, step=2),
    fibonacci(timedelta(seconds=1)),
    fixed(2, jitter="full"),
):
    Retry(wait=wait)
    tenacity.Retrying(wait=wait)
exponential(jitter=lambda delay: delay * 2)
exponential(jitter=None)
exponential(jitter="some")  # type: ignore[arg-type]
exponential("1")  # type: ignore[arg-type]

# -------------------------------------------------------------------------------------------------------------- breaker

breaker = CircuitBreaker("openai", failures=None, failure_rate=0.5, window=timedelta(minutes=1), slow_call=5)
CircuitBreaker(on=(counts_against_dependency, MyError), when=http_failure, shadow=True)
assert_type(breaker.name, str | None)
assert_type(breaker.retry_after, float | None)
assert_type(breaker.metrics(), dict[str, Any])
if breaker.state == "half-open":
    breaker.close()
elif breaker.state == "open":
    breaker.half_open()
else:
    breaker.open()
breaker.state = "open"  # type: ignore[misc]
CircuitBreaker(failures="5")  # type: ignore[arg-type]
CircuitBreaker(5)  # type: ignore[arg-type]
CircuitBreaker("openai", 5)  # type: ignore[call-arg]

# --------------------------------------------------------------------------------------------------------------- others

bulkhead = Bulkhead(8, queue=100, max_wait=timedelta(seconds=1), isolation="thread")
assert_type(bulkhead.in_use, int)
assert_type(bulkhead.metrics(), dict[str, Any])
assert_type(Retry(3).metrics(), dict[str, Any])
Bulkhead(8, shadow=True).reset_metrics()
Bulkhead(8, shadow="yes")  # type: ignore[arg-type]
Bulkhead(8, isolation="process")  # type: ignore[arg-type]
Bulkhead()  # type: ignore[call-arg]

limit = RateLimit(60, per=60, burst=5, max_wait=1, cost=lambda prompt: len(prompt))
RateLimit("60/min", shadow=True)
assert_type(limit.metrics(), dict[str, Any])
assert_type(limit.available, float)
RateLimit(100, settle=lambda used: used).learn({"x-ratelimit-limit-requests": "60"}, of="requests")
RateLimit(None)  # type: ignore[arg-type]
RateLimit(5, settle=5)  # type: ignore[arg-type]

gate = Gate("vendor", max_wait=timedelta(minutes=1))
assert_type(gate.retry_after, float)
assert_type(gate.queued, int)
assert_type(gate.metrics(), dict[str, Any])
Policy(Retry(3), CircuitBreaker(), gate, limit)
Gate(max_wait=None)
Gate(max_wait="long")  # type: ignore[arg-type]

Timeout(1)
Timeout(timedelta(seconds=1), thread=True)
Timeout("1")  # type: ignore[arg-type]
Timeout(1, thread="yes")  # type: ignore[arg-type]

Fallback(lambda error, prompt: "sorry")
Fallback(value=None, on=(is_transient, ResilienceError), when=lambda result: result is None)
Fallback(to=[lambda prompt: "sorry", (lambda prompt: "sorry", Policy(Retry(2)))], on=TimeoutError)
Fallback("sorry")  # type: ignore[arg-type]
Fallback(to="sorry")  # type: ignore[arg-type]

Hedge(0.5)
Hedge(timedelta(milliseconds=500), extra=2, on=(is_transient, KeyError), budget=budget)
Hedge("1")  # type: ignore[arg-type]
Hedge(1, extra="2")  # type: ignore[arg-type]

StreamTimeout(first_item=10, idle=timedelta(seconds=5), total=60, complete=sse_done, preamble=None, thread=True)
StreamTimeout(complete="always")  # type: ignore[arg-type]
StreamTimeout(10)  # type: ignore[call-arg]
assert_type(json_lines("{}"), bool)
assert_type(StreamTimeoutError().which, str | None)
assert_type(StreamFailedError().code, str | None)


def lines_of(path: str) -> AbstractContextManager[list[str]]:
    raise NotImplementedError


Policy().stream(opened(lines_of, items=iter), "path")
opened(lines_of, items="lines")  # type: ignore[arg-type]

Resume(lambda items, prompt: iter(items), times=3, on=(is_transient, KeyError))
Resume("more")  # type: ignore[arg-type]
Resume(print, times="2")  # type: ignore[arg-type]
assert_type([*without_overlap("a", iter("b"))], list[str])

Policy(
    tenacity.Retrying(),
    tenacity.AsyncRetrying(),
    pybreaker.CircuitBreaker(),
    anyio.CapacityLimiter(1),
    aiolimiter.AsyncLimiter(1),
    Policy(Retry()),
)

# ----------------------------------------------------------------------------------------------- failures and deadlines

failure = classify(MyError())
assert_type(failure, Failure)
assert_type(failure.transient, bool)
assert_type(failure.status, int | None)
assert_type(failure.code, str | None)
assert_type(failure.retry_after, float | None)
assert_type(is_transient(MyError()), bool)
assert_type(counts_against_dependency(MyError()), bool)
assert_type(http_failure(object()), bool)
register(MyError, kind="server", transient=False)
Chaos(error=ConnectionError, error_rate=0.5, latency=timedelta(seconds=1), at=3, seed="x")
Chaos(error="overload", when=lambda *_, **__: True)
Chaos(ConnectionError)  # type: ignore[call-arg]
with chaos("openai", result={}) as injected:
    assert_type(injected, Chaos)

register(MyError, kind="serve")  # type: ignore[arg-type]
register("MyError", kind="server")  # type: ignore[arg-type]
classify("error")  # type: ignore[arg-type]
if failure.kind == "rate_limit" and failure.verdict == "neutral":
    failure.kind = "server"  # type: ignore[misc]

assert_type(deadline(5), AbstractContextManager[None])
with deadline(timedelta(seconds=5)):
    assert_type(remaining(), float | None)
deadline("5")  # type: ignore[arg-type]
assert_type(idempotency_key(), str)

with run_budget(attempts=5, tokens=1_000, cost=2.5, prices={"gpt-5": (1.25, 10.0)}, estimate=lambda *_: 10) as run:
    assert_type(run.spent.attempts, float | None)
    assert_type(run.left.cost, float | None)
assert_type(usage_of(object()), Usage | None)
assert_type(Usage(1, 2).tokens, float)
run_budget(attempts="5")  # type: ignore[arg-type]

# --------------------------------------------------------------------------------------------------------------- errors

try:
    Policy().call(print)
except (CircuitOpenError, BulkheadFullError, RateLimitedError, BudgetExceededError) as refused:
    rejected: Rejected = refused
    assert_type(refused.retry_after, float | None)
    assert_type(refused.policy, str | None)
except DeadlineExceeded as late:
    timed_out: PolicyTimeoutError = late
    builtin: TimeoutError = late
    assert_type(late.limit, float | None)
except StreamTruncatedError as truncated:
    connection: ConnectionError = truncated
except ResilienceError as error:
    runtime: RuntimeError = error

native: pybreaker.CircuitBreakerError = CircuitOpenError("open")
Rejected("no", reason="because")  # type: ignore[call-arg]
