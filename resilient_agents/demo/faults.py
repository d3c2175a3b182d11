"""Which call the server fails, and how: drawn from seed, path, call and arrival, so that runs meet the same faults."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

__all__ = ["HEALTHY", "Fault", "Kind", "Outage", "draw"]

Kind = Literal["none", "rate_limit", "error", "unavailable", "slow", "reset", "break", "no_token", "stall", "truncate"]


@dataclass(slots=True, frozen=True)
class Fault:
    """`at`: after how many tokens a stream breaks, stalls or ends; `seconds`: of a slow answer, or of Retry-After."""

    kind: Kind
    seconds: float = 0.0
    at: int = 0


@dataclass(slots=True, frozen=True)
class Outage:
    """From `start` to `end`, in seconds since the run began, the server resets every connection or says 503."""

    start: float
    end: float

    def covers(self, now: float) -> bool:
        return self.start <= now < self.end


HEALTHY = Fault("none")

# Shares of calls; the rest goes well.
_CALLS: tuple[tuple[Kind, float], ...] = (
    ("rate_limit", 0.06),
    ("error", 0.06),
    ("unavailable", 0.05),
    ("slow", 0.04),
    ("reset", 0.05),
)
_STREAMS: tuple[tuple[Kind, float], ...] = (
    ("no_token", 0.05),
    ("unavailable", 0.06),
    ("rate_limit", 0.04),
    ("break", 0.08),
    ("stall", 0.08),
    ("truncate", 0.08),
)


def draw(seed: int, path: str, call: str, arrival: int, *, stream: bool, down: bool) -> Fault:
    """The fate of the `arrival`-th request (from 1) that `call` makes to `path`."""
    # Text seeds are hashed with SHA-512: the same everywhere, whatever PYTHONHASHSEED says.
    chance = random.Random(f"{seed} {path} {call} {arrival} {down}")
    if down:
        return Fault("reset" if chance.random() < 0.5 else "unavailable")
    picked = chance.random()
    for kind, share in _STREAMS if stream else _CALLS:
        if picked < share:
            return _shaped(kind, chance)
        picked -= share
    return HEALTHY


def _shaped(kind: Kind, chance: random.Random) -> Fault:
    if kind == "slow":
        return Fault(kind, seconds=chance.uniform(1.5, 2.5))
    if kind == "rate_limit":
        return Fault(kind, seconds=1)  # Retry-After has no smaller unit
    if kind in ("break", "stall", "truncate"):
        return Fault(kind, at=chance.randint(3, 9))
    return Fault(kind)
