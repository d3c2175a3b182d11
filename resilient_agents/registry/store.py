"""`Registry`: policies and shared strategies by name."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
import weakref
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.base.fork import Lock
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Strategy
from resilient_agents.events import logger
from resilient_agents.policy import Policy
from resilient_agents.registry.draft import Draft, disown
from resilient_agents.registry.experiments import Experiments
from resilient_agents.registry.keyed import Keyed
from resilient_agents.registry.wanted import Key, Wanted

if TYPE_CHECKING:
    from resilient_agents.config import Config, PolicySpec

__all__ = ["Changes", "Registry"]

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


class Registry(Spelled):
    """Policies, circuit breakers, bulkheads and rate limits by name: made at first use, the same object ever after.

    What a name means comes from the configuration (`configure`), else from code (`add`, or the options given at first
    use), else from the defaults: a policy is then `Policy(Retry(3), CircuitBreaker(name))`, as those two need to know
    nothing about the dependency, while any time limit, rate or number of slots would be a guess. Once a configuration
    with policies is loaded, asking for a policy that it has not is a LookupError, because it is nearly always a typing
    error; a policy called "default" in the configuration serves all other names instead.

    Locking: the dictionaries are read without a lock and changed under `_lock`, for which nobody waits while a file is
    read (`_loading` keeps the order of reloads). No guarded function, key or maker of the user's runs under either.
    """

    found_by: Callable[[], Registry] | None = None
    """Gives the registry of that role in another process; only the default one has it, and is pickled so."""

    def __init__(self, config: Source | None = None, *, profile: str | None = None) -> None:
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
        self._wanted = Wanted()
        if config is not None:
            self.configure(config, profile=profile)

    def __reduce__(self) -> Any:
        if self.found_by is None:
            raise TypeError("a registry holds live policies, which cannot be pickled: make one in each process")
        return self.found_by, ()

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
                made = Policy(*self._strategies(name, draft), name=name)
                self._commit(draft)
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

    def add(self, name: str, policy: Policy) -> Policy:
        """Give a policy made in code a name. If the configuration has a policy of that name, this one becomes that.
        Raises ValueError if another one has the name already."""
        _check(name)
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
            spec = self._wanted.policies.get(name)
            if spec is not None and found is None:
                draft = self._draft()
                configured = Policy(*draft.strategies(spec), name=name)
                self._commit(draft)
                policy.become(configured)
            self._policies[name] = policy
            self._added.add(name)
        return policy

    def late(self, name: str) -> Policy:
        """A policy that is `policy(name)`, looked up at its first call: what `@resilient(name)` guards with."""
        _check(name)
        self._asked[name] = None
        return Policy.late(partial(self.policy, name), name=name)

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
        """Forget all names, their state and the configuration: for the end of a test that used the registry of the
        process. Functions that are guarded by name look their policies up anew at their next call. What was made in
        code stays as it is, as do circuits, slots and rates of decorators."""
        with self._loading, self._lock:
            for name, policy in self._policies.items():
                if name not in self._added:
                    policy.become(Policy(Policy.late(partial(self.policy, name), name=name)))
                    self._former[name] = policy
            for keyed in self._keyed:
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
            self._wanted = Wanted()
            self._experiments.become({})
        for breaker in breakers:
            breaker.close()

    # configuration

    def configure(self, source: Source, *, profile: str | None = None) -> Changes:
        """Load a TOML file or a mapping (see `config.load`), or take a `Config`. Policies that exist change in place.
        Raises ConfigError, and nothing has changed then."""
        from resilient_agents.config import Config, load  # only then: see wanted.py

        with self._loading:
            config = source if isinstance(source, Config) else load(source, profile=profile)
            with self._lock:
                changes, unused = self._apply(Wanted(config))
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
        if not self._wanted.policies or "default" in self._wanted.policies:
            return ()
        known = self._wanted.policies.keys() | self._added | self._kept.keys()
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
                self._commit(draft)
                self._options[key] = {} if draft.overruled else options
            before = self._options.setdefault(key, {})  # a policy made it
            configured = key in self._wanted.components
        if options and before != options and not configured:
            warnings.warn(
                f"the {kind} {name!r} is in use with other options: the first ones stay, as one name is one {kind}",
                RuntimeWarning,
                stacklevel=_levels_of_ours(),
            )
        return found

    def _strategies(self, name: str, draft: Draft) -> list[Strategy]:
        wanted = draft.wanted
        if not wanted.policies:
            return [Retry(3), draft.component(("circuit_breaker", name))]
        known = set(wanted.components)
        spec = wanted.policy(name) or _written(name, wanted)
        for key in wanted.components.keys() - known:  # the default's, which are in use under this name already
            if key in self._components:
                draft.renumber(key)
        return draft.strategies(spec)

    def _commit(self, draft: Draft) -> None:
        draft.commit()
        for key in draft.adopted:  # the code that made it has asked for it
            self._options.setdefault(key, {})

    def _draft(self) -> Draft:
        return Draft(self, self._components, self._wanted)

    def _copy(self, name: str) -> Policy:
        """A policy with stateful strategies of its own, for one key."""
        with self._lock:
            wanted = self._wanted
            kept = self._kept.get(name)
            if not wanted.policies and kept is None:
                if name in self._added:
                    raise ValueError(f"{name!r} was made in code: give keyed() a function that makes a policy per key")
                return Policy(Retry(3), CircuitBreaker(), name=name)
            draft = self._draft()
            policy = Policy(*draft.copy(kept or _written(name, wanted)), name=name)
            self._commit(draft)
            return policy

    def _apply(self, wanted: Wanted) -> tuple[Changes, list[CircuitBreaker]]:
        """What changed, and the circuit breakers that no call goes through any more."""
        before = self._wanted
        draft = Draft(self, self._components, wanted)
        specs = {name: self._spec(name, wanted) for name in self._policies}  # first: the default's get names by it
        changed: list[str] = []
        for key, spec in wanted.components.items():
            if key in self._components and before.components.get(key) != spec:
                draft.renumber(key)
                changed.append(".".join(key))
        policies: dict[str, Policy] = {}
        for name, new in specs.items():
            if new is not None and new != self._spec(name, before):
                policies[name] = Policy(*draft.strategies(new), name=name)
        gone = [name for name, new in specs.items() if new is None and name in before.policies]
        removed = {name: was for name in gone if (was := before.serving(name)) is not None}
        # From here on nothing can fail.
        unused = self._unused(before, wanted)
        self._commit(draft)
        for name, policy in policies.items():
            self._policies[name].become(policy)
        self._wanted = wanted
        renewed: dict[str, None] = dict.fromkeys(policies)
        for keyed in list(self._keyed):
            name = keyed.name or ""
            old, new = before.serving(name), wanted.serving(name)
            if new is not None and new != old:
                self._kept.pop(name, None)
                keyed.renew()
                renewed[name] = None
            elif new is None and old is not None:
                removed[name] = old
        self._kept = {name: spec for name, spec in (self._kept | removed).items() if wanted.serving(name) is None}
        if removed:
            logger.warning("%s no longer has %s: kept as they were", wanted.source, ", ".join(removed))
        return Changes(tuple(renewed), tuple(changed), tuple(removed)), unused

    def _unused(self, before: Wanted, wanted: Wanted) -> list[CircuitBreaker]:
        """The circuit breakers that no policy in use goes through any more, and that code does not know."""
        used: set[Key] = set(self._options)
        for name in self._policies:
            new = self._spec(name, wanted)
            if new is None:  # stays what it was
                old = self._held.get(name, frozenset()) | _uses(self._spec(name, before)) | {("circuit_breaker", name)}
                self._held[name] = old
            else:
                self._held.pop(name, None)
            used |= self._held.get(name, _uses(new))
        for name in {keyed.name or "" for keyed in self._keyed}:
            used |= _uses(wanted.serving(name) or before.serving(name) or self._kept.get(name))
        return [self._components[key] for key in self._components.keys() - used if key[0] == "circuit_breaker"]

    def _spec(self, name: str, wanted: Wanted) -> PolicySpec | None:
        """What a policy in use is to be, None if the configuration does not say: the default is not for policies that
        were made in code."""
        return wanted.policies.get(name) if name in self._added else wanted.policy(name)


def _uses(spec: PolicySpec | None) -> frozenset[Key]:
    return (
        frozenset()
        if spec is None
        else frozenset({(each.kind, each.use) for each in spec.strategies if each.use is not None})
    )


def _levels_of_ours() -> int:
    """How far up the stack of whoever asks the first line stands that is not this package's."""
    frame = inspect.currentframe()
    level = 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}."):
        frame = frame.f_back
        level += 1
    return level


def _check(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a non-empty string, got {name!r}")


def _written(name: str, wanted: Wanted) -> PolicySpec:
    spec = wanted.serving(name)
    if spec is None:
        known = sorted(wanted.written)
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise LookupError(f"{wanted.source} has no policy named {name!r}: {meant}it has {', '.join(known)}")
    return spec
