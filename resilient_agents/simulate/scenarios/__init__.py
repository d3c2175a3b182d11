"""Scenarios that are shipped, as TOML files beside this module."""

from __future__ import annotations

from pathlib import Path

from resilient_agents.base.spelling import nearest

__all__ = ["find", "names"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Of the scenarios that are shipped."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def find(scenario: str) -> Path:
    """The file of that path; else the scenario of that name that is shipped.

    Raises LookupError for a bare name that is neither.
    """
    path = Path(scenario)
    if path.exists() or path.suffix:
        return path
    if scenario not in names():
        raise LookupError(f"{scenario} is neither a file nor a scenario that is shipped; {nearest(scenario, names())}")
    return _HERE / f"{scenario}.toml"
