"""The public names of the package and their signatures, as text: what a user may rely on, one line each.

`public_api.txt` beside this file is how they were when somebody last decided about them; test_architecture.py compares.
A change that is meant is written down with

    python -m tests.public_api

and shows in the diff of the change.
"""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = (
    "resilient_agents",
    "resilient_agents.config",
    "resilient_agents.errors",
    "resilient_agents.events",
    "resilient_agents.health",
    "resilient_agents.integrations",
    "resilient_agents.integrations.asgi",
    "resilient_agents.integrations.deadlines",
    "resilient_agents.integrations.limits",
    "resilient_agents.integrations.wsgi",
    "resilient_agents.presets",
    "resilient_agents.registry",
    "resilient_agents.simulate",
    "resilient_agents.simulate.recording",
    "resilient_agents.simulate.replay",
    "resilient_agents.simulate.scenarios",
    "resilient_agents.telemetry",
    "resilient_agents.testing",
    "resilient_agents.trace",
    "resilient_agents.trace.exporter",
)
"""What the documentation imports from."""

NEEDS_MORE = frozenset(["resilient_agents.integrations.grpc"])
"""What needs a library that one may do without: two classes without options."""

_MACHINERY = frozenset(
    [
        "accepts",
        "args",
        "after_fork",
        "clock_changed",
        "alone",
        "answered",
        "become",
        "bind",
        "chaos_is_on",
        "look_up",
        "deposit",
        "end",
        "execute",
        "execute_around",
        "failed",
        "first_failed",
        "forget",
        "interrupted",
        "judge",
        "late",
        "layers",
        "left_alone",
        "note",
        "of",
        "plan",
        "planned",
        "recheck",
        "reconfigure",
        "remember",
        "renew",
        "renewed",
        "replaced",
        "take_over",
        "watchers",
        "withdraw",
    ]
)
"""What our own rooms call on each other's objects: no user needs it, and it may change at any time."""


_SPECIAL = ("__aenter__", "__call__", "__enter__", "__iter__", "__len__")


def public_api() -> str:
    """All of it."""
    lines: list[str] = []
    for name in MODULES:
        module = importlib.import_module(name)
        lines += ["", f"# {name}"]
        for public in sorted(module.__all__):
            lines += described(public, getattr(module, public))
    return "\n".join(lines[1:]) + "\n"


def described(name: str, thing: Any) -> Iterator[str]:
    """One name: a line for itself, and one for each member of a class."""
    if isinstance(thing, type):
        bases = [base.__name__ for base in thing.__bases__ if base is not object and not _is_hidden(base)]
        yield f"class {name}({', '.join(bases)})" if bases else f"class {name}"
        if issubclass(thing, enum.Enum):
            yield from (f"    {member.name} = {member.value!r}" for member in thing)
        elif typing.is_typeddict(thing):
            yield from (f"    {field}: {_annotation(hint)}" for field, hint in thing.__annotations__.items())
        else:
            yield from _members(thing)
    elif inspect.isroutine(thing):
        yield from _signatures(f"def {name}", thing)
    elif typing.get_origin(thing) is not None or "." not in type(thing).__module__:
        yield f"{name} = {_plain(thing)}"
    else:
        yield f"{name}: {type(thing).__name__}"


def _members(cls: type) -> Iterator[str]:
    """Constructor, methods and properties, those of bases of ours included."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("resilient_agents"):
            found |= vars(base)
    if ("__init__" in found or "__new__" in found) and not getattr(cls, "_is_protocol", False):
        yield from _signatures("    ", cls)
    for name in sorted(found):
        member = found[name]
        if name in _MACHINERY or (name.startswith("_") and name not in _SPECIAL):
            continue
        if isinstance(member, property | functools.cached_property):
            yield f"    {name}: property"
        elif isinstance(member, staticmethod | classmethod):
            yield from _signatures(f"    {type(member).__name__} {name}", member.__func__)
        elif inspect.isfunction(member):
            asynchronous = "async " if inspect.iscoroutinefunction(member) else ""
            yield from _signatures(f"    {asynchronous}def {name}", member)


def _is_hidden(base: type) -> bool:
    """A base of ours that is no public class itself says nothing to a user."""
    ours = [module for module in MODULES if base.__module__.startswith(module)]
    return bool(ours) and not any(hasattr(importlib.import_module(module), base.__name__) for module in MODULES)


def _signatures(label: str, function: Any) -> Iterator[str]:
    overloads = typing.get_overloads(function) if inspect.isfunction(function) else []
    for each in overloads or [function]:
        yield f"{label}{_signature(each)}"


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [part.replace(default=_Shown(part.default)) for part in signature.parameters.values()]
    text = str(signature.replace(parameters=parameters))
    return re.sub(r"""(: |-> )(?:'([^']*)'|"([^"]*)")""", r"\1\2\3", text)  # annotations are strings here


def _annotation(hint: Any) -> str:
    return str(getattr(hint, "__forward_arg__", hint))


class _Shown:
    """A default as it is shown: functions and instances by their names, not by where they are in memory."""

    def __new__(cls, value: Any) -> Any:
        return value if value is inspect.Parameter.empty else super().__new__(cls)

    def __init__(self, value: Any) -> None:
        self._text = _plain(value)

    def __repr__(self) -> str:
        return self._text


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))}{',' * (len(value) == 1)})"
    if isinstance(value, type) or inspect.isroutine(value):
        return str(value.__qualname__)
    text = repr(value)
    return f"<{type(value).__name__}>" if " at 0x" in text or len(text) > 200 else text


if __name__ == "__main__":
    SNAPSHOT.write_text(public_api())
