"""`capture_events`: what happened, as a list."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TypeVar

from resilient_agents import events
from resilient_agents.base.trial import trial

__all__ = ["CapturedEvents", "capture_events"]

E = TypeVar("E", bound=events.Event)


class CapturedEvents(list[events.Event]):
    """Events in the order in which they happened, in whatever thread or task."""

    @property
    def names(self) -> list[str]:
        """What kinds of events, in order: `["CallStarted", "AttemptStarted", ...]`."""
        return [type(event).__name__ for event in self]

    def of(self, *kinds: type[E]) -> list[E]:
        """Those of these kinds."""
        return [event for event in self if isinstance(event, kinds)]


@contextlib.contextmanager
def capture_events() -> Generator[CapturedEvents, None, None]:
    """Until the block ends, keep every event of every policy, and those outside of calls, such as a circuit's that was
    opened by hand. Events compare by value; under a `FakeClock` their times do, too."""
    captured = CapturedEvents()
    with trial.observed(events.Subscription(captured.append)):
        yield captured
