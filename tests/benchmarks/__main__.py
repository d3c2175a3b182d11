"""`python -m tests.benchmarks [--quick] [--row NAME ...] [--markdown]`."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence

from tests.benchmarks.measure import FULL, QUICK, Effort
from tests.benchmarks.peers import NOTES
from tests.benchmarks.rows import ROWS
from tests.benchmarks.table import Line, as_markdown, as_text

LIBRARIES = (
    *("tenacity", "pybreaker", "anyio", "aiolimiter", "opentelemetry-sdk"),
    *("nopanic", "pyresilience", "stamina", "redress", "resilix", "hyx", "interlock-cb"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="What a policy costs, next to its peers. In µs: the bare call as it is, the others over it.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a minute or so, and more noise")
    rows = f"only this one, repeatable: {', '.join(ROWS)}"
    parser.add_argument("--row", action="append", choices=[*ROWS], metavar="NAME", help=rows)
    parser.add_argument("--markdown", action="store_true", help="print tables for the documentation")
    options = parser.parse_args(arguments)
    effort: Effort = QUICK if options.quick else FULL
    lines: list[Line] = []
    for name in options.row or ROWS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        lines.extend(ROWS[name](effort))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{python}, {os.cpu_count()} CPUs; {_versions()}", end="\n\n")
    print(as_markdown(lines) if options.markdown else as_text(lines), end="\n\n")
    print(NOTES, end="")
    return 0


def _versions() -> str:
    found: list[str] = []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{library} not installed")
    return ", ".join(found)


if __name__ == "__main__":
    raise SystemExit(main())
