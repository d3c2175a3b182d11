"""The corpus: modules as people write them, with what a scan must say in the line where each call begins.

A file is `NAME.py.txt`, so that no other tool reads it; a folder is a tree of such files that import each other. Lines
without a comment have no external call. The comment is

    #: callee limit | function async try loop | rules

with the parts from the second `|` on left out where empty; `-` stands for no function. `; ` parts calls of one line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from resilient_agents.scan import Report

__all__ = ["CORPUS", "OPT_IN", "Expected", "cases", "expected_in", "found_by", "unpack"]

CORPUS = Path(__file__).parent / "corpus"
OPT_IN = ("RA201", "RA202", "RA203", "RA301", "RA302", "RA401")
MARK = re.compile(r"#:\s*(.+)$")


class Expected(NamedTuple):
    path: str
    line: int
    callee: str
    limit: str
    function: str
    flags: frozenset[str]
    rules: frozenset[str]


def cases() -> list[str]:
    return sorted(entry.name.removesuffix(".py.txt") for entry in CORPUS.iterdir())


def unpack(case: str, folder: Path) -> Path:
    """Write the files of a case below a folder, as Python files; the folder that they then stand in."""
    source, folder = CORPUS / case, folder / case
    files = sorted(source.rglob("*")) if source.is_dir() else [CORPUS / f"{case}.py.txt"]
    for file in files:
        if file.is_file():
            inside = file.relative_to(source if source.is_dir() else CORPUS)
            target = folder / inside.with_name(
                inside.name.removesuffix(".txt") if ".py." in inside.name else inside.name
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder


def expected_in(folder: Path) -> list[Expected]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if match := MARK.search(line):
                found += [_expected(path.relative_to(folder).as_posix(), number, each) for each in match[1].split("; ")]
    return sorted(found)


def _expected(path: str, line: int, text: str) -> Expected:
    what, _, rest = text.partition("|")
    where, _, rules = rest.partition("|")
    callee, limit = what.split()
    function, *flags = where.split() or ["-"]
    return Expected(path, line, callee, limit, function, frozenset(flags), frozenset(rules.split()))


def found_by(report: Report, folder: Path) -> list[Expected]:
    rules: dict[tuple[str, int, int], set[str]] = {}
    for finding in report.findings:
        call = finding.call
        rules.setdefault((call.path, call.line, call.column), set()).add(finding.rule)
    found = []
    for call in report.calls:
        flags = {"async": call.is_async, "try": call.in_try, "loop": call.in_loop}
        path = Path(call.path).resolve().relative_to(folder.resolve()).as_posix()
        at = frozenset(rules.get((call.path, call.line, call.column), ()))
        on = frozenset(name for name, there in flags.items() if there)
        found.append(Expected(path, call.line, call.callee, call.limit, call.function or "-", on, at))
    return sorted(found)
