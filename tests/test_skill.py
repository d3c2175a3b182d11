"""The instructions for coding agents: every command in them runs, and they come with the package."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import pytest

from resilient_agents.cli import main

ROOT = Path(__file__).parents[1]
SKILL = ROOT / "docs" / "skill" / "SKILL.md"
LLMS = ROOT / "docs" / "pages" / "llms.txt"

SEARCH = """
    import requests

    def search(query):
        return requests.get("https://search.example.com/", params={"q": query}).json()
"""


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", SKILL.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines]


def test_every_command_runs_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a small code base, from the inventory to the simulation."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "search.py").write_text(textwrap.dedent(SEARCH))
    monkeypatch.chdir(tmp_path)
    found = commands()
    assert len(found) >= 7
    for program, *arguments in found:
        assert program == "resilient-agents"
        to = arguments.index(">") if ">" in arguments else len(arguments)
        status = main(arguments[:to])
        captured = capsys.readouterr()
        findings = arguments[0] == "scan" and {"--advise", "--write-policies", "--examples", "--fix=policy"}.isdisjoint(
            arguments
        )
        assert status == (1 if findings else 0), captured.err
        assert captured.out


def test_it_comes_with_the_package() -> None:
    """The wheel holds it, where `importlib.resources` finds it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["docs/skill/SKILL.md"] == "resilient_agents/skill/SKILL.md"


def test_the_links_of_llms_txt_lead_somewhere() -> None:
    """Each page that it names is there."""
    pages = re.findall(r"\]\((.*?)\)", LLMS.read_text())
    assert pages
    assert all((LLMS.parent / page).exists() for page in pages)
