"""The real policy in virtual time, against a modelled dependency and a modelled load."""

from __future__ import annotations

from resilient_agents.simulate.result import Result, Series
from resilient_agents.simulate.run import simulate
from resilient_agents.simulate.scenario import Dependency, Error, Load, Phase, Quota, Scenario, Stream, Times
from resilient_agents.simulate.streaming import rest

__all__ = [
    "Dependency",
    "Error",
    "Load",
    "Phase",
    "Quota",
    "Result",
    "Scenario",
    "Series",
    "Stream",
    "Times",
    "rest",
    "simulate",
]
