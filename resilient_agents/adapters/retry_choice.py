"""Which outcomes a retry is for: what its `on=` and `when=` come to."""

from __future__ import annotations

import functools
import operator
from typing import Any, Final

from resilient_agents.adapters.retry_ending import known
from resilient_agents.adapters.retry_state import State, TryAgain, ignores_results, intends, retry_base, retry_never
from resilient_agents.base.told import Fields
from resilient_agents.classify import is_transient, transient_by_itself
from resilient_agents.core import given_up
from resilient_agents.core.match import ask, matcher, meant
from resilient_agents.errors import Rejected

__all__ = ["chosen", "flat"]

_APART = (Rejected, ExceptionGroup)
"""Errors that not every class that they are of means."""
_BROAD = (Exception, RuntimeError)  # which do not mean them


class Choice(Fields):
    """The parts of `on`, sorted: `types` (`narrow`: those that mean what stands apart, too), `predicates`, tenacity's
    objects as one, `native`, and whether the `transient` errors are among them. Of results: the predicate `when`, and
    `of_results`, tenacity's objects that look at them.

    Nothing of a call is kept here, so that retries may share one.
    """

    types: tuple[Any, ...]
    narrow: tuple[Any, ...]
    predicates: tuple[Any, ...]
    native: Any
    transient: bool
    when: Any
    of_results: Any
    judges_results: bool

    def failed(self, result: Any) -> bool | None:
        """What `when` says of a result; None where tenacity's objects have a say, which look at a state."""
        return ask(self.when, result) if self.of_results is retry_never else None

    def judge(self, state: State) -> Any:
        """Is the outcome in `state` to be retried? May answer with an awaitable."""
        error = state.error
        try:
            if error is None:  # of results that `when` alone judges, `failed` has said yes
                if self.of_results is retry_never or (self.when is not None and ask(self.when, state.result)):
                    return True
                return self.of_results(state)
            failure = state.failure or known(state)
            steers = failure.kind == "control"
            if not steers and isinstance(error, self.types) and not isinstance(error, _APART):
                return True  # as `_means` would say, of most errors
            if isinstance(error, TryAgain):
                return True
            if self.transient and failure.transient and not _already_retried(error, state.since):
                return True
            if self.types and self._means(error, state.since):
                return True
            for predicate in () if steers else self.predicates:
                if ask(predicate, error):
                    return True
            return (not steers or intends(self.native, error)) and self.native(state)
        finally:
            del error, state

    def _means(self, error: Exception, since: given_up.Moment) -> bool:
        """Whether the types mean `error`, or all that is in it, however deep, where transient leaves may stay out."""
        for found in (todo := [error]):  # which grows
            types = self.narrow if isinstance(found, _APART) else self.types
            if isinstance(found, types) and meant(found, types):
                continue
            if found is not error and self.transient and is_transient(found) and not _already_retried(found, since):
                continue
            if not isinstance(found, ExceptionGroup):
                return False
            todo.extend(found.exceptions)
        return True


def flat(on: Any) -> list[Any]:
    return [part for item in on for part in flat(item)] if isinstance(on, tuple) else [on]


def chosen(on: Any, when: Any) -> Choice:
    """The choice that these options come to. Raises TypeError or ValueError for an `on` that is none."""
    if when is not None or not (on is is_transient or isinstance(on, type)):
        return _sorted(on, when)
    choice = _of_class.get(id(on))
    if choice is None:
        if len(_of_class) >= _REMEMBERED:
            _of_class.clear()
        choice = _of_class[id(on)] = _sorted(on, None)
    return choice


def _sorted(on: Any, when: Any) -> Choice:
    parts = flat(on)
    natives = [part for part in parts if isinstance(part, retry_base)]
    plain = [part for part in parts if not isinstance(part, retry_base)]
    if plain or not natives:
        matcher(tuple(plain))  # the rules are the same everywhere
    of_results = [native for native in natives if not ignores_results(native)]
    if isinstance(when, retry_base):
        of_results.append(when)
        when = None
    types = tuple(part for part in plain if isinstance(part, type))
    return Choice(
        types,
        tuple(kind for kind in types if kind not in _BROAD),
        tuple(part for part in plain if not isinstance(part, type) and part is not is_transient),
        _any(natives),
        is_transient in plain,
        when,
        _any(of_results),
        when is not None or bool(of_results),
    )


_of_class: Final[dict[int, Choice]] = {}
"""Remembered: a factory of policies for many keys makes retries that are alike. By the identity of the class, which the
choice keeps alive: classes may be equal that are not the same, or have no hash."""

_REMEMBERED: Final = 64


def _any(natives: list[retry_base]) -> Any:
    """Says yes where one of them does."""
    return functools.reduce(operator.or_, natives) if natives else retry_never


def _already_retried(error: Exception, since: given_up.Moment) -> bool:
    """Has a policy inside given it up during this attempt, this transient error or the one that speaks for it?"""
    if given_up.exhausted_since(error, since):
        return True
    # `except APIError: raise ToolError()` is told by its context, an error of its own that a fallback raised is not.
    # Which of the two it is shows when the classifier may not look at the context.
    hidden = error.__context__
    return hidden is not None and given_up.exhausted_since(hidden, since) and not transient_by_itself(error)
