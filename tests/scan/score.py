"""How good a scan is on the corpus, and how good others are: `python -m tests.scan.score [CASE…]`.

Each figure is that of one case; a site is right when its file, line and callee are. With `--differences` each one is printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from resilient_agents.scan import Options, scan
from tests.scan.expected import Expected, cases, expected_in, found_by, unpack

__all__ = ["Score", "score"]

OPT_IN = ("RA201", "RA202", "RA203", "RA301", "RA302", "RA401")


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
    print("case               sites  precision  recall  F1     waits P  waits R  has_timeout  place")
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            root = unpack(case, Path(folder))
            expected, found = expected_in(root), found_by(scan([root], Options(select=OPT_IN)), root)
        result = score(case, expected, found)
        print(f"{case:18} {result.sites:5}  {result.precision:9.3f}  {result.recall:6.3f}  {result.f1:.3f}", end="")
        print(f"{result.wait_precision:9.3f}{result.wait_recall:9.3f}{result.has_timeout:13.3f}{result.place:7.3f}")
        if "--differences" in arguments:
            for record in sorted({*expected} ^ {*found}):
                side = "+" if record in found else "-"
                print(" ", side, f"{record.path}:{record.line}", record.callee, record.limit, record.function,
                      *sorted(record.flags), "|", *sorted(record.rules))


if __name__ == "__main__":
    _main(sys.argv[1:])
