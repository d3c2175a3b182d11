"""The public names and signatures are what somebody decided they should be."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from tests.public_api import MODULES, SNAPSHOT, public_api

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *ROOT.glob("docs/pages/*.md")]


def test_the_public_api_is_as_written_down() -> None:
    """A name or a signature that changes shows in the diff of the change."""
    was, now = SNAPSHOT.read_text().splitlines(), public_api().splitlines()
    changed = "\n".join(difflib.unified_diff(was, now, "as written down", "as it is", n=1, lineterm=""))
    assert not changed, f"if this is meant: python -m tests.public_api\n{changed}"


def test_what_the_documentation_imports_from_is_watched() -> None:
    """A module that users are told to import from belongs to the public API."""
    told = {
        name
        for page in DOCS
        for name in re.findall(r"^\s*from (resilient_agents[\w.]*) import", page.read_text(), re.MULTILINE)
    }
    assert told <= set(MODULES)
