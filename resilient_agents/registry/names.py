"""`Registry`: policies and shared strategies by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable, Iterator
from functools import partial
from typing import Any, cast

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.events import logger
from resilient_agents.policy import Policy
from resilient_agents.registry.change import disown
from resilient_agents.registry.keyed import Keyed
from resilient_agents.registry.late import LatePolicy
from resilient_agents.registry.store import Changes, Source, Store, caller, check_name
from resilient_agents.registry.target import Target
from resilient_agents.strategies.gate import Gate

__all__ = ["Registry"]


class Registry(Store):
    """Policies, circuit breakers, bulkheads, rate limits and gates by name: made at first use, the same object ever
    after.

    What a name means comes from the configuration (`configure`), else from code (`add`, or the options given at first
    use), else from the defaults: a policy is then `Policy(Retry(3), CircuitBreaker(name))`, as those two need to know
    nothing about the dependency, while any time limit, rate or number of slots would be a guess. Once a configuration
    with policies is loaded, asking for a policy that it has not is a LookupError, because it is nearly always a typing
    error; a policy called "default" in the configuration serves all other names instead.

    Locking: the dictionaries are read without a lock and changed under `_lock`, for which nobody waits while a file is
    read (`_loading` keeps the order of reloads). No guarded function, key or maker of the user's runs under either.
    """

    def __init__(self, config: Source | None = None, *, profile: str | None = None) -> None:
        super().__init__()
        if config is not None:
            self.configure(config, profile=profile)

    # by name

    def policy(self, name: str) -> Policy:
        """The policy of that name. Raises LookupError if a configuration is loaded that has none of that name."""
        found = self._policies.get(name)
        if found is not None:
            return found
        check_name(name)
        with self._lock:
            found = self._policies.get(name)
            if found is None:
                change = self._change()
                made = self._made(name, change)
                self._commit(change)
                found = self._former.pop(name, made)
                if found is not made:
                    found.become(made)
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

    def gate(self, name: str, **options: Any) -> Gate:
        """The gate of that name. `options`, those of `Gate`, are for the first use of a name that is not configured;
        the defaults otherwise."""
        return cast(Gate, self._component("gate", name, options))

    def add(self, name: str, policy: Policy) -> Policy:
        """Give a policy made in code a name. If the configuration has a policy of that name, this one becomes that.
        Raises ValueError if another one has the name already."""
        check_name(name)
        if not isinstance(policy, Policy):
            raise TypeError(f"add takes a Policy, got {type(policy).__name__}")
        if name == "default":
            raise ValueError(
                '"default" is the policy of a configuration that serves all other names: take another name'
            )
        with self._lock:
            found = self._policies.get(name)
            if found is not None and found is not policy:
                raise ValueError(f"there is a policy named {name!r} already")
            spec = self._target.policies.get(name)
            if spec is not None and found is None:
                change = self._change()
                configured = spec.around(change.strategies(spec), name, policy)
                self._commit(change)
                policy.become(configured)
            self._policies[name] = policy
            self._added.add(name)
        return policy

    def late(self, name: str) -> Policy:
        """A policy that is `policy(name)`, looked up at its first call: what `@resilient(name)` guards with."""
        check_name(name)
        self._asked[name] = None
        return LatePolicy(partial(self._asked_for, name, caller()[1]), name=name)

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
        check_name(policy)
        name = policy
        self._asked[name] = None
        keyed = Keyed(lambda _: self._copy(name), key, at_most=at_most, name=name)
        with self._lock:
            self._keyed.add(keyed)
        return keyed

    def _asked_for(self, name: str, where: str) -> Policy:
        """The policy of that name, for the first call of what was decorated there."""
        found = self.policy(name)
        if not self._target.policies and name not in self._added:
            logger.warning(
                "there is no configuration, so %s gets the default under the name %r: Retry(3) and a CircuitBreaker; "
                "give it one by registry.configure(...), or by registry.add(%r, policy)",
                where,
                name,
                name,
            )
        return found

    # for tests

    @contextlib.contextmanager
    def override(self, name: str, policy: Any) -> Generator[Policy, None, None]:
        """Until the block ends, calls under the policy `name` run `policy` (a policy or a strategy) as it is: also
        through functions that are guarded already, through keyed policies, and in other threads."""
        other = policy if isinstance(policy, Policy) else Policy(policy)
        with self._lock:
            keyed = [each for each in list(self._keyed) if each.name == name]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.policy(name).replaced(other))
            for each in keyed:
                stack.enter_context(each.replaced(other))
            yield other

    def clear(self) -> None:
        """Forget all names, their state and the configuration: for the end of a test that used the registry of the
        process. Functions that are guarded by name look their policies up anew at their next call. What was made in
        code stays as it is, as do circuits, slots and rates of decorators."""
        with self._loading, self._lock:
            for name, policy in list(self._policies.items()):
                if name not in self._added:
                    policy.become(Policy(LatePolicy(partial(self.policy, name), name=name)))
                    self._former[name] = policy
            for keyed in list(self._keyed):
                keyed.forget()
            made = [self._components[key] for key in self._components.keys() - self._options.keys()]
            breakers = [component for component in made if isinstance(component, CircuitBreaker)]
            for breaker in breakers:
                disown(breaker)
            self._policies = {}
            self._components = {}
            self._options = {}
            self._added = set()
            self._kept = {}
            self._held = {}
            self._asked = {}
            self._source = self._profile = None
            self._target = Target()
            self._experiments.become({})
        for breaker in breakers:
            breaker.close()

    # configuration

    def configure(self, source: Source, *, profile: str | None = None) -> Changes:
        """Load a TOML file or a mapping (see `config.load`), or take a `Config`. Policies that exist change in place.
        Raises ConfigError, and nothing has changed then."""
        from resilient_agents.config import Config, load  # only then: see target.py

        with self._loading:
            config = source if isinstance(source, Config) else load(source, profile=profile)
            with self._lock:
                changes, unused = self._apply(Target(config))
                self._source, self._profile = source, profile
                self._experiments.become(config.chaos)
        for breaker in unused:  # or whoever looks at open circuits would see it for ever
            breaker.close()
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

        with self._loading:  # or it might bring back what another thread is about to replace
            if self._source is None or isinstance(self._source, Config):
                raise RuntimeError("there is nothing to reload: call configure() with a file or a mapping")
            return self.configure(self._source, profile=self._profile)

    def missing(self) -> tuple[str, ...]:
        """Names that `@resilient(name)` or `keyed(name)` asked for and that the configuration does not have."""
        if not self._target.policies or "default" in self._target.policies:
            return ()
        known = self._target.policies.keys() | self._added | self._kept.keys()
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
        return (kind, name) in self._components or (kind, name) in self._target.components
