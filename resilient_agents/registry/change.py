"""A change of the registry before it happens: what is new, and which numbers change.

All that may fail happens while the change is written. `commit` cannot fail: a change happens as a whole or not at all.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker, shared_breaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.base import instances
from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy
from resilient_agents.registry.target import Key, Target
from resilient_agents.strategies.gate import Gate

if TYPE_CHECKING:
    from resilient_agents.config import PolicySpec, StrategySpec

__all__ = ["Change", "disown", "is_shared"]

_NONE: Mapping[str, Any] = {}
_OWNER = "_registry"
_BULKHEAD: dict[str, Any] = {"limit": 25}


class Change:
    """`owner`: the registry, whose `components` are those that exist. To be used under its lock."""

    def __init__(self, owner: object, components: dict[Key, Any], target: Target) -> None:
        self.target = target
        self._owner = weakref.ref(owner)
        self._components = components
        self._new: dict[Key, Any] = {}
        self.adopted: set[Key] = set()
        """Circuit breakers that live already, made in code."""
        self.overruled = False
        """Were options given for one of them, which has others?"""
        self._twins: list[tuple[Any, Any]] = []

    def strategies(self, spec: PolicySpec) -> list[Strategy]:
        """Those of a policy: the ones with a name by it, the others new."""
        return [_built(each) if each.use is None else self.component((each.kind, each.use)) for each in spec.strategies]

    def copy(self, spec: PolicySpec) -> list[Strategy]:
        """The same for one key: what is not shared is new, and what is shared stands in a policy of its own. So after a
        reload nothing of the key's own takes the place of what others use."""
        return [
            _built(each) if each.use is None else Policy(self.component((each.kind, each.use)))
            for each in spec.strategies
        ]

    def component(self, key: Key, options: Mapping[str, Any] = _NONE) -> Any:
        """The one that exists, or a new one: as configured, else with `options`, else the default."""
        found: Any = self._components.get(key) or self._new.get(key)
        if found is None:
            kind, name = key
            spec = self.target.components.get(key)
            if kind == "circuit_breaker":
                found = self._breaker(key, spec, options)
            elif spec is not None:
                found = _built(spec)
            elif kind == "bulkhead":
                found = Bulkhead(**_BULKHEAD | dict(options))
            elif kind == "gate":
                found = Gate(**options)
            elif "rate" in options:
                found = RateLimit(**options)
            else:
                raise LookupError(f"no configuration has a rate limit named {name!r}: give its rate at first use")
            if kind != "circuit_breaker":
                given = None if spec is None else spec.options.get("name")
                found.name = given or name  # by which `Policy.become` tells it from others
            vars(found)[_OWNER] = self._owner
            self._new[key] = found
        return found

    def renumber(self, key: Key) -> None:
        """Let the component that exists have the numbers that it is to have."""
        self._twins.append((self._components[key], _built(self.target.components[key])))

    def commit(self) -> None:
        """Do it."""
        for component, twin in self._twins:
            component.reconfigure(twin)
        self._components.update(self._new)

    def _breaker(self, key: Key, spec: StrategySpec | None, options: Mapping[str, Any]) -> CircuitBreaker:
        """One of that name that lives, or a new one. The configuration's numbers come with `commit` in either case,
        those of `options` are for a new one."""
        name = key[1]
        twin: Any = None
        if spec is not None:
            name = spec.options.get("name") or name
            twin = _built(spec)
        elif options:
            twin = CircuitBreaker(**options)
        if _living(name):
            gc.collect()  # it may only wait to be collected
        living = _living(name)
        found = shared_breaker(name, self._may_have)
        lives = id(found) in living
        if lives:
            self.adopted.add(key)
        if twin is not None and (spec is not None or not lives):
            self._twins.append((found, twin))
        elif twin is not None:
            self.overruled = _options(found) != _options(twin)
        return found

    def _may_have(self, breaker: CircuitBreaker) -> bool:
        """Not if it is another registry's: two registries share nothing."""
        owner = vars(breaker).get(_OWNER, _nobody)()
        return owner is None or owner is self._owner()


def _built(spec: StrategySpec) -> Any:
    """What the spec describes, without its name: no second one of a name that is in use."""
    from resilient_agents.config import build

    return build(spec.nameless)


def _living(name: str) -> set[int]:
    """The breakers of that name, by identity: nothing here may keep one alive."""
    return {id(breaker) for breaker in instances.each("circuit_breaker") if breaker.name == name}


def _options(breaker: CircuitBreaker) -> dict[str, Any]:
    described = breaker.describe()
    return {option: value for option, value in described.items() if option not in ("name", "metrics")}


def is_shared(component: Any) -> bool:
    """Is it a registry's, so that it outlives the policies that use it?"""
    return _OWNER in vars(component)


def disown(breaker: CircuitBreaker) -> None:
    """Let no registry find it any more."""
    vars(breaker)[_OWNER] = object


def _nobody() -> None:
    """What a reference to a registry says when there is none."""
