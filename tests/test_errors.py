"""Our errors carry facts, and survive processes."""

from __future__ import annotations

import copy
import pickle

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
