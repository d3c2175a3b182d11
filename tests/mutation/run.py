"""Running the tests against a change, in a fork of a process that has imported all but the package and its tests."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import io
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from tests.mutation.mutate import Mutant

__all__ = ["Runner"]

_OPTIONS = (
    *("-x", "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider"),
    "--assert=plain",  # pytest imports what it rewrites, and so the package, whose plugin is one of its own, by itself
)


class Runner:
    """Runs the same tests against one change of a module after another."""

    def __init__(self, module: Path, tests: list[str]) -> None:
        self.path = module.resolve()
        parts = module.with_suffix("").parts
        self.module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.tests = tests
        self.noticed: Counter[str] = Counter()
        self.lines: frozenset[int] = frozenset()
        self.limit = 600.0

    def baseline(self) -> float:
        """Seconds that the tests take on the module as it is. Learns which lines they run and what they import.

        Raises RuntimeError if they fail.
        """
        first = self._forked(lambda: _covered(self.path, self.tests), self.limit)
        if first is None or first["failed"] is not None:
            raise RuntimeError(f"the tests do not pass as it is: {first and first['failed']}")
        self.lines = frozenset(first["lines"])
        for name in first["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        began = time.monotonic()
        again = self._forked(lambda: {"failed": _run(self.tests, Counter())}, self.limit)
        taken = time.monotonic() - began
        if again is None or again["failed"] is not None:
            raise RuntimeError(f"the tests do not pass a second time: {again and again['failed']}")
        self.limit = 5.0 * taken + 10.0
        return taken

    def notices(self, mutant: Mutant) -> bool:
        """Whether a test fails, or hangs, with this change."""
        if mutant.line not in self.lines:
            return False
        try:
            code = compile(mutant.tree, str(self.path), "exec")
        except (SyntaxError, ValueError):
            return True
        changed = partial(_changed, self.module, self.path, code, self.tests, self.noticed)
        said = self._forked(changed, self.limit)
        if said is None:  # hangs, or took the interpreter down
            return True
        if not said["changed"]:
            raise RuntimeError(f"the tests import {self.module} from elsewhere")
        if said["failed"] is not None:
            self.noticed[said["failed"]] += 1
        return said["failed"] is not None

    def _forked(self, work: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any] | None:
        """What `work` answers in a process of its own, None if there is no answer within `limit` seconds."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                os.close(reading)
                os.setsid()
                silence = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(silence, stream)
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    answer = json.dumps(work()).encode()
                with open(writing, "wb") as pipe:
                    pipe.write(answer)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        answer = b""
        until = time.monotonic() + limit
        with open(reading, "rb", buffering=0) as pipe:
            while select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                piece = pipe.read(65536)
                if not piece:
                    break
                answer += piece
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and what the tests have started
        os.waitpid(child, 0)
        return json.loads(answer) if answer else None


class _Watch:
    """A pytest plugin that runs first what has noticed most, and remembers the first test that fails."""

    def __init__(self, noticed: Counter[str]) -> None:
        self.noticed = noticed
        self.failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: -self.noticed[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _run(tests: list[str], noticed: Counter[str]) -> str | None:
    """The first test that fails, or what else went wrong; None if all is well."""
    watch = _Watch(noticed)
    code = pytest.main([*_OPTIONS, *tests], plugins=[watch])
    return watch.failed or (None if code == 0 else f"pytest ended with {int(code)}")


def _covered(path: Path, tests: list[str]) -> dict[str, Any]:
    import coverage

    measured = coverage.Coverage(data_file=None, include=[str(path)], config_file=False)
    before = set(sys.modules)
    with measured.collect():
        failed = _run(tests, Counter())
    lines = set(measured.get_data().lines(str(path)) or ())
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.stmt):
            own = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            if not lines.isdisjoint(own):
                lines.add(statement.lineno)
    libraries = set(sys.modules) - before - sys.stdlib_module_names - {"tests", "conftest", "resilient_agents"}
    return {
        "failed": failed,
        "lines": sorted(lines),
        "modules": sorted(name for name in libraries if "." not in name and not name.startswith("_")),
    }


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports a module from the code given."""

    def __init__(self, module: str, path: Path, code: CodeType) -> None:
        self.module, self.path, self.code = module, path, code

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.module:
            return None
        where = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, self.path, loader=self, submodule_search_locations=where)

    def get_code(self, fullname: str) -> CodeType:
        return self.code

    def get_source(self, fullname: str) -> str:
        return self.path.read_text()


def _changed(module: str, path: Path, code: CodeType, tests: list[str], noticed: Counter[str]) -> dict[str, Any]:
    sys.meta_path.insert(0, _Changed(module, path, code))
    try:
        failed = _run(tests, noticed)
    except Exception as error:
        failed = f"{type(error).__name__} while the tests were collected"
    imported = sys.modules.get(module)  # none where the change kept it from being imported
    return {"failed": failed, "changed": imported is None or isinstance(imported.__loader__, _Changed)}
