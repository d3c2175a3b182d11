"""Everything for one pair of providers: what makes the recorders of calls, and measures what is nobody's call.

Imported when there is a provider. What has to be known before, the bridge knows.
"""

from __future__ import annotations

import importlib.metadata
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context, get_current

from resilient_agents import events
from resilient_agents.telemetry import names
from resilient_agents.telemetry.call_recorder import CallRecorder
from resilient_agents.telemetry.facts import facts
from resilient_agents.telemetry.faults import Faults
from resilient_agents.telemetry.metrics import Instruments
from resilient_agents.telemetry.settings import Settings
from resilient_agents.telemetry.sink import Attributes, Sink

__all__ = ["MAX_POLICIES", "Connected", "connect"]

MAX_POLICIES: Final = 1000  # remembered; a program that names its policies at run time must not grow by them


def connect(
    settings: Settings,
    tracer_provider: trace.TracerProvider | None,
    meter_provider: metrics.MeterProvider | None,
    faults: Faults,
) -> Connected | None:
    """None when the providers give neither a tracer nor a meter."""
    tracer: trace.Tracer | None = None
    instruments: Instruments | None = None
    if tracer_provider is not None:
        try:
            tracer = tracer_provider.get_tracer(names.SCOPE, _version())
        except Exception:
            faults.log("getting a tracer", "there will be no spans")
    if meter_provider is not None:
        try:
            instruments = Instruments(meter_provider.get_meter(names.SCOPE, _version()), faults)
        except Exception:
            faults.log("getting a meter", "there will be no metrics")
    return None if tracer is None and instruments is None else Connected(settings, tracer, instruments, faults)


class Connected:
    """A tracer, the instruments of a meter, or both."""

    __slots__ = ("_faults", "_instruments", "_settings", "_sinks", "_tracer")

    def __init__(
        self, settings: Settings, tracer: trace.Tracer | None, instruments: Instruments | None, faults: Faults
    ) -> None:
        self._settings = settings
        self._tracer = tracer
        self._instruments = instruments
        self._faults = faults
        self._sinks: dict[str, Sink] = {}

    def recorder(self, policy: str) -> CallRecorder | None:
        """A recorder for one call of this policy, None when nothing of it is recorded."""
        outer = None
        if self._tracer is not None:
            outer = get_current()
            if outer and _dropped(outer):
                outer = None
        if outer is None and self._instruments is None:
            return None
        sink = self._sinks.get(policy)
        if sink is None:
            if len(self._sinks) >= MAX_POLICIES:
                self._sinks.clear()
            sink = self._sinks[policy] = Sink(
                policy,
                self._tracer,
                self._instruments,
                self._faults,
                attempt_spans=self._settings.attempt_spans,
                openinference=self._settings.openinference,
                extra=None if self._settings.attributes is None else self._extra,
            )
        return CallRecorder(sink, outer)

    def measure(self, event: events.Event) -> None:
        """A state change or a health check outside any call."""
        if self._instruments is None:
            return
        try:
            if isinstance(event, events.CircuitChanged):
                self._instruments.transitions.add(1, facts(event))
            elif isinstance(event, events.HealthChecked):
                told = facts(event)
                self._instruments.health_checks.record(told.pop(names.DURATION), told)
        except Exception:
            self._faults.log("recording a state change or a health check", "it is missing in the metrics")

    def _extra(self, policy: str) -> Attributes:
        """What the user's hook adds; nothing when it fails or returns something that is no attribute value."""
        hook = self._settings.attributes
        assert hook is not None
        try:
            extra = dict(hook(policy))
            for name, value in extra.items():
                if not isinstance(name, str) or not isinstance(value, str | bool | int | float):
                    raise TypeError(
                        f"attributes are str, bool, int or float by name, got {type(value).__name__} for {name!r}"
                    )
        except Exception:
            self._faults.log("the attributes hook", "its attributes are missing")
            return {}
        return extra


def _dropped(outer: Context) -> bool:
    """Did a sampler drop the span around this call? Then it drops ours too, and need not be asked at their expense."""
    span = trace.get_current_span(outer)
    if span is trace.INVALID_SPAN or span.is_recording():
        return False
    context = span.get_span_context()
    return context.is_valid and not context.is_remote and not context.trace_flags.sampled


def _version() -> str:
    try:
        return importlib.metadata.version("resilient-agents")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return ""
