"""The small code base on disk, and the advice on it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan.advice import Advice, advise
from tests.scan.small import AGENT, ORDERS, PRICES


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    for name, source in (("prices", PRICES), ("agent", AGENT), ("orders", ORDERS)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return folder


@pytest.fixture
def advice(tree: Path) -> Advice:
    return advise([tree])
