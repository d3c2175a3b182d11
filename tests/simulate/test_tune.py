"""`--tune`: which options would do best."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from resilient_agents.cli import main
from resilient_agents.config import ConfigError
from resilient_agents.simulate.read import read
from resilient_agents.simulate.tune import Goal, Range, Trial, choices, front, parse_goals, parse_range, tune

TOOL = ("tool", None)
SCENARIO = read({"duration": 10, "load": {"rate": 10}, "dependency": {"error": {"rate": 0.3, "kind": "rate_limit"}}})


@pytest.mark.parametrize(
    ("text", "count", "values"),
    [
        ("retry.attempts=1..6", 10, ["1", "2", "3", "4", "5", "6"]),
        ("retry.attempts=1..9", 3, ["1", "5", "9"]),
        ("timeout=1s..100s", 3, ["1s", "10s", "100s"]),
        ("timeout=100ms..1m", 2, ["0.1s", "60s"]),
        ("retry.budget.ratio=0..0.5", 3, ["0", "0.25", "0.5"]),
        ("circuit_breaker.failure_rate=0.25..1.0", 3, ["0.25", "0.5", "1"]),
    ],
)
def test_values_are_spaced_as_their_kind_wants(text: str, count: int, values: list[str]) -> None:
    """Whole numbers evenly, durations and fractions by a factor, both ends included."""
    assert parse_range(text).values(count) == values


@pytest.mark.parametrize(
    "text", ["retry", "retry=1", "retry=1...6", "retry=a..b", "retry=3..1", "timeout=1s..2", "x=-1..2"]
)
def test_a_range_is_an_option_and_two_ends(text: str) -> None:
    """Anything else is told what is right."""
    with pytest.raises(ValueError, match="must"):
        parse_range(text)


def test_goals_are_bounds() -> None:
    """Of success, p99 and load; durations may have units."""
    goals = parse_goals("success>=0.99, load<=1.3,p99<=200ms")
    assert goals == [Goal("success", True, 0.99), Goal("load", False, 1.3), Goal("p99", False, 0.2)]
    trial = Trial({}, success=0.995, p99=0.3, load=1.3)
    assert [goal.met(trial) for goal in goals] == [True, True, False]


@pytest.mark.parametrize("text", ["", "success", "success=1", "speed>=1", "p99<=soon"])
def test_other_goals_are_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match="must be success, p99, load with >= or <= and a number"):
        parse_goals(text)


def test_the_front_is_what_no_other_trial_beats() -> None:
    """Better in one thing is worth being worse in another; equal ones stand together."""
    good, cheap, bad = Trial({}, 0.99, 1.0, 2.0), Trial({}, 0.9, 1.0, 1.0), Trial({}, 0.9, 1.0, 1.5)
    again = Trial({"timeout": "9s"}, 0.9, 1.0, 1.0)
    assert front([bad, cheap, good, again]) == [[good], [cheap, again]]


def test_more_attempts_succeed_more_often_and_cost_more() -> None:
    """The trials come in the order of the grid, one for each choice."""
    good, _ = choices(TOOL, [Range("retry.attempts", 1, 4, True, "")], 4)
    trials = list(tune(TOOL, SCENARIO, good, seed="tune"))
    assert [trial.changes["retry.attempts"] for trial in trials] == ["1", "2", "3", "4"]
    assert trials[0].success < 0.8 < 0.95 < trials[-1].success
    assert trials[0].load == 1 < trials[-1].load


def test_an_interrupt_that_only_the_command_hears_ends_the_others() -> None:
    """They would go on to the end of what they are at, and keep the command waiting."""
    long = read({"duration": 200, "load": {"rate": 40}, "dependency": {"service": "20ms"}})
    before = multiprocessing.active_children()
    tried = tune(TOOL, long, [{}] * 9, seed="tune", workers=1)
    next(tried)
    (child,) = (each for each in multiprocessing.active_children() if each not in before)
    with pytest.raises(KeyboardInterrupt):
        tried.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    child.join()
    assert child.exitcode == -signal.SIGTERM


def test_random_points_try_more_values_of_each_option() -> None:
    """Drawn by a named stream from within the ranges: the same again for the same seed, others for another one."""
    ranges = [parse_range("retry.attempts=1..6"), parse_range("circuit_breaker.reset_timeout=1s..60s")]
    drawn, _ = choices(TOOL, ranges, 16, seed="one")
    grid, _ = choices(TOOL, ranges, 16)
    assert drawn == choices(TOOL, ranges, 16, seed="one")[0] != choices(TOOL, ranges, 16, seed="two")[0]
    assert len(drawn) == len(grid) == 16
    times = [{choice["circuit_breaker.reset_timeout"] for choice in found} for found in (drawn, grid)]
    assert len(times[0]) > 2 * len(times[1])
    assert all(1 <= float(each.removesuffix("s")) <= 60 for each in times[0])


def test_random_points_are_no_more_than_there_are() -> None:
    """Each is tried once."""
    few, _ = choices(TOOL, [parse_range("retry.attempts=1..3")], 16, seed="one")
    assert [each["retry.attempts"] for each in few] == ["1", "2", "3"]
    narrow, _ = choices(TOOL, [parse_range("timeout=1.01s..1.02s")], 16, seed="one")
    assert {each["timeout"] for each in narrow} == {"1.01s", "1.02s"}


def test_a_wrong_option_is_found_before_anything_runs() -> None:
    """As a problem of the configuration."""
    with pytest.raises(ConfigError, match="did you mean 'attempts'"):
        choices(TOOL, [parse_range("retry.attemps=1..2")], 4)


def test_an_option_is_given_once() -> None:
    """Two ranges of one would have one of them without effect."""
    with pytest.raises(ValueError, match=r"retry\.attempts is given twice"):
        choices(TOOL, [parse_range("retry.attempts=1..2"), parse_range("retry.attempts=3..4")], 4)
    with pytest.raises(ValueError, match=r"retry\.attempts is given twice"):
        choices(TOOL, [parse_range("retry.attempts=1..2")], 4, fixed={"retry.attempts": "3"})


def test_an_option_that_is_set_is_the_same_in_all_choices() -> None:
    """In a grid and at random, and it is named by what reproduces them."""
    for seed in (None, "one"):
        good, _ = choices(TOOL, [parse_range("retry.attempts=1..2")], 4, seed=seed, fixed={"timeout": "9s"})
        assert good == [{"timeout": "9s", "retry.attempts": each} for each in ("1", "2")]


def test_what_does_not_go_together_is_left_out() -> None:
    """And said; the others are tried."""
    ranges = [
        parse_range("circuit_breaker.reset_timeout=1s..60s"),
        parse_range("circuit_breaker.max_reset_timeout=30s..60s"),
    ]
    good, wrong = choices(TOOL, ranges, 4)
    assert len(good) == 3
    assert len(wrong) == 1
    assert "max_reset_timeout must be at least reset_timeout" in str(wrong[0])


def test_the_command_prints_what_reproduces_each_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says by its status whether the goal can be reached."""
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('duration = "10s"\n[load]\nrate = 5\n[dependency]\nservice = "20ms"\n')
    arguments = ["simulate", "tool", "--scenario", str(scenario), "--tune", "timeout=10ms..10s", "--points", "2"]
    assert main([*arguments, "--goal", "success>=0.9"]) == 0
    out = capsys.readouterr().out
    assert "1 of them reach the goal" in out
    assert "*100.00 %" in out.replace(" ", "", 1).replace("*  ", "*") or "* 100.00 %" in out
    assert f"simulate tool --scenario {scenario} --set timeout=10s" in out
    assert main([*arguments, "--goal", "p99<=1ms,success>=0.9"]) == 1
    assert main([*arguments, "--random", "--set", "retry.attempts=1"]) == 0
    out = capsys.readouterr().out
    assert "2 choices" in out
    assert f"simulate tool --scenario {scenario} --set retry.attempts=1 --set timeout=" in out


def test_several_options_may_follow_one_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """The second is read as the first one is."""
    with pytest.raises(SystemExit):
        main(["simulate", "tool", "--scenario", "slow", "--tune", "timeout=5s..10s", "retry.attempts=few"])
    assert "argument --tune: must be OPTION=FROM..TO, such as" in capsys.readouterr().err
