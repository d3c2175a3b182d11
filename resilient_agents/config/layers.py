"""What a source says once its layers lie on each other: the base, then a profile, then environment variables; and
below all of them what a policy extends.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from resilient_agents.base.spelling import nearest
from resilient_agents.config.factory import told_kind
from resilient_agents.config.kinds import CODE, KINDS, SECTIONS, SLOTS, factory_of, long_form, merged
from resilient_agents.config.source import Node, Problems, Source, typed
from resilient_agents.presets.tables import PRESETS

__all__ = ["PREFIX", "Tables", "inherited", "layered"]

PREFIX = "RESILIENT_AGENTS__"

_TABLES = ("policies", *SECTIONS, "chaos")

Tables: TypeAlias = dict[str, dict[str, Node]]
"""By section, then by name: policies, shared components and chaos in long form, all layers applied."""


def layered(root: Node, profile: str | None, env: Mapping[str, str]) -> Tables:
    """The base of a source, the profile over it, and the variables of the environment over both."""
    found: Tables = {section: {} for section in _TABLES}
    base = root.table()
    over = _chosen(base, profile)
    for layer, allowed, where in ((base, (*_TABLES, "profiles"), ""), (over, _TABLES, " in a profile")):
        for key in (key for key in layer if key not in allowed):
            layer[key].refuse(f"is not known{where}; {nearest(key, allowed)}", shown=False)
    for layer in itertools.chain((base, over), _variables(env, found, root.problems)):
        for section in (key for key in _TABLES if key in layer):
            for name, node in layer[section].table().items():
                if not name:
                    node.refuse("must have a name", shown=False)
                elif (long := _long(section, node)) is not None:
                    found[section][name] = merged(found[section].get(name), long)
    return {section: {name: node for name, node in named.items() if node.value is not False}
            for section, named in found.items()}  # fmt: skip


def inherited(policies: Mapping[str, Node]) -> dict[str, Node]:
    """Policies with all that they extend below them; `broken` after having said what is wrong with that."""
    known: dict[str, Node] = {}
    for name in policies:
        chain: dict[str, Node] = {}
        below: str | Node | None = name
        while isinstance(below, str) and below not in known:
            chain[below] = policies[below]
            below = _below(below, policies, chain)
        base = known[below] if isinstance(below, str) else below
        for link in reversed(chain):
            broken = None if base is None else base.broken
            base = known[link] = replace(merged(base, chain[link]), broken=broken)
    return {name: known[name] for name in policies}


def _below(name: str, policies: Mapping[str, Node], chain: Mapping[str, Node]) -> str | Node | None:
    """What a policy lies on: another one by its name, a preset, something `broken` after having said why, or nothing.

    A name stands for a policy of the source, else for a preset; a policy that extends its own name means the preset.
    """
    extends: Node | None = policies[name].value.get("extends")
    if extends is None:
        return None
    below: Any = extends.value
    if extends.broken is not None:
        problem = extends.broken
    elif not isinstance(below, str):
        problem = "must be the name of a policy or of a preset"
    elif below in PRESETS and (below == name or below not in policies):
        preset = Source(f"preset {below!r}", problems=extends.problems)
        return _long_policy(preset.tree(PRESETS[below], ("policies", below)))
    elif below in chain:
        way = list(chain)
        problem = f"goes round in a circle: {' -> '.join([*way[way.index(below) :], below])}"
    elif below not in policies:
        others = dict.fromkeys([*(other for other in policies if other != name), *PRESETS])
        problem = f"is not known; {nearest(below, others)}"
    else:
        return below
    extends.refuse(problem)
    return replace(extends, value={}, broken=problem)


def _chosen(table: dict[str, Node], profile: str | None) -> dict[str, Node]:
    """The table of the profile. A source without any profiles has none to choose from, which is no mistake."""
    profiles = table["profiles"].table() if "profiles" in table else {}
    if profile in profiles:
        return profiles[profile].table()
    if profile is not None and "profiles" in table:
        known = nearest(profile, profiles)
        table["profiles"].say(f"the profile {profile!r} is not here; {known}. An empty [profiles.{profile}] will do")
    return {}


def _long(section: str, node: Node) -> Node | None:
    """What stands under a name in long form, None after having said that it can have none."""
    if section in SECTIONS:
        return long_form(SECTIONS[section], node, shared=True)
    if isinstance(node.value, dict):
        return _long_policy(node) if section == "policies" else node
    if section == "chaos" and node.value is False:
        return node
    node.refuse(node.broken or ("must be a table" if section == "policies" else "must be a table, or false"))
    return None


def _long_policy(node: Node) -> Node:
    """A policy with its strategies in long form, without what is not known in one, after having said so."""
    told = factory_of("policy").readers
    long: dict[str, Node] = {}
    for key, item in node.value.items():
        if key in SLOTS:
            long[key] = long_form(SLOTS[key], item)
        elif key == "strategies":
            long[key] = _long_list(item)
        elif key == "extends" or key in told:
            long[key] = item
        else:
            allowed = (*SLOTS, *told, "strategies", "extends")
            item.refuse(CODE.get(key) or f"is not known in a policy; {nearest(key, allowed)}", shown=False)
    return replace(node, value=long)


def _long_list(node: Node) -> Node:
    """A list of strategies, each in long form under its kind. Those that cannot be read are left out."""
    listed: Any = node.value
    if not isinstance(listed, list):
        node.refuse(node.broken or "must be a list of tables, each with its kind")
        listed = []
    items: list[Node] = []
    for item in listed:
        kind: Any = item.value.get("kind") if isinstance(item.value, dict) else None
        if kind is None:
            item.refuse(f"must be a table with a kind; {nearest('', KINDS)}")
        elif isinstance(kind.value, str) and kind.value in CODE:
            kind.refuse(CODE[kind.value])
        elif (told := told_kind(item, KINDS, "strategy")) is not None:
            items.append(replace(item, value={told[0]: long_form(*told)}))
    return replace(node, value=items)


def _variables(env: Mapping[str, str], found: Tables, problems: Problems) -> Iterator[dict[str, Node]]:
    """Each variable as a layer of its own, the shorter names first: `..__RETRY=5` comes before `..__RETRY__WAIT=1`."""
    spelled: dict[tuple[str, str], list[str]] = {}
    for section, name in ((section, name) for section, names in found.items() for name in names):
        spelled.setdefault((section, re.sub(r"\W", "_", name.lower())), []).append(name)
    variables = [name for name in env if name.startswith(PREFIX)]
    for variable in sorted(variables, key=lambda name: (name.count("__"), name)):
        section, *path = variable.removeprefix(PREFIX).lower().split("__")
        source = Source(f"environment variable {variable}", env, problems)
        whole = source.tree(None)
        if section not in _TABLES or not path or not all(path):
            like = f"{PREFIX}POLICIES__NAME__STRATEGY__OPTION, beginning with {', '.join(map(str.upper, _TABLES))}"
            whole.say(f"is not known; it must be like {like}")
            continue
        alike = spelled.setdefault((section, path[0]), path[:1])
        if len(alike) > 1:
            whole.say(f"may mean any of {', '.join(map(repr, alike))}: rename one of them")
            continue
        data: Any = typed(env[variable])
        for key in reversed((section, *alike, *path[1:])):
            data = {key: data}
        yield source.tree(data).value
