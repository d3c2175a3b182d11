"""A span as the waterfall needs it, from the SDK in memory or from a file. Times are nanoseconds since 1970."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Moment", "Span", "from_sdk"]


@dataclass(slots=True, frozen=True)
class Moment:
    """A span event."""

    name: str
    at: int
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True, frozen=True)
class Span:
    """A span that has ended. `parent_id` is None for the root of a trace; `error`: its status is ERROR."""

    trace_id: str
    span_id: str
    parent_id: str | None
    scope: str
    name: str
    start: int
    end: int
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    events: tuple[Moment, ...] = ()
    error: bool = False


class _SdkContext(Protocol):
    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...


def from_sdk(spans: Iterable[Any]) -> list[Span]:
    """Convert the SDK's `ReadableSpan` objects. The SDK is not imported: that they look like its spans is enough."""
    return [_from_sdk(span) for span in spans if span.end_time is not None]


def _from_sdk(span: Any) -> Span:
    context: _SdkContext = span.context
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        scope=span.instrumentation_scope.name if span.instrumentation_scope is not None else "",
        name=span.name,
        start=span.start_time,
        end=span.end_time,
        attributes=dict(span.attributes or {}),
        events=tuple(Moment(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events),
        error=span.status.status_code.name == "ERROR",
    )
