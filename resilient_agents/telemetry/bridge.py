"""Does anybody record, and where: from the OpenTelemetry API's global state to a recorder for one call.

A policy asks `in_force()` on every call. Without a provider the answer costs two comparisons. When a provider appears,
disappears or is replaced, which is seen by its identity, everything is made anew from the providers in force.

One thread makes it, and no lock is held while it asks the providers. A call that this thread makes meanwhile (a
provider may itself make guarded calls) finds telemetry switched off. Calls of other threads wait until it is connected,
so that nothing of them is lost: for `PATIENCE` seconds at most, because a provider that hangs must not hold up calls.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import opentelemetry.metrics._internal as _metrics  # see `active`
from opentelemetry import metrics, trace
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER, OTEL_PYTHON_TRACER_PROVIDER

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.base.now import now
from resilient_agents.telemetry.faults import Faults
from resilient_agents.telemetry.settings import AttributesHook, Settings

if TYPE_CHECKING:
    from resilient_agents.telemetry.connected import Connected

__all__ = ["active", "configure", "in_force", "metering", "recorder", "tracing"]

PATIENCE: Final = 5.0  # seconds that calls wait for another thread to connect


class _Bridge:
    """What was found for one pair of global providers. `connected`: None where nobody records."""

    __slots__ = ("connected", "meter_source", "settings", "tracer_source")

    def __init__(self, settings: Settings, tracer_source: object, meter_source: object) -> None:
        self.settings = settings
        self.tracer_source = tracer_source
        self.meter_source = meter_source
        self.connected: Connected | None = None


class _Connecting:
    """That one thread is making a bridge."""

    __slots__ = ("done", "gives_up_at", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.gives_up_at = clock.monotonic() + PATIENCE
        self.done = threading.Event()

    def wait(self) -> bool:
        """Wait until it is over. False if it is not: this is the thread that does it, or it takes too long."""
        return self.thread != threading.get_ident() and self.done.wait(max(self.gives_up_at - clock.monotonic(), 0.0))


_UNSEEN: Final = object()


class _Unknown:
    """Has whatever it is asked for, and that is no provider, so that no comparison succeeds."""

    def __getattr__(self, name: str) -> object:
        return _UNSEEN


_is_known = hasattr(trace, "_TRACER_PROVIDER") and hasattr(_metrics, "_METER_PROVIDER")
tracing: Any = trace if _is_known else _Unknown()
metering: Any = _metrics if _is_known else _Unknown()
"""The modules whose `_TRACER_PROVIDER` and `_METER_PROVIDER` are the global providers, for whom calls look at first."""

_lock = Lock()  # held for single steps, never while anybody's code runs
_settings: tuple[Settings, ...] = (Settings(),)  # the last one is in force
_bridge = _Bridge(_settings[-1], _UNSEEN, _UNSEEN)  # the one in force
_connecting: _Connecting | None = None


def in_force() -> Connected | None:
    """What records, None when nobody does. Asked on every call, and the one place that reads private names of the
    OpenTelemetry API.

    The public `get_tracer_provider()` looks into the environment each time, which alone is twice the budget. A test
    fails when these names move; should that reach a user, the public functions take their place.
    """
    try:
        tracer_source: Any = trace._TRACER_PROVIDER  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        meter_source: Any = _metrics._METER_PROVIDER  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    except AttributeError:
        tracer_source, meter_source = trace.get_tracer_provider(), metrics.get_meter_provider()
    bridge = _bridge
    if tracer_source is bridge.tracer_source and meter_source is bridge.meter_source:
        return bridge.connected
    return _connect(tracer_source, meter_source)


def active() -> bool:
    """Does anybody record?"""
    return in_force() is not None


def recorder(policy: str) -> events.Recorder | None:
    """A recorder for one call of this policy, None when nobody records."""
    connected = in_force()
    return None if connected is None else connected.recorder(policy)


def configure(
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    attempt_spans: bool = True,
    openinference: bool | None = None,
    attributes: AttributesHook | None = None,
) -> Callable[[], None]:
    """Change what is recorded, from the next call on. Returns what undoes it.

    Without it everything goes to the global providers.

    `tracer_provider`, `meter_provider`: record there, not into the global ones (a test's, or one of several in a
    process).
    `attempt_spans`: False makes one span a call; each attempt is then an event on it, and waits are its attributes.
    `openinference`: True marks spans as links of a chain (`openinference.span.kind` is `CHAIN`), for Phoenix and other
    backends that would show them as of unknown kind; None (the default) does so once OpenInference is in the process.
    `attributes`: called with the policy's name when an operation begins; what it returns is added to the spans and
    metrics of that operation. Metrics make a time series of every value, so let them be few: a tier or a region, never
    a user or a key.

    The last call is in force, as a whole. Raises TypeError for arguments that cannot work.
    """
    settings = Settings(
        tracer_provider,
        meter_provider,
        attempt_spans=attempt_spans,
        openinference=openinference,
        attributes=attributes,
    )
    _change(lambda others: (*others, settings))
    return lambda: _change(lambda others: tuple(each for each in others if each is not settings))


def _change(change: Callable[[tuple[Settings, ...]], tuple[Settings, ...]]) -> None:
    global _settings
    with _lock:
        _settings = change(_settings)
        _use(_Bridge(_settings[-1], _UNSEEN, _UNSEEN), _UNSEEN, _UNSEEN)


def _use(bridge: _Bridge, quiet_tracer: Any, quiet_meter: Any) -> None:
    """Put it in force. With these providers nobody records; calls compare with the tracer first, so that is known
    last. Under the lock."""
    global _bridge
    now.quiet_tracer = _UNSEEN
    now.quiet_meter = quiet_meter
    now.quiet_tracer = quiet_tracer
    _bridge = bridge


def _connect(tracer_source: Any, meter_source: Any) -> Connected | None:
    """Make the bridge for these global providers, or wait for the thread that does."""
    global _connecting
    mine = _Connecting()
    try:
        with _lock:
            if _connecting is None:
                _connecting = mine
            under_way = _connecting
        if under_way is not mine:
            return in_force() if under_way.wait() else None
        while True:
            made = _made(_settings[-1], tracer_source, meter_source)
            quiet = (made.tracer_source, made.meter_source) if made.connected is None else (_UNSEEN, _UNSEEN)
            with _lock:
                if made.settings is _settings[-1]:  # else configured meanwhile
                    _use(made, *quiet)
                    return made.connected
    finally:
        if _connecting is mine:
            _connecting = None
        mine.done.set()


def _made(settings: Settings, tracer_source: Any, meter_source: Any) -> _Bridge:
    bridge = _Bridge(settings, tracer_source, meter_source)
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return bridge
    faults = Faults()
    if tracer_source is None and settings.tracer_provider is None and OTEL_PYTHON_TRACER_PROVIDER in os.environ:
        bridge.tracer_source = tracer_source = _load(trace.get_tracer_provider, faults)
    if meter_source is None and settings.meter_provider is None and OTEL_PYTHON_METER_PROVIDER in os.environ:
        bridge.meter_source = meter_source = _load(metrics.get_meter_provider, faults)
    tracer_provider = settings.tracer_provider or _real(tracer_source)
    meter_provider = settings.meter_provider or _real(meter_source)
    if tracer_provider is not None or meter_provider is not None:
        from resilient_agents.telemetry.connected import connect  # what it needs is only imported where it is needed

        bridge.connected = connect(settings, tracer_provider, meter_provider, faults)
    return bridge


def _load(provider: Callable[[], Any], faults: Faults) -> Any:
    """The provider that the environment names, which becomes the global one."""
    try:
        return provider()
    except Exception:
        faults.log("loading the provider that the environment names", "nothing goes there")
        return None


def _real(provider: Any) -> Any:
    """The provider, None for one that records nothing."""
    return None if type(provider).__name__.lstrip("_").startswith(("NoOp", "Proxy")) else provider


def _outside_a_call(event: events.Event) -> None:
    """A manual `breaker.open()`, a probe whose lease ran out, a health check: nobody's call, so only metrics hear of
    it."""
    connected = in_force()
    if connected is not None:
        connected.measure(event)


def _after_fork() -> None:
    global _connecting
    _connecting = None


events.subscribe(_outside_a_call)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
