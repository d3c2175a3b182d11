"""What a scan advises on the corpus, as sentences: `python -m tests.scan.advised` writes anew what is expected.

The expectations in `advised/` were read one by one beside the code: whoever writes them anew reads what changed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resilient_agents.scan.advice import advise
from tests.scan.expected import cases, unpack

__all__ = ["EXPECTED", "advised"]

EXPECTED = Path(__file__).parent / "advised"


def advised(case: str, folder: Path) -> str:
    """Each dependency of a case with its figures and verdicts."""
    unpack(case, folder)
    before = Path.cwd()
    os.chdir(folder / case)
    try:
        return "".join(f"{line}\n" for line in _lines())
    finally:
        os.chdir(before)


def _lines() -> Iterator[str]:
    for each in advise([Path()]).dependencies:
        it = each.dependency
        figures = ", ".join(f"{name} {number}" for name, number in each.figures.items())
        terms = ", ".join(f"{name} {number}" for name, number in each.score.terms.items())
        yield f"{it.name} ({it.target.kind}, {', '.join(it.libraries)}) in {', '.join(it.files)}"
        yield f"  {figures}"
        yield f"  {each.score.priority} {each.score.value}: {terms}"
        yield from (f"  {'+' if v.candidate else '-'} {v.pattern}: {v.why}" for v in each.verdicts)
        yield ""


def main() -> None:
    EXPECTED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            (EXPECTED / f"{case}.txt").write_text(advised(case, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
