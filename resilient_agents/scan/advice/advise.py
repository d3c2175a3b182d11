"""`advise`: a scan, by dependency and by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resilient_agents.scan.advice.dependencies import Dependency, dependencies
from resilient_agents.scan.advice.patterns import OF_ALL, PATTERNS, Verdict, verdicts
from resilient_agents.scan.advice.score import FORMULA, Score, score, together
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.records import FileStatus
from resilient_agents.scan.run import Options, Scan, undisturbed

__all__ = ["Advice", "Advised", "FileAdvice", "advise"]


@dataclass(frozen=True)
class Advised:
    """A dependency, how much it can hurt, and what would help."""

    dependency: Dependency
    score: Score
    verdicts: list[Verdict]

    @property
    def candidates(self) -> list[str]:
        return [verdict.pattern for verdict in self.verdicts if verdict.candidate]

    @property
    def figures(self) -> dict[str, int]:
        """Its calls, and how many of them are what."""
        it = self.dependency
        return {
            "calls": len(it.found),
            "can_wait_for_ever": sum(each.call.limit == "none" for each in it.talking),
            "in_loops": sum(each.call.in_loop for each in it.talking),
            "in_async": sum(each.call.is_async for each in it.talking),
            "serving": len(it.serving),
            "protected": sum(each.call.protected_by is not None for each in it.talking),
        }

    def why(self, pattern: str) -> str:
        """Why it is a candidate for a pattern, or why not."""
        return next(verdict.why for verdict in self.verdicts if verdict.pattern == pattern)

    def as_data(self) -> dict[str, Any]:
        it = self.dependency
        return {
            "name": it.name,
            "kind": it.target.kind,
            "libraries": it.libraries,
            "variables": it.variables,
            "files": it.files,
            **self.figures,
            "score": self.score.value,
            "terms": self.score.terms,
            "priority": self.score.priority,
            "patterns": {
                verdict.pattern: {"candidate": verdict.candidate, "why": verdict.why} for verdict in self.verdicts
            },
        }


@dataclass(frozen=True)
class FileAdvice:
    """A file as if it were all there is: for those who roll out file by file."""

    path: str
    calls: int
    score: Score
    """Of all its dependencies together."""
    candidates: list[str]
    dependencies: list[str]

    @property
    def priority(self) -> str:
        return self.score.priority

    def as_data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "calls": self.calls,
            "score": self.score.value,
            "terms": self.score.terms,
            "priority": self.priority,
            "candidates": self.candidates,
            "dependencies": self.dependencies,
        }


@dataclass(frozen=True)
class Advice:
    """What a code base depends on, worst first, and the same by file. `statuses`: what became of each file."""

    dependencies: list[Advised]
    files: list[FileAdvice]
    statuses: list[FileStatus]
    warnings: list[str]
    libraries: frozenset[str] = frozenset()
    """The modules of client libraries, by what the scan knew."""

    def as_data(self) -> dict[str, Any]:
        return {
            "version": 1,
            "formula": FORMULA,
            "dependencies": [each.as_data() for each in self.dependencies],
            "files": [each.as_data() for each in self.files],
            "totals": self.totals(),
            "warnings": self.warnings,
        }

    def totals(self) -> dict[str, Any]:
        """Files analysed and not, files of high priority, and how many files are candidates for each pattern."""
        read = Counter(status.status for status in self.statuses)
        return {
            "files": {status: read[status] for status in ("read", "repaired", "unreadable")},
            "files_with_calls": len(self.files),
            "high_priority_files": sum(file.priority == "high" for file in self.files),
            "candidates": {pattern: sum(pattern in file.candidates for file in self.files) for pattern in PATTERNS},
        }


def advise(paths: Iterable[Path], options: Options | None = None) -> Advice:
    """Find the external calls below the paths and say what would help. Nothing is imported, nothing is run.

    Raises ValueError for a path that is not there.
    """
    with undisturbed():
        scan = Scan(list(paths), options or Options())
        try:
            statuses = dict(scan.reading.statuses)
            found: list[Found] = []
            for file in scan.reading.files:
                try:
                    found += scan.found(file)
                except RecursionError:
                    statuses[file.path] = FileStatus(file.path, "unreadable", "nested too deeply")
            grouped = [_advised(each) for each in dependencies(scan.resolver, found)]
            grouped.sort(key=lambda each: (-each.score.value, each.dependency.target))
            files = _by_file(grouped)
        finally:
            scan.close()
    return Advice(grouped, files, list(statuses.values()), [*scan.problems], scan.known.modules)


def _advised(dependency: Dependency) -> Advised:
    return Advised(dependency, score(dependency), verdicts(dependency))


def _by_file(grouped: list[Advised]) -> list[FileAdvice]:
    parts: dict[str, list[Advised]] = {}
    candidates: dict[str, list[list[str]]] = {}
    for each in grouped:
        there: dict[str, list[Found]] = {}
        for one in each.dependency.found:
            there.setdefault(one.call.path, []).append(one)
        for path, calls in there.items():
            here = _advised(replace(each.dependency, found=calls)) if len(there) > 1 else each
            parts.setdefault(path, []).append(here)
            candidates.setdefault(path, []).append(_of_file(here, each))
    files = [
        FileAdvice(
            path,
            calls=sum(len(part.dependency.found) for part in inside),
            score=together(part.score for part in inside),
            candidates=[pattern for pattern in PATTERNS if any(pattern in each for each in candidates[path])],
            dependencies=[part.dependency.name for part in inside],
        )
        for path, inside in parts.items()
    ]
    return sorted(files, key=lambda file: (-file.score.value, file.path))


def _of_file(here: Advised, whole: Advised) -> list[str]:
    """Patterns for the calls of one file: what one for all callers is asked of all calls, so no file is left out."""
    shared = OF_ALL.intersection(whole.candidates) if here.dependency.waiting else frozenset[str]()
    return [
        pattern
        for pattern in PATTERNS
        if (pattern in shared and here.dependency.lacks(pattern) if pattern in OF_ALL else pattern in here.candidates)
    ]
