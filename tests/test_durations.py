"""Options that are durations, shares or counts are checked when an object is built."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.base.durations import number, positive_int, seconds


@given(st.floats(min_value=0, allow_infinity=False))
def test_seconds_keeps_a_float(value: float) -> None:
    """A float that is a duration comes back as it is."""
    assert seconds(value, "delay") == value


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (timedelta(minutes=1, milliseconds=500), 60.5), (timedelta(0), 0.0)]
)
def test_seconds_converts_to_float(value: Any, expected: float) -> None:
    """Ints and timedeltas become seconds as a float."""
    result = seconds(value, "delay")
    assert result == expected
    assert type(result) is float


def test_seconds_has_no_negative_zero() -> None:
    """A duration of -0.0 is 0.0, so that no message ever reads '-0 s'."""
    assert math.copysign(1, seconds(-0.0, "delay")) == 1


@pytest.mark.parametrize("value", [True, "3", None, 1j, [1], b"1"], ids=repr)
def test_seconds_refuses_what_is_no_number(value: Any) -> None:
    """A bool, a string or None is no duration, and the error names argument, rule and value."""
    with pytest.raises(TypeError) as caught:
        seconds(value, "idle")
    assert str(caught.value) == f"idle must be a number of seconds or a timedelta, got {value!r}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (10**400, "inf"), (-(10**400), "-inf")],
)
def test_seconds_refuses_what_is_not_finite(value: float, shown: str) -> None:
    """NaN, infinity and ints that no float can hold are no durations."""
    with pytest.raises(ValueError, match=f"^idle must be a finite number of seconds, got {shown}$"):
        seconds(value, "idle")


@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), (-0.25, "-0.25"), (timedelta(seconds=-2), "-2")])
def test_seconds_refuses_negative_durations(value: Any, shown: str) -> None:
    """A duration is never negative."""
    with pytest.raises(ValueError, match=f"^idle must be at least 0 seconds, got {shown}$"):
        seconds(value, "idle")


@pytest.mark.parametrize("value", [0, -0.0, timedelta(0)])
def test_seconds_refuses_zero_where_it_must_be_positive(value: Any) -> None:
    """Where nothing is no duration, 0 is refused; elsewhere it is allowed."""
    assert seconds(value, "idle") == 0
    with pytest.raises(ValueError, match=r"^idle must be more than 0 seconds, got 0$|got -0$"):
        seconds(value, "idle", zero=False)


def test_number_accepts_from_its_minimum() -> None:
    """A share or a factor is a float of at least its minimum."""
    assert number(2, "factor", minimum=1) == 2.0
    assert number(1, "factor", minimum=1) == 1.0
    with pytest.raises(ValueError, match=r"^factor must be at least 1, got 0\.99$"):
        number(0.99, "factor", minimum=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_number_refuses_what_is_not_finite(value: float) -> None:
    """NaN and infinity are no shares."""
    with pytest.raises(ValueError, match=r"^ratio must be a finite number, got"):
        number(value, "ratio")


@pytest.mark.parametrize("value", [True, "1", None, timedelta(1)], ids=repr)
def test_number_refuses_other_types(value: Any) -> None:
    """A bool, a string or a duration is no share."""
    with pytest.raises(TypeError, match=r"^ratio must be a number, got"):
        number(value, "ratio")


def test_positive_int_accepts_from_its_minimum() -> None:
    """A count is an int of at least its minimum, 1 unless said otherwise."""
    assert positive_int(1, "attempts") == 1
    assert positive_int(0, "queue", minimum=0) == 0
    with pytest.raises(ValueError, match=r"^attempts must be at least 1, got 0$"):
        positive_int(0, "attempts")
    with pytest.raises(ValueError, match=r"^queue must be at least 0, got -1$"):
        positive_int(-1, "queue", minimum=0)


@pytest.mark.parametrize("value", [True, 3.0, "3", None], ids=repr)
def test_positive_int_refuses_other_types(value: Any) -> None:
    """3.0 is no count, and True even less."""
    with pytest.raises(TypeError) as caught:
        positive_int(value, "attempts")
    assert str(caught.value) == f"attempts must be an int, got {value!r}"
