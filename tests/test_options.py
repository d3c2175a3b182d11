"""Options are declared once: what checks, shows, pickles and exchanges them comes from there."""

from __future__ import annotations

import gc
import inspect
import pickle
import re
import weakref
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

from resilient_agents import Fallback, Hedge, Policy, Retry, RetryBudget, Timeout, fixed, is_transient
from resilient_agents.adapters import retry_choice
from resilient_agents.core.options import (
    Check,
    Code,
    Configured,
    Count,
    Errors,
    Flag,
    Made,
    Number,
    Results,
    Seconds,
    Share,
    Text,
    Word,
)


def kinds(base: type[Configured]) -> Iterator[type[Configured]]:
    """Strategies with options, by whatever bases they share."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith("resilient_agents"):
            if hasattr(kind, "OPTIONS"):
                yield kind
            yield from kinds(kind)


KINDS = list(dict.fromkeys(kinds(Configured)))


@pytest.mark.parametrize("kind", KINDS)
def test_constructor_and_checks_name_the_same_options(kind: type[Configured]) -> None:
    """In the same order, so that neither can gain one alone."""
    assert list(kind.OPTIONS) == list(inspect.signature(kind).parameters)


def test_a_retry_that_is_made_like_the_one_before_is_one_of_its_own() -> None:
    """What was checked and derived is the same, what is counted is not; what differs is checked."""
    first = Retry(2, on=KeyError, max_retry_after=7.0)
    second = Retry(2, on=KeyError, max_retry_after=7.0)
    script = iter([KeyError, None])

    def work() -> None:
        if kind := next(script):
            raise kind

    Policy(second).call(work)
    assert repr(first) == repr(second)
    assert (first.metrics()["calls"], second.metrics()["retries"]) == (0, 1)
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retry(0, on=KeyError, max_retry_after=7.0)
    with pytest.raises(ValueError, match="unless stop= is given"):
        Retry(None, on=KeyError)


def test_the_class_that_a_retry_is_for_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory of policies for many keys gives the very same again and again. A predicate is looked at each time, and
    not kept."""
    first = Retry(3, on=LookupError)
    monkeypatch.setattr(retry_choice, "matcher", None)
    assert Retry(4, on=LookupError).describe() == {**first.describe(), "attempts": 4}
    with pytest.raises(TypeError):
        Retry(3, on=lambda error: True)


class Own(Retry):
    """A subclass that keeps something of its own."""

    def __init__(self, label: str) -> None:
        self.label = label
        super().__init__(2)


def test_what_a_subclass_keeps_is_never_anothers() -> None:
    """Also where the options are the same."""
    assert [retry.label for retry in (Own("a"), Own("b"))] == ["a", "b"]
    first = Retry(4)
    first.label = "mine"  # type: ignore[attr-defined]
    assert not hasattr(Retry(4), "label")


class Pause(Configured):
    """A strategy as a user of this mechanism would write it: one line for an option."""

    strategy = "pause"
    OPTIONS = MappingProxyType({"seconds": Seconds(), "kind": Word(words=("short", "long")), "on": Errors()})

    def __init__(self, seconds: float, *, kind: str = "short", on: Any = is_transient) -> None:
        self.take(locals())

    def live(self) -> dict[str, Any]:
        return {"pauses": 0}


def test_all_the_rest_follows() -> None:
    """Description, spelling, pickling, taking over and what is said about unknown ones."""
    pause = Pause(3, kind="long", on=(ValueError, KeyError))
    assert pause.describe() == {
        "strategy": "pause",
        "seconds": 3.0,
        "kind": "long",
        "on": ["ValueError", "KeyError"],
        "pauses": 0,
    }
    assert repr(pause) == "Pause(3, kind='long', on=(ValueError, KeyError))"
    assert repr(pickle.loads(pickle.dumps(pause))) == repr(pause)
    other = Pause(1)
    other.adopt(pause)
    assert repr(other) == repr(pause)
    with pytest.raises(TypeError, match="Pause has no option 'second'; did you mean 'seconds'"):
        Pause(second=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("check", "value", "why"),
    [
        (Seconds(zero=False), 0, "x must be more than 0 seconds, got 0"),
        (Count(minimum=2), 1, "x must be at least 2, got 1"),
        (Number(), 0, "x must be more than 0, got 0"),
        (Share(), 1.5, "x must be greater than 0 and at most 1, got 1.5"),
        (Share(), "1", "x must be a number, got str"),
        (Flag(), 1, "x must be True or False, got 1"),
        (Flag(none=True), 1, "x must be True, False or None, got 1"),
        (Text(none=True), "", "x must be a non-empty string or None, got ''"),
        (Word(words=("a", "b")), "c", 'x must be "a" or "b", got '),
        (Errors(), 5, "x must be an exception type, a predicate or a tuple of these, got 5"),
        (Results(), 5, "x must be a predicate on results or None, got int"),
        (Seconds(), None, "x must be a number of seconds or a timedelta, got None"),
    ],
)
def test_errors_name_option_rule_and_value(check: Check, value: object, why: str) -> None:
    """Whatever the check is."""
    with pytest.raises((TypeError, ValueError)) as caught:
        check(value, "x")
    assert why in str(caught.value)


def test_a_number_where_a_name_belongs_is_that_of_another_option() -> None:
    """Which is said where there is one, and of numbers alone."""
    for check, value, meant in (
        (Text(number="limit"), 5, "; limit=5, perhaps?"),
        (Text(number="limit"), "", ""),
        (Text(), 5, ""),
    ):
        with pytest.raises(ValueError, match=re.escape(f"x must be a non-empty string, got {value!r}{meant}") + "$"):
            check(value, "x")


def test_an_object_of_ours_may_be_left_out() -> None:
    """None is no such object, and a value."""
    assert Made(type=RetryBudget)(None, "budget") is None


def test_code_is_shown_by_name() -> None:
    """Never what it holds."""
    assert Code().shown(test_code_is_shown_by_name) == "tests.test_options.test_code_is_shown_by_name"
    assert Code().shown(None) is None


@pytest.mark.parametrize(
    "strategy", [Timeout(2.5, thread=True), Hedge(1, extra=2, on=OSError), Fallback(str, on=OSError)], ids=str
)
def test_strategies_pickle_with_their_options(strategy: Any) -> None:
    """And describe the same again."""
    again = pickle.loads(pickle.dumps(Policy(strategy)))
    assert again.describe() == Policy(strategy).describe()


def test_a_retry_that_was_changed_is_no_pattern_for_the_next() -> None:
    """What is set on one of them afterwards is its own affair: the next has the options that it was given."""
    at_once = fixed(0)
    changed = Retry(3, wait=at_once)
    changed.attempts = 5
    changed.on = KeyError
    following = Retry(5, on=KeyError, wait=at_once)
    with pytest.raises(KeyError):
        Policy(following).call({}.pop, "nothing")
    assert following.metrics()["attempts"] == 5


def test_making_one_leaves_its_class_as_it_is() -> None:
    """From Python 3.13 on, a class that was changed a thousand times is slow to look at for good."""
    before = dict(vars(Retry))
    made = Retry(7, on=ValueError)
    assert made.attempts == 7
    assert dict(vars(Retry)) == before


def test_what_a_retry_was_given_ends_with_it() -> None:
    """Although the next one that is given the very same has what was derived for it."""

    def predicate(_: Exception) -> bool:
        return False

    watched = weakref.ref(predicate)
    retries = [Retry(3, on=predicate), Retry(3, on=predicate)]
    del predicate, retries
    gc.collect()
    assert watched() is None
