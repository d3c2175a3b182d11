"""What a configuration is: frozen plain data, and the error that lists everything that is wrong with a source of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from resilient_agents.config.redact import HIDDEN, redacted
from resilient_agents.core.call import Strategy
from resilient_agents.policy import Policy

__all__ = ["Config", "ConfigError", "ConfigWarning", "PolicySpec", "Problem", "StrategySpec"]

Resolve: TypeAlias = Callable[[str, str], Strategy]
"""(kind, name) -> the shared component of that name."""


@dataclass(frozen=True)
class StrategySpec:
    """One strategy as data: `build(spec)` makes it.

    Attributes:
        kind: "timeout", "retry", "hedge", "circuit_breaker", "rate_limit" or "bulkhead".
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _frozen(self.options))
        object.__setattr__(self, "places", _frozen(self.places))

    def but(self, **options: Any) -> StrategySpec:
        """The same with these options changed: a component under another name, or under none (`name=None`)."""
        return replace(self, options={**self.options, **options})

    def __repr__(self) -> str:
        shown = {key: HIDDEN if key in self.secrets else redacted(thawed(value)) for key, value in self.options.items()}
        use = "" if self.use is None else f", use={self.use!r}"
        return f"StrategySpec({self.kind!r}, {shown!r}{use})"

    def __hash__(self) -> int:
        return hash((self.kind, tuple(sorted(self.options)), self.use))

    def __reduce__(self) -> Any:
        return _spec, (self.kind, thawed(self.options), self.use, dict(self.places), self.secrets)


@dataclass(frozen=True)
class PolicySpec:
    """A policy as data: strategies in order, outermost first."""

    name: str
    strategies: tuple[StrategySpec, ...] = ()

    def build(self, resolve: Resolve | None = None) -> Policy:
        """Make the policy, with new strategies every time except for the shared ones.

        `resolve(kind, name)` gives the shared component for each `use`. Raises ValueError where there is a `use` and
        no `resolve`.
        """
        from resilient_agents.config.kinds import build  # which needs the specs

        return Policy(
            *(
                build(spec) if spec.use is None or resolve is None else resolve(spec.kind, spec.use)
                for spec in self.strategies
            ),
            name=self.name,
        )


@dataclass(frozen=True)
class ConfigWarning:
    """Numbers that are each allowed and together do not do what they seem to say, and why."""

    policy: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Config:
    """What `load` made of its source, for one profile.

    Attributes:
        policies: By name.
        circuit_breakers, bulkheads, rate_limits: Shared components by name, for `use`.
        source: The file, "<string>" or "<dict>".
        profile: The profile that was applied, or None.
        warnings: See `ConfigWarning`.
    """

    policies: Mapping[str, PolicySpec] = field(default_factory=dict[str, PolicySpec])
    circuit_breakers: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    bulkheads: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    rate_limits: Mapping[str, StrategySpec] = field(default_factory=dict[str, StrategySpec])
    source: str = "<dict>"
    profile: str | None = None
    warnings: tuple[ConfigWarning, ...] = ()

    def __post_init__(self) -> None:
        for section in ("policies", "circuit_breakers", "bulkheads", "rate_limits"):
            object.__setattr__(self, section, MappingProxyType(dict(getattr(self, section))))

    def component(self, kind: str, name: str) -> StrategySpec:
        """The shared component that `StrategySpec(kind, use=name)` stands for. Raises KeyError if there is none."""
        shared: Mapping[str, StrategySpec] = getattr(self, f"{kind}s")
        return shared[name]

    def __reduce__(self) -> Any:
        sections = (self.policies, self.circuit_breakers, self.bulkheads, self.rate_limits)
        return Config, (*map(dict, sections), self.source, self.profile, self.warnings)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: The file, "<string>", "<dict>", "preset 'http'" or "environment variable X".
        line: Its line in the file, or None where there are no lines.
        key: The dotted key, such as "policies.openai.retry.attempts"; "" for the source as a whole.
        value: What stands there, as text; None where the problem is not about one value. Secrets are hidden.
        allowed: What is wrong, and what is allowed instead.
    """

    source: str
    line: int | None
    key: str
    value: str | None
    allowed: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        what = self.key if self.value is None else f"{self.key} = {self.value}"
        return ": ".join(part for part in (place, what, self.allowed) if part)


class ConfigError(ValueError):
    """A configuration that cannot be used. `.problems` holds all that is wrong with it, in the order of the source."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        heading = f"the configuration has {'a problem' if count == 1 else f'{count} problems'}"
        return "\n  ".join([f"{heading}:", *map(str, self.problems)])


def thawed(value: Any) -> Any:
    """Frozen plain data as dicts and lists, which `json.dumps` takes."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _spec(kind: str, options: Any, use: str | None, places: Any, secrets: frozenset[str]) -> StrategySpec:
    return StrategySpec(kind, options, use, places, secrets)
