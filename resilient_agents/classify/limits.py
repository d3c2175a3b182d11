"""What servers say of a limit in the headers of their answers: how much, how much is left, over which time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from resilient_agents.classify.hints import headers_of, seconds_of, until_reset
from resilient_agents.classify.quotas import Quota, quotas_of

__all__ = ["Stated", "Window", "stated"]

_WINDOWS: Final = (1.0, 10.0, 60.0, 3600.0, 86400.0)
"""Seconds over which servers count."""

_MINUTE: Final = 60.0


class Window(NamedTuple):
    """Over how many seconds a server counts: `likely`, and at least and at most."""

    likely: float
    least: float
    most: float


class Stated(NamedTuple):
    """`limit` units, of which `remaining` are left, over `window`; None for what is not said."""

    limit: float
    remaining: float | None
    window: Window | None


def stated(answer: object, of: str) -> Stated | None:
    """What the headers of an answer say of requests or tokens (`of`); None if nothing."""
    told = headers_of(answer)
    quotas = sorted((quota for quota in quotas_of(told) if quota.unit == of and quota.limit), key=_by_window)
    limit, remaining = _first(told, "limit", of), _first(told, "remaining", of)
    if limit is None and quotas:
        limit, remaining = quotas[0].limit, quotas[0].remaining
    if not limit:  # some say 0 or -1 for none
        return None
    exact = next((quota.window for quota in quotas if quota.limit == limit), None)
    if exact:
        return Stated(limit, remaining, Window(exact, exact, exact))
    return Stated(limit, remaining, None if remaining is None else _window(told, of, limit, limit - remaining))


def _by_window(quota: Quota) -> float:
    """The shortest one is what calls are paced by; the others are for longer times."""
    return quota.window or math.inf


def _window(told: Mapping[str, list[Any]], of: str, limit: float, used: float) -> Window | None:
    """No header states it. What is used up comes back at the steady rate until the reset, so it is the time until then,
    times the limit, over what is used up.

    As far as these are exact: used up is said in whole units, of which the last may have come back in part, and the
    time in whole seconds or milliseconds. Of the usual windows that fit, a minute is what nearly all servers mean. So
    do those that state durations where none fits (openai's and groq's own examples do not add up); with the others the
    time is then that until the next full minute, hour or day.
    """
    reset, exact_to = _reset(told, of)
    if not reset or used <= 0:
        return None
    least = 0.9 * max(0.0, reset - exact_to) * limit / used
    most = 1.1 * (reset + exact_to) * limit / (used - 1) if used > 1 else math.inf
    fitting = [usual for usual in _WINDOWS if least <= usual <= most]
    if fitting:
        return Window(_MINUTE if _MINUTE in fitting else fitting[0], least, most)
    if exact_to < 1.0:
        return Window(_MINUTE, 0.0, math.inf)
    likely = next((usual for usual in _WINDOWS if usual >= max(reset, _MINUTE)), None)
    return None if likely is None else Window(likely, 0.9 * (reset - exact_to), math.inf)


def _names(what: str, of: str) -> tuple[str, ...]:
    plain = (f"x-ratelimit-{what}", f"ratelimit-{what}") if of == "requests" else ()
    return (f"x-ratelimit-{what}-{of}", f"anthropic-ratelimit-{of}-{what}", *plain)


def _first(told: Mapping[str, list[Any]], what: str, of: str) -> float | None:
    values = (value for name in _names(what, of) for value in told.get(name, ()))
    return next((found for value in values if (found := seconds_of(value)) is not None), None)


def _reset(told: Mapping[str, list[Any]], of: str) -> tuple[float | None, float]:
    """Seconds until all is there again, and how exact that is: durations have milliseconds, bare integers and moments
    whole seconds."""
    for name in _names("reset", of):
        for value in told.get(name, ()):
            found = until_reset(value)
            if found is not None:
                text = str(value).strip()
                return found, 1.0 if text.isdecimal() or "T" in text else 0.001
    return None, 0.0
