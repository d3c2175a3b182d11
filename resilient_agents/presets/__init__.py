"""Policies that embody good practice.

    [policies.openai]
    extends = "llm"

    policy = preset("llm")

What they consist of stands in tables.py.
"""

from __future__ import annotations

from resilient_agents.base.spelling import meant_by
from resilient_agents.policy import Policy
from resilient_agents.presets.tables import PRESETS

__all__ = ["PRESETS", "preset"]


def preset(name: str) -> Policy:
    """A new policy made of a preset, with a circuit, slots and a budget of its own: make it once and share it.

    Raises ValueError for a name that is none of `PRESETS`.
    """
    from resilient_agents.config import load  # which knows the presets

    if name not in PRESETS:
        meant = meant_by(str(name), PRESETS)
        hint = f"did you mean {meant}? " if meant else ""
        raise ValueError(f"there is no preset {name!r}; {hint}Presets: {', '.join(PRESETS)}")
    return load({"policies": {name: {"extends": name}}}, env={}).policies[name].build()
