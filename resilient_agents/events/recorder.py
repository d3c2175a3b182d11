"""What follows one call from its beginning to its end, and what it is told of the call, by those who make calls.

Of events these are words only: they are imported for their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilient_agents.classify import Failure
    from resilient_agents.events import CircuitState, Event, Outcome, WaitReason

__all__ = ["SILENT", "Course", "Operation", "Passage", "Recorder", "Setup"]


class Operation(Protocol):
    """What an operation has added up, as `CallEnded` tells it. `pace`: of a stream, with what is told of those only;
    `budget`: of the run, None where there is none."""

    attempts: int
    waited: float
    retry_waited: float
    failed: dict[str, int]
    pace: Any
    finish: str | None
    budget: Any
    fell_back: str | None
    unknown_outcome: bool


Passage = tuple[tuple[str, str | None], ...]
"""Circuit breakers and limits that a call passes, outermost first: of each the strategy and the name."""


class Setup(Protocol):
    """What all calls of a policy have in common, see core/setup.py."""

    configuration: str
    around: Passage
    inside: Passage
    said: Mapping[str, Any] | None

    def place(self, layer: object) -> tuple[str, bool]: ...
    def state(self) -> tuple[CircuitState | None, int, int] | None: ...


class Course(Protocol):
    """Of an attempt. `began`: when its function did, None before."""

    began: float | None


class Recorder(Protocol):
    """Follows one call from `begin` to `call_ended`. What every call goes through it is told by methods, for which no
    event need be made, the rest by `record`; `suspend` and `resume` enclose every `yield` to the user's code. `at`:
    seconds on the policy's clock; `retries`: those that the client library made; `lead`: seconds until the function
    began, None where it did not. An attempt at a stream `flows` once its first item has come, so many seconds after it
    began."""

    def begin(self, at: float, setup: Setup, deadline: float | None, called: str | None) -> bool:
        """The call begins, and `resume` follows; `called` says how, where it is not simply awaited. False when there is
        nothing to record but its end, which may then be told by `end` alone."""
        ...

    def end(self) -> None: ...
    def attempt_started(self, attempt: int, hedge: int, at: float, course: Course) -> None: ...
    def attempt_flows(self, attempt: int, seconds: float) -> None: ...
    def attempt_ended(
        self,
        attempt: int,
        at: float,
        outcome: Outcome,
        duration: float,
        failure: Failure | None,
        retries: int | None,
        lead: float | None,
    ) -> None: ...
    def costs(self, amount: float, *, settled: bool) -> None: ...
    def decided(self, layer: object, what: str, *, of_attempt: bool, hint: float | None) -> None: ...
    def waited_for(self, strategy: str, seconds: float, reason: WaitReason | None) -> None: ...
    def call_ended(self, operation: Operation, outcome: Outcome, duration: float, failure: Failure | None) -> None: ...
    def record(self, event: Event) -> None: ...
    def suspend(self) -> None: ...
    def resume(self) -> None: ...


class _Silent:
    """Whatever it is told, it answers with nothing."""

    __slots__ = ()

    def _nothing(self, a: Any = 0, b: Any = 0, c: Any = 0, d: Any = 0, e: Any = 0, f: Any = 0, g: Any = 0) -> None:
        pass  # as many as anybody tells: `*_` would be made into a tuple each time

    def _nothing_named(self, *_: object, **__: object) -> None:
        pass

    begin = end = attempt_started = attempt_flows = attempt_ended = waited_for = call_ended = record = _nothing
    suspend = resume = _nothing
    costs = decided = _nothing_named


SILENT: Final = cast(Recorder, _Silent())
"""The recorder of a call that only observers watch."""
