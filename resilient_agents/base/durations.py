"""Checks for the numbers that options are made of, durations, shares and counts, and for flags; durations as text.

Checks run when an object is built, not when it is used, and every error names the argument, the rule and the value.
A bool is an int to Python but never a number here: `Timeout(True)` is a mistake.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

__all__ = ["DURATION", "DURATION_FORMS", "EXACT", "flag", "number", "parse_duration", "positive_int", "seconds",
           "share"]  # fmt: skip

EXACT: Final = 2**53
"""Whole numbers up to this are floats without a loss: one that is larger may be none at all."""

_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d)"
DURATION = r"\s*(?:(?:\d+(?:\.\d+)?)\s*(?:ms|sec|s|min|m|h|d)\s*)+"
DURATION_FORMS = 'seconds as a number, or text such as "200ms", "1.5s", "2m" or "1h 30m"'
"""What a duration may be in a file, in words."""


def seconds(value: float | timedelta, name: str, *, zero: bool = True) -> float:
    """Return the duration `value` in seconds, as a float.

    Args:
        value: Seconds as an int or float, or a `timedelta`.
        name: What the caller calls it; it begins the message of the error.
        zero: Whether a duration of nothing is allowed (default: yes).

    Raises:
        TypeError: `value` is neither a number nor a `timedelta`.
        ValueError: `value` is negative, NaN or infinite, or zero where `zero` is false.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        result = _as_float(value)
    else:
        raise TypeError(f"{name} must be a number of seconds or a timedelta, got {value!r}")
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite number of seconds, got {result}")
    if result < 0 or (result == 0 and not zero):
        raise ValueError(f"{name} must be {'at least' if zero else 'more than'} 0 seconds, got {result:g}")
    return abs(result)  # -0.0 becomes 0.0


def number(value: float, name: str, *, minimum: float = 0.0) -> float:
    """Return `value`, a number that is no duration (a share, a factor, a rate), as a float of at least `minimum`.

    Raises:
        TypeError: `value` is not an int or a float.
        ValueError: `value` is NaN, infinite or below `minimum`.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = _as_float(value)
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite number, got {result}")
    if result < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {result:g}")
    return result


def share(value: float, name: str) -> float:
    """Return `value`, a part of all, as a float of more than 0 and at most 1.

    Raises:
        TypeError: `value` is not an int or a float.
        ValueError: `value` is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be greater than 0 and at most 1, got {value}")
    return float(value)


def positive_int(value: int, name: str, *, minimum: int = 1) -> int:
    """Return the count `value`, which must be an int of at least `minimum` (default 1).

    Raises:
        TypeError: `value` is not an int; 3.0 is not one.
        ValueError: `value` is below `minimum`.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return value


def flag(value: bool, name: str) -> bool:
    """Return `value`, which must be True or False.

    Raises:
        TypeError: it is neither; 1 and "yes" are not.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def parse_duration(text: str) -> float | None:
    """Seconds of "200ms", "1.5s", "2m", "1h 30m"; None for anything else."""
    if re.fullmatch(DURATION, text, re.ASCII) is None:
        return None
    parts = [(float(amount), _SECONDS[unit]) for amount, unit in re.findall(_PART, text)]
    # 200 ms are 0.2 s, not 0.2 and a rounding error
    return sum(amount / 1000 if unit == 0.001 else amount * unit for amount, unit in parts)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond the largest float
        return math.inf if value > 0 else -math.inf
