"""Makers of policies out of a configuration: one policy a process, each with shared components of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from resilient_agents.config import Config, PolicySpec, load
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
        LookupError: the file has no such policy, or several and none was named.
    """
    if source in PRESETS and not Path(source).exists():
        data: Any = {"policies": {source: {"extends": source}}}
        names = [source]
    else:
        data = source
        names = list(load(source).policies)
    if name is None and len(names) != 1:
        raise LookupError(f"{source} has the policies {', '.join(names)}: name one")
    chosen = names[0] if name is None else name
    if chosen not in names:
        raise LookupError(f"{source} has no policy {chosen!r}; there are: {', '.join(names)}")
    variables = {
        "__".join(["RESILIENT_AGENTS", "policies", chosen, *option.split(".")]): value
        for option, value in (changes or {}).items()
    }
    return maker(load(data, env={**os.environ, **variables}), chosen)


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
