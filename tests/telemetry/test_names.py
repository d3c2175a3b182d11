"""The table of names is whole, and says what is sent."""

from __future__ import annotations

import re
import typing

import pytest

from resilient_agents import events
from resilient_agents.classify import Kind
from resilient_agents.telemetry import names


def reason_of(event: type[events.Event]) -> object:
    return typing.get_type_hints(event, {**vars(events), "Failure": object})["reason"]


def value_of(name: str) -> names.Attribute:
    (found,) = [attribute for attribute in names.ATTRIBUTES if attribute.name == name]
    return found


def test_each_name_stands_there_once() -> None:
    """No two rows of a table have the same name."""
    for table in (names.ATTRIBUTES, names.SPANS, names.EVENTS, names.METRICS):
        all_names = [row.name for row in table]
        assert len(set(all_names)) == len(all_names)


def test_each_attribute_is_described() -> None:
    """What a span, event or metric may carry is in the table of attributes, and nothing else is."""
    used = {name for row in (*names.SPANS, *names.EVENTS, *names.METRICS) for name in row.attributes}
    assert used == {attribute.name for attribute in names.ATTRIBUTES}


def test_no_name_of_generative_ai_is_used() -> None:
    """No `gen_ai.*`: backends would count our spans as model calls."""
    assert all(
        re.fullmatch(r"resilient_agents\.\w+|error\.type|http\.response\.status_code", a.name) for a in names.ATTRIBUTES
    )
    assert all(metric.name.startswith("resilient_agents.") for metric in names.METRICS)


@pytest.mark.parametrize(
    ("attribute", "type_"),
    [
        (names.ERROR_TYPE, Kind),
        (names.OUTCOME, events.Outcome),
        (names.STATE, events.CircuitState),
        (names.GAVE_UP, reason_of(events.GaveUp)),
        (names.REASON, reason_of(events.RetryScheduled)),
    ],
)
def test_closed_sets_are_those_of_the_code(attribute: str, type_: object) -> None:
    """The values in the table are those that the code can send."""
    assert set(value_of(attribute).values) == set(typing.get_args(type_))


def test_histograms_have_ascending_boundaries() -> None:
    """Each histogram names its own boundaries, ascending, and is in seconds."""
    for metric in names.METRICS:
        assert bool(metric.boundaries) == (metric.kind == "histogram")
        assert list(metric.boundaries) == sorted(set(metric.boundaries))
        if metric.kind == "histogram":
            assert metric.unit == "s"
