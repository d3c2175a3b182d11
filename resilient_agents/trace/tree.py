"""Which spans make up an operation, and which operations are worth a look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span

__all__ = ["Operation", "is_attempt", "is_operation", "operations"]


def is_operation(span: Span) -> bool:
    return span.scope == names.SCOPE and span.name.startswith(names.OPERATION_PREFIX)


@dataclass(slots=True)
class Operation:
    """An operation that lies in no other, with all spans below it. `under`: the name of the span above it, if known."""

    span: Span
    children: Mapping[str, list[Span]] = field(repr=False)
    under: str | None = None

    def below(self, span: Span) -> list[Span]:
        """The spans directly below `span`, in the order they began."""
        return self.children.get(span.span_id, [])

    @property
    def attempts(self) -> int:
        """How many attempts the operation itself made."""
        counted = self.span.attributes.get(names.ATTEMPT_COUNT)
        return counted if isinstance(counted, int) else sum(is_attempt(span) for span in self.below(self.span))

    @property
    def interest(self) -> tuple[int, int, int]:
        """Sorts operations, the most telling last: by kinds of events that happened, then events, then attempts."""
        happened = [event.name for event in self.span.events]
        return len(set(happened)), len(happened), self.attempts


def is_attempt(span: Span) -> bool:
    return span.scope == names.SCOPE and span.name == names.ATTEMPT_SPAN


def operations(spans: Iterable[Span]) -> list[Operation]:
    """The operations among `spans` that lie in no other operation, in the order they began."""
    found: list[Operation] = []
    traces: dict[str, dict[str, Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, {})[span.span_id] = span
    for trace in traces.values():
        children: dict[str, list[Span]] = {}
        for span in sorted(trace.values(), key=lambda span: (span.start, -span.end)):
            if span.parent_id is not None:
                children.setdefault(span.parent_id, []).append(span)
        for span in trace.values():
            if is_operation(span) and not _inside_another(span, trace):
                parent = trace.get(span.parent_id or "")
                found.append(Operation(span, children, None if parent is None else parent.name))
    return sorted(found, key=lambda operation: operation.span.start)


def _inside_another(span: Span, trace: Mapping[str, Span]) -> bool:
    seen = {span.span_id}
    parent = trace.get(span.parent_id or "")
    while parent is not None and parent.span_id not in seen:  # a file may lie: parents in a circle must not hang us
        if is_operation(parent):
            return True
        seen.add(parent.span_id)
        parent = trace.get(parent.parent_id or "")
    return False
