"""Running the tests against a change, in a fork of a process that has collected them.

A change inside of a function is made where the function stands, and only the tests run that come to its line: where
none does, those that fork, for what their children come to is not seen. Where that line runs on import, too, and none
of them notices, the fork imports the package and all tests again with the change, as for code outside of functions.
The quickest tests come first, after those that have noticed most.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import inspect
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
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import hypothesis
import pytest

from tests.mutation.mutate import Mutant

__all__ = ["Runner"]

_OPTIONS = ("-x", "-q", "-s", "--no-header", "--no-summary", "-p", "no:cacheprovider", "--assert=plain")
_OURS = ("resilient_agents", "tests", "conftest")
_PATIENCE = 4.0
"""Seconds in which a fork is to end a test, beyond five times what the slowest of its tests took."""

Change = list[tuple[CodeType, CodeType]]
"""A function as it was and is, and those inside of it that differ, of which there may be some already."""


class Runner:
    """Runs the tests against one change of a module after another. A plugin of the pytest that collects them."""

    def __init__(self, module: Path, tests: list[str]) -> None:
        self.path = module.resolve()
        parts = module.with_suffix("").parts
        self.module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.tests = tests
        self.noticed: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.failing: list[str] = []
        self._source = module.read_text()
        self._code = compile(self._source, str(self.path), "exec", dont_inherit=True)
        self._imported: set[int] = set()
        self._tests_of: dict[int, set[str]] = {}
        self._forking: set[str] = set()
        self._items: list[pytest.Item] = []
        self._functions: list[FunctionType] = []
        self._work: Callable[[], None] = lambda: None

    def run(self, work: Callable[[], None]) -> None:
        """Collect the tests, run them once, and call `work`, in which `notices` can be asked. Those that fail on the
        module as it is are left out, and named in `failing`.
        """
        quick = hypothesis.settings(phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], database=None)
        hypothesis.settings.register_profile("quick", quick, derandomize=True)
        hypothesis.settings.load_profile("quick")
        self._work = work
        self._coverage = coverage.Coverage(data_file=None, include=[str(self.path)], config_file=False)
        self._coverage.set_option("run:disable_warnings", ["no-data-collected"])  # of what is imported late
        self._coverage.start()
        code = pytest.main([*_OPTIONS, *self.tests], plugins=[self])
        if code:
            raise RuntimeError(f"pytest ended with {int(code)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._coverage.stop()
        if session.testsfailed:
            raise RuntimeError("the tests cannot be collected")
        self._items = session.items
        self._imported = set(self._coverage.get_data().lines(str(self.path)) or ())
        self._learn()
        self._functions = [found for found in gc.get_objects() if self._is_ours(found)]
        gc.freeze()  # a fork that collects garbage neither looks at what was there before nor copies it
        self._work()
        session.config.pluginmanager.unregister(name="terminalreporter")
        return True

    def notices(self, mutant: Mutant) -> bool:
        """Whether a test fails, or hangs, with this change."""
        try:
            code = compile(mutant.tree, str(self.path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return True
        changes = _changes(self._code, code)
        if any(f"{change[0][0].co_name}.__code__" in self._source for change in changes or ()):  # kept elsewhere, too
            changes = None
        tests = self._tests_of.get(mutant.line) or self._forking
        if changes is not None and mutant.line not in self._imported:
            return bool(tests) and self._fails(partial(self._patched, changes, tests, code), tests)
        if changes is not None and tests and self._fails(partial(self._patched, changes, tests, None), tests):
            return True
        return self._fails(partial(self._imported_again, code), set(self.seconds))

    def _fails(self, work: Callable[[int], dict[str, Any]], tests: set[str]) -> bool:
        said = _forked(work, _PATIENCE + 5.0 * max(self.seconds[name] for name in tests))
        if said is None:  # hangs, or took the interpreter down
            return True
        if said["failed"] is not None:
            self.noticed[said["failed"]] += 1
        return said["failed"] is not None

    def _learn(self) -> None:
        """Which tests come to which line, how long they take, and which libraries they import."""
        first = _forked(self._covered, 600.0)
        if first is None:
            raise RuntimeError("the tests do not come to an end as it is")
        self.failing = first["failed"]
        self.seconds = first["seconds"]
        for name in self.failing:
            self.seconds.pop(name)
        self._forking = self.seconds.keys() & set(first["forking"])
        for name in first["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        came: dict[int, set[str]] = {
            int(line): self.seconds.keys() & set(names) for line, names in first["lines"].items()
        }
        for statement in ast.walk(ast.parse(self._source)):
            if isinstance(statement, ast.stmt | ast.ExceptHandler):
                body = getattr(statement, "body", None)
                last = body[0].lineno - 1 if body else statement.end_lineno or 0
                own = range(statement.lineno, max(last, statement.lineno) + 1)
                self._tests_of[statement.lineno] = set().union(*(came.get(line, set()) for line in own))

    def _covered(self, pipe: int) -> dict[str, Any]:
        before = set(sys.modules)
        seconds: dict[str, float] = {}
        failed: list[str] = []
        forking: set[str] = set()
        running = ""
        os.register_at_fork(after_in_parent=lambda: forking.add(running))
        self._coverage.start()
        for item, following in _pairs(self._items):
            self._coverage.switch_context(running := item.nodeid)
            began = time.monotonic()
            failed += _failures([(item, following)], pipe)
            seconds[item.nodeid] = time.monotonic() - began
        self._coverage.stop()
        libraries = set(sys.modules) - before - sys.stdlib_module_names
        return {
            "failed": failed,
            "seconds": seconds,
            "forking": sorted(forking),
            "lines": dict(self._coverage.get_data().contexts_by_lineno(str(self.path))),
            "modules": sorted(name for name in libraries if "." not in name and not name.startswith(("_", *_OURS))),
        }

    def _order(self, items: list[pytest.Item]) -> list[pytest.Item]:
        good = [item for item in items if item.nodeid not in self.failing]
        return sorted(good, key=lambda item: (-self.noticed[item.nodeid], self.seconds.get(item.nodeid, 0.0)))

    def _is_ours(self, found: object) -> bool:
        return isinstance(found, FunctionType) and found.__code__.co_filename == str(self.path)

    def _patched(self, changes: list[Change], tests: set[str], code: CodeType | None, pipe: int) -> Any:
        for change in changes:
            changed = [
                (function, new) for function in self._functions for old, new in change if function.__code__ == old
            ]
            if not changed or any(function.__code__.co_freevars != new.co_freevars for function, new in changed):
                return self._imported_again(code, pipe) if code else {"failed": None}
            for function, new in changed:
                function.__code__ = new
        chosen = self._order([item for item in self._items if item.nodeid in tests])
        return {"failed": next(iter(_failures(_pairs(chosen), pipe)), None)}

    def _imported_again(self, code: CodeType, pipe: int) -> Any:
        for name in list(sys.modules):
            if name.split(".")[0] in _OURS and not name.startswith("tests.mutation"):
                del sys.modules[name]
        sys.meta_path.insert(0, _Changed(self.module, self.path, code))
        watch = _Watch(pipe, self._order)
        try:
            ended = pytest.main([*_OPTIONS, *self.tests], plugins=[watch])
        except Exception as error:
            return {"failed": f"{type(error).__name__} while the tests were collected"}
        return {"failed": watch.failed[0] if watch.failed else f"pytest ended with {int(ended)}" if ended else None}


class _Watch:
    """A pytest plugin that remembers which tests failed, and says when one has ended."""

    def __init__(self, pipe: int, order: Callable[[list[pytest.Item]], list[pytest.Item]] = list) -> None:
        self.pipe = pipe
        self.order = order
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = self.order(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
        os.write(self.pipe, b" ")


def _pairs(items: list[pytest.Item]) -> list[tuple[pytest.Item, pytest.Item | None]]:
    """Each with the one that follows."""
    return list(zip(items, [*items[1:], None], strict=True))


def _failures(pairs: list[tuple[pytest.Item, pytest.Item | None]], pipe: int) -> list[str]:
    """The first of these tests that fails, after which no more run."""
    watch = _Watch(pipe)
    for item, following in pairs:
        item.config.pluginmanager.register(watch)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item.config.pluginmanager.unregister(watch)
        if watch.failed:
            break
    return watch.failed


def _changes(old: CodeType, new: CodeType) -> list[Change] | None:
    """The outermost functions that differ. None if code that runs on import does."""
    if old == new:
        return []
    if old.co_flags & inspect.CO_OPTIMIZED:
        return [_with_parts(old, new)]
    if _without_parts(old) != _without_parts(new) or len(_parts(old)) != len(_parts(new)):
        return None
    found: list[Change] = []
    for pair in zip(_parts(old), _parts(new), strict=True):
        inner = _changes(*pair)
        if inner is None:
            return None
        found += inner
    return found


def _with_parts(old: CodeType, new: CodeType) -> Change:
    inner = zip(_parts(old), _parts(new), strict=False)
    return [(old, new), *(pair for parts in inner if parts[0] != parts[1] for pair in _with_parts(*parts))]


def _parts(code: CodeType) -> list[CodeType]:
    return [part for part in code.co_consts if isinstance(part, CodeType)]


def _without_parts(code: CodeType) -> CodeType:
    return code.replace(co_consts=tuple(part for part in code.co_consts if not isinstance(part, CodeType)))


def _forked(work: Callable[[int], dict[str, Any]], limit: float) -> dict[str, Any] | None:
    """What `work` answers in a process of its own, None if nothing comes from there for `limit` seconds. It is given a
    pipe, to which it may write blanks."""
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
                answer = json.dumps(work(writing)).encode()
            with open(writing, "wb") as pipe:
                pipe.write(answer)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    answer = b""
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], limit)[0]:
            piece = pipe.read(65536)
            if not piece:
                break
            answer += piece
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what the tests have started
    os.waitpid(child, 0)
    return json.loads(answer) if answer.strip() else None


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
