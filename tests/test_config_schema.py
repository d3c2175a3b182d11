"""The JSON Schema of configuration files says what `load` says, as far as one value goes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from resilient_agents import cli
from resilient_agents.config import ConfigError, load, show
from resilient_agents.config.factory import KINDS, SECTIONS, SLOTS
from resilient_agents.config.schema import schema
from resilient_agents.presets import PRESETS
from tests.test_docs import PAGES, blocks

VALIDATOR: Any = jsonschema.Draft202012Validator(schema())
EXAMPLES = [block for page in ("configuration.md", "presets.md") for block in blocks(PAGES / page, "toml")]


def wrong(source: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(source)]


def test_it_is_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints it as JSON."""
    assert cli.main(["config", "schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed == schema()


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_files_of_the_documentation_are_valid(block: Any) -> None:
    """All that loads is allowed."""
    assert wrong(tomllib.loads(block.source)) == []


def test_presets_are_valid() -> None:
    """Each as the policy of a file."""
    plain = json.loads(json.dumps({"policies": {name: dict(table) for name, table in PRESETS.items()}}))
    assert wrong(plain) == []


def test_every_option_that_a_file_may_have_is_in_it() -> None:
    """With its default, where it has one."""
    defined = schema()["$defs"]
    for kind, factory in KINDS.items():
        assert list(defined[kind]["properties"]) == [*factory.readers, "kind"]
        given = [option for option, value in defined[kind]["properties"].items() if "default" in value]
        assert given == [option for option in factory.readers if option not in factory.required]
    assert set(SLOTS) < set(defined["policy"]["properties"])


def each_wrong() -> Iterator[dict[str, Any]]:
    yield {"policies": {"p": {"retry": {"attempts": 0}}}}
    yield {"policies": {"p": {"retry": {"atempts": 3}}}}
    yield {"policies": {"p": {"retry": {"wait": {"kind": "exponentially"}}}}}
    yield {"policies": {"p": {"retry": {"wait": {"kind": "linear", "base": "x"}}}}}
    yield {"policies": {"p": {"retry": {"budget": {"ratio": "much"}}}}}
    yield {"policies": {"p": {"timeout": 0}}}
    yield {"policies": {"p": {"timeout": "soon"}}}
    yield {"policies": {"p": {"circuit_breaker": {"failure_rate": 1.5}}}}
    yield {"policies": {"p": {"circuit_breaker": 5}}}
    yield {"policies": {"p": {"gate": -5}}}
    yield {"policies": {"p": {"gate": {"max_wait": "long"}}}}
    yield {"policies": {"p": {"bulkhead": {"limit": 3, "isolation": "process"}}}}
    yield {"policies": {"p": {"bulkhead": {"limit": 3, "shadow": "yes"}}}}
    yield {"policies": {"p": {"strategies": [{"attempts": 3}]}}}
    yield {"policies": {"p": {"strategies": [{"kind": "retries"}]}}}
    yield {"policies": {"p": {"on": 3}}}
    yield {"policies": {"p": {"idempotent": "no"}}}
    yield {"bulkheads": {"b": {"limit": True}}}
    yield {"profiles": {"x": {"retry": 3}}}
    yield {"policy": {}}


@pytest.mark.parametrize("source", list(each_wrong()), ids=str)
def test_what_load_refuses_is_refused(source: dict[str, Any]) -> None:
    """By name, by type and by range."""
    with pytest.raises(ConfigError):
        load(source, env={}, profile="x" if "profiles" in source else None)
    assert wrong(source)


@pytest.mark.parametrize(
    "policy",
    [
        {"retry": 3, "timeout": "1m 30s", "attempt_timeout": 2.5, "hedge": "200ms"},
        {"retry": {"on": ["timeout", "OSError"], "wait": "2s", "budget": True, "max_retry_after": "none"}},
        {"circuit_breaker": True, "rate_limit": "60/min", "bulkhead": False, "gate": "45s"},
        {"circuit_breaker": "${BREAKER}", "retry": {"attempts": "${ATTEMPTS:-3}"}},
        {"extends": "llm", "circuit_breaker": {"use": "shared"}, "bulkhead": "shared"},
        {"strategies": [{"kind": "retry", "attempts": 2}, {"kind": "timeout", "seconds": 3}]},
        {"strategies": [{"kind": kind, "use": "openai"} for kind in SECTIONS.values()]},
    ],
    ids=str,
)
def test_short_forms_and_references_are_valid(policy: dict[str, Any]) -> None:
    """As the page on configuration has them."""
    assert wrong({"policies": {"p": policy}}) == []


def test_what_show_prints_is_valid() -> None:
    """Also of a policy whose strategies are shared by name."""
    shared = {"circuit_breakers": True, "bulkheads": 3, "rate_limits": "60/min", "gates": True}
    policy = {"retry": 3, **{kind: {"use": "openai"} for kind in SECTIONS.values()}}
    components = {section: {"openai": value} for section, value in shared.items()}
    config = load({"policies": {"p": policy}, **components}, env={})
    assert wrong(tomllib.loads(show(config, "p"))) == []


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "retry", "use": "openai"},
        {"kind": "gate", "use": 3},
        {"kind": "gate", "use": "openai", "max_wait": 3},
        {"use": "openai"},
    ],
    ids=str,
)
def test_only_what_can_be_shared_is_shared_in_a_list(strategy: dict[str, Any]) -> None:
    """By its name, and without options of its own."""
    source = {"policies": {"p": {"strategies": [strategy]}}, "gates": {"openai": True}}
    with pytest.raises(ConfigError):
        load(source, env={})
    assert wrong(source)
