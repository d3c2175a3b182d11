"""What linters find of the same in the corpus: `python -m tests.scan.anchors`, with ruff, bandit and pylint there.

A line that they report is right when a call that can wait for ever begins there (that blocks the loop, for ASYNC).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.scan.expected import cases, expected_in, unpack

Line = tuple[str, int]


def _output(*command: str) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout or "[]")


def _ruff(select: str) -> Callable[[Path], set[Line]]:
    def lines(folder: Path) -> set[Line]:
        found = _output("ruff", "check", "--isolated", "--select", select, "--output-format", "json", str(folder))
        # what it says of a file that does not parse has no rule of these
        return {
            (each["filename"], each["location"]["row"]) for each in found if (each["code"] or "").startswith(select)
        }

    return lines


def _bandit(folder: Path) -> set[Line]:
    found = _output("bandit", "-q", "-r", "-t", "B113", "-f", "json", str(folder))
    return {(each["filename"], each["line_number"]) for each in found["results"]}


def _pylint(folder: Path) -> set[Line]:
    files = [str(path) for path in folder.rglob("*.py")]
    found = _output("pylint", "--disable=all", "--enable=W3101", "--output-format=json", *files)
    return {(each["path"], each["line"]) for each in found if each["message-id"] == "W3101"}


TOOLS: dict[str, tuple[str, Callable[[Path], set[Line]]]] = {
    "ruff S113": ("RA101", _ruff("S113")),
    "bandit B113": ("RA101", _bandit),
    "pylint W3101": ("RA101", _pylint),
    "ruff ASYNC": ("RA102", _ruff("ASYNC")),
}


def _main() -> None:
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for case in cases():
            unpack(case, folder)
        expected = expected_in(folder)
        say("| rule | of | reported | right | found of all |\n|---|---|---|---|---|\n")
        for tool, (rule, run) in TOOLS.items():
            wanted = {(str(folder / each.path), each.line) for each in expected if rule in each.rules}
            said = {(str(Path(path).resolve()), line) for path, line in run(folder)}
            right = said & wanted
            say(f"| {tool} | {rule} | {len(said)} | {len(right)} | {len(right)} of {len(wanted)} |\n")


if __name__ == "__main__":
    _main()
