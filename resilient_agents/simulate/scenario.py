"""A scenario: the load that callers offer, and how the dependency behaves while it lasts. Frozen plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

__all__ = ["AT_THE_DOOR", "KINDS", "Dependency", "Error", "Load", "Phase", "Quota", "Scenario", "Stream", "Times"]

Arrivals = Literal["poisson", "fixed", "closed"]
Kind: TypeAlias = Literal["timeout", "connection", "rate_limit", "overload", "server", "quota", "auth", "validation"]

KINDS: tuple[Kind, ...] = (
    "timeout",
    "connection",
    "rate_limit",
    "overload",
    "server",
    "quota",
    "auth",
    "validation",
)

AT_THE_DOOR: frozenset[Kind] = frozenset(["timeout", "connection", "rate_limit", "overload", "quota", "auth"])
"""Errors that cost the dependency no service: a refusal, or a request that never arrives. A `timeout` is never
answered: it hangs until its caller leaves. The others come out after the time of a service."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long something takes, in seconds. `sigma`: of the logarithm, for "lognormal"."""

    kind: Literal["fixed", "exponential", "lognormal"] = "fixed"
    mean: float = 0.0
    sigma: float = 1.0


@dataclass(frozen=True, slots=True)
class Error:
    """What a share `rate` of the requests ends in. `retry_after`: seconds that the server asks to wait; "end": until
    the phase is over."""

    kind: Kind = "server"
    rate: float = 1.0
    status: int | None = None
    retry_after: float | Literal["end"] | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `rate` requests `per` seconds, a token bucket that holds as many; beyond it, status 429."""

    rate: float
    per: float = 1.0
    retry_after: bool = True


@dataclass(frozen=True, slots=True)
class Stream:
    """Answers come in `items`, with a `gap` before each. A share `rate` of them goes wrong where `at` items have come:
    nothing more follows ("stall"), or the connection breaks ("break"), or the answer ends ("truncate")."""

    items: int = 1
    gap: Times = field(default_factory=Times)
    fault: Literal["stall", "truncate", "break"] = "stall"
    rate: float = 0.0
    at: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """Servers that take requests first come first served.

    Attributes:
        servers: How many requests are served at once; infinite by default.
        queue: How many wait for a server at most; one more is refused at once with status 503.
        service: How long a service takes (default: 50 ms, exponential).
        error: What some requests end in, None for none.
        notices_leavers: Whether a request whose caller has gone is given up. False by default, as with nearly every
            server: it is served all the same.
        quota: Requests that the server admits, None for all.
        cost: Of a request that was admitted, in any unit.
        stream: How answers come that are streams, None for plain ones. `service` is then the time until an answer
            begins.
    """

    servers: float = math.inf
    queue: float = math.inf
    service: Times = Times("exponential", 0.05)
    error: Error | None = None
    notices_leavers: bool = False
    quota: Quota | None = None
    cost: float = 0.0
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The calls that are made.

    Attributes:
        arrivals: "poisson" or "fixed", `rate` a second in all; or "closed": `clients` that each make a call, think for
            `think`, and make the next.
        processes: Over how many processes the calls are spread. Each has a policy of its own, which decides most.
        fanout: How many calls one arrival makes at once.
    """

    arrivals: Arrivals = "poisson"
    rate: float = 0.0
    clients: int = 0
    think: Times = field(default_factory=Times)
    processes: int = 1
    fanout: int = 1


Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class Phase(Generic[Settings]):
    """From `start` until `end`, in seconds since the beginning, things are as `settings` say."""

    start: float
    end: float
    settings: Settings


@dataclass(frozen=True, slots=True)
class Scenario:
    """`duration`: for how many seconds calls begin. `seed` names the random streams."""

    duration: float
    load: Load
    dependency: Dependency = field(default_factory=Dependency)
    load_phases: tuple[Phase[Load], ...] = ()
    dependency_phases: tuple[Phase[Dependency], ...] = ()
    seed: str = "scenario"

    @property
    def trouble(self) -> tuple[float, float] | None:
        """From when until when something in it is different, None for a steady scenario."""
        phases: list[Phase[Any]] = [*self.load_phases, *self.dependency_phases]
        if not phases:
            return None
        return min(phase.start for phase in phases), max(phase.end for phase in phases)
