"""Which spans make up an operation, and which operations are worth a look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from resilient_agents.telemetry import names
from resilient_agents.trace.spans import Span

__all__ = ["Operation", "attempts_of", "is_attempt", "is_operation", "is_wait", "operations"]


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
        return attempts_of(self.span, sum(is_attempt(span) for span in self.below(self.span)))

    @property
    def duration(self) -> int:
        return self.span.end - self.span.start

    @property
    def failed(self) -> bool:
        """Did its caller see an error?"""
        return self.span.error or self.span.attributes.get(names.OUTCOME) in ("failure", "rejected")

    @property
    def interest(self) -> tuple[int, int, int]:
        """Sorts operations, the most telling last: by kinds of events that happened, then events, then attempts."""
        happened = [event.name for event in self.span.events]
        return len(set(happened)), len(happened), self.attempts


def attempts_of(operation: Span, made: int) -> int:
    """How many attempts an operation made. `made`: of how many there is a span."""
    counted = operation.attributes.get(names.ATTEMPT_COUNT)
    return counted if isinstance(counted, int) else made


def is_attempt(span: Span) -> bool:
    return span.scope == names.SCOPE and span.name.startswith(names.ATTEMPT_PREFIX)


def is_wait(span: Span) -> bool:
    return span.scope == names.SCOPE and span.name.startswith(names.WAIT_PREFIX)


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
        inside: dict[str, bool] = {}
        for span in trace.values():
            if is_operation(span) and not _inside_another(span, trace, inside):
                parent = trace.get(span.parent_id or "")
                found.append(Operation(span, children, None if parent is None else parent.name))
    return sorted(found, key=lambda operation: operation.span.start)


def _inside_another(span: Span, trace: Mapping[str, Span], known: dict[str, bool]) -> bool:
    """Does `span` lie in an operation? `known`: the answers so far, so that each span is looked at once."""
    path: list[str] = []
    answer = False
    above: Span | None = span
    while above is not None:
        if above.span_id in known:
            answer = known[above.span_id]
            break
        known[above.span_id] = False  # a file may lie: parents in a circle must not hang us
        path.append(above.span_id)
        above = trace.get(above.parent_id or "")
        if above is not None and is_operation(above) and above is not span:
            answer = True
            break
    known.update(dict.fromkeys(path, answer))
    return answer
