"""`advise`: a scan, by dependency and by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resilient_agents.scan.advice.dependencies import Dependency, dependencies
from resilient_agents.scan.advice.patterns import PATTERNS, Verdict, verdicts
from resilient_agents.scan.advice.score import FORMULA, NOTHING, Score, score
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
            "in_loops": sum(each.repeated for each in it.talking),
            "in_async": sum(each.call.is_async for each in it.talking),
            "wait_for_what_comes": len(it.serving),
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


@dataclass
class FileAdvice:
    """A file as if it were all there is: for those who roll out file by file."""

    path: str
    calls: int = 0
    score: Score = NOTHING
    """Of all its dependencies together."""
    patterns: set[str] = field(default_factory=set)
    """Those that calls of it would gain by."""
    dependencies: list[str] = field(default_factory=list)

    @property
    def candidates(self) -> list[str]:
        return [pattern for pattern in PATTERNS if pattern in self.patterns]

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
    return Advised(dependency, score(dependency.waiting, len(dependency.files)), verdicts(dependency))


def _by_file(grouped: list[Advised]) -> list[FileAdvice]:
    """A file is a candidate for what calls of it would gain by."""
    files: dict[str, FileAdvice] = {}
    for each in grouped:
        it = each.dependency
        waiting = _by_path(it.waiting)
        for path, number in Counter(one.call.path for one in it.found).items():
            file = files.setdefault(path, FileAdvice(path))
            file.calls += number
            file.score += score(waiting.get(path, ()), 1)
            file.dependencies.append(it.name)
        for verdict in each.verdicts:
            for path in {one.call.path for one in verdict.calls}:
                files[path].patterns.add(verdict.pattern)
    return sorted(files.values(), key=lambda file: (-file.score.value, file.path))


def _by_path(calls: Iterable[Found]) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for each in calls:
        found.setdefault(each.call.path, []).append(each)
    return found
