"""The changes that no test notices and that may live, each with its reason."""

from __future__ import annotations

import tomllib
from pathlib import Path

__all__ = ["LIST", "excused", "listed"]

LIST = Path(__file__).with_name("survivors.toml")


def listed() -> dict[str, dict[str, str]]:
    """All of them: reasons by name of the change, by path of the module."""
    return tomllib.loads(LIST.read_text())


def excused(module: Path) -> dict[str, str]:
    """Those of one module."""
    return listed().get(module.as_posix(), {})
