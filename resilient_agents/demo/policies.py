"""The policies of the demo: what one would put around these three calls in a program."""

from __future__ import annotations

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Policy,
    RateLimit,
    Resume,
    Retry,
    StreamTimeout,
    Timeout,
    exponential,
)
from resilient_agents.demo.traffic import Kind, chat_backup, tokens_after

__all__ = ["policies"]


def policies() -> dict[Kind, Policy]:
    """One policy for each kind of traffic. Agent and stream use the same model, so they share its circuit breaker."""
    model = _breaker("model")
    return {
        "agent": Policy(
            Fallback(chat_backup),
            Retry(4, wait=exponential(0.1, max=1.0)),
            model,
            RateLimit(60, burst=5),
            Bulkhead(8),
            Timeout(0.4),
            name="agent",
        ),
        "tool": Policy(
            Retry(4, wait=exponential(0.1, max=1.0)),
            _breaker("search"),
            Bulkhead(8),
            Timeout(0.4, thread=True),  # in a thread of its own, because a blocking function cannot be interrupted
            name="tool",
        ),
        "tokens": Policy(
            Resume(tokens_after, times=4),  # after a token: with those that are missing
            Retry(4, wait=exponential(0.1, max=1.0)),  # before the first token
            model,
            StreamTimeout(first_item=0.4, idle=0.4),
            name="tokens",
        ),
    }


def _breaker(name: str) -> CircuitBreaker:
    """Opens when most calls of the last second failed: a server that always fails a quarter of them is no outage."""
    return CircuitBreaker(name, failures=None, failure_rate=0.7, window=1.0, minimum_calls=8, reset_timeout=0.5)
