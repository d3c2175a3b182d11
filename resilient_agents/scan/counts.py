"""Counts in words: `1 call`, `2 calls`."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """The number and what it counts; `many` for what is not `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"
