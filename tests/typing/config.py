"""Configurations, presets, and what web frameworks mount."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, assert_type

from resilient_agents import CircuitBreaker, Policy, Registry, is_transient
from resilient_agents.config import (
    Config,
    ConfigError,
    ConfigWarning,
    PolicySpec,
    Problem,
    StrategySpec,
    build,
    define,
    load,
    loads,
    show,
)
from resilient_agents.integrations import wsgi
from resilient_agents.presets import PRESETS, preset

# ----------------------------------------------------------------------------------------------------------------- load

config = load("resilience.toml")
assert_type(config, Config)
load(Path("resilience.toml"), profile="production")
load({"policies": {"openai": {"extends": "llm"}}}, env=os.environ)
assert_type(loads("", source="resilience.toml", profile=None, env={}), Config)
load(3)  # type: ignore[arg-type]
load("resilience.toml", "production")  # type: ignore[call-arg]
load({}, env={"NUMBER": 3})  # type: ignore[dict-item]
loads(b"")  # type: ignore[arg-type]
Registry(config)
Registry("resilience.toml", profile="production").configure(config)
Registry(3)  # type: ignore[arg-type]

# ----------------------------------------------------------------------------------------------------------- plain data

assert_type(config.policies, Mapping[str, PolicySpec])
assert_type(config.bulkheads["gpu"], StrategySpec)
assert_type(config.component("circuit_breaker", "openai"), StrategySpec)
assert_type(config.profile, str | None)
assert_type(config.warnings, tuple[ConfigWarning, ...])
assert_type(show(config, "openai"), str)
config.source = "other"  # type: ignore[misc]
config.policies["openai"] = PolicySpec("openai")  # type: ignore[index]

spec = config.policies["openai"]
assert_type(spec.strategies, tuple[StrategySpec, ...])
assert_type(spec.build(), Policy)


def shared(kind: str, name: str) -> CircuitBreaker:
    return CircuitBreaker(name)


spec.build(shared)
spec.build(lambda kind: CircuitBreaker(kind))  # type: ignore[misc, arg-type]

retry = StrategySpec("retry", {"attempts": 4})
assert_type(retry.options, Mapping[str, Any])
assert_type(retry.use, str | None)
assert_type(retry.but(attempts=5), StrategySpec)
Policy(build(retry))
build("retry")  # type: ignore[arg-type]

# --------------------------------------------------------------------------------------------------------------- errors

try:
    load("resilience.toml")
except ConfigError as error:
    value_error: ValueError = error
    assert_type(error.problems, tuple[Problem, ...])
    assert_type(error.problems[0].line, int | None)
    assert_type(error.problems[0].allowed, str)

# --------------------------------------------------------------------------------------------------------------- define


class Stale(Exception):
    pass


define("stale", on=Stale)
define("either", on=(Stale, is_transient))
define("empty", when=lambda result: not result)
define("tokens", cost=lambda prompt: len(prompt) / 4)
define("stale", Stale)  # type: ignore[call-arg]
define("stale", on="Stale")  # type: ignore[arg-type]

# -------------------------------------------------------------------------------------------------------------- presets

assert_type(preset("llm"), Policy)
assert_type(PRESETS["llm"], Mapping[str, Any])
preset(3)  # type: ignore[arg-type]
PRESETS["mine"] = {}  # type: ignore[index]

# ----------------------------------------------------------------------------------------------------------------- WSGI


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    return []


assert_type(wsgi.health_app(application, details=False), wsgi.WSGIApp)
wsgi.health_app(3)  # type: ignore[arg-type]
answer = wsgi.problem(ValueError())
if answer is not None:
    assert_type(answer.status, int)
    assert_type(answer.body, bytes)
