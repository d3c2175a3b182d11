"""Data that others wrote, in JSON or TOML: what stands where, whatever stands around it."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["inside", "texts"]

T = TypeVar("T", dict[str, object], list[object])


def inside(data: object, kind: type[T], *keys: str) -> T:
    """What stands behind these keys; an empty one where nothing or something else does."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, kind) else kind()


def texts(items: list[object]) -> list[str]:
    """Those that are texts."""
    return [each for each in items if isinstance(each, str)]
