"""`Registry`: policies and shared strategies by name."""

from __future__ import annotations

import contextlib
import os
import warnings
import weakref
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.core.call import Strategy
from resilient_agents.core.fork import Lock
from resilient_agents.events import logger
from resilient_agents.policy import Policy
from resilient_agents.registry.draft import Draft
from resilient_agents.registry.keyed import Keyed
from resilient_agents.registry.wanted import Key, Wanted

if TYPE_CHECKING:
    from resilient_agents.config import Config, PolicySpec

__all__ = ["Changes", "Registry"]

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Config"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did to objects that exist: names of policies and "kind.name" of components.

    `removed`: policies that the configuration no longer has. They are in use, so they stay as they were.
    """

    policies: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Registry:
    """Policies, circuit breakers, bulkheads and rate limits by name: made at first use, the same object ever after.

    What a name means comes from the configuration (`configure`), else from code (`add`, or the options given at first
    use), else from the defaults: a policy is then `Policy(Retry(3), CircuitBreaker(name))`, as those two need to know
    nothing about the dependency, while any time limit, rate or number of slots would be a guess. Once a configuration
    with policies is loaded, asking for a policy that it has not is a LookupError, because it is nearly always a typing
    error; a policy called "default" in the configuration serves all other names instead.

    Locking: the dictionaries are read without a lock and changed under `_lock`, for which nobody waits while a file is
    read (`_loading` keeps the order of reloads). No guarded function, key or maker of the user's runs under either.
    """

    def __init__(self, config: Source | None = None, *, profile: str | None = None) -> None:
        self._lock = Lock()
        self._policies: dict[str, Policy] = {}
        self._components: dict[Key, Any] = {}
        self._options: dict[Key, Any] = {}
        self._keyed: weakref.WeakSet[Keyed] = weakref.WeakSet()
        self._added: set[str] = set()
        self._asked: dict[str, None] = {}
        self._loading = Lock()
        self._source: Source | None = None
        self._profile: str | None = None
        self._wanted = Wanted()
        if config is not None:
            self.configure(config, profile=profile)

    # by name

    def policy(self, name: str) -> Policy:
        """The policy of that name. Raises LookupError if a configuration is loaded that has none of that name."""
        found = self._policies.get(name)
        if found is not None:
            return found
        _check(name)
        with self._lock:
            found = self._policies.get(name)
            if found is None:
                draft = self._draft()
                found = Policy(*self._strategies(name, draft), name=name)
                draft.commit()
                self._policies[name] = found
            return found

    def circuit_breaker(self, name: str, **options: Any) -> CircuitBreaker:
        """The circuit breaker of that name; a living `CircuitBreaker(name)` made in code is the same circuit.

        `options` are those of `CircuitBreaker`, for the first use of a name that is not configured; the defaults
        otherwise. Warns where two places give one name different options.
        """
        return cast(CircuitBreaker, self._component("circuit_breaker", name, options))

    def bulkhead(self, name: str, limit: int | None = None, **options: Any) -> Bulkhead:
        """The bulkhead of that name. `limit` and `options`, those of `Bulkhead`, are for the first use of a name that
        is not configured; without any the limit is 25, the default of resilience4j."""
        if limit is not None:
            options["limit"] = limit
        return cast(Bulkhead, self._component("bulkhead", name, options))

    def rate_limit(self, name: str, rate: float | str | None = None, **options: Any) -> RateLimit:
        """The rate limit of that name. `rate` and `options`, those of `RateLimit`, are for the first use of a name
        that is not configured. Raises LookupError where nothing says how much: there is no sensible default."""
        if rate is not None:
            options["rate"] = rate
        return cast(RateLimit, self._component("rate_limit", name, options))

    def add(self, name: str, policy: Policy) -> Policy:
        """Give a policy made in code a name. Raises ValueError if another one has that name already."""
        _check(name)
        with self._lock:
            found = self._policies.setdefault(name, policy)
            self._added.add(name)
        if found is not policy:
            raise ValueError(f"there is a policy named {name!r} already")
        return policy

    def late(self, name: str) -> Policy:
        """A policy that is `policy(name)`, looked up at its first call: what `@resilient(name)` guards with."""
        _check(name)
        self._asked[name] = None
        return Policy.late(lambda: self.policy(name), name=name)

    def keyed(self, policy: str | Callable[[Any], Any], key: Callable[..., Hashable], *, at_most: int = 1000) -> Keyed:
        """One policy for each key: a decorator, also used like a policy (`call`, `acall`, `stream`, `policy(key)`).

        Args:
            policy: A name of this registry: then every key has its own copy of that policy, breakers and limits
                included, except for the shared ones that it uses by name. Or a function of the key that returns a
                policy or a strategy.
            key: A plain function of the call's arguments that returns the key, such as a host or a tenant. What it
                raises reaches the caller.
            at_most: How many policies are kept (default 1000); the least recently used goes first, never one in use.
        """
        if not isinstance(policy, str):
            return Keyed(policy, key, at_most=at_most)
        _check(policy)
        name = policy
        self._asked[name] = None
        keyed = Keyed(lambda _: self._copy(name), key, at_most=at_most, name=name)
        with self._lock:
            self._keyed.add(keyed)
        return keyed

    # for tests

    @contextlib.contextmanager
    def override(self, name: str, policy: Any) -> Generator[Policy, None, None]:
        """Until the block ends, calls under the policy `name` run `policy` (a policy or a strategy) as it is: also
        through functions that are guarded already, through keyed policies, and in other threads."""
        other = policy if isinstance(policy, Policy) else Policy(policy)
        with self._lock:
            keyed = [each for each in self._keyed if each.name == name]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.policy(name).replaced(other))
            for each in keyed:
                stack.enter_context(each.replaced(other))
            yield other

    def clear(self) -> None:
        """Forget all names and the configuration. Functions that have been called go on with the policy that they
        have, the others look it up anew: for the end of a test that used the registry of the process."""
        with self._loading, self._lock:
            self._policies = {}
            self._components = {}
            self._options = {}
            self._keyed = weakref.WeakSet()
            self._added = set()
            self._asked = {}
            self._source = self._profile = None
            self._wanted = Wanted()

    # configuration

    def configure(self, source: Source, *, profile: str | None = None) -> Changes:
        """Load a TOML file or a mapping (see `config.load`), or take a `Config`. Policies that exist change in place.
        Raises ConfigError, and nothing has changed then."""
        from resilient_agents.config import Config, load  # only then: see wanted.py

        with self._loading:
            config = source if isinstance(source, Config) else load(source, profile=profile)
            with self._lock:
                changes = self._apply(Wanted(config))
                self._source, self._profile = source, profile
        for warning in config.warnings:
            logger.warning("%s", warning)
        if missing := self.missing():
            logger.warning("%s has no policy named %s, which functions ask for", config.source, ", ".join(missing))
        return changes

    def reload(self) -> Changes:
        """Read the configured source again and apply what changed, all of it or nothing.

        Policies in use change in place and keep their state: circuits and windows, slots in use, what rate limits have
        let through, spent budgets. Calls in flight finish under the policy that they began with. Raises ConfigError for
        a source that is not valid, which changes nothing, and RuntimeError if there is nothing to read.
        """
        from resilient_agents.config import Config

        if self._source is None or isinstance(self._source, Config):
            raise RuntimeError("there is nothing to reload: call configure() with a file or a mapping")
        return self.configure(self._source, profile=self._profile)

    def missing(self) -> tuple[str, ...]:
        """Names that `@resilient(name)` or `keyed(name)` asked for and that the configuration does not have."""
        if not self._wanted.policies or "default" in self._wanted.policies:
            return ()
        known = self._wanted.policies.keys() | self._policies.keys()
        return tuple(sorted(name for name in list(self._asked) if name not in known))

    # looking around

    def policies(self) -> Iterator[tuple[str, Policy]]:
        """(name, policy) of those in use."""
        yield from list(self._policies.items())

    def components(self) -> Iterator[tuple[str, str, Any]]:
        """(kind, name, strategy) of the shared strategies in use."""
        for (kind, name), component in list(self._components.items()):
            yield kind, name, component

    def has(self, kind: str, name: str) -> bool:
        """Is there a component of that name, in use or in the configuration?"""
        return (kind, name) in self._components or (kind, name) in self._wanted.components

    # making

    def _component(self, kind: str, name: str, options: dict[str, Any]) -> Any:
        key = kind, name
        found = self._components.get(key)
        if found is not None and not options:
            return found
        _check(name)
        with self._lock:
            found = self._components.get(key)
            if found is None:
                draft = self._draft()
                found = draft.component(key, options)
                draft.commit()
                self._options[key] = options
                return found
            before = self._options.setdefault(key, options)
            configured = key in self._wanted.components
        if options and before != options and not configured:
            warnings.warn(
                f"the {kind} {name!r} is in use with other options: the first ones stay, as one name is one {kind}",
                RuntimeWarning,
                stacklevel=3,
            )
        return found

    def _strategies(self, name: str, draft: Draft) -> list[Strategy]:
        if not draft.wanted.policies:
            return [Retry(3), draft.component(("circuit_breaker", name))]
        return draft.strategies(draft.wanted.policies.get(name) or _written(name, draft.wanted))

    def _draft(self) -> Draft:
        return Draft(self, self._components, self._wanted)

    def _copy(self, name: str) -> Policy:
        """A policy with stateful strategies of its own, for one key."""
        with self._lock:
            wanted = self._wanted
            if not wanted.policies:
                if name in self._added:
                    raise ValueError(f"{name!r} was made in code: give keyed() a function that makes a policy per key")
                return Policy(Retry(3), CircuitBreaker(), name=name)
            draft = self._draft()
            policy = Policy(*draft.strategies(_written(name, wanted)), name=name)
            draft.commit()
            return policy

    def _apply(self, wanted: Wanted) -> Changes:
        before = self._wanted
        draft = Draft(self, self._components, wanted)
        changed: list[str] = []
        for key, spec in wanted.components.items():
            if key in self._components and before.components.get(key) != spec:
                draft.renumber(key)
                changed.append(".".join(key))
        policies: dict[str, Policy] = {}
        for name in self._policies:
            new = _spec_or_none(name, wanted)
            if new is not None and new != _spec_or_none(name, before):
                policies[name] = Policy(*draft.strategies(new), name=name)
        removed = [name for name in self._policies if name in before.policies and _spec_or_none(name, wanted) is None]
        # From here on nothing can fail.
        draft.commit()
        for name, policy in policies.items():
            self._policies[name].become(policy)
        self._wanted = wanted
        for keyed in list(self._keyed):
            name = keyed.name or ""
            new = wanted.written.get(name) or wanted.written.get("default")
            if new is not None and new != (before.written.get(name) or before.written.get("default")):
                keyed.renew()
        if removed:
            logger.warning("%s no longer has %s: kept as they were", wanted.source, ", ".join(removed))
        return Changes(tuple(policies), tuple(changed), tuple(removed))


def _check(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")


def _spec_or_none(name: str, wanted: Wanted) -> PolicySpec | None:
    return wanted.policies.get(name) or wanted.written.get("default")


def _written(name: str, wanted: Wanted) -> PolicySpec:
    spec = wanted.written.get(name) or wanted.written.get("default")
    if spec is None:
        known = sorted(wanted.written)
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise LookupError(f"{wanted.source} has no policy named {name!r}: {meant}it has {', '.join(known)}")
    return spec
