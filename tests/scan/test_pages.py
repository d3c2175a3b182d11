"""What the pages about scan say is true."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from resilient_agents import cli
from resilient_agents.scan import Options, scan
from resilient_agents.scan.rules import DEFAULT, RULES

PROJECT = Path(__file__).resolve().parents[2]
PAGES = PROJECT / "docs" / "pages"
SECTIONS = re.split(r"^## ", (PAGES / "scan-rules.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def test_every_rule_has_a_section() -> None:
    """In their order, and in the table with what they are."""
    assert [section.split("\n")[0] for section in SECTIONS] == list(RULES)
    text = (PAGES / "scan-rules.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        on = "yes" if name in DEFAULT else "no"
        assert f"| [{name}](#{name.lower()}) | {rule.title} | {on} |" in text


@pytest.mark.parametrize("section", SECTIONS, ids=list(RULES))
def test_the_bad_example_breaks_its_rule_and_the_good_one_does_not(section: str, tmp_path: Path) -> None:
    """Once, and nothing but this rule and what is on by default."""
    name = section.split("\n", maxsplit=1)[0]
    bad, good = re.findall(r"^```py\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "code.py"
    file.write_text(bad)
    assert name in {finding.rule for finding in scan([file], Options(select=(name,))).findings}
    file.write_text(good)
    report = scan([file], Options(select=(name,)))
    assert report.calls
    assert report.findings == []


def test_every_option_is_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """And none that is not there."""
    with pytest.raises(SystemExit):
        cli.main(["scan", "--help"])
    known = set(re.findall(r"(?<!\w)(--[a-z][a-z-]*)", capsys.readouterr().out)) - {"--help"}
    table = (PAGES / "scan.md").read_text(encoding="utf-8").split("## Options")[1].split("\n## ")[0]
    assert set(re.findall(r"(?<!\w)(--[a-z][a-z-]*)", table)) <= known


def test_the_hook_of_the_repository_is_the_one_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the same keys and values but where it is installed from, and finds what a commit adds."""
    hook, page = ((PROJECT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"), (PAGES / "scan.md").read_text())
    said = dict(re.findall(r"^[ -] (\w+): (.+)$", hook, flags=re.MULTILINE))
    own = dict(re.findall(r"^ {6}[ -] (\w+): (.+)$", page.split("repo: local")[1].split("```")[0], flags=re.MULTILINE))
    assert own.keys() | {"description"} == said.keys()
    assert {key for key, value in own.items() if said[key] != value} == {"additional_dependencies"}
    assert f"      - id: {said['id']}\n```" in page
    monkeypatch.chdir(tmp_path)
    for command in ("init -q", "-c user.name=a -c user.email=a@example.org commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], check=True)
    Path("added.py").write_text("import requests\n\nrequests.get('https://example.org')\n")
    assert cli.main([*shlex.split(said["entry"])[1:], "--no-cache"]) == 1
    assert "added.py:3:1 RA101" in capsys.readouterr().out
