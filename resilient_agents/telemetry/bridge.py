"""Does anybody record, and where: from the OpenTelemetry API's global state to a recorder for one call.

A policy asks `active()` on every call. Without a provider the answer costs two comparisons. When a provider appears,
disappears or is replaced, which is seen by its identity, everything is made anew from the providers in force.

One thread makes it, and no lock is held while it asks the providers. A call that this thread makes meanwhile (a
provider may itself make guarded calls) finds telemetry switched off. Calls of other threads wait until it is connected,
so that nothing of them is lost: for `PATIENCE` seconds at most, because a provider that hangs must not hold up calls.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import opentelemetry.metrics._internal as _metrics  # see `active`
from opentelemetry import metrics, trace
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER, OTEL_PYTHON_TRACER_PROVIDER

from resilient_agents import events
from resilient_agents.base.clock import clock
from resilient_agents.base.fork import Lock
from resilient_agents.base.now import now
from resilient_agents.telemetry import names
from resilient_agents.telemetry.faults import Faults
from resilient_agents.telemetry.metrics import Attributes, Instruments, transition
from resilient_agents.telemetry.spans import CallRecorder, Sink

__all__ = ["active", "configure", "recorder"]

AttributesHook = Callable[[str], Mapping[str, str | bool | int | float]]

MAX_POLICIES: Final = 1000  # remembered; a program that names its policies at run time must not grow by them
PATIENCE: Final = 5.0  # seconds that calls wait for another thread to connect


class _Settings:
    """What `configure` was told."""

    __slots__ = ("attempt_spans", "attributes", "meter_provider", "tracer_provider")

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        attempt_spans: bool = True,
        attributes: AttributesHook | None = None,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.attempt_spans = attempt_spans
        self.attributes = attributes


class _Bridge:
    """Everything for one pair of providers. `sources`: the global providers it was made from."""

    __slots__ = (
        "_sinks",
        "faults",
        "instruments",
        "meter_source",
        "on",
        "quiet_meter",
        "quiet_tracer",
        "settings",
        "tracer",
        "tracer_source",
    )

    def __init__(self, settings: _Settings, tracer_source: object, meter_source: object) -> None:
        self.settings = settings
        self.tracer_source = tracer_source
        self.meter_source = meter_source
        self.faults = Faults()
        self.tracer: trace.Tracer | None = None
        self.instruments: Instruments | None = None
        self.on = False
        self.quiet_tracer: object = _UNSEEN
        self.quiet_meter: object = _UNSEEN
        self._sinks: dict[str, Sink] = {}

    def connect(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        if tracer_provider is not None:
            try:
                self.tracer = tracer_provider.get_tracer(names.SCOPE, _version())
            except Exception:
                self.faults.log("getting a tracer", "there will be no spans")
        if meter_provider is not None:
            try:
                self.instruments = Instruments(meter_provider.get_meter(names.SCOPE, _version()), self.faults)
            except Exception:
                self.faults.log("getting a meter", "there will be no metrics")
        self.on = self.tracer is not None or self.instruments is not None

    def recorder(self, policy: str, *, traced: bool) -> CallRecorder:
        sink = self._sinks.get(policy)
        if sink is None:
            if len(self._sinks) >= MAX_POLICIES:
                self._sinks.clear()
            sink = self._sinks[policy] = Sink(
                policy,
                self.tracer,
                self.instruments,
                self.faults,
                attempt_spans=self.settings.attempt_spans,
                extra=None if self.settings.attributes is None else self._extra,
            )
        return CallRecorder(sink, traced=traced)

    def _extra(self, policy: str) -> Attributes:
        """What the user's hook adds; nothing when it fails or returns something that is no attribute value."""
        hook = self.settings.attributes
        assert hook is not None
        try:
            extra = dict(hook(policy))
            for name, value in extra.items():
                if not isinstance(name, str) or not isinstance(value, str | bool | int | float):
                    raise TypeError(
                        f"attributes are str, bool, int or float by name, got {type(value).__name__} for {name!r}"
                    )
        except Exception:
            self.faults.log("the attributes hook", "its attributes are missing")
            return {}
        return extra


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

_lock = Lock()  # held for single steps, never while anybody's code runs
_settings: tuple[_Settings, ...] = (_Settings(),)  # the last one is in force
now.bridge = _Bridge(_settings[-1], _UNSEEN, _UNSEEN)  # the one in force
_connecting: _Connecting | None = None


def active() -> bool:
    """Does anybody record? Asked on every call, and the one place that reads private names of the OpenTelemetry API.

    The public `get_tracer_provider()` looks into the environment each time, which alone is twice the budget. A test
    fails when these names move; should that reach a user, the public functions take their place.
    """
    try:
        tracer_source: Any = trace._TRACER_PROVIDER  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        meter_source: Any = _metrics._METER_PROVIDER  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    except AttributeError:
        tracer_source, meter_source = trace.get_tracer_provider(), metrics.get_meter_provider()
    bridge: _Bridge = now.bridge
    if tracer_source is bridge.tracer_source and meter_source is bridge.meter_source:
        return bridge.on
    return _connect(tracer_source, meter_source)


def recorder(policy: str) -> events.Recorder | None:
    """A recorder for one call of this policy, None when nobody records."""
    bridge = _in_force()
    traced = bridge.tracer is not None and not _dropped()
    return bridge.recorder(policy, traced=traced) if traced or bridge.instruments is not None else None


def _in_force() -> _Bridge:
    """The bridge that `active` has just found, or the one that was configured since then."""
    bridge: _Bridge = now.bridge
    while bridge.tracer_source is _UNSEEN and active():
        bridge = now.bridge
    return bridge


def _dropped() -> bool:
    """Did a sampler drop the span around this call? Then it drops ours too, and need not be asked at their expense."""
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN or span.is_recording():
        return False
    context = span.get_span_context()
    return context.is_valid and not context.is_remote and not context.trace_flags.sampled


def configure(
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    attempt_spans: bool = True,
    attributes: AttributesHook | None = None,
) -> Callable[[], None]:
    """Change what is recorded, from the next call on. Returns what undoes it.

    Without it everything goes to the global providers.

    `tracer_provider`, `meter_provider`: record there, not into the global ones (a test's, or one of several in a
    process).
    `attempt_spans`: False makes one span a call; each attempt is then an event on it.
    `attributes`: called with the policy's name when an operation begins; what it returns is added to the spans and
    metrics of that operation. Metrics make a time series of every value, so let them be few: a tier or a region, never
    a user or a key.

    The last call is in force, as a whole. Raises TypeError for arguments that cannot work.
    """
    for provider, method, argument in (
        (tracer_provider, "get_tracer", "tracer_provider"),
        (meter_provider, "get_meter", "meter_provider"),
    ):
        if provider is not None and not callable(getattr(provider, method, None)):
            raise TypeError(f"{argument} must have {method}(), got {type(provider).__name__}")
    if not isinstance(attempt_spans, bool):
        raise TypeError(f"attempt_spans must be True or False, got {attempt_spans!r}")
    if attributes is not None and (not callable(attributes) or inspect.iscoroutinefunction(attributes)):
        raise TypeError(f"attributes must be a plain function of the policy's name, got {attributes!r}")
    settings = _Settings(tracer_provider, meter_provider, attempt_spans=attempt_spans, attributes=attributes)
    _change(lambda others: (*others, settings))
    return lambda: _change(lambda others: tuple(each for each in others if each is not settings))


def _change(change: Callable[[tuple[_Settings, ...]], tuple[_Settings, ...]]) -> None:
    global _settings
    with _lock:
        _settings = change(_settings)
        now.bridge = _Bridge(_settings[-1], _UNSEEN, _UNSEEN)


def _connect(tracer_source: Any, meter_source: Any) -> bool:
    """Make the bridge for these global providers, or wait for the thread that does. Does anybody record?"""
    global _connecting
    mine = _Connecting()
    try:
        with _lock:
            if _connecting is None:
                _connecting = mine
            under_way = _connecting
        if under_way is not mine:
            return under_way.wait() and active()
        while True:
            made = _made(_settings[-1], tracer_source, meter_source)
            with _lock:
                if made.settings is _settings[-1]:  # else configured meanwhile
                    now.bridge = made
                    return made.on
    finally:
        if _connecting is mine:
            _connecting = None
        mine.done.set()


def _made(settings: _Settings, tracer_source: Any, meter_source: Any) -> _Bridge:
    bridge = _connected(settings, tracer_source, meter_source)
    if not bridge.on:  # what calls compare with before they ask here
        bridge.quiet_tracer, bridge.quiet_meter = bridge.tracer_source, bridge.meter_source
    return bridge


def _connected(settings: _Settings, tracer_source: Any, meter_source: Any) -> _Bridge:
    bridge = _Bridge(settings, tracer_source, meter_source)
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return bridge
    if tracer_source is None and settings.tracer_provider is None and OTEL_PYTHON_TRACER_PROVIDER in os.environ:
        bridge.tracer_source = tracer_source = _load(trace.get_tracer_provider, bridge)
    if meter_source is None and settings.meter_provider is None and OTEL_PYTHON_METER_PROVIDER in os.environ:
        bridge.meter_source = meter_source = _load(metrics.get_meter_provider, bridge)
    bridge.connect(settings.tracer_provider or _real(tracer_source), settings.meter_provider or _real(meter_source))
    return bridge


def _load(provider: Callable[[], Any], bridge: _Bridge) -> Any:
    """The provider that the environment names, which becomes the global one."""
    try:
        return provider()
    except Exception:
        bridge.faults.log("loading the provider that the environment names", "nothing goes there")
        return None


def _real(provider: Any) -> Any:
    """The provider, None for one that records nothing."""
    return None if type(provider).__name__.lstrip("_").startswith(("NoOp", "Proxy")) else provider


def _version() -> str:
    try:
        return importlib.metadata.version("resilient-agents")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return ""


def _outside_a_call(event: events.Event) -> None:
    """A manual `breaker.open()`, a probe whose lease ran out, a health check: nobody's call, so only metrics hear of
    it."""
    if not active():
        return
    bridge = _in_force()
    if bridge.instruments is None:
        return
    try:
        if isinstance(event, events.CircuitChanged):
            bridge.instruments.transitions.add(1, transition(event))
        elif isinstance(event, events.HealthChecked):
            bridge.instruments.health_checks.record(
                event.duration,
                {names.HEALTH_CHECK: event.health_check, names.STATUS: event.status, names.CRITICAL: event.critical},
            )
    except Exception:
        bridge.faults.log("recording a state change or a health check", "it is missing in the metrics")


def _after_fork() -> None:
    global _connecting
    _connecting = None


events.subscribe(_outside_a_call)
if hasattr(trace, "_TRACER_PROVIDER") and hasattr(_metrics, "_METER_PROVIDER"):
    now.tracing, now.metering = trace, _metrics
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
