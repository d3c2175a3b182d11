"""A scan from paths to a report."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from resilient_agents.scan.files import python_files
from resilient_agents.scan.form import Form
from resilient_agents.scan.inventory import Found, inventory
from resilient_agents.scan.known import Known
from resilient_agents.scan.limits import Limits
from resilient_agents.scan.records import FileStatus, Finding, Report
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.rules import DEFAULT, RULES, broken
from resilient_agents.scan.settings import Projects, Settings
from resilient_agents.scan.source import Unreadable, form_of, load, unreadable
from resilient_agents.scan.table import TableError, shipped
from resilient_agents.scan.table import load as load_table
from resilient_agents.scan.tree import SourceFile, Tree, module_parts

__all__ = ["Options", "Scan", "scan"]

DEEPEST = 10_000
"""Python frames: an expression is read by a function that calls itself."""


@dataclass(frozen=True, slots=True)
class Options:
    ignore: bool = True
    """Whether `.gitignore` counts."""
    select: tuple[str, ...] = ()
    """Rules that are on beside those that are on by default and those of the project."""


def scan(paths: Iterable[Path], options: Options | None = None) -> Report:
    """Find the external calls below the paths and what is wrong with them. Nothing is imported, nothing is run.

    Raises ValueError for a path that is not there and for a rule that does not exist.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST))
    try:
        with warnings.catch_warnings(), paused_collection():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return Scan(list(paths), options or Options()).report()
    finally:
        sys.setrecursionlimit(before)


@contextlib.contextmanager
def paused_collection() -> Iterator[None]:
    """Trees of syntax have no circles: looking for some in a million new objects costs more than reading a file."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Scan:
    """One scan: its files, what is known, and what was found."""

    def __init__(self, paths: list[Path], options: Options) -> None:
        for rule in options.select:
            if rule not in RULES:
                raise ValueError(f"there is no rule {rule!r}; known are {', '.join(RULES)}")
        self.options = options
        self.projects = Projects()
        self.statuses: dict[str, FileStatus] = {}
        self.found: dict[str, list[Found]] = {}
        self.paths = python_files(paths, ignore=options.ignore)
        known, self.problems = self._known(paths)
        files = [SourceFile(shown(path), module_parts(str(path.absolute())), self._reader(path)) for path in self.paths]
        self.tree = Tree(files, known.modules)
        self.resolver = Resolver(self.tree, known)
        self.limits = Limits(self.resolver, self._pin)

    def _known(self, paths: list[Path]) -> tuple[Known, list[str]]:
        base = shipped()
        own: dict[str, object] = {}
        problems = []
        for path in paths:
            folder = path.absolute() if path.is_dir() else path.absolute().parent
            own.update(self.projects.settings(folder).libraries)
        for name, entry in list(own.items()):
            try:
                load_table([base, {name: entry}])
            except TableError as error:
                problems.append(f"tool.resilient-agents.scan.libraries: not used: {error}")
                del own[name]
        return load_table([base, own]), problems

    def _reader(self, path: Path) -> Callable[[], Form]:
        def make() -> Form:
            name = shown(path)
            try:
                form, status = form_of(name, load(path))
            except Unreadable as error:
                form, status = unreadable(name, str(error))
            self.statuses[name] = status
            return form

        return make

    def _pin(self, path: str, package: str) -> str:
        return self.projects.pin(Path(path).absolute().parent, package)

    def settings(self, path: str) -> Settings:
        return self.projects.settings(Path(path).absolute().parent)

    def report(self) -> Report:
        report = Report(warnings=[*self.problems])
        for file in self.tree.files:
            found = self.found[file.path] = list(inventory(self.resolver, self.limits, file))
            report.files.append(self.statuses[file.path])
            report.calls += [each.call for each in found]
            settings = self.settings(file.path)
            on = DEFAULT.union(self.options.select, settings.select) - frozenset(settings.ignore)
            report.findings += [Finding(rule.id, message, each.call) for rule, message, each in broken(found, on)]
        report.warnings += self.projects.problems
        return report


def shown(path: Path) -> str:
    """As it is given in reports: from here, if it stands below."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return os.fspath(path.absolute())
