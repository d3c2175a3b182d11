"""What a policy leaves on an exception: when it was given up, one note, what it came from.

An outer retry must not repeat what an inner one has already repeated. A boolean mark would stop a cached exception
instance from ever being retried again, so the mark says *when* the error was given up, and whoever reads it compares
that with the beginning of its own attempt. Marks are plain data that pickles: the monotonic clock is shared by the
processes of a machine, so they still hold for an error that comes out of a process pool. Nothing here ever raises.

Threads may share one exception object, and a signal handler may come in between. So each thing is written in one step,
without a lock: whoever is first to claim the note puts it among the notes, everybody later exchanges it in its place.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Final, TypeVar

from resilient_agents.base.clock import clock

__all__ = [
    "UNTIMED",
    "Moment",
    "exhausted",
    "exhausted_since",
    "left",
    "moment",
    "note",
    "note_also",
    "set_cause",
    "set_context",
]

E = TypeVar("E", bound=BaseException)
Moment = tuple[float, int]
"""Monotonic seconds, then the marks left so far: clocks stand still between two readings, and fake ones much longer."""

UNTIMED: Final[Moment] = (0.0, 0)
"""Of an attempt of which nobody needs to know when it began."""

left = 0
"""Marks left so far by this process. Read it where an attempt begins: one look at an integer."""

_next = itertools.count(1).__next__

_GIVEN_UP: Final = "_resilient_agents"
_NOTE: Final = "_resilient_agents_note"


def moment() -> Moment:
    """Now: every mark so far is older, every further one newer."""
    return clock.monotonic(), left


def exhausted(error: E, text: str | None = None) -> E:
    """`error`, marked as given up now: an outer retry leaves it alone. `text`, if given, becomes our note on it."""
    global left
    left = mine = _next()  # two threads may set it in the wrong order: it is then one too low until the next mark
    try:
        # Straight into the instance's dictionary, where `add_note` ends up too: a frozen dataclass refuses attributes.
        error.__dict__[_GIVEN_UP] = (clock.monotonic(), mine)
    except Exception:  # an exotic exception: better no mark than another error in place of the user's
        pass
    if text is not None:
        note(error, text)
    return error


def note(error: BaseException, text: str) -> None:
    """Put our note on `error`, in place of the one we put there before."""
    try:
        own = error.__dict__
        mine = [text]
        ours = own.setdefault(_NOTE, mine)
        notes = own.setdefault("__notes__", [])
        if ours is mine:
            notes.append(text)
        elif ours[0] in notes:  # else the user has taken it away
            notes[notes.index(ours[0])] = text
            ours[0] = text
    except Exception:
        pass


def note_also(error: BaseException, text: str) -> None:
    """Put it on `error` after what our note there says already."""
    with suppress(Exception):
        ours = error.__dict__.get(_NOTE)
        if ours is None:
            note(error, text)
        elif text not in ours[0]:
            note(error, f"{ours[0]}; {text}")


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """`error.__cause__ = cause`, also where the class refuses attributes."""
    BaseException.__setattr__(error, "__cause__", cause)


def set_context(error: BaseException, context: BaseException | None) -> None:
    """`error.__context__ = context`, also where the class refuses attributes."""
    BaseException.__setattr__(error, "__context__", context)


def exhausted_since(error: BaseException, start: Moment) -> bool:
    """Was `error`, what it was raised `from`, or a member of the group that it is, given up after `start`?

    `__context__` is not looked at: it also names errors that were merely being handled when an unrelated one was
    raised.
    """
    try:
        if error.__cause__ is None and _GIVEN_UP not in error.__dict__ and not isinstance(error, BaseExceptionGroup):
            return False  # nearly always
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            found = todo.pop()
            if found is None or id(found) in seen:
                continue
            given_up: Moment | None = found.__dict__.get(_GIVEN_UP)
            if given_up is not None and given_up > start:
                return True
            seen.add(id(found))
            todo.append(found.__cause__)
            if isinstance(found, BaseExceptionGroup):
                todo.extend(found.exceptions)
    except Exception:  # an exotic exception, whose attributes raise
        pass
    return False
