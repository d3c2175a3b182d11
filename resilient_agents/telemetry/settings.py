"""What can be changed about telemetry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from opentelemetry import metrics, trace

__all__ = ["AttributesHook", "Settings"]

AttributesHook = Callable[[str], Mapping[str, str | bool | int | float]]


class Settings:
    """What `configure` was told. Raises TypeError for arguments that cannot work."""

    __slots__ = ("attempt_spans", "attributes", "meter_provider", "openinference", "tracer_provider")

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        attempt_spans: bool = True,
        openinference: bool | None = None,
        attributes: AttributesHook | None = None,
    ) -> None:
        for provider, method, argument in (
            (tracer_provider, "get_tracer", "tracer_provider"),
            (meter_provider, "get_meter", "meter_provider"),
        ):
            if provider is not None and not callable(getattr(provider, method, None)):
                raise TypeError(f"{argument} must have {method}(), got {type(provider).__name__}")
        if not isinstance(attempt_spans, bool):
            raise TypeError(f"attempt_spans must be True or False, got {attempt_spans!r}")
        if openinference is not None and not isinstance(openinference, bool):
            raise TypeError(f"openinference must be True, False or None, got {openinference!r}")
        if attributes is not None and (not callable(attributes) or inspect.iscoroutinefunction(attributes)):
            raise TypeError(f"attributes must be a plain function of the policy's name, got {attributes!r}")
        self.openinference = openinference
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.attempt_spans = attempt_spans
        self.attributes = attributes
