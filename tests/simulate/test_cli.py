"""`resilient-agents simulate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resilient_agents.cli import main

POLICIES = """
[policies.search]
retry = 3
circuit_breaker = { use = "search" }
[policies.bare]
timeout = "1s"
[circuit_breakers.search]
failures = 3
"""
SCENARIO = """
duration = "30s"
[load]
rate = 20
processes = 3
[[dependency.phase]]
from = "10s"
until = "20s"
error = { kind = "server" }
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies.toml").write_text(POLICIES)
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_shows_the_course_and_the_figures(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One course for each policy, and one table to compare them."""
    status = main(
        ["simulate", "policies.toml:search", "--scenario", "scenario.toml", "--compare", "policies.toml:bare"]
    )
    out = capsys.readouterr().out
    assert status == 0
    assert out.count("calls offered") == 2
    assert "policies.toml:search  policies.toml:bare" in out
    assert "circuit opened after" in out
    assert "│20 s" in out


def test_json_has_everything(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures and series by the name of the policy, for programs."""
    assert main(["simulate", "policies.toml:search", "--scenario", "scenario.toml", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["policies.toml:search"]
    assert len(result["series"]["offered"]) == 30
    assert result["opened_after"] < 3


def test_options_can_be_changed_for_a_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--set` lies over the file, and only over the first policy."""
    arguments = ["simulate", "policies.toml:bare", "--compare", "tool", "--scenario", "scenario.toml", "--json"]
    main(arguments)
    before = json.loads(capsys.readouterr().out)
    main([*arguments, "--set", "timeout=1ms"])
    after = json.loads(capsys.readouterr().out)
    assert after["policies.toml:bare"]["success_rate"] < 0.1 < before["policies.toml:bare"]["success_rate"]
    assert after["tool"]["success_rate"] > 0.1


def test_a_preset_and_a_shipped_scenario_need_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The quickest look at what a preset does."""
    assert main(["simulate", "tool", "--scenario", "fanout", "--seed", "x"]) == 0
    assert "calls offered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["policies.toml", "--scenario", "scenario.toml"],
            1,
            "has the policies search, bare: name one, as policies.toml:search",
        ),
        (["policies.toml:x", "--scenario", "scenario.toml"], 1, "has no policy 'x'; there are: search, bare"),
        (["nothing.toml", "--scenario", "scenario.toml"], 1, "nothing.toml: cannot be read"),
        (["tool", "--scenario", "nothing.toml"], 1, "nothing.toml: cannot be read"),
        (
            ["lmm", "--scenario", "scenario.toml"],
            1,
            "lmm is neither a file nor a preset; did you mean 'llm'? Allowed: ",
        ),
        (
            ["tool", "--scenario", "heard"],
            1,
            "heard is neither a file nor a scenario that is shipped; did you mean 'herd'",
        ),
        (
            ["tool", "--scenario", "scenario.toml", "--set", "retry.attemps=2"],
            1,
            "  change of retry.attemps: policies.tool.",
        ),
        (["tool", "--scenario", "scenario.toml", "--set", "retry.attemps=2"], 1, "did you mean 'attempts'?"),
        (["tool", "--scenario", "scenario.toml", "--plot", "x.jpg"], 2, "a picture is an .svg or a .png, got x.jpg"),
    ],
)
def test_what_is_wrong_is_one_plain_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    """On standard error, and nothing on standard output."""
    assert main(["simulate", *arguments]) == status
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_change_is_an_option_and_a_value(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use ends with status 2 and says what is right."""
    with pytest.raises(SystemExit) as caught:
        main(["simulate", "tool", "--scenario", "scenario.toml", "--set", "retry"])
    assert caught.value.code == 2
    assert "must be OPTION=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "s", "--replay", "r"], "argument --replay: not allowed with argument --scenario"),
        ([], "one of the arguments --scenario --replay is required"),
        (
            ["--scenario", "s", "--points", "0", "--tune", "retry.attempts=1..2"],
            "--points: must be a whole number of at",
        ),
        (
            ["--scenario", "s", "--points", "3"],
            "argument --points: goes with --tune; --scenario alone takes: --compare",
        ),
        (["--scenario", "s", "--random"], "argument --random: goes with --tune"),
        (["--scenario", "s", "--goal", "load<=1"], "argument --goal: goes with --tune"),
        (["--scenario", "s", "--of", "x"], "argument --of: goes with --replay"),
        *(
            (
                ["--scenario", "s", "--tune", "retry.attempts=1..2", *ignored],
                f"argument {ignored[0]}: does not go with --t",
            )
            for ignored in (["--compare", "llm"], ["--json"], ["--plot", "x.svg"])
        ),
        *(
            (["--replay", "r", *ignored], f"argument {ignored[0]}: does not go with --replay, which takes: --of, --set")
            for ignored in (["--compare", "llm"], ["--plot", "x.svg"], ["--seed", "x"], ["--blocking"])
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Wrong use, before anything is read."""
    with pytest.raises(SystemExit) as caught:
        main(["simulate", "tool", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_changed_policy_stands_beside_itself(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under a name that says what is different."""
    once = ["--set", "retry.attempts=1"]
    assert main(["simulate", "tool", "--scenario", "scenario.toml", *once, "--compare", "tool", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["tool retry.attempts=1", "tool"]


def test_blocking_code_has_an_option(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its limits without threads cut nothing off, which shows."""
    for colour in ([], ["--blocking"]):
        assert main(["simulate", "tool", "--scenario", "scenario.toml", *colour, "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_pictures_are_the_same_bytes_twice(files: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    """Self-contained files that a repository can keep."""
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    for name in ("one", "two"):
        assert main(["simulate", "tool", "--scenario", "scenario.toml", "--plot", f"{name}.{ending}"]) == 0
    one, two = (files / f"{name}.{ending}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert b"http-equiv" not in one.read_bytes()


def test_a_missing_extra_is_one_plain_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is simulated."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["simulate", "tool", "--scenario", "scenario.toml", "--plot", "x.svg"]) == 2
    assert 'run: pip install "resilient-agents[simulate]"' in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_says_so(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures were printed before."""
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    assert main(["simulate", "tool", "--scenario", "scenario.toml", "--plot", "no/such/folder.svg"]) == 2
    captured = capsys.readouterr()
    assert "cannot write no/such/folder.svg: No such file or directory" in captured.err
    assert "calls offered" in captured.out
