"""What servers say of a limit in the headers of their answers: how much, how much is left, over which time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from resilient_agents.classify.hints import seconds_of, until_reset

__all__ = ["Stated", "stated"]

_WINDOWS: Final = (1.0, 10.0, 60.0, 3600.0, 86400.0)
"""Seconds over which servers count."""


class Stated(NamedTuple):
    """`limit` units, of which `remaining` are left, over `window` seconds; None for what is not said."""

    limit: float
    remaining: float | None
    window: float | None


def stated(headers: object, of: str) -> Stated | None:
    """What these headers, or those of this response, say of requests or tokens (`of`); None if nothing.

    No header states its window. What is used up comes back at the steady rate until the reset, so the window is the
    time until then, times the limit, over what is used up; the next longer of the usual ones, as some servers count
    from the full minute and others round.
    """
    given = headers if isinstance(headers, Mapping) else getattr(headers, "headers", None)
    if not isinstance(given, Mapping):
        return None
    told: dict[str, Any] = {str(name).lower(): value for name, value in given.items()}
    limit = _said(told, "limit", of)
    if not limit:  # some say 0 or -1 for none
        return None
    remaining, reset = _said(told, "remaining", of), _reset(told, of)
    window = None
    if reset and remaining is not None and remaining < limit:
        seen = 0.9 * reset * limit / (limit - remaining)
        window = next((usual for usual in _WINDOWS if usual >= seen), None)
    return Stated(limit, remaining, window)


def _names(what: str, of: str) -> tuple[str, ...]:
    plain = (f"x-ratelimit-{what}", f"ratelimit-{what}") if of == "requests" else ()
    return (f"x-ratelimit-{what}-{of}", f"anthropic-ratelimit-{of}-{what}", *plain)


def _said(told: Mapping[str, Any], what: str, of: str) -> float | None:
    return next((found for name in _names(what, of) if (found := seconds_of(told.get(name))) is not None), None)


def _reset(told: Mapping[str, Any], of: str) -> float | None:
    return next((found for name in _names("reset", of) if (found := until_reset(told.get(name))) is not None), None)
