"""What a source says once its layers lie on each other: the base, then a profile, then environment variables; and
below all of them what a policy extends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resilient_agents.base.spelling import nearest
from resilient_agents.config.factory import Factory
from resilient_agents.config.kinds import CODE, KINDS, MAKERS, SECTIONS, SLOTS
from resilient_agents.config.strategies import long_form, merged
from resilient_agents.config.tree import Node, Place, Problems, expand, nodes, typed
from resilient_agents.presets.tables import PRESETS

__all__ = ["PREFIX", "Layers", "UnreadPolicy", "inherited", "layered"]

PREFIX = "RESILIENT_AGENTS__"

_TABLES = ("policies", *SECTIONS, "chaos")


@dataclass
class UnreadPolicy:
    """A policy before it is read: its strategies in long form."""

    node: Node
    extends: Node | None = None
    slots: dict[str, Node] = field(default_factory=dict[str, Node])
    strategies: Node | None = None
    """A list, which stands instead of slots."""
    partial: bool = False
    """What it extends could not be found."""
    told: dict[str, Node] = field(default_factory=dict[str, Node])
    """What it says of itself: `idempotent`, `reconcile`."""

    def over(self, base: UnreadPolicy | None) -> UnreadPolicy:
        """This one laid over `base`. A list of strategies replaces everything below it."""
        if base is None:
            return self
        extends, told = self.extends or base.extends, {**base.told, **self.told}
        if self.strategies is not None:
            return UnreadPolicy(self.node, extends, self.slots, self.strategies, told=told)
        slots = dict(base.slots)
        for slot, node in self.slots.items():
            slots[slot] = merged(slots.get(slot), node)
        return UnreadPolicy(self.node, extends, slots, base.strategies, told=told)


@dataclass
class Layers:
    """Policies and shared components with all layers applied, before `extends`."""

    policies: dict[str, UnreadPolicy] = field(default_factory=dict[str, UnreadPolicy])
    components: dict[str, dict[str, Node]] = field(default_factory=dict[str, dict[str, Node]])
    """By kind, then by name."""
    chaos: dict[str, Node] = field(default_factory=dict[str, Node])
    inherited: dict[str, UnreadPolicy] = field(default_factory=dict[str, UnreadPolicy])
    """Policies with what they extend below them, as far as somebody has asked."""


def layered(root: Node, profile: str | None, env: Mapping[str, str], problems: Problems) -> Layers:
    """The base of a source, the profile over it, and the variables of the environment over both."""
    layers = Layers(components={kind: {} for kind in SECTIONS.values()})
    table = _table(root, problems)
    for key in table:
        if key not in (*_TABLES, "profiles"):
            problems.add(table[key], f"is not known; {nearest(key, (*_TABLES, 'profiles'))}", shown=False)
    _apply(table, env, layers, problems)
    chosen = _chosen(table, profile, problems)
    for key, node in chosen.items():
        if key not in _TABLES:
            problems.add(node, f"is not known in a profile; {nearest(key, _TABLES)}", shown=False)
    _apply(chosen, env, layers, problems)
    for layer in _variables(env, layers, problems):
        _apply(layer, env, layers, problems)
    return layers


def inherited(name: str, layers: Layers, problems: Problems) -> UnreadPolicy:
    """A policy with all that it extends below it; `partial` after having said what is wrong with that.

    A name stands for a policy of the source, else for a preset; a policy that extends its own name means the preset.
    """
    known, chain = layers.inherited, dict[str, UnreadPolicy]()
    base: UnreadPolicy | None = None
    partial = False
    at: Any = name
    while at not in known:
        unread = chain[at] = layers.policies[at]
        if unread.extends is None:
            break
        below: Any = unread.extends.value
        if isinstance(below, str) and below in PRESETS and (below == at or below not in layers.policies):
            base = _preset(below)
            break
        problem = _no_base(at, unread.extends, layers.policies, chain)
        if problem is not None:
            problems.add(unread.extends, problem)
            partial = True
            break
        at = below
    else:
        base = known[at]
        partial = base.partial
    for link in reversed(chain):
        base = known[link] = replace(chain[link].over(base), partial=partial)
    return known[name]


def _no_base(
    name: str, extends: Node, policies: Mapping[str, UnreadPolicy], chain: Mapping[str, UnreadPolicy]
) -> str | None:
    """Why nothing can be extended by that name, None if it can."""
    below: Any = extends.value
    if extends.broken is not None:
        return extends.broken
    if not isinstance(below, str):
        return "must be the name of a policy or of a preset"
    if below in chain:
        way = list(chain)
        return f"goes round in a circle: {' -> '.join([*way[way.index(below) :], below])}"
    if below not in policies:
        return f"is not known; {nearest(below, dict.fromkeys([*(key for key in policies if key != name), *PRESETS]))}"
    return None


def _preset(name: str) -> UnreadPolicy:
    problems = Problems()
    node = nodes(PRESETS[name], f"preset {name!r}", {}, problems, ("policies", name))
    return _unread(node, problems)


def _chosen(table: dict[str, Node], profile: str | None, problems: Problems) -> dict[str, Node]:
    """The table of the profile. A source without any profiles has none to choose from, which is no mistake."""
    if "profiles" not in table:
        return {}
    profiles = _table(table["profiles"], problems)
    if profile is None:
        return {}
    if profile not in profiles:
        hint = (
            f"the profile {profile!r} is not here; {nearest(profile, profiles)}. An empty [profiles.{profile}] will do"
        )
        problems.add(table["profiles"], hint, shown=False)
        return {}
    return _table(profiles[profile], problems)


def _apply(table: dict[str, Node], env: Mapping[str, str], layers: Layers, problems: Problems) -> None:
    for section in (key for key in _TABLES if key in table):
        for name, node in _table(table[section], problems).items():
            expanded = expand(node, env, problems)
            if not name:
                problems.add(node, "must have a name", shown=False)
            elif section == "policies":
                if isinstance(expanded.value, dict):
                    layers.policies[name] = _unread(expanded, problems).over(layers.policies.get(name))
                else:
                    problems.add(expanded, expanded.broken or "must be a table")
            elif section == "chaos":
                if isinstance(expanded.value, dict) or expanded.value is False:
                    layers.chaos[name] = merged(layers.chaos.get(name), expanded)
                else:
                    problems.add(expanded, expanded.broken or "must be a table, or false")
            else:
                kind = SECTIONS[section]
                found = layers.components[kind]
                found[name] = merged(found.get(name), long_form(kind, expanded, shared=True))


def _unread(node: Node, problems: Problems) -> UnreadPolicy:
    unread = UnreadPolicy(node)
    told = Factory.of(MAKERS["policy"]).parameters
    for key, item in node.value.items():
        if key == "extends":
            unread.extends = item
        elif key == "strategies":
            unread.strategies = _list(item, problems)
        elif key in SLOTS:
            unread.slots[key] = long_form(SLOTS[key], item)
        elif key in told:
            unread.told[key] = item
        elif key in CODE:
            problems.add(item, _is_code(key), shown=False)
        else:
            allowed = (*SLOTS, *told, "strategies", "extends")
            problems.add(item, f"is not known in a policy; {nearest(key, allowed)}", shown=False)
    return unread


def _is_code(kind: str) -> str:
    return (
        f"is a function of the program's, which a configuration cannot name: put Policy({CODE[kind]}, "
        f'get_policy("...")) around the policy in Python'
    )


def _list(node: Node, problems: Problems) -> Node:
    """A list of strategies, each a table with its kind, in long form. Those that cannot be read are left out."""
    if not isinstance(node.value, list):
        problems.add(node, node.broken or "must be a list of tables, each with its kind")
        return replace(node, value=[])
    items: list[Node] = []
    for item in node.value:
        options: Any = item.value
        kind: Any = options.get("kind") if isinstance(options, dict) else None
        if kind is None:
            problems.add(item, f"must be a table with a kind; {nearest('', KINDS)}")
        elif isinstance(kind.value, str) and kind.value in CODE:
            problems.add(kind, _is_code(kind.value))
        elif not isinstance(kind.value, str) or kind.value not in KINDS:
            problems.add(kind, kind.broken or f"is no kind of strategy; {nearest(str(kind.value), KINDS)}")
        else:
            table = replace(item, value={key: option for key, option in options.items() if key != "kind"})
            items.append(replace(item, value={"kind": kind, "table": long_form(kind.value, table)}))
    return replace(node, value=items)


def _table(node: Node, problems: Problems) -> dict[str, Node]:
    if isinstance(node.value, dict):
        table: dict[str, Node] = node.value
        return table
    problems.add(node, node.broken or "must be a table")
    return {}


def _variables(env: Mapping[str, str], layers: Layers, problems: Problems) -> Iterator[dict[str, Node]]:
    """Each variable as a layer of its own, the shorter names first: `..__RETRY=5` comes before `..__RETRY__WAIT=1`."""
    names = [name for name in env if name.startswith(PREFIX)]
    spelled: dict[tuple[str, str], list[str]] = {}
    for section in _TABLES:
        tables: dict[str, Iterable[str]] = {"policies": layers.policies, "chaos": layers.chaos}
        existing = tables[section] if section in tables else layers.components[SECTIONS[section]]
        for name in existing:
            spelled.setdefault((section, _plain(name)), []).append(name)
    for variable in sorted(names, key=lambda name: (name.count("__"), name)):
        section, *path = variable.removeprefix(PREFIX).lower().split("__")
        place = Place(f"environment variable {variable}", None, ())
        if section not in _TABLES or not path or not all(path):
            sections = ", ".join(key.upper() for key in _TABLES)
            problems.say(
                place,
                f"is not known; it must be like {PREFIX}POLICIES__NAME__STRATEGY__OPTION, beginning with {sections}",
            )
            continue
        alike = spelled.setdefault((section, path[0]), path[:1])
        if len(alike) > 1:
            problems.say(place, f"may mean any of {', '.join(map(repr, alike))}: rename one of them")
            continue
        keys = (section, *alike, *path[1:])
        data: Any = typed(env[variable])
        for key in reversed(keys):
            data = {key: data}
        yield nodes(data, place.source, {}, problems).value


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lower())
