"""The presets, as the tables that a configuration file would hold.

The reason for every number stands on the page "Presets" of the documentation; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PRESETS"]

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llm": {
            "timeout": "3m",
            "retry": {
                "attempts": 4,
                "wait": {"kind": "exponential", "base": "1s", "max": "20s", "jitter": "full"},
                "budget": {"ratio": 0.3, "per_second": 0.3},
                "max_retry_after": "1m",
            },
            "circuit_breaker": {
                "failures": 8,
                "failure_rate": 0.5,
                "window": "2m",
                "minimum_calls": 10,
                "reset_timeout": "20s",
            },
            "gate": {"max_wait": "1m"},
            "bulkhead": {"limit": 160, "max_wait": "1m"},
            "attempt_timeout": "1m",
        },
        "http": {
            "timeout": "30s",
            "retry": {
                "attempts": 3,
                "wait": {"kind": "exponential", "base": "500ms", "max": "5s", "jitter": "full"},
                "budget": {"ratio": 0.3, "per_second": 0.2},
                "max_retry_after": "10s",
            },
            "circuit_breaker": {
                "failures": 10,
                "failure_rate": 0.5,
                "window": "20s",
                "minimum_calls": 10,
                "reset_timeout": "15s",
            },
            "bulkhead": {"limit": 100, "max_wait": "20s"},
            "attempt_timeout": "10s",
        },
        "database": {
            "timeout": "10s",
            "retry": {
                "attempts": 3,
                "on": ["connection", "conflict"],
                "wait": {"kind": "exponential", "base": "50ms", "max": "1s", "jitter": "full"},
            },
            "circuit_breaker": {"failures": 5, "reset_timeout": "5s"},
            "bulkhead": {"limit": 15, "max_wait": "2s"},
            "attempt_timeout": "4s",
        },
        "tool": {
            "timeout": "45s",
            "retry": {
                "attempts": 2,
                "on": ["rate_limit", "overload"],
                "wait": {"kind": "exponential", "base": "1s", "max": "5s", "jitter": "equal"},
                "max_retry_after": "10s",
            },
            "circuit_breaker": {
                "failures": 10,
                "failure_rate": 0.5,
                "window": "40s",
                "minimum_calls": 5,
                "reset_timeout": "20s",
            },
            "bulkhead": {"limit": 8, "max_wait": "10s"},
            "attempt_timeout": "20s",
        },
        "background": {
            "timeout": "15m",
            "retry": {
                "attempts": 8,
                "wait": {"kind": "exponential", "base": "2s", "max": "2m", "jitter": "full"},
                "budget": {"ratio": 0.2, "per_second": 0.2},
                "max_retry_after": "5m",
            },
            "bulkhead": {"limit": 4},
            "attempt_timeout": "1m",
        },
        "critical": {
            "timeout": "20s",
            "retry": {
                "attempts": 4,
                "wait": {"kind": "exponential", "base": "200ms", "max": "2s", "jitter": "equal"},
                "budget": {"ratio": 0.5, "per_second": 0.5},
                "max_retry_after": "5s",
            },
            "circuit_breaker": {
                "failures": 10,
                "failure_rate": 0.5,
                "window": "10s",
                "minimum_calls": 10,
                "reset_timeout": "5s",
                "half_open_calls": 3,
                "successes": 2,
            },
            "attempt_timeout": "4s",
        },
    }
)
"""By name, in canonical order; durations as a file would spell them."""
