"""Is anybody there to record for, and with what: the way from the OpenTelemetry API's global state to a recorder for one call.

A policy asks `active()` on every call. Without a provider the answer costs two comparisons. When a provider appears, disappears or is
replaced, which is seen by its identity, everything is made anew from the providers in force.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import opentelemetry.metrics._internal as _metrics  # pyright: ignore[reportPrivateImportUsage]  # see `active`
from opentelemetry import metrics, trace
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER, OTEL_PYTHON_TRACER_PROVIDER

from resilient_agents import events
from resilient_agents.telemetry import names
from resilient_agents.telemetry.faults import Faults
from resilient_agents.telemetry.metrics import Attributes, Instruments, transition
from resilient_agents.telemetry.spans import CallRecorder, Sink

__all__ = ["active", "configure", "recorder"]

AttributesHook = Callable[[str], Mapping[str, str | bool | int | float]]

MAX_POLICIES: Final = 1000  # remembered; a program that names its policies at run time must not grow by them


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

    __slots__ = ("_sinks", "faults", "instruments", "meter_source", "on", "settings", "tracer", "tracer_source")

    def __init__(self, settings: _Settings, tracer_source: object, meter_source: object) -> None:
        self.settings = settings
        self.tracer_source = tracer_source
        self.meter_source = meter_source
        self.faults = Faults()
        self.tracer: trace.Tracer | None = None
        self.instruments: Instruments | None = None
        self.on = False
        self._sinks: dict[str, Sink] = {}

    def connect(self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None) -> None:
        if tracer_provider is not None:
            try:
                self.tracer = tracer_provider.get_tracer(names.SCOPE, _version())
            except Exception:
                self.faults.log("getting a tracer", "there will be no spans")
        if meter_provider is not None:
            try:
                self.instruments = _instruments(meter_provider, self.faults)
            except Exception:
                self.faults.log("getting a meter", "there will be no metrics")
        self.on = self.tracer is not None or self.instruments is not None

    def recorder(self, policy: str) -> CallRecorder:
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
        return CallRecorder(sink)

    def _extra(self, policy: str) -> Attributes:
        """What the user's hook adds; nothing when it fails or returns something that is no attribute value."""
        hook = self.settings.attributes
        assert hook is not None
        try:
            extra = dict(hook(policy))
            for name, value in extra.items():
                if not isinstance(name, str) or not isinstance(value, str | bool | int | float):
                    raise TypeError(f"attributes are str, bool, int or float by name, got {type(value).__name__} for {name!r}")
        except Exception:
            self.faults.log("the attributes hook", "its attributes are missing")
            return {}
        return extra


_UNSEEN: Final = object()

_lock = threading.Lock()
_settings: tuple[_Settings, ...] = (_Settings(),)  # the last one is in force
_bridge = _Bridge(_settings[-1], _UNSEEN, _UNSEEN)


def active() -> bool:
    """Does anybody record? Asked on every call, and the one place that reads private names of the OpenTelemetry API.

    The public `get_tracer_provider()` looks into the environment each time, which alone is twice the budget. A test fails when these
    names move; should that reach a user, the public functions take their place.
    """
    try:
        tracer_source: Any = trace._TRACER_PROVIDER  # noqa: SLF001
        meter_source: Any = _metrics._METER_PROVIDER  # noqa: SLF001
    except AttributeError:
        tracer_source, meter_source = trace.get_tracer_provider(), metrics.get_meter_provider()
    bridge = _bridge
    if tracer_source is not bridge.tracer_source or meter_source is not bridge.meter_source:
        bridge = _connect(tracer_source, meter_source)
    return bridge.on


def recorder(policy: str) -> events.Recorder | None:
    """A recorder for one call of this policy, None when nobody records."""
    bridge = _bridge
    return bridge.recorder(policy) if bridge.on else None
