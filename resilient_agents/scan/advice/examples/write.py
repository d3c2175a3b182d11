"""`--examples DIR`: one module for each file that calls one of the dependencies that matter most."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from resilient_agents.scan.advice.advise import Advice, Advised
from resilient_agents.scan.advice.examples.clients import Clients, Making, Place, place_of
from resilient_agents.scan.advice.examples.expressions import RESERVED, Kept, Unfit, Words
from resilient_agents.scan.advice.examples.functions import function
from resilient_agents.scan.advice.examples.guarded import Function, Guard, Guarded
from resilient_agents.scan.advice.examples.module import Example
from resilient_agents.scan.advice.examples.shape import shape as shape_of
from resilient_agents.scan.advice.examples.shown import not_shown
from resilient_agents.scan.advice.examples.signatures import signature
from resilient_agents.scan.advice.examples.sources import Source
from resilient_agents.scan.advice.policies import names, table
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.source import Unreadable
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import Made

__all__ = ["Examples", "examples", "write"]

WORKING = frozenset(["os", "sys", "shutil", "time", "threading", "multiprocessing", "select", "selectors"])
"""Modules whose calls do work in this process: an example has none of them."""


Part = tuple[str, Advised, list[Found]]
"""A dependency in a file: the name of its policy, what is advised, and its calls there that no policy guards."""


@dataclass
class Examples:
    """The text of each module by its name, and why the others are not written."""

    modules: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def examples(advice: Advice, presets: Mapping[str, Mapping[str, object]], top: int = 20) -> Examples:
    """The examples for the `top` dependencies, those of the highest score first."""
    made = Examples()
    chosen = dict(list(names(advice).items())[:top])
    by_file: dict[str, list[Part]] = {}
    for name, each in chosen.items():
        for path in each.dependency.files:
            there = [found for found in each.dependency.unprotected if found.call.path == path]
            if there:
                by_file.setdefault(path, []).append((name, each, there))
    made.left += [
        f"{one.call.path}: {one.call.function or 'module'}, line {one.call.line}: waits for what comes by itself"
        for each in advice.dependencies
        for one in each.dependency.serving
    ]
    sources = _Sources()
    found = {
        place_of(one.call.path, one.seen.site): (name, one)
        for name, each in chosen.items()
        for one in each.dependency.waiting
    }
    external = (advice.libraries | {"asyncio"}) - WORKING
    modules = _module_names(by_file)
    shapes: dict[str, str] = {}
    for path, parts in by_file.items():
        try:
            example = _driven(parts, functools.partial(_Maker, path, parts, sources, external, presets, found))
        except (Unfit, Unreadable) as error:
            made.left.append(f"{path}: {error}")
            continue
        shape = shape_of(example)
        if shape in shapes:
            made.left.append(f"{path}: as {shapes[shape]} but for names")
            continue
        shapes[shape] = path
        made.modules[modules[path]] = example.text()
        made.left += [f"{path}: {reason}" for reason in example.left]
    return made


def _driven(parts: list[Part], maker: Callable[[list[Part]], _Maker]) -> Example:
    """The example with those of its dependencies that a drill can show. Raises Unfit."""
    left: list[str] = []
    while parts:
        example = maker(parts).make()
        without = {each.name: why for each in example.guarded if (why := not_shown(each, example.functions))}
        if not without:
            example.left += left
            return example
        for name, advised, found in parts:
            if name in without:
                lines = ", ".join(str(each.call.line) for each in found)
                left.append(f"{advised.dependency.name}, line {lines}: {without[name]}")
        parts = [part for part in parts if part[0] not in without]
    raise Unfit("; ".join(left))


def write(made: Examples, folder: Path, *, force: bool) -> None:
    """Raises ValueError for a folder that holds other files, unless forced; OSError."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    others = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
    if others and not force:
        raise ValueError(f"{folder} has files already ({others[0]}, ...): give another folder, or --force")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


class _Sources:
    def __init__(self) -> None:
        self.known: dict[str, Source] = {}

    def __call__(self, file: SourceFile) -> Source:
        if file.path not in self.known:
            self.known[file.path] = Source(Path(file.path))
        return self.known[file.path]


class _Maker:
    def __init__(
        self,
        path: str,
        every: list[Part],
        sources: _Sources,
        external: Iterable[str],
        presets: Mapping[str, Mapping[str, object]],
        found: Mapping[Place, tuple[str, Found]],
        parts: list[Part],
    ) -> None:
        self.path, self.every, self.parts, self.found = path, every, parts, found
        self.file = parts[0][2][0].seen.spot.file
        self.source = sources(self.file)
        self.kept = Kept(frozenset(external))
        self.clients = Clients(sources, self.kept, self.file, self._making)
        self.guarded = [self._guard(name, each, found, presets) for name, each, found in parts]
        self.left: list[str] = []

    def _guard(
        self, name: str, each: Advised, found: list[Found], presets: Mapping[str, Mapping[str, object]]
    ) -> Guarded:
        only = len(self.parts) == 1
        word = "" if only else f"{_word(name)}_"
        writes = any(map(each.dependency.only_once, found))
        once = f"{word}once" if writes and "retry" in each.candidates else ""
        text = "\n".join(table(name, each, presets))
        taken = self.source.names
        variable = f"{word}policy{'_' * (f'{word}policy' in taken)}"
        return Guarded(name, each, text, variable, f"{once}_" if once in taken else once, word, taken)

    def _making(self, made: Made) -> Making | None:
        name, found = self.found.get(place_of(made.spot.file.path, made.site), ("", None))
        if found is None:
            return None
        guard = next((each.variable for each in self.guarded if each.name == name), self.guarded[0].variable)
        return Making(found.seen.operation.is_async and not found.seen.runner, guard)

    def make(self) -> Example:
        """Raises Unfit where nothing of the file can be shown."""
        functions: list[Function] = []
        taken: set[tuple[str, str]] = set()
        outside: list[Found] = []
        for line, cls, found in self._by_function():
            name = found[0][0].call.function or ""
            if line < 0:
                outside += [each for each, _ in found]
                continue
            before = self.clients.copy()
            try:
                if (cls, name) in taken:
                    raise Unfit("a function of this name is there already")
                bound = self.source.bindings.get(name, [])
                if not cls and any(isinstance(each, (ast.Import, ast.ImportFrom)) for each in bound):
                    raise Unfit("its name is also that of something imported")
                if (cls or name) in RESERVED:
                    raise Unfit(f"{cls or name} is a name that the example needs for itself")
                functions.append(self._function(line, cls, found))
                taken.add((cls, name))
            except Unfit as error:
                self.clients = before
                self._leave(name, [each for each, _ in found], str(error))
        connected = self.clients.connected
        outside = [each for each in outside if place_of(each.call.path, each.seen.site) not in connected]
        if outside:
            self._leave("module", outside, "outside of functions, where no policy can be put around them")
        if not functions:
            raise Unfit("; ".join(self.left))
        self.clients.leave_to_functions()
        names = frozenset(self.source.bindings)
        used = {call.policy for each in functions for call in each.calls}
        guarded = [each for each in self.guarded if {each.variable, each.once} & used]
        return Example(self.path, guarded, functions, self._inits(functions), self.clients, self.kept, names, self.left)

    def _leave(self, name: str, found: list[Found], reason: str) -> None:
        self.left.append(f"{name}, line {', '.join(str(each.call.line) for each in found)}: {reason}")

    def _by_function(self) -> Iterator[tuple[int, str, list[tuple[Found, Guard]]]]:
        """(line of the `def`, class, its calls with their guards), in the order of the file."""
        form = self.file.form
        grouped: dict[int, list[tuple[Found, Guarded]]] = {}
        for guarded, (_, _, found) in zip(self.guarded, self.parts, strict=True):
            for each in found:
                scope = each.seen.spot.scope
                while scope >= 0 and form.scopes[scope].kind != "function":
                    scope = form.scopes[scope].parent
                grouped.setdefault(scope, []).append((each, guarded))
        for scope, calls in sorted(grouped.items(), key=lambda item: item[1][0][0].call.line):
            calls.sort(key=lambda each: (each[0].call.line, each[0].call.column))
            owner = form.scopes[scope].parent if scope >= 0 else -1
            cls = form.scopes[owner].name if owner >= 0 and form.scopes[owner].kind == "class" else ""
            risky = {g.name for each, g in calls if g.variable_for(each) != g.variable}
            guards = [
                (each, Guard(g.once if g.name in risky else g.variable, g.name, g.variable_for(each), g.holds_up(each)))
                for each, g in calls
            ]
            yield (form.scopes[scope].line if scope >= 0 else -1), cls, guards

    def _function(self, line: int, cls: str, found: list[tuple[Found, Guard]]) -> Function:
        node = self.source.function(line)
        if node is None:
            raise Unfit("its definition can be read only in part")
        mine = {id(self.source.call(each.seen.site)) for each, _ in found}
        foreign = {
            id(call)
            for _, each in self._everything()
            if (call := self.source.call(each.seen.site)) is not None and id(call) not in mine
        }
        return function(node, cls, found, Words(self.source, self.kept, foreign=foreign), self.clients)

    def _everything(self) -> Iterator[tuple[str, Found]]:
        for name, advised, _ in self.every:
            yield from ((name, each) for each in advised.dependency.found if each.call.path == self.path)

    def _inits(self, functions: list[Function]) -> dict[str, ast.arguments]:
        classes = {each.cls for each in functions if each.cls}
        found: dict[str, ast.arguments] = {}
        for statement in self.source.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.ClassDef) and node.name in classes:
                    for inside in node.body:
                        if isinstance(inside, ast.FunctionDef) and inside.name == "__init__":
                            found[node.name] = signature(inside, {}, method=True)
        return found


def _word(name: str) -> str:
    word = name.replace("-", "_").replace(".", "_")
    return word if word[:1].isalpha() else f"p_{word}"


def _module_names(paths: Iterable[str]) -> dict[str, str]:
    """A name for the module of each file: its path below the folder that all of them share."""
    parts = {path: PurePath(path).with_suffix("").parts for path in paths}
    shared = 0
    while len({each[shared : shared + 1] for each in parts.values()}) == 1 and all(
        len(each) > shared + 1 for each in parts.values()
    ):
        shared += 1
    found: dict[str, str] = {}
    for path, each in parts.items():
        words = "_".join(each[shared:])
        plain = "".join(letter if letter.isalnum() else "_" for letter in words).strip("_") or "module"
        name, number = f"{plain}_example", 2
        while name in found.values():
            name, number = f"{plain}_example{number}", number + 1
        found[path] = name if not name[0].isdigit() else f"_{name}"
    return found
