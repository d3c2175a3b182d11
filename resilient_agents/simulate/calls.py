"""Calls as they were recorded: what each met, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Inner", "Recorded", "Round", "Step", "every"]

Round: TypeAlias = tuple[float, float]
"""When attempts of a retry began and ended, in seconds since their operation began."""


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the guarded function, or of what answered in its place: how long it took, and what it ended in.

    `kind` is None for a result. `cut`: a limit of the policy or a cancellation ended it, so that nobody knows how long
    it would have taken; `limit`: that limit, in seconds. `bad`: it was a result, which a retry took for a failure,
    `counted`: a circuit breaker did;
    `helped`: something answered in its place within the same attempt.
    `transient` and `verdict`: what the failure was said to be where its kind says otherwise; `decided`: what functions
    of the user's said of it. Of a stream, `first` is when its first item came, None where none did, and `gap` the
    longest that it let its reader wait for another. `round`: the attempt of the retry that it was in, from 1.
    `settled`: what its result told a rate limit that it cost. `calls`: those of other policies that it made meanwhile.
    """

    takes: float
    kind: str | None = None
    status: int | None = None
    retry_after: float | None = None
    cut: bool = False
    bad: bool = False
    counted: bool = False
    helped: bool = False
    transient: bool | None = None
    verdict: str | None = None
    decided: tuple[str, ...] = ()
    limit: float | None = None
    first: float | None = None
    gap: float = 0.0
    settled: float | None = None
    round: int = 1
    calls: tuple[Inner, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call as it was recorded. Times are seconds: `start` by the clock of the process.

    `steps`: what the function did each time it ran, in the order in which it began; attempts that the policy refused
    before it ran are in `attempts` only. `rounds`: the attempts of the retry, each with its hedges; `branches`: where
    each request of a hedge retries by itself, its attempts. `gave_up`: why there was no further one, where it says so.
    `fell_back`: something answered in place of the function, or tried to; `helps`: what that did each time, and
    `replaced`: it did so in place of a result. `called`: how, where it was not simply awaited. `late`: by how much
    a wait of its retry was longer than planned, because the machine was busy. `costs`: what attempts took of a rate
    limit that asks for it. `decided`: what functions of the user's said of what came out of attempts.
    `refused`: by what is not played, a budget of the run or `require_healthy`; `refused_after`: when, the last time.
    `chaos`: something was made to go wrong on purpose. `left_out`: there were more attempts and waits than have spans.
    """

    start: float
    sequence: int
    duration: float
    outcome: str
    kind: str | None
    attempts: int
    steps: tuple[Step, ...]
    rounds: tuple[Round, ...]
    gave_up: str
    deadline: float | None
    configuration: str
    fell_back: bool = False
    policy: str = ""
    called: str = ""
    branches: tuple[tuple[Round, ...], ...] = ()
    helps: tuple[Step, ...] = ()
    replaced: bool = False
    late: float = 0.0
    costs: tuple[float, ...] = ()
    decided: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    refused_after: float = 0.0
    chaos: bool = False
    left_out: bool = False

    @property
    def blocking(self) -> bool:
        return self.called.startswith("blocking")

    @property
    def stream(self) -> bool:
        return self.called.endswith("stream")

    @property
    def left(self) -> bool:
        """Did it leave a thread behind, or let it come late? A thread cannot be stopped."""
        return self.blocking and any(step.cut for step in self.steps)


Inner: TypeAlias = tuple[float, Recorded]
"""A call that was made in the course of another one, so many seconds after the function began."""


def every(call: Recorded) -> Iterator[Recorded]:
    """The call, and those that were made in its course."""
    yield call
    for step in (*call.steps, *call.helps):
        for _, inner in step.calls:
            yield from every(inner)
