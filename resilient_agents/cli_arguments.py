"""What several commands read from the command line."""

from __future__ import annotations

import argparse

__all__ = ["count"]


def count(text: str) -> int:
    """Raises ArgumentTypeError for what is not a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return value
