"""What a scenario as a whole may not be: endless, or without calls."""

from __future__ import annotations

import math
import re

from resilient_agents.config.source import Node
from resilient_agents.simulate.scenario import Load, Scenario

__all__ = ["bounded"]

LONGEST = 30 * 86_400.0
"""Seconds of a scenario at most: thirty days."""

MOST_CALLS = 100_000_000
"""Calls of a scenario at most, so that a slip of the keyboard does not run for ever."""


def bounded(scenario: Scenario, root: Node) -> None:
    """A scenario that would never end, or that nobody calls, is a mistake. What was wrong by itself has been said and
    stands at its default: nothing is said of that."""
    tables = root.value if isinstance(root.value, dict) else {}
    if scenario.duration > LONGEST:
        tables["duration"].refuse(f"must be at most {LONGEST / 86_400:g} days")
    if "load" in tables and isinstance(tables["load"].value, dict):
        _bounded_load(scenario, tables["load"])
    if "dependency" in tables and isinstance(tables["dependency"].value, dict):
        _bounded_dependency(scenario, tables["dependency"])


def _bounded_load(scenario: Scenario, node: Node) -> None:
    base, loads = scenario.load, [scenario.load, *(phase.settings for phase in scenario.load_phases)]
    wrong = _wrong_below(node)
    for load in loads:
        if load.arrivals != base.arrivals or load.processes != base.processes:
            got = f'got arrivals = "{load.arrivals}" and processes = {load.processes} in one'
            node.say(f"arrivals and processes are the same in all phases, {got}")
        if load.arrivals == "closed" and load.think.mean == 0 and "think" not in wrong:
            node.say('needs think with arrivals = "closed": clients that never think call without end')
    if all(load.rate == 0 and load.clients == 0 for load in loads) and not wrong & {"rate", "clients"}:
        node.say('needs a rate, or clients with arrivals = "closed"')
    most = max(map(_calls_a_second, loads)) * scenario.duration
    if most > MOST_CALLS:
        node.say(f"makes {most:.3g} calls; a scenario has at most {MOST_CALLS:.0e}")


def _calls_a_second(load: Load) -> float:
    """At most."""
    if load.arrivals == "closed":
        return load.clients / load.think.mean if load.think.mean else 0.0
    return load.rate * load.fanout


def _bounded_dependency(scenario: Scenario, node: Node) -> None:
    phases = scenario.dependency_phases
    spans = [(scenario.dependency, math.inf), *((phase.settings, phase.end) for phase in phases)]
    if any(end == math.inf and each.error and each.error.retry_after == "end" for each, end in spans):
        node.say('retry_after = "end" is for a phase that has an until')
    if scenario.dependency.stream is None and any(phase.settings.stream is not None for phase in phases):
        node.say("needs stream, where a phase has one: answers are streams all the time or never")


def _wrong_below(node: Node) -> set[object]:
    """The names of the keys below `node` of which something was said."""
    depth = len(node.key)
    before = ".".join(map(str, node.key))
    keys = [problem.key for problem in node.problems if problem.key.startswith(before)]
    said = [key.removeprefix(f"{before}.") for key in keys]
    return {part for key in said for part in re.split(r"[.\[\]]+", key)} if depth else set()
