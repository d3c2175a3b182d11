"""Changes of a text that are wanted: arguments, statements and decorators, by where they belong."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Argument", "Changes", "Decorator", "Statement"]


@dataclass(frozen=True, slots=True)
class Argument:
    """A keyword argument of the call that starts and ends there (lines from 1, columns from 0, in bytes)."""

    start: tuple[int, int]
    end: tuple[int, int]
    name: str
    value: str
    in_place_of: str | int | None = None
    """An argument that says that there is no limit, by name or position, and gets the value instead."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What follows the statement, or begins the block of the `with`, in which the call stands that starts there."""

    behind: tuple[int, int]
    text: str


@dataclass(frozen=True, slots=True)
class Decorator:
    """A policy on the function whose name stands in this line."""

    line: int
    name: str
    policy: str


@dataclass(slots=True)
class Changes:
    """Of one file."""

    arguments: list[Argument] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    decorators: list[Decorator] = field(default_factory=list)
