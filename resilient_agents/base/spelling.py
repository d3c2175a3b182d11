"""What was meant by a name that is not there: in Python as in configuration files.

Names come from other libraries and from hand-written patterns, whose users come here with them; else the nearest one.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar, cast

__all__ = ["ELSEWHERE", "EnteredPlainly", "Spelled", "meant_by", "nearest", "refuse_unknown", "spelled"]

F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE: Final[dict[str, tuple[str, ...]]] = {
    # options
    "backoff": ("wait",),
    "backoff_factor": ("factor", "wait"),
    "backoff_multiplier": ("factor", "wait"),
    "base_delay": ("base", "delay", "wait"),
    "breaker": ("circuit_breaker",),
    "check_function": ("check",),
    "check_interval": ("interval",),
    "circuit_breaker": ("breaker",),
    "delay": ("wait",),
    "exceptions": ("on",),
    "expected_exception": ("on",),
    "expected_exceptions": ("on",),
    "exponential_base": ("factor", "wait"),
    "fail_max": ("failures",),
    "failure_threshold": ("failures",),
    "failure_rate_threshold": ("failure_rate",),
    "fallback_function": ("fallback", "handler"),
    "half_open_max_calls": ("half_open_calls",),
    "initial_delay": ("base", "wait"),
    "isolation_strategy": ("isolation",),
    "max_attempts": ("attempts", "retry"),
    "max_calls": ("limit", "rate"),
    "max_concurrency": ("limit", "bulkhead"),
    "max_concurrent": ("limit", "bulkhead"),
    "max_concurrent_calls": ("limit", "bulkhead"),
    "max_delay": ("max", "wait"),
    "max_queue_size": ("queue",),
    "max_retries": ("attempts", "retry"),
    "max_wait_duration": ("max_wait",),
    "monitor_window": ("window",),
    "monitoring_window": ("window",),
    "multiplier": ("factor", "wait"),
    "on_retry": ("before_sleep",),
    "period": ("per",),
    "queue_size": ("queue",),
    "recovery_timeout": ("reset_timeout",),
    "request_timeout": ("attempt_timeout", "seconds"),
    "requests_per_second": ("rate", "rate_limit"),
    "retries": ("attempts", "retry"),
    "retry_on": ("on",),
    "slow_call_duration_threshold": ("slow_call",),
    "stop_after_attempt": ("attempts",),
    "strategy": ("wait",),
    "success_threshold": ("successes",),
    "timeout": ("max_wait", "seconds"),
    "timeout_duration": ("reset_timeout", "seconds"),
    "timeout_seconds": ("seconds", "timeout"),
    "wait_duration": ("reset_timeout",),
    # methods and attributes
    "add_check": ("add",),
    "call_async": ("acall",),
    "check_all": ("refresh",),
    "check_health": ("refresh",),
    "current_state": ("state",),
    "execute_async": ("acall",),
    "force_close": ("close",),
    "force_open": ("open",),
    "get_bulkhead": ("bulkhead",),
    "get_circuit_breaker": ("circuit_breaker",),
    "get_health_report": ("report",),
    "get_health_status": ("report",),
    "get_metrics": ("metrics", "describe"),
    "get_policy": ("policy",),
    "get_rate_limit": ("rate_limit",),
    "get_state": ("state",),
    "get_stats": ("metrics", "describe"),
    "get_status": ("state", "report"),
    "get_system_health": ("report",),
    "is_closed": ("state",),
    "is_half_open": ("state",),
    "is_healthy": ("ready",),
    "is_open": ("state",),
    "register": ("add",),
    "register_check": ("add",),
    "register_health_check": ("add",),
    "reset": ("close", "reset_metrics"),
    "run_checks": ("refresh",),
    "run_health_checks": ("refresh",),
    "start_monitoring": ("start",),
    "stats": ("metrics", "describe"),
    "stop_monitoring": ("stop",),
}
"""What others call it, and what it is called here: the first of these that there is."""

_ASIDE: Final = {
    "jitter": "an option of its wait",
    "timeout": "a Timeout around it or inside",
    "request_timeout": "a Timeout inside it, which is attempt_timeout in @resilient and in files",
    "max_attempts": "a Retry",
    "max_retries": "a Retry",
}
"""What is an option of something else."""

_CALLING: Final = frozenset(["call", "acall", "call_async", "execute_async", "run", "run_async", "decorate"])
"""What a policy does, and its strategies do not."""

_BY_NAME: Final = inspect.Parameter.KEYWORD_ONLY
_LISTED: Final = 100
_COMPARED: Final = 200
"""Names to list, and to compare with, at most: a configuration may have thousands, and as many mistakes."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """ "did you mean ...? Allowed: ..." for a word that is none of those allowed."""
    words = list(allowed)
    meant = meant_by(word, words)
    hint = "" if meant is None else f"did you mean {meant}? "
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return f"{hint}Allowed: {', '.join(words[:_LISTED]) or 'nothing'}{more}"


def meant_by(word: str, words: Collection[str]) -> str | None:
    """Which of these a word may stand for, in quotes, or what else was meant; None if nothing comes near."""
    lower = word.lower()
    for ours in ELSEWHERE.get(lower, ()):
        if ours in words:
            return repr(ours)
    if lower in _ASIDE:
        return _ASIDE[lower]
    import difflib  # only then: it takes its time to import

    close = difflib.get_close_matches(lower, words, n=1, cutoff=0.6) if len(words) <= _COMPARED else []
    close = close or [known for known in words if len(word) > 2 and known.startswith(lower)]
    return repr(close[0]) if close else None


def refuse_unknown(whose: str, given: Iterable[str], allowed: Collection[str]) -> None:
    """Raise TypeError for the first name in `given` that is not `allowed`, with what was meant."""
    for name in given:
        if name not in allowed:
            raise TypeError(f"{whose} has no option {name!r}; {nearest(name, allowed)}")


def spelled(fn: F) -> F:
    """A function that says what was meant by an option that it does not have."""

    @functools.wraps(fn)
    def call(*args: Any, **options: Any) -> Any:
        if options:
            refuse_unknown(fn.__name__, options, inspect.signature(fn).parameters)
        return fn(*args, **options)

    return cast(F, call)


class EnteredPlainly:
    """A base for what a plain `with` enters, in async code, too: says so to an `async with`. `call`: what makes it."""

    __slots__ = ()
    call: ClassVar[str]

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f"{self.call}(...) is entered by a plain `with`, in async code, too, got `async with`")

    async def __aexit__(self, *_: object) -> None:
        """Never called, but looked for."""


class _Elsewhere:
    """An attribute that is not there under this name."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, thing: object, owner: type) -> Any:
        if thing is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        raise _NoAttribute(thing, self._name)


class Spelled:
    """A base that says what was meant by an option that it does not have, that an option wants its name, or what was
    meant by an attribute that is called otherwise elsewhere. (A `__getattr__`, which could say it of every name, would
    keep the interpreter from specialising each read of an attribute: 25 ns for each of them on the path of every
    call.)"""

    __slots__ = ()

    if not TYPE_CHECKING:  # checkers know the options and the attributes of each class

        def __new__(cls, *given: Any, **options: Any) -> Any:
            if options:
                refuse_unknown(cls.__name__, options, _options(cls))
            if given and len(given) > _by_position(cls):
                _refuse_unnamed(cls, given[_by_position(cls)])
            return object.__new__(cls)

        def __dir__(self) -> list[str]:
            kind = type(self)
            names = object.__dir__(self)
            return [name for name in names if type(inspect.getattr_static(kind, name, None)) is not _Elsewhere]


for _name in {*ELSEWHERE, *_CALLING}:
    setattr(Spelled, _name, _Elsewhere(_name))


class _NoAttribute(AttributeError):
    """Says what was meant when somebody reads it: our own code asks for attributes that may not be there, too."""

    def __init__(self, thing: object, name: str) -> None:
        super().__init__(name)
        self.thing = thing

    def __str__(self) -> str:
        thing, name = self.thing, str(self.args[0])
        what = f"{type(thing).__name__!r} object has no attribute {name!r}"
        if name.startswith("_"):
            return what
        if name in _CALLING and not hasattr(type(thing), "acall"):
            return f"{what}: strategies guard as part of a policy: Policy(...).call(fn), or await Policy(...).acall(fn)"
        meant = meant_by(name, [known for known in dir(thing) if not known.startswith("_")])
        return what if meant is None else f"{what}; did you mean {meant}?"

    def __reduce__(self) -> Any:
        return AttributeError, (str(self),)


@functools.cache
def _by_position(cls: type) -> float:
    """How many arguments its constructor takes without their names."""
    kinds = [parameter.kind for parameter in inspect.signature(cls).parameters.values()]
    return math.inf if inspect.Parameter.VAR_POSITIONAL in kinds else len(kinds) - kinds.count(_BY_NAME)


def _refuse_unnamed(cls: type, value: object) -> NoReturn:
    count = int(_by_position(cls))
    first, rest = _options(cls)[:count], _options(cls)[count:]
    without = f"{' and '.join(first)} without a name, " if first else ""
    named = f"{', '.join(rest)} by name only" if rest else "nothing else"
    raise TypeError(f"{cls.__name__} takes {without}{named}, got {value!r}")


@functools.cache
def _options(cls: type) -> tuple[str, ...]:
    return tuple(inspect.signature(cls).parameters)
