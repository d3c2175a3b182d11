"""Options as data: what a strategy takes stands once, in its `OPTIONS`, by name and check; defaults stand in its
signature. How options are checked, shown, pickled and exchanged by a reload follows from that, the same for all, and
so does what a configuration file may say (see config/).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, dataclass_transform

from resilient_agents.base import durations
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import name_of
from resilient_agents.core.match import matcher, names, result_predicate

__all__ = ["Check", "Code", "Configured", "Count", "Errors", "Flag", "Made", "Number", "Results", "Seconds", "Share",
           "Text", "Wait", "Word"]  # fmt: skip


@dataclass_transform(kw_only_default=True)
class _Made:
    """What is made of keyword arguments that are its attributes. A dataclass of each would be a third of what it takes
    to import the package."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)


class Check(_Made):
    """One option. Called with the value and the option's name it returns what is kept, or raises TypeError or
    ValueError that name the option, the rule and the value. `none`: None is a value, too."""

    none: bool = False

    def __call__(self, value: Any, name: str) -> Any:
        return None if value is None and self.none else self.checked(value, name)

    def checked(self, value: Any, name: str) -> Any:
        """The same for a value that is not None."""
        return value

    def shown(self, value: Any) -> Any:
        """The value as plain data."""
        return value

    def spelled(self, value: Any) -> str:
        """The value in a `repr`."""
        return f"{value:g}" if isinstance(value, float) else repr(value)


class Seconds(Check):
    """A duration, kept in seconds; `zero`: nothing is a duration, too."""

    zero: bool = True

    def checked(self, value: Any, name: str) -> float:
        return durations.seconds(value, name, zero=self.zero)


class Count(Check):
    """An int."""

    minimum: int = 1

    def checked(self, value: Any, name: str) -> int:
        return durations.positive_int(value, name, minimum=self.minimum)


class Number(Check):
    """A number of more than 0 that is no duration."""

    def checked(self, value: Any, name: str) -> float:
        result = durations.number(value, name)
        if not result:
            raise ValueError(f"{name} must be more than 0, got 0")
        return result


class Share(Check):
    """A part of all: more than 0, at most 1."""

    def checked(self, value: Any, name: str) -> float:
        return durations.share(value, name)


class Flag(Check):
    """True or False."""

    def checked(self, value: Any, name: str) -> bool:
        if self.none and not isinstance(value, bool):
            raise TypeError(f"{name} must be True, False or None, got {value!r}")
        return durations.flag(value, name)


class Text(Check):
    """A string that is not empty; `number`: the option that is meant by who gives a number."""

    number: str = ""

    def checked(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not value:
            meant = f"; {self.number}={value}, perhaps?" if self.number and isinstance(value, int) else ""
            raise ValueError(f"{name} must be a non-empty string{' or None' * self.none}, got {value!r}{meant}")
        return value


class Word(Check):
    """One of these words."""

    words: tuple[str, ...] = ()

    def checked(self, value: Any, name: str) -> str:
        if value not in self.words:
            allowed = " or ".join(f'"{word}"' for word in self.words)
            raise ValueError(f"{name} must be {allowed}{' or None' * self.none}, got {value!r}")
        word: str = value
        return word


class Errors(Check):
    """What `on=` takes everywhere (see core/match.py)."""

    def checked(self, value: Any, name: str) -> Any:
        matcher(value, name)
        return value

    def shown(self, value: Any) -> Any:
        return names(value)

    def spelled(self, value: Any) -> str:
        found = [str(name) for name in self.shown(value)]
        return f"({', '.join(found)})" if len(found) > 1 else found[0]


class Code(Check):
    """Something that only a program can give: shown by name, never by what it holds. `check`: what it must be."""

    check: Callable[[Any, str], Any] | None = None

    def checked(self, value: Any, name: str) -> Any:
        return value if self.check is None else self.check(value, name)

    def shown(self, value: Any) -> Any:
        return None if value is None else name_of(value)

    def spelled(self, value: Any) -> str:
        return str(self.shown(value))


class Results(Code):
    """What `when=` takes: a predicate on results, or None."""

    def checked(self, value: Any, name: str) -> Any:
        return result_predicate(value, name)


class Wait(Code):
    """How long to wait between attempts: one of backoff.py's waits, or tenacity's."""


class Made(Check):
    """An object of this class of ours, or None, which describes itself."""

    type: type = object
    none: bool = True

    def checked(self, value: Any, name: str) -> Any:
        if not isinstance(value, self.type):
            raise TypeError(f"{name} must be a {self.type.__name__} or None, got {value!r}")
        return value

    def shown(self, value: Any) -> Any:
        return None if value is None else value.describe()


class Configured(Spelled):
    """A base for strategies with options.

    The constructor names them with their types and defaults and begins with `self.take(locals())`, which checks and
    keeps each as an attribute of its name. `strategy`: what it is called in `describe()`, in telemetry and in files.
    `HOLDS`: the live state of one that cannot be pickled, in words. `INSIDE`: options that what is inside keeps, and a
    property shows; a reload leaves them to it.
    """

    strategy: ClassVar[str]
    OPTIONS: ClassVar[Mapping[str, Check]]
    HOLDS: ClassVar[str] = ""
    INSIDE: ClassVar[frozenset[str]] = frozenset()
    innermost: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Defaults belong to the class: an object keeps what differs, which is little."""
        super().__init_subclass__()
        for option, default, _ in _parameters(cls) if "OPTIONS" in vars(cls) else ():
            if default is not inspect.Parameter.empty and option not in cls.INSIDE:
                setattr(cls, option, staticmethod(default) if inspect.isfunction(default) else default)

    def take(self, given: Mapping[str, Any]) -> None:
        """Check and keep what the constructor was given."""
        kind = type(self)
        for option, check in self.OPTIONS.items():
            value = given[option]
            if value is getattr(kind, option, _GIVEN):
                continue
            value = check(value, option)
            if option not in self.INSIDE:
                setattr(self, option, value)

    def adopt(self, new: Any) -> None:
        """Take over the options of `new`, another of this kind."""
        for option in self.OPTIONS:
            if option not in self.INSIDE:
                setattr(self, option, getattr(new, option))

    def live(self) -> dict[str, Any]:
        """Its state now, as plain data."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Options and live state, as plain data; functions and types by name."""
        shown = {option: check.shown(getattr(self, option)) for option, check in self.OPTIONS.items()}
        return {"strategy": self.strategy, **shown, **self.live()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._spelled())})"

    def _spelled(self) -> list[str]:
        """The arguments that are not at their defaults; the first in any case, as it says most."""
        parts: list[str] = []
        for option, default, by_name in _parameters(type(self)):
            value = getattr(self, option)
            if value != default or not parts:
                text = self.OPTIONS[option].spelled(value)
                parts.append(f"{option}={text}" if text and by_name else text)
        return [part for part in parts if part]

    def __reduce__(self) -> Any:
        what = type(self).__name__
        if self.HOLDS:
            raise TypeError(
                f"a {what} holds live state ({self.HOLDS}) and cannot be pickled or copied; build one in each process"
            )
        return functools.partial(type(self), **{option: getattr(self, option) for option in self.OPTIONS}), ()


_GIVEN: Any = object()
"""What no default is."""


def _parameters(cls: type) -> list[tuple[str, Any, bool]]:
    """(name, default, only by name) of each argument of a constructor."""
    parameters = inspect.signature(cls).parameters.values()
    return [(part.name, part.default, part.kind is part.KEYWORD_ONLY) for part in parameters]
