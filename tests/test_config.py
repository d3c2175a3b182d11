"""Configuration: what files, dicts and the environment mean, and what is said about those that are wrong."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, Timeout, cli, is_transient
from resilient_agents.base import instances
from resilient_agents.base.durations import parse_duration
from resilient_agents.config import (
    Config,
    ConfigError,
    StrategySpec,
    build,
    define,
    load,
    loads,
    show,
)
from resilient_agents.config import names as named_code
from resilient_agents.config.factory import KINDS
from tests.test_docs import PAGES, blocks

NO_ENV: dict[str, str] = {}


def read(text: str, **options: Any) -> Config:
    options.setdefault("env", NO_ENV)
    return loads(text, source="resilience.toml", **options)


def policy(text: str, name: str = "p", **options: Any) -> list[dict[str, Any]]:
    """A policy of a file, built, as it describes itself, live state aside."""
    config = read(text, **options)
    described = config.policies[name].build(lambda kind, use: build(config.component(kind, use))).describe()
    return [
        {key: value for key, value in strategy.items() if key not in ("metrics", "in_use", "queued", "available")}
        for strategy in described["strategies"]
    ]


def problems(text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **options)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(autouse=True)
def names_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_code, "_defined", dict(named_code._defined))


# ------------------------------------------------------------------------------------------------------ what files mean


def test_keys_stand_for_strategies_in_canonical_order() -> None:
    """Whatever order the keys are written in, the total is outermost and the attempt timeout innermost."""
    text = """
        [policies.p]
        attempt_timeout = "10s"
        bulkhead = 8
        rate_limit = "60/min"
        circuit_breaker = true
        hedge = "500ms"
        retry = 4
        timeout = "1m"
    """
    described = policy(text)
    kinds = ["timeout", "retry", "hedge", "circuit_breaker", "rate_limit", "bulkhead", "timeout"]
    assert [strategy["strategy"] for strategy in described] == kinds
    assert (described[0]["seconds"], described[1]["attempts"], described[5]["limit"]) == (60, 4, 8)
    assert (described[4]["rate"], described[4]["per"], described[6]["seconds"]) == (60, 60, 10)
    assert (described[2]["after"], described[2]["extra"]) == (0.5, 1)


def test_limits_of_streams_can_be_written() -> None:
    """All of their options, with what completes a stream by name; alone, how long it may stall."""
    (alone,) = policy("policies.p.stream_timeout = '20s'")
    assert (alone["idle"], alone["first_item"], alone["complete"]) == (20, None, "auto")
    (all_of_them,) = policy("""
        [policies.p.stream_timeout]
        first_item = "10s"
        idle = 5
        total = "5m"
        complete = "sse_done"
        preamble = "none"
        thread = true
    """)
    chosen = {"first_item": 10, "idle": 5, "total": 300, "complete": "sse_done", "preamble": None, "thread": True}
    assert all_of_them.items() >= chosen.items()
    define("is_last", complete=lambda item: item is None)
    (own,) = policy("policies.p.stream_timeout.complete = 'is_last'")
    assert own["complete"] == "<lambda>"


@pytest.mark.parametrize(
    "text", ["policies.p.resume = 'go_on'", "policies.p.strategies = [{ kind = 'resume' }]", "policies.p.fallback = 1"]
)
def test_what_is_made_of_a_function_stands_in_code(text: str) -> None:
    """A file cannot name the function, and the error says where it goes."""
    with pytest.raises(ConfigError, match=r"is a function of the program's, which a configuration cannot name: put"):
        read(text)


def test_a_list_of_strategies_keeps_its_own_order() -> None:
    """`strategies` is a list, outermost first, for any other order."""
    text = """
        [[policies.p.strategies]]
        kind = "bulkhead"
        limit = 2
        [[policies.p.strategies]]
        kind = "retry"
        [[policies.p.strategies]]
        kind = "bulkhead"
        limit = 1
    """
    assert [strategy["strategy"] for strategy in policy(text)] == ["bulkhead", "retry", "bulkhead"]


def test_a_policy_is_built_with_its_name_and_new_strategies() -> None:
    """Two policies of one spec share nothing."""
    spec = read("policies.p.bulkhead = 1").policies["p"]
    first, second = spec.build(), spec.build()
    assert first.name == "p"
    assert first.strategies[0] is not second.strategies[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("1.5s", 1.5),
        ("2m", 120),
        ("2 min", 120),
        ("1h", 3600),
        ("1d", 86400),
        ("1h 30m", 5400),
        ("1m30s", 90),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number and its unit, or several of them."""
    assert parse_duration(text) == seconds
    assert policy(f'policies.p.timeout = "{text}"')[0]["seconds"] == seconds


@pytest.mark.parametrize("text", ["", "s", "1", "1 day", "-1s", "1.s", ".5s", "1s2", "1e3s", "٣s", "PT1S"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused rather than guessed."""
    assert parse_duration(text) is None


def test_durations_of_a_dict_may_be_timedeltas() -> None:
    """A dict holds what Python code would pass."""
    spec = load({"policies": {"p": {"timeout": timedelta(minutes=1)}}}, env=NO_ENV).policies["p"].strategies[0]
    assert spec.options == {"seconds": 60.0}


@pytest.mark.parametrize(
    ("wait", "described"),
    [
        ('"fibonacci"', "fibonacci(base=0.5, max=30.0, jitter='full')"),
        (
            '{ kind = "linear", base = "1s", step = 2, jitter = "none" }',
            "linear(base=1.0, step=2.0, max=30.0, jitter=None)",
        ),
        ('{ max = "10s" }', "exponential(base=0.5, factor=2.0, max=10.0, jitter='full')"),
        ('"250ms"', "fixed(delay=0.25, jitter=None)"),
        ("2", "fixed(delay=2.0, jitter=None)"),
    ],
)
def test_waits(wait: str, described: str) -> None:
    """A wait is a kind, a table with its kind, or the duration of a fixed one."""
    spec = read(f"policies.p.retry.wait = {wait}").policies["p"].strategies[0]
    strategy: Any = build(spec)
    assert repr(strategy.wait) == described


def test_none_is_spelled() -> None:
    """TOML has no null: "none" stands where an option may be None."""
    spec = read('policies.p.circuit_breaker = { failures = "none", failure_rate = 0.5 }').policies["p"].strategies[0]
    assert spec.options["failures"] is None


def test_a_budget_is_a_table_or_true() -> None:
    """`budget = true` is a RetryBudget with its defaults, false is none."""
    assert policy("policies.p.retry.budget = true")[0]["budget"]["ratio"] == 0.2
    assert policy("policies.p.retry.budget = { ratio = 0.1 }")[0]["budget"]["ratio"] == 0.1
    assert policy("policies.p.retry.budget = false")[0]["budget"] is None
    assert policy("policies.p.hedge = { after = 1, budget = true }")[0]["budget"]["window"] == 10


def test_a_budget_counts_in_one_way() -> None:
    """A budget of what is in flight takes the place of one over a window that lies below it, and the other way round;
    what is shown of it can be read again."""
    flying, windowed = "retry.budget = { in_flight = 0.1 }", "retry.budget = { ratio = 0.1 }"
    for below, above, share in ((windowed, flying, {"in_flight": 0.1}), (flying, windowed, {"ratio": 0.1})):
        config = read(f"policies.base.{below}\npolicies.p.extends = 'base'\npolicies.p.{above}")
        for again in (config, read(show(config, "p"))):
            described = build(again.policies["p"].strategies[0]).describe()["budget"]
            assert share.items() <= described.items()
            assert ("window" in described) == ("ratio" in share)
    with pytest.raises(ConfigError, match="in_flight takes the place of ratio, per_second and window, got ratio=0.1"):
        read("policies.p.retry.budget = { ratio = 0.1, in_flight = 0.2 }")


def test_every_option_of_every_strategy_can_be_configured_or_is_code() -> None:
    """The constructors are the only list of options: what a strategy gains can be configured at once."""
    for factory in KINDS.values():
        parameters = set(inspect.signature(factory.makes).parameters)
        assert factory.readers.keys() | factory.code == parameters
    assert {name for factory in KINDS.values() for name in factory.code} == {
        "stop",
        "before",
        "after",
        "before_sleep",
        "when",
    }


# ---------------------------------------------------------------------------------------------------- extends, profiles


def test_a_policy_extends_a_preset() -> None:
    """What it says itself lies over the preset, option by option; false takes a strategy away, true keeps it."""
    text = """
        [policies.p]
        extends = "http"
        bulkhead = false
        circuit_breaker = true
        retry.attempts = 7
        retry.wait.max = "9s"
    """
    timeout, retry, breaker, attempt = policy(text)
    assert (timeout["seconds"], attempt["seconds"]) == (30, 10)
    assert (retry["attempts"], retry["max_retry_after"]) == (7, 10)
    assert retry["wait"] == "exponential(base=0.5, factor=2.0, max=9.0, jitter='full')"
    assert breaker["failure_rate"] == 0.5


def test_a_wait_of_another_kind_replaces_the_whole_wait() -> None:
    """A table with a kind of its own takes nothing from the wait below it."""
    text = 'policies.p = { extends = "http", retry = { wait = { kind = "fixed", delay = 1 } } }'
    assert policy(text)[1]["wait"] == "fixed(delay=1.0, jitter=None)"


def test_policies_extend_policies_of_the_same_file() -> None:
    """In any order, over several steps, and before a preset of the same name; its own name means the preset."""
    text = """
        [policies.p]
        extends = "http"
        timeout = 9
        [policies.http]
        extends = "http"
        bulkhead = 2
    """
    described = policy(text)
    assert (described[0]["seconds"], described[3]["limit"], described[1]["attempts"]) == (9, 2, 3)


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ('policies.a.extends = "a"', "a -> a"),
        ('policies.a.extends = "b"\npolicies.b.extends = "a"', "a -> b -> a"),
        ('policies.x.extends = "a"\npolicies.a.extends = "b"\npolicies.b.extends = "a"', "a -> b -> a"),
    ],
)
def test_circles_are_found(text: str, circle: str) -> None:
    """A policy that extends itself in the end is refused, with the way round."""
    assert any(f"goes round in a circle: {circle}" in problem for problem in problems(text))


def test_a_list_replaces_what_is_extended_and_cannot_be_changed_by_keys() -> None:
    """The strategies of a list have no keys: beside a list, or over one, keys are refused."""
    listed = '[[policies.base.strategies]]\nkind = "retry"\n'
    assert policy(listed + '[policies.p]\nextends = "base"')[0]["strategy"] == "retry"
    assert len(policy('[policies.p]\nextends = "http"\nstrategies = [{ kind = "retry" }]')) == 1
    (problem,) = problems(listed + '[policies.p]\nextends = "base"\ntimeout = 1')
    assert problem.startswith(
        "resilience.toml:5: policies.p.timeout: stands beside the list of strategies at resilience.toml:1"
    )


PROFILES = """
[policies.p]
timeout = 10
retry = 3
bulkhead.use = "pool"
[bulkheads]
pool = 4
[profiles.production.policies.p]
retry.attempts = 5
[profiles.production.bulkheads]
pool = 50
[profiles.development]
"""


def test_a_profile_lies_over_the_base() -> None:
    """Policies and shared components, option by option; what it does not name stays."""
    assert [s.get("attempts") or s.get("limit") for s in policy(PROFILES)][1:] == [3, 4]
    described = policy(PROFILES, profile="production")
    assert [s.get("attempts") or s.get("limit") for s in described][1:] == [5, 50]
    assert described[0]["seconds"] == 10


def test_the_environment_names_the_profile() -> None:
    """RESILIENT_AGENTS_PROFILE, unless the caller names one; empty means none."""
    env = {"RESILIENT_AGENTS_PROFILE": "production"}
    assert read(PROFILES, env=env).profile == "production"
    assert read(PROFILES, env=env, profile="development").profile == "development"
    assert read(PROFILES, env={"RESILIENT_AGENTS_PROFILE": ""}).profile is None


def test_an_unknown_profile_is_refused() -> None:
    """A misspelt profile must not run the base's numbers; a file without profiles has none to choose from."""
    (problem,) = problems(PROFILES, profile="prodution")
    assert "the profile 'prodution' is not here; did you mean 'production'?" in problem
    assert read("policies.p.retry = 2", profile="production").policies


# ---------------------------------------------------------------------------------------------------- shared components


def test_use_names_a_shared_component() -> None:
    """A name alone is short for it where it can mean nothing else; the component carries its name."""
    text = """
        [circuit_breakers.openai]
        failures = 2
        [rate_limits]
        openai = "60/min"
        [policies.p]
        circuit_breaker = "openai"
        rate_limit.use = "openai"
    """
    config = read(text)
    assert [(s.kind, s.use) for s in config.policies["p"].strategies] == [
        ("circuit_breaker", "openai"),
        ("rate_limit", "openai"),
    ]
    breaker: Any = build(config.circuit_breakers["openai"])
    assert (breaker.name, breaker.failures) == ("openai", 2)
    shared = {"circuit_breaker": breaker, "rate_limit": build(config.rate_limits["openai"])}
    assert config.policies["p"].build(lambda kind, _: shared[kind]).strategies == tuple(shared.values())


def test_a_use_must_be_resolved() -> None:
    """Building without the shared components is refused rather than giving each policy its own."""
    spec = read("bulkheads.b = 1\npolicies.p.bulkhead = 'b'").policies["p"]
    with pytest.raises(
        ValueError, match=r"uses the shared 'b', .*registry\.configure\(config\).*resolve= to its build"
    ):
        spec.build()


def test_a_name_of_what_there_is_none_of_says_so() -> None:
    """A text where a number is meant is taken for such a name."""
    (problem,) = problems("policies.p.bulkhead = 'three'")
    assert problem.endswith("is not in [bulkheads]; there is none in this configuration")


def test_what_a_profile_takes_away_cannot_be_used() -> None:
    """A policy that goes on using it would run with numbers that nobody wrote."""
    text = "bulkheads.b = 1\npolicies.p.bulkhead = 'b'\n[profiles.x.bulkheads]\nb = false"
    assert read(text).bulkheads.keys() == {"b"}
    (problem,) = problems(text, profile="x")
    assert problem == (
        "resilience.toml:2: policies.p.bulkhead = 'b': is not in [bulkheads]; there is none in this configuration"
    )
    assert not read(f"{text}\n[profiles.x.policies.p]\nbulkhead = false", profile="x").bulkheads


def test_use_and_options_exclude_each_other() -> None:
    """In one table that is a mistake; in a layer above one replaces the other."""
    (problem,) = problems("bulkheads.b = 1\npolicies.p.bulkhead = { use = 'b', limit = 3 }")
    assert problem == (
        "resilience.toml:2: policies.p.bulkhead.limit = 3: "
        "stands beside use; a shared component has its options in [bulkheads]"
    )
    base = "bulkheads.b = 1\npolicies.base.bulkhead = 'b'\npolicies.p = { extends = 'base', bulkhead = 3 }"
    assert policy(base)[0]["limit"] == 3


def test_loading_leaves_no_trace() -> None:
    """Trying numbers out makes no second breaker of a name that is in use, and none that anybody sees."""
    gc.collect()
    before = instances.each("circuit_breaker")
    mine = CircuitBreaker("openai")
    read(
        "circuit_breakers.openai.failures = 3\npolicies.p.circuit_breaker = 'openai'\n"
        "policies.q.circuit_breaker.name = 'openai'"
    )
    assert instances.each("circuit_breaker") == [*before, mine]


# ------------------------------------------------------------------------------------------------------ the environment


def test_variables_lie_over_file_and_profile() -> None:
    """RESILIENT_AGENTS__POLICIES__NAME__STRATEGY__OPTION, whatever the case and punctuation of the name in the file."""
    env = {
        "RESILIENT_AGENTS__POLICIES__OPEN_AI__RETRY__ATTEMPTS": "9",
        "RESILIENT_AGENTS__POLICIES__OPEN_AI__RETRY": "2",
        "RESILIENT_AGENTS__POLICIES__OPEN_AI__TIMEOUT": "1.5s",
        "RESILIENT_AGENTS__POLICIES__OPEN_AI__RETRY__WAIT": '{ kind = "fixed", delay = 1 }',
    }
    timeout, retry = policy('[policies."Open-AI"]\nretry = 4', "Open-AI", env=env)
    assert (timeout["seconds"], retry["attempts"], retry["wait"]) == (1.5, 9, "fixed(delay=1.0, jitter=None)")


def test_variables_alone_make_a_policy() -> None:
    """There need be no file."""
    env = {"RESILIENT_AGENTS__POLICIES__OPENAI__EXTENDS": "llm", "RESILIENT_AGENTS__BULKHEADS__POOL": "3"}
    config = load({}, env=env)
    assert len(config.policies["openai"].strategies) == 6
    assert config.bulkheads["pool"].options == {"limit": 3}


def test_variables_may_refer_to_others() -> None:
    """As any value may."""
    env = {
        "RESILIENT_AGENTS__POLICIES__P__RETRY": "${N}",
        "RESILIENT_AGENTS__POLICIES__P__TIMEOUT": "${S:-2}s",
        "N": "7",
    }
    timeout, retry = policy("policies.p.retry = 1", env=env)
    assert (timeout["seconds"], retry["attempts"]) == (2, 7)


def test_wrong_variables_are_named() -> None:
    """A variable that means nothing, or something wrong, or several things."""
    env = {
        "RESILIENT_AGENTS__LOG": "1",
        "RESILIENT_AGENTS__POLICIES__P__RETRY__ATTEMPTS": "many",
        "RESILIENT_AGENTS__POLICIES__A_B__RETRY": "1",
    }
    first, second, third = problems('policies.p.retry = 1\npolicies."a-b".retry = 1\npolicies."a.b".retry = 1', env=env)
    assert first.startswith("environment variable RESILIENT_AGENTS__LOG: is not known")
    assert "may mean any of 'a-b', 'a.b'" in second
    assert third == (
        "environment variable RESILIENT_AGENTS__POLICIES__P__RETRY__ATTEMPTS: "
        "policies.p.retry.attempts = 'many': must be a whole number or \"none\""
    )


@pytest.mark.parametrize(
    ("value", "env", "expected"),
    [
        ("${T}", {"T": "30"}, 30),
        ("${T}", {"T": "1.5s"}, 1.5),
        ("${T}s", {"T": "30"}, 30),
        ("${T:-20s}", {}, 20),
        ("${T:-20s}", {"T": ""}, 20),
        ("${M}m${S}s", {"M": "1", "S": "5"}, 65),
    ],
)
def test_references_to_the_environment(value: str, env: Mapping[str, str], expected: float) -> None:
    """`${NAME}` and `${NAME:-default}` anywhere in a value; one that stands alone may be a number."""
    assert policy(f'policies.p.timeout = "{value}"', env=env)[0]["seconds"] == expected


def test_a_whole_table_may_come_from_a_variable() -> None:
    """A reference stands for any value, whatever it holds; what is wrong in it has the line of the reference."""
    assert policy("policies = '${ALL}'", env={"ALL": "{ p = { retry = 7 } }"})[0]["attempts"] == 7
    assert problems("\npolicies = '${ALL}'", env={"ALL": "{ p = { retry = 0 } }"}) == [
        "resilience.toml:2: policies.p.retry = 0: attempts must be at least 1, got 0"
    ]


def test_a_reference_is_a_value_and_nothing_more() -> None:
    """What a variable holds adds no keys and is not expanded again, and $${ is ${ itself."""
    env = {"NAME": "${OTHER}", "EVIL": '"x"\nshadow = true'}
    names = [
        read(f'policies.p.circuit_breaker.name = "{text}"', env=env).policies["p"].strategies[0].options["name"]
        for text in ("${NAME}", "$${NAME}", "${EVIL}", "$5")
    ]
    assert names == ["${OTHER}", "${NAME}", '"x"\nshadow = true', "$5"]


def test_an_unset_variable_is_a_problem_only_where_it_is_needed() -> None:
    """What a profile overrides, and what another profile wants, need not be set."""
    text = """
        [policies.p]
        timeout = "${BASE}"
        [profiles.a.policies.p]
        timeout = 1
        [profiles.b.policies.p]
        retry = "${B}"
    """
    assert policy(text, profile="a")[0]["seconds"] == 1
    first, second = problems(text, profile="b")
    assert first.startswith(
        "resilience.toml:3: policies.p.timeout = '${BASE}': the environment variable BASE is not set"
    )
    assert second.startswith(
        "resilience.toml:7: profiles.b.policies.p.retry = '${B}': the environment variable B is not set"
    )


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "[1"])
def test_a_variable_may_hold_anything(text: str) -> None:
    """What reads as no TOML value is text, however long or deep."""
    (problem,) = problems('policies.p.timeout = "${T}"', env={"T": text})
    assert "must be seconds as a number" in problem


def test_a_half_reference_is_refused() -> None:
    """`${` that begins no reference is a slip."""
    (problem,) = problems('policies.p.timeout = "${TIME"')
    assert "write ${NAME} or ${NAME:-default}" in problem


# --------------------------------------------------------------------------------------------------------- code by name


class Stale(Exception):
    pass


def test_on_chooses_by_name() -> None:
    """A failure kind, what is built in, and a built-in exception of Python's."""
    spec = read('policies.p.retry.on = ["overload", "transient", "FileNotFoundError"]').policies["p"].strategies[0]
    retry: Any = build(spec)
    overload, transient, missing = retry.on
    assert (transient, missing) == (is_transient, FileNotFoundError)
    assert overload(TimeoutError()) is False
    alone: Any = build(read('policies.p.retry.on = "transient"').policies["p"].strategies[0])
    assert alone.on is is_transient


def test_the_program_gives_names_to_its_code() -> None:
    """`define` before `load`; the last definition of a name counts."""
    define("stale", on=ValueError)
    define("stale", on=Stale)
    define("empty", when=lambda result: not result)
    define("tokens", cost=len, settle=abs)
    text = 'policies.p.retry = { on = "stale", when = "empty" }\n'
    text += 'policies.p.rate_limit = { rate = 10, cost = "tokens", settle = "tokens" }'
    retry, limit = [build(spec) for spec in read(text).policies["p"].strategies]
    assert isinstance(retry, Retry)
    assert isinstance(limit, RateLimit)
    assert (retry.on, limit.cost, limit.settle) == (Stale, len, abs)


def test_nothing_is_imported() -> None:
    """A path to code is refused, with what to do instead."""
    sys.modules.pop("antigravity", None)
    (problem,) = problems('policies.p.retry.on = ["antigravity:Error"]')
    assert "a configuration imports no code: call define('Error', on=Error) in the program" in problem
    assert "antigravity" not in sys.modules


def test_a_name_where_nothing_has_one_says_how_to_give_one() -> None:
    """There is nothing to choose from, which would be all that a list of names could say."""
    with pytest.raises(ConfigError) as caught:
        load({"policies": {"p": {"rate_limit": {"rate": 1, "settle": "look_up"}}}}, env=NO_ENV)
    [problem] = caught.value.problems
    assert problem.allowed == ("is not known; the program must call define('look_up', settle=...) before it reads this")


def test_define_refuses_what_cannot_be_named() -> None:
    """Wrong definitions fail where they are made."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("", {"on": Stale}),
        ("x", {}),
        ("x", {"on": KeyboardInterrupt}),
        ("x", {"when": 3}),
        ("x", {"settle": 3}),
        ("timeout", {"on": Stale}),
    ]
    for name, code in wrong:
        with pytest.raises((TypeError, ValueError)):
            define(name, **code)


# ------------------------------------------------------------------------------------------------------------- problems


WRONG = '''\
# a comment
[policies.openai]
extends = "llmm"
retry = { attempts = 0, before = "log", budgett = 3 }
bulkhead = { limit = 0, queue = -1, isolation = "threads" }
circuit_braker = 3

[policies.search.retry]
attempts = 2.5
max_retry_after = """
soon"""
on = [
    "transient",
    "nope",   # the third line
]
wait = { kind = "expo" }

[[policies.list.strategies]]
kind = "retrry"
[[policies.list.strategies]]
limit = 3

[circuit_breakers]
a = { reset_timeout = 40, max_reset_timeout = 3, shadow = "no" }
b = { failures = "none" }
[rate_limits.r]
rate = "60/fortnight"
[bulkhead.x]
'''


def test_all_problems_at_once_with_their_places() -> None:
    """File, line, key, value and what is allowed, for each thing that is wrong; unknown words get the nearest."""
    found = problems(WRONG)
    expected = [
        "resilience.toml:3: policies.openai.extends = 'llmm': is not known; did you mean 'llm'?",
        "resilience.toml:4: policies.openai.retry.before: is code and can be given in Python only",
        "resilience.toml:4: policies.openai.retry.budgett = 3: is not an option here; did you mean 'budget'?",
        "resilience.toml:4: policies.openai.retry.attempts = 0: attempts must be at least 1, got 0",
        "resilience.toml:5: policies.openai.bulkhead.isolation = 'threads': must be one of: caller, thread",
        "resilience.toml:5: policies.openai.bulkhead.limit = 0: limit must be at least 1, got 0",
        "resilience.toml:5: policies.openai.bulkhead.queue = -1: queue must be at least 0, got -1",
        "resilience.toml:6: policies.openai.circuit_braker: is not known in a policy; did you mean 'circuit_breaker'?",
        'resilience.toml:9: policies.search.retry.attempts = 2.5: must be a whole number or "none"',
        "resilience.toml:10: policies.search.retry.max_retry_after = 'soon': must be seconds as a number, or text",
        "resilience.toml:14: policies.search.retry.on[1] = 'nope': is not known; Allowed: transient,",
        "resilience.toml:16: policies.search.retry.wait.kind = 'expo': is no kind of wait; did you mean 'exponential'?",
        "resilience.toml:19: policies.list.strategies[0].kind = 'retrry': is no kind of strategy; did you mean 'retry'",
        "resilience.toml:20: policies.list.strategies[1] = {'limit': 3}: must be a table with a kind",
        "resilience.toml:24: circuit_breakers.a.shadow = 'no': must be true or false",
        "resilience.toml:24: circuit_breakers.a.max_reset_timeout = 3: max_reset_timeout must be at least",
        "resilience.toml:25: circuit_breakers.b: one of failures, failure_rate and slow_call must be given",
        "resilience.toml:27: rate_limits.r.rate = '60/fortnight': rate must be a number or like",
        "resilience.toml:28: bulkhead: is not known; did you mean 'bulkheads'?",
    ]
    assert len(found) == len(expected)
    for problem, beginning in zip(sorted(found), sorted(expected), strict=True):
        assert problem.startswith(beginning)


def test_what_follows_from_another_mistake_is_not_reported() -> None:
    """Without its parent a policy lacks much; a maximum below a base that is itself wrong says nothing."""
    assert len(problems("[policies.p]\nextends = 'htp'\nrate_limit.burst = 3")) == 1
    (problem,) = problems('policies.p.retry.wait = { base = -1, max = "100ms" }')
    assert problem.startswith("resilience.toml:1: policies.p.retry.wait.base = -1: base must be at least 0")


def test_what_is_missing_is_said() -> None:
    """An option that the strategy cannot do without."""
    assert problems("policies.p.rate_limit.burst = 3") == [
        "resilience.toml:1: policies.p.rate_limit = {'burst': 3}: rate must be given"
    ]
    assert problems("policies.p.timeout = true") == ["resilience.toml:1: policies.p.timeout: seconds must be given"]


def test_broken_toml_has_a_line() -> None:
    """A file that is no TOML is a configuration error like the others."""
    assert problems("[policies.p]\nretry = ") == ["resilience.toml:2: is not TOML: Invalid value"]
    assert problems("a = " + "[" * 10_000)[0].startswith("resilience.toml")


def test_files(tmp_path: Path) -> None:
    """A path is read as UTF-8; one that cannot be read is a configuration error, too."""
    file = tmp_path / "r.toml"
    file.write_text('policies."ü".retry = 2', encoding="utf-8")
    assert list(load(file, env=NO_ENV).policies) == ["ü"]
    assert load(str(file), env=NO_ENV).source == str(file)
    file.write_bytes(b"\xff\xfe")
    for path, why in (
        (file, "is not text in UTF-8"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=why):
            load(path, env=NO_ENV)


def test_numbers_are_of_moderate_size() -> None:
    """An int of a thousand digits comes from a dict only, and no message could quote it."""
    for options in ({"attempts": 10**5000}, {"max_retry_after": 10**5000}):
        with pytest.raises(ConfigError, match="is too large: a number has at most 64 bits"):
            load({"policies": {"p": {"retry": options}}}, env=NO_ENV)


def test_a_dict_that_contains_itself_is_refused() -> None:
    """Plain dicts may hold anything."""
    data: dict[str, Any] = {"policies": {"p": {"retry": {}}}}
    data["policies"]["p"]["retry"]["wait"] = data
    with pytest.raises(ConfigError, match="levels deep"):
        load(data, env=NO_ENV)


class Incomparable:
    """As an array of numpy's says when it is asked whether it equals something."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = object.__hash__


def test_a_value_that_refuses_to_be_compared_is_refused_by_its_place() -> None:
    """Plain dicts may hold anything, also where "none" is allowed."""
    with pytest.raises(ConfigError, match=r"policies\.p\.retry\.attempts = .*: must be a whole number"):
        load({"policies": {"p": {"retry": {"attempts": Incomparable()}}}}, env=NO_ENV)


# ------------------------------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("timeout = 5\nattempt_timeout = 8", 3, "the timeout of 8 s stands inside one of 5 s, which is over first"),
        (
            "timeout = 5\nretry = 8",
            3,
            "the waits between 8 attempts take 30.8 s on average, the timeout around them is 5 s",
        ),
        (
            "attempt_timeout = 20\ncircuit_breaker = { failure_rate = 0.5, window = 30 }",
            3,
            "the window of 30 s is shorter than twice the attempt timeout of 20 s",
        ),
        ("attempt_timeout = 2\ncircuit_breaker.slow_call = 2", 3, "a call counts as slow from 2 s on"),
        (
            "strategies = [\n{ kind = 'retry', attempts = 2 },\n{ kind = 'retry', attempts = 4 }]",
            4,
            "a retry of 4 attempts",
        ),
        ("retry.on = ['overload', 'rate_limit']\nhedge = 1", 3, "the retry repeats only what was refused (overload, "),
        ("extends = 'tool'\nhedge = 1", 3, "the retry repeats only what was refused (rate_limit, overload)"),
        (
            "strategies = [\n{ kind = 'hedge', after = 1 },\n{ kind = 'retry', on = 'overload' }]",
            3,
            "the retry repeats only what was refused (overload)",
        ),
        ("timeout = 5\nhedge = 5", 3, "the hedge waits 5 s for an answer, the timeout around it is over after 5 s"),
        ("hedge = 5\nattempt_timeout = 4", 2, "the hedge waits 5 s for an answer, but the timeout inside ends each"),
    ],
)
def test_numbers_that_do_not_fit_together(text: str, line: int, why: str) -> None:
    """They are allowed, and the configuration says what will happen and where it is written."""
    (warning,) = read(f"[policies.p]\n{text}").warnings
    assert str(warning).startswith(f"resilience.toml:{line}: policies.p: {why}")


@pytest.mark.parametrize(
    "text",
    [
        "timeout = 30\nattempt_timeout = 10\nretry = 3",
        "attempt_timeout = 20\ncircuit_breaker = { failures = 5, window = 30 }",
        "attempt_timeout = 20\ncircuit_breaker = { failure_rate = 0.5, window_calls = 30 }",
        "strategies = [{ kind = 'retry', attempts = 1 }, { kind = 'retry' }]",
        "timeout = 5\nretry = { attempts = 100, wait = 0 }",
        "extends = 'http'\nhedge = 1",
        "extends = 'database'\nhedge = 1",
    ],
)
def test_numbers_that_fit(text: str) -> None:
    """No warning where nothing is wrong: consecutive failures need no window, one attempt is no retry."""
    assert read(f"[policies.p]\n{text}").warnings == ()


def test_warnings_see_shared_components() -> None:
    """A shared breaker is looked at in each policy that uses it, and the place is the breaker's."""
    text = "circuit_breakers.b = { failure_rate = 0.5, window = 3 }\n"
    text += "policies.p = { circuit_breaker = 'b', attempt_timeout = 9 }"
    (warning,) = read(text).warnings
    assert (warning.policy, warning.place) == ("p", "resilience.toml:1")


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated", "none"])
def test_average_waits_are_those_of_the_waits(jitter: str) -> None:
    """The average that a warning quotes is what many calls wait."""
    text = f"policies.p.retry = {{ attempts = 5, wait = {{ base = 1, max = 4, jitter = '{jitter}' }} }}"
    retry: Any = build(read(text).policies["p"].strategies[0])
    total = 0.0
    for _ in range(2000):
        state: Any = type("State", (), {"attempt_number": 0, "upcoming_sleep": 0.0})()
        for attempt in range(1, 5):
            state.attempt_number = attempt
            state.upcoming_sleep = retry.wait(state)
            total += state.upcoming_sleep
    assert retry.wait.average(4) == pytest.approx(total / 2000, rel=0.1)


# ----------------------------------------------------------------------------------------------------------------- show


def test_show_prints_what_load_reads_again() -> None:
    """The effective policy as TOML: loaded again it is the same policy, defaults included."""
    text = """
        [policies.p]
        extends = "llm"
        rate_limit = "60/min"
        retry.on = ["transient", "OSError"]
        circuit_breaker = "b c"
        [circuit_breakers."b c"]
        failures = "none"
        slow_call = 3
    """
    shown = show(read(text), "p")
    assert policy(shown) == policy(text)


def test_shown_text_is_not_a_reference() -> None:
    """A name that holds `${` is printed so that loading it again looks nothing up."""
    text = 'policies.p.circuit_breaker.name = "$${HOME}"'
    assert policy(show(read(text), "p"), env={"HOME": "x"}) == policy(text)


def test_show_says_where_values_come_from() -> None:
    """File and line, preset, variable or default."""
    env = {"RESILIENT_AGENTS__POLICIES__P__TIMEOUT": "1m"}
    shown = show(read('[policies.p]\nextends = "http"\nretry.attempts = 4', env=env), "p")
    places = {match[1]: match[2] for match in re.finditer(r"^(\w+) = .*?  # (.*)$", shown, re.MULTILINE)}
    assert places["attempts"] == "resilience.toml:3"
    assert places["max_retry_after"] == "preset 'http'"
    assert places["thread"] == "default"
    far = {line.split(" = ")[0] for line in shown.splitlines() if line.find("  # ") > 48}
    assert far == {"wait", "budget"}  # tables, which move no other comment
    assert "seconds = 60.0    # environment variable RESILIENT_AGENTS__POLICIES__P__TIMEOUT" in shown


def test_secrets_are_hidden_everywhere() -> None:
    """Values of variables with secret-looking names, and users and passwords of URLs: in show, repr and errors."""
    env = {"OPENAI_API_KEY": "sk-1234", "DATABASE": "postgres://user:p@ss/w@db/x"}
    text = 'policies.p.circuit_breaker.name = "{}"\npolicies.q.circuit_breaker.name = "${{DATABASE}}"'
    config = read(text.format("at ${OPENAI_API_KEY}"), env=env)
    shown = show(config, "p") + show(config, "q") + repr(config)
    wrong = text.format("x") + '\npolicies.r.timeout = "${OPENAI_API_KEY}"\npolicies.s.timeout = "${DATABASE}"'
    wrong += '\npolicies.t.retry.wait = { kind = "${OPENAI_API_KEY}" }\npolicies.u.extends = "${OPENAI_API_KEY}"'
    wrong += '\n[policies.v]\nretry = "${OPENAI_API_KEY}"\nbulkhead = "${OPENAI_API_KEY}"'
    found = "\n".join(problems(wrong, env=env))
    for secret in ("sk-1234", "1234", "user", "p@ss", "ss/w"):
        assert secret not in shown
        assert secret not in found
    assert "postgres://***@db/x" in shown
    assert "postgres://***@db/x" in found


def test_secrets_are_hidden_in_every_spelling() -> None:
    """Also as the number that a text stands for, beside another option, and in a warning."""
    env = {"A_TOKEN": "1h 31m", "B_TOKEN": "7s", "C_KEY": "-987654321.5"}
    text = """
        [policies.p]
        timeout = "${C_KEY}"
        circuit_breaker = { reset_timeout = "${A_TOKEN}", max_reset_timeout = "${B_TOKEN}" }
        rate_limit = { rate = 5, burst = "${C_KEY}" }
    """
    found = problems(text, env=env)
    assert found == [
        "resilience.toml:3: policies.p.timeout = '***': seconds must be more than 0 seconds, got ***",
        (
            "resilience.toml:4: policies.p.circuit_breaker.max_reset_timeout = '***': "
            "max_reset_timeout must be at least reset_timeout (***), got ***"
        ),
        "resilience.toml:5: policies.p.rate_limit.burst = '***': burst must be at least 0, got ***",
    ]
    config = read("[policies.p]\ntimeout = '${B_TOKEN}'\nattempt_timeout = '${A_TOKEN}'", env=env)
    assert "of *** s stands inside one of *** s" in str(*config.warnings)
    assert "5460" not in repr(config)


BASE = "policies.openai.retry = 3\nbulkheads.gpu-1 = 4\nchaos = {}\n"


@pytest.mark.parametrize(
    ("over", "env", "said"),
    [
        (
            "policies.opnai.retry = 5",
            {},
            "policies.opnai: is new here and changes none that there is; did you mean 'op",
        ),
        (
            "bulkheads.gpu_1 = 8",
            {},
            "bulkheads.gpu_1: is new here and changes none that there is; did you mean 'gpu-1'",
        ),
        (
            "",
            {"RESILIENT_AGENTS__POLICIES__OPENI__RETRY": "5"},
            "environment variable RESILIENT_AGENTS__POLICIES__OPENI",
        ),
        ("policies.openai.retry = 5", {}, ""),
        ("policies.opnai = { extends = 'openai', retry = 5 }", {}, ""),
        ("bulkheads.gpu-2 = 8", {}, ""),
        ("policies.open_ai.retry = 5", {}, "policies.open_ai: is new here and changes none that there is"),
        ("policies.openai-eu.retry = 5", {}, ""),
        ("policies.search.retry = 5", {}, ""),
    ],
)
def test_what_a_layer_seems_to_misspell_is_a_warning(over: str, env: dict[str, str], said: str) -> None:
    """A profile or a variable may make something new; what it names nearly as what is there is told."""
    profile = "\n".join(f"profiles.x.{line}" for line in over.splitlines())
    warnings = list(map(str, read(BASE + profile, profile="x", env=env).warnings))
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


# ----------------------------------------------------------------------------------------------------------------- data


def test_specs_are_frozen_plain_data() -> None:
    """They compare by value, hash, pickle, copy, and cannot be changed."""
    text = 'policies.p = { extends = "llm" }\nbulkheads.b = 3'
    config = read(text)
    spec = config.policies["p"].strategies[1]
    assert config == read(text)
    assert config != read(text.replace("3", "4"))
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert len({spec, pickle.loads(pickle.dumps(spec))}) == 1
    assert spec.but(attempts=9).options["attempts"] == 9
    for mapping in (config.policies, spec.options, spec.options["wait"]):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]


def test_errors_are_data_too() -> None:
    """A ConfigError pickles, is a ValueError and says how many problems there are."""
    with pytest.raises(ValueError, match="the configuration has 2 problems:\n  resilience.toml:1") as caught:
        read("x = 1\ny = 2")
    error: Any = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert json.dumps([problem.key for problem in again.problems]) == '["x", "y"]'


def test_every_kind_builds() -> None:
    """A spec needs no file: it is data that code may write, too."""
    specs = [StrategySpec("timeout", {"seconds": 1}), StrategySpec("retry"), StrategySpec("circuit_breaker"),
             StrategySpec("rate_limit", {"rate": 3}), StrategySpec("bulkhead", {"limit": 2})]  # fmt: skip
    built = [type(strategy) for strategy in Policy(*map(build, specs)).strategies]
    assert built == [Timeout, Retry, CircuitBreaker, RateLimit, Bulkhead]


# --------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("RESILIENT_AGENTS_PROFILE", "RESILIENT_AGENTS__POLICIES__P__RETRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_check_looks_at_every_profile(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good file ends with 0; a mistake in any profile is found, and ends with 1."""
    (directory / "r.toml").write_text(PROFILES)
    assert cli.main(["config", "check", "r.toml"]) == 0
    assert capsys.readouterr().out == "r.toml: good, 1 policy (2 profiles: production, development)\n"
    (directory / "r.toml").write_text(PROFILES.replace("attempts = 5", "attempts = 0"))
    assert cli.main(["config", "check", "r.toml"]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("r.toml:9: profiles.production.policies.p.retry.attempts = 0: ")
    assert output.out == "r.toml: 1 problem (2 profiles: production, development)\n"
    assert cli.main(["config", "check", "r.toml", "--profile", "development"]) == 0


def test_check_looks_at_the_profile_that_the_environment_names(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program would be refused it, and a profile that is not there is not counted."""
    (directory / "r.toml").write_text(PROFILES)
    monkeypatch.setenv("RESILIENT_AGENTS_PROFILE", "nope")
    assert cli.main(["config", "check", "r.toml"]) == 1
    output = capsys.readouterr()
    assert "the profile 'nope' is not here" in output.err
    assert output.out == "r.toml: 1 problem (2 profiles: production, development)\n"
    assert cli.main(["config", "check", "r.toml", "--profile", "production"]) == 0
    capsys.readouterr()
    assert cli.main(["config", "check", "r.toml", "--profile", "nope"]) == 1
    assert capsys.readouterr().out == "r.toml: 1 problem\n"


def test_check_says_a_mistake_of_the_base_once(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile with more policies allows more names, which makes no second problem of it."""
    text = "policies.base.retry = 2\npolicies.p.extends = 'bse'\n[profiles.x.policies.more]\nretry = 1"
    (directory / "r.toml").write_text(text)
    assert cli.main(["config", "check", "r.toml"]) == 1
    output = capsys.readouterr()
    assert output.out == "r.toml: 1 problem (1 profile: x)\n"
    (line,) = output.err.splitlines()
    assert line.startswith("r.toml:2: policies.p.extends = 'bse': is not known; did you mean 'base'?")


def test_check_is_strict_on_request(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are printed, and are failures with --strict only."""
    (directory / "r.toml").write_text("policies.p = { timeout = 5, attempt_timeout = 8 }")
    assert cli.main(["config", "check", "r.toml"]) == 0
    assert capsys.readouterr().err.startswith("warning: r.toml:1: policies.p: the timeout of 8 s")
    assert cli.main(["config", "check", "--strict", "r.toml"]) == 1
    assert cli.main(["config", "check", "missing.toml"]) == 1


def test_check_knows_the_names_of_a_module_that_it_is_told_to_import(directory: Path) -> None:
    """The command line may import code, a file may not."""
    (directory / "r.toml").write_text('policies.p.retry.on = "stale"')
    (directory / "mine_for_check.py").write_text(
        "from resilient_agents.config import define\ndefine('stale', on=KeyError)"
    )
    command = [sys.executable, "-m", "resilient_agents", "config", "check", "r.toml"]
    root = {"PYTHONPATH": str(Path(cli.__file__).parents[1]), "PATH": ""}
    assert subprocess.run(command, env=root, check=False, capture_output=True).returncode == 1
    for module, status in (("mine_for_check", 0), ("no_such_module", 2)):
        done = subprocess.run([*command, "--import", module], env=root, check=False, capture_output=True)
        assert done.returncode == status


def test_show_takes_policies_and_presets(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default of resilience.toml in the present directory."""
    (directory / "resilience.toml").write_text(PROFILES)
    assert cli.main(["config", "show", "p", "--profile", "production"]) == 0
    assert "attempts = 5 " in capsys.readouterr().out
    assert cli.main(["config", "show", "llm"]) == 0
    assert capsys.readouterr().out.startswith("# preset 'llm'; outermost first\n")
    assert cli.main(["config", "show", "q", "--file", "resilience.toml"]) == 1
    assert "there is no policy 'q'; there are: p, llm, http" in capsys.readouterr().err
    assert cli.main(["config", "show", "p", "--profile", "x"]) == 1
    assert cli.main(["config"]) == 2


# ----------------------------------------------------------------------------------------------------------------- docs


@pytest.mark.parametrize(
    "block", [b for page in ("configuration.md", "presets.md") for b in blocks(PAGES / page, "toml")], ids=str
)
def test_toml_of_the_docs(block: Any) -> None:
    """Every TOML example is a file that loads without problems or warnings, in every profile."""
    env = {"WORKERS": "4"}
    for profile in (None, *re.findall(r"^\[profiles\.(\w+)", block.source, re.MULTILINE)):
        assert loads(block.source, profile=profile, env=env).warnings == ()


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        ("circuit_breaker", "failure_threshold", "failures"),
        ("circuit_breaker", "timeout_duration", "reset_timeout"),
        ("circuit_breaker", "half_open_max_calls", "half_open_calls"),
        ("retry", "max_attempts", "attempts"),
        ("retry", "base_delay", "wait"),
        ("bulkhead", "max_concurrent", "limit"),
        ("bulkhead", "max_queue_size", "queue"),
    ],
)
def test_the_names_of_others_lead_to_ours(kind: str, theirs: str, ours: str) -> None:
    """Who comes from another library, or a pattern written by hand, is told what the option is called here."""
    with pytest.raises(ConfigError, match=f"{theirs} .*did you mean '{ours}'"):
        load({"policies": {"p": {kind: {theirs: 1}}}})
