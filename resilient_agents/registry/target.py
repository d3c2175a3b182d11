"""What a configuration asks for, with a name for everything that has state.

A breaker, bulkhead, rate limit or gate that stands inside a policy is the component of the policy's name, unless the
configuration has one of that name already (then `name#2`). So `registry.bulkhead("openai")` is the bulkhead of the
policy "openai", and a reload finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # at run time only once there is a configuration: reading one costs `import resilient_agents` 10 ms
    from resilient_agents.config import Config, PolicySpec, StrategySpec

__all__ = ["Key", "Target"]

Key: TypeAlias = tuple[str, str]
"""Kind and name of a component: ("circuit_breaker", "openai")."""

_SHARED = ("circuit_breaker", "bulkhead", "rate_limit", "gate")


class Target:
    """`policies`: by name, with every stateful strategy as a `use`. `components`: what is used. `written`: the policies
    as the configuration has them."""

    __slots__ = ("components", "policies", "source", "written")

    def __init__(self, config: Config | None = None) -> None:
        self.source = ""
        self.written: Mapping[str, PolicySpec] = {}
        self.components: dict[Key, StrategySpec] = {}
        self.policies: dict[str, PolicySpec] = {}
        if config is not None:
            self.source = config.source
            self.written = config.policies
            for kind in _SHARED:
                self.components.update({(kind, name): spec for name, spec in getattr(config, f"{kind}s").items()})
            self.policies = {name: self._named(spec) for name, spec in config.policies.items()}

    def policy(self, name: str) -> PolicySpec | None:
        """What a policy consists of; the one called "default" serves all other names. None if there is neither."""
        found = self.policies.get(name)
        if found is None and "default" in self.written:
            found = self.policies[name] = self._named(replace(self.written["default"], name=name))
        return found

    def serving(self, name: str) -> PolicySpec | None:
        """The same as it is written."""
        return self.written.get(name) or self.written.get("default")

    def _named(self, policy: PolicySpec) -> PolicySpec:
        return replace(policy, strategies=tuple(self._name(policy, spec) for spec in policy.strategies))

    def _name(self, policy: PolicySpec, spec: StrategySpec) -> StrategySpec:
        if spec.kind not in _SHARED or spec.use is not None:
            return spec
        given: str | None = spec.options.get("name")
        first = name = given or policy.name
        number = 1
        while (found := self.components.get((spec.kind, name))) is not None:
            if given is not None and found.but(name=None) == spec.but(name=None):
                return replace(spec, options={}, use=name)  # one circuit, written in two places
            number += 1
            name = f"{first}#{number}"
        self.components[spec.kind, name] = spec if given is None else spec.but(name=name)
        return replace(spec, options={}, use=name)
