"""What `on=` and `when=` of a retry may be: which outcomes it is for."""

from __future__ import annotations

from typing import Any

from resilient_agents.adapters.retry_state import State, retry_base
from resilient_agents.classify import transient_by_itself
from resilient_agents.core import given_up
from resilient_agents.core.driver import is_awaitable
from resilient_agents.core.match import matcher

__all__ = ["already_retried", "any_says_yes", "flat", "sorted_choices"]


def any_says_yes(natives: tuple[retry_base, ...], state: State) -> Any:
    """Does one of the tenacity objects say yes? An awaitable of the answer as soon as one of them answers with one."""
    for position, native in enumerate(natives, 1):
        verdict: Any = native(state)
        if is_awaitable(verdict):
            return _any_of_the_rest(verdict, natives[position:], state)
        if verdict:
            return True
    return False


async def _any_of_the_rest(verdict: Any, natives: tuple[retry_base, ...], state: State) -> Any:
    return await verdict or (await rest if is_awaitable(rest := any_says_yes(natives, state)) else rest)


def flat(on: Any) -> list[Any]:
    return [part for item in on for part in flat(item)] if isinstance(on, tuple) else [on]


def sorted_choices(on: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Exception types, predicates and tenacity objects. Raises TypeError or ValueError for anything else."""
    parts = flat(on)
    natives = tuple([part for part in parts if isinstance(part, retry_base)])
    plain = [part for part in parts if not isinstance(part, retry_base)] if natives else parts
    if plain or not natives:
        matcher(tuple(plain))  # the rules are the same everywhere
    types = tuple(part for part in plain if isinstance(part, type))
    return types, tuple(part for part in plain if not isinstance(part, type)), natives


def already_retried(error: Exception, since: given_up.Moment) -> bool:
    """Has a policy inside given it up during this attempt, this transient error or the one that speaks for it?"""
    if given_up.exhausted_since(error, since):
        return True
    # `except APIError: raise ToolError()` is told by its context, an error of its own that a fallback raised is not.
    # Which of the two it is shows when the classifier may not look at the context.
    hidden = error.__context__
    return hidden is not None and given_up.exhausted_since(hidden, since) and not transient_by_itself(error)
