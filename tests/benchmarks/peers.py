"""The same strategies in every library, configured alike, without hooks, listeners or logs.

At most 3 attempts for ConnectionError, a circuit that 5 failures open for 30 s, a rate that is never reached, 100 calls
at a time, 10 s an attempt. Where libraries differ the nearest thing is taken, and `NOTES` says what it is. A peer that
is not installed answers `Absent`.
"""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import aiolimiter
import anyio
import pybreaker
import tenacity

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, Timeout

__all__ = [
    "NOTES",
    "RETRIED",
    "Absent",
    "Breaker",
    "Function",
    "Stack",
    "by_hand_async",
    "by_hand_sync",
    "hyx_breaker",
    "hyx_retry",
    "interlock_breaker",
    "nopanic",
    "our_window",
    "ours",
    "peer",
    "pybreaker_alone",
    "pyresilience",
    "redress_retry",
    "resilix_breaker",
    "resilix_retry",
    "stamina",
    "tenacity_alone",
]

Breaker = Literal["consecutive", "window"]
Function = Callable[..., Any]
Stack = Callable[[Function], Function]

ATTEMPTS = 3
RETRIED = ConnectionError
FAILURES = 5
RESET = 30.0
RATE = 1_000_000
SLOTS = 100
LIMIT = 10.0

NOTES = """\
µs: the bare call as it is, everybody else over it. Best batches are shown and compared; noise is how far our median lay
above our best.
by hand: tenacity, pybreaker, anyio and aiolimiter as their documentation shows them. An async function goes through
pybreaker's `calling()`, as its decorator does not see failures of coroutines. aiolimiter is for asyncio only: blocking
code gets a token bucket under a lock, and a semaphore for its slots.
nopanic: its circuit breaker always has a sliding window; see the rows with a window. Its bulkhead counts for each event
loop, and for threads, separately.
pyresilience: it has an order of its own (circuit, rate and slots once a call, outside the retries).
redress, resilix, hyx and interlock are compared where they do one thing alone; hyx knows coroutine functions only, and
interlock's breaker always has a window.
best rival: the fastest of the peers, by hand and the bare call left out, and what ours costs of it.
tenacity and stamina only retry, pybreaker only breaks circuits: beside more strategies they show what that one costs
there. With threads, pybreaker is `calling()`, and by hand is its decorator.
"""


class Absent(Exception):
    """A peer is not installed."""


def peer(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Absent("not installed") from None


def ours(*, breaker: Breaker = "consecutive", timeout: bool = False, thread: bool | None = None) -> Stack:
    circuit = CircuitBreaker(failures=FAILURES, reset_timeout=RESET) if breaker == "consecutive" else our_window()
    layers = [Retry(ATTEMPTS, on=RETRIED), circuit, RateLimit(RATE), Bulkhead(SLOTS)]
    return Policy(*layers, *([Timeout(LIMIT, thread=thread)] if timeout else []))


def our_window() -> CircuitBreaker:
    """Half of the calls of the last 30 seconds."""
    return CircuitBreaker(failures=None, failure_rate=0.5, window=30.0, reset_timeout=RESET)


def nopanic(*, timeout: bool = False) -> Stack:
    library = peer("nopanic")
    return library.compose(
        library.retry(ATTEMPTS, on=RETRIED),
        library.circuit_breaker(failure_threshold=0.5, window=30.0, reset_timeout=RESET),
        library.rate_limit(RATE),
        library.bulkhead(SLOTS),
        *([library.timeout(LIMIT)] if timeout else []),
    )


def pyresilience(*, breaker: Breaker = "consecutive", timeout: bool = False) -> Stack:
    library = peer("pyresilience")
    size = {} if breaker == "consecutive" else {"sliding_window_size": 100, "minimum_calls": 10}
    return library.resilient(
        retry=library.RetryConfig(ATTEMPTS, retry_on=(RETRIED,)),
        circuit_breaker=library.CircuitBreakerConfig(failure_threshold=FAILURES, recovery_timeout=RESET, **size),
        rate_limiter=library.RateLimiterConfig(RATE, 1.0),
        bulkhead=library.BulkheadConfig(SLOTS),
        timeout=library.TimeoutConfig(LIMIT, per_attempt=True) if timeout else None,
    )


def tenacity_alone(**options: Any) -> Stack:
    chosen: dict[str, Any] = {
        "stop": tenacity.stop_after_attempt(ATTEMPTS),
        "wait": tenacity.wait_random_exponential(multiplier=0.5, max=30.0),
        "retry": tenacity.retry_if_exception_type(RETRIED),
        "reraise": True,
    }
    return tenacity.retry(**{**chosen, **options})


def stamina(**options: Any) -> Stack:
    library = peer("stamina")
    library.instrumentation.set_on_retry_hooks(())
    return library.retry(on=RETRIED, attempts=ATTEMPTS, **options)


def redress_retry() -> Stack:
    return peer("redress").retry(strategy=lambda attempt, kind, slept: 0.0, max_attempts=ATTEMPTS)


def resilix_retry() -> Stack:
    return peer("resilix").protect.when(RETRIED, retry=ATTEMPTS)


def hyx_retry() -> Stack:
    """For coroutine functions only."""
    peer("hyx")
    return peer("hyx.retry").retry(on=RETRIED, attempts=ATTEMPTS, backoff=0.0)


def hyx_breaker() -> Stack:
    """For coroutine functions only."""
    peer("hyx")
    return peer("hyx.circuitbreaker").consecutive_breaker(exceptions=RETRIED, failure_threshold=FAILURES)


def resilix_breaker() -> Stack:
    return peer("resilix").protect.circuit(failures=FAILURES, reset_timeout=RESET)


def interlock_breaker() -> Stack:
    """Its breaker always has a window."""
    return peer("interlock").CircuitBreaker(name="bench")


def pybreaker_alone() -> Stack:
    """`calling()` for coroutine functions: the decorator counts none of their failures."""
    breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=RESET)

    def stack(fn: Function) -> Function:
        if not _is_async(fn):
            return breaker(fn)

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            with breaker.calling():
                return await fn(*args, **kwargs)

        return guarded

    return stack


def by_hand_async(*, timeout: bool = False) -> Stack:
    breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=RESET)
    rate = aiolimiter.AsyncLimiter(RATE, 1.0)
    slots = anyio.CapacityLimiter(SLOTS)

    def stack(fn: Function) -> Function:
        if timeout:

            @tenacity_alone()
            async def limited(*args: Any, **kwargs: Any) -> Any:
                with breaker.calling():
                    async with rate, slots:
                        with anyio.fail_after(LIMIT):
                            return await fn(*args, **kwargs)

            return limited

        @tenacity_alone()
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            with breaker.calling():
                async with rate, slots:
                    return await fn(*args, **kwargs)

        return guarded

    return stack


def by_hand_sync() -> Stack:
    breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=RESET)
    rate = _TokenBucket(RATE)
    slots = threading.BoundedSemaphore(SLOTS)

    def stack(fn: Function) -> Function:
        @tenacity_alone()
        @breaker
        def guarded(*args: Any, **kwargs: Any) -> Any:
            rate.take()
            with slots:
                return fn(*args, **kwargs)

        return guarded

    return stack


class _TokenBucket:
    """What one writes where the library is for asyncio only."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
                self._at = now
                if self._tokens >= 1:
                    self._tokens -= 1
                    return
                missing = (1 - self._tokens) / self._rate
            time.sleep(missing)


def _is_async(fn: Function) -> bool:
    return inspect.iscoroutinefunction(fn)
