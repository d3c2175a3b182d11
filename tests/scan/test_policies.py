"""What becomes of advice: policies in a configuration, and the plan of rolling them out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from resilient_agents import Registry
from resilient_agents.cli import main
from resilient_agents.config import load
from resilient_agents.scan.advice import Advice, advise
from resilient_agents.scan.advice.plan import as_plan
from resilient_agents.telemetry.metric_table import METRICS
from resilient_agents.testing import FakeClock


def test_policies_are_written_checked_and_called_through(tree: Path, tmp_path: Path) -> None:
    """One for each dependency, on the preset that fits, with the reason for what it leaves out."""
    file = tmp_path / "resilience.toml"
    assert main(["scan", "--no-cache", "--write-policies", str(file), str(tree)]) == 0
    text = file.read_text()
    assert '[policies."prices-example-com"]\nextends = "http"\n' in text
    assert '[policies."openai"]\nextends = "llm"\n' in text
    assert "retry = false  # a command that failed may have done a part of its work" in text
    assert re.search(
        r"# No policy can interrupt what holds up its event loop: give \S+agent.py:17 a limit of its own", text
    )
    assert "app-db" not in text
    assert main(["config", "check", "--strict", str(file)]) == 0
    registry = Registry(load(file, env={}))
    for name in load(file, env={}).policies:
        assert registry.policy(name).call(int, "7") == 7


def test_what_may_not_be_made_twice_has_a_policy_of_its_own(tree: Path, tmp_path: Path) -> None:
    """With the lines beside it: the reads of the same host are tried again, a write whose answer was lost is not."""
    file = tmp_path / "resilience.toml"
    assert main(["scan", "--no-cache", "--write-policies", str(file), str(tree)]) == 0
    assert re.search(r"# prices.example.com, what may not be made twice: \S*prices.py:13\.\n", file.read_text())
    registry = Registry(load(file, env={}))

    def lost() -> None:
        tried.append(1)
        raise ConnectionResetError

    for name, most in (("prices-example-com", 3), ("prices-example-com-once", 1)):
        tried: list[int] = []
        with FakeClock(), pytest.raises(ConnectionResetError):
            registry.policy(name).call(lost)
        assert (len(tried) > 1) is (most > 1), name


def test_what_a_configuration_has_is_kept(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Letter for letter, and a second run adds nothing."""
    file = tmp_path / "resilience.toml"
    mine = "# mine\n[policies.openai]\nretry = 7   # because\n"
    file.write_text(mine)
    for added in ("3 policies added, 1 kept", "0 policies added, 4 kept"):
        assert main(["scan", "--no-cache", "--write-policies", str(file), str(tree)]) == 0
        assert added in capsys.readouterr().out
        assert file.read_text().startswith(mine)
    assert load(file, env={}).policies["openai"].strategies[0].options["attempts"] == 7


def test_a_configuration_that_is_not_valid_is_left_alone(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its mistakes come out."""
    file = tmp_path / "resilience.toml"
    file.write_text("[policies.x]\nretri = 3\n")
    assert main(["scan", "--no-cache", "--write-policies", str(file), str(tree)]) == 2
    assert "did you mean 'retry'" in capsys.readouterr().err
    assert file.read_text() == "[policies.x]\nretri = 3\n"


def test_the_plan_goes_from_watching_to_enforcing(advice: Advice) -> None:
    """What can hurt most comes first, and every phase has its commands."""
    plan = as_plan(advice, "code")
    assert plan.index("Shadow") < plan.index("high priority") < plan.index("Scan again")
    assert "resilient-agents simulate resilience.toml:prices-example-com --scenario retry-storm" in plan
    known = {name.replace(".", "_") for metric in METRICS for name in metric.attributes}
    labels = re.findall(r"by \((.*?)\)", plan)
    assert labels
    assert {label for found in labels for label in found.split(", ")} <= known


def test_the_plan_names_what_no_fix_guards(tmp_path: Path) -> None:
    """A fix decorates what can wait for ever; calls that have a limit are for the reader."""
    calls = "requests.get('https://a.example')\n    requests.get('https://b.example', timeout=3)"
    code = f"import requests\n\n\ndef f():\n    {calls}\n"
    (tmp_path / "code.py").write_text(code)
    plan = as_plan(advise([tmp_path]), "code")
    assert 'Calls that have a limit it leaves to you, by @resilient("NAME"): b-example.\n' in plan


@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed")
def test_the_commands_of_the_plan_switch_what_they_say(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the file to shadow at once, and out of it by priority; each policy of the file is in a phase."""
    monkeypatch.chdir(tmp_path)
    assert main(["scan", "--no-cache", "--write-policies", "resilience.toml", "--plan", str(tree)]) == 0
    plan = capsys.readouterr().out
    switches = [line.strip() for line in plan.splitlines() if line.strip().startswith("sed ")]
    phases = re.findall(r"^\d\. Enforce, (\w+) priority: (.*)\.$", plan, re.MULTILINE)
    assert sorted(name for _, names in phases for name in names.split(", ")) == sorted(in_shadow())
    assert set(in_shadow().values()) == {None, False}
    subprocess.run(switches[0], shell=True, check=True)
    assert set(in_shadow().values()) == {None, True}
    subprocess.run(switches[1], shell=True, check=True)
    enforced = {"prices-example-com": False, "prices-example-com-once": False}
    assert {name: shadow for name, shadow in in_shadow().items() if shadow is False} == enforced
    for command in switches[2:]:
        subprocess.run(command, shell=True, check=True)
    assert set(in_shadow().values()) == {None, False}


def in_shadow() -> dict[str, bool | None]:
    """By policy, whether its circuit breaker or bulkhead only watches; None where it has neither."""
    policies = load(Path("resilience.toml"), env={}).policies
    options = {name: [each.options for each in policy.strategies] for name, policy in policies.items()}
    return {name: next((each["shadow"] for each in of if "shadow" in each), None) for name, of in options.items()}


def test_one_is_counted_as_one(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever something is counted."""
    (tree / "agent.py").unlink()
    (tree / "prices.py").unlink()
    (tree / "orders.py").write_text("import requests\n\n\ndef f(url):\n    requests.get(url)\n")
    (tree / "broken.py").write_bytes(b"\x00\xff")
    file = tmp_path / "resilience.toml"
    arguments = ["--advise", "--plan", "--write-policies", str(file), "--examples", str(tmp_path / "examples")]
    assert main(["scan", "--no-cache", *arguments, str(tree)]) == 0
    assert main(["scan", "--no-cache", "--advise", "--format", "html", str(tree)]) == 0
    assert main(["scan", "--no-cache", str(tree)]) == 1
    said = capsys.readouterr().out + file.read_text()
    assert {"1 call", "1 file", "1 policy", "1 example"} <= set(re.findall(r"\b1 \w+", said))
    assert re.findall(r"\b1 \w+s (?!x)", said) == []
