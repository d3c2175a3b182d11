"""The page "Reference", made of the docstrings: every public name with its signature and what it says of itself.

    python -m tests.reference

writes it anew.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.public_api import MODULES, described

PAGE = Path(__file__).parents[1] / "docs" / "pages" / "reference.md"

INTRODUCTION = """# Reference

Every public name, with its signature and its own words.
The other pages say when to use which; this one is made from the code.
"""


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    seen: set[int] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        names = [public for public in sorted(module.__all__) if id(getattr(module, public)) not in seen]
        parts.append(f"## {name}\n")
        elsewhere = [f"`{public}`" for public in sorted(module.__all__) if public not in names]
        if elsewhere:
            parts.append(f"Also here, described above: {', '.join(elsewhere)}.\n")
        for public in names:
            thing = getattr(module, public)
            seen.add(id(thing))
            parts += _section(public, thing)
    return "\n".join(parts)


def _section(name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield _fenced("py", "\n".join(described(name, thing)))
    own = inspect.getdoc(thing) if isinstance(thing, type) or inspect.isroutine(thing) else None
    if own:
        yield _fenced("text", own)
    if isinstance(thing, type):
        for label, member in _documented(thing):
            yield f"#### {name}.{label}\n"
            yield _fenced("text", member)


def _documented(cls: type) -> Iterator[tuple[str, str]]:
    """Methods and properties that say something, those of bases of ours included."""
    for line in described(cls.__name__, cls):
        label = line.strip().removeprefix("async ").removeprefix("classmethod ").removeprefix("staticmethod ")
        label = label.removeprefix("def ").partition("(")[0].partition(":")[0]
        if label in ("adopt", "live", "take"):  # by which strategies are written
            continue
        member: Any = inspect.getattr_static(cls, label, None) if label.isidentifier() else None
        text = inspect.getdoc(member) if member is not None and not label.startswith("__") else None
        if line.startswith("    ") and text and hasattr(member, "__doc__") and not isinstance(member, str | int):
            yield label, text


def _fenced(language: str, text: str) -> str:
    plain = re.sub(r"^```\w*\n?", "", text, flags=re.MULTILINE)  # examples inside need no fence of their own
    return f"```{language}\n{plain}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
