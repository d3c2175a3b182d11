"""The errors a policy raises of its own.

```text
RuntimeError
└── ResilienceError
    ├── Rejected                 refused before the function ran: .policy .strategy .retry_after
    │   ├── CircuitOpenError     also a pybreaker.CircuitBreakerError
    │   ├── BudgetExceededError  the budget of the run: .budget .spent .limit
    │   ├── BulkheadFullError
    │   └── RateLimitedError
    ├── PolicyTimeoutError       also a TimeoutError: .policy .strategy .limit
    │   ├── DeadlineExceeded     the limit was the caller's deadline, not the policy's own
    │   └── StreamTimeoutError   the limit of a step of a stream: .which .items
    ├── StreamTruncatedError     also a ConnectionError
    └── StreamFailedError        a stream said by an event that it failed: .event .code .status_code
```

Everything else that leaves a policy is the user's own error, the same object.
All of them survive pickle and copy: each rebuilds from its message, the facts travel as attributes.
"""

from __future__ import annotations

from typing import Any

import pybreaker

__all__ = [
    "BudgetExceededError",
    "BulkheadFullError",
    "CircuitOpenError",
    "DeadlineExceeded",
    "PolicyTimeoutError",
    "RateLimitedError",
    "Rejected",
    "ResilienceError",
    "StreamFailedError",
    "StreamTimeoutError",
    "StreamTruncatedError",
]


class ResilienceError(RuntimeError):
    """Base of every error that a policy raises of its own."""


class Rejected(ResilienceError):
    """A strategy refused the call before the function ran.

    `policy` is the name of the policy, `strategy` that of the layer ("circuit_breaker", "bulkhead", ...),
    `retry_after` the seconds after which another call may be admitted, or None where nobody can know.
    """

    def __init__(
        self,
        message: str = "",
        *,
        policy: str | None = None,
        strategy: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.strategy = strategy
        self.retry_after = retry_after


class CircuitOpenError(Rejected, pybreaker.CircuitBreakerError):
    """The circuit breaker is open, or half-open with all its probes taken."""

    _facts: tuple[str, str] | None = None

    @property
    def args(self) -> tuple[Any, ...]:
        if self._facts is not None:
            (name, reason), self._facts = self._facts, None
            self.args = (f"{name!r} is {reason}; next probe in {self.retry_after:.1f} s",)  # pyright: ignore[reportIncompatibleVariableOverride]
        return super().args

    @args.setter
    def args(self, args: tuple[Any, ...]) -> None:
        BaseException.args.__set__(self, args)  # type: ignore[attr-defined]  # a slot in C

    def __str__(self) -> str:
        return str(*self.args[:1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.args))})"

    def __reduce__(self) -> Any:
        return type(self), self.args, vars(self)


def circuit_open(name: str, reason: str, policy: str, retry_after: float) -> CircuitOpenError:
    """A refusal whose message is made when somebody reads it: under load most are only caught."""
    error = _new(CircuitOpenError)
    error.policy = policy
    error.strategy = "circuit_breaker"
    error.retry_after = retry_after if retry_after > 0 else 0.0
    error._facts = (name, reason)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module
    return error


_new = CircuitOpenError.__new__


class BulkheadFullError(Rejected):
    """All slots of the bulkhead are taken and the call may not wait (longer)."""


class BudgetExceededError(Rejected):
    """The budget of the run has not enough left for another attempt.

    `budget`: which one ("attempts", "tokens" or "cost"); `spent`: what was used of it; `limit`: how much there was.
    """

    budget: str | None = None
    spent: float | None = None
    limit: float | None = None


class RateLimitedError(Rejected):
    """The rate limit has no token within the time the call may wait."""


class PolicyTimeoutError(ResilienceError, TimeoutError):
    """A time limit of the policy ended the call. `limit` is that limit in seconds."""

    def __init__(
        self,
        message: str = "",
        *,
        policy: str | None = None,
        strategy: str | None = None,
        limit: float | None = None,
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.strategy = strategy
        self.limit = limit


class DeadlineExceeded(PolicyTimeoutError):
    """The deadline that the caller set with `deadline()` ended the call."""


class StreamTimeoutError(PolicyTimeoutError):
    """A stream let its consumer wait too long.

    `which` limit it was ("first_item", "idle" or "total"; `limit` is how many seconds), after how many `items`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        policy: str | None = None,
        strategy: str | None = None,
        limit: float | None = None,
        which: str | None = None,
        items: int = 0,
    ) -> None:
        super().__init__(message, policy=policy, strategy=strategy, limit=limit)
        self.which = which
        self.items = items


class StreamTruncatedError(ResilienceError, ConnectionError):
    """A stream ended without the mark that says it is complete. `items`: how many came before."""

    def __init__(self, message: str = "", *, policy: str | None = None, items: int = 0) -> None:
        super().__init__(message)
        self.policy = policy
        self.items = items


class StreamFailedError(ResilienceError):
    """An item of a stream said that the stream has failed.

    `event` is the item's type (`response.failed`), `code` and `status_code` what it says of the reason, where it does.
    What kind of failure that is, `classify` tells by these.
    """

    def __init__(
        self,
        message: str = "",
        *,
        policy: str | None = None,
        event: str | None = None,
        code: str | None = None,
        status_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.event = event
        self.code = code
        self.status_code = status_code
