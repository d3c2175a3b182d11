"""Text with roles (not colours), and how it reaches a terminal, a pipe or one that knows no Unicode."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Literal

__all__ = [
    "ASCII",
    "UNICODE",
    "Glyphs",
    "Line",
    "Role",
    "cells",
    "clip",
    "clock",
    "glyphs_for",
    "render",
    "seconds",
    "wants_colour",
]

Role = Literal["", "bold", "dim", "good", "bad", "wait", "mark"]
Line = list[tuple[str, Role]]

_SGR: dict[Role, str] = {"bold": "1", "dim": "2", "good": "32", "bad": "31", "wait": "33", "mark": "1;35"}


@dataclass(slots=True, frozen=True)
class Glyphs:
    """What a waterfall is drawn with. Every kind of bar has a texture of its own, so that nothing depends on colour."""

    operation: str
    good: str
    bad: str
    wait: str
    other: str
    mark: str
    tick: str
    grid: str
    branch: str
    last: str
    trunk: str
    ok: str
    no: str
    ellipsis: str
    arrow: str


UNICODE = Glyphs("━", "█", "▓", "░", "▬", "◆", "│", "┊", "├ ", "└ ", "│ ", "✓", "✗", "…", "→")
ASCII = Glyphs("=", "#", "x", ".", "-", "*", "|", " ", "|- ", "`- ", "|  ", "ok", "x", "~", "->")


def glyphs_for(stream: IO[str]) -> Glyphs:
    """The glyphs that `stream` can encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        "━█▓░▬◆│┊├└✓✗…→".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return UNICODE


def wants_colour(stream: IO[str]) -> bool:
    """Is `stream` a terminal whose user has not declined colour (https://no-color.org)?"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(lines: Iterable[Line], *, colour: bool = False) -> str:
    """Lines as one text, without blanks at the ends of lines."""
    if not colour:
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
    return "\n".join("".join(_painted(text, role) for text, role in line).rstrip() for line in lines)


def _painted(text: str, role: Role) -> str:
    return f"\x1b[{_SGR[role]}m{text}\x1b[0m" if role and text.strip() else text


def cells(text: str) -> int:
    """How many columns `text` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, width: int, ellipsis: str) -> str:
    """`text` in exactly `width` columns, shortened if it must be, and without what could steer a terminal."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if cells(text) > width:
        while text and cells(text) > width - len(ellipsis):
            text = text[:-1]
        text += ellipsis
    return text + " " * (width - cells(text))


def seconds(nanoseconds: float) -> str:
    """A duration in at most eight characters: `0.4 ms`, `38 ms`, `1.42 s`, `4 min 5 s`."""
    ms = nanoseconds / 1e6
    if ms < 9.95:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 9_995:
        return f"{ms / 1e3:.2f} s"
    if ms < 99_950:
        return f"{ms / 1e3:.1f} s"
    minutes, rest = divmod(round(ms / 1e3), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes / 60:.1f} h"


def clock(nanoseconds: float, unit: float) -> str:
    """A tick of the time axis, whose ticks are `unit` nanoseconds apart."""
    if not nanoseconds:
        return "0"
    if unit < 1e8:
        return f"{nanoseconds / 1e6:g} ms"
    return f"{nanoseconds / 1e9:g} s"
