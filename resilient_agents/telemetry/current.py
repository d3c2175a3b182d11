"""What is current where, and how it is put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, get_current_span, set_span_in_context

if TYPE_CHECKING:
    from resilient_agents.events.recorder import Course

__all__ = ["AttemptSpan", "put_back"]


class AttemptSpan:
    """An attempt span, the context that it is current in, and the one to put back. `told`: what it says at its end;
    `ended_by`: the strategy that refused it or cut it off; `waited_for`: the one that made it wait last. By the
    policy's clock it began `at`, and its function when its `course` says."""

    __slots__ = ("at", "course", "ended_by", "inner", "outer", "span", "start", "told", "waited_for")

    def __init__(
        self, span: Span, inner: Context, outer: Context, start: int, told: dict[str, Any], at: float, course: Course
    ) -> None:
        self.at = at
        self.course = course
        self.span = span
        self.inner = inner
        self.outer = outer
        self.start = start
        self.told = told
        self.ended_by: str | None = None
        self.waited_for: str | None = None


def put_back(inner: Context, outer: Context) -> None:
    """Make `outer` current again where `inner` is.

    What the user's code attached meanwhile and left (baggage, for the rest of a request) stays, as it does without a
    policy; only our span goes. Another span means that this is not the context we came from, or that the user's own
    span is still current: left alone.
    """
    current = get_current()
    if current is inner:
        attach(outer)
    elif get_current_span(current) is get_current_span(inner):
        attach(set_span_in_context(get_current_span(outer), current))
