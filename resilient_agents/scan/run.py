"""A scan from paths to a report."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import sys
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from resilient_agents.scan.cache import Cache
from resilient_agents.scan.changes import Changed, changed_since, touches
from resilient_agents.scan.comments import without_ignored
from resilient_agents.scan.entries import check_own
from resilient_agents.scan.files import python_files
from resilient_agents.scan.fingerprints import fingerprinted
from resilient_agents.scan.form import nesting
from resilient_agents.scan.inventory import Found, inventory
from resilient_agents.scan.known import Known
from resilient_agents.scan.limits import Limits
from resilient_agents.scan.processes import in_processes
from resilient_agents.scan.reading import Reading, read_files
from resilient_agents.scan.records import Call, FileStatus, Finding, Report
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.rules import DEFAULT, RULES, broken
from resilient_agents.scan.settings import Projects
from resilient_agents.scan.table import TableError, known, load, shipped
from resilient_agents.scan.tree import SourceFile, Tree

__all__ = ["Options", "Scan", "scan"]

PART = 240
"""Files that one process looks at in one go."""
MOST_ANSWERS = 500_000
"""What is known about names and calls stays known, some 0.3 kB for each, up to so many at the end of a part."""
DEEPEST = 10_000
"""Python frames: an expression is read by a function that calls itself."""
DEEP = 500
"""Levels of an expression from which on it may be too deep for these frames."""


@dataclass(frozen=True, slots=True)
class Options:
    ignore: bool = True
    """Whether `.gitignore` counts."""
    select: tuple[str, ...] = ()
    """Rules that are on beside those that are on by default and those of the project."""
    since: str | None = None
    """A revision: only findings in lines that have changed since, and calls in files that have."""
    jobs: int = 1
    """Processes to read and look with, where there are many files."""
    cache: Path | None = None
    """A folder to keep what was read and found in; None: nothing is kept."""


def scan(paths: Iterable[Path], options: Options | None = None) -> Report:
    """Find the external calls below the paths and what is wrong with them. Nothing is imported, nothing is run.

    Raises ValueError for a path that is not there, a rule that does not exist, a revision that git does not know.
    """
    with undisturbed():
        looked = Scan(list(paths), options or Options())
        try:
            return looked.report()
        finally:
            looked.close()


@contextlib.contextmanager
def undisturbed() -> Generator[None, None, None]:
    """Deep expressions are read, their warnings are not shown, and no circles are looked for.

    Trees of syntax have none: to look for them in a million new objects costs more than reading a file.
    """
    limit, collecting = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(limit, DEEPEST))
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        sys.setrecursionlimit(limit)
        if collecting:
            gc.enable()


class Looked(NamedTuple):
    """What was found in one file."""

    calls: list[Call]
    findings: list[Finding]
    warnings: list[str]
    status: FileStatus


class Scan:
    """One scan: its files, what is known, and how it looks at each."""

    def __init__(self, paths: list[Path], options: Options) -> None:
        for rule in options.select:
            if rule not in RULES:
                raise ValueError(f"there is no rule {rule!r}; known are {', '.join(RULES)}")
        self.options = options
        self.projects = Projects()
        self._folders: dict[str, Path] = {}
        self.paths = sorted(python_files(paths, ignore=options.ignore))
        self.changed: Changed | None = changed_since(options.since, paths) if options.since is not None else None
        self.known, self.problems = self._known(paths)
        self.cache = Cache(options.cache, paths) if options.cache is not None else None
        self.reading: Reading = read_files(self.paths, self.cache, options.jobs)
        tree = Tree(self.reading.files, self.known.modules)
        self.resolver = Resolver(tree, self.known, self._pin)
        self.limits = Limits(self.resolver)

    def close(self) -> None:
        """Everything that was read is dropped here: a collector of circles that is on again would look at all of it."""
        self.resolver.forget()
        self.reading.forms.close()
        if self.cache is not None:
            self.cache.close()

    def _known(self, paths: list[Path]) -> tuple[Known, list[str]]:
        """The table, with what the projects add to it; a wrong entry is left out, and said."""
        own: dict[str, object] = {}
        problems: list[str] = []
        for path in paths:
            folder = path.absolute() if path.is_dir() else path.absolute().parent
            own.update(self.projects.settings(folder).libraries)
        for name, entry in list(own.items()):
            try:
                check_own(name, entry)
            except TableError as error:
                problems.append(f"tool.resilient-agents.scan.libraries: not used: {error}")
                del own[name]
        return load([shipped(), own]) if own else known(), problems

    def found(self, file: SourceFile) -> list[Found]:
        return list(inventory(self.resolver, self.limits, file))

    def look(self, file: SourceFile) -> Looked:
        """Everything about one file."""
        status = self.reading.statuses[file.path]
        try:
            found = self.found(file)
        except RecursionError:
            if nesting(file.form) < DEEP:
                raise  # it is not the file's fault
            return Looked([], [], [], FileStatus(file.path, "unreadable", "nested too deeply"))
        self.reading.forms.use(file, whole=True)
        settings = self.projects.settings(self._folder(file.path))
        on = DEFAULT.union(self.options.select, settings.select) - frozenset(settings.ignore)
        findings = fingerprinted(
            (rule.id, message, each.call) for rule, message, each in broken(found, self.resolver, on)
        )
        findings, said = without_ignored(file.path, file.form, findings)
        if self.changed is not None:
            path, changed = Path(file.path).resolve(), self.changed
            findings = [each for each in findings if touches(changed, path, each.call.line, each.call.end_line)]
        return Looked([each.call for each in found], findings, said, status)

    def report(self) -> Report:
        files = self.reading.files
        if self.changed is not None:
            names = {path.name for path in self.changed}
            files = [file for file in files if os.path.basename(file.path) in names]
            files = [file for file in files if Path(file.path).resolve() in self.changed]
        key = self._key()
        known = self.cache.report(key) if self.cache is not None and key else None
        if known is not None:
            return known
        report = Report(warnings=[*self.problems], since=self.options.since)
        statuses = dict(self.reading.statuses)

        def work(some: Sequence[SourceFile]) -> tuple[list[Looked], list[str]]:
            if self.resolver.kept > MOST_ANSWERS:
                self.resolver.forget()  # all: of a circle, answers that were left would decide about the others
            self.reading.forms.forget()
            return [self.look(file) for file in some], self.projects.problems

        for looked, problems in in_processes(work, files, self.options.jobs, PART):
            for each in looked:
                report.calls += each.calls
                report.findings += each.findings
                report.warnings += each.warnings
                statuses[each.status.path] = each.status
            report.warnings += [problem for problem in problems if problem not in report.warnings]
        report.files = list(statuses.values())
        if self.cache is not None and key:
            self.cache.keep_report(key, report)
        return report

    def _key(self) -> str:
        """What a report depends on; "" for one that is not worth keeping."""
        if self.changed is not None:
            return ""
        digest = hashlib.sha256(repr((self.known.digest, self.options, self.problems)).encode())
        for path, content in sorted(self.reading.hashes.items()):
            digest.update(path.encode("utf-8", "replace") + content)
        folders = {os.path.dirname(os.path.abspath(path)) for path in self.paths}
        for file in self.projects.sources(map(Path, folders)):
            digest.update(str(file).encode("utf-8", "replace") + file.read_bytes())
        return digest.hexdigest()

    def _pin(self, path: str, package: str) -> str:
        """The versions of a distribution that the project of a file admits."""
        return self.projects.pin(self._folder(path), package)

    def _folder(self, path: str) -> Path:
        """Of a file; each is made absolute once."""
        name = os.path.dirname(path)
        found = self._folders.get(name)
        if found is None:
            found = self._folders[name] = Path(name).absolute()
        return found
