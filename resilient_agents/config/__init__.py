"""Policies from TOML files, plain dicts and environment variables.

    config = load("resilience.toml")
    policy = config.policies["openai"].build(resolve)

Only the standard library: tomllib reads, and the strategies' own constructors say what is allowed, so that an option
has one definition and a file obeys exactly the rules of the code. A schema library would define it a second time.

The modules, from the ground up: lines and source (TOML and dicts as trees of values that know their place); values,
names and factory (how options are read and made, and which strategies there are); model (a configuration as data);
layers (short forms, profile, environment, extends) and check (what does not fit together); load, show and schema.
"""

from resilient_agents.config.load import load, loads
from resilient_agents.config.model import Config, ConfigWarning, PolicySpec, StrategySpec, build
from resilient_agents.config.names import define
from resilient_agents.config.show import show
from resilient_agents.config.source import ConfigError, Problem

__all__ = [
    "Config",
    "ConfigError",
    "ConfigWarning",
    "PolicySpec",
    "Problem",
    "StrategySpec",
    "build",
    "define",
    "load",
    "loads",
    "show",
]
