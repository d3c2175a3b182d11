"""The table of names is whole, and says what is sent."""

from __future__ import annotations

import re
import typing

import pytest

from resilient_agents import events
from resilient_agents.classify import Kind, classify
from resilient_agents.telemetry import contract, metric_table, names
from resilient_agents.telemetry.facts import SPAN_EVENTS, facts
from tests.telemetry.test_spans import HTTPError


def reason_of(event: type[events.Event]) -> object:
    return typing.get_type_hints(event, {**vars(typing), **vars(events), "Failure": object})["reason"]


def value_of(name: str) -> contract.Attribute:
    (found,) = [attribute for attribute in contract.ATTRIBUTES if attribute.name == name]
    return found


def test_each_name_stands_there_once() -> None:
    """No two rows of a table have the same name."""
    for table in (contract.ATTRIBUTES, contract.SPANS, contract.EVENTS, metric_table.METRICS):
        all_names = [row.name for row in table]
        assert len(set(all_names)) == len(all_names)


def test_each_attribute_is_described() -> None:
    """What a span, event or metric may carry is in the table of attributes, and nothing else is."""
    used = {name for row in (*contract.SPANS, *contract.EVENTS, *metric_table.METRICS) for name in row.attributes}
    assert used == {attribute.name for attribute in contract.ATTRIBUTES}


def test_no_name_of_generative_ai_is_used() -> None:
    """No `gen_ai.*`: backends would count our spans as model calls."""
    allowed = r"resilient_agents\.\w+|error\.type|http\.response\.status_code|openinference\.span\.kind"
    assert all(re.fullmatch(allowed, attribute.name) for attribute in contract.ATTRIBUTES)
    assert all(metric.name.startswith("resilient_agents.") for metric in metric_table.METRICS)


@pytest.mark.parametrize(
    ("attribute", "type_"),
    [
        (names.ERROR_TYPE, Kind),
        (names.OUTCOME, events.Outcome),
        (names.STATE, events.CircuitState),
        (names.GAVE_UP, reason_of(events.GaveUp)),
        (names.REASON, reason_of(events.RetryScheduled)),
        (names.CHAOS, events.Disturbance),
    ],
)
def test_closed_sets_are_those_of_the_code(attribute: str, type_: object) -> None:
    """The values in the table are those that the code can send."""
    assert set(value_of(attribute).values) == set(typing.get_args(type_))


def test_histograms_have_ascending_boundaries() -> None:
    """Each histogram names its own boundaries, ascending, and is in seconds."""
    for metric in metric_table.METRICS:
        assert bool(metric.boundaries) == (metric.kind == "histogram")
        assert list(metric.boundaries) == sorted(set(metric.boundaries))
        if metric.kind == "histogram":
            assert metric.unit == "s"


def every_event() -> list[events.Event]:
    """One of each class, with a value in each field."""
    failure = classify(HTTPError(503))
    return [
        events.CallStarted("p"),
        events.CallEnded("p", "failure", 1, 0.1, failure, 0.1, 0.1, {"overload": 1}, run_budget={"attempts.spent": 1}),
        events.AttemptStarted("p", 1, 1),
        events.AttemptEnded("p", 1, "failure", 0.1, failure, 2),
        events.RetryScheduled("p", 1, 0.1, "backoff", failure),
        events.GaveUp("p", 1, 0.1, "stop", failure),
        events.CallRejected("p", "bulkhead", 1.0, "b", shadow=True),
        events.Waited("p", "retry", 1.0, "backoff"),
        events.TimeoutExpired("p", "timeout", 1.0),
        events.LateResult("p", 1.0, 1.0),
        events.FallbackUsed("p", failure),
        events.HedgeStarted("p", 1, 0.1),
        events.ChaosInjected("p", "latency"),
        events.CircuitOpened("p", "c", "closed", "open", shadow=True),
        events.CircuitHalfOpened("p", "c", "open", "half-open"),
        events.CircuitClosed("p", "c", "half-open", "closed"),
        events.HealthChecked("", "db", "healthy", "unknown", 0.1, critical=True),
    ]


def test_what_events_tell_is_in_the_table() -> None:
    """Each event has its facts, under names that the table describes; on a span, those of its row."""
    known = {attribute.name for attribute in contract.ATTRIBUTES}
    rows = {row.name: set(row.attributes) for row in contract.EVENTS}
    for event in every_event():
        told = facts(event)
        assert set(told) <= known
        if type(event) in SPAN_EVENTS:
            assert set(told) <= rows[SPAN_EVENTS[type(event)]], event
    classes = {event for event in vars(events).values() if isinstance(event, type) and issubclass(event, events.Event)}
    assert {type(event) for event in every_event()} == classes - {events.Event, events.CircuitChanged}
