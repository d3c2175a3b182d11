"""`load` and `loads`: a source becomes a `Config`, or one error that lists all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from resilient_agents.base.spelling import nearest
from resilient_agents.config.check import misfits
from resilient_agents.config.factory import FACTORIES, SECTIONS, SLOTS
from resilient_agents.config.layers import Tables, inherited, layered
from resilient_agents.config.model import Config, ConfigWarning, PolicySpec, StrategySpec, build
from resilient_agents.config.redact import without_numbers
from resilient_agents.config.source import MISSING, ConfigError, Node, Source, place_of, read_file
from resilient_agents.policy import Policy
from resilient_agents.strategies.chaos import TOLD_ONCE, told_twice

__all__ = ["PROFILE", "configured", "load", "loads"]

PROFILE = "RESILIENT_AGENTS_PROFILE"


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Config:
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
        tree = Source("<dict>", os.environ if env is None else env)
        return configured(tree, tree.tree(source), profile)
    return loads(read_file(source), source=os.fsdecode(source), profile=profile, env=env)


def loads(
    text: str, *, source: str = "<string>", profile: str | None = None, env: Mapping[str, str] | None = None
) -> Config:
    """The same for TOML text. `source` is what errors call it."""
    tree = Source(source, os.environ if env is None else env)
    return configured(tree, tree.toml(text), profile)


def configured(source: Source, root: Node, profile: str | None) -> Config:
    """The configuration that a tree of this source holds. Raises ConfigError."""
    env = source.env or {}
    profile = profile or env.get(PROFILE) or None
    tables, warnings = layered(root, profile, env)
    if not told_twice(profile, env):
        for table in tables["chaos"].values():
            table.refuse(TOLD_ONCE, shown=False)
        tables["chaos"] = {}
    shared = {section: _components(kind, tables[section]) for section, kind in {**SECTIONS, "chaos": "chaos"}.items()}
    policies: dict[str, PolicySpec] = {}
    for name, node in inherited(tables["policies"]).items():
        spec = _policy(name, node, tables)
        if spec is not None:
            policies[name] = spec
            warnings += _warnings(spec, shared, node)
    warnings += _undisturbed(tables)
    if source.problems:
        raise ConfigError(source.problems)
    return Config(policies, source=source.name, profile=profile, warnings=tuple(warnings), **shared)


def _components(kind: str, tables: Mapping[str, Node]) -> dict[str, StrategySpec]:
    """What is shared by name."""
    found = {name: spec for name, table in tables.items() if (spec := _strategy(kind, table)) is not MISSING}
    if "name" not in FACTORIES[kind].readers:
        return found
    return {name: spec.but(name=spec.options.get("name") or name) for name, spec in found.items()}


def _policy(name: str, node: Node, tables: Tables) -> PolicySpec | None:
    """The spec of a policy, None after having said what is wrong."""
    table: dict[str, Node] = node.value
    partial = node.broken is not None
    words = {key: table[key] for key in FACTORIES["policy"].readers if key in table}
    told = [_strategy("policy", node.here(words))] if words else []
    placed = [(kind, table[slot]) for slot, kind in SLOTS.items() if slot in table]
    listed = table.get("strategies")
    if listed is not None:
        beside = (
            f"stands beside the list of strategies at {place_of(listed)}: a policy has either a list, which is taken "
            f"as it is, or keys, which may change what it extends"
        )
        for _, item in placed:
            item.refuse(beside, shown=False)
        placed = [each for item in listed.value for each in item.value.items()]
    read = [
        _strategy(kind, item, tables.get(f"{kind}s"), partial=partial)
        for kind, item in placed
        if item.value is not None
    ]
    return None if partial or MISSING in (*told, *read) else PolicySpec(name, tuple(read), *told)


def _strategy(kind: str, table: Node, shared: Collection[str] | None = None, *, partial: bool = False) -> Any:
    """The spec that a table in long form describes, MISSING after having said what is wrong.

    `shared`: the names that `use` may have; None where `use` is not allowed. `partial`: see `Factory.read`.
    """
    options: dict[str, Node] = table.value
    if "use" in options and shared is not None:
        return _used(kind, options, shared)
    read = FACTORIES[kind].read(table, partial=partial)
    if read is MISSING:
        return MISSING
    if read.get("name") == "":
        return options["name"].refuse('must be a non-empty string or "none"')
    secrets = frozenset(key for key, node in options.items() if any(leaf.secret for leaf in node.leaves()))
    return StrategySpec(kind, read, places={key: _origin(node) for key, node in options.items()}, secrets=secrets)


def _used(kind: str, options: dict[str, Node], shared: Collection[str]) -> Any:
    use, section = options["use"], f"{kind}s"
    for key in (key for key in options if key != "use"):
        options[key].refuse(f"stands beside use; a shared component has its options in [{section}]")
    if use.broken is not None:
        return use.refuse(use.broken)
    if not isinstance(use.value, str):
        return use.refuse(f"must be a table, true, false, or the name of one in [{section}]")
    if use.value not in shared:
        known = nearest(use.value, shared) if shared else "there is none in this configuration"
        return use.refuse(f"is not in [{section}]; {known}")
    return StrategySpec(kind, use=use.value, places={"use": _origin(use)})


def _origin(node: Node) -> str:
    """Where a value was written; the parts of a wait may come from several layers."""
    return ", ".join(dict.fromkeys(map(place_of, node.leaves()))) or place_of(node)


def _undisturbed(tables: Tables) -> Iterator[ConfigWarning]:
    """Of chaos by the name of a policy that is not here: it may be one that code makes, or a slip."""
    policies = tables["policies"]
    for name, node in tables["chaos"].items():
        if name not in policies:
            known = nearest(name, policies) if policies else "it has none"
            yield ConfigWarning(
                name, f"chaos.{name}: disturbs no policy of this configuration; {known}", place_of(node)
            )


def _warnings(
    policy: PolicySpec, shared: Mapping[str, Mapping[str, StrategySpec]], node: Node
) -> Iterator[ConfigWarning]:
    specs = [spec if spec.use is None else shared[f"{spec.kind}s"].get(spec.use) for spec in policy.strategies]
    layers = [(spec, build(spec.nameless)) for spec in specs if spec is not None]
    try:
        Policy(*(strategy for _, strategy in layers))
    except ValueError as error:  # of their order
        node.refuse(str(error), shown=False)
    secret = any(not isinstance(spec.options[option], str) for spec, _ in layers for option in spec.secrets)
    for spec, option, message in misfits(layers):
        said = without_numbers(message) if secret else message
        yield ConfigWarning(policy.name, f"policies.{policy.name}: {said}", spec.places.get(option, node.source))
