"""What a span says of a failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, StatusCode

from resilient_agents.classify.kinds import TRANSIENT, verdict_of
from resilient_agents.telemetry import names
from resilient_agents.telemetry.facts import described, of_failure

if TYPE_CHECKING:
    from resilient_agents.classify import Failure

__all__ = ["say_what_failed", "whole"]


def whole(failure: Failure) -> dict[str, Any]:
    """All that a strategy may go by: what its kind and status do not say by themselves, only where there is some."""
    told = of_failure(failure)
    if failure.retry_after is not None:
        told[names.RETRY_AFTER] = failure.retry_after
    if failure.transient is not (failure.kind in TRANSIENT):
        told[names.TRANSIENT] = failure.transient
    if failure.verdict != verdict_of(failure.kind, failure.status):
        told[names.VERDICT] = failure.verdict
    return told


def say_what_failed(
    span: Span, told: dict[str, Any], failure: Failure, ended_by: str | None, failed: Iterable[str] = ()
) -> None:
    """The last attributes of a span, `told` and what went wrong, and its status."""
    told.update(whole(failure))
    if ended_by is not None and failure.kind in ("rejected", "timeout"):
        told[names.STRATEGY] = ended_by
    span.set_attributes(told)
    span.set_status(StatusCode.ERROR, described(failure, ended_by, failed))
