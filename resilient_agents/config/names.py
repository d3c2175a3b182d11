"""Names for code in a configuration: `on = ["transient", "stale"]`.

A file chooses among what the program offers; it never imports anything. Whoever may write a configuration file or set
an environment variable could otherwise run any code on the process's path.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

from resilient_agents.classify import KINDS, classify, counts_against_dependency, http_failure, is_transient
from resilient_agents.core.match import Match, matcher
from resilient_agents.strategies.stream_text import json_lines, sse_done

__all__ = ["NAMED", "define", "known", "look_up", "spelled"]

_BUILT_IN: dict[str, dict[str, Any]] = {
    "on": {"transient": is_transient, "counts_against_dependency": counts_against_dependency},
    "when": {"http_failure": http_failure},
    "cost": {},
    "settle": {},
    "complete": {"auto": "auto", "sse_done": sse_done, "json_lines": json_lines},
    "reconcile": {},
}
"""By the options of strategies and policies that are code, and that a configuration may choose by name."""

_defined: dict[tuple[str, str], Any] = {}
"""The program's own, by option and name."""

NAMED = frozenset(_BUILT_IN)


def define(
    name: str,
    *,
    on: Match | None = None,
    when: Callable[[Any], object] | None = None,
    cost: Callable[..., float] | None = None,
    settle: Callable[[Any], float | None] | None = None,
    complete: Callable[[Any], object] | None = None,
    reconcile: Callable[..., Any] | None = None,
) -> None:
    """Give code of the program a name that configurations may use, for the whole process.

    Call it before `load`. A name that is defined again has its last meaning; the ones that are built in stay.

    Args:
        name: What a configuration writes.
        on: What `on = ["name"]` chooses: an exception type, a predicate on errors, or a tuple of these.
        when: What `when = "name"` chooses: a predicate on results.
        cost: What `cost = "name"` of a rate limit means: a function of the call's arguments.
        settle: What `settle = "name"` of a rate limit means: a function of the result.
        complete: What `complete = "name"` of a stream's limits means: a predicate on items.
        reconcile: What `reconcile = "name"` of a policy means: a function of the call's arguments.

    Raises:
        TypeError, ValueError: there is nothing to name, it is no such code, or the name is empty or built in.
    """
    offered = locals()
    given = {option: offered[option] for option in _BUILT_IN if offered[option] is not None}
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")
    if not given:
        raise TypeError(f"define({name!r}) needs on=, when=, cost=, settle=, complete= or reconcile=")
    for option, thing in given.items():
        if option == "on":
            matcher(thing)
        elif not callable(thing):
            raise TypeError(f"{option} must be a function, got {thing!r}")
        if _built_in(option, name) is not None:
            raise ValueError(f"{name!r} is built in: choose another name")
    _defined.update({(option, name): thing for option, thing in given.items()})


def look_up(option: str, name: str) -> Any:
    """The code behind a name, None if there is none."""
    found = _built_in(option, name)
    return _defined.get((option, name)) if found is None else found


def spelled(option: str, thing: Any) -> str:
    """The built-in name of a constructor's default."""
    return next(name for name, code in _BUILT_IN[option].items() if code is thing)


def known(option: str) -> list[str]:
    """The names that `option` may have, apart from Python's own exceptions."""
    own = [name for of, name in _defined if of == option]
    return [*_BUILT_IN[option], *own, *(KINDS if option == "on" else ())]


def _built_in(option: str, name: str) -> Any:
    if option == "on" and name in KINDS:
        return _of_kind(name)
    python = getattr(builtins, name, None) if option == "on" else None
    return python if isinstance(python, type) and issubclass(python, Exception) else _BUILT_IN[option].get(name)


@functools.cache
def _of_kind(kind: str) -> Callable[[Exception], bool]:
    def is_of_kind(error: Exception) -> bool:
        return classify(error).kind == kind

    is_of_kind.__name__ = is_of_kind.__qualname__ = kind
    return is_of_kind
