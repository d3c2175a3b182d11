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
    "shown",
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
    return UNICODE if _encodable("━█▓░▬◆│┊├└✓✗…→", getattr(stream, "encoding", None) or "utf-8") else ASCII


def wants_colour(stream: IO[str]) -> bool:
    """Is `stream` a terminal whose user has not declined colour (https://no-color.org)?"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(lines: Iterable[Line], *, colour: bool = False, encoding: str | None = None) -> str:
    """Lines as one text, without blanks at the ends of lines.

    This is the way out, whatever a text says and wherever it comes from: nothing in it steers a terminal but our own
    colours, and `encoding`, if given, has all its characters.
    """
    return "\n".join(
        "".join(_painted(shown(text, encoding), role if colour else "") for text, role in line).rstrip()
        for line in lines
    )


def _painted(text: str, role: Role) -> str:
    return f"\x1b[{_SGR[role]}m{text}\x1b[0m" if role and text.strip() else text


def shown(text: str, encoding: str | None = None) -> str:
    """`text` with question marks, in as many columns, for what is not printable or not in `encoding`."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    if encoding is None or text.isascii() or _encodable(text, encoding):
        return text
    return "".join(c if _encodable(c, encoding) else "?" * cells(c) for c in text)


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def cells(text: str) -> int:
    """How many columns `text` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int, ellipsis: str) -> str:
    """`text` in exactly `width` columns, shortened if it must be, and without what could steer a terminal."""
    text = shown(text[: 4 * width + 1])  # combining characters take no columns, but there may be any number of them
    if (taken := cells(text)) > width or len(text) > 4 * width:
        kept: list[str] = []
        taken = 0
        for character in text:
            if taken + _columns(character) > width - len(ellipsis):
                break
            kept.append(character)
            taken += _columns(character)
        text = "".join(kept) + ellipsis
        taken += len(ellipsis)
    return text + " " * (width - taken)


def seconds(nanoseconds: float) -> str:
    """A duration in at most ten characters: `0.4 ms`, `38 ms`, `1.42 s`, `4 min 5 s`, `26.0 h`, `365 d`."""
    ms = max(nanoseconds, 0) / 1e6
    if ms < 9.95:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 9_995:
        return f"{ms / 1e3:.2f} s"
    if ms < 99_950:
        return f"{ms / 1e3:.1f} s"
    minutes, rest = divmod(round(ms / 1e3), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes / 60:.1f} h" if minutes < 100 * 60 else f"{min(minutes / 60 / 24, 999_999):.0f} d"


def clock(nanoseconds: float, unit: float) -> str:
    """A tick of the time axis, whose ticks are `unit` nanoseconds apart."""
    if not nanoseconds:
        return "0"
    if unit < 1e8:
        return f"{nanoseconds / 1e6:g} ms"
    return f"{nanoseconds / 1e9:g} s"
