"""The reference has every public name, and none that is gone."""

from __future__ import annotations

import importlib
import re

from tests.public_api import MODULES
from tests.reference import PAGE, reference


def headings(text: str) -> list[str]:
    return re.findall(r"^#{2,4} (.+)$", text, re.MULTILINE)


def test_every_public_name_is_in_the_reference() -> None:
    """Where it is first, with its methods and properties; `python -m tests.reference` writes the page anew."""
    found, now = headings(PAGE.read_text(encoding="utf-8")), headings(reference())
    assert [name for name in found if "." not in name and name not in now] == []
    for name in MODULES:
        public = importlib.import_module(name).__all__
        assert set(public) <= set(found), name


def test_every_class_and_function_says_something() -> None:
    """A public name without a docstring would be a signature alone."""
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    silent = [
        section.split("\n", 1)[0] for section in sections if re.search(r"```py\n(?:class|def) [^`]*```\n*\Z", section)
    ]
    assert silent == []
