"""Our errors carry facts, and survive processes."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable

import pybreaker
import pytest

from resilient_agents import errors

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", ALL)
def test_they_pickle_and_copy(kind: type[errors.ResilienceError]) -> None:
    """Message, facts and notes arrive."""
    if issubclass(kind, errors.Rejected):
        error: errors.ResilienceError = kind("no", policy="p", strategy="s", retry_after=1.5)
    elif issubclass(kind, errors.PolicyTimeoutError):
        error = kind("no", policy="p", strategy="s", limit=2.0)
    else:
        error = kind("no")
    error.add_note("noted")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == "no"
        assert vars(twin) == vars(error)


def test_the_tree() -> None:
    """Each error is also what callers of the library underneath would catch."""
    assert all(issubclass(kind, RuntimeError) for kind in ALL)
    assert issubclass(errors.CircuitOpenError, pybreaker.CircuitBreakerError)
    assert issubclass(errors.PolicyTimeoutError, TimeoutError)
    assert issubclass(errors.StreamTruncatedError, ConnectionError)
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in errors.__all__)


def test_the_message_of_a_refusal_is_made_when_it_is_read() -> None:
    """By whatever way it is: str, repr, args, a traceback, pickle and copy; and it can be set, as that of any error."""
    ways: tuple[Callable[[Exception], str], ...] = (
        str,
        repr,
        lambda error: str(error.args[0]),
        lambda error: "".join(traceback.format_exception_only(error)),
        lambda error: str(pickle.loads(pickle.dumps(error))),
        lambda error: str(copy.copy(error)),
    )
    for way in ways:
        error = errors.circuit_open("openai", "open after 5 failures", "chat", 12.41)
        assert "'openai' is open after 5 failures; next probe in 12.4 s" in way(error)
    again = pickle.loads(pickle.dumps(errors.circuit_open("openai", "open", "chat", -1.0)))
    assert (again.policy, again.strategy, again.retry_after) == ("chat", "circuit_breaker", 0.0)
    again.args = ("mine",)
    assert (str(again), again.args) == ("mine", ("mine",))
    assert (str(errors.CircuitOpenError()), errors.CircuitOpenError().args) == ("", ("",))
