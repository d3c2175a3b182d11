"""What a source says once its layers lie on each other: the base, then a profile, then environment variables; and
below all of them what a policy extends. Short forms are written out first, so that layers differ option by option.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.base.durations import parse_duration
from resilient_agents.base.spelling import nearest
from resilient_agents.config.factory import FACTORIES, KINDS, SECTIONS, SLOTS, told_kind
from resilient_agents.config.model import ConfigWarning
from resilient_agents.config.source import Node, Source, place_of, typed
from resilient_agents.presets.tables import PRESETS

__all__ = ["PREFIX", "Tables", "inherited", "layered", "short_form"]

PREFIX = "RESILIENT_AGENTS__"

_COMPARED = 200
"""Names to compare with at most."""

_TABLES = ("policies", *SECTIONS, "chaos")

Tables: TypeAlias = dict[str, dict[str, Node]]
"""By section, then by name: policies, shared components and chaos in long form, all layers applied."""

_HOW = (
    'is a function of the program\'s, which a configuration cannot name: put Policy({}, get_policy("...")) around the '
    "policy in Python"
)
_CODE: dict[str, str] = {"fallback": _HOW.format("Fallback(handler)"), "resume": _HOW.format("Resume(continue_with)")}
"""What is said of strategies that are made of code."""

_SHORT = {"circuit_breaker": None, "gate": "max_wait", "stream_timeout": "idle"}
_BY_NAME = frozenset(["bulkhead", "gate"])
"""Kinds of which a single value is an option where it is a number, and a name where it is text."""


def layered(root: Node, profile: str | None, env: Mapping[str, str]) -> tuple[Tables, list[ConfigWarning]]:
    """The base of a source, the profile over it, and the variables of the environment over both; and what looks as if
    a layer misspelt what it means to change."""
    warnings: list[ConfigWarning] = []
    found: Tables = {section: {} for section in _TABLES}
    base = root.table()
    over = _chosen(base, profile)
    for layer, allowed, where in ((base, (*_TABLES, "profiles"), ""), (over, _TABLES, " in a profile")):
        for key in (key for key in layer if key not in allowed):
            layer[key].refuse(f"is not known{where}; {nearest(key, allowed)}", shown=False)
    for layer in itertools.chain((base, over), _variables(env, found, root)):
        for section in (key for key in _TABLES if key in layer):
            for name, node in layer[section].table().items():
                if not name:
                    node.refuse("must have a name", shown=False)
                elif (long := _long(section, node)) is not None:
                    if layer is not base and (meant := _meant(section, name, long, found[section])):
                        said = f"{section}.{name}: is new here and changes none that there is; did you mean {meant!r}?"
                        warnings.append(ConfigWarning(name, said, place_of(node)))
                    found[section][name] = _merged(found[section].get(name), long)
    return {section: {name: node for name, node in named.items() if node.value is not None}
            for section, named in found.items()}, warnings  # fmt: skip


def _meant(section: str, name: str, node: Node, known: Mapping[str, Node]) -> str | None:
    """Of which known name this one may be a slip: `opnai` of `openai`.

    It is none where the policy says what it extends, where the names differ in a number (`shard1`, `shard2`), and where
    one is longer by more than a letter (`search`, `research`). Chaos is checked against policies.
    """
    if section == "chaos" or name in known or len(known) > _COMPARED or "extends" in (node.value or ()):
        return None
    import difflib  # only then: it takes its time to import

    as_long = [other for other in known if abs(len(other) - len(name)) < 2]
    as_numbered = [other for other in as_long if re.findall(r"\d+", other) == re.findall(r"\d+", name)]
    return next(iter(difflib.get_close_matches(name, as_numbered, n=1, cutoff=0.8)), None)


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
            base = known[link] = replace(_merged(base, chain[link]), broken=broken)
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
    return extends.here({}, broken=problem)


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
        return _long_form(SECTIONS[section], node, shared=True)
    if isinstance(node.value, dict):
        return _long_policy(node) if section == "policies" else node
    if section == "chaos" and node.value is False:
        return node.here(None)
    node.refuse(node.broken or ("must be a table" if section == "policies" else "must be a table, or false"))
    return None


def _long_policy(node: Node) -> Node:
    """A policy with its strategies in long form, without what is not known in one, after having said so."""
    told = FACTORIES["policy"].readers
    long: dict[str, Node] = {}
    for key, item in node.value.items():
        if key in SLOTS:
            long[key] = _long_form(SLOTS[key], item)
        elif key == "strategies":
            long[key] = _long_list(item)
        elif key == "extends" or key in told:
            long[key] = item
        else:
            allowed = (*SLOTS, *told, "strategies", "extends")
            item.refuse(_CODE.get(key) or f"is not known in a policy; {nearest(key, allowed)}", shown=False)
    return node.here(long)


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
        elif isinstance(kind.value, str) and kind.value in _CODE:
            kind.refuse(_CODE[kind.value])
        elif (told := told_kind(item, KINDS, "strategy")) is not None:
            items.append(item.here({told[0]: _long_form(*told)}))
    return node.here(items)


def _variables(env: Mapping[str, str], found: Tables, root: Node) -> Iterator[dict[str, Node]]:
    """Each variable as a layer of its own, the shorter names first: `..__RETRY=5` comes before `..__RETRY__WAIT=1`."""
    spelled: dict[tuple[str, str], list[str]] = {}
    for section, name in ((section, name) for section, names in found.items() for name in names):
        spelled.setdefault((section, re.sub(r"\W", "_", name.lower())), []).append(name)
    variables = [name for name in env if name.startswith(PREFIX)]
    for variable in sorted(variables, key=lambda name: (name.count("__"), name)):
        section, *path = variable.removeprefix(PREFIX).lower().split("__")
        source = Source(f"environment variable {variable}", env, root.problems)
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


def short_form(kind: str) -> str | None:
    """The option that a single value in place of a table stands for; None where it names a shared one."""
    return _SHORT.get(kind, FACTORIES[kind].first)


def _long_form(kind: str, node: Node, *, shared: bool = False) -> Node:
    """A strategy's value with short forms written out: `retry = 3` is `retry = { attempts = 3 }`.

    Where a `shared` component is described, a name does not stand for another one.

    What comes out holds None (switched off) or a table; what cannot be read is left for its reader to refuse.
    """
    value: Any = node.value
    if value is None and node.broken is None:
        return node
    factory = FACTORIES[kind]
    if not isinstance(value, dict | bool):
        option = short_form(kind)
        named = kind in _BY_NAME and isinstance(value, str) and not parse_duration(value)
        if not shared and (option is None or named):
            return node.here({"use": node})
        node = node.here({option or factory.first: node})
    long = factory.long(node)
    return _apart(long) if kind == "rate_limit" and long.value else long


def _apart(node: Node) -> Node:
    """A rate such as "60/min" taken apart, so that a layer above may change one of the two."""
    rate = node.value.get("rate")
    if rate is not None and isinstance(rate.value, str) and "per" not in node.value:
        with contextlib.suppress(TypeError, ValueError, ArithmeticError):  # which the reader will come upon
            limit = RateLimit(rate.value)
            both = {"rate": replace(rate, value=limit.rate), "per": replace(rate, value=limit.per)}
            return node.here({**node.value, **both})
    return node


def _merged(base: Node | None, over: Node) -> Node:
    """One table over another, option by option, both in long form: strategies, what they consist of, and policies.

    A shared component and options replace each other, a list of strategies replaces all that is below it, and a wait
    with a kind of its own, or a budget that counts in another way, takes nothing from the one below.
    """
    if base is None or not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    below: dict[str, Node] = base.value
    if not over.value:
        return base
    if "kind" in over.value or any((key in over.value) is not (key in below) for key in ("use", "in_flight")):
        return over
    if "strategies" in over.value:
        below = {key: node for key, node in below.items() if key not in SLOTS}
    table = {key: node if key == "result" else _merged(below.get(key), node) for key, node in over.value.items()}
    return over.here({**below, **table})
