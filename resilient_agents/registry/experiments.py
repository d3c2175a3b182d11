"""The chaos that a configuration, or the environment, asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from resilient_agents.base.trial import VARIABLE

if TYPE_CHECKING:
    from resilient_agents.config import StrategySpec

__all__ = ["Experiments", "start_what_the_environment_says"]


class Experiments:
    """What disturbs policies now, by their names."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[StrategySpec, ExitStack]] = {}

    def become(self, target: Mapping[str, StrategySpec]) -> None:
        """From now on these. What does not change goes on with its random numbers."""
        for name in [name for name, (spec, _) in self._running.items() if target.get(name) != spec]:
            self._running.pop(name)[1].close()
        for name, spec in target.items():
            if name not in self._running:
                self._running[name] = (spec, _started(name, spec))


def _started(name: str, spec: StrategySpec) -> ExitStack:
    from resilient_agents.config.model import build

    chaos: Any = build(spec)
    stack = ExitStack()
    stack.enter_context(chaos.inside(name))
    return stack


def start_what_the_environment_says(env: Mapping[str, str] = os.environ) -> Experiments | None:
    """Start what RESILIENT_AGENTS_CHAOS says, the inside of a `[chaos]` table in TOML:
    `openai = { error = "overload", error_rate = 0.3 }`. Raises ConfigError for what is not allowed."""
    text = env.get(VARIABLE)
    if not text:
        return None
    from resilient_agents.config.load import configured
    from resilient_agents.config.source import Source

    plain = {key: value for key, value in env.items() if not key.startswith("RESILIENT_AGENTS__")}
    source = Source(f"environment variable {VARIABLE}", plain)
    tables = source.toml(text, "chaos")
    experiments = Experiments()
    experiments.become(configured(source, tables.here({"chaos": tables}), None).chaos)
    return experiments
