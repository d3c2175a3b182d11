"""`resilient-agents scan PATH…`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient_agents.scan import Report

__all__ = ["add_to"]

CLEAN, FOUND, WRONG = 0, 1, 2

NEEDS = ("parso", "pathspec", "packaging")


def add_to(commands: Any) -> None:
    """Make `scan` one of these commands, which are what `ArgumentParser.add_subparsers` gives.

    Exit status: 0 clean; 1 findings; 2 could not run.
    """
    scan: argparse.ArgumentParser = commands.add_parser("scan", help="find external calls that can wait for ever")
    scan.description = (
        "Finds external calls below PATH and says which of them can wait for ever, and which block an event loop. "
        "Nothing is imported and nothing is run."
    )
    scan.add_argument("paths", nargs="+", metavar="PATH", type=Path, help="a file or a folder")
    scan.add_argument("--format", choices=("text", "json"), default="text", help="(default text)")
    scan.add_argument("--select", action="append", default=[], metavar="RULE", help="turn this rule on, too")
    scan.add_argument("--no-ignore", action="store_true", help="read what .gitignore leaves out, too")
    scan.add_argument("--strict", action="store_true", help="a file that cannot be read ends with status 2")
    scan.set_defaults(run=_scan)


def _scan(arguments: argparse.Namespace) -> int:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return _complain(f'scan needs {" and ".join(missing)}; run: pip install "resilient-agents[scan]"')
    from resilient_agents.scan import Options, scan

    options = Options(ignore=not arguments.no_ignore, select=tuple(arguments.select))
    try:
        report = scan(arguments.paths, options)
    except ValueError as error:
        return _complain(str(error))
    print(_formatted(report, arguments.format), end="")
    if arguments.strict and report.count("unreadable"):
        return WRONG
    return FOUND if report.findings else CLEAN


def _formatted(report: Report, name: str) -> str:
    from resilient_agents.scan.text import as_text

    return as_text(report) if name == "text" else json.dumps(report.as_data(), indent=1) + "\n"


def _complain(message: str) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return WRONG
