"""Which configuration a call ran under, in a few characters: the same in all processes, another one after a change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

__all__ = ["fingerprint"]

_LIVE: Final = frozenset(
    ("abandoned", "available", "in_use", "metrics", "overall_status", "queued", "remaining", "retry_after", "state")
)
"""Names under which strategies describe what is so at the moment."""


def fingerprint(layers: Iterable[Any]) -> str:
    """Twelve hexadecimal digits of the strategies, in order, and their options; what is live about them does not count,
    nor what was put inside for a while.

    An option that is code counts by its name.
    """
    import hashlib  # only where somebody watches

    told = repr([_options(layer) for layer in layers if not _visits(layer)])
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()


def _visits(layer: Any) -> bool:
    """Is it a `Chaos` that was put inside by the policy's name?"""
    return getattr(layer, "innermost", False) and getattr(layer, "name", None) is not None


def _options(layer: Any) -> Any:
    describe = getattr(layer, "describe", None)
    return type(layer).__qualname__ if describe is None else _fixed(describe())


def _fixed(told: Any) -> Any:
    """What a description says but for what changes by itself."""
    if isinstance(told, dict):
        return [(name, _fixed(value)) for name, value in told.items() if name not in _LIVE]
    return [_fixed(value) for value in told] if isinstance(told, list) else told
