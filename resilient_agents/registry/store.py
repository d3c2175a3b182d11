"""What names stand for in a registry, and how a configuration changes that."""

from __future__ import annotations

import inspect
import os
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.retry import Retry
from resilient_agents.base.fork import Lock
from resilient_agents.base.spelling import Spelled
from resilient_agents.events import logger
from resilient_agents.policy import Policy
from resilient_agents.registry.change import Change
from resilient_agents.registry.experiments import Experiments
from resilient_agents.registry.keyed import Keyed
from resilient_agents.registry.target import Key, Target

if TYPE_CHECKING:
    from resilient_agents.config import Config, PolicySpec

__all__ = ["Changes", "Source", "Store", "caller", "check_name"]

_PACKAGE = __name__.partition(".")[0]

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Config"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did to objects that exist: names of policies, keyed ones too, and "kind.name" of components.

    `removed`: policies that the configuration no longer has. They are in use, so they stay as they were.
    """

    policies: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Store(Spelled):
    """What the names of a registry stand for, and how that changes: see `Registry`."""

    found_by: Callable[[], Store] | None = None
    """Gives the registry of that role in another process; only the default one has it, and is pickled so."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._policies: dict[str, Policy] = {}
        self._former: weakref.WeakValueDictionary[str, Policy] = weakref.WeakValueDictionary()
        self._components: dict[Key, Any] = {}
        self._options: dict[Key, Any] = {}
        self._keyed: weakref.WeakSet[Keyed] = weakref.WeakSet()
        self._kept: dict[str, PolicySpec] = {}
        """What the policies were that a configuration had and has no more."""
        self._held: dict[str, frozenset[Key]] = {}
        """What those of them go through that are in use."""
        self._added: set[str] = set()
        self._asked: dict[str, None] = {}
        self._loading = Lock()
        self._source: Source | None = None
        self._profile: str | None = None
        self._experiments = Experiments()
        self._target = Target()

    def __reduce__(self) -> Any:
        if self.found_by is None:
            raise TypeError("a registry holds live policies, which cannot be pickled: make one in each process")
        return self.found_by, ()

    def _component(self, kind: str, name: str, options: dict[str, Any]) -> Any:
        key = kind, name
        found = self._components.get(key)
        if found is not None and not options:
            return found
        check_name(name)
        with self._lock:
            found = self._components.get(key)
            if found is None:
                change = self._change()
                found = change.component(key, options)
                self._commit(change)
                self._options[key] = {} if change.overruled else options
            before = self._options.setdefault(key, {})  # a policy made it
            configured = key in self._target.components
        if options and before != options and not configured:
            warnings.warn(
                f"the {kind} {name!r} is in use with other options: the first ones stay, as one name is one {kind}",
                RuntimeWarning,
                stacklevel=caller()[0],
            )
        return found

    def _made(self, name: str, change: Change) -> Policy:
        target = change.target
        if not target.policies:
            return Policy(Retry(3), change.component(("circuit_breaker", name)), name=name)
        known = set(target.components)
        spec = target.policy(name) or _written(name, target)
        for key in target.components.keys() - known:  # the default's, which are in use under this name already
            if key in self._components:
                change.renumber(key)
        return spec.around(change.strategies(spec), name)

    def _commit(self, change: Change) -> None:
        change.commit()
        for key in change.adopted:  # the code that made it has asked for it
            self._options.setdefault(key, {})

    def _change(self) -> Change:
        return Change(self, self._components, self._target)

    def _copy(self, name: str) -> Policy:
        """A policy with stateful strategies of its own, for one key."""
        with self._lock:
            target = self._target
            kept = self._kept.get(name)
            if not target.policies and kept is None:
                if name in self._added:
                    raise ValueError(f"{name!r} was made in code: give keyed() a function that makes a policy per key")
                return Policy(Retry(3), CircuitBreaker(), name=name)
            change = self._change()
            spec = kept or _written(name, target)
            policy = spec.around(change.copy(spec), name)
            self._commit(change)
            return policy

    def _apply(self, target: Target) -> tuple[Changes, list[CircuitBreaker]]:
        """What changed, and the circuit breakers that no call goes through any more."""
        before = self._target
        change = Change(self, self._components, target)
        specs = {
            name: self._spec(name, target) for name in list(self._policies)
        }  # first: the default's get names by it
        changed: list[str] = []
        for key, spec in target.components.items():
            if key in self._components and before.components.get(key) != spec:
                change.renumber(key)
                changed.append(".".join(key))
        policies: dict[str, Policy] = {}
        for name, new in specs.items():
            if new is not None and new != self._spec(name, before):
                code = self._policies[name] if name in self._added else None
                policies[name] = new.around(change.strategies(new), name, code)
        gone = [name for name, new in specs.items() if new is None and name in before.policies]
        removed = {name: was for name in gone if (was := before.serving(name)) is not None}
        # From here on nothing can fail.
        unused = self._unused(before, target)
        self._commit(change)
        for name, policy in policies.items():
            self._policies[name].become(policy)
        self._target = target
        renewed, without = self._renew_keyed(before, target)
        removed |= without
        self._kept = {name: spec for name, spec in (self._kept | removed).items() if target.serving(name) is None}
        if removed:
            logger.warning("%s no longer has %s: kept as they were", target.source, ", ".join(removed))
        return Changes(tuple({**policies, **renewed}), tuple(changed), tuple(removed)), unused

    def _renew_keyed(self, before: Target, target: Target) -> tuple[dict[str, None], dict[str, PolicySpec]]:
        """Renew what policies of keys are made of. Which were, by name, and those that are no longer written down, with
        what they were."""
        renewed: dict[str, None] = {}
        removed: dict[str, PolicySpec] = {}
        for keyed in list(self._keyed):
            name = keyed.name or ""
            old, new = before.serving(name), target.serving(name)
            if new is not None and new != old:
                self._kept.pop(name, None)
                keyed.renew()
                renewed[name] = None
            elif new is None and old is not None:
                removed[name] = old
        return renewed, removed

    def _unused(self, before: Target, target: Target) -> list[CircuitBreaker]:
        """The circuit breakers that no policy in use goes through any more, and that code does not know."""
        used: set[Key] = set(self._options)
        for name in list(self._policies):
            new = self._spec(name, target)
            if new is None:  # stays what it was
                old = self._held.get(name, frozenset()) | _uses(self._spec(name, before)) | {("circuit_breaker", name)}
                self._held[name] = old
            else:
                self._held.pop(name, None)
            used |= self._held.get(name, _uses(new))
        for name in {keyed.name or "" for keyed in list(self._keyed)}:
            used |= _uses(target.serving(name) or before.serving(name) or self._kept.get(name))
        return [self._components[key] for key in self._components.keys() - used if key[0] == "circuit_breaker"]

    def _spec(self, name: str, target: Target) -> PolicySpec | None:
        """What a policy in use is to be, None if the configuration does not say: the default is not for policies that
        were made in code."""
        return target.policies.get(name) if name in self._added else target.policy(name)


def _uses(spec: PolicySpec | None) -> frozenset[Key]:
    return (
        frozenset()
        if spec is None
        else frozenset({(each.kind, each.use) for each in spec.strategies if each.use is not None})
    )


def caller() -> tuple[int, str]:
    """How far up the stack of whoever asks the first line stands that is not this package's, and where that is."""
    frame = inspect.currentframe()
    level = 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}."):
        frame = frame.f_back
        level += 1
    return level, "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")


def _written(name: str, target: Target) -> PolicySpec:
    spec = target.serving(name)
    if spec is None:
        known = sorted(target.written)
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise LookupError(f"{target.source} has no policy named {name!r}: {meant}it has {', '.join(known)}")
    return spec
