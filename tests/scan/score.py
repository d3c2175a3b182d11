"""How good a scan is on the corpus, and how good others are: `python -m tests.scan.score [CASE…]`.

Each figure is that of one case; a site is right when its file, line and callee are.
With `--differences` each one is printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from resilient_agents.scan import Options, scan
from tests.scan.expected import OPT_IN, Expected, cases, expected_in, found_by, unpack

__all__ = ["Score", "score"]


class Score(NamedTuple):
    case: str
    sites: int
    precision: float
    recall: float
    wait_precision: float
    wait_recall: float
    has_timeout: float
    place: float
    """Share of the sites whose function, async, in_try and in_loop are all right."""

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score(case: str, expected: list[Expected], found: list[Expected]) -> Score:
    wanted, there = _by_site(expected), _by_site(found)
    both = wanted.keys() & there.keys()
    waits = {site for site, record in wanted.items() if record.limit == "none"}
    said = {site for site, record in there.items() if record.limit == "none"}
    timeouts = [_has_timeout(wanted[site]) == _has_timeout(there[site]) for site in both]
    places = [wanted[site][4:6] == there[site][4:6] for site in both]
    return Score(
        case,
        len(wanted),
        _share(len(both), len(there)),
        _share(len(both), len(wanted)),
        _share(len(waits & said), len(said)),
        _share(len(waits & said), len(waits)),
        _share(sum(timeouts), len(timeouts)),
        _share(sum(places), len(places)),
    )


def _by_site(records: Iterable[Expected]) -> dict[tuple[str, int, str, int], Expected]:
    found: dict[tuple[str, int, str, int], Expected] = {}
    for record in records:
        number = sum(1 for key in found if key[:3] == record[:3])
        found[(*record[:3], number)] = record
    return found


def _has_timeout(record: Expected) -> bool | None:
    return {"explicit": True, "none": False}.get(record.limit)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _main(arguments: list[str]) -> None:
    chosen = [case for case in arguments if not case.startswith("-")] or cases()
    say = sys.stdout.write
    say("case               sites  precision  recall     F1  waits P  waits R  has_timeout  place\n")
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            root = unpack(case, Path(folder))
            expected, found = expected_in(root), found_by(scan([root], Options(select=OPT_IN)), root)
        seen = score(case, expected, found)
        say(f"{case:18} {seen.sites:5} {seen.precision:10.3f} {seen.recall:7.3f} {seen.f1:6.3f}")
        say(f" {seen.wait_precision:8.3f} {seen.wait_recall:8.3f} {seen.has_timeout:12.3f} {seen.place:6.3f}\n")
        if "--differences" in arguments:
            for record in sorted({*expected} ^ {*found}):
                words = (
                    record.callee,
                    record.limit,
                    record.function,
                    *sorted(record.flags),
                    "|",
                    *sorted(record.rules),
                )
                say(f"  {'+' if record in found else '-'} {record.path}:{record.line} {' '.join(words)}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
