"""What happened, as small typed objects, and those who are told.

An event names the policy in whose call it happened ("" outside a call) and holds plain facts: no exception, argument,
result or URL. An *observer* is any callable that takes an event. A *recorder* (see `recorder`) follows one call and
also hears when the user's generator suspends and resumes it, which is what spans need. Neither can break a call: what
they raise is logged once.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from resilient_agents.base.fork import Lock
from resilient_agents.base.told import Told
from resilient_agents.base.trial import trial
from resilient_agents.events.recorder import Recorder

if TYPE_CHECKING:
    from resilient_agents.classify import Failure

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "CallEnded",
    "CallRejected",
    "CallStarted",
    "ChaosInjected",
    "CircuitChanged",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitOpened",
    "Disturbance",
    "Event",
    "FallbackUsed",
    "GaveUp",
    "HealthChecked",
    "HealthState",
    "HedgeStarted",
    "LateResult",
    "Observer",
    "Outcome",
    "Recorder",
    "RetryScheduled",
    "Subscription",
    "TimeoutExpired",
    "Waited",
    "publish",
    "subscribe",
]

Outcome = Literal["success", "failure", "rejected", "fallback", "cancelled"]
CircuitState = Literal["closed", "open", "half-open"]
Disturbance = Literal["latency", "error", "result", "truncated"]
WaitReason = Literal["backoff", "retry_after"]
HealthState = Literal["healthy", "degraded", "unhealthy", "unknown"]

logger = logging.getLogger("resilient_agents")
_NOTHING: Final[Mapping[str, int]] = {}


class Event(Told):
    """Base of all events. `policy`: the name of the policy in whose call it happened, "" outside a call."""

    policy: str


class CallStarted(Event):
    """An operation began. `deadline`: seconds that its caller's deadline left it, None where there was none.
    `configuration`: a fingerprint of the policy's strategies and their options, the same in all processes."""

    deadline: float | None = None
    configuration: str = ""


class CallEnded(Event):
    """An operation ended. `duration` in seconds; `failure` says what the caller saw, None unless an error came out.

    Where the time went, in seconds: `waited` for slots and tokens, `retry_waited` between attempts. `failed`: how many
    attempts failed, by the kind of their failure. `fallback`: who answered in its place. Of a stream: seconds until its
    `first_item`, how many `items`, the `longest_gap` that its consumer waited for a further one, of how many `parts` it
    is made, and with which `finish` reason it says that it is complete, where a `StreamTimeout` knows its items.
    `unknown_outcome`: a call that may not be made twice may have taken effect all the same.

    `run_budget`: where one was in force, what it had spent and left then, of what it limits: "attempts.spent",
    "attempts.left", "tokens.spent", "tokens.left", "cost.spent", "cost.left".
    """

    outcome: Outcome
    attempts: int
    duration: float
    failure: Failure | None = None
    waited: float = 0.0
    retry_waited: float = 0.0
    failed: Mapping[str, int] = _NOTHING
    fallback: str | None = None
    first_item: float | None = None
    items: int | None = None
    longest_gap: float | None = None
    parts: int | None = None
    finish: str | None = None
    unknown_outcome: bool = False
    run_budget: Mapping[str, float] | None = None


class AttemptStarted(Event):
    """An attempt began; `attempt` counts from 1. `hedge`: which further request of a hedged call it belongs to, from
    1."""

    attempt: int
    hedge: int = 0


class AttemptEnded(Event):
    """An attempt ended. `outcome` is never "fallback"; `duration` in seconds. `inner_retries`: how often the client
    library itself tried again meanwhile, None where it does not say."""

    attempt: int
    outcome: Outcome
    duration: float
    failure: Failure | None = None
    inner_retries: int | None = None


class RetryScheduled(Event):
    """Attempt `attempt` failed and another follows after `delay` seconds. `reason` says where the delay comes from."""

    attempt: int
    delay: float
    reason: WaitReason
    failure: Failure | None


class GaveUp(Event):
    """A retryable failure is not retried any more. `elapsed` in seconds since the first attempt began."""

    attempts: int
    elapsed: float
    reason: Literal["stop", "retry_after", "deadline", "budget", "unknown_outcome"]
    failure: Failure | None


class CallRejected(Event):
    """A strategy refused the call; with `shadow` it only would have. `name`: the breaker's or limiter's own name, if it
    has one."""

    strategy: str
    retry_after: float | None = None
    name: str | None = None
    shadow: bool = False


class Waited(Event):
    """A call waited `seconds`: for a slot of a bulkhead or a token of a rate limit, whether it got one or not, or
    between two attempts of a retry. `reason`: where the wait of a retry came from."""

    strategy: str
    seconds: float
    reason: WaitReason | None = None


class TimeoutExpired(Event):
    """A time limit of `limit` seconds ended the call or attempt."""

    strategy: str
    limit: float


class LateResult(Event):
    """A blocking call came back `late` seconds after its limit of `limit` seconds; its value was returned all the
    same."""

    limit: float
    late: float


class FallbackUsed(Event):
    """A fallback stands in for an error, or for a result if `failure` is None. `by`: the name of the handler, of the
    function or of its policy; "value" for a value."""

    failure: Failure | None
    by: str | None = None


class HedgeStarted(Event):
    """A further request for the same call, the `hedge`th (from 1), began `after` seconds after the one before it: that
    one is slow, or has failed."""

    hedge: int
    after: float


class ChaosInjected(Event):
    """A `Chaos` made a call late ("latency"), failed it ("error"), answered it ("result"), or ended its stream early
    ("truncated")."""

    what: Disturbance


class CircuitChanged(Event):
    """Base of the three state changes. `shadow`: the breaker only watches."""

    circuit_breaker: str
    from_state: CircuitState
    to_state: CircuitState
    shadow: bool = False


class CircuitOpened(CircuitChanged):
    """The circuit opened: calls are rejected from now on."""


class CircuitHalfOpened(CircuitChanged):
    """The circuit lets probes through."""


class CircuitClosed(CircuitChanged):
    """The circuit closed: calls flow again."""


class HealthChecked(Event):
    """A health check ran, `duration` in seconds; `previous` is the status it had before."""

    health_check: str
    status: HealthState
    previous: HealthState
    duration: float
    critical: bool


Observer = Callable[[Event], object]


class Subscription:
    """An observer that cannot reach the caller: its first failure is logged, the rest are dropped silently."""

    __slots__ = ("_failed", "observer")

    def __init__(self, observer: Observer) -> None:
        if not callable(observer):
            raise TypeError(f"observer must be callable, got {type(observer).__name__}")
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(getattr(observer, "__call__", None)):  # noqa: B004
            raise TypeError("observer must be a plain function: nothing awaits it; hand events over to a queue instead")
        self.observer = observer
        self._failed = False

    def __call__(self, event: Event) -> None:
        try:
            self.observer(event)
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception(
                    "observer %r failed on %s; further failures of it are not logged",
                    self.observer,
                    type(event).__name__,
                )


_subscribing = Lock()
_subscriptions: tuple[Subscription, ...] = ()


def subscribe(observer: Observer) -> Callable[[], None]:
    """Tell `observer` of events outside any watched call, such as a manual `breaker.open()`. Returns what undoes it."""
    global _subscriptions
    subscription = Subscription(observer)
    with _subscribing:
        _subscriptions = (*_subscriptions, subscription)

    def unsubscribe() -> None:
        global _subscriptions
        with _subscribing:
            _subscriptions = tuple(s for s in _subscriptions if s is not subscription)

    return unsubscribe


def publish(event: Event) -> None:
    """Tell the subscribers of an event that belongs to no watched call."""
    for subscription in (*_subscriptions, *trial.observers):
        subscription(event)
