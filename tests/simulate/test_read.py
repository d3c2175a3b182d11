"""Scenario files: what they may say, and what comes out of one that says something else."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient_agents.config import ConfigError
from resilient_agents.simulate import Dependency, Error, Load, Quota, Scenario, Times
from resilient_agents.simulate.read import read
from resilient_agents.simulate.scenarios import find, names

FULL = """
seed = "outage"
duration = "10min"
[load]
arrivals = "poisson"
rate = 200.0
processes = 20
[[load.phase]]
from = "5min"
until = "6min"
rate = 800
[dependency]
servers = 8
queue = "none"
service = { kind = "lognormal", mean = "50ms", sigma = 0.5 }
notices_leavers = true
quota = { rate = "600/min", retry_after = false }
cost = 0.01
[[dependency.phase]]
from = "60s"
until = "90s"
servers = 1
quota = "none"
error = { kind = "overload", status = 503, rate = 0.5, retry_after = "2s" }
"""


def test_everything_that_a_scenario_can_say(tmp_path: Path) -> None:
    """Phases are what the table above them says, but for what they say themselves."""
    file = tmp_path / "full.toml"
    file.write_text(FULL)
    scenario = read(file)
    base = Dependency(8, 0, Times("lognormal", 0.05, 0.5), None, True, Quota(600, 60, False), 0.01)
    assert (scenario.seed, scenario.duration, scenario.dependency) == ("outage", 600, base)
    assert scenario.load == Load("poisson", 200.0, processes=20)
    [phase] = scenario.dependency_phases
    assert (phase.start, phase.end, phase.settings.servers, phase.settings.queue) == (60, 90, 1, 0)
    assert phase.settings.error == Error("overload", 0.5, 503, 2.0)
    assert phase.settings.quota is None
    assert scenario.load_phases[0].settings == Load("poisson", 800, processes=20)
    assert scenario.trouble == (60, 360)


def test_a_duration_and_a_load_are_enough() -> None:
    """All else has a default, and a bare time is a fixed one."""
    scenario = read({"duration": 60, "load": {"rate": 1}, "dependency": {"service": "20ms"}})
    assert scenario == Scenario(60.0, Load(rate=1), Dependency(service=Times("fixed", 0.02)))
    assert scenario.trouble is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": "10 parsecs"}, "duration: must be seconds as a number"),
        ({"duration": 0}, "duration: must be more than 0 seconds"),
        ({"duration": math.inf}, "duration: must be seconds"),
        ({"duration": "31d"}, "duration: must be at most 30 days"),
        ({"seed": ""}, "seed: must be a string that is not empty"),
        ({"dependency": {"error": {"retry_after": "end"}}}, 'dependency: retry_after = "end" is for a phase that'),
        (
            {"dependency": {"error": {"retry_after": "ende"}}},
            'dependency.error.retry_after: must be seconds as a number, or text such as "200ms", "1.5s", "2m"',
        ),
        ({"laod": {}}, "laod: is not known; did you mean 'load'?"),
        ({"load": 3}, "load: must be a table"),
        ({"load": {}}, "load: needs a rate, or clients"),
        ({"load": {"rate": -1}}, "load.rate: must be a number of at least 0"),
        ({"load": {"rate": True}}, "load.rate: must be a number"),
        ({"load": {"rate": 1, "arrivals": "burst"}}, "load.arrivals: must be one of: poisson, fixed, closed"),
        ({"load": {"rate": 1, "processes": 0}}, "load.processes: must be a whole number of at least 1"),
        ({"load": {"arrivals": "closed", "clients": 2}}, "load: needs think"),
        ({"load": {"rate": 1e9}}, "load: makes 6e+10 calls; a scenario has at most 1e+08"),
        ({"dependency": {"servers": "many"}}, "dependency.servers: must be a whole number of at least 0, or 'inf'"),
        ({"dependency": {"queue": "some"}}, "dependency.queue: must be a whole number of at least 0, or 'none' or"),
        ({"dependency": {"service": {"kind": "fixed"}}}, "dependency.service: needs mean"),
        ({"dependency": {"service": {"mean": 1, "sigma": 1}}}, "dependency.service.sigma: goes with"),
        ({"dependency": {"error": {"kind": "bad"}}}, "dependency.error.kind: must be one of: timeout, connection"),
        (
            {"dependency": {"error": {"rate": 1.5}}},
            "dependency.error.rate: must be a number of at least 0 and at",
        ),
        ({"dependency": {"error": {"status": 200}}}, "dependency.error.status: must be a whole number of at least 400"),
        ({"dependency": {"quota": {}}}, 'dependency.quota: needs rate, such as "600/min"'),
        ({"dependency": {"quota": {"rate": "lots"}}}, "dependency.quota.rate: must be a number and a time"),
        ({"dependency": {"notices_leavers": "yes"}}, "dependency.notices_leavers: must be true or false"),
        ({"dependency": {"phase": {}}}, "dependency.phase: must be an array of tables: [[dependency.phase]]"),
        ({"load": {"rate": 1, "phase": 3}}, "load.phase: must be an array of tables: [[load.phase]]"),
        (
            {"dependency": {"phase": [{"from": 5, "until": 5}]}},
            "dependency.phase[0].until: must be later than from, which is 5 s",
        ),
        (
            {"dependency": {"phase": [{"until": 10}, {"from": 5, "until": 20}]}},
            "dependency.phase[1].from: must not be before 10 s, when the phase above ends",
        ),
        ({"dependency": {"stream": {"gap": 1}}}, "dependency.stream: needs items"),
        (
            {"dependency": {"stream": {"items": 3, "rate": 0.5, "at": 3}}},
            "dependency.stream.at: must be less than items",
        ),
        ({"dependency": {"phase": [{"stream": {"items": 3}}]}}, "dependency: needs stream, where a phase has one"),
        (
            {"load": {"arrivals": "closed", "clients": 1000, "think": 1e-6}},
            "load: makes 6e+10 calls; a scenario has at most 1e+08",
        ),
        ({"load": {"rate": 1, "phase": [{"arrivals": "fixed"}]}}, "load: arrivals and processes are the same in all"),
    ],
)
def test_what_is_not_allowed_says_where_and_what_is(change: dict[str, Any], message: str) -> None:
    """The key, the value and the rule."""
    with pytest.raises(ConfigError) as caught:
        read({"duration": 60, "load": {"rate": 1}, **change})
    key, rule = message.split(": ", 1)
    assert any(problem.key == key and problem.allowed.startswith(rule) for problem in caught.value.problems)


def test_every_mistake_comes_out_at_once_with_its_line(tmp_path: Path) -> None:
    """In the order of the file."""
    file = tmp_path / "bad.toml"
    file.write_text(FULL.replace('"10min"', '"soon"').replace("servers = 1", "severs = 1").replace('"2s"', "-1"))
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert [problem.line for problem in caught.value.problems] == [3, 22, 24]
    assert str(caught.value).startswith("the scenario has 3 problems:")
    assert f"{file}:22: dependency.phase[0].severs = 1: is not known; did you mean 'servers'?" in str(caught.value)


def test_what_only_shows_in_the_whole_comes_in_the_same_round(tmp_path: Path) -> None:
    """Wrong orders, bounds and needs are said beside wrong values, and no more of wrong values."""
    file = tmp_path / "bad.toml"
    file.write_text(
        'duration = "31d"\n'
        "[load]\n"
        'arrivals = "closed"\n'
        "clients = -1\n"
        "[[dependency.phase]]\n"
        "from = 9\nuntil = 5\nservers = -1\n"
        "[[dependency.phase]]\n"
        'until = "soon"\n'
        'error = { retry_after = "end" }\n'
    )
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert [(problem.line, problem.key, problem.allowed[:24]) for problem in caught.value.problems] == [
        (1, "duration", "must be at most 30 days"),
        (2, "load", "needs think with arrival"),
        (4, "load.clients", "must be a whole number o"),
        (7, "dependency.phase[0].until", "must be later than from,"),
        (8, "dependency.phase[0].servers", "must be a whole number o"),
        (10, "dependency.phase[1].until", "must be seconds as a num"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"duration = ", "is not TOML"), (b"\xff\xfe", "is not text in UTF-8"), (None, "cannot be read: No such file")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    """As one problem like any other."""
    file = tmp_path / "scenario.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(f"the scenario has a problem:\n  {file}")


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    """Some editors write one."""
    file = tmp_path / "scenario.toml"
    file.write_text("\ufeffduration = 60\n[load]\nrate = 1\n", encoding="utf-8")
    assert read(file).duration == 60


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["duration", "load", "dependency", "seed", "rate", "phase", "from", "until", "service", "error"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=4), max_size=5))
def test_nothing_but_a_scenario_or_its_problems_comes_out(source: dict[str, Any]) -> None:
    """Whatever a mapping holds."""
    with contextlib.suppress(ConfigError):
        assert isinstance(read(source), Scenario)


@pytest.mark.parametrize("name", names())
def test_the_shipped_scenarios_are_valid(name: str) -> None:
    """And their pages can rely on them."""
    assert read(find(name)).duration > 0
