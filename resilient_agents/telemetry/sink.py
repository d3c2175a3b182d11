"""Where the recorders of one policy send things, and the attributes that they need over and over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resilient_agents.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from resilient_agents.telemetry.faults import Faults
    from resilient_agents.telemetry.metrics import Instruments

__all__ = ["Attributes", "Sink"]

Attributes = Mapping[str, str | bool | int | float]


class Sink:
    """`extra`: asks the user's hook for more attributes, None when there is no hook. `openinference`: are spans to say
    that they are links of a chain? None: where OpenInference is in the process."""

    __slots__ = (
        "_chain",
        "_for_attempt",
        "_for_duration",
        "attempt_spans",
        "extra",
        "faults",
        "instruments",
        "openinference",
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
        self.tracer = tracer
        self.instruments = instruments
        self.faults = faults
        self.attempt_spans = attempt_spans
        self.openinference = openinference
        self.extra = extra
        self.span_name = names.OPERATION_PREFIX + policy
        self.start: Attributes = {names.POLICY: policy}
        self._chain: Attributes = {names.OPENINFERENCE_KIND: "CHAIN"}
        self._for_duration: dict[tuple[str, bool], Attributes] = {}
        self._for_attempt: dict[tuple[str, str | None], Attributes] = {}

    def kind(self) -> Attributes | None:
        """What spans say of their kind, for backends that know kinds."""
        wanted = self.openinference
        if wanted is None:
            wanted = "openinference" in sys.modules
        return self._chain if wanted else None

    def for_duration(self, outcome: str, retried: bool) -> Attributes:
        key = (outcome, retried)
        found = self._for_duration.get(key)
        if found is None:
            found = self._for_duration[key] = {
                names.POLICY: self.policy,
                names.OUTCOME: outcome,
                names.RETRIED: retried,
            }
        return found

    def for_attempt(self, outcome: str, kind: str | None) -> Attributes:
        key = (outcome, kind)
        found = self._for_attempt.get(key)
        if found is None:
            found = {names.POLICY: self.policy, names.OUTCOME: outcome}
            if kind is not None:
                found[names.ERROR_TYPE] = kind
            self._for_attempt[key] = found
        return found
