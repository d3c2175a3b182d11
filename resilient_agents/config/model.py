"""What a configuration is: frozen plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from resilient_agents.config.factory import FACTORIES
from resilient_agents.config.redact import HIDDEN, redacted
from resilient_agents.config.values import frozen, thawed
from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy

__all__ = ["Config", "ConfigWarning", "PolicySpec", "StrategySpec", "build"]

Resolve: TypeAlias = Callable[[str, str], Strategy]
"""(kind, name) -> the shared component of that name."""


class _Frozen:
    """A base for data whose mappings nobody changes, and which pickles all the same."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Mapping):
                object.__setattr__(self, name, frozen(value))

    def __reduce__(self) -> Any:
        values = vars(self).values()
        return type(self), tuple(thawed(value) if isinstance(value, Mapping) else value for value in values)


@dataclass(frozen=True)
class StrategySpec(_Frozen):
    """One strategy as data: `build(spec)` makes it.

    Attributes:
        kind: "timeout", "retry", "hedge", "circuit_breaker", "gate", "rate_limit", "bulkhead", "stream_timeout", or
            "policy" for what a policy itself is told.
        options: The constructor's arguments that were given, as plain data: durations in seconds, waits and budgets as
            mappings, `on` and `when` as tuples of names. What is not here has the constructor's default.
        use: The name of the shared component that stands here instead; `options` is empty then.
        places: Where each option was written: "resilience.toml:12", "preset 'http'" ... It takes no part in equality.
        secrets: The options whose value came from an environment variable that looks like a secret. `repr`, `config
            show` and errors hide them.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    use: str | None = None
    places: Mapping[str, str] = field(default_factory=dict[str, str], compare=False, repr=False)
    secrets: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def but(self, **options: Any) -> StrategySpec:
        """The same with these options changed: a component under another name, or under none (`name=None`)."""
        return replace(self, options={**self.options, **options})

    @property
    def nameless(self) -> StrategySpec:
        """The same under no name, for a trial or a twin: there may be one of its name alive."""
        return self.but(name=None) if "name" in self.options else self

    def __repr__(self) -> str:
        shown = {key: HIDDEN if key in self.secrets else redacted(thawed(value)) for key, value in self.options.items()}
        use = "" if self.use is None else f", use={self.use!r}"
        return f"StrategySpec({self.kind!r}, {shown!r}{use})"

    def __hash__(self) -> int:
        return hash((self.kind, tuple(sorted(self.options)), self.use))


def build(spec: StrategySpec) -> Strategy:
    """Make the strategy that `spec` describes, a new one every time.

    Raises ValueError for a spec that only names a shared component: that has to be looked up. TypeError and ValueError
    are the constructor's; a spec that came out of `load` raises neither.
    """
    if spec.use is not None:
        raise ValueError(
            f"{spec.kind} uses the shared {spec.use!r}, which is looked up and not built: take the policy from a "
            f"registry, by registry.configure(config) and get_policy(name), or give resolve= to its build()"
        )
    strategy: Strategy = FACTORIES[spec.kind].make(spec.options)
    return strategy


@dataclass(frozen=True)
class PolicySpec:
    """A policy as data: strategies in order, outermost first, and what it is `told` of writes, None for nothing."""

    name: str
    strategies: tuple[StrategySpec, ...] = ()
    told: StrategySpec | None = None

    def build(self, resolve: Resolve | None = None) -> Policy:
        """Make the policy, with new strategies every time except for the shared ones.

        `resolve(kind, name)` gives the shared component for each `use`. Raises ValueError where there is a `use` and
        no `resolve`.
        """
        strategies = (
            build(spec) if spec.use is None or resolve is None else resolve(spec.kind, spec.use)
            for spec in self.strategies
        )
        return self.around(strategies, self.name)

    def around(self, strategies: Iterable[Strategy], name: str, code: Policy | None = None) -> Policy:
        """A policy of these strategies that is told the same; where this says nothing of writes, what `code` was told
        stays."""
        told: Any = code if self.told is None else build(self.told)
        if told is None:
            return Policy(*strategies, name=name)
        return Policy(*strategies, name=name, idempotent=told.idempotent, reconcile=told.reconcile)


@dataclass(frozen=True)
class ConfigWarning:
    """What is allowed and does not do what it seems to say, as numbers that do not go together, and why."""

    policy: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Config(_Frozen):
    """What `load` made of its source, for one profile.

    Attributes:
        policies: By name.
        circuit_breakers, bulkheads, rate_limits, gates: Shared components by name, for `use`.
        source: The file, "<string>" or "<dict>".
        profile: The profile that was applied, or None.
        warnings: See `ConfigWarning`.
        chaos: What disturbs policies on purpose, by the names of these.
    """

    policies: Mapping[str, PolicySpec] = field(default_factory=dict[str, PolicySpec])
    circuit_breakers: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    bulkheads: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    rate_limits: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    source: str = "<dict>"
    profile: str | None = None
    warnings: tuple[ConfigWarning, ...] = ()
    chaos: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    gates: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])

    def component(self, kind: str, name: str) -> StrategySpec:
        """The shared component that `StrategySpec(kind, use=name)` stands for. Raises KeyError if there is none."""
        shared: Mapping[str, StrategySpec] = getattr(self, f"{kind}s")
        return shared[name]
