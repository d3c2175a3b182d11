"""What the `RateLimit` and `RateLimit-Policy` fields say of the limits of a server.

draft-ietf-httpapi-ratelimit-headers has these as structured fields (RFC 9651): since its version 08 lists such as
`"default";r=0;t=30` and `"default";q=100;w=60`, in version 07 `limit=100, remaining=0, reset=30` and `100;w=60`. The
three fields of earlier versions, such as `RateLimit-Reset`, are read in hints.py with the others of their shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from resilient_agents.base.told import Fields

__all__ = ["Quota", "quotas_of"]

# Compiled at their first use: few servers send them.
_PARAMETER: Final = r"""\s*;\s*([a-z*][\w.*-]*)(?:=("[^"]*"|[^\s",;]+))?"""
_MEMBER: Final = rf"""("[^"]*"|[^\s",;=]+)(?:=([^\s",;=]+))?((?:{_PARAMETER})*)"""
_COUNT: Final = r"\d{1,15}(?:\.\d{1,3})?"
_MAX_TEXT: Final = 1024
_KEYS: Final = {"limit": "q", "remaining": "r", "reset": "t"}
"""What version 07 calls them."""


class Quota(Fields):
    """`limit` units over `window` seconds, of which `remaining` are left for `reset` seconds; None for what is not
    said. `name` is the server's, "" where it gives none."""

    name: str
    unit: str
    limit: float | None
    window: float | None
    remaining: float | None
    reset: float | None


def quotas_of(headers: Mapping[str, list[Any]]) -> list[Quota]:
    """Those in headers by lower-case name, each name once. Never raises."""
    policies = dict(_policies(headers))
    left = dict(_left(headers))
    unnamed = left.pop("", None)
    if unnamed is not None:  # version 07 gives only the quota
        same = (name for name, policy in policies.items() if policy["q"] == unnamed.get("q", policy["q"]))
        left[next(same, "")] = unnamed
    return [_quota(name, {**left.get(name, {}), **policies.get(name, {})}) for name in {**policies, **left}]


def _quota(name: str, said: dict[str, str]) -> Quota:
    limit, window, remaining, reset = (_count(said.get(key, "")) for key in ("q", "w", "r", "t"))
    return Quota(name, said.get("qu", "requests"), limit, window, remaining, reset)


def _policies(headers: Mapping[str, list[Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    """What is said of each policy. One without a `q` is named after it."""
    for name, _, parameters in _members(headers, "ratelimit-policy"):
        yield name, {"q": name, **parameters}


def _left(headers: Mapping[str, list[Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    """What is left of each, by its name."""
    unnamed: dict[str, str] = {}
    for name, value, parameters in _members(headers, "ratelimit"):
        if value:
            unnamed[_KEYS.get(name, name)] = value
        else:
            yield name, parameters
    if unnamed:
        yield "", unnamed


def _members(headers: Mapping[str, list[Any]], field: str) -> Iterator[tuple[str, str | None, dict[str, str]]]:
    """Each member of a list or a dictionary: the item or key, the key's value, the parameters."""
    for value in headers.get(field, ()):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(text, str):
            for match in re.finditer(_MEMBER, text[:_MAX_TEXT], re.ASCII):
                parameters = re.findall(_PARAMETER, match[3], re.ASCII)
                yield match[1].strip('"'), match[2], {key: said.strip('"') for key, said in parameters}


def _count(text: str) -> float | None:
    return float(text) if re.fullmatch(_COUNT, text, re.ASCII) else None
