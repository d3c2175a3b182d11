"""`load` and `loads`: a source becomes a `Config`, or one error that lists all that is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resilient_agents.config.check import misfits
from resilient_agents.config.factory import Factory
from resilient_agents.config.kinds import KINDS, SECTIONS, SLOTS
from resilient_agents.config.layers import Layers, UnreadPolicy, inherited, layered
from resilient_agents.config.lines import KeyPath, key_lines
from resilient_agents.config.model import Config, ConfigWarning, PolicySpec, StrategySpec, build
from resilient_agents.config.problems import ConfigError, Problem
from resilient_agents.config.redact import without_numbers
from resilient_agents.config.strategies import read_strategy
from resilient_agents.config.tree import Node, Problems, nodes
from resilient_agents.policy import Policy
from resilient_agents.strategies.chaos import TOLD_ONCE, told_twice

__all__ = ["PROFILE", "load", "loads"]

PROFILE = "RESILIENT_AGENTS_PROFILE"

Source = str | os.PathLike[str] | Mapping[str, Any]


def load(source: Source, *, profile: str | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Read policies and shared components from a TOML file or from a dict of the same shape.

    Args:
        source: The path of a TOML file in UTF-8, or a mapping. `load({})` reads the environment alone.
        profile: Which `[profiles.NAME]` lies over the base; by default the one that RESILIENT_AGENTS_PROFILE names, if
            any.
        env: The environment, for `${NAME}`, for variables that begin with RESILIENT_AGENTS__, and for the profile; by
            default `os.environ`.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or says what is not allowed. It lists all problems.
    """
    if isinstance(source, Mapping):
        return _config(source, "<dict>", {}, profile, env)
    name = os.fspath(source)
    try:
        text = read_text(name)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or (_not_utf8(error) if isinstance(error, UnicodeError) else error)
        raise ConfigError([Problem(str(name), None, "", None, f"cannot be read: {why}")]) from error
    return loads(text, source=name, profile=profile, env=env)


def read_text(file: str | bytes) -> str:
    """The text of a file, without the byte order mark that some editors put first."""
    with open(file, encoding="utf-8-sig") as content:
        return content.read()


def loads(
    text: str, *, source: str = "<string>", profile: str | None = None, env: Mapping[str, str] | None = None
) -> Config:
    """The same for TOML text. `source` is what errors call it."""
    text = text.removeprefix("\ufeff")
    try:
        data = _parsed(text)
        lines = key_lines(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = None if place is None else int(place[1] or text.count("\n") + 1)
        why = (
            "nested too deeply"
            if isinstance(error, RecursionError)
            else str(error).replace(place[0] if place else "", "")
        )
        raise ConfigError([Problem(source, line, "", None, f"is not TOML: {why}")]) from None
    return _config(data, source, lines, profile, env)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # an int of more digits than Python converts; one that is merely too large has a place
        return tomllib.loads(re.sub(r"\d[\d_]{4000,}", str(10**30), text))


def _not_utf8(error: UnicodeError) -> str:
    start = getattr(error, "object", b"")[:2]
    return "is not text in UTF-8 but in UTF-16" if start in (b"\xff\xfe", b"\xfe\xff") else "is not text in UTF-8"


def _config(
    data: Mapping[str, Any],
    source: str,
    lines: Mapping[KeyPath, int],
    profile: str | None,
    env: Mapping[str, str] | None,
) -> Config:
    env = os.environ if env is None else env
    profile = profile or env.get(PROFILE) or None
    problems = Problems()
    layers = layered(nodes(data, source, lines, problems), profile, env, problems)
    shared = {kind: _components(kind, tables, problems) for kind, tables in layers.components.items()}
    policies: dict[str, PolicySpec] = {}
    warnings: list[ConfigWarning] = []
    for name in layers.policies:
        spec = _policy(name, layers, problems)
        if spec is not None:
            policies[name] = spec
            warnings += _warnings(spec, shared, layers.policies[name].node, problems)
    chaos = _chaos(layers.chaos, profile, env, problems)
    problems.raise_if_any()
    sections = {section: shared[kind] for section, kind in SECTIONS.items()}
    return Config(policies, **sections, source=source, profile=profile, warnings=tuple(warnings), chaos=chaos)


def _chaos(
    tables: Mapping[str, Node], profile: str | None, env: Mapping[str, str], problems: Problems
) -> dict[str, StrategySpec]:
    found: dict[str, StrategySpec] = {}
    for name, table in tables.items():
        if table.value is False:
            continue
        if not told_twice(profile, env):
            problems.add(table, TOLD_ONCE, shown=False)
            continue
        spec = read_strategy("chaos", table, problems)
        if spec is not None:
            found[name] = spec
    return found


def _components(kind: str, tables: Mapping[str, Node], problems: Problems) -> dict[str, StrategySpec]:
    found: dict[str, StrategySpec] = {}
    for name, table in tables.items():
        if table.value is False:  # a profile may take away what the base has
            continue
        spec = read_strategy(kind, table, problems)
        if spec is not None:
            named = "name" in Factory.of(KINDS[kind]).parameters
            found[name] = spec.but(name=spec.options.get("name") or name) if named else spec
    return found


def _policy(name: str, layers: Layers, problems: Problems) -> PolicySpec | None:
    unread = inherited(name, layers, problems)
    told = read_strategy("policy", replace(unread.node, value=unread.told), problems) if unread.told else None
    read = [
        read_strategy(kind, table, problems, layers.components.get(kind), partial=unread.partial)
        for kind, table in _tables(unread, problems)
    ]
    if unread.partial or None in read or (unread.told and told is None):
        return None
    return PolicySpec(name, tuple(spec for spec in read if spec is not None), told)


def _tables(unread: UnreadPolicy, problems: Problems) -> list[tuple[str, Node]]:
    """(kind, options in long form) of each strategy that is not switched off, outermost first."""
    if unread.strategies is None:
        slots = [(SLOTS[slot], unread.slots[slot]) for slot in SLOTS if slot in unread.slots]
        return [(kind, node) for kind, node in slots if node.value is not False]
    for node in unread.slots.values():
        problems.add(
            node,
            f"stands beside the list of strategies at {unread.strategies.place}: a policy has either a list, which is "
            f"taken as it is, or keys, which may change what it extends",
            shown=False,
        )
    return [(item.value["kind"].value, item.value["table"]) for item in unread.strategies.value]


def _warnings(
    policy: PolicySpec, shared: Mapping[str, Mapping[str, StrategySpec]], node: Node, problems: Problems
) -> list[ConfigWarning]:
    specs = [spec if spec.use is None else shared[spec.kind].get(spec.use) for spec in policy.strategies]
    layers = [(spec, build(spec.nameless)) for spec in specs if spec is not None]
    try:
        Policy(*(strategy for _, strategy in layers))
    except ValueError as error:  # of their order
        problems.add(node, str(error), shown=False)
    secret = any(not isinstance(spec.options[option], str) for spec, _ in layers for option in spec.secrets)
    return [
        ConfigWarning(
            policy.name,
            f"policies.{policy.name}: {without_numbers(message) if secret else message}",
            spec.places.get(option, node.place.source),
        )
        for spec, option, message in misfits(layers)
    ]
