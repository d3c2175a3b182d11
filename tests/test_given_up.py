"""The marks that a policy leaves on an exception."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import sys
import threading
import traceback

import pytest

from resilient_agents import CircuitBreaker, Fallback, Policy, Retry, fixed
from resilient_agents.core import given_up
from tests.conftest import Harness, ManualClock


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses attributes, as exceptions of some libraries do."""

    text: str = "frozen"


def raised(error: Exception, *, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_an_error_given_up_during_an_attempt_is_exhausted_for_it() -> None:
    """What was given up after the attempt began counts against it."""
    start = given_up.moment()
    error = ValueError()
    given_up.exhausted(error)
    assert given_up.exhausted_since(error, start)


def test_an_error_that_nobody_gave_up_is_not_exhausted() -> None:
    """An unmarked error says nothing, and neither does one that only carries a note."""
    start = given_up.moment()
    error = ValueError()
    assert not given_up.exhausted_since(error, start)
    given_up.note(error, "a note")
    assert not given_up.exhausted_since(error, start)


def test_a_cached_instance_is_fresh_for_the_next_attempt() -> None:
    """An exception instance that a client raises again and again can be retried again after it was given up once."""
    error = ValueError()
    given_up.exhausted(error)
    assert not given_up.exhausted_since(error, given_up.moment())


def test_a_clock_that_stands_still_does_not_confuse_before_and_after(manual_clock: ManualClock) -> None:
    """Fake clocks and coarse ones give the same reading twice; the order of things still shows."""
    before = given_up.moment()
    error = ValueError()
    given_up.exhausted(error)
    after = given_up.moment()
    assert before[0] == after[0]
    assert given_up.exhausted_since(error, before)
    assert not given_up.exhausted_since(error, after)


def test_a_wrapper_is_as_exhausted_as_its_cause() -> None:
    """`raise ToolError() from error` does not launder an error, however deep."""
    start = given_up.moment()
    error = ValueError()
    given_up.exhausted(error)
    assert given_up.exhausted_since(raised(KeyError(), cause=raised(OSError(), cause=error)), start)


def test_an_error_raised_while_another_was_handled_is_not_blamed_for_it() -> None:
    """A fallback's own failure has the exhausted error as its context, and is none the worse for it."""
    start = given_up.moment()
    unrelated = KeyError()
    unrelated.__context__ = error = ValueError()
    given_up.exhausted(error)
    assert not given_up.exhausted_since(unrelated, start)


def test_a_group_is_exhausted_when_one_of_its_members_is() -> None:
    """Repeating the group would repeat that member."""
    start = given_up.moment()
    error = ValueError()
    given_up.exhausted(error)
    group = ExceptionGroup("outer", [OSError(), ExceptionGroup("inner", [raised(KeyError(), cause=error)])])
    assert given_up.exhausted_since(group, start)
    assert not given_up.exhausted_since(ExceptionGroup("other", [OSError(), KeyError()]), start)
    last_looked_at = ExceptionGroup("outer", [error, ExceptionGroup("inner", [KeyError()])])
    assert given_up.exhausted_since(last_looked_at, start)


def test_a_circle_of_causes_ends() -> None:
    """`raise a from b`, `raise b from a`: looked through once."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not given_up.exhausted_since(first, given_up.moment())


def test_there_is_one_note_of_ours() -> None:
    """A later note takes the place of the earlier one; notes of other people stay."""
    error = ValueError()
    error.add_note("theirs")
    given_up.note(error, "not retried")
    given_up.exhausted(error, "gave up after 2 attempts")
    error.add_note("theirs again")
    given_up.exhausted(error, "gave up after 3 attempts")
    assert error.__notes__ == ["theirs", "gave up after 3 attempts", "theirs again"]


def test_what_is_noted_also_follows_what_our_note_says() -> None:
    """Once, however often it is said."""
    error = ValueError()
    for text in ("first", "second", "first"):
        given_up.note_also(error, text)
    assert error.__notes__ == ["first; second"]


def test_cause_and_context_are_set_where_attributes_are_refused() -> None:
    """As the interpreter does it."""
    error, cause, context = Frozen(), ValueError(), KeyError()
    given_up.set_cause(error, cause)
    given_up.set_context(error, context)
    assert (error.__cause__, error.__context__) == (cause, context)


def test_a_mark_without_a_text_keeps_the_note() -> None:
    """Marking again says nothing new."""
    error = ValueError()
    given_up.exhausted(error, "gave up after 2 attempts")
    given_up.exhausted(error)
    given_up.note(error, "gave up after 3 attempts")
    assert error.__notes__ == ["gave up after 3 attempts"]


def test_a_note_keeps_the_mark() -> None:
    """An error stays given up when only its note changes."""
    start = given_up.moment()
    error = ValueError()
    given_up.exhausted(error)
    given_up.note(error, "a note")
    assert given_up.exhausted_since(error, start)


def test_an_exception_that_refuses_attributes_takes_marks_all_the_same() -> None:
    """A frozen dataclass is marked and noted like any other, and still compares as it did."""
    start = given_up.moment()
    error = Frozen()
    given_up.exhausted(error, "a note")
    assert given_up.exhausted_since(error, start)
    assert "a note" in "".join(traceback.format_exception_only(error))
    assert error == Frozen()


def test_notes_that_are_no_list_are_left_alone() -> None:
    """What somebody else made of `__notes__` is not ours to repair."""
    error = ValueError()
    error.__notes__ = "a string"  # type: ignore[assignment]  # the point
    given_up.note(error, "a note")
    assert error.__notes__ == "a string"


def test_a_mark_survives_pickle() -> None:
    """What a worker process gave up is not retried by the process that waits for it."""
    start = given_up.moment()
    error = ValueError("text")
    given_up.exhausted(error, "gave up after 2 attempts")
    copy = pickle.loads(pickle.dumps(error))
    assert given_up.exhausted_since(copy, start)
    given_up.note(copy, "another")
    assert copy.__notes__ == ["another"]


def test_threads_that_share_an_error_leave_one_note() -> None:
    """A cached exception object that many threads raise carries at most one note of ours, however they take turns."""
    errors = [ConnectionError() for _ in range(200)]
    policy = Policy(Retry(2, wait=fixed(0)))
    together = threading.Barrier(4)

    def work() -> None:
        together.wait(10)
        for error in errors:
            with contextlib.suppress(ConnectionError):
                policy.call(raises, error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert {len(error.__notes__) for error in errors} == {1}


def test_a_note_that_the_user_took_away_stays_away() -> None:
    """We exchange our own note only."""
    error = ValueError()
    given_up.note(error, "ours")
    error.__notes__.clear()
    given_up.note(error, "ours again")
    assert error.__notes__ == []


def raises(error: Exception) -> None:
    raise error


async def test_a_frozen_error_passes_every_strategy(h: Harness) -> None:
    """An exception that refuses attributes comes out as itself, and what a predicate or handler of the user's raises,
    too."""

    async def fails() -> None:
        raise Frozen("function")

    async def stops() -> None:
        raise StopIteration

    def predicate(_: object) -> bool:
        raise Frozen("predicate")

    def handler(_: object) -> None:
        raise Frozen("handler")

    for policy, fn, text in (
        (Policy(Retry(2, on=Frozen, wait=fixed(0))), fails, "function"),
        (Policy(Retry(2, on=predicate)), fails, "predicate"),
        (Policy(Retry(2, when=predicate)), h.sleep, "predicate"),
        (Policy(CircuitBreaker(on=predicate)), fails, "predicate"),
        (Policy(Fallback(handler, on=Exception)), fails, "handler"),
        (Policy(Fallback(handler, on=Exception)), stops, "handler"),
    ):
        with pytest.raises(Frozen) as raised:
            await h.call(policy, fn, *([0] if fn == h.sleep else []))
        assert raised.value.text == text
