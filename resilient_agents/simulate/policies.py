"""Makers of policies out of a configuration: one policy a process, each with shared components of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resilient_agents.base.spelling import nearest
from resilient_agents.config import Config, ConfigError, PolicySpec, load
from resilient_agents.config.model import build
from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy
from resilient_agents.presets import PRESETS

__all__ = ["maker", "named", "replayed", "together"]


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
    data, names = _found(source)
    if name is None and len(names) != 1:
        raise LookupError(f"{source} has the policies {', '.join(names)}: name one, as {source}:{names[0]}")
    chosen = names[0] if name is None else name
    if chosen not in names:
        raise LookupError(f"{source} has no policy {chosen!r}; there are: {', '.join(names)}")
    return maker(
        _changed(data, {f"{chosen}.{option}": (option, value) for option, value in (changes or {}).items()}), chosen
    )


def together(
    source: str, among: Collection[str], *, changes: Mapping[str, str] | None = None
) -> Callable[[], dict[str, Policy]]:
    """A maker of those policies of the file `source` that are `among` these, with the components that they share.

    Args:
        changes: Options that are different, such as {"search.retry.attempts": "3"}.

    Raises:
        ConfigError: the file or a change is not valid.
        LookupError: the file has none of them, or not the one that a change is for.
    """
    data, names = _found(source)
    chosen = [name for name in names if name in among]
    if not chosen:
        raise LookupError(f"{source} has the policies {', '.join(names)}, and the spans are of {', '.join(among)}")
    changed: dict[str, tuple[str, str]] = {}
    for option, value in (changes or {}).items():
        if option.partition(".")[0] not in chosen:
            raise LookupError(f"a change of several policies begins with the name of one: {chosen[0]}.{option}={value}")
        changed[option] = option, value
    config = _changed(data, changed)

    def make() -> dict[str, Policy]:
        shared: dict[tuple[str, str], Strategy] = {}
        return {name: _make(config, config.policies[name], shared) for name in chosen}

    return make


def replayed(
    source: str, name: str | None, *, of: str | None, among: Sequence[str], changes: Mapping[str, str]
) -> tuple[Callable[[], Any], list[str]]:
    """What makes the policies under which a recording of the policies `among` is played, and whose calls they play:
    those `of` that name, or of the policy's own, or, of a file in which none is named, of all that are in both. One
    policy alone may play the calls of another one.

    Raises as `named` and `together` do, and ValueError where it is not said whose calls are meant.
    """
    names = _found(source)[1]
    if name is None and of is None and len(names) > 1:
        return together(source, among, changes=changes), [each for each in names if each in among]
    name = of if name is None and of in names else name
    alone = named(source, name, changes=changes)
    whose = of or next((each for each in (name, *names[:1]) if each in among), None)
    if whose is None and len(among) > 1:
        raise ValueError(f"there are spans of the policies {', '.join(among)}: say whose calls are meant (--of)")
    return alone, [] if whose is None else [whose]


def _found(source: str) -> tuple[Any, list[str]]:
    """What is loaded, and the policies in it."""
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
    return data, names


def _changed(data: Any, changes: Mapping[str, tuple[str, str]]) -> Config:
    """The configuration with these changes, each laid over it as a variable; what is wrong with one is said of it. By
    the option with its policy: how that is called, and its value."""
    variables = {"__".join(["RESILIENT_AGENTS", "policies", *each.split(".")]): each for each in changes}
    env = {**os.environ, **{variable: changes[option][1] for variable, option in variables.items()}}
    try:
        return load(data, env=env)
    except ConfigError as error:
        told = {
            f"environment variable {variable}": f"change of {changes[option][0]}"
            for variable, option in variables.items()
        }
        raise ConfigError(replace(each, source=told.get(each.source, each.source)) for each in error.problems) from None


def maker(config: Config, name: str) -> Callable[[], Policy]:
    """A maker of the policy `name` of a configuration."""
    return lambda: _make(config, config.policies[name], {})


def _make(config: Config, spec: PolicySpec, shared: dict[tuple[str, str], Strategy]) -> Policy:
    """`shared`: the components of those that were made before in the same process."""

    def resolve(kind: str, name: str) -> Strategy:
        if (kind, name) not in shared:
            shared[kind, name] = build(config.component(kind, name))
        return shared[kind, name]

    return spec.build(resolve)
