"""What `on=` and `when=` mean everywhere: which errors and which results a strategy acts on."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from typing import Any, cast

from resilient_agents.base.told import Fields
from resilient_agents.classify import KINDS, counts_against_dependency, is_control, is_transient, means_control
from resilient_agents.core.call import Boxed
from resilient_agents.core.given_up import set_cause

__all__ = [
    "Match",
    "Matcher",
    "When",
    "ask",
    "is_async",
    "matcher",
    "meant",
    "names",
    "refuse_async",
    "result_predicate",
]

When = Callable[[Any], object]
Matcher = Callable[[Exception], bool]
_OWN = (is_transient, counts_against_dependency)  # they say no to control flow themselves

Match = type[Exception] | Matcher | tuple[Any, ...]


def matcher(on: Match, name: str = "on") -> Matcher:
    """One predicate for `on`: an exception type (and its subclasses), a predicate on the error, or a tuple of these.

    Types are asked before predicates. What frameworks steer with is matched only by a type that means it, such as
    `ModelRetry`: not by `Exception`, and not by a predicate, which mostly says what is left out. `name` is the
    argument's name in messages. The predicate expects errors that are `unboxed`.

    Raises:
        TypeError: something in `on` is neither, or a type that is not below `Exception`: cancellation is never matched.
        ValueError: `on` is an empty tuple.
    """
    types: list[type[Exception]] = []
    predicates: list[Matcher] = []
    _sort(on, name, types, predicates)
    if not predicates:
        kinds = tuple(types)
        return lambda error: isinstance(error, kinds) and meant(error, kinds)
    if not types and len(predicates) == 1 and any(predicates[0] is own for own in _OWN):
        return predicates[0]
    return _Either(tuple(types), tuple(predicates))


def names(on: Any) -> list[str]:
    """The parts of `on` by name, for `describe()` and `repr`: never their state."""
    if isinstance(on, tuple):
        parts: tuple[Any, ...] = on
        return [name for part in parts for name in names(part)]
    return [getattr(on, "__name__", None) or type(on).__name__]


def meant(error: Exception, types: tuple[type[BaseException], ...]) -> bool:
    """Whether `types`, one of which `error` is an instance of, mean it: what frameworks steer with is meant only by a
    class that they steer with."""
    return not is_control(error) or any(means_control(kind) and isinstance(error, kind) for kind in types)


class _Either(Fields):
    __slots__ = ("_predicates", "_types")

    _types: tuple[type[Exception], ...]
    _predicates: tuple[Matcher, ...]

    def __call__(self, error: Exception) -> bool:
        if isinstance(error, self._types) and meant(error, self._types):
            return True
        for predicate in self._predicates:  # a plain loop: `any` costs a generator
            if predicate(error):
                return not is_control(error)
        return False


def _sort(on: Any, name: str, types: list[type[Exception]], predicates: list[Matcher]) -> None:
    if isinstance(on, tuple):
        if not on:
            raise ValueError(f"{name} must name at least one exception type or predicate, got ()")
        parts: tuple[Any, ...] = on
        for part in parts:
            _sort(part, name, types, predicates)
    elif isinstance(on, type):
        if not issubclass(on, BaseException):
            raise TypeError(
                f"{name} must be an exception type, a predicate or a tuple of these, got the class {on.__name__}"
            )
        if not issubclass(on, Exception):
            raise TypeError(
                f"{name} must name subclasses of Exception, got {on.__name__}: "
                f"cancellation and the interpreter's exit are never retried, counted or replaced"
            )
        types.append(on)
    elif isinstance(on, BaseException):
        raise TypeError(f"{name} must be an exception type, not an instance of one, got {type(on).__name__}(...)")
    elif not callable(on):
        hint = " (a tuple, not a list)" if isinstance(on, list | set | frozenset) else ""
        meant = _meant_by_name(on, name) if isinstance(on, str) else ""
        raise TypeError(f"{name} must be an exception type, a predicate or a tuple of these{hint}, got {on!r}{meant}")
    else:
        refuse_async(on, name)
        predicates.append(cast(Matcher, on))


def _meant_by_name(word: str, option: str) -> str:
    """What was meant by text, which only configuration files take: a predicate, a class, or a kind of failure."""
    python = getattr(builtins, word, getattr(builtins, f"{word.title()}Error", None))
    if word == "transient" or any(word == own.__name__ for own in _OWN):
        ways = [f"is_{word}" if word == "transient" else word]
    else:
        ways = [python.__name__] if isinstance(python, type) and issubclass(python, Exception) else []
        ways += [f"lambda error: classify(error).kind == {word!r}"] if word in KINDS else []
    return f"; did you mean {' or '.join(f'{option}={way}' for way in ways)}?" if ways else ""


def result_predicate(when: When | None, name: str = "when") -> When | None:
    """`when`, if it can judge results. Raises TypeError otherwise."""
    if when is None:
        return None
    if not callable(when) or isinstance(when, type):
        raise TypeError(f"{name} must be a predicate on results or None, got {type(when).__name__}")
    refuse_async(when, name)
    return when


def refuse_async(predicate: Callable[..., object], name: str) -> None:
    """Raise TypeError for a predicate that is a coroutine function."""
    if is_async(predicate):
        raise TypeError(f"{name} must be a plain predicate: nothing awaits it, so a coroutine always counts as true")


def ask(predicate: Callable[[Any], object], about: Any, failed: Exception | None = None) -> bool:
    """What a user's predicate says. What it raises comes out, from the failure (`failed`) that it was asked about."""
    try:
        return bool(predicate(about))
    except Exception as error:
        if failed is not None and error is not failed:
            set_cause(error, failed)
        if isinstance(error, StopIteration):
            raise Boxed(error) from None
        raise
    finally:
        del about, failed  # no cycle where the predicate raises what it was asked about


def is_async(thing: Any) -> bool:
    """Is it a coroutine function, or an object that is called like one?"""
    return inspect.iscoroutinefunction(thing) or inspect.iscoroutinefunction(getattr(thing, "__call__", None))  # noqa: B004
