"""Scenarios that are shipped, as TOML files beside this module."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find", "names"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Of the scenarios that are shipped."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def find(scenario: str) -> Path:
    """The file of that path; else the scenario of that name that is shipped."""
    path = Path(scenario)
    if not path.exists() and scenario in names():
        return _HERE / f"{scenario}.toml"
    return path
