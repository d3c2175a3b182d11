"""What a policy leaves on an exception: when it was given up, and one note.

An outer retry must not repeat what an inner one has already repeated. A boolean mark would stop a cached exception
instance from ever being retried again, so the mark says *when* the error was given up, and whoever reads it compares
that with the beginning of its own attempt. Both live in one attribute, plain data that pickles: the monotonic clock
is shared by the processes of a machine, so the mark still holds for an error that comes out of a process pool. Nothing
here ever raises.
"""

from __future__ import annotations

import itertools
from typing import Final

from resilient_agents.base.clock import clock

__all__ = ["Moment", "exhausted", "exhausted_since", "left", "moment", "note"]

Moment = tuple[float, int]
"""Monotonic seconds, then the marks left so far: clocks stand still between two readings, and fake ones much longer."""

left = 0
"""Marks left so far by this process. Read it where an attempt begins: one look at an integer."""

_next = itertools.count(1).__next__

_ATTRIBUTE: Final = "_resilient_agents"
_NONE: Final = (None, None)


def moment() -> Moment:
    """Now: every mark so far is older, every further one newer."""
    return clock.monotonic(), left


def exhausted(error: BaseException, text: str | None = None) -> None:
    """Mark `error` as given up now: an outer retry leaves it alone. `text`, if given, becomes our note on it."""
    global left
    left = mine = _next()  # two threads may set it in the wrong order: it is then one too low until the next mark
    _leave(error, (clock.monotonic(), mine), text)


def note(error: BaseException, text: str) -> None:
    """Put our note on `error`, in place of the one we put there before."""
    _leave(error, None, text)


def exhausted_since(error: BaseException, start: Moment) -> bool:
    """Was `error`, what it was raised `from`, or a member of the group that it is, given up after `start`?

    `__context__` is not looked at: it also names errors that were merely being handled when an unrelated one was
    raised.
    """
    try:
        return _exhausted_since(error, start)
    except Exception:  # an exotic exception, whose attributes raise
        return False


def _exhausted_since(error: BaseException, start: Moment) -> bool:
    if error.__cause__ is None and _ATTRIBUTE not in error.__dict__ and not isinstance(error, BaseExceptionGroup):
        return False  # nearly always
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        found = todo.pop()
        if found is None or id(found) in seen:
            continue
        given_up, _ = _found(found)
        if given_up is not None and given_up > start:
            return True
        cause = found.__cause__
        if cause is not None or isinstance(found, BaseExceptionGroup):
            seen.add(id(found))
            todo.append(cause)
            if isinstance(found, BaseExceptionGroup):
                todo.extend(found.exceptions)
    return False


def _found(error: BaseException) -> tuple[Moment | None, str | None]:
    mark: tuple[Moment | None, str | None] = error.__dict__.get(_ATTRIBUTE, _NONE)
    return mark


def _leave(error: BaseException, given_up: Moment | None, text: str | None) -> None:
    # Straight into the instance's dictionary, where `add_note` ends up too: a frozen dataclass refuses attributes.
    try:
        own = error.__dict__
        before, ours = own.get(_ATTRIBUTE, _NONE)
        own[_ATTRIBUTE] = (given_up or before, text or ours)
        if text is None:
            return
        notes = own.get("__notes__")
        if notes is None:
            own["__notes__"] = [text]
        elif isinstance(notes, list):
            if ours in notes:
                notes.remove(ours)
            notes.append(text)
    except Exception:  # an exotic exception: better no mark than another error in place of the user's
        pass
