"""What the options of `RateLimit` may be."""

from __future__ import annotations

import inspect
import re
from typing import Any

from resilient_agents.core.guard import declares
from resilient_agents.core.options import Code, Number

__all__ = ["Cost", "Settle", "spelled_rate"]

_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_SPELLED = r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+?)s?\s*"


class Cost(Number):
    """A number, or a function that returns one."""

    def checked(self, value: Any, name: str) -> Any:
        if not callable(value):
            return super().checked(value, name)
        if declares(inspect.iscoroutinefunction, value):
            raise TypeError(f"{name} must be a number or a plain function: nothing awaits it")
        return value

    def shown(self, value: Any) -> Any:
        return "callable" if callable(value) else value

    def spelled(self, value: Any) -> str:
        return "<function>" if callable(value) else super().spelled(value)


class Settle(Code):
    """A plain function of a result, or None."""

    def checked(self, value: Any, name: str) -> Any:
        if not callable(value) or declares(inspect.iscoroutinefunction, value):
            raise TypeError(f"{name} must be a plain function of the result or None, got {value!r}")
        return value


def spelled_rate(rate: str) -> tuple[float, float]:
    """`rate` and `per` in seconds of a rate like "60/min"."""
    found = re.fullmatch(_SPELLED, rate, re.IGNORECASE)
    unit = _SECONDS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f'rate must be a number or like "10/s", "60/min", "1000/h" or "5/30s", got {rate!r}')
    return float(found[1]), float(found[2] or 1) * unit
