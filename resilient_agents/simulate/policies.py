"""Makers of policies out of a configuration: one policy a process, each with shared components of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from resilient_agents.base.spelling import nearest
from resilient_agents.config import Config, ConfigError, PolicySpec, load
from resilient_agents.config.model import build
from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy
from resilient_agents.presets import PRESETS

__all__ = ["maker", "named"]


def named(source: str, name: str | None = None, *, changes: Mapping[str, str] | None = None) -> Callable[[], Policy]:
    """A maker of the policy `name` in the file `source`, which may also be the name of a preset.

    Args:
        source: A TOML file of policies, or one of `PRESETS`.
        name: Which policy of the file; None for the only one.
        changes: Options that are different, such as {"retry.attempts": "3"}: they lie over everything else, as
            environment variables do.

    Raises:
        ConfigError: the file or a change is not valid.
        LookupError: the file has no such policy, or several and none was named; a bare name is neither a file nor a
            preset.
    """
    path = Path(source)
    if source not in PRESETS and not path.exists() and not path.suffix:
        raise LookupError(f"{source} is neither a file nor a preset; {nearest(source, PRESETS)}")
    if source in PRESETS and not path.exists():
        data: Any = {"policies": {source: {"extends": source}}}
        names = [source]
    else:
        data = source
        names = list(load(source).policies)
    if not names:
        raise LookupError(f"{source} has no policies")
    if name is None and len(names) != 1:
        raise LookupError(f"{source} has the policies {', '.join(names)}: name one, as {source}:{names[0]}")
    chosen = names[0] if name is None else name
    if chosen not in names:
        raise LookupError(f"{source} has no policy {chosen!r}; there are: {', '.join(names)}")
    return maker(_changed(data, chosen, changes or {}), chosen)


def _changed(data: Any, name: str, changes: Mapping[str, str]) -> Config:
    """The configuration with these changes, each laid over it as a variable; what is wrong with one is said of it."""
    variables = {"__".join(["RESILIENT_AGENTS", "policies", name, *each.split(".")]): each for each in changes}
    env = {**os.environ, **{variable: changes[option] for variable, option in variables.items()}}
    try:
        return load(data, env=env)
    except ConfigError as error:
        told = {f"environment variable {variable}": f"change of {option}" for variable, option in variables.items()}
        raise ConfigError(replace(each, source=told.get(each.source, each.source)) for each in error.problems) from None


def maker(config: Config, name: str) -> Callable[[], Policy]:
    """A maker of the policy `name` of a configuration."""
    return partial(_make, config, config.policies[name])


def _make(config: Config, spec: PolicySpec) -> Policy:
    shared: dict[tuple[str, str], Strategy] = {}

    def resolve(kind: str, name: str) -> Strategy:
        if (kind, name) not in shared:
            shared[kind, name] = build(config.component(kind, name))
        return shared[kind, name]

    return spec.build(resolve)
