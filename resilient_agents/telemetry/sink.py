"""Where the recorders of one policy send things, and the attributes that they need over and over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import modules
from typing import TYPE_CHECKING, Any

from resilient_agents.events.recorder import Passage
from resilient_agents.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from resilient_agents.telemetry.faults import Faults
    from resilient_agents.telemetry.metrics import Instruments

__all__ = ["Attributes", "Sink"]

Attributes = Mapping[str, str | bool | int | float]


class _ForDuration(dict[tuple[str, bool], Attributes]):
    """By outcome, and whether there was more than one attempt."""

    def __init__(self, policy: Attributes) -> None:
        self.policy = policy

    def __missing__(self, key: tuple[str, bool]) -> Attributes:
        outcome, retried = key
        made = self[key] = {**self.policy, names.OUTCOME: outcome, names.RETRIED: retried}
        return made


class _ForAttempt(dict[tuple[str, str | None], Attributes]):
    """By outcome and kind of failure."""

    def __init__(self, policy: Attributes) -> None:
        self.policy = policy

    def __missing__(self, key: tuple[str, str | None]) -> Attributes:
        outcome, kind = key
        told = {**self.policy, names.OUTCOME: outcome}
        if kind is not None:
            told[names.ERROR_TYPE] = kind
        self[key] = told
        return told


class _ForPassage(dict[tuple[Passage, str | None], Attributes]):
    """By what a call passes on its way and what stopped it there, None for one that passed all."""

    def __missing__(self, key: tuple[Passage, str | None]) -> Attributes:
        passage, stopped_by = key
        strategies = [strategy for strategy, _ in passage]
        passed = passage
        if stopped_by is not None:
            passed = passage[: strategies.index(stopped_by)] if stopped_by in strategies else ()
        made = self[key] = {names.NAMED_STRATEGIES[strategy]: name or names.UNNAMED for strategy, name in passed}
        return made


class Sink:
    """`tracer`: None where there is none; then no recorder makes spans. `extra`: asks the user's hook for more
    attributes, None when there is no hook. `chained`: are spans to say that they are links of a chain? None: where
    OpenInference is in the process."""

    __slots__ = (
        "attempt_spans",
        "chained",
        "extra",
        "faults",
        "for_attempt",
        "for_duration",
        "for_passage",
        "instruments",
        "policy",
        "span_name",
        "start",
        "tracer",
    )

    def __init__(
        self,
        policy: str,
        tracer: Tracer | None,
        instruments: Instruments | None,
        faults: Faults,
        *,
        attempt_spans: bool,
        openinference: bool | None,
        extra: Callable[[str], Attributes] | None,
    ) -> None:
        self.policy = policy
        self.tracer: Any = tracer
        self.instruments = instruments
        self.faults = faults
        self.attempt_spans = attempt_spans
        self.chained = openinference
        self.extra = extra
        self.span_name = names.OPERATION_PREFIX + policy
        self.start: Attributes = {names.POLICY: policy}
        self.for_duration = _ForDuration(self.start)
        self.for_attempt = _ForAttempt(self.start)
        self.for_passage = _ForPassage()

    def common(self, extra: Attributes | None) -> Attributes | None:
        """What all spans of an operation say from the beginning: what the user's hook adds, and their kind, for
        backends that know kinds."""
        chained = "openinference" in modules if self.chained is None else self.chained
        return {**(extra or {}), names.OPENINFERENCE_KIND: "CHAIN"} if chained else extra
