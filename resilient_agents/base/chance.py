"""Where random numbers come from: a generator of our own, so that two simulations can share its numbers, and no
`random.seed` of a program's makes its processes meet. It shapes load and guards no secret.

A child of a fork draws its own numbers.
"""

from __future__ import annotations

import os
import random

__all__ = ["chance", "named"]

chance = random.Random()


def named(seed: str) -> random.Random:
    """A generator of its own, which gives the same numbers for the same name."""
    return random.Random(seed)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=chance.seed)
