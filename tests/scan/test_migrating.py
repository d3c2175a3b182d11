"""The page "Migrating a code base" is true: its commands run one after another and print what it says."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resilient_agents.cli import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pages" / "migrating.md"
BLOCK = re.compile(r"^```(sh|text|toml|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_each_step_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first scan to orders that are not sent twice."""
    if shutil.which("git") is None:
        pytest.skip("there is no git to apply the changes of the page with")
    shutil.copytree(
        ROOT / "docs" / "examples" / "shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.chdir(tmp_path)
    printed = ""
    kinds = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        kinds.append(kind)
        if kind == "sh" and text.startswith("resilient-agents "):
            main([*shlex.split(text)[1:], *(["--no-cache"] if " scan " in text else [])])
            printed = capsys.readouterr().out
        elif kind == "sh":
            printed = shell(text)
        elif kind == "toml":
            with Path("resilience.toml").open("a") as file:
                file.write(f"\n{text}")
        elif kind == "diff":
            subprocess.run(["git", "apply", "-"], input=text, text=True, check=True)
        else:
            expected = text.partition("...\n")[0] if text.endswith("...\n") else text
            assert printed.startswith(expected), printed
            assert text.endswith("...\n") or printed == expected
    assert [kinds.count(kind) for kind in ("sh", "text", "diff")] == [7, 7, 1]


def shell(text: str) -> str:
    """What a command prints that sets a variable and runs Python."""
    if importlib.util.find_spec("requests") is None:
        pytest.skip("there is no requests, which the shop calls with")
    variable, program = re.fullmatch(r"(\w+='.*?') (python .*)\n", text, re.DOTALL).groups()  # type: ignore[union-attr]
    name, _, value = variable.partition("=")
    arguments = [sys.executable, *shlex.split(program)[1:]]
    env = {name: shlex.split(value)[0], "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True, env=env).stdout
    return re.sub(r"after 1 attempt in 0\.\d+ s", "after 1 attempt in 0 s", printed)  # on a machine that is busy
